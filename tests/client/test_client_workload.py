"""The bench draws what the lab asks for, and the same again for the same seed."""

from collections import Counter

import pytest
from paxos_twisted_client.workload import ACCOUNT_MAX, AMOUNT_MAX, Workload

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, BankOp

DRAWS = 100_000


def draw(seed: int, process: int = 0, count: int = DRAWS) -> list[BankOp]:
    workload = Workload(seed, process)
    return [workload.next() for _ in range(count)]


def chi_square(counts: Counter[int], cells: int, total: int) -> float:
    expected = total / cells
    return sum((counts[cell] - expected) ** 2 / expected for cell in range(cells))


@pytest.fixture(scope="module")
def ops() -> list[BankOp]:
    return draw(seed=5)


def test_all_kinds_are_equally_likely(ops: list[BankOp]) -> None:
    kinds = Counter(op.kind for op in ops)
    assert set(kinds) == {BALANCE, DEPOSIT, WITHDRAW, TRANSFER}
    assert chi_square(kinds, 4, DRAWS) < 16.3  # 3 degrees of freedom, 0.1 %


def test_accounts_are_uniform_with_both_ends(ops: list[BankOp]) -> None:
    accounts = Counter(op.account for op in ops)
    assert (min(accounts), max(accounts)) == (0, ACCOUNT_MAX) == (0, 1000)
    assert chi_square(accounts, 1001, DRAWS) < 1145  # 1000 degrees of freedom, 0.1 %


def test_accounts_that_are_paid_into_are_uniform_with_both_ends(ops: list[BankOp]) -> None:
    accounts = Counter(op.to for op in ops if op.kind == TRANSFER)
    assert (min(accounts), max(accounts)) == (0, 1000)
    assert chi_square(accounts, 1001, accounts.total()) < 1145


def test_amounts_are_uniform_with_both_ends() -> None:
    amounts = Counter(op.amount for op in draw(seed=6, count=300_000) if op.kind != BALANCE)
    assert (min(amounts), max(amounts)) == (0, AMOUNT_MAX) == (0, 10_000)
    assert chi_square(amounts, 10_001, amounts.total()) < 10_444  # 10 000 degrees of freedom, 0.1 %


def test_unused_fields_are_zero(ops: list[BankOp]) -> None:
    assert all(op.amount == 0 for op in ops if op.kind == BALANCE)
    assert all(op.to == 0 for op in ops if op.kind != TRANSFER)


def test_the_same_seed_draws_the_same_and_another_draws_others() -> None:
    assert draw(1, count=100) == draw(1, count=100)
    assert draw(1, count=100) != draw(2, count=100)
    assert draw(1, 0, 100) != draw(1, 1, 100), "clients of one bench differ"


def test_a_seed_means_the_same_for_ever() -> None:
    """Recorded runs are replayed by their seed: a change here breaks them."""
    assert draw(1, count=4) == [
        BankOp(TRANSFER, 972, 7199, 106),
        BankOp(TRANSFER, 258, 8368, 110),
        BankOp(BALANCE, 118),
        BankOp(WITHDRAW, 174, 8439),
    ]
