"""A history without end, checked piece by piece: at rest the whole state is known, and what led to it can be forgotten.

A *window* is everything between two moments at which no request is under way and every balance was just read (see
`Load.audit`). The reads are part of the window, so a lost, doubled or reordered transaction is found in its own window.
The next one begins with the balances that were read; so memory and effort stay bounded, however long it goes on.
"""

from collections.abc import Hashable
from typing import NamedTuple

from paxos_twisted.apps.bank import BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.check.command import check_recorded
from paxos_twisted.check.exactly_once import check_conservation
from paxos_twisted.check.explain import explain
from paxos_twisted.check.history import History
from paxos_twisted.check.verdict import Outcome

BUDGET_STEPS = 2_000_000
"""For one window: seconds, where it usually takes milliseconds."""


class CarriedBank(BankModel):
    """The bank, whose accounts hold something when the history begins."""

    def __init__(self, balances: dict[int, int]) -> None:
        super().__init__(fresh=True)
        self._balances = balances

    def initial(self, key: Hashable) -> Hashable:
        """What was carried over; accounts that nobody has used hold nothing."""
        assert isinstance(key, int)
        return self._balances.get(key, 0)


class WindowVerdict(NamedTuple):
    """What came of one window."""

    outcome: Outcome
    operations: int
    text: list[str]
    """Why, when it is not ok."""


class Windows:
    """Checks windows one after the other, and carries the state on."""

    def __init__(self) -> None:
        self.balances: dict[int, int] = {}
        """What every account held at the end of the last window."""
        self.checked = 0
        """Operations in all windows."""
        self.undecided = 0
        """Windows for which the budget did not suffice."""

    def check(self, history: History[BankOp, BankResult], balances: dict[int, int]) -> WindowVerdict:
        """Judge a window that ended with `balances`, and begin the next one there."""
        model = CarriedBank(self.balances)
        verdict = check_recorded(model, history, BUDGET_STEPS)
        findings = check_conservation(history.operations, balances, self.balances)
        self.checked += len(history.operations)
        outcome = Outcome.VIOLATION if findings else verdict.outcome
        if outcome is Outcome.UNKNOWN:
            self.undecided += 1
        text = [] if outcome is Outcome.OK else [*findings, *explain(verdict, history, model)]
        self.balances = dict(balances)
        return WindowVerdict(outcome, len(history.operations), text)
