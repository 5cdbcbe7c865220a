"""What the storage tests share: records, and a store whose callbacks land in queues instead of a reactor."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
from hypothesis import strategies as st

from paxos_twisted.core.records import (
    Chosen,
    Header,
    LogRecord,
    PeerSeen,
    Promised,
    Reached,
    Record,
    SnapshotPiece,
    SnapshotTaken,
    Voted,
)
from paxos_twisted.core.replicated import digest_of
from paxos_twisted.storage.directory import create
from paxos_twisted.storage.recovery import Recovered
from paxos_twisted.storage.seal import Seal
from paxos_twisted.storage.sqlite_store import SqliteStore
from paxos_twisted.types import NodeId

CLUSTER, NODE = "demo", NodeId(1)
WAIT_S = 20.0
"""Longer than any step takes, so that a broken store fails a test instead of hanging it."""

rounds = st.integers(-1, 2**40)
slots = st.integers(0, 2**40)
log_records: st.SearchStrategy[LogRecord] = st.one_of(
    st.builds(Promised, rnd=rounds),
    st.builds(Voted, rounds, slots, st.integers(1, 500), st.binary(max_size=300), st.integers(-1, 2**40)),
    st.builds(Chosen, slots, st.integers(1, 500), st.binary(max_size=300)),
    st.builds(Reached, adu=st.integers(-1, 2**40)),
    st.builds(PeerSeen, st.integers(1, 9).map(NodeId), st.text(max_size=40), st.integers(0, 2**40)),
)
headers = st.builds(Header, st.integers(-1, 2**40), st.integers(0, 500), rounds)


def voted(slot: int, count: int = 10, size: int = 30, rnd: int = 3001) -> Voted:
    """A vote for `count` slots from `slot` on, with recognisable values."""
    return Voted(rnd, slot, count, (b"%d." % slot).ljust(size, b"x"), slot - 1)


PIECES = tuple(msgspec.msgpack.encode([(0, b"rows %d" % number)]) for number in range(2))
"""Two pieces of a snapshot, as the replicated state makes them."""


def taken(slot: int, pieces: Sequence[bytes] = PIECES) -> SnapshotTaken:
    """The record that makes `pieces` the snapshot of `slot`."""
    return SnapshotTaken(slot, len(pieces), digest_of(slot, pieces))


def snapshot(slot: int, pieces: Sequence[bytes] = PIECES) -> list[Record]:
    """A whole snapshot, as a node writes it."""
    return [*(SnapshotPiece(slot, index, piece) for index, piece in enumerate(pieces)), taken(slot, pieces)]


def sealed(seal: Seal, records: list[LogRecord], first: int = 1) -> dict[int, bytes]:
    """The rows of consecutive records."""
    rows, previous = {}, Header()
    for seq, record in enumerate(records, first):
        rows[seq] = seal.seal(seq, previous, record)
        previous = record.header
    return rows


class Store:
    """A real store in a directory, driven without a reactor: callbacks run in the writer thread and fill queues."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.durable: SimpleQueue[int] = SimpleQueue()
        self.full: SimpleQueue[bool] = SimpleQueue()
        self.failed: SimpleQueue[BaseException] = SimpleQueue()
        self.calls: list[str] = []
        self.write_no = 0
        self.store = SqliteStore(
            path,
            CLUSTER,
            NODE,
            call_from_thread=self._call,
            on_durable=self.durable.put,
            on_full=self.full.put,
            on_failed=self.failed.put,
            **{"reserve_bytes": 0, "retry_s": 0.01, **options},
        )

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        self.calls.append(getattr(function, "__qualname__", "?"))
        function(*arguments)

    def open(self) -> Recovered:
        return self.store.open()

    def submit(self, *records: Record) -> int:
        self.write_no += 1
        self.store.submit(self.write_no, records)
        return self.write_no

    def wait(self, write_no: int) -> list[int]:
        """Wait until `write_no` is durable; return what `on_durable` was called with."""
        seen = []
        while not seen or seen[-1] < write_no:
            seen.append(self.durable.get(timeout=WAIT_S))
        return seen

    def write(self, *records: Record) -> None:
        self.wait(self.submit(*records))

    def read_piece(self, slot: int, index: int) -> bytes | None:
        answer: SimpleQueue[bytes | None] = SimpleQueue()
        self.store.read_piece(slot, index, answer.put)
        return answer.get(timeout=WAIT_S)

    def close(self) -> None:
        self.store.close()
        assert self.store.join(WAIT_S)


def new_store(path: Path, **options: Any) -> Store:
    """A store in a new data directory, opened."""
    create(path, CLUSTER, NODE)
    store = Store(path, **options)
    store.open()
    return store


def recovered_from(path: Path) -> Recovered:
    """Start a node on `path`, as it is, and stop it again."""
    store = Store(path)
    recovered = store.open()
    store.close()
    return recovered


def sqlite_error(text: str, code: int) -> sqlite3.OperationalError:
    """An error as SQLite reports it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error
