"""The bank in the simulator."""

from collections.abc import Callable

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.bank import BALANCE, DEPOSIT, TRANSFER, WITHDRAW, Bank, BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.sim.model import ModelError
from paxos_twisted.sim.workloads.workload import Habits


class BankSpecification:
    """The bank by the plainest code; it keeps the books of all money that came in and went out."""

    def __init__(self) -> None:
        self.accounts: dict[int, int] = {}
        self.deposits = 0
        self.withdrawals = 0

    def execute(self, op: BankOp, client: int) -> BankResult:
        """Execute one transaction."""
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

    def check(self, application: Application) -> None:
        """BAL, see `check_balances`."""
        assert isinstance(application, Bank)
        self.check_balances(dict(application.accounts.items()))

    def check_balances(self, accounts: dict[int, int]) -> None:
        """BAL: a replica that has applied all commands of the model holds exactly these balances.

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


OWN_ACCOUNTS = 1000
"""Accounts from here on belong to one client each."""


class BankWorkload:
    """Deposits, withdrawals, enquiries, transfers."""

    name = "bank"

    def application(self) -> Application:
        """The shipped bank."""
        return Bank()

    def specification(self) -> BankSpecification:
        """The plain bank."""
        return BankSpecification()

    def checker(self) -> BankModel:
        """One key per account."""
        return BankModel()

    def draw(self, rand: Callable[[], float], habits: Habits, client: int) -> BankOp:
        """A transaction."""
        is_own = habits.own_share > 0 and rand() < habits.own_share
        account, choice = int(rand() * habits.accounts), rand()
        amount = int(rand() * 100)
        if is_own:
            account = OWN_ACCOUNTS + client
        elif choice < habits.transfer_share:
            return BankOp(TRANSFER, account, amount, int(rand() * habits.accounts))
        choice = (choice - habits.transfer_share) / (1 - habits.transfer_share)
        if choice < 0.45:
            return BankOp(DEPOSIT, account, amount)
        if choice < 0.75:
            return BankOp(WITHDRAW, account, amount)
        return BankOp(BALANCE, account)
