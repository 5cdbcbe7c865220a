"""What commands touch, and the conflict index against brute force over all instances that it was told of."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.apps.application import Application, Footprint
from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, Bank, BankOp
from paxos_twisted.core.command import BARRIER, NOOP, Command
from paxos_twisted.core.epaxos.conflicts import ConflictIndex
from paxos_twisted.core.epaxos.interference import EVERYTHING, NOTHING, Access, footprints_of, joined

N = 3
look = footprints_of(Bank())


def access(op: BankOp, client: int = 1) -> Access:
    (found,) = look(msgspec.msgpack.encode(Command(client, 0, 1, 1, op)), 1)
    return found


ROWS = {
    "deposits into one account": (BankOp(DEPOSIT, 1), BankOp(DEPOSIT, 1), True),
    "a deposit and a balance": (BankOp(DEPOSIT, 1), BankOp(BALANCE, 1), True),
    "two balances": (BankOp(BALANCE, 1), BankOp(BALANCE, 1), False),
    "other accounts": (BankOp(DEPOSIT, 1), BankOp(WITHDRAW, 2), False),
    "a transfer touches where it takes from": (BankOp(TRANSFER, 1, 5, 2), BankOp(BALANCE, 1), True),
    "a transfer touches where it pays into": (BankOp(TRANSFER, 1, 5, 2), BankOp(WITHDRAW, 2), True),
}


@pytest.mark.parametrize("row", ROWS)
def test_interference_of_transactions(row: str) -> None:
    one, other, expected = ROWS[row]
    assert access(one, 1).interferes(access(other, 2)) is expected
    assert access(other, 2).interferes(access(one, 1)) is expected


def test_commands_of_one_client_always_interfere() -> None:
    assert access(BankOp(BALANCE, 1), 7).interferes(access(BankOp(BALANCE, 2), 7))


def test_a_client_and_an_account_of_the_same_number_are_two_things() -> None:
    assert not access(BankOp(DEPOSIT, 7), 1).interferes(access(BankOp(DEPOSIT, 8), 7))


def test_a_barrier_interferes_with_everything_and_a_noop_with_nothing() -> None:
    barrier, noop = look(BARRIER + NOOP, 2)
    assert barrier.interferes(access(BankOp(BALANCE, 1)))
    assert barrier.interferes(barrier)
    assert not noop.interferes(barrier)
    assert noop == NOTHING


def test_a_batch_interferes_if_any_part_does() -> None:
    batch = joined([access(BankOp(BALANCE, 1), 1), access(BankOp(DEPOSIT, 2), 2)])
    assert batch.interferes(access(BankOp(BALANCE, 2), 9))
    assert batch.interferes(access(BankOp(DEPOSIT, 1), 9))
    assert not batch.interferes(access(BankOp(BALANCE, 1), 9))


def test_an_application_that_says_nothing_interferes_with_itself() -> None:
    class Unknown(Application):
        name, op_type, result_type, op_names = "unknown", int, int, ()

    assert Unknown().footprint(1) == Footprint(everything=True)
    body = msgspec.msgpack.encode(Command(1, 0, 1, 1, 3))
    assert footprints_of(Unknown())(body, 1) == [EVERYTHING]


def test_what_does_not_decode_is_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        look(b"\x01", 1)


keys = st.frozensets(st.sampled_from(["a", "b", "c", (1,), (2,)]), max_size=3)


@st.composite
def accesses(draw: st.DrawFn) -> Access:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return EVERYTHING
    writes = draw(keys)
    reads = draw(keys) - writes
    some = any(isinstance(key, str) for key in writes)
    return Access(reads, writes, kind == 1, False, some)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 6), st.integers(1, 5), accesses(), st.booleans())),
    accesses(),
)
def test_the_index_against_brute_force(known: list, new: Access) -> None:
    index = ConflictIndex(N)
    cells: dict = {}
    for replica, slot, seq, touched, is_executed in known:
        if (replica, slot) not in cells:
            cells[replica, slot] = (seq, touched, is_executed)
            index.add(replica, slot, seq, touched)
            if is_executed:
                index.on_executed(replica, slot, touched)
    against = {here: cell for here, cell in cells.items() if cell[1].interferes(new)}
    newest = [max((s for q, s in against if q == column), default=-1) for column in range(N)]
    executed = [
        max((s for (q, s), cell in against.items() if q == column and cell[2]), default=-1) for column in range(N)
    ]
    seq = max((cell[0] for cell in against.values()), default=0)
    # Only "everything" is kept coarser than keys: it never says less.
    assert index.newest(new) == newest
    assert index.newest_executed(new) == executed
    deps, first_seq = index.first_attributes(0, 99, new)
    assert deps == tuple(newest)
    assert first_seq == seq + 1
    sent = (3, 1, -1)
    merged, merged_seq = index.attributes(0, new, sent, 2)
    assert merged == ((3, max(1, newest[1]), max(-1, newest[2])) if not new.is_nothing else sent)
    assert merged_seq == (max(2, seq + 1) if not new.is_nothing else 2)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 6), accesses())),
    st.lists(st.integers(-1, 6), min_size=N, max_size=N),
    accesses(),
)
def test_below_the_floor_nothing_is_forgotten_that_a_new_instance_would_miss(
    known: list, floor: list, new: Access
) -> None:
    whole, swept = ConflictIndex(N), ConflictIndex(N)
    for replica, slot, touched in known:
        for index in (whole, swept):
            index.add(replica, slot, 1, touched)
    swept.lower(floor)
    swept.sweep(100)
    swept.sweep(100)
    if new.is_nothing:
        return
    mine, _ = swept.first_attributes(0, 99, new)
    theirs, _ = whole.first_attributes(0, 99, new)
    assert all(a >= b for a, b in zip(mine, theirs, strict=True))
    assert all(a <= max(b, f) for a, b, f in zip(mine, theirs, floor, strict=True))


def test_a_snapshot_keeps_the_index() -> None:
    index = ConflictIndex(N)
    index.add(1, 4, 3, Access(writes=frozenset({"a", (1,)}), writes_some=True))
    index.on_executed(1, 4, Access(writes=frozenset({"a", (1,)}), writes_some=True))
    index.add(2, 0, 9, EVERYTHING)
    index.promise((0, 1, -1))
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(index.saved()), type=type(index.saved()))
    other = ConflictIndex(N)
    other.merge(saved)
    assert other.saved() == index.saved()
    assert len(other) == 2


def test_too_many_keys_leave_a_blind_spot_that_is_known() -> None:
    index = ConflictIndex(N)
    index.add(0, 3, 1, Access(writes=frozenset({"a"}), writes_some=True))
    index.add(0, 9, 1, Access(writes=frozenset({"b"}), writes_some=True))
    index.drop_all((5, -1, -1))
    assert len(index) == 1
    assert index.blind == [5, -1, -1]
    assert index.first_attributes(1, 0, Access(writes=frozenset({"a"}), writes_some=True))[0] == (5, -1, -1)
