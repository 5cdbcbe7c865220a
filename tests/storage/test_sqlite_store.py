"""The store on a real disk: order, group commit, a full or failing disk, truncation, whose directory it is."""

import sqlite3
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from stores import (
    CLUSTER,
    NODE,
    PIECES,
    WAIT_S,
    Store,
    new_store,
    recovered_from,
    snapshot,
    sqlite_error,
    taken,
    voted,
)

from paxos_twisted.core.records import Promised, Reached, Record, SnapshotPiece, Truncated
from paxos_twisted.limits import PIECE_READS_MAX, TRUNCATE_ROWS, WRITES_QUEUED_BYTES_MAX
from paxos_twisted.storage.directory import DATABASE, Lock, create, owner_of
from paxos_twisted.storage.errors import StoreForeign, StoreLocked, StoreMissing, StoreNotEmpty, StoreOverflow
from paxos_twisted.storage.metrics import COMMIT_BUCKETS_S, StoreMetrics
from paxos_twisted.storage.seal import About, seal_about
from paxos_twisted.storage.sqlite_store import SqliteStore
from paxos_twisted.types import NodeId


class Faults:
    """Makes connections that do something before each BEGIN or checkpoint: wait, fail, or run out of pages."""

    def __init__(self) -> None:
        self.gate = Event()
        self.gate.set()
        self.arrived = Event()
        self.errors: list[BaseException] = []
        self.free_pages: int | None = None
        """Real SQLITE_FULL: the database may only grow by this many pages."""
        self.attempts = 0
        self.on = "BEGIN"
        faults = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                if sql.startswith(faults.on):
                    faults.attempts += 1
                    faults.arrived.set()
                    assert faults.gate.wait(WAIT_S)
                    if faults.errors:
                        raise faults.errors.pop(0)
                    (pages,) = super().execute("PRAGMA page_count").fetchone()
                    limit = 2**30 if faults.free_pages is None else pages + faults.free_pages
                    super().execute(f"PRAGMA max_page_count = {limit}").fetchone()
                return super().execute(sql, *arguments)

        self.connection = Connection


