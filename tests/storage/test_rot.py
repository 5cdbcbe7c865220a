"""Bits change in the files of a node: nothing acknowledged is forgotten, and nothing is invented.

[protocol-rules 2.9, rules 51 to 53; scenarios 42 to 46, 50, 51]
"""

import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import CLUSTER, NODE, Store, new_store, snapshot, voted

from paxos_twisted.core.records import LogRecord, Promised, SnapshotPiece, SnapshotTaken
from paxos_twisted.storage.directory import DATABASE, PROOF, WAL
from paxos_twisted.storage.errors import StorageCorrupt
from paxos_twisted.storage.examine import examine
from paxos_twisted.storage.proof import encode_proof
from paxos_twisted.storage.recovery import Recovered

RECORDS: list[LogRecord] = [
    Promised(3001) if number % 5 == 0 else voted(number * 10, size=20 + 211 * number % 6000) for number in range(1, 41)
]
"""Records 1 to 40: small ones, and ones of more than a page."""

FRAME_HEADER = 24
FRAME = FRAME_HEADER + 4096


class Image:
    """A copy of the data directory of a node that was killed: what was committed is in the write-ahead file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def examine(self) -> Recovered:
        return examine(self.path, CLUSTER, NODE).recovered

    def flip(self, name: str, bit: int) -> None:
        data = bytearray((self.path / name).read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        (self.path / name).write_bytes(data)

    def frames(self) -> list[tuple[int, bool]]:
        """(where it starts, whether it ends a transaction) of each frame of the current round of the file."""
        wal = (self.path / WAL).read_bytes()
        salts, found = wal[16:24], []
        for start in range(32, len(wal) - FRAME + 1, FRAME):
            if wal[start + 8 : start + 16] != salts:
                break
            found.append((start, struct.unpack_from(">I", wal, start + 4)[0] != 0))
        return found

    def used_pages(self) -> list[int]:
        """Where the pages of the database start that hold more than the pointer of a free page."""
        database = (self.path / DATABASE).read_bytes()
        return [start for start in range(0, len(database), 4096) if database.count(0, start, start + 4096) < 4080]

    def prove(self, seq: int) -> None:
        identity = self.examine().identity
        (self.path / PROOF).write_bytes(encode_proof(seq, identity))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a node that was killed after 40 acknowledged records and a snapshot."""
    base = tmp_path_factory.mktemp("killed")
    store = new_store(base / "data")
    for record in RECORDS[:20]:
        store.write(record)
    store.write(*snapshot(55))
    for record in RECORDS[20:]:
        store.write(record)
    shutil.copytree(base / "data", base / "image")
    store.close()
    return base / "image"


