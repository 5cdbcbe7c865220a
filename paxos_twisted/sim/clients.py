"""Simulated clients: closed-loop or pipelined, stubborn, and honest about what they do not know.

A client keeps each request's number through all its tries. It moves to another node on a redirect, a time-out or a lost
connection. What it invoked and learnt goes into a history, in the format of `paxos_twisted.check`.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec

from paxos_twisted.check.history import History
from paxos_twisted.core.command import Command, Series
from paxos_twisted.sim.invariants import result_of
from paxos_twisted.sim.scheduler import Scheduler
from paxos_twisted.sim.workloads import Habits, Workload
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.client import (
    FINAL_REFUSALS,
    Answer,
    Answers,
    NoLeader,
    ProtocolError,
    Redirect,
    Refused,
    Reply,
    Unknown,
)


class Service(Protocol):
    """The client port of a node, at the end of a network."""

    def submit(self, client: "SimClient", node: NodeId, raw: bytes, connection: int) -> None:
        """Send a request. Answers come to `client.answered`, a lost connection to `client.disconnected`."""
        ...

    def leave(self, session: ClientId, node: NodeId, connection: int) -> None:
        """Close a connection."""
        ...

    def applied(self, node: NodeId) -> int:
        """What the node's welcome says: its last applied slot, or -1 when it is not there."""
        ...


class Pending(msgspec.Struct, gc=False):
    """A request without an outcome yet."""

    seq: int
    op: Any
    """A tuple of operations: a series."""
    is_open: bool = False
    """A node has it and has not answered."""
    is_doubtful: bool = False
    """Some node that had it did not say that it refused it: it may be applied, now or later."""
    tries: int = 0


