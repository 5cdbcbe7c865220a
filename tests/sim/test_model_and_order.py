"""The second opinion on the bank agrees with the bank; the log as a witness of linearizability."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import DEPOSIT, Bank, BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.check.history import History
from paxos_twisted.core.command import Command, Series
from paxos_twisted.core.replicated import ReplicatedState
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.model import Model, ModelError
from paxos_twisted.sim.order import check_order, parts_of_series, search_order
from paxos_twisted.sim.workloads.bank import BankSpecification
from paxos_twisted.types import ClientId

OPS = st.builds(BankOp, st.integers(0, 3), st.integers(0, 3), st.integers(-5, 30), st.integers(0, 3))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12), OPS), max_size=60))
def test_the_model_accepts_whatever_the_shipped_state_says(requests: list[tuple[int, int, BankOp]]) -> None:
    state, model = ReplicatedState(Bank(), 10**6), Model(BankSpecification())
    first: dict[tuple[int, int], BankOp] = {}
    for slot, (client, seq, drawn) in enumerate(requests):
        op = first.setdefault((client, seq), drawn)  # a repeated request is the same request
        command = Command(ClientId(client), -1, seq, 1, op)
        (result,) = state.apply(slot, [command])
        model.check(slot, command, result)
    model.specification.check(state.application)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12), st.lists(OPS, min_size=1, max_size=4)), max_size=30))
def test_the_model_accepts_what_the_shipped_state_says_of_series(
    requests: list[tuple[int, int, list[BankOp]]],
) -> None:
    state, model = ReplicatedState(Bank(), 10**6), Model(BankSpecification())
    first: dict[tuple[int, int], list[BankOp]] = {}
    for client, seq, drawn in requests:
        ops = first.setdefault((client, seq), drawn)
        command = Series(ClientId(client), -1, seq, seq, tuple(ops))
        commands = [command, *[None] * (len(ops) - 1)]
        slot = state.applied + 1
        for at, (one, result) in enumerate(zip(commands, state.apply(slot, commands), strict=True), slot):
            model.check(at, one, result)
    model.specification.check(state.application)


PAIR = Series(ClientId(1), -1, 1, 1, (BankOp(DEPOSIT, 1, 10), BankOp(DEPOSIT, 2, 10)))
TOLD = msgspec.msgpack.encode([BankResult(1, 10), BankResult(2, 10)])


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param(msgspec.msgpack.encode([BankResult(1, 10)]), None, id="only the first half was applied"),
        pytest.param(TOLD, msgspec.msgpack.encode([BankResult(1, 20), BankResult(2, 20)]), id="applied twice"),
        pytest.param(TOLD, msgspec.msgpack.encode([BankResult(1, 10)]), id="the answer was shortened"),
    ],
)
def test_a_series_that_is_not_one_request(first: bytes, again: bytes | None) -> None:
    model = Model(BankSpecification())
    with pytest.raises(ModelError, match="XO"):
        model.check(0, PAIR, first)
        model.check(1, None, None)
        model.check(2, PAIR, again)


def test_the_search_takes_a_series_as_its_parts() -> None:
    seen: History[object, object] = History()
    seen.invoke(1, 1, 1, PAIR.ops, 0)
    seen.ok(1, 1, 1, TOLD, 5)
    seen.invoke(2, 2, 1, PAIR.ops, 1)
    seen.unknown(2, 2, 1, "timeout", 7)
    seen.invoke(3, 3, 1, BankOp(DEPOSIT, 1, 5), 8)
    seen.ok(3, 3, 1, BankResult(1, 25), 9)
    parts = parts_of_series(seen, BankResult)
    assert [one.op for one in parts.operations] == [*PAIR.ops, *PAIR.ops, BankOp(DEPOSIT, 1, 5)]
    assert [one.result for one in parts.operations] == [
        BankResult(1, 10),
        BankResult(2, 10),
        None,
        None,
        BankResult(1, 25),
    ]
    search_order(parts, BankModel())
    parts.operations[-1].result = BankResult(1, 35)
    with pytest.raises(Violation, match="LIN"):
        search_order(parts, BankModel())


@pytest.mark.parametrize(
    ("accounts", "name"),
    [
        pytest.param({1: 11}, "BAL", id="money was made"),
        pytest.param({1: -5, 2: 15}, "BAL", id="a negative balance"),
        pytest.param({2: 10}, "BAL", id="the wrong account"),
    ],
)
def test_balances_that_do_not_fit_the_log(accounts: dict[int, int], name: str) -> None:
    bank = BankSpecification()
    model = Model(bank)
    model.check(0, Command(ClientId(1), -1, 1, 1, BankOp(DEPOSIT, 1, 10)), BankResult(1, 10))
    bank.check_balances({1: 10})
    with pytest.raises(ModelError, match=name):
        bank.check_balances(accounts)


def history(*events: tuple[str, int]) -> History[BankOp, BankResult]:
    """Deposits of 10 into account 1, by clients 1, 2, …; the result says what each one was told."""
    made: History[BankOp, BankResult] = History()
    for time, (event, client) in enumerate(events):
        kind, _, told = event.partition(" ")
        match kind:
            case "call":
                made.invoke(client, client, 1, BankOp(DEPOSIT, 1, 10), time)
            case "ok":
                made.ok(client, client, 1, BankResult(1, int(told)), time)
            case "fail":
                made.fail(client, client, 1, "refused", time)
            case _:
                made.unknown(client, client, 1, "timeout", time)
    return made


def effects(*clients: int) -> Model:
    """The log: one deposit of each of these clients, in this order."""
    model = Model(BankSpecification())
    for slot, client in enumerate(clients):
        model.check(slot, Command(ClientId(client), -1, 1, 1, BankOp(DEPOSIT, 1, 10)), BankResult(1, 10 * (slot + 1)))
    return model


@pytest.mark.parametrize(
    ("seen", "log"),
    [
        pytest.param(history(("call", 1), ("ok 10", 1), ("call", 2), ("ok 20", 2)), effects(1, 2), id="in order"),
        pytest.param(
            history(("call", 1), ("call", 2), ("ok 20", 1), ("ok 10", 2)), effects(2, 1), id="concurrent, either order"
        ),
        pytest.param(
            history(("call", 1), ("unknown", 1), ("call", 2), ("ok 10", 2)), effects(2, 1), id="unknown, late"
        ),
        pytest.param(history(("call", 1), ("unknown", 1), ("call", 2), ("ok 10", 2)), effects(2), id="unknown, never"),
        pytest.param(history(("call", 1), ("fail", 1)), effects(), id="refused and without effect"),
    ],
)
def test_the_log_explains_the_history(seen: History[BankOp, BankResult], log: Model) -> None:
    check_order(seen, log)
    search_order(seen, BankModel())


@pytest.mark.parametrize(
    ("seen", "log", "text"),
    [
        pytest.param(
            history(("call", 1), ("ok 20", 1), ("call", 2), ("ok 10", 2)),
            effects(2, 1),
            "below slot 1",
            id="a later request took effect before an answered one",
        ),
        pytest.param(history(("call", 1), ("ok 10", 1)), effects(), "no effect", id="answered and never applied"),
        pytest.param(history(("call", 1), ("fail", 1)), effects(1), "refused and yet", id="refused and applied"),
        pytest.param(history(("call", 1), ("ok 30", 1)), effects(1), "its slot gave", id="another result"),
    ],
)
def test_the_log_contradicts_the_history(seen: History[BankOp, BankResult], log: Model, text: str) -> None:
    with pytest.raises(Violation, match=text):
        check_order(seen, log)


def test_the_search_needs_no_log() -> None:
    with pytest.raises(Violation, match="LIN"):
        search_order(history(("call", 1), ("ok 20", 1), ("call", 2), ("ok 10", 2)), BankModel())
