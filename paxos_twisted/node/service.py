"""One node as a Twisted service: the shell around the driver.

    store ──> recovered ──> engine ──> driver <── peer links, client port, tick every 20 ms
                                          └─────> one flush per reactor turn

It starts in three steps, none of which blocks: HTTP answers at once ("the node reads its log"); the store recovers in
its own thread; then engine and driver are made and the node listens and dials. So a peer's connection is refused for as
long as there is nothing to talk to.
"""
# mypy: disallow-untyped-calls=False
# (twisted.application and Failure have no annotations)

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, cast

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.engine import DiskState, LinkState, LogDamaged
from paxos_twisted.core.events import Event
from paxos_twisted.net.clients import operations_of
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.listener import Listener
from paxos_twisted.net.reactor import ListeningPort, Reactor
from paxos_twisted.net.transport import Sockets
from paxos_twisted.net.turn import Turn
from paxos_twisted.node.assemble import Parts, assemble, message_type
from paxos_twisted.node.config import Config
from paxos_twisted.node.driver import TICK_MS, Driver
from paxos_twisted.node.extras import NO_EXTRAS, Extras
from paxos_twisted.node.families import Labels
from paxos_twisted.node.front_door import FrontDoor
from paxos_twisted.node.http import make_site
from paxos_twisted.node.inputs import Inputs
from paxos_twisted.node.metrics import Metrics, new_registry
from paxos_twisted.node.notify import LagProbe, Notifier, Watchdog
from paxos_twisted.node.observe import Events
from paxos_twisted.node.orders import Orders
from paxos_twisted.node.process import end_process, tune_garbage_collection, use_monotonic_time
from paxos_twisted.node.quantities import Address
from paxos_twisted.node.status import not_ready, refresh, refresh_disk, status
from paxos_twisted.storage.directory import create
from paxos_twisted.storage.recovery import Recovered
from paxos_twisted.storage.sqlite_store import SqliteStore
from paxos_twisted.types import NodeId

RTT_EVERY_S: Final = 1.0
"""How often the round-trip times of the peer links, as TCP measures them, are counted."""

DRAIN_S: Final = 2.0
"""A stopping node waits at most this long for its last writes."""

CLOSE_S: Final = 5.0
"""… and for its store to be closed: a dead disk must not keep the process alive."""

log = Logger()


def make_node(
    config: Config,
    node_id: int,
    reactor: Any,
    *,
    first_start: bool = False,
    direct: bool = True,
    tune: bool = True,
    environ: Mapping[str, str] | None = None,
    on_failure: Callable[[str], object] | None = None,
    extras: Extras = NO_EXTRAS,
) -> "NodeService":
    """Return the services of one node, not started.

    Args:
        reactor: the reactor, not yet running.
        first_start: make the data directory of a node that has never run.
        direct: use transports that send at once.
        tune: prepare reactor and process for a node, see `paxos_twisted.node.process`. Not in tests.
        environ: where the service manager says how to be told (NOTIFY_SOCKET).
        on_failure: called with the reason once the node had to stop by itself. By default the process ends.
        extras: what the command line asks for beside the configuration.

    Raises:
        StoreNotEmpty: a first start, but there is data already.
        OSError, sqlite3.Error: a first start, and the disk failed.
        ConfigError: there is no such node.
    """
    node = config.node(node_id)
    if first_start:
        create(node.data_dir, config.shared.cluster, node.id)
    if tune:
        use_monotonic_time(reactor)
    return NodeService(
        config,
        node.id,
        reactor,
        direct=direct,
        tune=tune,
        environ=os.environ if environ is None else environ,
        on_failure=on_failure or (lambda reason: end_process(reactor)),
        extras=extras,
    )


