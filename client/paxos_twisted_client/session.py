"""A client session: numbered requests, each with exactly one of three ends. [Raft dissertation, 6.3]

A request ends as
- `OK`: a node answered it. The application's result may still be "not enough funds".
- `REFUSED`: it certainly was not applied, and never will be.
- `UNKNOWN`: it may or may not have been applied, or be applied later.

How do we know the difference when time runs out? A request is *in doubt* from the moment on which a copy of it was sent
and not accounted for: its connection ended, or the node said `Unknown`. A copy that was answered by `Redirect`,
`NoLeader` or a refusal was not applied. A request that was never in doubt and has no copy under way was not applied.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from paxos_twisted.core.command import CLIENT_ID_MAX
from paxos_twisted.limits import COMMAND_BYTES_MAX
from paxos_twisted.types import ClientId
from paxos_twisted.wire.client import FINAL_REFUSALS, Answer, Answers, NoLeader, Redirect, Refused, Unknown
from paxos_twisted_client.connection import NS, NodeConnection
from paxos_twisted_client.limits import OUTSTANDING_MAX, RESEND_FACTOR
from paxos_twisted_client.reactor import Clock, DelayedCall

if TYPE_CHECKING:
    from paxos_twisted_client.pool import Pool

Outcome = Literal["ok", "refused", "unknown"]
OK: Final = "ok"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"

_log = Logger()


class WindowFullError(Exception):
    """The session has as many unanswered requests as it may have; submit again after one has ended."""


class Request:
    """One request from `Session.submit` to its end."""

    __slots__ = (
        "attempts",
        "client",
        "finished_ns",
        "frame",
        "holds",
        "in_doubt",
        "on_done",
        "op",
        "outcome",
        "reason",
        "result",
        "sent_ns",
        "seq",
        "started_ns",
        "text",
        "via",
    )

    def __init__(
        self, client: ClientId, seq: int, op: Any, started_ns: int, on_done: "Callable[[Request], None]"
    ) -> None:
        self.client = client
        self.seq = seq
        self.op = op
        self.started_ns = started_ns
        self.on_done = on_done
        self.finished_ns = 0
        self.outcome: Outcome | None = None
        self.result: Any = None
        """The application's result, when `outcome` is "ok"."""
        self.reason = ""
        """One word, when it is not: see `paxos_twisted.wire.client.Refused`; or timeout, closed."""
        self.text = ""
        """The same for people."""
        self.attempts = 0  # copies sent
        self.holds = 0  # times that a node asked us to repeat it later
        self.in_doubt = False  # a copy was sent and not accounted for; never goes back to False
        self.frame = b""  # encoded once: copies are the same bytes
        self.via: NodeConnection | None = None  # where a copy is under way that is not yet accounted for
        self.sent_ns = 0


