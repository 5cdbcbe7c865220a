"""The bank: accounts that hold whole numbers of the smallest unit of money, created on first use with balance 0."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.apps.application import Application, Footprint
from paxos_twisted.core.table import Table
from paxos_twisted.limits import BANK_ACCOUNT_MAX, BANK_AMOUNT_MAX, BANK_BALANCE_MAX

Account = Annotated[int, Meta(ge=0, le=BANK_ACCOUNT_MAX)]

BALANCE, DEPOSIT, WITHDRAW, TRANSFER = range(4)
KIND_NAMES = ("balance", "deposit", "withdraw", "transfer")


class BankOp(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One transaction. Every integer that fits 64 bits is let in: the bank itself refuses it, with a result, so that a
    foolish transaction is answered like any other (and takes its slot)."""

    kind: int
    """BALANCE, DEPOSIT, WITHDRAW, TRANSFER; others are answered with an error."""
    account: Account
    amount: int = 0
    """Ignored by BALANCE."""
    to: Account = 0
    """The account that TRANSFER pays into."""


class BankResult(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the teller says."""

    account: int
    balance: int
    """Of `account`, after the transaction (unchanged when there is an error)."""
    error: str | None = None
    to_balance: int | None = None
    """Of the account that TRANSFER paid into; None for the other kinds and on error."""


class Bank(Application):
    """Accounts and their balances. Invariants: no balance below 0; a transfer conserves the sum of all balances."""

    name = "bank"
    op_type = BankOp
    result_type = BankResult
    op_names: tuple[str, ...] = (*KIND_NAMES, "unknown")
    takes_series = True

    def __init__(self) -> None:
        self.accounts: Table[int, int] = Table("accounts", tuple[int, int], int)

    def tables(self) -> Iterable[Table[int, int]]:
        """The accounts are the whole state."""
        return (self.accounts,)

    def op_name(self, op: BankOp) -> str:
        """The transaction's name; "unknown" for a kind the bank does not know."""
        return KIND_NAMES[op.kind] if 0 <= op.kind < len(KIND_NAMES) else "unknown"

    def outcome(self, result: BankResult) -> str:
        """A result with an error is a refusal by the bank."""
        return "ok" if result.error is None else "rejected"

    def footprint(self, op: BankOp) -> Footprint:
        """The accounts of the transaction. Asking for a balance creates the account, but that changes no answer; it
        changes the state only from "absent" to 0, the same in any order."""
        if op.kind == TRANSFER:
            return Footprint((op.account, op.to))
        return Footprint((op.account,), writes=op.kind in (DEPOSIT, WITHDRAW))

    def apply(self, op: BankOp, client: int) -> BankResult:
        """Execute one transaction. Errors change nothing, except that the account exists afterwards."""
        account, amount, kind = op.account, op.amount, op.kind
        shard = self.accounts.writable(account)
        balance = shard.setdefault(account, 0)
        if kind == DEPOSIT and 0 <= amount <= BANK_AMOUNT_MAX and balance + amount <= BANK_BALANCE_MAX:
            shard[account] = balance = balance + amount
            return BankResult(account, balance)
        if kind == BALANCE:
            return BankResult(account, balance)
        if not DEPOSIT <= kind <= TRANSFER:
            return BankResult(account, balance, f"unknown operation {kind}")
        if not 0 <= amount <= BANK_AMOUNT_MAX:
            return BankResult(account, balance, _amount_error(KIND_NAMES[kind], amount))
        if kind == DEPOSIT:
            return BankResult(account, balance, _full_error(account, balance, amount))
        if amount > balance:
            return BankResult(
                account, balance, f"not enough funds: account {account} holds {balance}, {amount} was requested"
            )
        if kind == WITHDRAW:
            shard[account] = balance = balance - amount
            return BankResult(account, balance)
        return self._transfer(op, balance)

    def _transfer(self, op: BankOp, balance: int) -> BankResult:
        shard_to = self.accounts.writable(op.to)
        balance_to = shard_to.setdefault(op.to, 0)
        if op.to == op.account:
            return BankResult(op.account, balance, None, balance)
        if balance_to + op.amount > BANK_BALANCE_MAX:
            return BankResult(op.account, balance, _full_error(op.to, balance_to, op.amount))
        balance -= op.amount
        balance_to += op.amount
        self.accounts.writable(op.account)[op.account] = balance
        shard_to[op.to] = balance_to
        return BankResult(op.account, balance, None, balance_to)


def _amount_error(kind: str, amount: int) -> str:
    if amount < 0:
        return f"cannot {kind} a negative amount ({amount})"
    return f"cannot {kind} {amount}: the most in one transaction is {BANK_AMOUNT_MAX}"


def _full_error(account: int, balance: int, amount: int) -> str:
    return f"account {account} holds {balance} and cannot take {amount} more: the most is {BANK_BALANCE_MAX}"
