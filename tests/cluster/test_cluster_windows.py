"""A history in windows: what is wrong is found in its window, and what was right is not held against the next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, WITHDRAW, Bank, BankOp, BankResult
from paxos_twisted.check.history import History
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.windows import Windows

BankHistory = History[BankOp, BankResult]


class Recorder:
    """One client that asks one thing after the other."""

    def __init__(self) -> None:
        self.history: BankHistory = History()
        self.seq = 0
        self.time = 0

    def ok(self, op: BankOp, balance: int, error: str | None = None) -> None:
        self.seq += 1
        self.time += 2
        self.history.invoke(0, 1, self.seq, op, self.time)
        self.history.ok(0, 1, self.seq, BankResult(op.account, balance, error), self.time + 1)

    def unknown(self, op: BankOp) -> None:
        self.seq += 1
        self.time += 2
        self.history.invoke(0, 1, self.seq, op, self.time)
        self.history.unknown(0, 1, self.seq, "timeout", self.time + 1)

    def take(self) -> BankHistory:
        taken, self.history = self.history, History()
        return taken


def test_the_next_window_begins_where_the_last_one_ended() -> None:
    windows, client = Windows(), Recorder()
    client.ok(BankOp(DEPOSIT, 7, 100), 100)
    client.ok(BankOp(BALANCE, 7), 100)
    assert windows.check(client.take(), {7: 100}).outcome is Outcome.OK
    client.ok(BankOp(WITHDRAW, 7, 30), 70)
    client.ok(BankOp(BALANCE, 7), 70)
    assert windows.check(client.take(), {7: 70}).outcome is Outcome.OK
    assert windows.checked == 4


@pytest.mark.parametrize(
    ("read", "why"),
    [
        pytest.param(0, "100 are missing", id="an answered deposit is lost"),
        pytest.param(200, "100 too much", id="a deposit is done twice"),
    ],
)
def test_what_the_reads_at_the_end_of_a_window_contradict_is_a_violation(read: int, why: str) -> None:
    windows, client = Windows(), Recorder()
    client.ok(BankOp(DEPOSIT, 7, 100), 100)
    client.ok(BankOp(BALANCE, 7), read)
    verdict = windows.check(client.take(), {7: read})
    assert verdict.outcome is Outcome.VIOLATION
    assert any(why in line for line in verdict.text)


def test_what_an_earlier_window_had_done_must_still_be_there() -> None:
    windows, client = Windows(), Recorder()
    client.ok(BankOp(DEPOSIT, 7, 100), 100)
    assert windows.check(client.take(), {7: 100}).outcome is Outcome.OK
    client.ok(BankOp(BALANCE, 7), 0)
    assert windows.check(client.take(), {7: 0}).outcome is Outcome.VIOLATION


@pytest.mark.parametrize("applied", [pytest.param(True, id="applied"), pytest.param(False, id="never applied")])
def test_a_transaction_without_an_answer_may_have_happened_or_not(applied: bool) -> None:
    windows, client = Windows(), Recorder()
    client.unknown(BankOp(DEPOSIT, 7, 100))
    read = 100 if applied else 0
    client.ok(BankOp(BALANCE, 7), read)
    assert windows.check(client.take(), {7: read}).outcome is Outcome.OK


def test_a_transaction_without_an_answer_may_not_happen_in_a_later_window() -> None:
    """The audit's fence has made it final, see `Load.audit`."""
    windows, client = Windows(), Recorder()
    client.unknown(BankOp(DEPOSIT, 7, 100))
    client.ok(BankOp(BALANCE, 7), 0)
    assert windows.check(client.take(), {7: 0}).outcome is Outcome.OK
    client.ok(BankOp(BALANCE, 7), 100)
    assert windows.check(client.take(), {7: 100}).outcome is Outcome.VIOLATION


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 50), st.booleans()), max_size=60))
def test_whatever_a_true_bank_does_is_found_right_in_any_windows(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    bank, windows, client = Bank(), Windows(), Recorder()
    for kind, account, amount, ends in steps:
        op = BankOp(kind, account, amount, (account + 1) % 3)
        client.seq += 1
        client.time += 2
        client.history.invoke(0, 1, client.seq, op, client.time)
        client.history.ok(0, 1, client.seq, bank.apply(op, 1), client.time + 1)
        if ends:
            balances = {number: bank.apply(BankOp(BALANCE, number), 1).balance for number in range(3)}
            for number, balance in balances.items():
                client.ok(BankOp(BALANCE, number), balance)
            verdict = windows.check(client.take(), balances)
            assert verdict.outcome is Outcome.OK, verdict.text
