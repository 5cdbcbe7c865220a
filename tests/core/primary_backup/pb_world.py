"""A few replicas with lossy links and disks that lose what was not written, driven by one source of randomness.

Smaller than the simulator and without clients, clocks and sessions: the engine alone, with every message, write and
crash in the test's hands. It watches what no engine can see by itself: that all nodes give out one line of commands,
and that what the primary has given out stays in it.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from paxos_twisted.core.command import split_run
from paxos_twisted.core.engine import Batch, LinkState
from paxos_twisted.core.primary_backup import PrimaryBackup, Settings
from paxos_twisted.core.records import LogRecord, Truncated
from paxos_twisted.types import NodeId

SETTINGS = Settings(
    alpha=8, heartbeat_ms=60, delay_ms=300, delta_ms=60, phase1_ms=100, phase2_ms=100, catch_up_ms=60, disk_slow_ms=600
)


class Machine:
    """One node: its engine while it runs, and what its disk holds."""

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.engine: PrimaryBackup | None = None
        self.durable: list[LogRecord] = []
        self.rotten: set[int] = set()
        self.writes: list[tuple[int, list[Any]]] = []
        self.held: list[tuple[int, tuple[NodeId, ...], Any]] = []
        self.returned: list[Any] = []
        self.events: list[Any] = []
        self.clock_ms = 0


class World:
    """All machines, and the messages under way."""

    def __init__(self, nodes: int, seed: int = 0, settings: Settings = SETTINGS) -> None:
        self.ids = [NodeId(number) for number in range(1, nodes + 1)]
        self.settings = settings
        self.rng = random.Random(seed)
        self.machines = {node: Machine(node) for node in self.ids}
        self.under_way: list[tuple[NodeId, NodeId, Any]] = []
        self.line: list[bytes] = []
        """Every command that any node gave out, by slot."""
        self.answered = 0
        """Slots that a primary gave out: its clients have their answers."""
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.seen: list[tuple[NodeId, NodeId, Any]] = []
        self.number = 0
        for node in self.ids:
            self.start(node)

    def __getitem__(self, node: int) -> PrimaryBackup:
        engine = self.machines[NodeId(node)].engine
        assert engine is not None
        return engine

    @property
    def running(self) -> list[NodeId]:
        """Nodes with an engine."""
        return [node for node in self.ids if self.machines[node].engine is not None]

    @property
    def primary(self) -> PrimaryBackup | None:
        """The one that serves in the highest epoch."""
        serving = [self[node] for node in self.running if self[node].takes_commands]
        return max(serving, key=lambda engine: engine.epoch) if serving else None

    # Faults

    def start(self, node: NodeId) -> None:
        """Start a node from its disk. Records that have rotted are known by their headers only."""
        machine = self.machines[node]
        readable = [record for index, record in enumerate(machine.durable) if index not in machine.rotten]
        lost = [machine.durable[index].header for index in sorted(machine.rotten)]
        machine.engine = PrimaryBackup(node, self.ids, self.settings, random.Random(self.rng.random()), readable, lost)
        self.collect(node)
        for other in self.running:
            if other != node and not {(node, other), (other, node)} & self.cut:
                machine.engine.on_link(other, LinkState.UP)
                self[other].on_link(node, LinkState.UP)
        self.settle()

    def kill(self, node: int) -> None:
        """End a process: what is not written is lost, and so is what is on its way to it. The others notice at once."""
        machine = self.machines[NodeId(node)]
        machine.engine = None
        machine.writes.clear()
        machine.held.clear()
        self.under_way = [item for item in self.under_way if item[1] != node]
        for other in self.running:
            self[other].on_link(NodeId(node), LinkState.LOST)
            self[other].on_link(NodeId(node), LinkState.REFUSED)
        self.settle()

    def isolate(self, node: int) -> None:
        """Cut a node off. Nobody is told."""
        for other in self.ids:
            self.cut |= {(NodeId(node), other), (other, NodeId(node))}
        self.under_way = [item for item in self.under_way if (item[0], item[1]) not in self.cut]

    def heal(self) -> None:
        """The network is whole again."""
        self.cut.clear()
        for node in self.running:
            for other in self.running:
                if other != node:
                    self[node].on_link(other, LinkState.UP)

    # Steps

    def collect(self, node: NodeId) -> None:
        """Do what an engine wants done, except for the disk, which takes its time."""
        machine = self.machines[node]
        engine = machine.engine
        if engine is None:
            return
        out = engine.take_output()
        if out.records:
            machine.writes.append((out.write_no, list(out.records)))
        for receivers, message in out.sends:
            self._post(node, receivers, message)
        machine.held += out.sends_after
        machine.returned += out.returned
        machine.events += out.events
        for run in out.decided:
            for slot, value in enumerate(split_run(run.body, run.count), run.slot):
                if slot < len(self.line):
                    assert self.line[slot] == value, f"node {node} has another command in slot {slot}"
                else:
                    assert slot == len(self.line)
                    self.line.append(value)
                if engine.takes_commands:
                    self.answered = max(self.answered, slot + 1)
        engine.check_invariants()

    def _post(self, node: NodeId, receivers: Sequence[NodeId], message: Any) -> None:
        for receiver in receivers:
            assert receiver != node
            self.seen.append((node, receiver, message))
            if (node, receiver) not in self.cut:
                self.under_way.append((node, receiver, message))

    def write(self, node: NodeId) -> None:
        """The oldest write of a node is durable."""
        machine = self.machines[node]
        if machine.engine is None or not machine.writes:
            return
        number, records = machine.writes.pop(0)
        machine.durable += [record for record in records if not isinstance(record, Truncated)]
        machine.engine.on_persisted(number)
        while machine.held and machine.held[0][0] <= number:
            _, receivers, message = machine.held.pop(0)
            self._post(node, receivers, message)
        self.collect(node)

    def deliver(self, index: int, *, keep: bool = False) -> None:
        """One message arrives; it may come again later."""
        src, dst, message = self.under_way[index] if keep else self.under_way.pop(index)
        engine = self.machines[dst].engine
        if engine is not None:
            engine.on_message(src, message)
            self.collect(dst)

    def tick(self, node: NodeId, step_ms: int = 20) -> None:
        """Time goes on for one node."""
        machine = self.machines[node]
        if machine.engine is not None:
            machine.clock_ms += step_ms
            machine.engine.on_tick(machine.clock_ms)
            self.collect(node)

    def propose(self, node: int, count: int = 1) -> list[bytes]:
        """A client of `node` asks for something."""
        bodies = []
        for _ in range(count):
            self.number += 1
            bodies.append(b"\xcd" + self.number.to_bytes(2, "big"))
        self[node].on_propose(Batch(b"".join(bodies), count))
        self.collect(NodeId(node))
        return bodies

    def settle(self) -> None:
        """Everything that needs no time: messages in order, writes at once."""
        for node in self.running:
            self.collect(node)
        while self.under_way or any(self.machines[node].writes for node in self.running):
            while self.under_way:
                self.deliver(0)
            for node in self.running:
                self.write(node)

    def run(self, milliseconds: int) -> None:
        """Calm weather."""
        for _ in range(0, milliseconds, 20):
            for node in self.running:
                self.tick(node)
            self.settle()

    def run_until(self, is_done: Callable[[], bool], limit_ms: int = 20_000) -> None:
        """Calm weather until something holds."""
        for _ in range(0, limit_ms, 20):
            if is_done():
                return
            self.run(20)
        raise AssertionError("it never came to that")

    def is_level(self) -> bool:
        """All run, all are in the view, and all have everything."""
        primary = self.primary
        return (
            primary is not None
            and set(primary.view.members) == set(self.ids)
            and all(self[node].adu == primary.adu and self[node].leader == primary.node for node in self.ids)
        )
