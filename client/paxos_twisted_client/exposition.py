"""What a running bench tells Prometheus: over HTTP, or in a file for node-exporter's textfile collector.

The names begin with `bankclient_`, whichever program it is; the label `app` tells them apart. The phases are those of
docs/failover.md which only a client can see, of the last wait during which it had to look for the leader.
"""
# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations)

import os
from collections.abc import Sequence
from pathlib import Path
from time import time_ns
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request as HttpRequest
from twisted.web.server import Site

from paxos_twisted.anatomy import facts
from paxos_twisted.anatomy.split import CLIENT_TIMEOUT, FIRST_COMMIT, RECONNECT, client_phases
from paxos_twisted.node.families import APP, Collector, Group, Histogram, Labels, counter, gauge, histogram
from paxos_twisted.node.metrics import COMMIT_BOUNDS, GAP_BOUNDS, new_registry
from paxos_twisted_client.bench import Bench, BenchClient
from paxos_twisted_client.connection import CAUSES, NS
from paxos_twisted_client.session import OK, Request

FILE_PERIOD_S: Final = 1.0
"""How often the file is written; as often as Prometheus scrapes."""

PHASES: Final = (CLIENT_TIMEOUT, RECONNECT, FIRST_COMMIT)


class BenchMetrics(Group):
    """Of all clients of one bench."""

    requests: dict[str, int] = counter(
        "bankclient_requests_total",
        "Requests that have ended; rejected: answered, but the application said no.",
        app=APP,
        outcome=("ok", "rejected", "refused", "unknown"),
    )
    request_duration: Histogram = histogram(
        "bankclient_request_duration_seconds",
        "From a request to its answer, retries included.",
        COMMIT_BOUNDS,
        app=APP,
    )
    reconnects: dict[str, int] = counter(
        "bankclient_reconnects_total", "Times that a client left a node, or did not reach it.", cause=CAUSES
    )
    gap: Histogram = histogram(
        "bankclient_gap_seconds", "Times in which a client got no answer although it waited for one.", GAP_BOUNDS
    )
    longest_gap: float = gauge("bankclient_longest_gap_seconds", "The longest such time so far.")
    waiting: float = gauge("bankclient_waiting_seconds", "How long the client has waited by now that waits longest.")
    unanswered: int = gauge("bankclient_unanswered_requests", "Requests under way.")
    clients: int = gauge("bankclient_clients", "Clients of this bench.")
    phase: dict[str, float] = gauge(
        "bankclient_failover_phase_seconds",
        "The last wait during which a client had to look for the leader: waiting for its own timers, finding the "
        "leader, and from the last sending to the answer.",
        phase=PHASES,
    )
    phase_start: dict[str, float] = gauge(
        "bankclient_failover_phase_start_timestamp_seconds",
        "When each of them began for the first time in that wait; 0 if it did not.",
        phase=PHASES,
    )

    def __init__(self, bench: Bench) -> None:
        super().__init__(Labels(app=bench.side.application))
        self._bench = bench
        bench.observe = self.on_done
        collector = Collector(self)
        collector.before.append(self._refresh)
        self.registry: CollectorRegistry = new_registry()
        self.registry.register(collector)

    def on_done(self, client: BenchClient, request: Request) -> None:
        """A request of `client` has ended."""
        gap_ns = client.gap.last_ns
        self.gap.observe(gap_ns / NS)
        if request.outcome == OK:
            self.request_duration.observe((request.finished_ns - request.started_ns) / NS)
            steps = client.steps_since(request.finished_ns - gap_ns)
            if steps:
                self._take_apart(
                    facts.Wait(
                        "",
                        request.finished_ns - gap_ns,
                        request.finished_ns,
                        request.sent_ns,
                        tuple(facts.Step(*step) for step in steps if step.time_ns <= request.finished_ns),
                    )
                )

    def page(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def _take_apart(self, wait: facts.Wait) -> None:
        lengths_ns, starts_ns = dict.fromkeys(PHASES, 0), dict.fromkeys(PHASES, 0)
        reached_ns = wait.start_ns
        lane = [*client_phases(wait, {}), (wait.end_ns, FIRST_COMMIT, "", "")]
        for stop_ns, phase, _, _ in lane:
            end_ns = min(stop_ns, wait.sent_ns) if phase != FIRST_COMMIT else stop_ns
            if phase == FIRST_COMMIT:
                reached_ns = max(wait.sent_ns, wait.start_ns)
            if end_ns > reached_ns:
                starts_ns[phase] = starts_ns[phase] or reached_ns
                lengths_ns[phase] += end_ns - reached_ns
                reached_ns = end_ns
        ahead_ns = time_ns() - self._bench.now_ns()
        for phase in PHASES:
            self.phase[phase] = lengths_ns[phase] / NS
            self.phase_start[phase] = (starts_ns[phase] + ahead_ns) / NS if starts_ns[phase] else 0.0

    def _refresh(self) -> None:
        bench = self._bench
        clients: Sequence[BenchClient] = bench.clients
        self.clients = len(clients)
        self.requests["rejected"] = sum(client.rejected for client in clients)
        self.requests["ok"] = sum(client.answered for client in clients) - self.requests["rejected"]
        self.requests["refused"] = sum(client.refused for client in clients)
        self.requests["unknown"] = sum(client.unknown for client in clients)
        self.unanswered = sum(client.sent - client.ended for client in clients)
        for cause in CAUSES:
            self.reconnects[cause] = sum(pool.reconnects[cause] for pool in bench.pools)
        now_ns = bench.now_ns()
        self.waiting = max((client.gap.waiting_ns(now_ns) for client in clients), default=0) / NS
        longest_ns = max((client.gap.longest_ns for client in clients), default=0)
        self.longest_gap = max(longest_ns / NS, self.waiting)


class Exposition:
    """Shows the metrics of a bench while it runs."""

    def __init__(self, reactor: Any, metrics: BenchMetrics, port: int | None, file: Path | None) -> None:
        """`port`: answer GET /metrics there, on all addresses. `file`: write them there once a second.

        Raises:
            CannotListenError: the port is taken.
            OSError: the file cannot be written.
        """
        self._metrics = metrics
        self._file = file
        self._loop: LoopingCall | None = None
        self._port = reactor.listenTCP(port, _Site(_Page(metrics))) if port is not None else None
        if file is not None:
            self.write()
            self._loop = LoopingCall(self.write)
            self._loop.clock = reactor
            self._loop.start(FILE_PERIOD_S).addErrback(lambda failure: None)  # the last writing will tell

    def write(self) -> None:
        """Replace the file as a whole: who reads it must not see half of it.

        Raises:
            OSError: it cannot be written.
        """
        assert self._file is not None
        unfinished = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        unfinished.write_bytes(self._metrics.page())
        unfinished.replace(self._file)

    def close(self) -> "Deferred[Any]":
        """Write the final numbers, and stop listening."""
        if self._loop is not None:
            if self._loop.running:
                self._loop.stop()
            self.write()
        return maybeDeferred(self._port.stopListening) if self._port is not None else maybeDeferred(lambda: None)


class _Page(Resource):
    isLeaf = True

    def __init__(self, metrics: BenchMetrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render_GET(self, request: HttpRequest) -> bytes:
        request.setHeader("content-type", CONTENT_TYPE_PLAIN_0_0_4)
        return self._metrics.page()


class _Site(Site):
    noisy = False

    def __init__(self, page: _Page) -> None:
        root = Resource()
        root.putChild(b"metrics", page)  # type: ignore[arg-type]
        super().__init__(root)

    def startFactory(self) -> None:
        """Do not begin to format the time of log entries once a second."""

    def log(self, request: http.Request) -> None:
        """Nothing: a scrape every second is no news."""
