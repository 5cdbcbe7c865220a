"""The replicated state: sessions and application, fed with decided commands in log order, and its pictures."""

import hashlib
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import Barrier, Command, Series
from paxos_twisted.core.sessions import GENERATIONS_KEPT, Refusal, Sessions
from paxos_twisted.core.table import Photograph, Table
from paxos_twisted.limits import SHARDS, SNAPSHOT_PIECE_BYTES_MAX
from paxos_twisted.types import NO_SLOT, Slot

_encode = msgspec.msgpack.Encoder().encode
PIECE_BYTES_TARGET = SNAPSHOT_PIECE_BYTES_MAX // 4

ENGINE_PART = 255
"""Stands in place of a table's number for what the engine puts into a snapshot."""

_PART = struct.Struct(">II")


class SnapshotError(Exception):
    """A snapshot's pieces do not decode or do not have the digest that they should have. Nothing was installed."""


class ReplicatedState:
    """What every replica holds alike after the same slots: EQ and XO of docs/guarantees.md."""

    def __init__(self, application: Application, session_expiry_slots: int, *, is_ordered: bool = True) -> None:
        """`is_ordered`: all replicas apply all commands in one order. Otherwise sessions are counted in generations."""
        self.application = application
        self.is_ordered = is_ordered
        outcome_type: Any = application.result_type
        kind: Any = Command[application.op_type] | None  # type: ignore[name-defined]
        if application.takes_series:
            assert not (application.stamps or application.event_type)  # nobody looks into a series for those
            outcome_type |= bytes
            kind |= Series[application.op_type]  # type: ignore[name-defined]
        self.sessions = Sessions(outcome_type, session_expiry_slots, in_generations=not is_ordered)
        self.applied: Slot = NO_SLOT
        """Every slot up to here is applied; never goes down."""
        if not is_ordered:
            kind |= Barrier  # it looks like a command that no client waits for
        self.decoder: msgspec.msgpack.Decoder[list[Command[Any] | Series[Any] | None]] = msgspec.msgpack.Decoder(
            list[kind]
        )
        """Decodes a run (see `paxos_twisted.core.command.array_of`)."""
        self.commands_applied = 0
        self.duplicates = 0
        self.noops = 0
        self.engine_part = b""
        """What the engine had put into the snapshot that was installed last."""
        self._since_barrier = 0
        self.from_snapshot = 0
        """Slots whose effect came with a snapshot. The four together are always `applied` + 1."""
        self._series: tuple[bool, int] | None = None  # the last one: applied as new, and slots that are still to come
        rereads = type(application).is_reread is not Application.is_reread
        self._is_reread = application.is_reread if rereads else None  # None: nothing to ask per command

    def apply(self, slot: Slot, commands: Sequence[Command[Any] | Series[Any] | None]) -> list[Any]:
        """Apply the commands of consecutive slots from `slot` = `applied` + 1 on.

        Returns:
            For each command its result, or a `Refusal` by the session table, or None for a no-op; for a series the
            encoded list of its results.
        """
        assert slot == self.applied + 1, f"slot {slot} is not the next after {self.applied}"
        if not self.is_ordered:
            return self._apply_in_generations(commands)
        find, store, execute = self.sessions.find, self.sessions.store, self.application.apply
        is_reread = self._is_reread
        results: list[Any] = []
        rest = iter(commands)
        for command in rest:
            if not slot % SHARDS:
                self.sessions.expire(slot)
            if command is None:
                if self._series is None:
                    self.noops += 1
                else:
                    self._count_series_slots(self._series, 1)
                results.append(None)
            elif type(command) is Series:
                results.append(self._apply_series(slot, command))
                noops = commands[len(results) : len(results) + len(command.ops) - 1]
                if noops.count(None) == len(noops):  # as it came, all at once; pieces of a series go the long way
                    results += islice(rest, len(noops))
                    self._pass_over(slot + 1, len(noops))
                    slot += len(noops)
            else:
                self._series = None
                result = find(command)
                if result is None:
                    result = execute(command.op, command.client)
                    if is_reread is None or not is_reread(command.op):
                        store(slot, command, result)
                    self.commands_applied += 1
                else:
                    self.duplicates += 1
                    if type(result) is bytes and self.application.takes_series:
                        result = Refusal("invalid", f"request {command.seq} was a series before")
                results.append(result)
            slot += 1
        self.applied = slot - 1
        return results

    def _apply_series(self, slot: Slot, series: Series[Any]) -> Any:
        """All operations at once. The slots behind this one, which hold no-ops, count for them."""
        outcome = self.sessions.find_series(series)
        is_new = outcome is None
        if is_new:
            execute, client = self.application.apply, series.client
            outcome = _encode([execute(op, client) for op in series.ops])
            self.sessions.store(slot, series, outcome)
        elif type(outcome) is not bytes and type(outcome) is not Refusal:
            outcome = Refusal("invalid", f"request {series.seq} was no series before")
        self._series = is_new, len(series.ops)
        self._count_series_slots(self._series, 1)
        return outcome

    def _pass_over(self, slot: Slot, count: int) -> None:
        """Slots of a series behind its first one."""
        if count:
            assert self._series is not None
            self._count_series_slots(self._series, count)
            for due in range(slot + -slot % SHARDS, slot + count, SHARDS):
                self.sessions.expire(due)

    def _count_series_slots(self, series: tuple[bool, int], count: int) -> None:
        is_new, slots = series
        if is_new:
            self.commands_applied += count
        else:
            self.duplicates += count
        self._series = (is_new, slots - count) if slots > count else None

    def _apply_in_generations(self, commands: Sequence[Command[Any] | Series[Any] | None]) -> list[Any]:
        """The same where positions differ between replicas: nothing that they share may depend on one."""
        sessions, application = self.sessions, self.application
        results: list[Any] = []
        for command in commands:
            result: Any = None
            if command is None:
                if self._series is None:
                    self.noops += 1
                else:
                    self._count_series_slots(self._series, 1)
            elif isinstance(command, Barrier):
                self.noops += 1
                self._since_barrier = 0
                sessions.end_generation()
            elif type(command) is Series:
                result = self._apply_series(Slot(sessions.generation), command)
            else:
                self._series = None
                result = sessions.find(command)
                if result is None:
                    result = application.apply(command.op, command.client)
                    if self._is_reread is None or not self._is_reread(command.op):
                        sessions.store(sessions.generation, command, result)
                    self.commands_applied += 1
                else:
                    self.duplicates += 1
            results.append(result)
        self._since_barrier += len(commands)
        self.applied += len(commands)
        return results

    @property
    def birth(self) -> int:
        """What a client that chooses its id now takes for the birth of its session."""
        return self.applied if self.is_ordered else self.sessions.generation

    @property
    def wants_barrier(self) -> bool:
        """A generation of sessions should end: somebody should propose a barrier."""
        length = max(self.sessions.expiry_slots // GENERATIONS_KEPT, 1)
        return not self.is_ordered and (self._since_barrier >= length or self.sessions.wants_barrier)

    def tables(self) -> list[Table[Any, Any]]:
        """Sessions first, then the application's tables."""
        return [self.sessions.table, *self.application.tables()]

    def photograph(self) -> "Picture":
        """Start a picture of the state after slot `applied`."""
        return Picture(self)

    def install(self, slot: Slot, pieces: Sequence[bytes], digest: str) -> None:
        """Replace the whole state by a snapshot, or raise and leave it as it was.

        Raises:
            SnapshotError: the pieces do not decode, or do not have this digest.
        """
        if digest != digest_of(slot, pieces):
            raise SnapshotError(f"the snapshot of slot {slot} does not have digest {digest}")
        fresh: list[Table[Any, Any]] = [Table(table.name, table.row_type, table.shard_of) for table in self.tables()]
        try:
            for piece in pieces:
                for index, rows in _decode_piece(piece):
                    if index != ENGINE_PART:
                        fresh[index].load(rows)
        except (*_MALFORMED, IndexError) as error:
            raise SnapshotError(f"the snapshot of slot {slot} does not decode: {error}") from error
        for table, new in zip(self.tables(), fresh, strict=True):
            table.replace(new.shards)
        self.from_snapshot += slot - self.applied
        self._series = None
        self.applied = slot
        self.engine_part = engine_part_of(pieces)


class Picture:
    """The state after one slot, as pieces for a snapshot and as a digest. Taken a little at a time."""

    def __init__(self, state: ReplicatedState) -> None:
        self.slot = state.applied
        self._tables = state.tables()
        self._photographs: list[Photograph[Any, Any]] = [table.freeze() for table in self._tables]
        self._hash = hashlib.sha256(_slot_bytes(self.slot))
        self._index = 0
        self._chunks: deque[tuple[int, bytes]] = deque()  # of parts that are longer than a piece should be

    def add_engine_part(self, part: bytes) -> None:
        """Put what belongs to the engine before the state. Called at once after the picture was started."""
        chunks = range(0, len(part), PIECE_BYTES_TARGET)
        self._chunks.extend((ENGINE_PART, part[start : start + PIECE_BYTES_TARGET]) for start in chunks)

    def next_piece(self, parts_max: int = 8) -> bytes | None:
        """Encode up to `parts_max` further parts of the tables and return them as one piece; None after the last.

        With the default a piece takes a few milliseconds to encode when the state has a million rows.
        """
        parts: list[tuple[int, bytes]] = []
        size = 0
        while len(parts) < parts_max and size < PIECE_BYTES_TARGET:
            if self._chunks:
                parts.append(self._chunks.popleft())
                size += len(parts[-1][1])
            elif self._index == len(self._photographs):
                break
            elif (part := self._photographs[self._index].next_piece()) is None:
                self._index += 1
            elif part != b"\x90":  # an empty part is left out
                self._chunks.extend((self._index, chunk) for chunk in _chunks_of(part))
        if not parts:
            return None
        _add_parts(self._hash, parts)
        return msgspec.msgpack.encode(parts)

    def digest(self) -> str:
        """The digest, once `next_piece` has returned None."""
        assert self._index == len(self._photographs)
        assert not self._chunks
        return self._hash.hexdigest()

    def release(self) -> None:
        """Give the picture up before its end."""
        for table, photograph in zip(self._tables, self._photographs, strict=True):
            table.release(photograph)


def _chunks_of(part: bytes) -> Iterator[bytes]:
    """A part as lists of rows of about PIECE_BYTES_TARGET bytes: clients choose their keys, so a part may grow long."""
    if len(part) <= PIECE_BYTES_TARGET:
        yield part
        return
    rows: list[msgspec.Raw] = []
    size = 0
    for row in msgspec.msgpack.decode(part, type=list[msgspec.Raw]):
        if rows and size + len(row) > PIECE_BYTES_TARGET:
            yield msgspec.msgpack.encode(rows)
            rows, size = [], 0
        rows.append(row)
        size += len(row)
    yield msgspec.msgpack.encode(rows)


def digest_of(slot: Slot, pieces: Sequence[bytes]) -> str:
    """The digest that `Picture.digest` gives for these pieces, however the parts were spread over them.

    Raises:
        SnapshotError: a piece does not decode.
    """
    digest = hashlib.sha256(_slot_bytes(slot))
    try:
        for piece in pieces:
            _add_parts(digest, _decode_piece(piece))
    except _MALFORMED as error:
        raise SnapshotError(f"a piece of the snapshot of slot {slot} does not decode: {error}") from error
    return digest.hexdigest()


def engine_part_of(pieces: Sequence[bytes]) -> bytes:
    """What the engine has put into a snapshot; empty when it has nothing of its own there.

    Raises:
        SnapshotError: a piece does not decode.
    """
    parts: list[bytes] = []
    try:
        for piece in pieces:
            found = [part for index, part in _decode_piece(piece) if index == ENGINE_PART]
            if not found:
                break  # it comes first
            parts += found
    except _MALFORMED as error:
        raise SnapshotError(f"a piece of the snapshot does not decode: {error}") from error
    return b"".join(parts)


def pieces_of(state: ReplicatedState) -> Iterator[bytes]:
    """All pieces of a picture of `state`, taken at once."""
    picture = state.photograph()
    while (piece := picture.next_piece()) is not None:
        yield piece


def is_refusal(result: Any) -> bool:
    """Whether a result is the session table's refusal instead of the application's answer."""
    return type(result) is Refusal


def _slot_bytes(slot: Slot) -> bytes:
    return slot.to_bytes(8, "big", signed=True)


_Part = tuple[Annotated[int, Meta(ge=0, le=255)], bytes]

_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not of the type asked for: the last two for bad text and deep nesting."""


def _decode_piece(piece: bytes) -> list[_Part]:
    return msgspec.msgpack.decode(piece, type=list[_Part])


def _add_parts(digest: "hashlib._Hash", parts: list[tuple[int, bytes]]) -> None:
    for index, part in parts:
        digest.update(_PART.pack(index, len(part)))
        digest.update(part)
