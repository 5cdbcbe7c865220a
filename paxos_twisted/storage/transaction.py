"""One commit, planned: everything that a transaction will contain, so that it can be repeated when the disk was full.

Numbering, sealing and truncation are decided here; SQLite only sees the result.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

from paxos_twisted.core.records import LogRecord, Record, SnapshotPiece, SnapshotTaken, Truncated
from paxos_twisted.storage.recovery import Recovered
from paxos_twisted.storage.seal import Last, Seal
from paxos_twisted.types import Slot

_LOG_RECORDS = frozenset(get_args(LogRecord))


class Write(NamedTuple):
    """What was submitted at once."""

    number: int
    records: Sequence[Record]
    size: int
    """Bytes of commands and pieces, roughly."""


class Transaction:
    """The rows of one commit, sealed."""

    __slots__ = ("delete_pieces", "delete_rows", "last", "pieces", "rows", "seq", "size", "taken", "write_no")

    def __init__(self) -> None:
        self.write_no = 0
        """The last write in it; 0: none, it only deletes."""
        self.seq = 0
        """Number of the last record of the log after it."""
        self.rows: list[tuple[int, bytes]] = []
        self.pieces: list[tuple[Slot, int, bytes, int]] = []
        self.taken: bytes | None = None
        self.delete_rows = 0
        """Delete the rows up to this number; 0: none."""
        self.delete_pieces: list[tuple[Slot, int]] = []
        self.last = b""
        self.size = 0


class Planner:
    """Knows what the database will hold once everything planned so far is committed."""

    def __init__(self, seal: Seal, recovered: Recovered, old_pieces: Iterable[tuple[Slot, int]]) -> None:
        """`old_pieces` are all pieces in the database, of the durable snapshot or of one that is lost."""
        self.seal = seal
        self.seq = recovered.last_seq
        self.snapshot = recovered.last.snapshot
        # A snapshot below this slot is not kept: it adds nothing to the durable one. In place of a lost one the same
        # slot will do, but none below: the log may have been truncated up to there.
        self._lowest = self.snapshot + (recovered.snapshot_lost is None)
        self._header = recovered.last.header
        self._prefix = recovered.prefix
        self._pieces: dict[Slot, set[int]] = {}  # of the durable snapshot and of those in the making
        for slot, index in old_pieces:
            self._pieces.setdefault(slot, set()).add(index)
        self._leftovers: deque[tuple[Slot, int]] = deque()  # pieces of replaced snapshots

    @property
    def has_leftovers(self) -> bool:
        """Something is still to be deleted, in the next commits."""
        return bool(self._leftovers) or not self._prefix.is_done

    def plan(self, writes: Iterable[Write]) -> Transaction:
        """Plan the next commit: these writes, and one portion of what may be deleted. Plans are committed in order."""
        transaction = Transaction()
        rows, seal, append = transaction.rows, self.seal.seal, self._prefix.append
        seq, header = self.seq, self._header
        for write in writes:
            first = seq + 1
            for record in write.records:
                if type(record) in _LOG_RECORDS:
                    seq += 1
                    row = seal(seq, header, record)  # type: ignore[arg-type]
                    header = record.header  # type: ignore[union-attr]
                    append(seq, header, len(row))
                    rows.append((seq, row))
                    transaction.size += len(row)
                elif type(record) is SnapshotPiece:
                    self._add_piece(transaction, record)
                elif type(record) is SnapshotTaken:
                    self._take(transaction, record)
                else:
                    assert type(record) is Truncated
                    # A slot that no durable snapshot covers would be gone for ever.
                    assert record.slot <= self.snapshot, f"truncation at {record.slot} beyond snapshot {self.snapshot}"
                    self._prefix.truncate(record.slot, first)
            transaction.write_no = write.number
        self.seq, self._header = seq, header
        transaction.seq = seq
        if not self._prefix.is_done:
            transaction.delete_rows = self._prefix.next_portion(2 * transaction.size)
        if self._leftovers:
            transaction.delete_pieces.append(self._leftovers.popleft())
        transaction.last = self.seal.seal_last(Last(seq, header, seq - self._prefix.deleted, self.snapshot))
        return transaction

    def _add_piece(self, transaction: Transaction, piece: SnapshotPiece) -> None:
        if piece.slot < self._lowest:
            return
        self._pieces.setdefault(piece.slot, set()).add(piece.index)
        crc = self.seal.piece_crc(piece.slot, piece.index, piece.data)
        transaction.pieces.append((piece.slot, piece.index, piece.data, crc))
        transaction.size += len(piece.data)

    def _take(self, transaction: Transaction, taken: SnapshotTaken) -> None:
        if taken.slot < self._lowest:
            return
        written = self._pieces.get(taken.slot, set())
        assert written >= set(range(taken.pieces)), f"snapshot {taken.slot}: not all {taken.pieces} pieces are written"
        transaction.taken = self.seal.seal_taken(taken)
        self.snapshot = taken.slot
        self._lowest = taken.slot + 1
        for slot in sorted(self._pieces):
            if slot < taken.slot:
                self._leftovers.extend((slot, index) for index in sorted(self._pieces.pop(slot)))
