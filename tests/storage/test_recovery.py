"""What a start-up makes of a disk: cut, healed later, or refused. [protocol-rules 2.9, rules 49 to 53]"""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import PIECES, log_records, sealed, taken, voted

from paxos_twisted.core.records import Header, LogRecord, PeerSeen, Promised, Reached, SnapshotTaken
from paxos_twisted.storage.errors import StorageCorrupt
from paxos_twisted.storage.recovery import Recovered, Stored, StoredPiece, recover
from paxos_twisted.storage.seal import Last, Seal
from paxos_twisted.types import NO_SLOT, NodeId

SEAL = Seal("demo", NodeId(1), "5eed" * 8)
RECORDS: list[LogRecord] = [
    Promised(3001),
    voted(0),
    voted(10),
    Reached(19),
    voted(20),
    PeerSeen(NodeId(2), "other", 5),
    voted(30),
]
"""Records 1 to 7."""


class Disk:
    """A disk image that faults can be put into."""

    def __init__(self, records: list[LogRecord] = RECORDS, first: int = 1) -> None:
        self.rows = sealed(SEAL, records, first)
        header = records[-1].header if records else Header()
        self.last: Last | None = Last(first + len(records) - 1, header, len(records))
        self.taken: SnapshotTaken | bytes | None = None
        self.pieces: list[StoredPiece] = []
        self.durable = 0
        self.is_atomic = False

    def lose(self, *seqs: int) -> None:
        for seq in seqs:
            del self.rows[seq]

    def rot(self, *seqs: int) -> None:
        for seq in seqs:
            self.rows[seq] = self.rows[seq][:-1] + bytes([self.rows[seq][-1] ^ 1])

    def photograph(self, slot: int, contents: tuple[bytes, ...] = PIECES) -> None:
        self.pieces = [StoredPiece(slot, i, data, SEAL.piece_crc(slot, i, data)) for i, data in enumerate(contents)]
        self.taken = taken(slot, contents)
        assert self.last is not None
        self.last = Last(self.last.seq, self.last.header, self.last.count, slot)

    def start(self) -> Recovered:
        last = None if self.last is None else SEAL.seal_last(self.last)
        taken = SEAL.seal_taken(self.taken) if isinstance(self.taken, SnapshotTaken) else self.taken
        rows = sorted(self.rows.items())
        return recover(Stored(rows, last, taken, self.pieces, self.durable, self.is_atomic), SEAL)


def test_a_whole_log_comes_back_without_a_word() -> None:
    recovered = Disk().start()
    assert recovered.records == RECORDS
    assert (recovered.lost, recovered.findings) == ([], [])
    assert (recovered.last_seq, recovered.identity) == (7, "5eed" * 8)
    assert (recovered.snapshot, recovered.snapshot_lost) == (None, None)


def test_an_empty_log_comes_back_without_a_word() -> None:
    recovered = Disk([]).start()
    assert (recovered.records, recovered.findings, recovered.last_seq) == ([], [], 0)


def test_a_wholly_truncated_log_still_knows_its_last_number() -> None:
    disk = Disk([])
    disk.last = Last(40, voted(0).header, 0)
    assert disk.start().last_seq == 40


LOST = [
    pytest.param(2, "It held a vote of round 3001 for slots 0 to 9: the node is silent about them", id="a lost vote"),
    pytest.param(1, "It held the promise of round 3001, which is kept all the same", id="a lost promise"),
    pytest.param(4, "It held a hint that can be lost", id="a lost mark"),
    pytest.param(6, "It held a hint that can be lost", id="a lost peer"),
    pytest.param(7, "for slots 30 to 39: the node is silent about them", id="the last record is lost"),
]


