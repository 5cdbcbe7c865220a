"""What commands touch, and whether two instances interfere. [EP 4.1; protocol-rules 60]

Interference is symmetric, and rather too large than too small: the same key and at least one write, the same client, or
anything and a barrier. A batch touches what any of its commands touches.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from paxos_twisted.apps.application import Application, Footprint
from paxos_twisted.core.command import Barrier, Command, Series, array_of

Key = Any
"""Of an application: whatever `Application.footprint` says. Of a client: (id,), so that no two of them meet."""


class Access(msgspec.Struct, frozen=True, gc=False):
    """What an instance touches."""

    reads: frozenset[Key] = frozenset()
    """Keys that are read and not written."""
    writes: frozenset[Key] = frozenset()
    """Keys that are written; the clients of its commands are among them."""
    reads_all: bool = False
    """Reads every key of the application."""
    writes_all: bool = False
    """Touches everything: it interferes with every instance, whatever that one does."""
    writes_some: bool = False
    """Writes a key of the application (and not only its sessions)."""

    def interferes(self, other: "Access") -> bool:
        """Whether the order of the two matters."""
        if self.is_nothing or other.is_nothing:
            return False
        if self.writes_all or other.writes_all:
            return True
        if (self.reads_all and other.writes_some) or (other.reads_all and self.writes_some):
            return True
        return not (
            self.writes.isdisjoint(other.writes)
            and self.writes.isdisjoint(other.reads)
            and self.reads.isdisjoint(other.writes)
        )

    @property
    def is_nothing(self) -> bool:
        """A no-op: its place in the order does not matter to anybody."""
        return not (self.reads or self.writes or self.reads_all or self.writes_all)

    @property
    def keys(self) -> frozenset[Key]:
        """All keys that are named."""
        return self.reads | self.writes


NOTHING: Final = Access()
EVERYTHING: Final = Access(writes_all=True, writes_some=True)

Footprints = Callable[[bytes, int], "list[Access]"]
"""(body, count) -> what each command touches. Raises msgspec.DecodeError for a body that does not hold just `count`
commands of the application."""


def footprints_of(application: Application) -> Footprints:
    """Return how commands of this application are looked at."""
    command_type: Any = Command[application.op_type]  # type: ignore[name-defined]
    if application.takes_series:
        command_type |= Series[application.op_type]  # type: ignore[name-defined]
    decoder: msgspec.msgpack.Decoder[list[Command[Any] | Series[Any] | Barrier | None]] = msgspec.msgpack.Decoder(
        list[command_type | Barrier | None]
    )
    decode, footprint = decoder.decode, application.footprint

    def look(body: bytes, count: int) -> list[Access]:
        return [
            _access(command.client, footprint(command.op))
            if isinstance(command, Command)
            else joined([_access(command.client, footprint(op)) for op in command.ops])
            if isinstance(command, Series)
            else (NOTHING if command is None else EVERYTHING)
            for command in decode(array_of(body, count))
        ]

    return look


def _access(client: int, footprint: Footprint) -> Access:
    me = (client,)
    if footprint.everything:
        if footprint.writes:
            return EVERYTHING
        return Access(writes=frozenset((me,)), reads_all=True)
    if footprint.writes:
        return Access(writes=frozenset((me, *footprint.keys)), writes_some=bool(footprint.keys))
    return Access(reads=frozenset(footprint.keys), writes=frozenset((me,)))


def joined(accesses: Sequence[Access]) -> Access:
    """What a batch of commands touches."""
    if len(accesses) == 1:
        return accesses[0]
    if any(access.writes_all for access in accesses):
        return EVERYTHING
    writes = frozenset().union(*(access.writes for access in accesses))
    reads = frozenset().union(*(access.reads for access in accesses)) - writes
    return Access(
        reads,
        writes,
        any(access.reads_all for access in accesses),
        False,
        any(access.writes_some for access in accesses),
    )
