"""Sealed rows: what was written comes back, and anything else is noticed. [protocol-rules 2.9, rule 51]"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import headers, log_records, voted

from paxos_twisted.core.records import Header, LogRecord, SnapshotTaken
from paxos_twisted.storage.errors import RotError
from paxos_twisted.storage.proof import decode_proof, encode_proof
from paxos_twisted.storage.seal import FORMAT, About, Last, Seal, seal_about, unseal_about
from paxos_twisted.types import NodeId

SEAL = Seal("demo", NodeId(1), "5eed" * 8)


@given(st.integers(1, 2**62), headers, log_records)
def test_a_row_comes_back(seq: int, previous: Header, record: LogRecord) -> None:
    assert SEAL.unseal(SEAL.seal(seq, previous, record), seq) == (previous, record)


@pytest.mark.fuzz
@given(st.integers(1, 2**40), headers, log_records, st.data())
def test_every_flipped_bit_is_noticed(seq: int, previous: Header, record: LogRecord, data: st.DataObject) -> None:
    row = bytearray(SEAL.seal(seq, previous, record))
    bit = data.draw(st.integers(0, len(row) * 8 - 1))
    row[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RotError, match="checksum"):
        SEAL.unseal(bytes(row), seq)


def test_every_bit_of_one_row_is_guarded() -> None:
    row = SEAL.seal(7, voted(0).header, voted(10))
    for bit in range(len(row) * 8):
        rotten = bytearray(row)
        rotten[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RotError):
            SEAL.unseal(bytes(rotten), 7)


@pytest.mark.fuzz
@given(log_records, st.data())
def test_every_cut_is_noticed(record: LogRecord, data: st.DataObject) -> None:
    row = SEAL.seal(7, Header(), record)
    stop = data.draw(st.integers(0, len(row) - 1))
    with pytest.raises(RotError):
        SEAL.unseal(row[:stop], 7)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Seal("demo2", NodeId(1), "5eed" * 8), id="a row of another cluster is rot"),
        pytest.param(Seal("demo", NodeId(2), "5eed" * 8), id="a row of another node is rot"),
        pytest.param(Seal("demo", NodeId(1), "5eee" * 8), id="a row of an earlier data directory of the node is rot"),
    ],
)
def test_misplaced_rows_show(other: Seal) -> None:
    with pytest.raises(RotError, match="checksum"):
        SEAL.unseal(other.seal(7, Header(), voted(10)), 7)


def test_a_row_in_the_place_of_another_shows() -> None:
    with pytest.raises(RotError, match="holds record 7 instead"):
        SEAL.unseal(SEAL.seal(7, Header(), voted(10)), 8)


def test_a_row_of_another_kind_shows() -> None:
    with pytest.raises(RotError):
        SEAL.unseal_last(SEAL.seal_taken(SnapshotTaken(9, 1, "d")))
    with pytest.raises(RotError):
        SEAL.unseal_taken(SEAL.seal_last(Last(9, Header(), 1)))


@given(st.integers(0, 2**40), headers, st.integers(0, 1000), st.integers(-1, 2**40))
def test_the_small_rows_come_back(seq: int, header: Header, count: int, snapshot: int) -> None:
    last = Last(seq, header, count, snapshot)
    assert SEAL.unseal_last(SEAL.seal_last(last)) == last
    taken = SnapshotTaken(snapshot, count, "digest")
    assert SEAL.unseal_taken(SEAL.seal_taken(taken)) == taken


def test_whose_directory_it_is_can_be_read_without_knowing_it() -> None:
    about = About(FORMAT, "demo", NodeId(3), "5eed" * 8)
    row = seal_about(about)
    assert unseal_about(row) == about
    with pytest.raises(RotError):
        unseal_about(row[:-1] + b"!")


def test_a_sealed_row_has_these_bytes() -> None:
    """docs/log-format.md shows this row. Another result means another FORMAT."""
    row = SEAL.seal(2, Header(rnd=1001), voted(0, count=2, size=2, rnd=1001))
    assert row.hex(" ") == ("93 02 93 ff 00 cd 03 e9 96 02 cd 03 e9 00 02 c4 02 30 2e ff " + row[-4:].hex(" "))
    assert msgspec.msgpack.decode(row[:-4]) == [2, [-1, 0, 1001], [2, 1001, 0, 2, b"0.", -1]]


@given(st.integers(0, 2**63), st.data())
def test_the_proof_comes_back_or_shows(seq: int, data: st.DataObject) -> None:
    proof = encode_proof(seq, "5eed")
    assert decode_proof(proof, "5eed") == seq
    rotten = bytearray(proof)
    bit = data.draw(st.integers(0, len(proof) * 8 - 1))
    rotten[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(rotten), proof[:-1], b"", proof + b"\0"):
        with pytest.raises(RotError):
            decode_proof(wrong, "5eed")
    with pytest.raises(RotError):
        decode_proof(proof, "5eee")