@pytest.mark.parametrize("fault", [Disk.lose, Disk.rot])
@pytest.mark.parametrize(("seq", "sentence"), LOST)
def test_one_lost_record_is_known_by_its_header(seq: int, sentence: str, fault: Callable[[Disk, int], None]) -> None:
    disk = Disk()
    fault(disk, seq)
    recovered = disk.start()
    assert recovered.records == RECORDS[: seq - 1] + RECORDS[seq:]
    assert recovered.lost == [RECORDS[seq - 1].header]
    (finding,) = recovered.findings
    assert finding.startswith(f"record {seq} ")
    assert sentence in finding


def test_a_lost_vote_that_the_snapshot_covers_is_said_to_be_harmless() -> None:
    disk = Disk()
    disk.photograph(15)
    disk.lose(2)
    (finding,) = disk.start().findings
    assert "for slots 0 to 9, which the snapshot of slot 15 covers" in finding


def test_records_apart_are_lost_one_by_one() -> None:
    disk = Disk()
    disk.lose(2, 7)
    disk.rot(5)
    assert disk.start().lost == [RECORDS[1].header, RECORDS[4].header, RECORDS[6].header]


def test_two_lost_neighbours_are_a_lost_disk() -> None:
    disk = Disk()
    disk.lose(3)
    disk.rot(4)
    with pytest.raises(StorageCorrupt, match=r"neither record 3 nor the copy of its header can be read"):
        disk.start()


def test_a_longer_gap_is_named_as_one() -> None:
    disk = Disk()
    disk.lose(2, 3, 4, 5)
    with pytest.raises(StorageCorrupt, match=r"neither records 2 to 4 nor the copies of their headers"):
        disk.start()


def test_a_torn_write_is_cut() -> None:
    disk = Disk()
    disk.rows |= sealed(SEAL, [voted(40), voted(50)], 8)
    disk.rot(8)
    recovered = disk.start()
    assert recovered.records == RECORDS
    assert recovered.lost == []
    assert recovered.findings == ["cut records 8 to 9: being written when the node stopped, and nobody was told of it"]


def test_with_transactions_a_row_behind_the_last_one_is_corruption() -> None:
    disk = Disk()
    disk.rows |= sealed(SEAL, [voted(40)], 8)
    disk.is_atomic = True
    with pytest.raises(StorageCorrupt, match="found record 8 behind the last one, 7"):
        disk.start()


def test_an_acknowledged_end_is_never_cut() -> None:
    disk = Disk()
    disk.durable = 9
    with pytest.raises(
        StorageCorrupt, match=r"ends with record 7, but record 9 had been acknowledged: lost records 8 to 9"
    ):
        disk.start()


def test_a_log_beyond_the_proof_is_fine() -> None:
    disk = Disk()
    disk.durable = 3
    assert disk.start().findings == []


@pytest.mark.parametrize("last", [None, b"", b"rotten row"])
def test_without_the_last_row_nothing_can_be_told(last: bytes | None) -> None:
    with pytest.raises(StorageCorrupt, match="the row that names the last record"):
        recover(Stored([], last, None, []), SEAL)


def test_two_versions_of_the_truth_are_a_lost_disk() -> None:
    disk = Disk()
    disk.rows[3] = SEAL.seal(3, RECORDS[1].header, voted(10, rnd=1001))
    with pytest.raises(StorageCorrupt, match="record 3 and the copy of its header in record 4 disagree"):
        disk.start()


def test_an_old_last_row_is_noticed() -> None:
    disk = Disk()
    disk.last = Last(7, voted(20).header, 7)
    with pytest.raises(StorageCorrupt, match="the row that names the last record disagree"):
        disk.start()


def test_truncated_rows_that_are_still_there_do_not_count() -> None:
    disk = Disk()
    disk.last = Last(7, RECORDS[-1].header, 3)
    recovered = disk.start()
    assert recovered.records == RECORDS[4:]
    assert recovered.findings == ["deleted records 1 to 4: truncated before, but still there"]


