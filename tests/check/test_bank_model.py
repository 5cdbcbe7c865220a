"""The bank model keeps the promises that the checker relies on, for every operation and every balance."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, Bank, BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.limits import BANK_AMOUNT_MAX, BANK_BALANCE_MAX

BALANCES = st.sampled_from([0, 1, 2, 5, BANK_AMOUNT_MAX, BANK_BALANCE_MAX - 3, BANK_BALANCE_MAX - 1, BANK_BALANCE_MAX])
AMOUNTS = st.sampled_from([-3, -1, 0, 1, 2, 3, 5, BANK_AMOUNT_MAX, BANK_AMOUNT_MAX + 1])
ACCOUNTS = st.sampled_from([1, 2, 1025])
OPS = st.builds(BankOp, st.integers(-1, 5), ACCOUNTS, AMOUNTS, ACCOUNTS)
STATES = st.fixed_dictionaries({1: BALANCES, 2: BALANCES, 1025: BALANCES})


def execute(balances: dict[int, int], op: BankOp) -> tuple[BankResult, dict[int, int]]:
    bank = Bank()
    for account, balance in balances.items():
        bank.accounts.writable(account)[account] = balance
    result = bank.apply(op, 0)
    return result, dict(bank.accounts.items())


@given(STATES, OPS)
def test_keys_and_step_say_all_that_the_bank_does(balances: dict[int, int], op: BankOp) -> None:
    model = BankModel()
    result, after = execute(balances, op)
    for seen in (result, None):
        keys = model.keys(op, seen)
        assert len(set(keys)) == len(keys)
        state = model.step(tuple(balances[key] for key in keys), op, seen)  # type: ignore[index]
        assert state is not None
        assert {**balances, **dict(zip(keys, state, strict=True))} == after


@given(STATES, STATES, OPS)
def test_step_accepts_no_other_answer(balances: dict[int, int], others: dict[int, int], op: BankOp) -> None:
    model = BankModel()
    result, _ = execute(balances, op)
    other, _ = execute(others, op)
    assume(result != other)
    keys = model.keys(op, other)
    assert model.step(tuple(balances[key] for key in keys), op, other) is None  # type: ignore[index]


@given(STATES, OPS)
def test_reads_change_nothing(balances: dict[int, int], op: BankOp) -> None:
    result, after = execute(balances, op)
    if BankModel().is_read(op, result):
        assert after == balances
    if BankModel().is_read(op, None):
        assert after == balances


@given(STATES, OPS)
def test_parts_are_what_one_account_sees(balances: dict[int, int], op: BankOp) -> None:
    model = BankModel()
    result, after = execute(balances, op)
    seen = set()
    for part, answer in model.parts(op, result):
        (key,) = model.keys(part, answer)
        assert isinstance(key, int)
        assert key not in seen
        seen.add(key)
        assert model.step((balances[key],), part, answer) == (after[key],)
    assert all(after[key] == balances[key] for key in balances if key not in seen)


@given(STATES, OPS)
def test_parts_of_an_unseen_operation_can_do_what_it_does(balances: dict[int, int], op: BankOp) -> None:
    model = BankModel()
    _, after = execute(balances, op)
    parts = {model.keys(part, None)[0]: part for part, _ in model.parts(op, None)}
    for key, balance in balances.items():
        if after[key] != balance:
            assert model.step((balance,), parts[key], None) == (after[key],)


@given(STATES, OPS)
def test_befores_hold_the_balances_before(balances: dict[int, int], op: BankOp) -> None:
    model = BankModel()
    result, _ = execute(balances, op)
    assert tuple(balances[key] for key in model.keys(op, result)) in list(model.befores(op, result))  # type: ignore[index]


@given(STATES, OPS, st.sets(ACCOUNTS))
def test_a_balance_that_nobody_knows_is_learned_from_the_answer(
    balances: dict[int, int], op: BankOp, hidden: set[int]
) -> None:
    model = BankModel(fresh=False)
    result, after = execute(balances, op)
    keys = model.keys(op, result)
    state = tuple(None if key in hidden else balances[key] for key in keys)  # type: ignore[index]
    assert model.step(state, op, result) == tuple(after[key] for key in keys)  # type: ignore[index]


@pytest.mark.parametrize(
    ("op", "words"),
    [
        pytest.param(BankOp(BALANCE, 17), "balance 17", id="balance"),
        pytest.param(BankOp(DEPOSIT, 17, 5), "deposit 17 5", id="deposit"),
        pytest.param(BankOp(WITHDRAW, 17, 5), "withdraw 17 5", id="withdraw"),
        pytest.param(BankOp(TRANSFER, 17, 5, 18), "transfer 17 18 5", id="transfer"),
        pytest.param(BankOp(9, 17), "operation 9 on 17", id="an operation that the bank does not know"),
    ],
)
def test_operations_are_said_as_they_are_typed(op: BankOp, words: str) -> None:
    assert BankModel().say_op(op) == words


def test_results_are_said_in_a_few_words() -> None:
    model = BankModel()
    assert model.say_result(BankResult(1, 5)) == "balance 5"
    assert model.say_result(BankResult(1, 5, None, 7)) == "balance 5, the other's 7"
    assert model.say_result(BankResult(1, 5, "not enough")) == "balance 5, refused: not enough"
    assert BankModel(fresh=False).say_value(3, None) == "account 3 holds an unknown amount"
