"""The cheap checks: completions, answers that fit, conservation of money."""

import random

import pytest
from histories import Row, history, run
from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, Bank, BankOp, BankResult
from paxos_twisted.check.exactly_once import check_answers, check_completions, check_conservation
from paxos_twisted.check.history import Operation

CONSERVATION: list[tuple[str, dict[int, int], list[Row], list[str]]] = [
    ("an empty bank", {}, [], []),
    ("a deposit is there", {1: 5}, [("deposit 1 5", "5", 0, 1)], []),
    (
        "a deposit is there twice",
        {1: 10},
        [("deposit 1 5", "5", 0, 1)],
        ["all accounts together hold 10, but the answered transactions leave 5: 5 too much"],
    ),
    (
        "a deposit is lost",
        {1: 0},
        [("deposit 1 5", "5", 0, 1)],
        ["all accounts together hold 0, but the answered transactions leave 5: 5 are missing"],
    ),
    ("a transfer conserves", {1: 2, 2: 3}, [("deposit 1 5", "5", 0, 1), ("transfer 1 2 3", "2 3", 2, 3)], []),
    (
        "a refused withdrawal takes nothing",
        {1: 5},
        [("deposit 1 5", "5", 0, 1), ("withdraw 1 7", "refused 5", 2, 3)],
        [],
    ),
    ("an unknown deposit was applied", {1: 5}, [("deposit 1 5", "unknown", 0, 1)], []),
    ("an unknown deposit was not applied", {}, [("deposit 1 5", "open", 0, 1)], []),
    (
        "an unknown deposit was applied twice",
        {1: 10},
        [("deposit 1 5", "unknown", 0, 1)],
        [
            "all accounts together hold 10, but the answered transactions leave 0: 10 too much, "
            "and no choice among 1 unknown transactions explains it"
        ],
    ),
    (
        "between the extremes, but no sum of unknown amounts",
        {1: 6},
        [("deposit 1 5", "unknown", 0, 1), ("deposit 1 7", "unknown", 0, 1)],
        [
            "all accounts together hold 6, but the answered transactions leave 0: 6 too much, "
            "and no choice among 2 unknown transactions explains it"
        ],
    ),
    (
        "an unknown withdrawal and an unknown deposit",
        {1: 2},
        [("withdraw 1 5", "unknown", 0, 1), ("deposit 1 7", "unknown", 0, 1)],
        [],
    ),
    (
        "a failed deposit was applied",
        {1: 5},
        [("deposit 1 5", "fail", 0, 1)],
        ["all accounts together hold 5, but the answered transactions leave 0: 5 too much"],
    ),
    ("debts", {1: -5, 2: 5}, [], ["account 1 holds -5"]),
]


@pytest.mark.parametrize(
    ("balances", "rows", "want"),
    [pytest.param(balances, rows, want, id=name) for name, balances, rows, want in CONSERVATION],
)
def test_conservation(balances: dict[int, int], rows: list[Row], want: list[str]) -> None:
    assert check_conservation(history(*rows).operations, balances) == want


def test_conservation_counts_what_was_there_at_the_start() -> None:
    made = history(("deposit 1 5", "12", 0, 1))
    assert check_conservation(made.operations, {1: 12}, start={1: 7}) == []


def test_very_many_unknown_amounts_are_only_bounded() -> None:
    made = history(*[(f"deposit 1 {3**i}", "open", 0, 0) for i in range(30)])
    assert check_conservation(made.operations, {1: 2}) == []
    assert check_conservation(made.operations, {1: 3**30}) != []


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_true_run_conserves_and_answers_fit(seed: int) -> None:
    made = run(random.Random(seed), operations=100, processes=5, accounts=4, amount_max=9)
    bank = Bank()
    for operation in made.operations:
        if operation.op.kind == DEPOSIT:
            bank.apply(operation.op, 0)
        elif operation.op.kind == 2 and operation.result is not None and operation.result.error is None:
            bank.accounts.writable(0)[0] = bank.accounts.writable(0).get(0, 0) - operation.op.amount
    total = sum(balance for _, balance in bank.accounts.items())
    assert check_conservation(made.operations, {0: total}) == []
    assert check_answers(made.operations) == []
    assert check_completions(made.operations) == []


ANSWERS = [
    ("another account", BankOp(BALANCE, 1), BankResult(2, 5), "answered for account 2: that is the answer to another"),
    ("a negative balance", BankOp(BALANCE, 1), BankResult(1, -5), "no bank can answer that"),
    ("less than was paid in", BankOp(DEPOSIT, 1, 5), BankResult(1, 4), "no bank can answer that"),
    ("a refused enquiry", BankOp(BALANCE, 1), BankResult(1, 4, "closed"), "no bank can answer that"),
    ("an enquiry with two balances", BankOp(BALANCE, 1), BankResult(1, 4, None, 5), "no bank can answer that"),
    ("a transfer with one balance", BankOp(3, 1, 5, 2), BankResult(1, 4), "no bank can answer that"),
    ("a refusal with enough funds", BankOp(2, 1, 5), BankResult(1, 7, "not enough funds"), "no bank can answer that"),
]


@pytest.mark.parametrize(("op", "result", "want"), [pytest.param(*case, id=name) for name, *case in ANSWERS])
def test_answers_that_do_not_fit_the_request(op: BankOp, result: BankResult, want: str) -> None:
    (finding,) = check_answers([Operation(0, 5, 1, op, 0, "ok", 1, result)])
    assert finding.startswith("request 1 of client 5, ")
    assert want in finding


def test_completions_of_operations_from_elsewhere() -> None:
    op = BankOp(BALANCE, 1)
    assert check_completions(
        [
            Operation(0, 5, 1, op, 0, "ok", 1, BankResult(1, 0)),
            Operation(0, 5, 1, op, 2, "fail", 3),
            Operation(0, 5, 2, op, 4, "ok", 5),
            Operation(0, 5, 3, op, 7, "unknown", 6),
        ]
    ) == [
        "request 1 of client 5 occurs twice",
        "request 2 of client 5 is ok, but has no result",
        "request 3 of client 5 ends before it is called",
    ]


def test_findings_are_bounded() -> None:
    findings = check_answers([Operation(0, 5, i, BankOp(BALANCE, 1), 0, "ok", 1, BankResult(2, 5)) for i in range(50)])
    assert len(findings) == 21
    assert findings[-1] == "… and 30 more"
