"""The bench: clients that send random operations, and what they measured."""

import subprocess
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from paxos_twisted_client.bank import BANK
from paxos_twisted_client.client_side import ClientSide
from paxos_twisted_client.connection import NS
from paxos_twisted_client.history import HistoryWriter
from paxos_twisted_client.pool import Pool, Step
from paxos_twisted_client.reactor import Clock, DelayedCall
from paxos_twisted_client.session import OK, REFUSED, Request, Session
from paxos_twisted_client.statistics import GapMeter


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to do."""

    requests: int
    """Per client."""
    clients: int = 1
    outstanding: int = 1
    """Requests of one client that are unanswered at the same time; 1 is the lab's synchronous client."""
    rate: float | None = None
    """Requests per second over all clients, sent at their time whether or not answers come (open loop)."""
    batch: int = 1
    """Operations of one request; more than 1: requests are series, and counts and times are those of series."""
    seed: int = 0
    target: str = "first"
    """Which nodes the clients begin with, see `paxos_twisted_client.target`."""
    spread: int = 1
    """Sessions of one client, each with a pool of its own, among which its requests go in turns."""
    workload: Mapping[str, Any] = field(default_factory=dict)
    """The application's own options, see `ClientSide.workload_of`."""


@dataclass(slots=True)
class Mark:
    """A command to run once that many requests have been answered."""

    at: int
    command: str
    time_ns: int | None = None
    """When it was started."""
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)


