"""The store of a node: one SQLite database, one thread, one transaction for everything that has gathered.

    reactor thread                              writer thread
    submit(7, …) ─┐
    submit(8, …) ─┼─> queue ──> takes 7, 8, 9 ──> BEGIN … COMMIT (synced) ──> proof file
    submit(9, …) ─┘                                                             │
    on_durable(9) <─────────────── call_from_thread ────────────────────────────┘

While one commit runs the next one gathers, so commits grow with load by themselves and an idle store adds no delay.
The thread never touches anything of the reactor's, and the reactor never calls SQLite.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import NamedTuple

from paxos_twisted.core.records import Record, SnapshotPiece, size_of_values
from paxos_twisted.limits import COMMIT_BYTES_MAX, DISK_RESERVE_BYTES, PIECE_READS_MAX, WRITES_QUEUED_BYTES_MAX
from paxos_twisted.storage import database
from paxos_twisted.storage.directory import DATABASE, PROOF, WAL, Lock, free_bytes_at, is_full, size_of, sync_directory
from paxos_twisted.storage.errors import StoreMissing, StoreOverflow
from paxos_twisted.storage.examine import examine
from paxos_twisted.storage.metrics import StoreMetrics
from paxos_twisted.storage.proof import Proof
from paxos_twisted.storage.recovery import Recovered
from paxos_twisted.storage.transaction import Planner, Transaction, Write
from paxos_twisted.types import NodeId, Slot

RETRY_S = 0.25
"""A full disk is tried again this often."""

SPACE_CHECK_S = 1.0
"""Free space is looked at this often at most."""


class _Read(NamedTuple):
    slot: Slot
    piece: int
    then: Callable[[bytes | None], None]


class SqliteStore:
    """Implements the driver's `Disk`. Make it, `start` (or `open`) it once, `submit`, `close` it.

    The callbacks run through `call_from_thread(function, *arguments)`, in order, one call for each commit or event:
    `on_durable(write_no)`: all writes up to `write_no` survive a power cut from now on.
    `on_full(is_full)`: there is no space; what was submitted waits, in order, and is tried again. Or: there is again.
    `on_failed(error)`: the disk failed, or this program is wrong. Nothing is written any more. The node must stop.
    [protocol-rules 2.9, rules 49, 50, 54]
    """

    def __init__(
        self,
        path: Path,
        cluster: str,
        node: NodeId,
        *,
        call_from_thread: Callable[..., object],
        on_durable: Callable[[int], object],
        on_full: Callable[[bool], object],
        on_failed: Callable[[BaseException], object],
        reserve_bytes: int = DISK_RESERVE_BYTES,
        free_bytes: Callable[[Path], int] = free_bytes_at,
        connection: type[sqlite3.Connection] = sqlite3.Connection,
        retry_s: float = RETRY_S,
        space_check_s: float = SPACE_CHECK_S,
    ) -> None:
        """Nothing is opened yet. `reserve_bytes`: with less free space the disk counts as full."""
        self.path = path
        self.metrics = StoreMetrics()
        self.durable_seq = 0
        """Number of the last durable record; never goes down."""
        self.durable_write_no = 0
        self.is_full = False
        self.is_failed = False
        self._cluster = cluster
        self._node = node
        self._call = call_from_thread
        self._on_durable = on_durable
        self._on_full = on_full
        self._on_failed = on_failed
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._factory = connection
        self._retry_s = retry_s
        self._space_check_s = space_check_s
        self.gathers = False
        """What is submitted waits for `hand_over`: a thread that wakes up asks for the interpreter's lock, so it had
        better be woken when the caller's thread has nothing more to do."""
        self._submitted: list[Write] = []
        self._queue: SimpleQueue[Write | _Read | None] = SimpleQueue()
        self._recovered: Future[Recovered] = Future()
        self._thread = Thread(target=self._run, name=f"store-{node}", daemon=True)
        self._is_closed = False
        self._ended: Future[None] = Future()
        # Two counters, each written by one thread only, so that no lock is needed.
        self._bytes_in = self._writes_in = self._reads_in = 0  # by the caller's thread
        self._bytes_out = self._writes_out = self._reads_out = 0  # by the writer thread
        # Everything below belongs to the writer thread.
        self._gathered: deque[Write] = deque()
        self._is_closing = False
        self._space_checked = float("-inf")
        self._wal_pages = 0  # in the write-ahead file, as guessed
        self._wal_limit: float = database.WAL_PAGES  # a guess at which it is copied into the database
        self._lock: Lock
        self._proof: Proof
        self._connection: sqlite3.Connection
        self._planner: Planner

    # The caller's side.

    def start(self) -> "Future[Recovered]":
        """Start the thread, which recovers first. The future, set by that thread, is what `open` returns or raises."""
        self._thread.start()
        return self._recovered

    def open(self) -> Recovered:
        """Start the thread and wait until it has recovered.

        Raises:
            StoreMissing: there is no log in the data directory.
            StoreForeign: it belongs to another cluster or node, or is written in another format.
            StoreLocked: another process uses it.
            StorageCorrupt: it cannot be told what the node has promised and voted.
            OSError, sqlite3.Error: the disk failed.
        """
        return self.start().result()

    @property
    def queued_bytes(self) -> int:
        """Bytes that were submitted and are not durable; at most WRITES_QUEUED_BYTES_MAX."""
        return self._bytes_in - self._bytes_out

    @property
    def queued_writes(self) -> int:
        """Writes that were submitted and are not durable."""
        return self._writes_in - self._writes_out

    def submit(self, write_no: int, records: Sequence[Record]) -> None:
        """Write records, behind everything submitted before. After a failure or `close` nothing happens.

        Raises:
            StoreOverflow: WRITES_QUEUED_BYTES_MAX would be exceeded; the caller should have stopped before.
        """
        if self.is_failed or self._is_closed:
            return
        size = 64 * len(records)
        for record in records:
            size += len(record.data) if type(record) is SnapshotPiece else size_of_values(record)
        if self._bytes_in + size - self._bytes_out > WRITES_QUEUED_BYTES_MAX:
            raise StoreOverflow(f"{self.queued_bytes} bytes wait for the disk already, and {size} more were submitted")
        self._bytes_in += size
        self._writes_in += 1
        self._submitted.append(Write(write_no, records, size))
        if not self.gathers:
            self.hand_over()

    def hand_over(self) -> None:
        """Let the thread have what was submitted."""
        for write in self._submitted:
            self._queue.put(write)
        self._submitted.clear()

    def read_piece(self, slot: Slot, index: int, then: Callable[[bytes | None], None]) -> None:
        """Read piece `index` of the durable snapshot of `slot`, and call `then` with it through `call_from_thread`.

        None: it is gone (a newer snapshot has replaced it), it has rotted, or PIECE_READS_MAX reads wait already.
        """
        if self.is_failed or self._is_closed or self._reads_in - self._reads_out >= PIECE_READS_MAX:
            self._call(then, None)
            return
        self._reads_in += 1
        self._queue.put(_Read(slot, index, then))

    def close(self, then: Callable[[], object] | None = None) -> None:
        """Write what was submitted, close the files and call `then` through `call_from_thread`. To be called once.

        What a full disk does not take at once is given up: nobody was told that it is durable. After a failure only
        `then` is called.
        """
        self.hand_over()
        self._is_closed = True
        if then is not None:
            self._ended.add_done_callback(lambda _: self._call(then))
        if self._thread.ident is None:
            self._ended.set_result(None)  # it was never started
        else:
            self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait until the thread has ended, for tests and command lines; whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # The writer thread.

    def _run(self) -> None:
        try:
            recovered = self._recover()
        except BaseException as error:
            self._recovered.set_exception(error)
        else:
            self._recovered.set_result(recovered)
            try:
                self._write_all()
            except BaseException as error:
                # Whatever it was: we do not know what is on disk. In particular after a failed sync a second one may
                # succeed although the data is gone, so nothing is repeated. The connection stays open on purpose:
                # closing it would write once more. The process ends soon. [protocol-rules 2.9, rule 50]
                self.metrics.errors += 1
                self.is_failed = True
                self._call(self._on_failed, error)
        self._ended.set_result(None)

    def _recover(self) -> Recovered:
        path = self.path
        if not path.is_dir():
            raise StoreMissing(f"the data directory {path} does not exist")
        self._lock = Lock(path)
        try:
            seal, recovered = examine(path, self._cluster, self._node)
            self._proof = Proof(path / PROOF, recovered.identity)
            self._connection = database.connect(path / DATABASE, self._factory)
            old_pieces = database.tidy(self._connection, recovered.last)
            if self._free_bytes(path) > self._reserve_bytes + 3 * database.WAL_PAGES * database.PAGE_BYTES:
                database.grow_wal(self._connection, path / WAL)
            self._planner = Planner(seal, recovered, old_pieces)
            self.durable_seq = recovered.last_seq
            self._proof.write(recovered.last_seq)
            self._proof.sync()
            sync_directory(path)
        except BaseException:
            self._lock.release()
            raise
        return recovered

    def _write_all(self) -> None:
        while True:
            while not (self._gathered or self._is_closing or (self._planner.has_leftovers and self._queue.empty())):
                self._take(self._queue.get())
            for _ in range(self._queue.qsize()):
                self._take(self._queue.get())
            if self._is_closing and not self._gathered:
                break
            if not self._commit():
                break  # closed while the disk was full
        self._connection.close()  # the last connection: SQLite copies the write-ahead file into the database
        self._proof.sync()
        self._proof.close()
        self._lock.release()

    def _take(self, item: Write | _Read | None) -> None:
        if item is None:
            self._is_closing = True
        elif type(item) is Write:
            self._gathered.append(item)
        else:
            assert type(item) is _Read
            self._reads_out += 1
            self._call(item.then, self._read(item.slot, item.piece))

    def _read(self, slot: Slot, index: int) -> bytes | None:
        if slot != self._planner.snapshot:
            return None
        found = self._connection.execute(database.READ_PIECE, (slot, index)).fetchone()
        if found is None:
            return None
        data: bytes = found[0]
        if type(data) is not bytes or self._planner.seal.piece_crc(slot, index, data) != found[1]:
            self.metrics.rotten_pieces += 1
            return None
        return data

    def _commit(self) -> bool:
        """Commit what has gathered, up to COMMIT_BYTES_MAX. False: given up, the store is closed and the disk full."""
        gathered = self._gathered
        writes, size = [], 0
        while gathered and (not size or size + gathered[0].size <= COMMIT_BYTES_MAX):
            writes.append(gathered.popleft())
            size += writes[-1].size
        transaction = self._planner.plan(writes)
        if not self._until_done(lambda: self._write(transaction)):
            return False
        # Before anybody is told: else a process killed in between leaves a proof that is too low.
        if not self._until_done(lambda: self._proof.write(transaction.seq)):
            return False
        self.durable_seq = transaction.seq
        self._bytes_out += size
        self._writes_out += len(writes)
        if transaction.write_no:
            self.durable_write_no = transaction.write_no
            self._call(self._on_durable, transaction.write_no)
        return self._wal_pages < self._wal_limit or self._until_done(self._checkpoint)

    def _write(self, transaction: Transaction) -> None:
        connection = self._connection
        execute = connection.execute
        started = monotonic()
        execute("BEGIN IMMEDIATE")
        if transaction.rows:
            connection.executemany(database.INSERT_ROW, transaction.rows)
        if transaction.pieces:
            connection.executemany(database.INSERT_PIECE, transaction.pieces)
        if transaction.taken is not None:
            execute(database.SET_META, ("snapshot", transaction.taken))
        if transaction.delete_rows:
            execute(database.DELETE_ROWS, (transaction.delete_rows,))
        if transaction.delete_pieces:
            connection.executemany(database.DELETE_PIECE, transaction.delete_pieces)
        execute(database.SET_META, ("last", transaction.last))
        execute("COMMIT")
        self._wal_pages += database.pages_of(transaction)
        metrics = self.metrics
        metrics.add_commit(monotonic() - started)
        metrics.rows_written += len(transaction.rows)
        metrics.bytes_written += transaction.size

    def _checkpoint(self) -> None:
        pages = database.checkpoint(self._connection)
        # SQLite tells the true size only here: learn from it how far off the guess is for the present load.
        ratio = self._wal_pages / pages if pages else 1.0
        self._wal_limit = database.WAL_PAGES * min(max(ratio, 0.4), 2.0)
        self._wal_pages = 0

    # A full disk.

    def _until_done(self, operation: Callable[[], None]) -> bool:
        """Do something on the disk, as often as it takes while there is no space; False: given up on closing."""
        while True:
            if self._has_space():
                try:
                    operation()
                except (sqlite3.Error, OSError) as error:
                    if not is_full(error):
                        raise
                    self.metrics.errors += 1
                    self._space_checked = float("-inf")
                    if self._connection.in_transaction:
                        self._connection.rollback()
                else:
                    if self.is_full:
                        self._say_full(False)
                    return True
            if not self.is_full:
                self._say_full(True)
            if self._is_closing:
                return False
            self._pause()

    def _has_space(self) -> bool:
        now = monotonic()
        if not self.is_full and now - self._space_checked < self._space_check_s:
            return True
        self._space_checked = now
        metrics = self.metrics
        metrics.free_bytes = self._free_bytes(self.path)
        metrics.size_bytes = size_of(self.path / DATABASE)
        metrics.wal_bytes = size_of(self.path / WAL)
        return metrics.free_bytes >= self._reserve_bytes

    def _say_full(self, is_full: bool) -> None:
        self.is_full = is_full
        self._call(self._on_full, is_full)

    def _pause(self) -> None:
        """Wait, but go on reading for peers."""
        until = monotonic() + self._retry_s
        with suppress(Empty):
            while not self._is_closing and (left := until - monotonic()) > 0:
                self._take(self._queue.get(timeout=left))
