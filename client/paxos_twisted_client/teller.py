"""One transaction at a time for programs that wait for each: sessions that expire are renewed by themselves."""

from typing import Any

from paxos_twisted.apps.bank import KIND_NAMES, TRANSFER, BankOp, BankResult
from paxos_twisted_client.connection import NS
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.session import OK, REFUSED, Request

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNKNOWN = 0, 1, 2, 4
"""Exit codes of all our programs: done; refused; wrong arguments; no answer in time, or outcome unknown."""


class Teller:
    """A session that lives as long as the program."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._session = pool.session()
        self.transactions = 0

    async def execute(self, op: BankOp) -> Request:
        """Send one transaction and wait for its end."""
        request = await self._session.call(op)
        if self._session.is_expired:
            self._session = self._pool.renew(self._session)
            if request.outcome == REFUSED:  # certainly not applied: no harm in asking again under a new name
                request = await self._session.call(op)
        self.transactions += 1
        return request


def exit_code(request: Request) -> int:
    """How a program that made only this request ends."""
    if request.outcome == OK:
        return EXIT_OK if request.result.error is None else EXIT_FAILED
    if request.outcome == REFUSED and request.reason not in {"timeout", "overloaded", "disk-full"}:
        return EXIT_FAILED
    return EXIT_UNKNOWN


def sentence(request: Request) -> str:
    """The outcome for people, in one line."""
    if request.outcome == OK:
        result: BankResult = request.result
        if result.error is not None:
            return f"refused: {result.error}"
        said = f"account {result.account}: balance {result.balance}"
        if result.to_balance is not None:
            said += f", account {request.op.to}: balance {result.to_balance}"
        return said
    if request.outcome == REFUSED:
        return f"not done: {request.text}"
    return f"unknown: it may or may not have been done; {request.text}"


def as_json(request: Request, node: str) -> dict[str, Any]:
    """The outcome for programs."""
    op: BankOp = request.op
    transaction: dict[str, Any] = {"kind": KIND_NAMES[op.kind], "account": op.account, "amount": op.amount}
    if op.kind == TRANSFER:
        transaction["to"] = op.to
    said: dict[str, Any] = {"outcome": request.outcome, "op": transaction}
    if request.outcome == OK:
        result: BankResult = request.result
        said["result"] = {
            "account": result.account,
            "balance": result.balance,
            "error": result.error,
            "to_balance": result.to_balance,
        }
    else:
        said["reason"] = request.reason
        said["text"] = request.text
    said |= {
        "client": request.client,
        "seq": request.seq,
        "attempts": request.attempts,
        "rtt_ms": round((request.finished_ns - request.started_ns) / NS * 1000, 3),
        "node": node,
    }
    return said