class BenchClient:
    """One client and what it has seen."""

    def __init__(self, bench: "Bench", process: int, pools: Sequence[Pool]) -> None:
        self.process = process
        self.pools = pools
        # A session has one series under way.
        self.sessions = [
            pool.session() for pool in pools for _ in range(bench.plan.outstanding if bench.is_series else 1)
        ]
        self.rtts_ns = array("q")  # of answered requests, in the order of the answers
        self.gap = GapMeter()
        self.sent = 0
        self.rejected = 0  # answered, but the application said no
        self.refused = 0
        self.unknown = 0
        self._bench = bench
        self._is_rejected = bench.side.is_rejected
        self._workload = bench.side.workload(bench.plan.seed, process, bench.plan.workload)

    @property
    def answered(self) -> int:
        """Requests that a node answered."""
        return len(self.rtts_ns)

    @property
    def ended(self) -> int:
        """Requests that have ended, one way or another."""
        return len(self.rtts_ns) + self.refused + self.unknown

    def steps_since(self, time_ns: int) -> Sequence[Step]:
        """What the client has done since then to find the leader."""
        return [step for pool in self.pools for step in pool.steps_since(time_ns)]

    @property
    def is_full(self) -> bool:
        """Whether `submit` must wait: old requests hold up the window of the session whose turn it is."""
        return self.session.is_full

    @property
    def session(self) -> Session:
        """Requests go in turns, strictly: what one node cannot take waits, as the plan is to load all alike."""
        return self.sessions[self.sent % len(self.sessions)]

    def submit(self, started_ns: int | None = None) -> None:
        """Send the next operation."""
        session = self.session
        self.sent += 1
        request = session.submit(self._next_op(), self._on_done, started_ns)
        self.gap.invoked(request.started_ns)
        history = self._bench.history
        if history is not None:
            # The bytes leave at the end of this turn at the earliest: the line is true although it is written now.
            history.invoked(self.process, request, self._bench.now_ns())

    def _next_op(self) -> Any:
        draw = self._workload.next
        return tuple([draw() for _ in range(self._bench.plan.batch)]) if self._bench.is_series else draw()

    def _on_done(self, request: Request) -> None:
        finished_ns = request.finished_ns
        if request.outcome == OK:
            self.rtts_ns.append(finished_ns - request.started_ns)
            self.gap.answered(finished_ns, request.sent_ns)
            if self._bench.is_series:
                self.rejected += sum(map(self._is_rejected, request.op, request.result))
            elif self._is_rejected(request.op, request.result):
                self.rejected += 1
        else:
            self.gap.failed(finished_ns)
            if request.outcome == REFUSED:
                self.refused += 1
            elif not self._bench.stopped_ns:  # else it was under way at the end, which is nobody's failure, see `stop`
                self.unknown += 1
            self._renew(request)
        self._bench.on_done(self, request)

    def _renew(self, request: Request) -> None:
        """Replace the session of a refused request if the cluster has forgotten it."""
        for index, session in enumerate(self.sessions):
            if session.is_expired and session.client == request.client:
                self.sessions[index] = self.pools[index * len(self.pools) // len(self.sessions)].renew(session)


class Bench:
    """Runs a plan. `finished` fires once, when every request has ended or `stop` was called."""

    def __init__(
        self,
        reactor: Clock,
        pools: Sequence[Pool],
        plan: BenchPlan,
        *,
        side: ClientSide = BANK,
        history: HistoryWriter | None = None,
        marks: Sequence[Mark] = (),
        run: Callable[[str], "subprocess.Popen[bytes]"] | None = None,
    ) -> None:
        """Each client takes the next `plan.spread` pools, from the first again behind the last: pools of its own, or
        the same for all."""
        self.plan = plan
        self.is_series = plan.batch > 1
        self.side = side
        self.pools = pools
        self.now_ns = pools[0].now_ns
        self.history = history
        self.marks = sorted(marks, key=lambda mark: mark.at)
        self.clients = [BenchClient(self, index, self._pools_of(index)) for index in range(plan.clients)]
        self.observe: Callable[[BenchClient, Request], object] | None = None
        """Called with each request that has ended."""
        self.answered = 0
        self.ended = 0
        self.started_ns = 0
        self.stopped_ns = 0
        self.cpu_s = 0.0
        self.finished: Deferred[None] = Deferred()
        self._reactor = reactor
        self._run = run or run_shell
        self._next_mark = 0
        self._mark_at = self.marks[0].at if self.marks else -1
        self._tick: DelayedCall | None = None
        self._is_started = False
        self._is_stopped = False

    @property
    def total(self) -> int:
        """Requests of all clients."""
        return self.plan.requests * self.plan.clients

    @property
    def seconds(self) -> float:
        """How long it ran, or has run."""
        return ((self.stopped_ns if self._is_stopped else self.now_ns()) - self.started_ns) / NS

    def start(self) -> None:
        """Send the first requests."""
        self._is_started = True
        self.started_ns = self.now_ns()
        self.cpu_s = -time.process_time()
        while self._mark_at == 0:
            self._run_mark()
        if self.plan.rate is not None:
            self._send_due()
            return
        for client in self.clients:
            self._fill(client)

    def stop(self) -> None:
        """Send no more. What is unanswered stays out of the report, as unanswered."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self.stopped_ns = self.now_ns()
        if not self._is_started:
            self.started_ns = self.stopped_ns
            self.cpu_s = -time.process_time()
        self.cpu_s += time.process_time()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self.finished.callback(None)

    def on_done(self, client: BenchClient, request: Request) -> None:
        """A request of `client` has ended."""
        if self.history is not None:
            self.history.ended(client.process, request, client.steps_since(request.started_ns))
        if self.observe is not None:
            self.observe(client, request)
        self.ended += 1
        if request.outcome == OK:
            self.answered += 1
            while self.answered == self._mark_at:
                self._run_mark()
        if self._is_stopped:
            return
        if self.ended == self.total:
            self.stop()
        elif self.plan.rate is None:
            self._fill(client)

    def _fill(self, client: BenchClient) -> None:
        """Closed loop: keep the planned number of requests under way, unless an old one holds the window up."""
        plan = self.plan
        while client.sent < plan.requests and client.sent - client.ended < plan.outstanding and not client.is_full:
            client.submit()

    def _pools_of(self, index: int) -> list[Pool]:
        first, spread = index * self.plan.spread, self.plan.spread
        return [self.pools[number % len(self.pools)] for number in range(first, first + spread)]

    def _send_due(self) -> None:
        """Open loop: request i of client c is due at (i * clients + c) / rate seconds."""
        self._tick = None
        assert self.plan.rate is not None
        period_ns = NS / self.plan.rate
        now_ns = self.now_ns()
        next_ns: int | None = None
        for index, client in enumerate(self.clients):
            while client.sent < self.plan.requests:
                due_ns = self.started_ns + int((client.sent * self.plan.clients + index) * period_ns)
                if due_ns > now_ns:
                    next_ns = due_ns if next_ns is None else min(next_ns, due_ns)
                    break
                if client.is_full:
                    next_ns = now_ns  # it stays due, and its time runs
                    break
                client.submit(due_ns)
        if next_ns is not None:
            wait_s = max((next_ns - self.now_ns()) / NS, 0.001)
            self._tick = self._reactor.callLater(wait_s, self._send_due)

    def _run_mark(self) -> None:
        mark = self.marks[self._next_mark]
        mark.time_ns = self.now_ns()
        mark.process = self._run(mark.command)
        self._next_mark += 1
        self._mark_at = self.marks[self._next_mark].at if self._next_mark < len(self.marks) else -1


def run_shell(command: str) -> "subprocess.Popen[bytes]":
    """Start a shell command without waiting for it. What it prints goes to stderr: stdout is for our data."""
    arguments: Any = {"stdin": subprocess.DEVNULL, "stdout": 2}
    return subprocess.Popen(command, shell=True, **arguments)
