"""Cheap checks beside linearizability: they need no search, name the guilty request at once, and look at the end state.

Each returns sentences, one per finding; an empty list means that nothing was found. They are necessary conditions: a
history that passes them all may still be wrong.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from paxos_twisted.apps.bank import DEPOSIT, WITHDRAW, BankOp, BankResult
from paxos_twisted.check.bank import BankModel
from paxos_twisted.check.history import Operation
from paxos_twisted.check.model import ApplicationModel

FINDINGS_MAX = 20
"""Nobody reads more; a last sentence says how many there were."""

SUMS_MAX = 100_000
"""Sums of unknown amounts that are told apart; beyond it only their bounds are used."""

BankOperation = Operation[BankOp, BankResult]


def check_completions(operations: Iterable[Operation[Any, Any]]) -> list[str]:
    """Each (client, seq) occurs once and has at most one end, and an answer comes with a result and never early.

    The recorder and the reader refuse such histories anyway; this is for operations that come from elsewhere.
    """
    findings = []
    seen: set[tuple[int, int]] = set()
    for operation in operations:
        request = operation.client, operation.seq
        if request in seen:
            findings.append(f"{_request(operation)} occurs twice")
        seen.add(request)
        if (operation.outcome == "ok") != (operation.result is not None):
            has = "no result" if operation.result is None else "a result"
            findings.append(f"{_request(operation)} is {operation.outcome}, but has {has}")
        if operation.end is not None and operation.end < operation.call:
            findings.append(f"{_request(operation)} ends before it is called")
    return _bounded(findings)


def check_answers(
    operations: Iterable[Operation[Any, Any]], model: ApplicationModel[Any, Any] | None = None
) -> list[str]:
    """Each answer is one that the application (the bank by default) can give to that request in some state."""
    model = model or BankModel()
    findings = []
    for operation in operations:
        op, result = operation.op, operation.result
        if result is not None and (wrong := model.misfit(op, result)) is not None:
            findings.append(f"{_request(operation)}, {model.say_op(op)}, {wrong}")
    return _bounded(findings)


def check_conservation(
    operations: Iterable[BankOperation], balances: Mapping[int, int], start: Mapping[int, int] | None = None
) -> list[str]:
    """The money at the end is the money at the start, plus deposits, minus withdrawals; transfers conserve it.

    Args:
        operations: the whole history, of all clients.
        balances: what all accounts hold after everything has been applied, by a replica's word.
        start: what they held before; nothing by default.

    Unknown transactions may or may not have been applied: any choice that explains the sum is accepted.
    """
    certain = sum(start.values()) if start else 0
    open_amounts: list[int] = []
    for operation in operations:
        sign = {DEPOSIT: 1, WITHDRAW: -1}.get(operation.op.kind, 0)
        amount = sign * operation.op.amount
        if operation.outcome == "ok":
            if operation.result is not None and operation.result.error is None:
                certain += amount
        elif operation.outcome != "fail" and amount and not BankModel().is_read(operation.op, None):
            open_amounts.append(amount)
    total = sum(balances.values())
    findings = [f"account {account} holds {held}" for account, held in sorted(balances.items()) if held < 0]
    if not _is_sum(total - certain, open_amounts):
        unknown = f", and no choice among {len(open_amounts)} unknown transactions explains it" if open_amounts else ""
        findings.append(
            f"all accounts together hold {total}, but the answered transactions leave {certain}: "
            f"{abs(total - certain)} {'too much' if total > certain else 'are missing'}{unknown}"
        )
    return _bounded(findings)


def _is_sum(wanted: int, amounts: list[int]) -> bool:
    """Whether some of `amounts` add up to `wanted`. With very many of them, whether it lies between the extremes."""
    if not _least(amounts) <= wanted <= _most(amounts):
        return False
    sums = {0}
    for amount in amounts:
        sums |= {earlier + amount for earlier in sums}
        if len(sums) > SUMS_MAX:
            return True
    return wanted in sums


def _least(amounts: Iterable[int]) -> int:
    """The least that some of them add up to."""
    return sum(amount for amount in amounts if amount < 0)


def _most(amounts: Iterable[int]) -> int:
    """The most that some of them add up to."""
    return sum(amount for amount in amounts if amount > 0)


def _request(operation: Operation[Any, Any]) -> str:
    where = f" (line {operation.call_line})" if operation.call_line else ""
    return f"request {operation.seq} of client {operation.client}{where}"


def _bounded(findings: list[str]) -> list[str]:
    if len(findings) <= FINDINGS_MAX:
        return findings
    return [*findings[:FINDINGS_MAX], f"… and {len(findings) - FINDINGS_MAX} more"]
