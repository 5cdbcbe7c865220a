"""One simulated machine and the process on it: the second shell around the driver, beside the Twisted node."""

import random
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import Command, Series
from paxos_twisted.core.engine import DiskState, Engine, LinkState, LogDamaged
from paxos_twisted.core.events import Event
from paxos_twisted.core.records import PeerSeen
from paxos_twisted.core.registry import ENGINES
from paxos_twisted.core.replicated import Picture, ReplicatedState
from paxos_twisted.node.driver import TICK_MS, Driver
from paxos_twisted.node.proposer_time import Proposal, ProposerTime
from paxos_twisted.sim.disk import SimDisk
from paxos_twisted.sim.invariants import AnyCommand, Invariants, Violation
from paxos_twisted.storage.errors import StoreError
from paxos_twisted.storage.recovery import Recovered
from paxos_twisted.types import NO_SLOT, NodeId, Slot
from paxos_twisted.wire.client import Reply

if TYPE_CHECKING:
    from paxos_twisted.sim.clients import SimClient
    from paxos_twisted.sim.cluster import Cluster


class WatchedState(ReplicatedState):
    """The shipped replicated state; whatever it applies or installs is shown to the invariants."""

    def __init__(
        self,
        node: NodeId,
        invariants: Invariants,
        application: Application,
        session_expiry_slots: int,
        *,
        is_ordered: bool,
    ) -> None:
        super().__init__(application, session_expiry_slots, is_ordered=is_ordered)
        self._node = node
        self._invariants = invariants
        self.is_serving = False
        """The start-up is over: a snapshot that is installed now came from a peer."""

    def apply(self, slot: Slot, commands: list[AnyCommand]) -> list[Any]:  # type: ignore[override]
        """As in the base class."""
        results = super().apply(slot, commands)
        counted = self.commands_applied + self.duplicates + self.noops + self.from_snapshot
        if counted != self.applied + 1:
            raise Violation(f"ADU: node {self._node} has counted {counted} commands in {self.applied + 1} slots")
        self._invariants.on_applied(self._node, slot, commands, results)
        return results

    def photograph(self) -> Picture:
        """As in the base class."""
        self._invariants.on_photograph(self._node, self.tables())
        return super().photograph()

    def install(self, slot: Slot, pieces: "list[bytes]", digest: str) -> None:  # type: ignore[override]
        """As in the base class."""
        super().install(slot, pieces, digest)
        self._invariants.on_installed(self._node, slot, digest, self.is_serving)


WALL_MS = 1_700_000_000_000
"""What the clock on the wall shows when a run begins."""


class WatchedTime(ProposerTime):
    """The shipped one; what the node proposes by itself counts as asked for."""

    def __init__(
        self, application: Application, wall_ms: Callable[[], int], rng: random.Random, invariants: Invariants
    ) -> None:
        super().__init__(application, wall_ms, rng)
        self._invariants = invariants

    def due(self, now_ms: int, applied: Slot) -> list[Proposal]:
        """As in the base class."""
        proposals = super().due(now_ms, applied)
        for raw, _ in proposals:
            self._invariants.on_request(raw)
        return proposals


