"""What a start-up makes of the rows it finds. Pure: SQLite and the simulator's disk both use it.

The rule: never forget a promise or a vote, never invent one. [Protocol-Aware Recovery, FAST 2018; protocol-rules 2.9]

    rows           …  [16 | header of 15 | record]   [17 | header of 16 | record]
    last           [seq 17 | header of 17 | count | slot of the snapshot]

1. A row above `last.seq` is a torn write that nobody was told of: it is cut. (Where rows and `last` are written in one
   transaction this cannot happen, and is corruption.)
2. A row at or below `last.seq` that is missing or rotten was acknowledged. The copy of its header says of which slots
   it spoke: the node keeps silent about them until it is healed. The header also preserves a promised round.
3. If the copy is gone as well, or `last` is, it cannot be told what the node has promised: it must not start.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from paxos_twisted.core.records import Header, LogRecord, SnapshotTaken, is_about_views
from paxos_twisted.core.replicated import SnapshotError, digest_of
from paxos_twisted.storage.errors import RotError, StorageCorrupt
from paxos_twisted.storage.seal import Last, Seal
from paxos_twisted.storage.truncation import Prefix
from paxos_twisted.types import NO_ROUND, NO_SLOT, Slot


class StoredPiece(msgspec.Struct, frozen=True, gc=False):
    """One piece of a snapshot, as read."""

    slot: Slot
    index: int
    data: bytes
    crc: int


class Stored(NamedTuple):
    """What was read from a disk, sealed. `last` and `taken` must be written together: both old or both new."""

    rows: Iterable[tuple[int, bytes]]
    """(number, row), sorted by number. Rows that could not be read are left out."""
    last: bytes | None
    taken: bytes | None
    pieces: Iterable[StoredPiece]
    """All pieces, or at least those of the snapshot that `taken` names."""
    durable: int = 0
    """A lower bound of the number of the last acknowledged record, from a proof apart from the log."""
    is_atomic: bool = False
    """Rows and `last` were written in one transaction, so no row can be torn."""


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What a node knows after a start-up."""

    identity: str
    """Random name of the data directory, made at the first start."""
    last_seq: int
    """Number of the last record; it never goes down while the data directory is the same."""
    records: list[LogRecord]
    """All readable records, oldest first."""
    lost: list[Header]
    """Headers of the unreadable ones, oldest first. The node has promised `rnd` of each, and must keep silent about
    their slots until the decided values are known (from a peer, or a snapshot past them)."""
    snapshot: SnapshotTaken | None
    """The durable snapshot, whole and checked; None: none was taken, or it is lost."""
    pieces: list[bytes]
    """The pieces of `snapshot`."""
    snapshot_lost: Slot | None
    """The log may lack slots up to this one, and the snapshot that covered them is unreadable: the node needs a
    snapshot of this slot or a later one from a peer before it can serve."""
    findings: list[str]
    """What was wrong and what it means, one sentence each. Empty when all is well."""
    prefix: Prefix
    """For the storage itself: what a later truncation may delete."""
    last: Last
    """For the storage itself."""


def recover(stored: Stored, seal: Seal) -> Recovered:
    """Judge what was read from a disk.

    Raises:
        StorageCorrupt: it cannot be told what the node has promised and voted.
    """
    if stored.last is None:
        raise StorageCorrupt(["the row that names the last record is missing; whether records are missing is unknown"])
    try:
        last = seal.unseal_last(stored.last)
    except RotError as error:
        raise StorageCorrupt(
            [f"the row that names the last record {error}; whether records behind it are missing is unknown"]
        ) from error
    snapshot, pieces, sentence = _read_snapshot(stored, last, seal)
    log = _Log(last, seal, snapshot.slot if snapshot else NO_SLOT)
    if last.seq < stored.durable:
        gone = _many(last.seq + 1, stored.durable)
        log.fatal.append(
            f"the log ends with record {last.seq}, but record {stored.durable} had been acknowledged: "
            f"lost {gone}, and with it promises or votes"
        )
    log.read(stored.rows, stored.is_atomic)
    if log.fatal:
        raise StorageCorrupt(log.fatal)
    return Recovered(
        identity=seal.about.identity,
        last_seq=last.seq,
        records=log.records,
        lost=log.lost,
        snapshot=snapshot,
        pieces=pieces,
        snapshot_lost=last.snapshot if sentence else None,
        findings=[*log.findings, *([sentence] if sentence else [])],
        prefix=log.prefix,
        last=last,
    )