def test_a_snapshot_comes_back_with_its_pieces() -> None:
    disk = Disk()
    disk.photograph(15)
    recovered = disk.start()
    assert recovered.snapshot == disk.taken
    assert recovered.pieces == list(PIECES)
    assert (recovered.snapshot_lost, recovered.findings) == (None, [])


def test_a_snapshot_of_nothing_is_a_snapshot() -> None:
    disk = Disk()
    disk.photograph(15, ())
    assert disk.start().snapshot == disk.taken


def lose_piece(disk: Disk) -> None:
    del disk.pieces[1]


def rot_piece(disk: Disk) -> None:
    disk.pieces[0] = StoredPiece(15, 0, PIECES[1], disk.pieces[0].crc)


def wrong_digest(disk: Disk) -> None:
    disk.taken = SnapshotTaken(15, 2, taken(15, PIECES[:1]).digest)


def undecodable_piece(disk: Disk) -> None:
    disk.pieces[0] = StoredPiece(15, 0, b"?", SEAL.piece_crc(15, 0, b"?"))


def no_description(disk: Disk) -> None:
    disk.taken = None


def rotten_description(disk: Disk) -> None:
    disk.taken = b"rot"


def old_description(disk: Disk) -> None:
    disk.taken = taken(5, ())


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lose_piece, "piece 1 of 2 of the snapshot of slot 15 is missing"),
        (rot_piece, "piece 0 of 2 of the snapshot of slot 15 has a wrong checksum"),
        (wrong_digest, "the snapshot of slot 15 does not have the digest"),
        (undecodable_piece, "a piece of the snapshot of slot 15 does not decode"),
        (no_description, "the snapshot of slot 15 has lost its description"),
        (rotten_description, "the description of the snapshot of slot 15 has a wrong checksum"),
        (old_description, "has the description of another one, of slot 5"),
    ],
)
def test_a_corrupt_snapshot_is_fetched_from_a_peer(fault: Callable[[Disk], None], sentence: str) -> None:
    disk = Disk()
    disk.photograph(15)
    fault(disk)
    recovered = disk.start()
    assert (recovered.snapshot, recovered.pieces, recovered.snapshot_lost) == (None, [], 15)
    (finding,) = recovered.findings
    assert sentence in finding
    assert "a peer has to send one before the node can serve" in finding
    assert recovered.records == RECORDS


@given(
    st.lists(log_records, max_size=12),
    st.lists(log_records, max_size=3),
    st.sets(st.integers(1, 12)),
    st.sets(st.integers(1, 12)),
    st.integers(0, 12),
)
def test_no_acknowledged_record_is_ever_forgotten(
    records: list[LogRecord], torn: list[LogRecord], missing: set[int], rotten: set[int], truncated: int
) -> None:
    """Each record is read back, or its header is in `lost`, or the node does not start. Nothing else is read."""
    disk = Disk(records)
    truncated = min(truncated, len(records))
    disk.last = Last(len(records), records[-1].header if records else Header(), len(records) - truncated)
    disk.rows |= sealed(SEAL, torn, len(records) + 1)
    disk.rot(*(rotten & disk.rows.keys()))
    disk.lose(*(missing & disk.rows.keys()))
    unreadable = {seq for seq in missing | rotten if truncated < seq <= len(records)}
    if any(seq + 1 in unreadable for seq in unreadable):
        with pytest.raises(StorageCorrupt):
            disk.start()
        return
    recovered = disk.start()
    kept = range(truncated + 1, len(records) + 1)
    assert recovered.records == [records[seq - 1] for seq in kept if seq not in unreadable]
    assert recovered.lost == [records[seq - 1].header for seq in sorted(unreadable)]
    cut = [finding for finding in recovered.findings if finding.startswith("cut")]
    assert len(cut) == any(seq > len(records) for seq in disk.rows)
    assert sum(finding.startswith("record ") for finding in recovered.findings) == len(unreadable)
    assert recovered.last.snapshot == NO_SLOT