class SimNode:
    """A machine. `driver` is the process, or None while there is none."""

    def __init__(self, node: NodeId, cluster: "Cluster", disk: SimDisk, rng: random.Random) -> None:
        self.node = node
        self.disk = disk
        self.is_running = False
        self.is_powered = True
        self.is_frozen = False
        self.incarnation = 0
        self.driver: Driver | None = None
        self.engine: Engine | None = None
        self.state: WatchedState | None = None
        self.refused = ""
        """Why the last start was refused; "" when it was not."""
        self.stopped = ""
        """Why the process ended itself; "" when it did not."""
        self.rate = 1.0
        """Milliseconds of this machine's clock in one of ours."""
        self.wall_skew_ms = 0
        """How far this machine's clock on the wall is off."""
        self.findings: list[str] = []
        """What start-ups have found on the disk."""
        self.rejections = 0
        """How often a peer refused this node's data directory."""
        self._cluster = cluster
        self._scheduler = cluster.scheduler
        self.identity = ""
        self._rng = rng
        self._waiting: list[Callable[[], None]] = []
        self._unread: list[Callable[[], None]] = []  # requests that a congested node leaves in the sockets
        self._connections: dict[int, tuple[SimClient, int]] = {}
        self.connected: Container[int] = self._connections
        """Sessions with an open connection to this process."""
        self._is_flush_wanted = False
        self._is_flush_planned = False
        self._flushes = 0
        self._clock_ms = float(rng.randrange(10**6))
        self._clock_set_ms = 0
        application = cluster.workload.application()
        request_type: Any = Command[application.op_type]  # type: ignore[name-defined]
        if application.takes_series:
            request_type |= Series[application.op_type]  # type: ignore[name-defined]
        self._decode: Callable[[bytes], Command[Any] | Series[Any]] = msgspec.msgpack.Decoder(request_type).decode
        self._decode_message: Callable[[bytes], Any] | None = None

    # ---- the process

    def start(self) -> bool:
        """Start the process: recover, and join. Returns False when it refuses to start."""
        assert not self.is_running
        self.is_powered = True
        self.is_frozen = False
        self.stopped = ""
        cluster = self._cluster
        try:
            recovered = self.disk.open(self)
            state, engine = self._restore(recovered)
        except (StoreError, LogDamaged) as error:
            self.refused = str(error)
            cluster.note(lambda: f"node {self.node} refuses to start: {self.refused}")
            return False
        self.refused = ""
        self.identity = recovered.identity
        self.findings.extend(recovered.findings)
        self.incarnation += 1
        self.is_running = True
        cluster.note(lambda: f"node {self.node} starts: {len(recovered.records)} records, {recovered.findings!r}")
        self.state, self.engine = state, engine
        self.state.is_serving = True
        application = self.state.application
        time = None
        if application.stamps or application.has_deadlines:
            rng = cluster.stream(f"time {self.node} {self.incarnation}")
            time = WatchedTime(application, self._wall_ms, rng, cluster.invariants)
        peers = {record.node: record for record in recovered.records if isinstance(record, PeerSeen)}
        self.driver = Driver(
            node=self.node,
            engine=self.engine,
            state=self.state,
            disk=self.disk,
            network=self,
            clients=self,
            shell=self,
            addresses=cluster.addresses,
            snapshot_every=cluster.snapshot_every,
            snapshot=recovered.snapshot,
            last_record=recovered.last_seq,
            peers=peers,
            time=time,
        )
        self._decode_message = msgspec.msgpack.Decoder(self.driver.message_type).decode
        self._plan_tick(self.incarnation, int(self._rng.random() * TICK_MS))
        cluster.network.started(self.node)
        return True

    def _restore(self, recovered: Recovered) -> tuple[WatchedState, Engine]:
        """State and engine, from what is on the disk."""
        cluster = self._cluster
        cluster.invariants.on_started(self.node, self.incarnation + 1)
        application = cluster.workload.application()
        kind = ENGINES[cluster.subject.name]
        state = WatchedState(
            self.node, cluster.invariants, application, cluster.session_expiry, is_ordered=kind.is_ordered
        )
        applied = NO_SLOT
        if recovered.snapshot is not None:
            applied = recovered.snapshot.slot
            state.install(applied, recovered.pieces, recovered.snapshot.digest)
        engine = kind.make(
            self.node,
            cluster.ids,
            cluster.settings,
            random.Random(self._rng.getrandbits(64)),
            recovered.records,
            recovered.lost,
            recovered.last.snapshot,
            applied,
            application=application,
            part=state.engine_part,
        )
        return state, engine

    def end(self) -> None:
        """The process is gone, with everything in its memory."""
        self.is_running = False
        self.is_frozen = False
        self.driver = self.engine = self.state = None
        self._waiting.clear()
        self._unread.clear()
        self._is_flush_planned = self._is_flush_wanted = False
        clients = list(self._connections.values())
        self._connections.clear()
        self._cluster.network.stopped(self.node)
        if self.is_powered:
            for client, connection in clients:
                self._cluster.tell_disconnected(client, self.node, connection)

    def hand_over(self, action: Callable[[], None]) -> None:
        """Run `action` in the process, or when it thaws."""
        if self.is_frozen:
            self._waiting.append(action)
        else:
            action()
            self._end_input()

    def thaw(self) -> None:
        """What has come meanwhile is handled in one burst; the event loop may see its timers first, or the sockets."""
        self.is_frozen = False
        waiting, self._waiting = self._waiting, []
        if self._rng.random() < 0.5:
            self._tick_now()
        for action in waiting:
            if not self.is_running:
                return
            action()
            self._end_input()

    def ask(self, order: Callable[[Driver], object]) -> None:
        """An order of the operator, from the admin port or a signal."""

        def obey() -> None:
            if self.driver is not None:
                order(self.driver)

        self.hand_over(obey)

    # ---- time

    def set_rate(self, rate: float) -> None:
        """The machine's clock runs at another speed from now on."""
        self._clock_ms = self._local_ms()
        self._clock_set_ms = self._scheduler.now_ms
        self.rate = rate

    def _local_ms(self) -> float:
        return self._clock_ms + (self._scheduler.now_ms - self._clock_set_ms) * self.rate

    def _wall_ms(self) -> int:
        return WALL_MS + self._scheduler.now_ms + self.wall_skew_ms

    def _plan_tick(self, incarnation: int, delay_ms: int) -> None:
        self._scheduler.after(delay_ms, lambda: self._tick(incarnation))

    def _tick(self, incarnation: int) -> None:
        if incarnation != self.incarnation or not self.is_running:
            return
        if not self.is_frozen:
            self._tick_now()
        self._plan_tick(incarnation, max(1, int(TICK_MS / self.rate)))

    def _tick_now(self) -> None:
        if self.driver is not None:
            self.driver.on_tick(int(self._local_ms()))
            self._end_input()

    # ---- the network's side (sim.network.Host)

    def receive(self, src: NodeId, payload: bytes) -> None:
        """A message has come."""
        if self.is_frozen:
            self._waiting.append(lambda: self.receive(src, payload))
            return
        assert self._decode_message is not None
        message = self._decode_message(payload)
        cluster = self._cluster
        if cluster.trace is not None:
            cluster.note(lambda: f"{src}->{self.node} {message!r}")
        if self.driver is not None:
            self.driver.on_message(src, message)
            self._end_input()

    def link_changed(self, peer: NodeId, state: LinkState) -> None:
        """The stream to `peer` changed."""

        def tell() -> None:
            if self.driver is not None:
                self.driver.on_link(peer, state)

        self.hand_over(tell)

    def welcomes(self, peer: "SimNode") -> bool:
        """Whether the handshake of a stream from `peer` succeeds here."""
        if self.driver is None:
            return False
        assert peer.driver is not None
        wrong = self.driver.peer_guard(peer.node, peer.identity, peer.driver.durable_record)
        self._end_input()
        if wrong is not None:
            self._cluster.rejected(peer.node, wrong)
            return False
        seen = peer.driver.peers.get(self.node)
        return seen is None or seen.identity == self.identity

    # ---- the disk's side (sim.disk.Owner)

    def persisted(self, write_no: int) -> None:
        """Writes up to this number are durable."""
        if self.driver is not None:
            self.driver.on_persisted(write_no)

    def disk_changed(self, state: DiskState) -> None:
        """The disk is full, or good again."""
        if self.driver is not None:
            self.driver.on_disk(state)

    def disk_failed(self, reason: str) -> None:
        """As the node's writer thread does: stop, and let a restart find out what is there."""
        self.stop(reason)

    # ---- the driver's side (Network, Clients, Shell)

    def send(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        """A message leaves."""
        invariants, network = self._cluster.invariants, self._cluster.network
        if invariants.is_muted(self.node):
            if not any(network.links[self.node, receiver].is_up for receiver in receivers):
                return
            invariants.unmute(self.node)
        invariants.on_send(self.node, message)
        network.send(self.node, receivers, message)

    def reply(self, client: int, reply: Reply) -> None:
        """An answer leaves, if that client is still connected."""
        self._cluster.invariants.on_reply(self.node, reply)
        connected = self._connections.get(client)
        if connected is not None:
            self._cluster.tell_client(connected[0], self.node, connected[1], reply)

    def flush_soon(self) -> None:
        """Flush at the end of this turn of the event loop; how much comes in one turn is drawn from the seed."""
        self._is_flush_wanted = True

    def _end_input(self) -> None:
        """The process has handled one input: its turn ends here, or others come first."""
        if not self._is_flush_wanted or self._is_flush_planned:
            return
        fate = self._rng.random()
        if fate < 0.5:
            self._flush()
        else:
            self._is_flush_planned = True
            incarnation = self.incarnation
            self._scheduler.after(int(fate * 1.2), lambda: self._flush_planned(incarnation))

    def _flush_planned(self, incarnation: int) -> None:
        if incarnation != self.incarnation or self.driver is None:
            return
        if self.is_frozen:
            self._waiting.append(lambda: self._flush_planned(incarnation))
            return
        self._is_flush_planned = False
        self._flush()

    def _flush(self) -> None:
        if self.driver is None:
            return
        self._is_flush_wanted = False
        self.driver.flush()
        self._flushes += 1
        if self.engine is not None and not self._flushes % self._cluster.self_check_every:
            self.engine.check_invariants()
        if self._unread and self.driver is not None and not self.driver.is_congested:
            unread, self._unread = self._unread, []
            for action in unread:
                self.hand_over(action)
        self._end_input()  # a flush may ask for another one

    def on_event(self, event: Event) -> None:
        """A past fact."""
        self._cluster.note(lambda: f"node {self.node}: {event!r}")
        self._cluster.invariants.on_event(self.node, event)

    def stop(self, reason: str) -> None:
        """The driver or the disk says that this process must end now."""
        self.stopped = reason
        self._cluster.stopped_itself(self.node, reason)

    # ---- clients

    def left(self, session: int, connection: int) -> None:
        """A client has closed its connection."""
        if session in self._connections and self._connections[session][1] == connection:
            del self._connections[session]

    def request(self, client: "SimClient", connection: int, raw: bytes) -> None:
        """A client's request has come over its connection."""

        def take() -> None:
            if self.driver is None:
                return
            if self.driver.is_congested:
                self._unread.append(take)
                return
            command = self._decode(raw)
            self._connections[command.client] = (client, connection)
            self.driver.on_request(raw, command)

        self.hand_over(take)
