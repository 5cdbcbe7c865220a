"""The simulated disk: a crash takes what was not synced, and nothing else; the shipped recovery judges what is left."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.core.engine import DiskState
from paxos_twisted.core.records import Promised, Record, SnapshotPiece, SnapshotTaken, Truncated, Voted
from paxos_twisted.core.replicated import digest_of
from paxos_twisted.sim.disk import FULL_RETRY_MS, SimDisk
from paxos_twisted.sim.scheduler import Scheduler
from paxos_twisted.storage.errors import StorageCorrupt, StoreMissing
from paxos_twisted.types import NodeId

NODE = NodeId(1)


class Process:
    def __init__(self, seed: int = 0, *, is_formatted: bool = True) -> None:
        self.scheduler = Scheduler()
        self.durable: list[Record] = []
        self.disk = SimDisk(NODE, self.scheduler, random.Random(seed), self.note)
        if is_formatted:
            self.disk.format("identity")
        self.events: list[str | int] = []
        self.write_no = 0

    def note(self, node: NodeId, records: Sequence[Record]) -> None:
        self.durable.extend(records)

    def persisted(self, write_no: int) -> None:
        self.events.append(write_no)

    def disk_changed(self, state: DiskState) -> None:
        self.events.append(state.value)

    def disk_failed(self, reason: str) -> None:
        self.events.append(reason)

    def hand_over(self, action: Callable[[], None]) -> None:
        action()

    def submit(self, *records: Record) -> None:
        self.write_no += 1
        self.disk.submit(self.write_no, records)

    def run(self, ms: int) -> None:
        self.scheduler.run(self.scheduler.now_ms + ms, 10_000)


def votes(start: int, stop: int) -> list[Record]:
    return [Voted(1001, slot, 1, b"\xc0", -1) for slot in range(start, stop)]


def test_an_empty_disk_is_no_first_start() -> None:
    process = Process(is_formatted=False)
    with pytest.raises(StoreMissing):
        process.disk.open(process)


def test_what_gathers_during_a_commit_goes_into_the_next_one() -> None:
    process = Process()
    process.disk.open(process)
    for record in votes(0, 5):
        process.submit(record)
    process.run(20)
    assert process.events == [1, 5]
    assert process.disk.commits == 2
    process.disk.kill()
    assert process.disk.open(process).records == votes(0, 5)


@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 12), st.booleans())
def test_a_crash_keeps_what_was_told_to_be_durable(seed: int, sizes: list[int], ms: int, is_power: bool) -> None:
    process = Process(seed)
    process.disk.open(process)
    submitted: list[Record] = []
    for size in sizes:
        records = votes(len(submitted), len(submitted) + size)
        submitted.extend(records)
        process.submit(*records)
        process.run(1)
    process.run(ms)
    told = max((event for event in process.events if isinstance(event, int)), default=0)
    (process.disk.cut_power if is_power else process.disk.kill)()
    recovered = process.disk.open(process)
    assert recovered.records == process.durable
    assert recovered.records == submitted[: len(recovered.records)]
    assert len(recovered.records) >= sum(sizes[:told])
    assert recovered.lost == []


@given(st.integers(0, 10**6))
def test_one_flipped_bit_never_invents_a_record(seed: int) -> None:
    process = Process(seed)
    process.disk.open(process)
    process.submit(Promised(1001), *votes(0, 6))
    process.run(20)
    process.disk.kill()
    assert process.disk.rot(random.Random(seed))
    recovered = process.disk.open(process)
    assert len(recovered.records) == 6
    assert len(recovered.lost) == 1
    assert all(record in process.durable for record in recovered.records)


def test_a_full_disk_says_so_once_and_goes_on_by_itself() -> None:
    process = Process()
    process.disk.open(process)
    process.disk.is_full = True
    process.submit(*votes(0, 1))
    process.run(5 * FULL_RETRY_MS)
    assert process.events == ["full"]
    process.disk.is_full = False
    process.run(2 * FULL_RETRY_MS)
    assert process.events == ["full", "good", 1]


def test_a_failed_write_is_told_and_never_confirmed() -> None:
    process = Process()
    process.disk.open(process)
    process.disk.fails_next = True
    process.submit(*votes(0, 1))
    process.run(50)
    assert process.events == ["a write failed: disk I/O error"]
    assert process.disk.has_failed


def test_a_slow_disk_takes_longer() -> None:
    process = Process()
    process.disk.open(process)
    process.disk.factor = 100
    process.submit(*votes(0, 1))
    process.run(90)
    assert process.events == []
    process.run(300)
    assert process.events == [1]


def test_truncation_follows_a_durable_snapshot() -> None:
    process = Process()
    process.disk.open(process)
    process.submit(*votes(0, 40))
    process.run(20)
    taken = SnapshotTaken(39, 1, digest_of(39, [b"\x90"]))
    process.submit(SnapshotPiece(39, 0, b"\x90"), taken)
    process.run(20)
    process.submit(Promised(1001), Truncated(39))
    process.run(200)
    pieces: list[bytes | None] = []
    process.disk.read_piece(39, 0, pieces.append)
    process.disk.read_piece(38, 0, pieces.append)
    process.run(10)
    assert pieces == [b"\x90", None]
    process.disk.kill()
    recovered = process.disk.open(process)
    assert recovered.records == [Promised(1001)]
    assert recovered.snapshot == taken


def test_an_old_copy_is_older_by_its_last_record() -> None:
    process = Process()
    process.disk.open(process)
    process.submit(*votes(0, 2))
    process.run(20)
    backup = process.disk.backup()
    process.submit(*votes(2, 6))
    process.run(20)
    process.disk.kill()
    process.disk.restore(backup)
    assert process.disk.open(process).last_seq == 2


def test_a_lost_proof_is_corruption() -> None:
    process = Process()
    assert process.disk.image is not None
    process.disk.image.last = b"rotten"
    with pytest.raises(StorageCorrupt):
        process.disk.open(process)
