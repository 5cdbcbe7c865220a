"""Histories for the checker's tests: written by hand, drawn from true runs, and judged by a slow, obvious checker."""

import random
from collections.abc import Mapping, Sequence

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, KIND_NAMES, TRANSFER, WITHDRAW, Bank, BankOp, BankResult
from paxos_twisted.check.command import BankHistory
from paxos_twisted.check.history import Operation

KINDS = (BALANCE, DEPOSIT, WITHDRAW, TRANSFER)

Row = tuple[str, str, int, int]
"""Operation, end, time of the call, time of the end. "deposit 1 5", "5"; "transfer 1 2 5", "0 5"; refused: "refused 3"
(the balance); "unknown", "fail", or "open" for an operation that nobody ever heard of again."""


def history(*rows: Row) -> BankHistory:
    """A history of one client per row: row i is request 1 of client i."""
    made = BankHistory()
    events = []
    for client, (text, end, call, stop) in enumerate(rows):
        events.append((call, 1, client, text, end))
        if end != "open":
            events.append((stop, 0, client, text, end))
    for time, is_call, client, text, end in sorted(events):
        op = _op(text)
        if is_call:
            made.invoke(client, client, 1, op, time)
        elif end == "fail":
            made.fail(client, client, 1, "overloaded", time)
        elif end == "unknown":
            made.unknown(client, client, 1, "timeout", time)
        else:
            made.ok(client, client, 1, _result(op, end), time)
    return made


def brute_force(history: BankHistory, start: Mapping[int, int] | None = None) -> bool:
    """Try every choice among the unknown operations, in every order that time allows. For tiny histories only.

    `start`: what the accounts hold at the beginning, nothing by default.
    """
    balances = start or {}
    operations = history.operations
    place = {event: at for at, event in enumerate(history.events())}
    answered = frozenset(i for i, operation in enumerate(operations) if operation.outcome == "ok")
    candidates = [i for i, operation in enumerate(operations) if operation.outcome != "fail"]
    before = {i: {j for j in answered if place[~j] < place[i]} for i in candidates}

    def extend(order: tuple[int, ...]) -> bool:
        if answered <= set(order):
            return True
        return any(
            before[i] <= set(order) and _is_true(operations, (*order, i), balances) and extend((*order, i))
            for i in candidates
            if i not in order
        )

    return extend(())


def _is_true(
    operations: Sequence[Operation[BankOp, BankResult]], order: Sequence[int], start: Mapping[int, int]
) -> bool:
    bank = Bank()
    for account, balance in start.items():
        bank.accounts.writable(account)[account] = balance
    for i in order:
        result = bank.apply(operations[i].op, 0)
        if operations[i].result not in (None, result):
            return False
    return True


def run(
    rng: random.Random,
    *,
    operations: int,
    processes: int,
    accounts: int,
    amount_max: int,
    unknown: float = 0.0,
    fail: float = 0.0,
    outstanding: int = 1,
    kinds: Sequence[int] = KINDS,
) -> BankHistory:
    """A history of a true bank: each operation takes effect at one instant between its call and its answer.

    `unknown` and `fail` are shares of the operations. An unknown one takes effect before the client gives up, at any
    time later, or never.
    """
    bank = Bank()
    history = BankHistory()
    time = 0
    seqs = [0] * processes
    idle = [process for process in range(processes) for _ in range(outstanding)]
    called: list[Operation[BankOp, BankResult]] = []
    applied: list[tuple[Operation[BankOp, BankResult], BankResult]] = []
    late: list[BankOp] = []
    left = operations
    while left or called or applied:
        time += rng.randrange(3)
        choice = rng.randrange(3)
        if choice == 0 and idle and left:
            left -= 1
            process = idle.pop(rng.randrange(len(idle)))
            seqs[process] += 1
            op = BankOp(
                rng.choice(kinds), rng.randrange(accounts), rng.randrange(amount_max + 1), rng.randrange(accounts)
            )
            called.append(history.invoke(process, 1000 + process, seqs[process], op, time))
        elif choice == 1 and called:
            operation = called.pop(rng.randrange(len(called)))
            draw = rng.random()
            if draw >= fail + unknown:
                applied.append((operation, bank.apply(operation.op, operation.client)))
                continue
            if draw < fail:
                history.fail(operation.process, operation.client, operation.seq, "overloaded", time)
            else:
                history.unknown(operation.process, operation.client, operation.seq, "timeout", time)
                fate = rng.randrange(3)
                if fate == 0:
                    bank.apply(operation.op, operation.client)
                elif fate == 1:
                    late.append(operation.op)
            idle.append(operation.process)
        elif choice == 2 and applied:
            operation, result = applied.pop(rng.randrange(len(applied)))
            history.ok(operation.process, operation.client, operation.seq, result, time)
            idle.append(operation.process)
        if late and rng.random() < 0.1:
            bank.apply(late.pop(rng.randrange(len(late))), 0)
    return history


def mutate(rng: random.Random, history: BankHistory) -> bool:
    """Falsify the balance in one answer. Returns False when there is none."""
    answered = [operation for operation in history.operations if operation.result is not None]
    if not answered:
        return False
    operation = rng.choice(answered)
    result = operation.result
    assert result is not None
    balance = rng.choice([b for b in range(result.balance - 2, result.balance + 3) if b >= 0 and b != result.balance])
    operation.result = BankResult(result.account, balance, result.error, result.to_balance)
    return True


def _op(text: str) -> BankOp:
    kind, *numbers = text.split()
    account, *rest = map(int, numbers)
    if kind == "transfer":
        to, amount = rest
        return BankOp(TRANSFER, account, amount, to)
    return BankOp(KIND_NAMES.index(kind), account, *rest)


def _result(op: BankOp, end: str) -> BankResult:
    words = end.split()
    if words[0] == "refused":
        bank = Bank()
        bank.apply(BankOp(DEPOSIT, op.account, int(words[1])), 0)
        result = bank.apply(op, 0)
        assert result.error is not None
        return result
    return BankResult(op.account, int(words[0]), None, int(words[1]) if len(words) > 1 else None)
