"""Many operations in one request: a slot each, one answer, exactly once as a whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import DEPOSIT, TRANSFER, WITHDRAW, Bank, BankOp, BankResult
from paxos_twisted.core.command import Command, Series, array_of, as_run, split_run
from paxos_twisted.core.engine import Batch
from paxos_twisted.core.multipaxos import Promise, Proposer
from paxos_twisted.core.replicated import ReplicatedState, pieces_of
from paxos_twisted.core.sessions import Refusal
from paxos_twisted.limits import SERIES_MAX, SERIES_RESULT_BYTES_MAX, SHARDS
from paxos_twisted.types import ClientId, NodeId, Slot

ONE = ClientId(7)

encode = msgspec.msgpack.encode


def results_of(outcome: Any) -> list[BankResult]:
    return msgspec.msgpack.decode(outcome, type=list[BankResult])


def series(seq: int, *ops: BankOp, client: ClientId = ONE, ack: int | None = None) -> Series[BankOp]:
    return Series(client, -1, seq, seq if ack is None else ack, ops)


def deposits(seq: int, count: int, client: ClientId = ONE) -> Series[BankOp]:
    return series(seq, *(BankOp(DEPOSIT, 1, 10) for _ in range(count)), client=client)


def state() -> ReplicatedState:
    return ReplicatedState(Bank(), 10**6)


def apply(target: ReplicatedState, *commands: Any) -> list[Any]:
    """Apply them in as many slots as they take, and decode them before as a replica would."""
    body = b"".join(as_run(encode(c), c) if isinstance(c, Series) else encode(c) for c in commands)
    count = sum(len(c.ops) if isinstance(c, Series) else 1 for c in commands)
    outcomes = target.apply(Slot(target.applied + 1), target.decoder.decode(array_of(body, count)))
    assert len(outcomes) == count
    return [outcome for outcome in outcomes if outcome is not None]


def test_operations_are_applied_in_order_and_each_has_its_own_result() -> None:
    bank = state()
    (outcome,) = apply(bank, series(1, BankOp(DEPOSIT, 1, 10), BankOp(WITHDRAW, 1, 99), BankOp(TRANSFER, 1, 4, 2)))
    first, second, third = results_of(outcome)
    assert (first.balance, first.error) == (10, None)
    assert second.error is not None
    assert "not enough funds" in second.error
    assert (third.balance, third.to_balance) == (6, 4)


def test_each_operation_takes_a_slot() -> None:
    bank = state()
    apply(bank, deposits(1, 100), Command(ONE, -1, 2, 2, BankOp(DEPOSIT, 1, 10)), deposits(3, 5))
    assert bank.applied == 105
    assert (bank.commands_applied, bank.noops, bank.duplicates) == (106, 0, 0)


def test_a_repeated_series_gets_the_same_answer_and_changes_nothing() -> None:
    bank = state()
    (first,) = apply(bank, deposits(1, 50))
    (again,) = apply(bank, deposits(1, 50))
    assert again == first
    assert bank.application.accounts.shard(1)[1] == 500  # type: ignore[attr-defined]
    assert (bank.commands_applied, bank.duplicates) == (50, 50)


def test_after_it_was_acknowledged_a_repetition_is_stale() -> None:
    bank = state()
    (_, _, refusal) = apply(bank, deposits(1, 3), deposits(2, 3), deposits(1, 3))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "stale"


def test_a_session_has_one_series_without_an_answer() -> None:
    bank = state()
    (_, refusal) = apply(bank, deposits(1, 3), series(2, BankOp(DEPOSIT, 1, 1), ack=1))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "window"
    assert bank.application.accounts.shard(1)[1] == 30  # type: ignore[attr-defined]


def test_one_number_is_either_a_series_or_a_single_request() -> None:
    bank = state()
    _, single = apply(bank, deposits(1, 3), Command(ONE, -1, 1, 1, BankOp(DEPOSIT, 1, 10)))
    assert isinstance(single, Refusal)
    assert single.reason == "invalid"
    _, whole = apply(bank, Command(ONE, -1, 2, 2, BankOp(DEPOSIT, 1, 10)), deposits(2, 3))
    assert isinstance(whole, Refusal)
    assert whole.reason == "invalid"


@pytest.mark.parametrize("length", [1, 2, 50])
def test_however_a_run_is_cut_the_state_is_the_same(length: int) -> None:
    whole, cut = state(), state()
    (outcome,) = apply(whole, deposits(1, length))
    parts = split_run(as_run(encode(deposits(1, length)), deposits(1, length)), length)
    outcomes = [cut.apply(Slot(slot), cut.decoder.decode(array_of(part, 1)))[0] for slot, part in enumerate(parts)]
    assert outcomes == [outcome, *[None] * (length - 1)]
    assert (cut.commands_applied, cut.noops) == (length, 0)
    assert list(pieces_of(cut)) == list(pieces_of(whole))


def test_what_lost_its_beginning_is_nothing() -> None:
    bank = state()
    body = as_run(encode(deposits(1, 5)), deposits(1, 5))
    rest = b"".join(split_run(body, 5)[2:])
    assert bank.apply(Slot(0), bank.decoder.decode(array_of(rest, 3))) == [None] * 3
    assert (bank.commands_applied, bank.noops) == (0, 3)


def test_a_snapshot_carries_the_results() -> None:
    bank, fresh = state(), state()
    (outcome,) = apply(bank, deposits(1, SERIES_MAX))
    picture = bank.photograph()
    pieces = []
    while (piece := picture.next_piece()) is not None:
        pieces.append(piece)
    fresh.install(bank.applied, pieces, picture.digest())
    assert apply(fresh, deposits(1, SERIES_MAX)) == [outcome]


def test_sessions_expire_in_the_slots_of_a_series_too() -> None:
    bank = ReplicatedState(Bank(), 10)
    apply(bank, Command(ONE, -1, 1, 1, BankOp(DEPOSIT, 1, 10)))
    for seq in range(1, 2 * SHARDS * SHARDS // SERIES_MAX):
        apply(bank, deposits(seq, SERIES_MAX, ClientId(8)))
        if ONE not in bank.sessions.table.shard(ONE):
            return
    raise AssertionError("it stayed for ever")


def test_the_longest_results_fit_the_limit() -> None:
    bank = Bank()
    most = 2**53 - 1
    for _ in range(4612):
        bank.apply(BankOp(DEPOSIT, most, 10**15), ONE)
    for op in (BankOp(DEPOSIT, most, 10**15), BankOp(DEPOSIT, most, -(2**63)), BankOp(WITHDRAW, 1, 10**15)):
        result = bank.apply(op, ONE)
        assert result.error is not None
        assert len(encode(result)) <= SERIES_RESULT_BYTES_MAX


@pytest.mark.parametrize("ops", [(), tuple(BankOp(DEPOSIT, 1, 1) for _ in range(SERIES_MAX + 1))], ids=["none", "more"])
def test_an_empty_or_too_long_series_does_not_decode(ops: tuple[BankOp, ...]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encode(Series(ONE, -1, 1, 1, ops)), type=Series[BankOp])


_op = st.builds(BankOp, st.integers(0, 4), st.integers(0, 3), st.integers(-1, 50), st.integers(0, 3))
_request = st.tuples(st.booleans(), st.lists(_op, min_size=1, max_size=8))


@given(st.lists(_request, max_size=12), st.lists(st.integers(0, 30), max_size=12), st.randoms(use_true_random=False))
def test_in_any_order_of_repetitions_and_cuts_it_is_one_request_after_the_other(
    requests: list[tuple[bool, list[BankOp]]], repeated: list[int], rng: Any
) -> None:
    """Against the obvious: the operations of all requests, each applied once, in the order of their first decision."""
    sent: list[Any] = []
    for seq, (is_series, ops) in enumerate(requests, 1):
        sent.append(Series(ONE, -1, seq, seq, tuple(ops)) if is_series else Command(ONE, -1, seq, 1, ops[0]))
    decided: list[Any] = []
    for command in sent:
        decided.append(command)
        decided += [command for index in repeated if index % (len(sent) or 1) == command.seq - 1]
    obvious = Bank()
    expected = {}
    for command in sent:
        ops = command.ops if isinstance(command, Series) else (command.op,)
        expected[command.seq] = [obvious.apply(op, ONE) for op in ops]
    body = b"".join(as_run(encode(c), c) if isinstance(c, Series) else encode(c) for c in decided)
    count = sum(len(c.ops) if isinstance(c, Series) else 1 for c in decided)
    parts = split_run(body, count)
    bank = state()
    while parts:
        cut = rng.randint(1, len(parts))
        run, parts = parts[:cut], parts[cut:]
        commands = bank.decoder.decode(array_of(b"".join(run), cut))
        for command, outcome in zip(commands, bank.apply(Slot(bank.applied + 1), commands), strict=True):
            if isinstance(command, Series):
                assert results_of(outcome) == expected[command.seq]
            elif command is not None and not isinstance(outcome, Refusal):
                assert [outcome] == expected[command.seq]
    assert list(bank.application.accounts.items()) == list(obvious.accounts.items())  # type: ignore[attr-defined]
    assert bank.commands_applied + bank.duplicates == count
    assert bank.noops == 0


# ---- the window


def leading(alpha: int) -> Proposer:
    proposer = Proposer(NodeId(1), 1, alpha=alpha)
    proposer.increase_crnd()
    proposer.prepare()
    proposer.handle_promise(Promise(NodeId(1), NodeId(1), proposer.crnd, ()))
    return proposer


def test_a_series_waits_until_the_window_has_room_for_all_of_it() -> None:
    proposer = leading(10)
    body = as_run(encode(deposits(1, 6)), deposits(1, 6))
    for _ in range(2):
        proposer.propose(Batch(body, 6, is_whole=True))
    assert [(accept.slot, accept.count) for accept in proposer.take_accepts()] == [(0, 6)]
    proposer.advance(Slot(0))
    assert proposer.take_accepts() == []
    proposer.advance(Slot(5))
    assert [(accept.slot, accept.values) for accept in proposer.take_accepts()] == [(6, body)]


def test_a_series_that_no_window_could_hold_goes_in_parts() -> None:
    proposer = leading(4)
    proposer.propose(Batch(as_run(encode(deposits(1, 6)), deposits(1, 6)), 6, is_whole=True))
    assert [accept.count for accept in proposer.take_accepts()] == [4]
    proposer.advance(Slot(3))
    assert [accept.count for accept in proposer.take_accepts()] == [2]