def test_what_was_written_comes_back_in_order(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    records = [voted(slot) for slot in range(0, 1000, 10)]
    for number in range(0, 100, 10):
        store.submit(Promised(number), *records[number : number + 10])
    store.wait(10)
    assert (store.store.queued_bytes, store.store.queued_writes) == (0, 0)
    assert (store.store.durable_seq, store.store.durable_write_no) == (110, 10)
    store.close()
    recovered = recovered_from(tmp_path)
    assert [record for record in recovered.records if not isinstance(record, Promised)] == records
    assert recovered.records[::11] == [Promised(number) for number in range(0, 100, 10)]
    assert (recovered.last_seq, recovered.findings) == (110, [])


def test_everything_that_gathers_is_one_commit_and_one_call(tmp_path: Path) -> None:
    faults = Faults()
    store = new_store(tmp_path, connection=faults.connection)
    faults.gate.clear()
    faults.arrived.clear()
    store.submit(voted(0))
    assert faults.arrived.wait(WAIT_S)
    for slot in range(10, 100, 10):
        store.submit(voted(slot))
    assert store.store.queued_writes == 10
    faults.gate.set()
    assert store.wait(10) == [1, 10]
    assert store.store.metrics.commits == 2
    store.close()


def test_a_store_that_gathers_writes_when_it_is_told_to_and_before_it_closes(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.store.gathers = True
    store.submit(voted(0))
    store.submit(voted(10))
    assert store.store._queue.empty()
    assert store.store.queued_writes == 2
    store.store.hand_over()
    store.wait(2)
    store.submit(voted(20))
    store.close()
    assert recovered_from(tmp_path).last_seq == 3


def test_a_close_writes_what_was_submitted(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for slot in range(0, 500, 10):
        store.submit(voted(slot))
    closed = Event()
    store.store.close(closed.set)
    assert closed.wait(WAIT_S)
    assert store.store.join(WAIT_S)
    assert recovered_from(tmp_path).last_seq == 50
    store.submit(voted(500))  # nothing happens
    assert recovered_from(tmp_path).last_seq == 50
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["durable", "lock", "node.db"]


def test_a_store_that_was_never_started_closes(tmp_path: Path) -> None:
    closed = Event()
    Store(tmp_path).store.close(closed.set)
    assert closed.is_set()


def test_a_first_start_is_explicit_and_happens_once(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="does not exist"):
        Store(tmp_path / "data").open()
    (tmp_path / "data").mkdir()
    with pytest.raises(StoreMissing, match=r"holds no log of a node .* its disk is lost"):
        Store(tmp_path / "data").open()
    refused = Store(tmp_path / "data")
    with pytest.raises(StoreMissing):
        refused.open()
    closed = Event()
    refused.store.close(closed.set)
    assert closed.wait(WAIT_S)
    identity = create(tmp_path / "new" / "data", CLUSTER, NODE)
    assert recovered_from(tmp_path / "new" / "data").identity == identity
    with pytest.raises(StoreNotEmpty, match=r"is not empty \(it holds durable, lock, node.db\)"):
        create(tmp_path / "new" / "data", CLUSTER, NODE)
    assert identity != create(tmp_path / "other", CLUSTER, NODE)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        (About(1, "production", NODE, "5eed"), "belongs to cluster 'production', not to 'demo'"),
        (About(1, CLUSTER, NodeId(2), "5eed"), "belongs to node 2 of cluster 'demo', not to node 1"),
        (About(2, CLUSTER, NODE, "5eed"), "written in format 2; this program reads format 1"),
    ],
)
def test_the_directory_of_another_is_refused(tmp_path: Path, about: About, sentence: str) -> None:
    create(tmp_path, CLUSTER, NODE)
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("UPDATE meta SET row = ? WHERE name = 'about'", (seal_about(about),))
    connection.commit()
    connection.close()
    with pytest.raises(StoreForeign, match=sentence):
        Store(tmp_path).open()


def test_two_processes_never_use_one_directory(tmp_path: Path) -> None:
    create(tmp_path, CLUSTER, NODE)
    assert owner_of(tmp_path) is None
    lock = Lock(tmp_path)
    with pytest.raises(StoreLocked, match="is in use by process"):
        Store(tmp_path).open()
    assert owner_of(tmp_path) is not None
    lock.release()
    recovered_from(tmp_path)


# A full disk. [protocol-rules 2.9, rule 54]


def test_sqlite_out_of_pages_keeps_everything_and_resumes(tmp_path: Path) -> None:
    faults = Faults()
    store = new_store(tmp_path, connection=faults.connection)
    store.write(voted(0))
    faults.free_pages = 0
    big = [voted(slot, size=5000) for slot in range(10, 20_000, 10)]  # more than the free pages inside the file
    for record in big:
        store.submit(record)
    assert store.full.get(timeout=WAIT_S) is True
    assert store.store.is_full
    before = faults.attempts
    while faults.attempts < before + 3:  # it tries again by itself
        faults.arrived.clear()
        assert faults.arrived.wait(WAIT_S)
    store.submit(voted(20_000))
    faults.free_pages = None
    assert store.full.get(timeout=WAIT_S) is False
    seen = store.wait(store.write_no)
    assert seen == sorted(seen)
    assert store.failed.empty()
    store.close()
    assert recovered_from(tmp_path).records == [voted(0), *big, voted(20_000)]


def test_too_little_free_space_counts_as_full_before_anything_is_written(tmp_path: Path) -> None:
    free = [10_000_000]
    store = new_store(tmp_path, reserve_bytes=1000, free_bytes=lambda _: free[0], space_check_s=0.0)
    store.write(voted(0))
    free[0] = 999
    store.submit(voted(10))
    assert store.full.get(timeout=WAIT_S) is True
    assert store.durable.empty()
    assert store.read_piece(5, 0) is None  # peers are still answered
    free[0] = 1000
    store.wait(2)
    assert store.full.get(timeout=WAIT_S) is False
    assert store.store.metrics.free_bytes == 1000
    store.close()


def test_free_space_is_not_looked_at_for_each_commit(tmp_path: Path) -> None:
    looks: list[Path] = []
    store = new_store(tmp_path, free_bytes=lambda path: looks.append(path) or 10**9, space_check_s=3600.0)
    for slot in range(0, 100, 10):
        store.write(voted(slot))
    assert len(looks) == 2  # at the start, and before the first commit
    store.close()


def test_a_store_that_is_closed_while_the_disk_is_full_ends(tmp_path: Path) -> None:
    faults = Faults()
    store = new_store(tmp_path, connection=faults.connection)
    store.write(voted(0))
    faults.errors = [sqlite_error("database or disk is full", sqlite3.SQLITE_FULL)] * 10_000
    store.submit(voted(10))
    assert store.full.get(timeout=WAIT_S) is True
    store.close()
    assert store.failed.empty()
    assert recovered_from(tmp_path).records == [voted(0)]


# A failing disk. [protocol-rules 2.9, rule 50]


@pytest.mark.parametrize(
    ("on", "error"),
    [
        pytest.param("BEGIN", sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR), id="a failed write"),
        pytest.param("COMMIT", sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC), id="a failed sync"),
        pytest.param("COMMIT", sqlite_error("malformed", sqlite3.SQLITE_CORRUPT), id="damage found while writing"),
        pytest.param("BEGIN", OSError(5, "Input/output error"), id="an error of the system"),
    ],
)
def test_a_failure_is_final(tmp_path: Path, on: str, error: BaseException) -> None:
    faults = Faults()
    faults.on = on
    store = new_store(tmp_path, connection=faults.connection)
    store.write(voted(0))
    faults.errors = [error]
    store.submit(voted(10))
    assert store.failed.get(timeout=WAIT_S) is error
    assert store.store.join(WAIT_S)
    attempts = faults.attempts
    store.submit(voted(20))
    assert store.read_piece(5, 0) is None
    assert store.store.is_failed
    assert store.durable.empty()
    assert faults.attempts == attempts
    closed = Event()
    store.store.close(closed.set)
    assert closed.is_set()