class Session:
    """One client id and its numbered requests, many of which may be unanswered. Made by `Pool.session`.

    The id is drawn when the session is made; its `birth` is what the first node that welcomes us has applied, and no
    request leaves before. That is what the replicated session table needs: birth lies before the first command.
    Requests that are unanswered at the same time may be applied in any order.
    """

    def __init__(self, pool: "Pool", reactor: Clock, rng: Random) -> None:
        self.client = ClientId(rng.randint(1, CLIENT_ID_MAX))
        self.birth: int | None = None
        self.is_expired = False  # the cluster has forgotten this session: open another one
        self.strays = 0  # replies about requests that have ended or were repeated elsewhere: ignored
        self._pool = pool
        self._reactor = reactor
        self._patience = pool.patience
        self._rng = rng
        self._now_ns = pool.now_ns
        self._codec = pool.codec
        self._outstanding: dict[int, Request] = {}  # submitted and not ended
        self._is_closed = False
        self._next_seq = 1
        self._low = 1  # every request below has ended; never goes down
        self._unsent: deque[Request] = deque()  # to be sent, in this order; may hold some that have ended meanwhile
        self._held: list[Request] = []  # to be sent when `_hold_timer` fires
        self._hold_timer: DelayedCall | None = None
        self._age_timer: DelayedCall | None = None

    # From the program.

    @property
    def outstanding(self) -> int:
        """Requests that have not ended."""
        return len(self._outstanding)

    @property
    def is_full(self) -> bool:
        """Whether `submit` would raise."""
        return self._next_seq - self._low >= OUTSTANDING_MAX

    def submit(self, op: Any, on_done: Callable[[Request], None], started_ns: int | None = None) -> Request:
        """Send `op` and call `on_done(request)` at its end; never during this call.

        A tuple of operations is a series: they are applied in order with nothing between them, and the result is a
        tuple, too. It leaves when every older request of this session has ended.

        `started_ns` is when the request should have been made, for measuring what the user would have seen.

        Raises:
            WindowFullError: too many requests have not ended, or the oldest one has not for too long.
        """
        assert not self._is_closed
        seq = self._next_seq
        if seq - self._low >= OUTSTANDING_MAX:
            raise WindowFullError(f"{len(self._outstanding)} requests are unanswered, the oldest is {self._low}")
        request = Request(self.client, seq, op, self._now_ns() if started_ns is None else started_ns, on_done)
        self._next_seq = seq + 1
        self._outstanding[seq] = request
        self._unsent.append(request)
        self.pump()
        if self._age_timer is None:
            self._age_timer = self._reactor.callLater(self._age_check_s(), self._check_ages)
        return request

    def call(self, op: Any) -> "Deferred[Request]":
        """Like `submit`, for programs that are not in a hurry: fires with the request at its end, whatever the end.

        Raises:
            WindowFullError: as `submit`.
        """
        done: Deferred[Request] = Deferred()
        self.submit(op, done.callback)
        return done

    def close(self) -> None:
        """Forget the session. Requests that have not ended end as refused or unknown now. Nothing may be submitted."""
        self._is_closed = True
        self.end_all("closed", "the client was closed")
        self._pool.forget(self)

    # From the pool.

    def pump(self) -> None:
        """Send what waits, if there is a node to send it to."""
        unsent = self._unsent
        while unsent and unsent[0].outcome is not None:
            unsent.popleft()
        if not unsent:
            return
        connection = self._pool.current
        if connection is None:
            self._pool.look_for_leader()
            return
        while unsent and not connection.is_paused:
            request = unsent[0]
            if request.outcome is None:
                if self.birth is None:
                    self.birth = connection.birth
                if request.seq >= self._low + (1 if type(request.op) is tuple else connection.window):
                    return
                unsent.popleft()
                self._send(connection, request)
            else:
                unsent.popleft()

    def on_lost(self, connection: NodeConnection) -> None:
        """Every copy under way there is in doubt and has to be repeated."""
        again = [request for request in self._outstanding.values() if request.via is connection]
        for request in again:
            request.via = None
            request.in_doubt = True
        self._unsent.extendleft(reversed(again))

    def end_all(self, reason: str, text: str) -> None:
        """End every request, as refused if it certainly was not applied."""
        for timer in (self._hold_timer, self._age_timer):
            if timer is not None:
                timer.cancel()
        self._hold_timer = self._age_timer = None
        self._unsent.clear()
        self._held.clear()
        for request in list(self._outstanding.values()):  # last: callbacks may submit again
            self._end_without_answer(request, reason, text)

    # From a connection.

    def on_answer(self, connection: NodeConnection, answer: Answer[Any] | Answers[Any]) -> None:
        """The end of a request, whichever copy of it is answered."""
        request = self._outstanding.get(answer.seq)
        if request is None or not request.attempts:
            self.strays += 1
            return
        if not self._pool.is_settled:
            self._pool.settle(connection)
        request.result = answer.result
        self._end(request, OK)

    def on_reply(self, connection: NodeConnection, reply: Refused | Redirect | NoLeader | Unknown) -> bool:
        """Anything but an answer. Returns whether it was about a copy that is under way there."""
        request = self._outstanding.get(reply.seq)
        if request is None or request.via is not connection:
            self.strays += 1
            return False
        connection.unanswered -= 1
        request.via = None
        if isinstance(reply, Refused):
            self._on_refused(request, reply)
            return True
        if isinstance(reply, Unknown):
            request.in_doubt = True
        self._unsent.append(request)
        return True

    # Inside.

    def _send(self, connection: NodeConnection, request: Request) -> None:
        if not request.frame:
            assert self.birth is not None
            request.frame = self._codec.request(self.client, self.birth, request.seq, self._low, request.op)
            if len(request.frame) > COMMAND_BYTES_MAX:
                text = f"a request of {len(request.frame)} bytes; {COMMAND_BYTES_MAX} are allowed"
                self._reactor.callLater(0, self._end_without_answer, request, "invalid", text)
                return
        now_ns = self._now_ns()
        request.attempts += 1
        request.sent_ns = now_ns
        request.via = connection
        connection.send(request.frame, now_ns)

    def _on_refused(self, request: Request, reply: Refused) -> None:
        if reply.reason == "expired":
            self.is_expired = True
        if reply.reason in FINAL_REFUSALS:
            self._end_without_answer(request, reply.reason, reply.text)
            return
        request.holds += 1
        request.reason, request.text = reply.reason, reply.text  # said to the user if time runs out
        self._held.append(request)
        if self._hold_timer is None:
            patience = self._patience
            pause_s = min(patience.pause_max_s, patience.pause_min_s * patience.pause_growth**request.holds)
            self._hold_timer = self._reactor.callLater(pause_s * self._rng.uniform(0.5, 1), self._send_held)

    def _send_held(self) -> None:
        self._hold_timer = None
        self._unsent.extend(self._held)
        self._held.clear()
        self.pump()

    def _check_ages(self) -> None:
        """End what is too old; repeat what a talking node has left unanswered for long (it may have been lost)."""
        self._age_timer = None
        now_ns = self._now_ns()
        patience = self._patience
        request_ns = int(patience.request_s * NS)
        resend_ns = int(patience.read_s * RESEND_FACTOR * NS)
        for request in list(self._outstanding.values()):
            if now_ns - request.started_ns >= request_ns:
                text = request.text or self._pool.trouble or "no answer"
                reason = request.reason or "timeout"
                self._end_without_answer(request, reason, f"no answer within {patience.request_s:g} s ({text})")
            elif request.via is not None and now_ns - request.sent_ns >= resend_ns * request.attempts:
                request.via.unanswered -= 1
                request.via = None
                request.in_doubt = True
                self._unsent.append(request)
        self.pump()
        if self._outstanding and self._age_timer is None:
            self._age_timer = self._reactor.callLater(self._age_check_s(), self._check_ages)

    def _age_check_s(self) -> float:
        """Until the oldest request is too old, but soon enough for repeating lost ones."""
        check_s = self._patience.read_s
        oldest = self._outstanding.get(self._low)
        if oldest is not None:
            left_s = self._patience.request_s - (self._now_ns() - oldest.started_ns) / NS
            check_s = max(0.001, min(check_s, left_s))
        return check_s

    def _end_without_answer(self, request: Request, reason: str, text: str) -> None:
        if request.outcome is not None:
            return
        request.reason, request.text = reason, text
        self._end(request, UNKNOWN if request.in_doubt or request.via is not None else REFUSED)

    def _end(self, request: Request, outcome: Outcome) -> None:
        outstanding = self._outstanding
        seq = request.seq
        del outstanding[seq]
        if seq == self._low:
            low = seq + 1
            while low < self._next_seq and low not in outstanding:
                low += 1
            self._low = low
        if request.via is not None:
            request.via.unanswered -= 1
            request.via = None
        request.outcome = outcome
        request.finished_ns = self._now_ns()
        try:
            request.on_done(request)
        except Exception:
            # The connection and the other requests have no part in the program's mistake.
            _log.failure("the callback of request {seq} failed", seq=seq)
        if self._unsent:
            self.pump()  # the window has moved
