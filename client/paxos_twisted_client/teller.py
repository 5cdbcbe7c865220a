"""One operation at a time for programs that wait for each: sessions that expire are renewed by themselves."""

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from paxos_twisted_client.client_side import ClientSide
from paxos_twisted_client.connection import NS
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.session import OK, REFUSED, Request

_log = Logger()

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNKNOWN = 0, 1, 2, 4
"""Exit codes of all our programs: done; refused; wrong arguments; no answer in time, or outcome unknown."""


class Teller:
    """A session that lives as long as the program."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._session = pool.session()

    async def execute(self, op: Any) -> Request:
        """Send one operation and wait for its end."""
        request = await self._session.call(op)
        if self._session.is_expired:
            self._session = self._pool.renew(self._session)
            if request.outcome == REFUSED:  # certainly not applied: no harm in asking again under a new name
                request = await self._session.call(op)
        return request

    def execute_soon(self, op: Any, on_done: Callable[[Request], object]) -> None:
        """Send one operation and call `on_done` at its end. Several may be under way."""
        Deferred.fromCoroutine(self.execute(op)).addCallback(on_done).addErrback(_log_failure)


def _log_failure(failure: Any) -> None:
    _log.failure("what followed an answer failed", failure)


def exit_code(side: ClientSide, request: Request) -> int:
    """How a program that made only this request ends."""
    if request.outcome == OK:
        return EXIT_OK if side.did(request.op, request.result) else EXIT_FAILED
    if request.outcome == REFUSED and request.reason not in {"timeout", "overloaded", "disk-full"}:
        return EXIT_FAILED
    return EXIT_UNKNOWN


def sentence(side: ClientSide, request: Request) -> str:
    """The outcome for people."""
    if request.outcome == OK:
        return side.say(request.op, request.result)
    if request.outcome == REFUSED:
        return f"not done: {request.text}"
    return f"unknown: it may or may not have been done; {request.text}"


def as_json(side: ClientSide, request: Request, node: str) -> dict[str, Any]:
    """The outcome for programs."""
    said: dict[str, Any] = {"outcome": request.outcome, "op": msgspec.to_builtins(side.op_json(request.op))}
    if request.outcome == OK:
        said["result"] = msgspec.to_builtins(side.result_json(request.op, request.result))
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