def test_a_failed_checkpoint_stops_the_node_too(tmp_path: Path) -> None:
    """SQLite's own checkpoints would keep such an error to themselves."""
    faults = Faults()
    store = new_store(tmp_path, connection=faults.connection)
    faults.on = "PRAGMA wal_checkpoint"
    faults.errors = [sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC)]
    for slot in range(60):
        store.submit(voted(slot, count=1, size=100_000))
    assert isinstance(store.failed.get(timeout=WAIT_S), sqlite3.OperationalError)
    assert store.store.join(WAIT_S)


def test_an_assertion_in_the_thread_stops_the_node(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.submit(Truncated(5))
    assert isinstance(store.failed.get(timeout=WAIT_S), AssertionError)
    assert store.store.join(WAIT_S)


# Bounds.


def test_more_than_the_bound_is_not_taken(tmp_path: Path) -> None:
    store = Store(tmp_path)  # not started: nothing leaves the queue
    half = SnapshotPiece(5, 0, bytes(WRITES_QUEUED_BYTES_MAX // 2))
    store.submit(half)
    with pytest.raises(StoreOverflow):
        store.submit(half, half)
    assert store.store.queued_bytes < WRITES_QUEUED_BYTES_MAX
    store.submit(voted(0))


def test_more_reads_than_the_bound_are_answered_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    answers: list[bytes | None] = []
    for index in range(PIECE_READS_MAX + 2):
        store.store.read_piece(5, index, answers.append)
    assert answers == [None, None]


def test_a_long_queue_becomes_several_commits(tmp_path: Path) -> None:
    create(tmp_path, CLUSTER, NODE)
    store = Store(tmp_path)
    for slot in range(20):
        store.submit(voted(slot, count=1, size=1_000_000))
    store.open()
    store.wait(20)
    assert 5 <= store.store.metrics.commits <= 7
    store.close()


def test_truncation_keeps_the_file_small(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    database = tmp_path / DATABASE
    sizes = []
    slot = 0
    for _ in range(12):
        for _ in range(60):
            store.submit(*(voted(slot + run, size=1000) for run in range(0, 100, 10)))
            slot += 100
        repeated: list[Record] = [Promised(3001), Reached(slot - 1)]
        store.submit(*snapshot(slot - 1))
        store.submit(*repeated, Truncated(slot - 1))
        store.wait(store.write_no)
        sizes.append(database.stat().st_size)
    store.close()
    assert sizes[-1] == sizes[3]
    recovered = recovered_from(tmp_path)
    assert recovered.records == repeated
    assert recovered.last_seq == 12 * 602
    assert recovered.snapshot == taken(slot - 1)


def test_old_rows_go_without_further_load(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for slot in range(0, 100_000, 10):
        store.submit(voted(slot))
    store.submit(*snapshot(99_999))
    store.submit(Promised(3001), Truncated(99_999))
    store.wait(store.write_no)
    for _ in range(10_000):
        if store.store.metrics.commits > 10_000 // TRUNCATE_ROWS:
            break
        store.read_piece(99_999, 0)  # once around the thread's loop
    store.close()
    recovered = recovered_from(tmp_path)
    assert recovered.records[-1] == Promised(3001)
    assert len(recovered.records) <= TRUNCATE_ROWS + 1


# Snapshots.


def test_pieces_of_the_durable_snapshot_are_read(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.write(*snapshot(5))
    assert [store.read_piece(5, index) for index in range(3)] == [*PIECES, None]
    assert store.read_piece(4, 0) is None
    store.write(*snapshot(9, PIECES[:1]))
    assert store.read_piece(5, 0) is None
    assert store.read_piece(9, 0) == PIECES[0]
    store.close()
    recovered = recovered_from(tmp_path)
    assert (recovered.snapshot, recovered.pieces) == (taken(9, PIECES[:1]), [PIECES[0]])


def test_an_unfinished_snapshot_does_not_count_and_is_cleared_away(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.write(*snapshot(5))
    store.write(SnapshotPiece(9, 0, PIECES[0]))
    store.close()
    recovered = recovered_from(tmp_path)
    assert (recovered.snapshot, recovered.findings) == (taken(5), [])
    assert rows_in(tmp_path, "SELECT slot, idx FROM pieces") == [(5, 0), (5, 1)]


def test_a_rotten_piece_is_not_sent(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.write(*snapshot(5))
    store.close()
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("UPDATE pieces SET data = x'00' WHERE idx = 1")
    connection.commit()
    connection.close()
    store = Store(tmp_path)
    recovered = store.open()
    assert (recovered.snapshot, recovered.snapshot_lost) == (None, 5)
    assert store.read_piece(5, 0) == PIECES[0]
    assert store.read_piece(5, 1) is None
    assert store.store.metrics.rotten_pieces == 1
    store.write(*snapshot(5))  # a peer has sent it
    store.close()
    assert recovered_from(tmp_path).findings == []


# Metrics.


def test_commit_times_fall_into_their_buckets() -> None:
    metrics = StoreMetrics()
    for seconds in (0.00005, 0.00015, 0.0003, 3.0, 4.0, 100.0):
        metrics.add_commit(seconds)
    assert [bucket for bucket, count in enumerate(metrics.commit_seconds) for _ in range(count)] == [
        0,
        1,
        2,
        15,
        16,
        16,
    ]
    assert [round(bound, 4) for bound in COMMIT_BUCKETS_S[:3]] == [0.0001, 0.0002, 0.0004]
    assert round(COMMIT_BUCKETS_S[-1], 4) == 3.2768
    assert metrics.commits == 6


def test_the_file_sizes_are_known(tmp_path: Path) -> None:
    store = new_store(tmp_path, space_check_s=0.0)
    store.write(voted(0))
    metrics = store.store.metrics
    assert metrics.wal_bytes >= 1000 * 4096  # grown at the start
    assert metrics.size_bytes > 0
    assert (metrics.rows_written, metrics.commits) == (1, 1)
    assert metrics.bytes_written > 30
    store.close()


def test_callbacks_arrive_through_the_given_door_only(tmp_path: Path) -> None:
    create(tmp_path, CLUSTER, NODE)
    calls: list[tuple[Any, ...]] = []
    arrived = Event()

    def call_from_thread(function: Any, *arguments: Any) -> None:
        calls.append((function, *arguments))
        arrived.set()

    def never(_: object) -> None:
        raise AssertionError("called in the writer thread")

    store = SqliteStore(
        tmp_path, CLUSTER, NODE, call_from_thread=call_from_thread, on_durable=never, on_full=never, on_failed=never
    )
    store.start().result(WAIT_S)
    store.submit(1, [voted(0)])
    assert arrived.wait(WAIT_S)
    store.close()
    assert store.join(WAIT_S)
    assert calls == [(never, 1)]


def rows_in(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path / DATABASE)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
