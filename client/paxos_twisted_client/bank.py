"""The bank as its clients see it: transactions in words, balances in sentences, the bench of the lab."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, KIND_NAMES, TRANSFER, WITHDRAW, BankOp, BankResult
from paxos_twisted.limits import BANK_ACCOUNT_MAX
from paxos_twisted_client.client_side import ClientSide, Field, Verb
from paxos_twisted_client.workload import Workload

INTEGER_MAX: Final = 2**63 - 1
"""Larger numbers do not fit the wire. What a bank refuses below that, the bank itself refuses."""


class OpJson(msgspec.Struct, omit_defaults=True, gc=False):
    """A transaction in a history."""

    kind: str
    account: int
    amount: int
    to: int | None = None


class ResultJson(msgspec.Struct, gc=False):
    """What the bank said."""

    account: int
    balance: int
    error: str | None
    to_balance: int | None


def _number(text: str) -> int:
    try:
        return int(text.strip().replace("_", "").replace("'", ""))
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a whole number") from None


def _account(text: str) -> int:
    number = _number(text)
    if not 0 <= number <= BANK_ACCOUNT_MAX:
        raise ValueError(f"{text.strip()} is not an account number (0 to {BANK_ACCOUNT_MAX})")
    return number


def _amount(text: str) -> int:
    number = _number(text)
    if abs(number) > INTEGER_MAX:
        raise ValueError(f"{text.strip()} is larger than any bank can hold")
    return number


def _kind(kind: int) -> Callable[..., BankOp]:
    def make(account: int, amount: int = 0, to: int = 0) -> BankOp:
        return BankOp(kind, account, amount, to)

    return make


ACCOUNT: Final = Field("account", "account", _account)
AMOUNT: Final = Field("amount", "amount", _amount)
TO: Final = Field("to", "to account", _account)


class BankSide(ClientSide):
    """The client side of `paxos_twisted.apps.bank`."""

    application = "bank"
    unit = "transaction"
    server = "the bank"
    intro = "Customers of the replicated bank."
    examples = (
        ("", "type transactions at a prompt"),
        ("deposit 17 100", "one transaction"),
        ("--bench -n 500", "500 random ones, with statistics"),
    )
    example = "deposit 17 100"
    hints = (
        "What you leave out is asked for. Words may be shortened (d 17 100); Tab completes.\n"
        f"  Accounts are 0 to {BANK_ACCOUNT_MAX}; they exist once they are used."
    )
    verbs = (
        Verb("balance", (ACCOUNT,), _kind(BALANCE), "Print what ACCOUNT holds.", "what an account holds"),
        Verb("deposit", (ACCOUNT, AMOUNT), _kind(DEPOSIT), "Pay AMOUNT into ACCOUNT.", "pay in"),
        Verb("withdraw", (ACCOUNT, AMOUNT), _kind(WITHDRAW), "Take AMOUNT out of ACCOUNT.", "take out"),
        Verb(
            "transfer",
            (ACCOUNT, TO, AMOUNT),
            _kind(TRANSFER),
            "Move AMOUNT from ACCOUNT to the account TO, all or nothing.",
            "from ACCOUNT to another account, both or neither",
        ),
    )
    asked_first = ACCOUNT  # [lab 5: account, transaction type, amount]
    asked = "account, transaction and amount"
    rejected_key = "rejected_by_bank"

    def did(self, op: BankOp, result: BankResult) -> bool:
        """Unless the bank refused."""
        return result.error is None

    def say(self, op: BankOp, result: BankResult) -> str:
        """The balances, or the refusal."""
        if result.error is not None:
            return f"refused: {result.error}"
        said = f"account {result.account}: balance {result.balance}"
        if result.to_balance is not None:
            said += f", account {op.to}: balance {result.to_balance}"
        return said

    def op_json(self, op: BankOp) -> OpJson:
        """See docs/history.md."""
        kind = KIND_NAMES[op.kind] if 0 <= op.kind < len(KIND_NAMES) else "unknown"
        return OpJson(kind, op.account, op.amount, op.to if op.kind == TRANSFER else None)

    def result_json(self, op: BankOp, result: BankResult) -> ResultJson:
        """See docs/history.md."""
        return ResultJson(result.account, result.balance, result.error, result.to_balance)

    def workload(self, seed: int, process: int, options: Mapping[str, Any]) -> Workload:
        """The lab's: each kind equally likely, accounts and amounts uniform."""
        return Workload(seed, process)


BANK: Final = BankSide()
