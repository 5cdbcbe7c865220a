"""The simulated disk of one node: sealed rows, one transaction at a time, and everything that can go wrong with them.

It keeps what SQLite keeps (rows, the row that names the last one, the snapshot and its pieces) and commits as the
writer thread does: everything that has gathered since the last commit goes in as one transaction. What the shipped code
seals and judges is sealed and judged by the shipped code: `paxos_twisted.storage.transaction` and `.recovery`.

A crash leaves more possibilities than SQLite does: of the transaction in flight, power loss keeps nothing, all of it,
or any subset of its rows, some of them torn, but then never the row that names the last one.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import msgspec

from paxos_twisted.core.engine import DiskState
from paxos_twisted.core.records import LogRecord, Record
from paxos_twisted.sim.scheduler import Scheduler
from paxos_twisted.storage.errors import RotError, StoreMissing
from paxos_twisted.storage.recovery import Recovered, Stored, StoredPiece, recover
from paxos_twisted.storage.seal import Last, Seal
from paxos_twisted.storage.transaction import Planner, Transaction, Write
from paxos_twisted.types import NodeId, Slot

CLUSTER = "sim"

FULL_RETRY_MS = 50
"""A full disk is asked again after this long."""

READ_MS = 1


class Image(msgspec.Struct):
    """What lies on the platters. A copy of it is a backup."""

    identity: str
    rows: dict[int, bytes]
    last: bytes | None
    taken: bytes | None
    pieces: dict[tuple[Slot, int], tuple[bytes, int]]
    durable: int = 0
    """Number of the last acknowledged record, kept apart from the log."""

    def copy(self) -> "Image":
        """A copy that does not change with the original."""
        return Image(self.identity, dict(self.rows), self.last, self.taken, dict(self.pieces), self.durable)


class Owner(Protocol):
    """The process that has opened the disk."""

    def persisted(self, write_no: int) -> None:
        """All writes up to this number are durable."""
        ...

    def disk_changed(self, state: DiskState) -> None:
        """The disk is full, or it is good again."""
        ...

    def disk_failed(self, reason: str) -> None:
        """A write or sync has failed: what is on the disk now is unknown. The process must end."""
        ...

    def hand_over(self, action: Callable[[], None]) -> None:
        """Run `action` in the process, as soon as it is not frozen."""
        ...


class Commit(NamedTuple):
    """One commit under way."""

    transaction: Transaction
    records: list[Record]


class SimDisk:
    """The disk, and the writer thread of the process that has it open."""

    def __init__(
        self,
        node: NodeId,
        scheduler: Scheduler,
        rng: random.Random,
        on_durable: Callable[[NodeId, Sequence[Record]], None],
        latency_ms: tuple[int, int] = (1, 3),
    ) -> None:
        self.node = node
        self.image: Image | None = None
        """None: nothing there, as on a new or a replaced disk."""
        self.factor = 1
        """Commits take this many times longer."""
        self.is_full = False
        self.fails_next = False
        """The next commit fails once, and the one after it would succeed."""
        self.has_failed = False
        """A write has failed since the process started: it may end itself."""
        self.commits = 0
        self.on_trace: Callable[[str], None] | None = None
        self._scheduler = scheduler
        self._rng = rng
        self._on_durable = on_durable
        self._latency_ms = latency_ms
        self._owner: Owner | None = None
        self._queue: list[Write] = []
        self._running: Commit | None = None
        self._told_full = False
        self._planner: Planner | None = None
        self._first = 1  # number of the oldest row that is kept

    @property
    def is_busy(self) -> bool:
        """A commit is under way."""
        return self._running is not None

    # ---- starting

    def format(self, identity: str) -> None:
        """The explicit first start: an empty log with this identity."""
        self.image = Image(identity, {}, Seal(CLUSTER, self.node, identity).seal_last(Last()), None, {})

    def open(self, owner: Owner) -> Recovered:
        """Judge what is there, as a start-up does, and take writes from `owner` from now on.

        Raises:
            StoreMissing: there is nothing.
            StorageCorrupt: it cannot be told what this node has promised and voted.
        """
        image = self.image
        if image is None:
            raise StoreMissing("the data directory holds no log")
        seal = Seal(CLUSTER, self.node, image.identity)
        pieces = [StoredPiece(slot, index, data, crc) for (slot, index), (data, crc) in sorted(image.pieces.items())]
        recovered = recover(Stored(sorted(image.rows.items()), image.last, image.taken, pieces, image.durable), seal)
        last = recovered.last
        for seq in [seq for seq in image.rows if seq > last.seq or seq < last.first]:
            del image.rows[seq]
        for key in [key for key in image.pieces if key[0] != last.snapshot]:
            del image.pieces[key]
        self._planner = Planner(seal, recovered, sorted(image.pieces))
        self._first = last.first
        self._owner = owner
        self._told_full = False
        self.has_failed = False
        return recovered

    # ---- what the driver calls

    def submit(self, write_no: int, records: Sequence[Record]) -> None:
        """Write `records`; `Owner.persisted` tells when they are durable."""
        self._queue.append(Write(write_no, records, 0))
        if self._running is None:
            self._begin()

    def read_piece(self, slot: Slot, index: int, then: Callable[[bytes | None], None]) -> None:
        """Read a piece of the durable snapshot; None when it is gone or has rotted."""
        owner, image, planner = self._owner, self.image, self._planner
        assert owner is not None
        assert image is not None
        assert planner is not None
        data, crc = image.pieces.get((slot, index), (None, 0))
        if data is not None and (slot != planner.snapshot or planner.seal.piece_crc(slot, index, data) != crc):
            data = None

        def tell() -> None:
            if self._owner is owner:
                owner.hand_over(lambda: then(data))

        self._scheduler.after(READ_MS, tell)

    # ---- commits

    def _begin(self) -> None:
        """Seal what has gathered and start to write it."""
        assert self._planner is not None
        queue, self._queue = self._queue, []
        commit = self._running = Commit(
            self._planner.plan(queue), [record for write in queue for record in write.records]
        )
        low, high = self._latency_ms
        delay = (low + int(self._rng.random() * (high - low + 1))) * self.factor
        self._scheduler.after(delay, lambda: self._end(commit))

    def _end(self, commit: Commit) -> None:
        if commit is not self._running:
            return  # the process that wrote it has crashed; what became of it was decided then
        owner = self._owner
        assert owner is not None
        if self.fails_next:
            self.fails_next = False
            self.has_failed = True
            owner.hand_over(lambda: owner.disk_failed("a write failed: disk I/O error"))
            return
        if self.is_full:
            if not self._told_full:
                self._told_full = True
                owner.hand_over(lambda: owner.disk_changed(DiskState.FULL))
            self._scheduler.after(FULL_RETRY_MS, lambda: self._end(commit))
            return
        self._apply(commit)
        self._running = None
        if self._told_full:
            self._told_full = False
            owner.hand_over(lambda: owner.disk_changed(DiskState.GOOD))
        owner.hand_over(lambda: self._ended(owner, commit.transaction.write_no))

    def _ended(self, owner: Owner, write_no: int) -> None:
        """The process takes note of a commit, and its writer thread goes on with what has gathered."""
        if self._owner is not owner:
            return
        if self._running is None and self._planner is not None and (self._queue or self._planner.has_leftovers):
            self._begin()
        if write_no:
            owner.persisted(write_no)

    def _apply(self, commit: Commit) -> None:
        image, transaction = self.image, commit.transaction
        assert image is not None
        image.rows.update(transaction.rows)
        for slot, index, data, crc in transaction.pieces:
            image.pieces[slot, index] = (data, crc)
        if transaction.taken is not None:
            image.taken = transaction.taken
        for piece in transaction.delete_pieces:
            image.pieces.pop(piece, None)
        while self._first <= transaction.delete_rows:
            image.rows.pop(self._first, None)
            self._first += 1
        image.last = transaction.last
        image.durable = transaction.seq
        self.commits += 1
        if self.on_trace is not None:
            self.on_trace(f"node {self.node} wrote {commit.records!r}")
        self._on_durable(self.node, commit.records)

    # ---- crashes

    def kill(self) -> None:
        """The process ends; the machine lives. A commit in flight happens or does not; what waited is lost."""
        if self._running is not None and self._rng.random() < 0.5 and not self.is_full:
            self._apply(self._running)
        self._close()

    def cut_power(self) -> None:
        """The machine stops. The rows of a commit in flight survive all, partly, some torn, or not at all."""
        if self._running is not None and not self.is_full:
            fate = self._rng.random()
            if fate < 0.3:
                self._apply(self._running)
            elif fate < 0.75:
                self._apply_partly(self._running.transaction)
        self._close()

    def _apply_partly(self, transaction: Transaction) -> None:
        image, rand = self.image, self._rng.random
        assert image is not None
        kept = []
        for seq, row in transaction.rows:
            if rand() < 0.6:
                is_torn = rand() < 0.3
                image.rows[seq] = row[: int(rand() * len(row))] if is_torn else row
                kept.append(seq)
        for slot, index, data, crc in transaction.pieces:
            if rand() < 0.6 and (slot, index) not in image.pieces:
                image.pieces[slot, index] = (data, crc)
        if self.on_trace is not None:
            self.on_trace(f"node {self.node} keeps rows {kept} of an unfinished write")

    def _close(self) -> None:
        self._owner = None
        self._running = None
        self._queue.clear()

    # ---- damage

    def rot(self, rng: random.Random, seq: int | None = None) -> str:
        """Flip one bit in row `seq`, or in any row or snapshot piece. Returns what was hit, or ""."""
        image = self.image
        if image is None:
            return ""
        targets: list[tuple[str, int] | tuple[Slot, int]] = []
        if seq is not None:
            targets = [("row", seq)]
        else:
            targets += [("row", number) for number in sorted(image.rows)]
            targets += sorted(image.pieces)
        if not targets:
            return ""
        target = targets[int(rng.random() * len(targets))]
        kind, number = target
        if isinstance(kind, str):
            image.rows[number] = flip(image.rows[number], rng)
        else:
            data, crc = image.pieces[kind, number]
            image.pieces[kind, number] = (flip(data, rng), crc)
        if self.on_trace is not None:
            self.on_trace(f"node {self.node} rots {target!r}")
        return repr(target)

    def lose(self) -> None:
        """The disk is replaced by an empty one."""
        self.image = None

    def backup(self) -> Image:
        """A copy of what is there."""
        assert self.image is not None
        return self.image.copy()

    def restore(self, image: Image) -> None:
        """Somebody puts a copy back."""
        self.image = image.copy()

    # ---- looking

    def log(self) -> list[tuple[int, LogRecord]]:
        """The readable rows, for the reports of scenarios and failures."""
        image = self.image
        if image is None:
            return []
        seal = Seal(CLUSTER, self.node, image.identity)
        records = []
        for seq, row in sorted(image.rows.items()):
            with suppress(RotError):
                records.append((seq, seal.unseal(row, seq)[1]))
        return records


def flip(data: bytes, rng: random.Random) -> bytes:
    """`data` with one bit changed."""
    if not data:
        return b"\x01"
    at = int(rng.random() * len(data))
    return data[:at] + bytes([data[at] ^ (1 << int(rng.random() * 8))]) + data[at + 1 :]
