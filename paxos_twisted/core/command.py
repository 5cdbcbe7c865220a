"""What a client asks for, and how runs of such commands are kept as the bytes in which they came."""

from typing import Annotated, ClassVar, Generic, TypeVar, final

import msgspec
from msgspec import Meta

from paxos_twisted.limits import SERIES_MAX
from paxos_twisted.types import ClientId

Op = TypeVar("Op")

CLIENT_ID_MAX = 2**63 - 1


class Command(msgspec.Struct, Generic[Op], array_like=True, tag=1, frozen=True, gc=False, forbid_unknown_fields=True):
    """One operation of one client session. It travels, is stored and is applied as these bytes."""

    client: Annotated[ClientId, Meta(ge=0, le=CLIENT_ID_MAX)]
    birth: Annotated[int, Meta(ge=-1)]
    """A log position that some node had applied when the client chose its id. It tells a session that was never
    opened from one that has expired, see `paxos_twisted.core.sessions`."""
    seq: Annotated[int, Meta(ge=1)]
    """Numbers the requests of this client, from 1. A repeated request keeps its number."""
    ack: Annotated[int, Meta(ge=1)]
    """Every request below this number has been answered: its outcome need not be kept."""
    op: Op
    """The application's operation."""


@final
class Series(msgspec.Struct, Generic[Op], array_like=True, tag=11, frozen=True, gc=False, forbid_unknown_fields=True):
    """Several operations of one client session as one request: applied in order, nothing between them, answered in one
    reply, exactly once as a whole.

    Each operation takes a slot, but all of them stand in the first one; the others hold a no-op (see `as_run`). So one
    decision decides the whole series: no crash and no change of leader, however it cuts runs, can leave half of it.
    """

    client: Annotated[ClientId, Meta(ge=0, le=CLIENT_ID_MAX)]
    birth: Annotated[int, Meta(ge=-1)]
    seq: Annotated[int, Meta(ge=1)]
    """The series has one number, whatever its length."""
    ack: Annotated[int, Meta(ge=1)]
    """Equal to `seq`: its session has no older request without an answer, so it keeps the results of one series."""
    ops: Annotated[tuple[Op, ...], Meta(min_length=1, max_length=SERIES_MAX)]


NOOP = b"\xc0"
"""The command that does nothing (msgpack nil). Only proposers make it; a client that sends it is refused."""


class Barrier(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False, forbid_unknown_fields=True):
    """The command that ends a generation of sessions, where no single order of all commands gives one to count by. Only
    replicas make it. It looks like a command that no client waits for."""

    client: ClassVar[int] = -1
    seq: ClassVar[int] = 0
    op: ClassVar[None] = None


BARRIER = msgspec.msgpack.encode(Barrier())
"""As bytes."""

Run = bytes
"""Encoded commands of consecutive slots, one behind the other."""

_split = msgspec.msgpack.Decoder(list[msgspec.Raw])


def as_run(raw: bytes, series: "Series[Op]") -> Run:
    """The run of a series whose bytes are `raw`: one slot for each operation."""
    return raw + NOOP * (len(series.ops) - 1)


def array_of(body: Run, count: int) -> bytes:
    """Return the run as one msgpack array, so that one call decodes it."""
    return b"\xdd" + count.to_bytes(4, "big") + body


def split_run(body: Run, count: int) -> list[bytes]:
    """Return the commands of a run one by one.

    Raises:
        msgspec.DecodeError: `body` does not hold exactly `count` commands.
    """
    return [bytes(raw) for raw in _split.decode(array_of(body, count))]


def is_run(body: Run, count: int) -> bool:
    """Whether `body` holds exactly `count` commands (or at least things that msgpack can tell apart)."""
    if count > len(body):
        return False
    try:
        _split.decode(array_of(body, count))
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def cut_run(body: Run, count: int, at: int) -> tuple[Run, Run]:
    """Cut a run before its command number `at` (0 < at < count) and return both parts."""
    assert 0 < at < count
    parts = split_run(body, count)
    head = b"".join(parts[:at])
    return head, body[len(head) :]


def slice_run(body: Run, count: int, start: int, length: int) -> Run:
    """Return the `length` commands from command number `start` of a run of `count` on."""
    assert 0 <= start < start + length <= count
    if length == count:
        return body
    return b"".join(split_run(body, count)[start : start + length])
