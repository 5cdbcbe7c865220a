"""The replicated state: order, exactly once, pictures, and installing a picture elsewhere. [EQ, XO, rule 28]"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, Bank, BankOp, BankResult
from paxos_twisted.core.command import NOOP, Command, array_of
from paxos_twisted.core.replicated import (
    PIECE_BYTES_TARGET,
    ReplicatedState,
    SnapshotError,
    digest_of,
    is_refusal,
    pieces_of,
)
from paxos_twisted.core.sessions import Refusal
from paxos_twisted.limits import SESSION_WINDOW, SHARDS, SNAPSHOT_PIECE_BYTES_MAX
from paxos_twisted.types import ClientId

EXPIRY = 100_000

BankCommand = Command[BankOp]


def a_state(expiry_slots: int = EXPIRY) -> ReplicatedState:
    return ReplicatedState(Bank(), expiry_slots)


def command(seq: int, op: BankOp, client: int = 7, ack: int = 1) -> BankCommand:
    return BankCommand(client=ClientId(client), birth=-1, seq=seq, ack=ack, op=op)


def digest(state: ReplicatedState) -> str:
    return digest_of(state.applied, list(pieces_of(state)))


def contents(state: ReplicatedState) -> list[list[tuple[Any, Any]]]:
    """Everything in the tables, as values that later writes do not change."""
    rows = msgspec.msgpack.encode([list(table.items()) for table in state.tables()])
    return msgspec.msgpack.decode(rows)  # type: ignore[no-any-return]


def copy_of(state: ReplicatedState) -> ReplicatedState:
    """Another replica that installed the picture of `state`."""
    other = a_state()
    other.install(state.applied, list(pieces_of(state)), digest(state))
    return other


# --- Applying


def test_commands_are_applied_in_slot_order_and_a_failed_one_takes_its_slot() -> None:  # [L5-72, L5-82]
    state = a_state()
    results = state.apply(
        0,
        [
            command(1, BankOp(WITHDRAW, 17, 5)),
            command(2, BankOp(DEPOSIT, 17, 9)),
            None,
            command(3, BankOp(WITHDRAW, 17, 5)),
        ],
    )
    assert results == [
        BankResult(17, 0, "not enough funds: account 17 holds 0, 5 was requested"),
        BankResult(17, 9),
        None,
        BankResult(17, 4),
    ]
    assert state.applied == 3
    assert (state.commands_applied, state.noops, state.duplicates) == (3, 1, 0)


def test_a_no_op_moves_only_the_position() -> None:  # [L5-80]
    state = a_state()
    before = contents(state)
    assert state.apply(0, [None]) == [None]
    assert state.applied == 0
    assert contents(state) == before


def test_nothing_is_applied_at_first() -> None:  # [L5-75]
    assert a_state().applied == -1


def test_a_command_that_is_decided_twice_changes_the_accounts_once() -> None:
    state = a_state()
    deposit = command(1, BankOp(DEPOSIT, 17, 100))
    assert state.apply(0, [deposit, deposit]) == [BankResult(17, 100)] * 2
    assert state.apply(2, [deposit]) == [BankResult(17, 100)]
    assert state.duplicates == 2
    assert dict(state.application.accounts.items()) == {17: 100}  # type: ignore[attr-defined]


def test_a_refusal_by_the_session_table_is_not_an_answer_of_the_bank() -> None:
    state = a_state()
    refused, answered = state.apply(
        0, [command(SESSION_WINDOW + 1, BankOp(DEPOSIT, 1, 1)), command(1, BankOp(BALANCE, 1))]
    )
    assert is_refusal(refused)
    assert isinstance(refused, Refusal)
    assert not is_refusal(answered)
    assert answered == BankResult(1, 0), "the refused deposit was executed"


@pytest.mark.parametrize("slot", [-1, 0, 2, 3])
def test_a_slot_out_of_order_is_a_bug_of_ours(slot: int) -> None:
    state = a_state()
    state.apply(0, [None])
    with pytest.raises(AssertionError, match="not the next"):
        state.apply(slot, [None])


def test_a_session_expires_at_the_same_slot_whatever_the_batches_were() -> None:
    one, other = a_state(expiry_slots=10), a_state(expiry_slots=10)
    opening = [command(1, BankOp(DEPOSIT, 1, 1), client=0)]
    rest: list[BankCommand | None] = [None] * (SHARDS * SHARDS)
    one.apply(0, [*opening, *rest])
    other.apply(0, opening)
    for slot in range(1, len(rest) + 1, 1000):
        other.apply(slot, rest[slot - 1 : slot + 999])
    assert one.applied == other.applied
    assert len(one.sessions) == len(other.sessions) == 0
    assert digest(one) == digest(other)


def test_the_decoder_takes_a_run_with_no_ops_as_it_travels() -> None:
    first, last = command(1, BankOp(DEPOSIT, 1, 5)), command(2, BankOp(WITHDRAW, 1, 3))
    run = msgspec.msgpack.encode(first) + NOOP + msgspec.msgpack.encode(last)
    assert a_state().decoder.decode(array_of(run, 3)) == [first, None, last]


# --- Pictures

ops = st.builds(
    BankOp,
    st.sampled_from([BALANCE, DEPOSIT, DEPOSIT, WITHDRAW, TRANSFER, 9]),
    st.sampled_from([0, 1, 1024, 1025, 5000]),
    st.integers(-1, 100),
    st.sampled_from([0, 1, 1024, 1025]),
)
histories = st.lists(
    st.one_of(
        st.none(),
        st.builds(command, st.integers(1, 12), ops, st.sampled_from([3, 4, 3 + SHARDS, 2**63 - 1]), st.integers(1, 4)),
    ),
    min_size=1,
    max_size=40,
)
cuts = st.lists(st.integers(0, 40), max_size=5).map(sorted)


def play(state: ReplicatedState, history: Sequence[BankCommand | None], cuts: Sequence[int]) -> list[Any]:
    """Apply a history in batches that end at `cuts`."""
    results: list[Any] = []
    for start, stop in zip([0, *cuts], [*cuts, len(history)], strict=True):
        results += state.apply(state.applied + 1, history[start:stop])
    return results


@given(histories, cuts, cuts)
def test_replicas_with_equal_slots_are_equal_whatever_the_batches_were(  # [EQ]
    history: list[BankCommand | None], cuts: list[int], other_cuts: list[int]
) -> None:
    one, other = a_state(), a_state()
    assert play(one, history, cuts) == play(other, history, other_cuts)
    assert digest(one) == digest(other)


@given(histories, histories, st.integers(0, 8))
def test_a_picture_shows_the_slot_at_which_it_was_started_whatever_is_applied_meanwhile(
    before: list[BankCommand | None], after: list[BankCommand | None], pieces_first: int
) -> None:
    state, quiet = a_state(), a_state()
    play(state, before, [])
    play(quiet, before, [])
    picture = state.photograph()
    taken = []
    for cmd in after:
        if pieces_first:
            pieces_first -= 1
            taken.append(picture.next_piece())
        state.apply(state.applied + 1, [cmd])
    while (piece := picture.next_piece()) is not None:
        taken.append(piece)
    assert picture.slot == quiet.applied
    assert [piece for piece in taken if piece is not None] == list(pieces_of(quiet))
    assert picture.digest() == digest(quiet)


@given(histories, histories)
def test_a_replica_that_installed_a_picture_goes_on_like_the_others(  # [rule 28, scenario 25]
    before: list[BankCommand | None], after: list[BankCommand | None]
) -> None:
    state = a_state()
    play(state, before, [])
    other = copy_of(state)
    assert contents(other) == contents(state)
    assert digest(other) == digest(state)
    assert play(other, after, []) == play(state, after, [])
    assert digest(other) == digest(state)


def test_two_states_that_differ_in_anything_have_different_digests() -> None:
    deposit = command(1, BankOp(DEPOSIT, 17, 100))
    histories: list[list[BankCommand | None]] = [
        [None],
        [None, None],
        [deposit],
        [command(1, BankOp(DEPOSIT, 17, 101))],
        [command(1, BankOp(DEPOSIT, 18, 100))],
        [command(2, BankOp(DEPOSIT, 17, 100))],
        [command(1, BankOp(DEPOSIT, 17, 100), client=8)],
        [command(2, BankOp(DEPOSIT, 17, 100), ack=2)],
        [deposit, deposit],
    ]
    digests = set()
    for history in histories:
        state = a_state()
        play(state, history, [])
        digests.add(digest(state))
    assert len(digests) == len(histories)


def test_the_same_part_in_another_table_has_another_digest() -> None:
    assert digest_of(0, [encoded((0, [[1, 2]]))]) != digest_of(0, [encoded((1, [[1, 2]]))])


def test_the_digest_does_not_depend_on_how_parts_are_spread_over_pieces() -> None:
    state = a_state()
    play(state, [command(seq, BankOp(DEPOSIT, seq, 1)) for seq in range(1, 30)], [])
    picture = state.photograph()
    pieces = []
    while (piece := picture.next_piece(parts_max=1)) is not None:
        pieces.append(piece)
    assert len(pieces) > len(list(pieces_of(state)))
    assert picture.digest() == digest_of(state.applied, pieces) == digest(state)


@pytest.mark.parametrize("to", [2, 1 + SHARDS], ids=["into another part", "inside one part"])
def test_a_picture_of_the_moment_before_a_transfer_shows_neither_side_of_it(to: int) -> None:
    state = a_state()
    play(state, [command(1, BankOp(DEPOSIT, 1, 100)), command(2, BankOp(DEPOSIT, to, 1))], [])
    before = digest(state)
    picture = state.photograph()
    play(state, [command(3, BankOp(TRANSFER, 1, 60, to))], [])
    while picture.next_piece() is not None:
        pass
    assert picture.digest() == before


def test_a_released_picture_costs_writes_nothing_more() -> None:
    state = a_state()
    picture = state.photograph()
    picture.release()
    picture.release()
    assert not any(table._photographs for table in state.tables())


def test_pieces_stay_far_below_their_limit_and_together_hold_every_row() -> None:
    state = a_state()
    accounts = state.application.accounts  # type: ignore[attr-defined]
    for account in range(100_000):
        accounts.writable(account)[account] = 10**12 + account
    pieces = list(pieces_of(state))
    assert len(pieces) > 3
    assert all(len(piece) < 2 * PIECE_BYTES_TARGET < SNAPSHOT_PIECE_BYTES_MAX for piece in pieces)
    other = copy_of(state)
    assert contents(other) == contents(state)


# --- Installing what is wrong


def installed_pieces() -> tuple[int, list[bytes], str]:
    state = a_state()
    play(state, [command(1, BankOp(DEPOSIT, 17, 100)), command(2, BankOp(DEPOSIT, 2000, 5))], [])
    return state.applied, list(pieces_of(state)), digest(state)


def corrupted(pieces: list[bytes]) -> list[bytes]:
    return [pieces[0][:-1] + bytes([pieces[0][-1] ^ 1]), *pieces[1:]]


def encoded(*parts: Any) -> bytes:
    return msgspec.msgpack.encode([(index, msgspec.msgpack.encode(rows)) for index, rows in parts])


@pytest.mark.parametrize("what", ["a flipped bit", "a missing piece", "another slot", "another digest"])
def test_a_picture_without_its_digest_is_refused_and_changes_nothing(what: str) -> None:
    slot, pieces, name = installed_pieces()
    match what:
        case "a flipped bit":
            pieces = corrupted(pieces)
        case "a missing piece":
            pieces = pieces[1:]
        case "another slot":
            slot += 1
        case _:
            name = "0" * 64
    state = a_state()
    play(state, [command(1, BankOp(DEPOSIT, 1, 1))], [])
    before = digest(state)
    with pytest.raises(SnapshotError, match="digest"):
        state.install(slot, pieces, name)
    assert digest(state) == before


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"", id="an empty piece"),
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(msgspec.msgpack.encode({"accounts": []}), id="a map"),
        pytest.param(encoded((9, [[1, 2]])), id="a table that does not exist"),
        pytest.param(encoded((-1, [[1, 2]])), id="a table before the first"),
        pytest.param(encoded((2**40, [[1, 2]])), id="a table beyond all bounds"),
        pytest.param(encoded((1, [["one", 2]])), id="a row of another type"),
        pytest.param(
            encoded((0, [[7, [1, 1, {1: [17, 0, "text", None]}]]])).replace(b"text", b"te\xfft"),
            id="text that is not UTF-8",
        ),
        pytest.param(b"\x91" * 100_000, id="arrays in arrays in arrays"),
        pytest.param(encoded((0, [[7, [1, 1, {1: "no result"}]]])), id="an answer of another type"),
        pytest.param(encoded((1, [[1, 2]])) + b"\x00", id="bytes behind the end"),
    ],
)
def test_a_picture_that_does_not_decode_is_refused_and_changes_nothing(piece: bytes) -> None:
    good = encoded((1, [[5, 5]]))
    state = a_state()
    play(state, [command(1, BankOp(DEPOSIT, 1, 1))], [])
    before = digest(state)
    with pytest.raises(SnapshotError, match="decode"):
        state.install(10, [good, piece], digest_of(10, [good, piece]))
    assert digest(state) == before


def test_a_picture_being_taken_survives_an_install() -> None:
    state = a_state()
    play(state, [command(1, BankOp(DEPOSIT, 17, 100))], [])
    expected = digest(state)
    picture = state.photograph()
    state.install(*installed_pieces())
    while picture.next_piece() is not None:
        pass
    assert picture.digest() == expected


def test_a_part_that_clients_made_long_is_cut_into_pieces_of_an_allowed_size() -> None:
    state = a_state()
    deposits = (command(1, BankOp(DEPOSIT, 5 + SHARDS * index, 1), client=index) for index in range(60_000))
    state.apply(0, list(deposits))  # accounts of one part of the table only
    picture = state.photograph()
    pieces: list[bytes] = []
    while (piece := picture.next_piece()) is not None:
        pieces.append(piece)
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= SNAPSHOT_PIECE_BYTES_MAX
    other = a_state()
    other.install(picture.slot, pieces, picture.digest())
    assert contents(other) == contents(state)
