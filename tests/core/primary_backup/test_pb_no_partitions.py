"""Mode no-partitions: one living node suffices, as long as a silent node is a dead node; and what happens otherwise."""

import msgspec
import pytest
from pb_world import SETTINGS, World

from paxos_twisted.core.events import LineDiverged
from paxos_twisted.core.primary_backup.settings import NO_PARTITIONS

PLAIN = msgspec.structs.replace(SETTINGS, mode=NO_PARTITIONS)


def world(nodes: int = 3) -> World:
    cluster = World(nodes, settings=PLAIN)
    cluster.run_until(cluster.is_level)
    return cluster


def test_the_first_starts_as_primary_and_the_others_join_its_queue() -> None:
    cluster = world()
    assert cluster.primary is cluster[1]
    assert cluster[1].view.members == (1, 2, 3)
    assert [cluster[node].role for node in (1, 2, 3)] == ["primary", "backup", "backup"]


def test_nobody_begins_before_the_first_one_is_there() -> None:
    cluster = World(3, settings=PLAIN)
    cluster.kill(1)
    cluster.run(5000)
    assert cluster.primary is None
    cluster.start(cluster.ids[0])
    cluster.run_until(cluster.is_level)


@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_one_living_node_suffices(nodes: int) -> None:
    cluster = world(nodes)
    for node in range(1, nodes):
        asked = cluster.propose(node, 2)
        cluster.settle()
        cluster.kill(node)
        cluster.run_until(lambda node=node: cluster.primary is cluster[node + 1])  # type: ignore[misc]
        assert set(asked) <= set(cluster.line)
    assert cluster[nodes].view.members == (nodes,)
    before = cluster[nodes].adu
    cluster.propose(nodes, 3)
    cluster.run_until(lambda: cluster[nodes].adu == before + 3)


def test_a_head_that_dies_is_passed_over() -> None:
    cluster = world(5)
    cluster.kill(2)
    cluster.kill(1)
    cluster.run_until(lambda: cluster.primary is cluster[3])
    assert cluster[3].view.members == (3, 4, 5)


def test_whoever_returns_joins_at_the_end_of_the_queue_with_the_whole_state() -> None:
    cluster = world()
    cluster.propose(1, 2)
    cluster.settle()
    cluster.kill(1)
    cluster.run_until(lambda: cluster.primary is cluster[2])
    cluster.propose(2, 3)
    cluster.settle()
    cluster.start(cluster.ids[0])
    cluster.run_until(cluster.is_level)
    assert cluster[2].view.members == (2, 3, 1)
    assert cluster[1].adu == 4


def test_after_all_have_died_the_last_one_must_be_heard_first() -> None:
    """1. Node 1 dies, node 2 goes on alone. 2. Node 2 dies. 3. Node 1 comes back and does not know. It waits."""
    cluster = world(2)
    cluster.kill(1)
    cluster.run_until(lambda: cluster.primary is cluster[2])
    cluster.propose(2, 2)
    cluster.settle()
    cluster.kill(2)
    cluster.start(cluster.ids[0])
    cluster.run(5000)
    assert cluster.primary is None
    cluster.start(cluster.ids[1])
    cluster.run_until(cluster.is_level)
    assert cluster[1].adu == 1


def test_all_die_at_once_and_come_back() -> None:
    cluster = world()
    cluster.propose(1, 4)
    cluster.settle()
    for node in (1, 2, 3):
        machine = cluster.machines[cluster.ids[node - 1]]
        machine.engine = None
    for node in cluster.ids:
        cluster.start(node)
    cluster.run_until(cluster.is_level)
    assert len(cluster.line) == 4


def test_the_split_two_primaries_answer_and_one_of_them_is_wrong() -> None:
    """The teaching run: the network fails instead of a node."""
    cluster = world()
    cluster.isolate(1)
    cluster.run(2000)
    assert cluster[1].takes_commands
    assert cluster[2].takes_commands
    assert cluster[1].view.members == (1,)
    assert cluster[2].view.members == (2, 3)
    assert cluster[1].epoch != cluster[2].epoch
    cluster.propose(2, 2)
    cluster.settle()
    line, cluster.line = cluster.line, cluster.line[:0]  # the other side's line
    cluster.propose(1, 1)
    cluster.settle()
    assert cluster[1].adu == 0, "node 1 has answered its client"
    assert cluster.line != line[:1], "and so has node 2, something else for the same slot"
    cluster.line = line
    cluster.heal()
    cluster.run(2000)
    assert not cluster[1].takes_commands
    assert cluster[1].role == "diverged"
    assert [event for event in cluster.machines[cluster.ids[0]].events if isinstance(event, LineDiverged)]
    assert not cluster[1].is_ready
    assert cluster.primary is cluster[2]


def test_a_split_without_any_command_heals() -> None:
    cluster = world()
    cluster.isolate(1)
    cluster.run(2000)
    cluster.heal()
    cluster.run_until(cluster.is_level)
    assert cluster[1].role != "diverged"
