"""What one transaction contains: numbers, seals, snapshots, and which deletions."""

import pytest
from stores import PIECES, snapshot, taken, voted

from paxos_twisted.core.records import Header, Promised, Record, SnapshotPiece, Truncated
from paxos_twisted.storage.recovery import Recovered, Stored, recover
from paxos_twisted.storage.seal import Last, Seal
from paxos_twisted.storage.transaction import Planner, Transaction, Write
from paxos_twisted.types import NodeId

SEAL = Seal("demo", NodeId(1), "5eed" * 8)


EMPTY = Last()


def recovered(last: Last = EMPTY) -> Recovered:
    return recover(Stored([], SEAL.seal_last(last), None, []), SEAL)


def planner() -> Planner:
    return Planner(SEAL, recovered(), [])


def plan(a_planner: Planner, *records: Record) -> Transaction:
    return a_planner.plan([Write(1, records, 0)])


def test_records_get_consecutive_numbers_and_the_header_of_the_one_before() -> None:
    a_planner = planner()
    first = plan(a_planner, voted(0), Promised(4002))
    second = plan(a_planner, voted(10))
    (row1, row2), (row3,) = first.rows, second.rows
    assert (row1[0], row2[0], row3[0]) == (1, 2, 3)
    assert SEAL.unseal(row1[1], 1) == (Header(), voted(0))
    assert SEAL.unseal(row2[1], 2) == (voted(0).header, Promised(4002))
    assert SEAL.unseal(row3[1], 3) == (Header(rnd=4002), voted(10))
    assert SEAL.unseal_last(second.last) == Last(3, voted(10).header, 3)


def test_a_truncation_beyond_the_snapshot_is_our_error() -> None:
    a_planner = planner()
    plan(a_planner, voted(0), *snapshot(5))
    with pytest.raises(AssertionError, match="truncation at 6 beyond snapshot 5"):
        plan(a_planner, Truncated(6))


def test_a_snapshot_without_all_its_pieces_is_our_error() -> None:
    a_planner = planner()
    plan(a_planner, SnapshotPiece(5, 1, PIECES[1]))
    with pytest.raises(AssertionError, match="not all 2 pieces are written"):
        plan(a_planner, taken(5))


def test_what_is_written_with_a_truncation_stays() -> None:
    a_planner = planner()
    plan(a_planner, voted(0), Promised(4002), voted(10))
    plan(a_planner, *snapshot(9))
    transaction = plan(a_planner, Promised(4002), Truncated(9))
    assert transaction.delete_rows == 0  # row 3 speaks of slots above, and they are one block
    plan(a_planner, *snapshot(19))
    transaction = plan(a_planner, Promised(4002), Truncated(19))
    assert transaction.delete_rows == 4
    assert SEAL.unseal_last(transaction.last) == Last(5, Header(rnd=4002), 1, 19)


def test_a_newer_snapshot_replaces_the_old_one_in_portions() -> None:
    a_planner = planner()
    plan(a_planner, *snapshot(5))
    plan(a_planner, SnapshotPiece(7, 0, PIECES[0]))  # given up
    deleted = plan(a_planner, *snapshot(9)).delete_pieces
    while a_planner.has_leftovers:
        deleted += a_planner.plan([]).delete_pieces
    assert deleted == [(5, 0), (5, 1), (7, 0)]


def test_a_snapshot_that_is_not_newer_is_not_kept() -> None:
    a_planner = planner()
    plan(a_planner, *snapshot(5))
    for slot in (4, 5):
        transaction = plan(a_planner, *snapshot(slot))
        assert (transaction.pieces, transaction.taken) == ([], None)
    assert a_planner.snapshot == 5


def test_a_lost_snapshot_is_replaced_by_one_of_its_slot_but_not_below() -> None:
    a_planner = Planner(SEAL, recovered(Last(0, Header(), 0, 5)), [(5, 0), (5, 1)])
    assert plan(a_planner, *snapshot(4)).taken is None
    assert plan(a_planner, *snapshot(5)).taken is not None
    assert not a_planner.has_leftovers
    assert plan(a_planner, *snapshot(5)).taken is None
