"""The bank: what the teller says, and that no money appears or vanishes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, Bank, BankOp, BankResult
from paxos_twisted.limits import BANK_AMOUNT_MAX, BANK_BALANCE_MAX

CLIENT = 7


def bank_with(**balances: int) -> Bank:
    """A bank whose account n holds `an`."""
    bank = Bank()
    for name, balance in balances.items():
        account = int(name[1:])
        bank.accounts.writable(account)[account] = balance
    return bank


def contents(bank: Bank) -> dict[int, int]:
    return dict(bank.accounts.items())


TELLER = [
    pytest.param({}, BankOp(BALANCE, 17), BankResult(17, 0), {17: 0}, id="L5-78 an unknown account is created empty"),
    pytest.param(
        {}, BankOp(DEPOSIT, 17, 100), BankResult(17, 100), {17: 100}, id="L5-78 a deposit to an unknown account counts"
    ),
    pytest.param({"a1": 5}, BankOp(BALANCE, 1), BankResult(1, 5), {1: 5}, id="L5-81 balance tells the balance"),
    pytest.param({"a1": 5}, BankOp(BALANCE, 1, -3), BankResult(1, 5), {1: 5}, id="L5-81 balance ignores the amount"),
    pytest.param({"a1": 5}, BankOp(DEPOSIT, 1, 0), BankResult(1, 5), {1: 5}, id="L5-81 a deposit of nothing is fine"),
    pytest.param({"a1": 5}, BankOp(DEPOSIT, 1, 7), BankResult(1, 12), {1: 12}, id="L5-81 a deposit adds"),
    pytest.param(
        {"a1": 5},
        BankOp(DEPOSIT, 1, -7),
        BankResult(1, 5, "cannot deposit a negative amount (-7)"),
        {1: 5},
        id="L5-81 a negative deposit is an error",
    ),
    pytest.param({"a1": 5}, BankOp(WITHDRAW, 1, 5), BankResult(1, 0), {1: 0}, id="L5-81 all of it may be withdrawn"),
    pytest.param(
        {"a1": 5},
        BankOp(WITHDRAW, 1, 6),
        BankResult(1, 5, "not enough funds: account 1 holds 5, 6 was requested"),
        {1: 5},
        id="L5-81 an overdraft is an error that states balance and request",
    ),
    pytest.param(
        {},
        BankOp(WITHDRAW, 17, 1),
        BankResult(17, 0, "not enough funds: account 17 holds 0, 1 was requested"),
        {17: 0},
        id="L5-78 a failed withdrawal creates the account all the same",
    ),
    pytest.param(
        {"a1": 5},
        BankOp(WITHDRAW, 1, -6),
        BankResult(1, 5, "cannot withdraw a negative amount (-6)"),
        {1: 5},
        id="L5-81 a negative withdrawal is an error",
    ),
    pytest.param(
        {"a1": 5}, BankOp(4, 1, 1), BankResult(1, 5, "unknown operation 4"), {1: 5}, id="L5-81 operation 4 is unknown"
    ),
    pytest.param(
        {"a1": 5},
        BankOp(-1, 1, 1),
        BankResult(1, 5, "unknown operation -1"),
        {1: 5},
        id="L5-81 operation -1 is unknown",
    ),
    pytest.param(
        {"a1": 5, "a2": 1},
        BankOp(TRANSFER, 1, 4, 2),
        BankResult(1, 1, None, 5),
        {1: 1, 2: 5},
        id="a transfer tells both balances",
    ),
    pytest.param(
        {"a1": 5},
        BankOp(TRANSFER, 1, 5, 2),
        BankResult(1, 0, None, 5),
        {1: 0, 2: 5},
        id="a transfer creates the account that it pays into",
    ),
    pytest.param(
        {"a1": 5, "a1025": 1},
        BankOp(TRANSFER, 1, 4, 1025),
        BankResult(1, 1, None, 5),
        {1: 1, 1025: 5},
        id="a transfer inside one part of the table",
    ),
    pytest.param(
        {"a1": 5}, BankOp(TRANSFER, 1, 4, 1), BankResult(1, 5, None, 5), {1: 5}, id="a transfer to oneself is a no-op"
    ),
    pytest.param(
        {"a1": 5},
        BankOp(TRANSFER, 1, 6, 1),
        BankResult(1, 5, "not enough funds: account 1 holds 5, 6 was requested"),
        {1: 5},
        id="a transfer to oneself needs the funds too",
    ),
    pytest.param(
        {"a1": 5},
        BankOp(TRANSFER, 1, 6, 2),
        BankResult(1, 5, "not enough funds: account 1 holds 5, 6 was requested"),
        {1: 5},
        id="a transfer without funds does not even create the other account",
    ),
    pytest.param(
        {"a1": 5},
        BankOp(TRANSFER, 1, -6, 2),
        BankResult(1, 5, "cannot transfer a negative amount (-6)"),
        {1: 5},
        id="a negative transfer is an error",
    ),
    pytest.param(
        {"a1": 5},
        BankOp(DEPOSIT, 1, BANK_AMOUNT_MAX + 1),
        BankResult(1, 5, "cannot deposit 1000000000000001: the most in one transaction is 1000000000000000"),
        {1: 5},
        id="more than the largest amount is an error",
    ),
    pytest.param(
        {},
        BankOp(DEPOSIT, 1, BANK_AMOUNT_MAX),
        BankResult(1, BANK_AMOUNT_MAX),
        {1: BANK_AMOUNT_MAX},
        id="the largest amount is fine",
    ),
    pytest.param(
        {"a1": BANK_BALANCE_MAX - 1},
        BankOp(DEPOSIT, 1, 1),
        BankResult(1, BANK_BALANCE_MAX),
        {1: BANK_BALANCE_MAX},
        id="an account can be full to the brim",
    ),
    pytest.param(
        {"a1": BANK_BALANCE_MAX},
        BankOp(DEPOSIT, 1, 1),
        BankResult(
            1,
            BANK_BALANCE_MAX,
            "account 1 holds 4611686018427387904 and cannot take 1 more: the most is 4611686018427387904",
        ),
        {1: BANK_BALANCE_MAX},
        id="a full account takes no more",
    ),
    pytest.param(
        {"a1": 5, "a2": BANK_BALANCE_MAX},
        BankOp(TRANSFER, 1, 1, 2),
        BankResult(
            1,
            5,
            "account 2 holds 4611686018427387904 and cannot take 1 more: the most is 4611686018427387904",
        ),
        {1: 5, 2: BANK_BALANCE_MAX},
        id="a transfer into a full account leaves both as they were",
    ),
]


@pytest.mark.parametrize(("before", "op", "said", "after"), TELLER)
def test_teller(before: dict[str, int], op: BankOp, said: BankResult, after: dict[int, int]) -> None:
    bank = bank_with(**before)
    assert bank.apply(op, CLIENT) == said
    assert contents(bank) == after


@pytest.mark.parametrize(
    ("kind", "name"),
    [(BALANCE, "balance"), (DEPOSIT, "deposit"), (WITHDRAW, "withdraw"), (TRANSFER, "transfer"), (9, "unknown")],
)
def test_operations_have_names_for_metrics(kind: int, name: str) -> None:
    assert Bank().op_name(BankOp(kind, 1)) == name


def test_a_result_with_an_error_counts_as_rejected() -> None:
    bank = Bank()
    assert bank.outcome(bank.apply(BankOp(DEPOSIT, 1, 1), CLIENT)) == "ok"
    assert bank.outcome(bank.apply(BankOp(WITHDRAW, 1, 2), CLIENT)) == "rejected"


# Few accounts, two of them in one part of the table, so that operations meet; amounts of every kind, limits included.
accounts = st.sampled_from([0, 1, 2, 1025])
amounts = st.one_of(
    st.integers(0, 200),
    st.sampled_from([BANK_AMOUNT_MAX - 1, BANK_AMOUNT_MAX, BANK_AMOUNT_MAX + 1, -1, 2**63 - 1, 2**64 - 1, -(2**63)]),
)
ops = st.builds(BankOp, st.integers(-1, 4), accounts, amounts, accounts)


@given(st.dictionaries(accounts, st.sampled_from([0, 100, BANK_BALANCE_MAX - 100, BANK_BALANCE_MAX])), st.lists(ops))
def test_no_money_appears_or_vanishes_and_no_account_leaves_its_bounds(
    start: dict[int, int], ops: list[BankOp]
) -> None:
    bank = bank_with(**{f"a{account}": balance for account, balance in start.items()})
    money = sum(start.values())
    for op in ops:
        before = contents(bank)
        result = bank.apply(op, CLIENT)
        after = contents(bank)
        if result.error is None and op.kind == DEPOSIT:
            money += op.amount
        elif result.error is None and op.kind == WITHDRAW:
            money -= op.amount
        assert sum(after.values()) == money
        assert all(0 <= balance <= BANK_BALANCE_MAX for balance in after.values())
        assert result.balance == after[op.account]
        assert result.to_balance == (after[op.to] if result.error is None and op.kind == TRANSFER else None)
        if result.error is not None:
            assert {account: balance for account, balance in after.items() if balance} == {
                account: balance for account, balance in before.items() if balance
            }
        untouched = after.keys() - {op.account, op.to}
        assert all(before[account] == after[account] for account in untouched)