@pytest.fixture(scope="module")
def stopped(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after a clean stop: everything is in the database file."""
    path = tmp_path_factory.mktemp("stopped") / "data"
    shutil.copytree(killed, path)
    store = Store(path)
    store.open()
    store.close()
    return path


@pytest.fixture
def image(killed: Path, tmp_path: Path) -> Image:
    shutil.copytree(killed, tmp_path / "data")
    return Image(tmp_path / "data")


@contextmanager
def copied(path: Path) -> Iterator[Image]:
    with TemporaryDirectory() as name:
        shutil.copytree(path, Path(name) / "data")
        yield Image(Path(name) / "data")


def transactions(frames: list[tuple[int, bool]]) -> list[list[int]]:
    """The starts of the frames, by transaction."""
    found: list[list[int]] = [[]]
    for start, is_commit in frames:
        found[-1].append(start)
        if is_commit:
            found.append([])
    return found[:-1]


def test_a_killed_node_finds_everything(image: Image) -> None:
    recovered = image.examine()
    assert recovered.records == RECORDS
    assert (recovered.findings, recovered.lost, recovered.last_seq) == ([], [], 40)
    assert recovered.snapshot is not None
    assert len(transactions(image.frames())) == 41


@pytest.mark.parametrize("number", [0, 1, 20, 38])
@pytest.mark.parametrize("place", [4, 8, 16, 20, FRAME_HEADER, FRAME_HEADER + 2000], ids=str)
def test_rot_inside_the_write_ahead_file_is_not_taken_for_its_end(image: Image, number: int, place: int) -> None:
    image.flip(WAL, (transactions(image.frames())[number][0] + place) * 8)
    before = {entry.name: entry.read_bytes() for entry in image.path.iterdir()}
    with pytest.raises(StorageCorrupt, match=r"frame \d+ of the write-ahead file node.db-wal is damaged"):
        image.examine()
    assert {entry.name: entry.read_bytes() for entry in image.path.iterdir()} == before


@pytest.mark.parametrize("place", [0, 16, FRAME_HEADER + 2000], ids=str)
def test_rot_in_the_last_acknowledged_transaction_shows_by_the_proof(image: Image, place: int) -> None:
    image.flip(WAL, (transactions(image.frames())[-1][0] + place) * 8)
    with pytest.raises(StorageCorrupt, match="ends with record 39, but record 40 had been acknowledged"):
        image.examine()


def test_rot_in_the_header_of_the_write_ahead_file_shows_by_the_proof(image: Image) -> None:
    image.flip(WAL, 18 * 8)
    with pytest.raises(StorageCorrupt, match="but record 40 had been acknowledged"):
        image.examine()


def test_a_torn_transaction_that_nobody_was_told_of_is_cut(image: Image) -> None:
    """Scenario 44: the power fails while the last transaction is being written."""
    image.prove(39)
    image.flip(WAL, (transactions(image.frames())[-1][0] + 2000) * 8)
    recovered = image.examine()
    assert recovered.records == RECORDS[:39]
    assert recovered.findings == []


def test_a_deleted_write_ahead_file_shows_by_the_proof(image: Image) -> None:
    (image.path / WAL).unlink()
    with pytest.raises(StorageCorrupt, match="but record 40 had been acknowledged"):
        image.examine()


def test_an_older_database_under_a_newer_proof_is_refused(killed: Path, image: Image) -> None:
    store = Store(image.path)
    store.open()
    store.write(voted(900))
    store.close()
    shutil.copyfile(killed / DATABASE, image.path / DATABASE)
    shutil.copyfile(killed / WAL, image.path / WAL)
    with pytest.raises(StorageCorrupt, match="ends with record 40, but record 41 had been acknowledged"):
        image.examine()


def test_a_copy_without_the_proof_is_refused(image: Image) -> None:
    (image.path / PROOF).unlink()
    with pytest.raises(StorageCorrupt, match="the proof file 'durable' is missing"):
        image.examine()


def test_a_rotten_proof_is_mended_when_the_log_is_whole(image: Image) -> None:
    image.flip(PROOF, 80)
    store = Store(image.path)
    recovered = store.open()
    store.close()
    assert recovered.records == RECORDS
    (finding,) = recovered.findings
    assert finding.startswith("the proof file 'durable' has a wrong checksum")
    assert image.examine().findings == []


def rotten_rows(path: Path, *seqs: int) -> None:
    connection = sqlite3.connect(path / DATABASE)
    for seq in seqs:
        (row,) = connection.execute("SELECT row FROM log WHERE seq = ?", (seq,)).fetchone()
        connection.execute("UPDATE log SET row = ? WHERE seq = ?", (row[:5] + bytes([row[5] ^ 16]) + row[6:], seq))
    connection.commit()
    connection.close()


def test_a_rotten_row_is_lost_until_healed_and_the_node_goes_on(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "data")
    rotten_rows(tmp_path / "data", 7, 40)
    store = Store(tmp_path / "data")
    recovered = store.open()
    assert recovered.lost == [RECORDS[6].header, RECORDS[39].header]
    assert len(recovered.records) == 38
    store.write(voted(900))
    store.close()
    recovered = Image(tmp_path / "data").examine()
    assert recovered.records[-1] == voted(900)
    assert recovered.lost == [RECORDS[6].header, RECORDS[39].header]


def test_two_rotten_neighbours_are_a_lost_disk(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "data")
    rotten_rows(tmp_path / "data", 7, 8)
    with pytest.raises(StorageCorrupt, match="neither record 7 nor the copy of its header can be read"):
        Store(tmp_path / "data").open()


def check_is_safe(image: Image) -> str:
    """A start-up either refuses, or knows each record, or knows which one it has lost."""
    try:
        recovered = image.examine()
    except StorageCorrupt:
        return "refused"
    assert recovered.last_seq == 40
    unread = iter(recovered.records)
    lost = iter(recovered.lost)
    current = next(unread, None)
    for record in RECORDS:
        if record == current:
            current = next(unread, None)
        else:
            assert next(lost) == record.header
    assert current is None
    assert next(lost, None) is None
    assert len(recovered.findings) == len(recovered.lost) + (recovered.snapshot_lost is not None)
    if recovered.snapshot_lost is None:
        *pieces, taken = snapshot(55)
        assert isinstance(taken, SnapshotTaken)
        assert recovered.snapshot == taken
        assert recovered.pieces == [piece.data for piece in pieces if isinstance(piece, SnapshotPiece)]
    return "healed" if recovered.findings else "untouched"


@pytest.mark.parametrize("name", [DATABASE, WAL])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_bit_anywhere(killed: Path, stopped: Path, name: str, data: st.DataObject) -> None:
    with copied(stopped if name == DATABASE else killed) as image:
        # Most of both files is free space, for a fast start.
        used = image.used_pages() if name == DATABASE else [start for start, _ in image.frames()]
        image.flip(name, data.draw(st.sampled_from(used)) * 8 + data.draw(st.integers(0, 4096 * 8 - 1)))
        check_is_safe(image)


@settings(max_examples=30)
@given(data=st.data())
def test_one_lost_page_write(killed: Path, stopped: Path, data: st.DataObject) -> None:
    """A page of the database that never reached the disk, although the disk said so: zeros, or another page."""
    with copied(stopped) as image:
        database = bytearray((image.path / DATABASE).read_bytes())
        pages = len(database) // 4096
        page = data.draw(st.integers(0, pages - 1))
        other = data.draw(st.integers(0, pages))
        contents = bytes(4096) if other == pages else database[other * 4096 : other * 4096 + 4096]
        database[page * 4096 : page * 4096 + 4096] = contents
        (image.path / DATABASE).write_bytes(database)
        check_is_safe(image)
