"""Random bank transactions, the same for the same seed."""

from random import Random
from typing import Final

from paxos_twisted.apps.bank import BALANCE, KIND_NAMES, TRANSFER, BankOp

ACCOUNT_MAX: Final = 1000
"""Accounts are drawn from 0..1000, both included. [lab 5]"""

AMOUNT_MAX: Final = 10_000
"""Amounts are drawn from 0..10000, both included. [lab 5]"""


class Workload:
    """An endless sequence of transactions: each kind equally likely, accounts and amounts uniform."""

    def __init__(self, seed: int, process: int = 0) -> None:
        """Clients of one bench share the seed and differ by `process`."""
        self._rng = Random(f"{seed}/{process}")

    def next(self) -> BankOp:
        """Draw one transaction."""
        draw = self._rng.randrange
        kind = draw(len(KIND_NAMES))
        account = draw(ACCOUNT_MAX + 1)
        amount = 0 if kind == BALANCE else draw(AMOUNT_MAX + 1)
        to = draw(ACCOUNT_MAX + 1) if kind == TRANSFER else 0
        return BankOp(kind, account, amount, to)
