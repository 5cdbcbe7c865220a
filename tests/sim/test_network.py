"""The simulated network does what TCP does, and tells a node no more than TCP would."""

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from paxos_twisted.core.engine import LinkState
from paxos_twisted.core.multipaxos.messages import HeartbeatReply, Learn
from paxos_twisted.net.faults import FaultLayer, Rule
from paxos_twisted.sim.network import CONNECTION_TIMEOUT_MS, SimNetwork
from paxos_twisted.sim.scheduler import Scheduler
from paxos_twisted.types import NodeId

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


@dataclass
class Machine:
    node: NodeId
    scheduler: Scheduler
    is_running: bool = True
    is_frozen: bool = False
    is_powered: bool = True
    incarnation: int = 1
    is_unwelcome: bool = False
    heard: list[tuple[NodeId, int]] = field(default_factory=list)
    links: list[tuple[NodeId, str]] = field(default_factory=list)

    def receive(self, src: NodeId, payload: bytes) -> None:
        message = msgspec.msgpack.decode(payload, type=Learn | HeartbeatReply)
        self.heard.append((src, message.slot if isinstance(message, Learn) else -message.stamp))

    def link_changed(self, peer: NodeId, state: LinkState) -> None:
        self.links.append((peer, state.value))

    def welcomes(self, peer: Any) -> bool:
        return not peer.is_unwelcome


class World:
    def __init__(self, seed: int = 1) -> None:
        self.scheduler = Scheduler()
        self.network = SimNetwork(self.scheduler, random.Random(seed), (1, 4))
        self.machines = {node: Machine(node, self.scheduler) for node in (ONE, TWO, THREE)}
        self.network.add_hosts(self.machines)
        for node in self.machines:
            self.network.started(node)
        self.run(500)
        for machine in self.machines.values():
            assert sorted(machine.links) == sorted((peer, "up") for peer in self.machines if peer != machine.node)
            machine.links.clear()

    def run(self, ms: int) -> None:
        self.scheduler.run(self.scheduler.now_ms + ms, 100_000)

    def say(self, src: NodeId, numbers: range, *receivers: NodeId) -> None:
        for number in numbers:
            self.network.send(src, receivers, Learn(src, number, 1))
            self.run(number % 3)

    def heard(self, node: NodeId) -> list[int]:
        return [number for _, number in self.machines[node].heard]

    def die(self, node: NodeId, *, power: bool = False) -> None:
        machine = self.machines[node]
        machine.is_running = False
        machine.is_powered = not power
        self.network.stopped(node)

    def revive(self, node: NodeId) -> None:
        machine = self.machines[node]
        machine.is_running = machine.is_powered = True
        machine.incarnation += 1
        self.network.started(node)


def test_a_stream_is_first_in_first_out() -> None:
    world = World()
    world.say(ONE, range(200), TWO, THREE)
    world.run(20)
    assert world.heard(TWO) == world.heard(THREE) == list(range(200))


def test_a_killed_process_is_lost_and_then_refused() -> None:
    world = World()
    world.die(TWO)
    world.run(50)
    assert world.machines[ONE].links[:2] == [(TWO, "lost"), (TWO, "refused")]
    world.revive(TWO)
    world.run(500)
    assert world.machines[ONE].links[-1] == (TWO, "up")


def test_a_machine_without_power_is_silence_until_the_connection_times_out() -> None:
    world = World()
    world.die(TWO, power=True)
    world.run(CONNECTION_TIMEOUT_MS - 50)
    assert world.machines[ONE].links == []
    world.run(100)
    assert world.machines[ONE].links == [(TWO, "lost")]


def test_a_machine_that_comes_back_answers_old_packets_with_a_reset() -> None:
    world = World()
    world.die(TWO, power=True)
    world.run(100)
    world.revive(TWO)
    world.run(500)
    assert world.machines[ONE].links == [(TWO, "lost"), (TWO, "up")]


def test_a_restart_behind_a_cut_is_noticed_when_the_cut_ends() -> None:
    world = World()
    world.network.cut(ONE, TWO)
    world.network.cut(TWO, ONE)
    world.die(TWO, power=True)
    world.revive(TWO)
    world.run(300)
    world.network.mend(ONE, TWO)
    world.network.mend(TWO, ONE)
    world.run(2 * CONNECTION_TIMEOUT_MS)
    assert world.machines[ONE].links == [(TWO, "lost"), (TWO, "up")]


