"""The bank as the checker sees it: one key per account, executed by the bank's own code."""

import re
from collections.abc import Hashable, Iterable, Sequence
from itertools import product

import msgspec

from paxos_twisted.apps.bank import (
    BALANCE,
    DEPOSIT,
    KIND_NAMES,
    TRANSFER,
    WITHDRAW,
    Account,
    Bank,
    BankOp,
    BankResult,
)
from paxos_twisted.check.model import State
from paxos_twisted.limits import BANK_AMOUNT_MAX, BANK_BALANCE_MAX, SHARDS

ANY = None
"""The balance of an account that nobody has looked at since the history began, when the bank was in use before."""

Part = tuple[BankOp, BankResult | None]


class _OpLine(msgspec.Struct):
    kind: str | int
    account: Account
    amount: int = 0
    to: Account = 0


class _ResultLine(msgspec.Struct):
    account: int
    balance: int
    error: str | None = None
    to_balance: int | None = None


_read_op = msgspec.json.Decoder(_OpLine).decode
_read_result = msgspec.json.Decoder(_ResultLine).decode


class BankModel:
    """`paxos_twisted.apps.bank.Bank`, one or two accounts at a time.

    The rules are not written down again here: a step lays the balances into a scratch bank and lets it work.
    """

    name = "bank"

    def __init__(self, *, fresh: bool = True) -> None:
        """`fresh`: every account was empty when the history began. Otherwise its first balance is taken as it comes."""
        self.fresh = fresh
        self._bank = Bank()
        self._shards = self._bank.accounts.shards
        self._apply = self._bank.apply

    def keys(self, op: BankOp, result: BankResult | None) -> tuple[Hashable, ...]:
        """The account; for a transfer both accounts, unless the bank refused before it looked at the second one."""
        account, to, amount = op.account, op.to, op.amount
        if op.kind != TRANSFER or to == account or not 0 <= amount <= BANK_AMOUNT_MAX:
            return (account,)
        if result is not None and result.error is not None and amount > result.balance:
            return (account,)
        return (account, to)

    def initial(self, key: Hashable) -> Hashable:
        """Accounts are created on first use with balance 0."""
        return 0 if self.fresh else ANY

    def step(self, state: State, op: BankOp, result: BankResult | None) -> State | None:
        """Execute `op` on these balances, see `Model.step`."""
        if ANY in state:
            return self._step_from_any(state, op, result)
        account = op.account
        shard = self._shards[account % SHARDS]
        shard[account] = state[0]  # type: ignore[assignment]
        if len(state) == 1:
            got = self._apply(op, 0)
            return None if result is not None and got != result else (shard[account],)
        to = op.to
        shard_to = self._shards[to % SHARDS]
        shard_to[to] = state[1]  # type: ignore[assignment]
        got = self._apply(op, 0)
        return None if result is not None and got != result else (shard[account], shard_to[to])

    def is_read(self, op: BankOp, result: BankResult | None) -> bool:
        """Balance enquiries, transfers to the same account, and what the bank refused or must refuse."""
        if result is not None and result.error is not None:
            return True
        if op.kind == TRANSFER and op.to == op.account:
            return True
        return not (DEPOSIT <= op.kind <= TRANSFER and 0 < op.amount <= BANK_AMOUNT_MAX)

    def parts(self, op: BankOp, result: BankResult | None) -> Sequence[Part]:
        """A transfer is a withdrawal to who sees only one account, and a deposit to who sees only the other."""
        if op.kind != TRANSFER:
            return ((op, result),)
        if result is None:
            if op.to == op.account:
                return ()
            return (BankOp(WITHDRAW, op.account, op.amount), None), (BankOp(DEPOSIT, op.to, op.amount), None)
        if result.error is not None or result.to_balance is None or op.to == op.account:
            return ((BankOp(BALANCE, op.account), BankResult(op.account, result.balance)),)
        return (
            (BankOp(WITHDRAW, op.account, op.amount), BankResult(op.account, result.balance)),
            (BankOp(DEPOSIT, op.to, op.amount), BankResult(op.to, result.to_balance)),
        )

    def befores(self, op: BankOp, result: BankResult) -> Iterable[State]:
        """All balances of `keys(op, result)` in which `op` answers `result`; none: no bank answers like that.

        The bank decides, we only guess: the balance before is the stated one, or differs from it by the amount, or
        (the second account of a refused transfer) stands in the text.
        """
        stated = {result.balance, *([] if result.to_balance is None else [result.to_balance])}
        if result.error is not None:
            stated.update(int(digits) for digits in re.findall(r"\d+", result.error[:500]) if len(digits) < 20)
        guesses = {balance + change for balance in stated for change in (0, op.amount, -op.amount)}
        balances = sorted(balance for balance in guesses if 0 <= balance <= BANK_BALANCE_MAX)
        width = len(self.keys(op, result))
        return (state for state in product(balances, repeat=width) if self.step(state, op, result) is not None)

    def misfit(self, op: BankOp, result: BankResult) -> str | None:
        """Why no bank answers like that."""
        if result.account != op.account:
            return f"was answered for account {result.account}: that is the answer to another request"
        if not any(True for _ in self.befores(op, result)):
            return f"was answered {self.say_result(result)}: no bank can answer that"
        return None

    def _step_from_any(self, state: State, op: BankOp, result: BankResult | None) -> State | None:
        if result is not None:
            for before in self.befores(op, result):
                if all(value is ANY or value == guess for value, guess in zip(state, before, strict=True)):
                    return self.step(before, op, result)
            return None
        # Nobody saw the answer: an account that held anything before holds anything afterwards, and can pay.
        if len(state) == 1:
            return state
        balance, balance_to = state
        after = self.step((op.amount if balance is ANY else balance, 0 if balance_to is ANY else balance_to), op, None)
        assert after is not None
        return ANY if balance is ANY else after[0], ANY if balance_to is ANY else after[1]

    # The language of history files and of explanations, see `Language`.

    def read_op(self, raw: bytes) -> BankOp:
        """Decode {"kind", "account"[, "amount"][, "to"]}; a kind that has no name is a number."""
        line = _read_op(raw)
        if isinstance(line.kind, int):
            return BankOp(line.kind, line.account, line.amount, line.to)
        if line.kind not in KIND_NAMES:
            raise msgspec.ValidationError(f"unknown kind of operation {line.kind!r}; there are {', '.join(KIND_NAMES)}")
        return BankOp(KIND_NAMES.index(line.kind), line.account, line.amount, line.to)

    def read_result(self, raw: bytes) -> BankResult:
        """Decode {"account", "balance"[, "error"][, "to_balance"]}."""
        line = _read_result(raw)
        return BankResult(line.account, line.balance, line.error, line.to_balance)

    def write_op(self, op: BankOp) -> dict[str, object]:
        """The inverse of `read_op`."""
        known = 0 <= op.kind < len(KIND_NAMES)
        line: dict[str, object] = {"kind": KIND_NAMES[op.kind] if known else op.kind, "account": op.account}
        if op.kind != BALANCE or op.amount:
            line["amount"] = op.amount
        if op.kind == TRANSFER or op.to:
            line["to"] = op.to
        return line

    def write_result(self, result: BankResult) -> dict[str, object]:
        """The inverse of `read_result`."""
        return {
            "account": result.account,
            "balance": result.balance,
            "error": result.error,
            "to_balance": result.to_balance,
        }

    def say_op(self, op: BankOp) -> str:
        """As `bankclient` takes it, e.g. "transfer 17 18 100"."""
        if op.kind == BALANCE:
            return f"balance {op.account}"
        if op.kind == TRANSFER:
            return f"transfer {op.account} {op.to} {op.amount}"
        name = self._bank.op_name(op)
        return f"{name} {op.account} {op.amount}" if name != "unknown" else f"operation {op.kind} on {op.account}"

    def say_result(self, result: BankResult) -> str:
        """The balances, or the refusal."""
        if result.error is not None:
            return f"balance {result.balance}, refused: {result.error}"
        if result.to_balance is not None:
            return f"balance {result.balance}, the other's {result.to_balance}"
        return f"balance {result.balance}"

    def say_value(self, key: Hashable, value: Hashable) -> str:
        """What the account holds."""
        return f"account {key} holds {'an unknown amount' if value is ANY else value}"