class NodeService(MultiService):
    """One node. `startService` returns at once; `stopService` returns a Deferred that means stopped."""

    def __init__(
        self,
        config: Config,
        node: NodeId,
        reactor: Reactor,
        *,
        direct: bool,
        tune: bool,
        environ: Mapping[str, str],
        on_failure: Callable[[str], object],
        extras: Extras = NO_EXTRAS,
    ) -> None:
        super().__init__()
        self.config = config
        self.node = node
        self.reactor = reactor
        self.parts: Parts | None = None
        """Engine, driver, links …, once the log has been read."""
        self.port: ListeningPort | None = None
        """Where peers and clients connect to, from then on."""
        self.http: HttpService | None = None
        self.failure = ""
        """Why the node had to stop by itself; empty when it had not."""
        self.findings: list[str] = []
        """What the store said on opening."""
        self._tune = tune
        self._extras = extras
        self._on_failure = on_failure
        self._is_stopping = False
        self._is_opening = False
        self._is_open = False
        self._started = reactor.seconds()
        self._recovered: Deferred[None] = Deferred()  # fires when the store has recovered, or cannot
        self._closed: Deferred[None] = Deferred()  # fires when the store is closed
        self.application = APPLICATIONS[config.shared.application]()
        self.registry = new_registry()
        self.metrics = _metrics(config, node, self.registry, operations_of(self.application))
        self.metrics.collector.before.append(self._refresh)
        self.events = Events(node, self.metrics, time.monotonic, time.time_ns)
        self.inputs = Inputs(lambda doing: self.fail(f"something is wrong in here: {doing}", Failure()))
        self.turn = Turn(reactor)
        self.turn.flush = self.inputs.flush
        self.connections = Connections(reactor, self.turn, self.metrics.connections_rejected)
        self.store = SqliteStore(
            config.node(node).data_dir,
            config.shared.cluster,
            node,
            call_from_thread=self._call_from_thread,
            on_durable=self.inputs.on_persisted,
            on_full=self._on_full,
            on_failed=lambda error: self.fail(f"the disk failed: {error}", None),
        )
        self.store.gathers = True
        self._sockets = Sockets(reactor, direct)
        self._ticked = self._rtt_due = time.monotonic()
        self._tick = LoopingCall(self._on_tick)
        self._tick.clock = cast(IReactorTime, reactor)
        self._add_children(environ)

    # Starting

    def startService(self) -> None:
        """Start HTTP and the probes, and let the store recover. What follows, `_on_recovered` does."""
        super().startService()
        if self.failure:  # HTTP cannot be answered
            return
        shared = self.config.shared
        log.info(
            "node {node} of cluster {cluster} starts: {engine}, {app}, data in {path}",
            node=self.node, cluster=shared.cluster, engine=shared.engine, app=shared.application, path=self.store.path,
        )  # fmt: skip
        self._is_opening = True
        future = self.store.start()
        future.add_done_callback(lambda done: self.reactor.callFromThread(self._on_recovered, done))

    def _on_recovered(self, future: "Future[Recovered]") -> None:
        error = future.exception()
        self._is_open = error is None
        if not (self._is_stopping or self.failure):
            if error is not None:
                self.fail(f"the storage cannot be used: {error}", None)
            else:
                try:
                    self._join(future.result())
                except CannotListenError as cannot:
                    listen = self.config.node(self.node).listen
                    self.fail(f"cannot listen on {listen}: {cannot.socketError}", None)
                except LogDamaged as damaged:
                    self.fail(f"the storage cannot be used: {damaged}", None)
                except Exception:
                    self.fail("the node cannot be made from its log", Failure())
        self._recovered.callback(None)

    def _join(self, recovered: Recovered) -> None:
        """The log has been read: make the node and let it take part."""
        for finding in recovered.findings:
            log.warn("found in the log: {finding}", finding=finding)
        self.findings = list(recovered.findings)
        parts = assemble(
            config=self.config,
            node=self.node,
            application=self.application,
            recovered=recovered,
            store=self.store,
            inputs=self.inputs,
            shell=_Shell(self),
            sockets=self._sockets,
            connections=self.connections,
            metrics=self.metrics,
            events=self.events,
            on_link=self._on_link,
            extras=self._extras,
        )
        self.parts = parts
        self.turn.after = self._after_turn
        self.inputs.flush()  # applies what the log holds behind the snapshot
        if self.failure:
            return
        if self._tune:
            tune_garbage_collection()
        listen = self.config.node(self.node).listen
        listener = Listener(self.connections, parts.links, parts.clients)
        self.port = self._sockets.listen(listen.host, listen.port, listener)
        parts.links.start()
        self.events.on_started()
        self._tick.start(TICK_MS / 1000).addErrback(lambda failure: self.fail("the clock stopped", failure))
        log.info(
            "node {node} listens on {listen}; its log ends with record {seq}, its snapshot with slot {slot}",
            node=self.node, listen=str(listen), seq=recovered.last_seq, slot=recovered.last.snapshot,
        )  # fmt: skip

    # Running

    def _after_turn(self) -> None:
        """Everything is sent: the disk's thread may now be woken, and clients be read that had to wait."""
        assert self.parts is not None
        self.store.hand_over()
        self.parts.clients.release()

    def _on_tick(self) -> None:
        now = time.monotonic()
        # Heartbeats leave with ticks: what a tick is late, they are.
        self.metrics.heartbeat_lateness.observe(max(now - self._ticked - TICK_MS / 1000, 0.0))
        self._ticked = now
        if now >= self._rtt_due:
            self._rtt_due = now + RTT_EVERY_S
            self._observe_rtts()
        self.inputs.on_tick(int(now * 1000))

    def _observe_rtts(self) -> None:
        if self.parts is not None:
            for peer, link in self.parts.links.links.items():
                rtt_ms = link.rtt_ms()
                if rtt_ms is not None:
                    self.metrics.peer_rtt[str(peer)].observe(rtt_ms / 1000)

    def _on_full(self, is_full: bool) -> None:
        log.warn("the disk {word}", word="is full" if is_full else "has space again")
        if self.parts is not None:
            self.inputs.on_disk(DiskState.FULL if is_full else DiskState.GOOD)

    def _on_link(self, node: NodeId, state: LinkState) -> None:
        self.events.on_link(node, state)
        self.inputs.on_link(node, state)

    def _call_from_thread(self, function: Callable[..., object], *arguments: Any) -> None:
        """Called in the store's thread. What it wants called may feed the driver (e.g. a piece that was read)."""
        if function == self._on_closed:  # not held back when the inputs are stopped
            self.reactor.callFromThread(function)
        else:
            self.reactor.callFromThread(self.inputs.call, function, *arguments)

    def fail(self, reason: str, failure: Failure | None) -> None:
        """The node must not go on: tell nobody anything more, say why, and stop."""
        if self.failure:
            return
        self.failure = reason
        self.inputs.is_stopped = True
        self.turn.stop()
        self.connections.abort_all()
        self._stop_taking_part()
        if failure is None:
            log.critical("node {node} stops: {reason}", node=self.node, reason=reason)
        else:
            log.failure("node {node} stops: {reason}", failure, LogLevel.critical, node=self.node, reason=reason)
        self._on_failure(reason)

    # Stopping

    def stopService(self) -> "Deferred[None]":
        """Stop taking requests, hand leadership over, write what is on its way, close. Fires when all is done."""
        self._is_stopping = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._is_opening:
            await self._recovered
        if self.parts is not None and not self.failure:
            log.info("node {node} stops", node=self.node)
            await self._drain(self.parts.driver)
        self._stop_taking_part()
        await self.connections.finish_all()
        self.inputs.is_stopped = True
        self.turn.stop()
        if self.parts is not None:
            self.parts.hasher.stop()
        await self._close_store()
        await maybeDeferred(super().stopService)

    async def _drain(self, driver: Driver) -> None:
        assert self.parts is not None
        self.parts.clients.is_draining = True
        if self.parts.clients.delay is not None:
            self.parts.clients.delay.flush()
        self._stop_listening()
        self.inputs.call(driver.stop)
        deadline = self.reactor.seconds() + DRAIN_S
        await self._wait(0.0)  # the flush that hands leadership over
        last = driver.write_no
        while driver.durable_write_no < last and self.reactor.seconds() < deadline and not self.failure:
            await self._wait(0.005)
        await self._wait(0.0)  # what waited for the disk goes out

    async def _close_store(self) -> None:
        if not self._is_open or self.store.is_failed:
            return
        closed = self._closed
        self.store.close(self._on_closed)
        closed.addTimeout(CLOSE_S, cast(IReactorTime, self.reactor))
        try:
            await closed
        except TimeoutError:
            log.error("the store could not be closed within {seconds:g} s", seconds=CLOSE_S)

    def _on_closed(self) -> None:
        self._closed.callback(None)

    def _stop_taking_part(self) -> None:
        self._stop_listening()
        if self.parts is not None:
            self.parts.links.stop()
        if self._tick.running:
            self._tick.stop()

    def _stop_listening(self) -> None:
        port, self.port = self.port, None
        if port is not None:
            port.stopListening()

    def _leads(self) -> bool:
        is_serving = self.parts is not None and self.port is not None and not self.failure
        return is_serving and self.parts is not None and self.parts.driver.leader == self.node

    def _listen_for_clients(self, where: Address) -> ListeningPort:
        """A further door, for as long as this node leads."""
        assert self.parts is not None
        listener = Listener(self.connections, self.parts.links, self.parts.clients)
        return self._sockets.listen(where.host, where.port, listener)

    def _wait(self, seconds: float) -> "Deferred[None]":
        return deferLater(cast(IReactorTime, self.reactor), seconds)

    # Telling

    def ready(self) -> str | None:
        """Why the node does not serve, or None."""
        return self.failure or ("the node stops" if self._is_stopping else not_ready(self.parts))

    def status(self) -> Any:
        """The JSON of /status, or a Deferred of it."""
        parts = self.parts
        if parts is None:
            return {"cluster": self.config.shared.cluster, "node": self.node, "pid": os.getpid(), "ready": False}
        return parts.hasher.get().addCallback(
            lambda state_hash: status(
                config=self.config,
                uptime_s=self.reactor.seconds() - self._started,
                parts=parts,
                store=self.store,
                events=self.events,
                findings=self.findings,
                state_hash=state_hash,
            )
        )

    def _refresh(self) -> None:
        refresh_disk(self.metrics, self.store)
        if self.parts is not None:
            refresh(self.metrics, self.parts)

    def _add_children(self, environ: Mapping[str, str]) -> None:
        clock = cast(IReactorTime, self.reactor)
        where = self.config.node(self.node).http
        if where is not None:
            site = make_site(
                clock,
                registry=self.registry,
                ready=self.ready,
                status=self.status,
                events=lambda: {"node": self.node, "events": self.events.happenings.as_json()},
                admin=Orders(self.inputs, lambda: self.parts).actions(),
                secret=self.config.secret,
                title=f"node {self.node} of {self.config.shared.cluster}",
            )
            self.http = HttpService(self.reactor, where, site, lambda reason: self.fail(reason, None))
            self.http.setServiceParent(self)
        LagProbe(clock, self.metrics.reactor_lag.observe).setServiceParent(self)
        Watchdog(clock, Notifier(environ), self.ready).setServiceParent(self)
        extras = self._extras
        if extras.service is not None or extras.on_lead or extras.on_follow:
            FrontDoor(
                clock,
                self.node,
                self._leads,
                service=extras.service,
                listen=self._listen_for_clients,
                on_lead=extras.on_lead,
                on_follow=extras.on_follow,
            ).setServiceParent(self)


