"""A whole cluster in one process: machines, network, clients, and the invariants watching. One seed, one run.

cluster = Cluster(seed=7, nodes=3)
cluster.start()
cluster.run(1000)                  # virtual milliseconds
cluster.kill(cluster.leader())
cluster.finish()                   # heal everything; LIV, DUR, EQ, LIN …
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from paxos_twisted.check.history import History
from paxos_twisted.core.command import Command
from paxos_twisted.core.engine import Engine
from paxos_twisted.core.table import Table
from paxos_twisted.net.faults import FaultLayer, Rule
from paxos_twisted.sim.clients import SimClient
from paxos_twisted.sim.disk import SimDisk
from paxos_twisted.sim.invariants import Violation, result_of
from paxos_twisted.sim.model import Model
from paxos_twisted.sim.network import CONNECTION_TIMEOUT_MS, SimNetwork
from paxos_twisted.sim.node import SimNode, WatchedState
from paxos_twisted.sim.order import check_order
from paxos_twisted.sim.scheduler import Scheduler
from paxos_twisted.sim.subjects import SUBJECTS
from paxos_twisted.sim.trace import Trace
from paxos_twisted.sim.workloads import WORKLOADS, Habits
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.client import Answers, Reply

PROBE = Habits(requests=3, think_ms=1, timeout_ms=300)
"""The client that comes when all is over."""

EVENTS_MAX = 400_000
"""A run that needs more is stuck in a circle of messages, which is a failure, too."""


class Cluster:
    """Machines, network and clients from one seed."""

    def __init__(
        self,
        seed: int | str,
        *,
        nodes: int = 3,
        engine: str = "multipaxos",
        application: str = "bank",
        settings: Any = None,
        snapshot_every: int = 100_000,
        session_expiry: int = 10_000_000,
        latency_ms: tuple[int, int] = (1, 3),
        self_check_every: int = 1,
        trace: Trace | None = None,
    ) -> None:
        self.seed = seed
        self.ids = tuple(NodeId(number) for number in range(1, nodes + 1))
        self.subject = SUBJECTS[engine]
        self.workload = WORKLOADS[application]
        self.settings: Any = self.subject.settings if settings is None else settings
        self.snapshot_every = snapshot_every
        self.session_expiry = session_expiry
        self.self_check_every = self_check_every
        """Turns of a node between two calls of its engine's own `check_invariants`, which walks over the whole log.
        The invariants here are checked at every event all the same."""
        self.addresses = {node: f"127.0.0.1:{7100 + node}" for node in self.ids}
        self.trace = trace
        self.scheduler = Scheduler()
        sample = self.workload.application()
        self.model = Model(self.workload.specification(), sample.is_reread)
        self.invariants = self.subject.invariants(self.ids, self.model, sample, self.settings)
        if sample.stamps:
            self.invariants.unstamped = self._unstamped
        self.network = SimNetwork(self.scheduler, self.stream("network"), latency_ms)
        self.nodes: dict[NodeId, SimNode] = {}
        for node in self.ids:
            disk = SimDisk(node, self.scheduler, self.stream(f"disk {node}"), self.invariants.on_durable)
            disk.format(f"identity-{node}")
            self.nodes[node] = SimNode(node, self, disk, self.stream(f"node {node}"))
            if trace is not None:
                disk.on_trace = self._note_text
        if trace is not None:
            self.network.on_trace = self._note_text
        self.network.add_hosts(self.nodes)
        self.clients: list[SimClient] = []
        self.history: History[Any, Any] = History()
        self.unreachable: set[tuple[int, NodeId]] = set()
        """(client number, node): packets between them are lost."""
        self.stops: list[tuple[NodeId, str]] = []
        """Processes that ended themselves, and why."""
        self.allowed_stops: set[NodeId] = set()
        """Nodes to which something was done that may make them stop or refuse to start."""
        self.banned: set[NodeId] = set()
        """Nodes whose disk was lost or replaced by an old one: they may run, but nobody may listen to them."""
        self._is_healed = False
        self._rules: list[Rule] = []
        self._client_rng = self.stream("clients")
        self._streams: dict[tuple[int, NodeId, bool], int] = {}

    # ---- set-up

    def stream(self, name: str) -> random.Random:
        """An independent source of randomness, the same for the same seed and name."""
        return self.stream_of(self.seed, name)

    @staticmethod
    def stream_of(seed: int | str, name: str) -> random.Random:
        """The same, before there is a cluster. (Seeding with a string does not depend on `hash()`.)"""
        return random.Random(f"{seed}/{name}")

    def _unstamped(self, raw: bytes) -> bytes:
        """A command as its client sent it: with 0 where the proposer has put its time."""
        application = self.workload.application()
        command = msgspec.msgpack.decode(raw, type=Command[application.op_type])  # type: ignore[name-defined]
        return msgspec.msgpack.encode(msgspec.structs.replace(command, op=application.stamp(command.op, 0)))

    def start(self) -> None:
        """All nodes start within a few milliseconds."""
        rng = self.stream("start")
        for node in self.nodes.values():
            self.scheduler.after(int(rng.random() * 20), partial(self._start_first, node))

    def _start_first(self, node: SimNode) -> None:
        if not node.is_running:
            node.start()

    def add_clients(self, count: int, habits: Habits | None = None, start_ms: int = 0) -> list[SimClient]:
        """Add clients that begin `start_ms` from now, and return them."""
        added = []
        for _ in range(count):
            number = len(self.clients)
            client = SimClient(
                number,
                self.ids,
                habits or Habits(),
                self.scheduler,
                self.stream(f"client {number}"),
                self,
                self.history,
                self.workload,
                self.stream(f"series {number}"),
            )
            if self.trace is not None:
                client.on_trace = self._note_text
            client.start(start_ms + int(self._client_rng.random() * 30))
            self.clients.append(client)
            added.append(client)
        return added

    # ---- running

    def run(self, ms: int) -> None:
        """Let `ms` virtual milliseconds pass."""
        self._run_until(self.scheduler.now_ms + ms)

    def run_until(self, condition: Callable[[], bool], bound_ms: int, what: str) -> int:
        """Run until `condition` holds and return how long it took.

        Raises:
            Violation: LIV, it does not hold within `bound_ms`.
        """
        start = self.scheduler.now_ms
        step = self.scheduler.step
        end = start + bound_ms
        checked = -1
        while True:
            if self.scheduler.now_ms != checked:  # once per virtual millisecond
                checked = self.scheduler.now_ms
                if condition():
                    return checked - start
            if not step(end):
                raise Violation(f"LIV: {what}: not within {bound_ms} ms. {self.describe()}")
            self._check_events()

    def _run_until(self, time_ms: int) -> None:
        self.scheduler.run(time_ms, EVENTS_MAX)
        self._check_events()

    def _check_events(self) -> None:
        if self.scheduler.events >= EVENTS_MAX:
            raise Violation(f"LIV: more than {EVENTS_MAX} events. {self.describe()}")

    # ---- looking

    def leader(self) -> NodeId | None:
        """The running node that leads, as the engine's subject sees it; None when none does."""
        return self.subject.leader(
            {number: node.engine for number, node in self.nodes.items() if node.engine is not None}
        )

    def need_leader(self, bound_ms: int = 5000) -> NodeId:
        """Run until some node leads, and return it."""
        self.run_until(lambda: self.leader() is not None, bound_ms, "somebody leads")
        leader = self.leader()
        assert leader is not None
        return leader

    def engine(self, node: NodeId) -> Engine:
        """The engine of a node that is up."""
        engine = self.nodes[node].engine
        assert engine is not None
        return engine

    def followers(self) -> list[NodeId]:
        """All nodes but the leader."""
        return [node for node in self.ids if node != self.leader()]

    def adu(self, node: NodeId) -> int:
        """Last applied slot of a running node, -1 of one that is down."""
        state = self.nodes[node].state
        return -1 if state is None else state.applied

    def answered(self) -> int:
        """Requests answered so far, over all clients."""
        return sum(client.answered_count for client in self.clients)

    def leader_changes(self) -> int:
        """How often leadership was won, less the first time."""
        return self.invariants.leader_changes

    def disk(self, node: NodeId) -> SimDisk:
        """The disk of a node."""
        return self.nodes[node].disk

    def describe(self) -> str:
        """The state of all nodes and clients in one line."""
        parts = []
        for number, node in self.nodes.items():
            engine = node.engine
            if engine is None:
                parts.append(f"{number}: down {node.refused or node.stopped}")
            else:
                frozen = "frozen " if node.is_frozen else ""
                parts.append(f"{number}: {frozen}{self.subject.describe(engine)}")
        waiting = sum(client.pending for client in self.clients)
        done = sum(client.is_done for client in self.clients)
        return f"[{'; '.join(parts)}; {done}/{len(self.clients)} clients done, {waiting} requests open]"

    def note(self, text: Callable[[], str]) -> None:
        """Add a line to the trace, if there is one."""
        if self.trace is not None:
            self.trace.add(self.scheduler.now_ms, text())

    def _note_text(self, text: str) -> None:
        assert self.trace is not None
        self.trace.add(self.scheduler.now_ms, text)

    # ---- faults

    def kill(self, node: NodeId) -> None:
        """kill -9."""
        machine = self.nodes[node]
        if machine.is_running:
            self.note(lambda: f"node {node} is killed")
            machine.disk.kill()
            machine.end()

    def stop(self, node: NodeId) -> None:
        """SIGTERM: the process hands leadership over, writes what is to be written, and ends."""
        machine = self.nodes[node]
        if not machine.is_running or machine.is_frozen:
            return
        self.note(lambda: f"node {node} is asked to stop")
        incarnation = machine.incarnation
        machine.ask(lambda driver: driver.stop())

        def end() -> None:
            if machine.is_running and machine.incarnation == incarnation:
                machine.disk.kill()
                machine.end()
                if self._is_healed:
                    self.restart(node)

        self.scheduler.after(30, end)

    def cut_power(self, node: NodeId) -> None:
        """The machine stops at once."""
        machine = self.nodes[node]
        if machine.is_powered:
            self.note(lambda: f"node {node} loses power")
            machine.is_powered = False
            machine.disk.cut_power()
            machine.end()

    def restart(self, node: NodeId) -> bool:
        """Start the process again, if it is down. Returns whether it runs."""
        machine = self.nodes[node]
        if not machine.is_running and not machine.start() and node not in self.allowed_stops:
            raise Violation(f"STOP: node {node} refuses to start: {machine.refused}")
        return machine.is_running

    def stopped_itself(self, node: NodeId, reason: str) -> None:
        """The process of `node` has ended itself."""
        self.note(lambda: f"node {node} stops: {reason}")
        self.stops.append((node, reason))
        machine = self.nodes[node]
        machine.disk.kill()
        machine.end()
        if node not in self.allowed_stops and not machine.disk.has_failed:
            raise Violation(f"STOP: node {node} stops: {reason}")

    def rejected(self, node: NodeId, reason: str) -> None:
        """A peer refuses the data directory of `node`."""
        self.note(lambda: f"node {node} is rejected: {reason}")
        self.nodes[node].rejections += 1
        if node not in self.allowed_stops:
            raise Violation(f"STOP: node {node} is rejected: {reason}")

    def freeze(self, node: NodeId) -> None:
        """SIGSTOP."""
        machine = self.nodes[node]
        if machine.is_running:
            self.note(lambda: f"node {node} is frozen")
            machine.is_frozen = True

    def thaw(self, node: NodeId) -> None:
        """SIGCONT."""
        machine = self.nodes[node]
        if machine.is_running and machine.is_frozen:
            self.note(lambda: f"node {node} thaws")
            machine.thaw()

    def cut(self, src: NodeId, dst: NodeId, mode: str = "drop") -> None:
        """Cut one direction, see `SimNetwork.cut`."""
        self.note(lambda: f"{src}->{dst} cut ({mode})")
        self.network.cut(src, dst, mode)

    def mend(self, src: NodeId, dst: NodeId) -> None:
        """End a cut."""
        self.note(lambda: f"{src}->{dst} mended")
        self.network.mend(src, dst)

    def cut_both(self, a: NodeId, b: NodeId, mode: str = "drop") -> None:
        """Cut both directions."""
        self.cut(a, b, mode)
        self.cut(b, a, mode)

    def mend_both(self, a: NodeId, b: NodeId) -> None:
        """End both cuts."""
        self.mend(a, b)
        self.mend(b, a)

    def isolate(self, node: NodeId, mode: str = "drop") -> None:
        """Cut a node off from all others."""
        for other in self.ids:
            if other != node:
                self.cut_both(node, other, mode)

    def rejoin(self, node: NodeId) -> None:
        """End `isolate`."""
        for other in self.ids:
            if other != node:
                self.mend_both(node, other)

    def keep_links(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Cut all links but these."""
        kept = {frozenset(pair) for pair in pairs}
        for a in self.ids:
            for b in self.ids:
                if a < b and frozenset((a, b)) not in kept:
                    self.cut_both(a, b)

    def add_rule(self, rule: Rule) -> None:
        """Set a rule of the message-fault layer."""
        self._rules.append(rule)
        self._set_rules()

    def remove_rule(self, rule: Rule) -> None:
        """Take it out again."""
        if rule in self._rules:
            self._rules.remove(rule)
        self._set_rules()

    def _set_rules(self) -> None:
        self.note(lambda: f"message faults: {self._rules!r}")
        now_ms = self.scheduler.now_ms
        self.network.faults = FaultLayer(self._rules, self.stream(f"faults {now_ms}"), now_ms) if self._rules else None

    def set_clock_rate(self, node: NodeId, rate: float) -> None:
        """The clock of a machine runs fast or slow."""
        self.note(lambda: f"clock of node {node} runs at {rate:.2f}")
        self.nodes[node].set_rate(rate)

    def ban(self, node: NodeId) -> None:
        """The disk of `node` is not the one that it had: its peers must not listen to it any more."""
        self.banned.add(node)
        self.allowed_stops.add(node)
        self.invariants.mute(node)

    def lose_disk(self, node: NodeId) -> None:
        """The machine dies, and somebody starts it again with an empty disk, as if it were its first start."""
        self.cut_power(node)
        self.ban(node)
        self.disk(node).format(f"identity-{node}-{self.scheduler.now_ms}")

    # ---- clients (sim.clients.Service)

    def submit(self, client: SimClient, node: NodeId, raw: bytes, connection: int) -> None:
        """A request on its way to a node."""
        self.invariants.on_request(raw)
        self.note(lambda: f"client {client.number} -> node {node} over {connection}: {raw!r}")
        self.scheduler.at(self._in_order(client, node, True), partial(self._submitted, client, node, raw, connection))

    def _in_order(self, client: SimClient, node: NodeId, is_request: bool) -> int:
        """When the next packet of this stream arrives: never before the one ahead of it."""
        key = (client.number, node, is_request)
        low, high = 1, 3
        time = self.scheduler.now_ms + low + int(self._client_rng.random() * (high - low + 1))
        time = self._streams[key] = max(time, self._streams.get(key, 0))
        return time

    def _submitted(self, client: SimClient, node: NodeId, raw: bytes, connection: int) -> None:
        machine = self.nodes[node]
        if (client.number, node) in self.unreachable or not machine.is_powered:
            return
        if machine.is_running:
            machine.request(client, connection, raw)
        else:
            self.tell_disconnected(client, node, connection)

    def tell_client(self, client: SimClient, node: NodeId, connection: int, reply: Reply) -> None:
        """A reply on its way to a client."""
        self.scheduler.at(self._in_order(client, node, False), partial(self._told, client, node, connection, reply))

    def _told(self, client: SimClient, node: NodeId, connection: int, reply: Reply) -> None:
        if (client.number, node) not in self.unreachable:
            self.note(lambda: f"node {node} -> client {client.number} over {connection}: {_shown(reply)}")
            client.answered(node, connection, reply)

    def tell_disconnected(self, client: SimClient, node: NodeId, connection: int) -> None:
        """A client notices that its connection is gone."""
        self.scheduler.at(self._in_order(client, node, False), partial(client.disconnected, node, connection))

    def leave(self, session: ClientId, node: NodeId, connection: int) -> None:
        """A client closes a connection; the node notices a little later."""
        self.scheduler.after(1, partial(self.nodes[node].left, session, connection))

    def applied(self, node: NodeId) -> int:
        """What a node's welcome tells a new client."""
        state = self.nodes[node].state
        return -1 if state is None else state.birth

    # ---- the end

    def heal(self) -> None:
        """End all faults and start whatever is down."""
        self.note(lambda: "everything is healed")
        self._is_healed = True
        self.network.filter = None
        self.network.tamper = None
        self._rules.clear()
        self._set_rules()
        self.unreachable.clear()
        for link in self.network.links.values():
            self.network.mend(link.src.node, link.dst.node)
        for number, machine in self.nodes.items():
            machine.disk.factor = 1
            machine.disk.is_full = False
            machine.disk.fails_next = False
            if machine.rate != 1.0:
                machine.set_rate(1.0)
            self.thaw(number)
            self.restart(number)

    def live(self) -> list[NodeId]:
        """Nodes whose process runs and belongs to the cluster."""
        return [number for number, machine in self.nodes.items() if machine.is_running and number not in self.banned]

    def is_quiet(self) -> bool:
        """Every request has its outcome, and all live nodes have applied everything that is decided."""
        if not all(client.is_done for client in self.clients):
            return False
        return self.invariants.is_level(self.live())

    def liveness_ms(self) -> int:
        """LIV: within this time after the last fault everything that is open must be answered, and all nodes level.

        What the engine's subject allows for an election, a connection that must time out, and clients that have just
        begun to wait for a node that will not answer, twice; the rest is room for state transfer and a few round trips.
        """
        waits = [client.habits.timeout_ms for client in self.clients]
        return self.subject.election_ms(self.settings) + CONNECTION_TIMEOUT_MS + 2 * max(waits, default=0) + 1000

    def finish(self, bound_ms: int | None = None) -> int:
        """Heal everything and check what must hold at the end. Returns how long the cluster needed to get quiet.

        Clients begin nothing new; what they have begun must end, and then a new client must be served at once.

        Raises:
            Violation: LIV, DUR, EQ, BAL or LIN.
        """
        self.heal()
        for client in self.clients:
            client.stop()
        bound = bound_ms or self.liveness_ms()
        needed = self.run_until(self.is_quiet, bound, "every request is answered and all nodes are level")
        self.add_clients(1, PROBE)
        self.run_until(self.is_quiet, bound, "a new client is served and all nodes are level")
        self.check_end()
        return needed

    def check_end(self) -> None:
        """DUR, EQ, BAL and LIN of a quiet cluster."""
        for client in self.clients:
            self.invariants.check_answers(client.answers)
        states = [self.nodes[node].state for node in self.live()]
        first = states[0]
        assert first is not None
        for state in states[1:]:
            assert state is not None
            for mine, other in zip(_tables(first), _tables(state), strict=True):
                if mine.shards != other.shards:
                    raise Violation(f"EQ: two replicas differ in the table {mine.name} after slot {state.applied}")
        self.model.specification.check(first.application)
        check_order(self.history, self.model)


def _shown(reply: Reply) -> str:
    """For the trace. (What a series is told is still encoded, in an object that would be shown with its address.)"""
    return repr(msgspec.structs.replace(reply, result=result_of(reply)) if isinstance(reply, Answers) else reply)


def _tables(state: WatchedState) -> list[Table[Any, Any]]:
    """The tables by their own names: `ReplicatedState.tables` may be what is broken."""
    return [state.sessions.table, *state.application.tables()]
