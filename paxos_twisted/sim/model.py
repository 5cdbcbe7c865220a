"""What the cluster should say, worked out a second time from the decided log by the plainest possible code.

It shares nothing with `apps/bank.py` and `core/sessions.py`: whatever breaks a rule there shows as a difference.
"""

from typing import Any

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, BankOp, BankResult
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import is_refusal
from paxos_twisted.types import Slot


class ModelError(AssertionError):
    """A replica's result differs from what the decided log demands."""


class BankModel:
    """The decided log, executed once, in slot order, by whoever applies a slot first."""

    def __init__(self) -> None:
        self.accounts: dict[int, int] = {}
        self.first: dict[tuple[int, int], tuple[Slot, Any]] = {}
        """(client, seq) -> where it changed the state, and what it was told."""
        self.results: list[Any] = []
        """What the command of each slot was told; None for a no-op."""
        self.deposits = 0
        self.withdrawals = 0
        self.refused_reasons: dict[tuple[int, int], str] = {}
        """Requests that the session table refused, at least once, and why."""

    def check(self, slot: Slot, command: Command[BankOp] | None, result: Any) -> None:
        """Compare a replica's `result` for `slot` with the model; the first replica there moves the model on.

        Raises:
            ModelError: XO, EQ or BAL is broken; the text says how.
        """
        results = self.results
        if slot < len(results):
            if results[slot] != result:
                raise ModelError(f"EQ: slot {slot} gave {results[slot]!r} on one replica and {result!r} on another")
            return
        assert slot == len(results)
        results.append(result)
        if command is None:
            if result is not None:
                raise ModelError(f"a no-op in slot {slot} had the result {result!r}")
            return
        key = (command.client, command.seq)
        if is_refusal(result):
            self.refused_reasons[key] = result.reason
        known = self.first.get(key)
        if known is not None:
            if result != known[1] and not is_refusal(result):
                raise ModelError(
                    f"XO: request {key} was answered {known[1]!r} in slot {known[0]} and {result!r} in slot {slot}"
                )
            return
        if is_refusal(result):
            return
        expected = self._execute(command.op)
        if result != expected:
            raise ModelError(f"XO/BAL: slot {slot} ({command!r}) gave {result!r}, and the log demands {expected!r}")
        self.first[key] = (slot, result)

    def _execute(self, op: BankOp) -> BankResult:
        accounts = self.accounts
        balance = accounts.setdefault(op.account, 0)
        if op.kind == BALANCE:
            return BankResult(op.account, balance)
        if op.amount < 0:
            kind = {DEPOSIT: "deposit", WITHDRAW: "withdraw", TRANSFER: "transfer"}[op.kind]
            return BankResult(op.account, balance, f"cannot {kind} a negative amount ({op.amount})")
        if op.kind == DEPOSIT:
            accounts[op.account] = balance + op.amount
            self.deposits += op.amount
            return BankResult(op.account, balance + op.amount)
        if op.amount > balance:
            return BankResult(
                op.account,
                balance,
                f"not enough funds: account {op.account} holds {balance}, {op.amount} was requested",
            )
        accounts[op.account] = balance - op.amount
        if op.kind == WITHDRAW:
            self.withdrawals += op.amount
            return BankResult(op.account, balance - op.amount)
        accounts[op.to] = accounts.get(op.to, 0) + op.amount
        return BankResult(op.account, accounts[op.account], None, accounts[op.to])

    def check_balances(self, accounts: dict[int, int]) -> None:
        """BAL: a replica that has applied all slots of the model holds exactly these balances.

        Raises:
            ModelError: it does not, or a balance is negative, or money was made or lost.
        """
        if any(balance < 0 for balance in accounts.values()):
            raise ModelError(f"BAL: a negative balance in {sorted(accounts.items())}")
        if sum(accounts.values()) != self.deposits - self.withdrawals:
            raise ModelError(
                f"BAL: {sum(accounts.values())} on all accounts, {self.deposits} paid in, {self.withdrawals} paid out"
            )
        if accounts != self.accounts:
            raise ModelError(f"BAL: {sorted(accounts.items())} instead of {sorted(self.accounts.items())}")