class SimClient:
    """One client program: one session at a time, a new one after it "died"."""

    def __init__(
        self,
        number: int,
        nodes: tuple[NodeId, ...],
        habits: Habits,
        scheduler: Scheduler,
        rng: random.Random,
        service: Service,
        history: History[Any, Any],
        workload: Workload,
        series_rng: random.Random,
    ) -> None:
        self.number = number
        self.nodes = nodes
        self.habits = habits
        self.history = history
        self.workload = workload
        self.is_done = False
        self.answered_count = 0
        self.redirects = 0
        self.answers: list[tuple[ClientId, int, Any]] = []
        """Everything this client was told as done: DUR."""
        self.on_trace: Callable[[str], None] | None = None
        self._scheduler = scheduler
        self._rng = rng
        self._series_rng = series_rng  # of its own: a client without series does what it did before there were any
        self._service = service
        self._left = habits.requests
        self._pending: dict[int, Pending] = {}
        self._target = nodes[int(rng.random() * len(nodes))]
        self._connection = 0  # grows with every move: answers on older connections are not read
        self._timeout = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._sessions: set[int] = set()
        self._open_session()

    def start(self, delay_ms: int) -> None:
        """Begin with the first request(s) after `delay_ms`."""
        for _ in range(self.habits.outstanding):
            self._scheduler.after(delay_ms + int(self._rng.random() * 5), self._next)

    def stop(self) -> None:
        """Begin no further requests; finish the open ones."""
        self._left = 0
        self._check_done()

    def aim(self, node: NodeId) -> None:
        """Talk to this node from now on (a scenario wants it there)."""
        self._move(node)

    @property
    def pending(self) -> int:
        """Requests without an outcome."""
        return len(self._pending)

    # ---- requests

    def _open_session(self) -> None:
        self.client = ClientId(self._rng.getrandbits(63))
        self._sessions.add(self.client)
        self._seq = 0
        self._birth = max(-1, self._service.applied(self._target))

    def _next(self) -> None:
        if not self._left:
            self._check_done()
            return
        self._left -= 1
        self._seq += 1
        pending = Pending(self._seq, self._draw())
        self._pending[pending.seq] = pending
        self._record("invoke", pending)
        self._submit(pending)

    def _draw(self) -> Any:
        """One operation, or a series: only when nothing is unanswered, for its session keeps one request then."""
        habits, rand = self.habits, self._series_rng.random
        if self._pending or not habits.series_share or rand() >= habits.series_share:
            return self.workload.draw(self._rng.random, habits, self.number)
        length = 2 + int(rand() * (habits.series_length_max - 1))
        return tuple([self.workload.draw(rand, habits, self.number) for _ in range(length)])

    def _submit(self, pending: Pending) -> None:
        pending.is_open = True
        pending.tries += 1
        ack = next(iter(self._pending))  # in the order of seq: the first is the oldest
        kind: Any = Series if type(pending.op) is tuple else Command
        command = kind(self.client, self._birth, pending.seq, ack, pending.op)
        self._watch()
        self._service.submit(self, self._target, self._encode(command), self._connection)

    def _watch(self) -> None:
        """(Re)start the time-out of the connection: it ends when nothing is heard for so long."""
        self._timeout += 1
        self._scheduler.after(self.habits.timeout_ms, partial(self._timed_out, self._timeout))

    def _again(self, client: ClientId, seq: int) -> None:
        pending = self._pending.get(seq)
        if client == self.client and pending is not None and not pending.is_open:
            self._submit(pending)

    # ---- what comes back

    def answered(self, node: NodeId, connection: int, reply: Reply) -> None:
        """A reply has come over a connection; one that was left is not read any more."""
        if connection != self._connection:
            return
        if isinstance(reply, Redirect) and reply.seq == 0:
            return
        assert not isinstance(reply, ProtocolError), f"node {node} complained about our bytes: {reply!r}"
        assert reply.client in self._sessions, f"node {node} sent {reply!r} to client {self.client}"
        if reply.client != self.client:
            return
        match reply:
            case Answer() | Answers():
                pending = self._pending.pop(reply.seq, None)
                if pending is None:
                    return
                if self._pending:
                    self._watch()
                else:
                    self._timeout += 1
                result = result_of(reply)
                assert isinstance(reply, Answers) == (type(pending.op) is tuple), f"{reply!r} to {pending.op!r}"
                self.answered_count += 1
                self.answers.append((self.client, reply.seq, result))
                self._record("ok", pending, result=result)
                self._scheduler.after(int(self._rng.random() * self.habits.think_ms), self._next)
            case Refused():
                self._refused(reply)
            case Redirect():
                self.redirects += 1
                self._rejected(reply.seq)
                if reply.leader != self._target:
                    self._move(reply.leader)
            case NoLeader():
                self._rejected(reply.seq)
                if reply.seq in self._pending:
                    if self._rng.random() < 0.3:
                        self._move(self._other_node(), pause_ms=reply.retry_after_ms)
                    else:
                        self._retry_later(reply.seq, reply.retry_after_ms)
            case Unknown():
                pending = self._pending.get(reply.seq)
                if pending is not None:
                    pending.is_open = False
                    pending.is_doubtful = True
                    self._retry_later(reply.seq, 20)

    def disconnected(self, node: NodeId, connection: int) -> None:
        """The connection broke: whatever was open is doubtful."""
        if connection == self._connection:
            self._move(self._other_node(), pause_ms=10)

    def _rejected(self, seq: int) -> None:
        pending = self._pending.get(seq)
        if pending is None:
            return
        pending.is_open = False
        if not pending.is_doubtful and pending.tries > 1 and self._rng.random() < self.habits.give_up_share:
            del self._pending[seq]
            self._record("fail", pending, "refused")
            self._scheduler.after(int(self._rng.random() * self.habits.think_ms), self._next)

    def _refused(self, reply: Refused) -> None:
        pending = self._pending.get(reply.seq)
        if pending is None:
            return
        if reply.reason in FINAL_REFUSALS:
            del self._pending[reply.seq]
            self._record("unknown" if pending.is_doubtful else "fail", pending, reply.reason)
            if reply.reason == "expired" and not self._pending:
                self._open_session()
            self._scheduler.after(int(self._rng.random() * self.habits.think_ms), self._next)
        else:
            self._rejected(reply.seq)
            self._retry_later(reply.seq, 50)

    def _retry_later(self, seq: int, delay_ms: int) -> None:
        if seq in self._pending:
            delay = max(1, delay_ms) + int(self._rng.random() * 10)
            self._scheduler.after(delay, partial(self._again, self.client, seq))

    def _timed_out(self, timeout: int) -> None:
        if timeout != self._timeout or not self._pending:
            return
        if self._rng.random() < self.habits.give_up_share:
            self._die()
        else:
            self._move(self._other_node())

    def _other_node(self) -> NodeId:
        others = [node for node in self.nodes if node != self._target]
        return others[int(self._rng.random() * len(others))]

    def _move(self, node: NodeId, pause_ms: int = 0) -> None:
        """Leave the connection and repeat all open requests at `node`, with the same numbers."""
        self._service.leave(self.client, self._target, self._connection)
        self._connection += 1
        self._target = node
        for pending in self._pending.values():
            if pending.is_open:
                pending.is_doubtful = True
                pending.is_open = False
            self._scheduler.after(pause_ms, partial(self._again, self.client, pending.seq))
        if self._pending:
            self._watch()

    def _die(self) -> None:
        """The program is killed and started again: a new session that knows nothing of the old one."""
        count = len(self._pending)
        for pending in self._pending.values():
            self._record("unknown", pending, "the client died")
        self._pending.clear()
        self._service.leave(self.client, self._target, self._connection)
        self._connection += 1
        self._target = self._other_node()
        self._open_session()
        for _ in range(count):
            self._scheduler.after(int(self._rng.random() * self.habits.think_ms), self._next)

    def _check_done(self) -> None:
        self.is_done = not self._left and not self._pending

    def _record(self, kind: str, pending: Pending, text: str = "", result: Any = None) -> None:
        client, history, now = int(self.client), self.history, self._scheduler.now_ms * 1_000_000
        match kind:
            case "invoke":
                history.invoke(client, client, pending.seq, pending.op, now)
            case "ok":
                assert result is not None
                history.ok(client, client, pending.seq, result, now)
            case "fail":
                history.fail(client, client, pending.seq, text, now)
            case _:
                history.unknown(client, client, pending.seq, text, now)
        if kind != "invoke":
            self._check_done()
        if self.on_trace is not None:
            self.on_trace(f"client {self.number} {kind} {pending.seq} {pending.op!r} {text or result!r}")