class _Log:
    """Walks over the rows once, oldest first."""

    def __init__(self, last: Last, seal: Seal, covered: Slot) -> None:
        self.last = last
        self.covered = covered
        self.seal = seal
        self.records: list[LogRecord] = []
        self.lost: list[Header] = []
        self.findings: list[str] = []
        self.fatal: list[str] = []
        self.prefix = Prefix(last.first)
        # Every record below `_next` was looked at. `_open` is the unreadable one just before `_next`, whose header is
        # known once the row behind it is read; `_header` is the header of a readable one there.
        self._next = last.first
        self._open: str | None = None
        self._header: Header | None = None
        self._gone: list[int] = []  # unreadable records whose header is unreadable, too: one stretch of them

    def read(self, rows: Iterable[tuple[int, bytes]], is_atomic: bool) -> None:
        """Read all rows, up to `last` whatever comes."""
        below, above = [], []
        for seq, row in rows:
            if seq < self.last.first:
                below.append(seq)
            elif seq > self.last.seq:
                above.append(seq)
            else:
                self._skip_to(seq)
                try:
                    previous, record = self.seal.unseal(row, seq)
                except RotError as error:
                    self._unreadable(str(error))
                else:
                    self._readable(previous, record, len(row))
        self._skip_to(self.last.seq + 1)
        if self.last.count:
            self._know_previous(self.last.header, "the row that names the last record")
        if below:
            self.findings.append(f"deleted {_many(below[0], below[-1])}: truncated before, but still there")
        if above and is_atomic:
            self.fatal.append(
                f"found {_many(above[0], above[-1])} behind the last one, {self.last.seq}, though both are written in "
                f"one transaction: the row that names the last record is an old one"
            )
        elif above:
            self.findings.append(
                f"cut {_many(above[0], above[-1])}: being written when the node stopped, and nobody was told of it"
            )

    def _skip_to(self, seq: int) -> None:
        while self._next < seq:
            self._unreadable("is missing")

    def _readable(self, previous: Header, record: LogRecord, size: int) -> None:
        if self._next > self.last.first:
            self._know_previous(previous, f"record {self._next}")
        header = record.header
        self.records.append(record)
        self.prefix.append(self._next, header, size)
        self._header = header
        self._next += 1

    def _unreadable(self, why: str) -> None:
        if self._open is not None:
            self._gone.append(self._next - 1)
        self._open = why
        self._header = None
        self._next += 1

    def _know_previous(self, header: Header, where: str) -> None:
        """A copy of the header of record `_next` - 1 was read."""
        seq = self._next - 1
        if self._gone:
            copies = "the copy of its header" if len(self._gone) == 1 else "the copies of their headers"
            self.fatal.append(
                f"neither {_many(self._gone[0], self._gone[-1])} nor {copies} can be read: what the node promised or "
                f"voted there is unknown"
            )
            self._gone.clear()
        if self._open is not None:
            self.lost.append(header)
            self.prefix.append(seq, header, 0)
            self.findings.append(
                f"record {seq} {self._open}. {_meaning(header, self.covered)} (copy of its header in {where})"
            )
            self._open = None
        elif self._header is not None and self._header != header:
            self.fatal.append(
                f"record {seq} and the copy of its header in {where} disagree: one of them is an old one, and what the "
                f"node promised or voted there is unknown"
            )


def _read_snapshot(stored: Stored, last: Last, seal: Seal) -> tuple[SnapshotTaken | None, list[bytes], str]:
    """Return the snapshot, its pieces, and what is wrong with it ("" when nothing is)."""
    if last.snapshot == NO_SLOT:
        return None, [], ""
    name = f"the snapshot of slot {last.snapshot}"
    meaning = "a peer has to send one before the node can serve"
    if stored.taken is None:
        return None, [], f"{name} has lost its description: {meaning}"
    try:
        taken = seal.unseal_taken(stored.taken)
    except RotError as error:
        return None, [], f"the description of {name} {error}: {meaning}"
    if taken.slot != last.snapshot:
        return None, [], f"{name} has the description of another one, of slot {taken.slot}: {meaning}"
    found = {piece.index: piece for piece in stored.pieces if piece.slot == taken.slot}
    pieces: list[bytes] = []
    for index in range(taken.pieces):
        piece = found.get(index)
        if piece is None:
            return None, [], f"piece {index} of {taken.pieces} of {name} is missing: {meaning}"
        if piece.crc != seal.piece_crc(taken.slot, index, piece.data):
            return None, [], f"piece {index} of {taken.pieces} of {name} has a wrong checksum: {meaning}"
        pieces.append(piece.data)
    try:
        digest = digest_of(taken.slot, pieces)
    except SnapshotError as error:
        return None, [], f"{error}: {meaning}"
    if digest != taken.digest:
        return None, [], f"{name} does not have the digest it should have: {meaning}"
    return taken, pieces, ""


def slots_of(header: Header) -> str:
    """Name the slots of a header: "slot 7", "slots 7 to 9"."""
    if header.count == 1:
        return f"slot {header.slot}"
    return f"slots {header.slot} to {header.slot + header.count - 1}"


def _many(first: int, stop: int) -> str:
    return f"record {first}" if first == stop else f"records {first} to {stop}"


def _meaning(header: Header, covered: Slot) -> str:
    if is_about_views(header):
        if header.count:
            return "It held a vote about who is primary: the node is silent about that change until it is healed"
        return "It held a promise about who is primary, which is kept all the same"
    if header.count:
        vote = f"a vote of round {header.rnd}" if header.rnd != NO_ROUND else "decided values"
        if header.slot + header.count - 1 <= covered:
            return f"It held {vote} for {slots_of(header)}, which the snapshot of slot {covered} covers"
        return f"It held {vote} for {slots_of(header)}: the node is silent about them until it is healed"
    if header.rnd != NO_ROUND:
        return f"It held the promise of round {header.rnd}, which is kept all the same"
    return "It held a hint that can be lost"