def test_a_short_cut_is_no_more_than_silence() -> None:
    world = World()
    world.network.cut(ONE, TWO)
    world.say(ONE, range(5), TWO)
    world.run(100)
    world.network.mend(ONE, TWO)
    world.run(2 * CONNECTION_TIMEOUT_MS)
    world.say(ONE, range(5, 8), TWO)
    world.run(20)
    assert world.heard(TWO) == [5, 6, 7]
    assert world.machines[ONE].links == []


def test_a_cut_that_holds_lets_everything_arrive_in_the_end() -> None:
    world = World()
    world.network.cut(ONE, TWO, "hold")
    world.say(ONE, range(5), TWO)
    world.run(200)
    assert world.heard(TWO) == []
    world.network.mend(ONE, TWO)
    world.say(ONE, range(5, 8), TWO)
    world.run(20)
    assert world.heard(TWO) == list(range(8))


def test_a_cut_of_one_direction_leaves_the_other() -> None:
    world = World()
    world.network.cut(ONE, TWO)
    world.say(ONE, range(3), TWO)
    world.say(TWO, range(3), ONE)
    world.run(20)
    assert (world.heard(TWO), world.heard(ONE)) == ([], [0, 1, 2])


def test_messages_to_a_process_that_died_do_not_reach_the_next_one() -> None:
    world = World()
    world.network.send(ONE, (TWO,), Learn(ONE, 1, 1))
    world.die(TWO)
    world.revive(TWO)
    world.run(500)
    assert world.heard(TWO) == []


def test_a_frozen_process_does_not_finish_a_handshake() -> None:
    world = World()
    world.die(TWO)
    world.run(50)
    world.machines[TWO].is_frozen = True
    world.revive(TWO)
    world.machines[ONE].links.clear()
    world.run(1000)
    assert world.machines[ONE].links == []
    world.machines[TWO].is_frozen = False
    world.run(1000)
    assert world.machines[ONE].links == [(TWO, "up")]


def test_a_node_that_is_not_welcome_gets_no_stream() -> None:
    world = World()
    world.die(TWO)
    world.run(50)
    world.machines[TWO].is_unwelcome = True
    world.revive(TWO)
    world.run(1000)
    world.say(TWO, range(3), ONE)
    world.say(ONE, range(3), TWO)
    world.run(20)
    assert (world.heard(ONE), world.heard(TWO)) == ([], [0, 1, 2])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(Rule(loss=1.0), [], id="everything is lost"),
        pytest.param(Rule(duplicate=1.0), sorted([*range(9), *range(9)]), id="everything comes twice"),
        pytest.param(Rule(delay_ms=30), list(range(9)), id="what is late stays in order"),
        pytest.param(Rule(kinds=("HeartbeatReply",), partition=True), list(range(9)), id="other kinds are not meant"),
    ],
)
def test_message_faults_are_those_of_live_nodes(rule: Rule, expected: list[int]) -> None:
    world = World()
    world.network.faults = FaultLayer([rule], random.Random(3), world.scheduler.now_ms)
    world.say(ONE, range(9), TWO)
    world.run(100)
    assert sorted(world.heard(TWO)) == expected
    if rule.delay_ms:
        assert world.heard(TWO) == expected


def test_reordered_messages_are_overtaken() -> None:
    world = World()
    world.network.faults = FaultLayer([Rule(reorder=0.5, reorder_ms=20)], random.Random(3), world.scheduler.now_ms)
    world.say(ONE, range(50), TWO)
    world.run(100)
    assert world.heard(TWO) != sorted(world.heard(TWO))
    assert sorted(world.heard(TWO)) == list(range(50))


def test_a_filter_decides_each_message() -> None:
    world = World()

    def choose(src: NodeId, dst: NodeId, message: Any) -> int | None:
        return {0: None, 1: 50}.get(message.slot, 0)

    world.network.filter = choose
    world.say(ONE, range(4), TWO)
    world.run(100)
    assert world.heard(TWO) == [2, 3, 1]