class _Shell:
    """The driver's shell."""

    def __init__(self, node: NodeService) -> None:
        self.flush_soon: Callable[[], None] = node.turn.soon
        self._node = node

    def stop(self, reason: str) -> None:
        """The node is wrong."""
        self._node.fail(reason, None)

    def on_event(self, event: Event) -> None:
        """A past fact."""
        self._node.events.on_event(event)


class HttpService(Service):
    """Listens for HTTP."""

    name = "http"

    def __init__(self, reactor: Reactor, where: Address, site: Any, on_failure: Callable[[str], None]) -> None:
        self.port: ListeningPort | None = None
        self._reactor = reactor
        self._where = where
        self._site = site
        self._on_failure = on_failure

    def startService(self) -> None:
        """Listen."""
        super().startService()
        try:
            self.port = self._reactor.listenTCP(self._where.port, self._site, 50, self._where.host)
        except CannotListenError as error:
            self._on_failure(f"cannot answer HTTP on {self._where}: {error.socketError}")

    def stopService(self) -> Any:
        """Stop listening."""
        super().stopService()
        port, self.port = self.port, None
        return port.stopListening() if port is not None else None


def _metrics(config: Config, node: NodeId, registry: Any, operations: tuple[str, ...]) -> Metrics:
    shared = config.shared
    labels = Labels(
        peers=tuple(str(member) for member in config.members if member != node),
        engine=shared.engine,
        app=shared.application,
        ops=operations,
        messages=tuple(kind.__name__ for kind in message_type(config).__args__),
    )
    metrics = Metrics(registry, labels)
    metrics.node.update(
        node=str(node), engine=shared.engine, app=shared.application, durability="fsync", policy=shared.settings.policy
    )
    return metrics
