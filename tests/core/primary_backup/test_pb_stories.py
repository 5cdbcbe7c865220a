"""Whole stories with a few replicas: who serves, who takes over, who is waited for, and what nobody may do."""

import random

import msgspec
import pytest
from pb_world import SETTINGS, World

from paxos_twisted.core.command import split_run
from paxos_twisted.core.engine import Batch, DiskState, LinkState
from paxos_twisted.core.events import LeaderChanged, ViewChanged
from paxos_twisted.core.primary_backup import PrimaryBackup
from paxos_twisted.core.primary_backup.messages import Ack, Deposed, NewView, Resign, Update
from paxos_twisted.core.primary_backup.replica import JOIN_SLOTS
from paxos_twisted.core.records import Header, Held, ViewKept
from paxos_twisted.types import NO_NODE, NodeId


def world(nodes: int = 3) -> World:
    cluster = World(nodes)
    cluster.run_until(cluster.is_level)
    return cluster


def kill_all(cluster: World) -> None:
    """Power loss: nobody notices anything."""
    for machine in cluster.machines.values():
        machine.engine = None
        machine.writes.clear()
        machine.held.clear()
    cluster.under_way.clear()


def test_the_lowest_id_begins_and_the_others_queue_up() -> None:
    cluster = world(4)
    assert cluster.primary is cluster[1]
    assert cluster[1].view.members == (1, 2, 3, 4)
    assert [cluster[node].leader for node in (1, 2, 3, 4)] == [1, 1, 1, 1]


def test_nothing_is_committed_before_every_backup_has_it() -> None:
    cluster = world()
    cluster.propose(1)
    while cluster.under_way:  # the backups get it, and write it, but for node 3
        cluster.deliver(0)
        cluster.write(NodeId(1))
        cluster.write(NodeId(2))
    assert cluster[1].adu == -1
    cluster.write(NodeId(3))
    cluster.settle()
    assert cluster[1].adu == 0


def test_the_primary_waits_for_its_own_disk_too() -> None:
    cluster = world()
    cluster.propose(1)
    while cluster.under_way:
        cluster.deliver(0)
        cluster.write(NodeId(2))
        cluster.write(NodeId(3))
    assert cluster[1].adu == -1
    cluster.settle()
    assert cluster[1].adu == 0


def test_a_backup_acknowledges_what_is_written_and_nothing_beyond_a_hole() -> None:
    cluster = world()
    cluster.propose(1)
    first = [item for item in cluster.under_way if item[1] == 2]
    cluster.under_way = [item for item in cluster.under_way if item[1] != 2]
    cluster.propose(1)
    cluster.settle()
    acks = [message.slot for src, _, message in cluster.seen if src == 2 and isinstance(message, Ack)]
    assert max(acks) == -1
    assert cluster[1].adu == -1
    cluster.under_way += first
    cluster.settle()
    assert cluster[1].adu == 1


def test_a_lost_update_is_sent_again() -> None:
    cluster = world()
    cluster.propose(1)
    cluster.under_way.clear()
    cluster.run(SETTINGS.phase2_ms + 100)
    assert cluster[1].adu == 0


def test_a_dead_backup_is_waited_for_until_a_majority_has_agreed_to_go_on_without_it() -> None:
    cluster = world()
    cluster.isolate(3)
    asked = cluster.propose(1)
    cluster.run(100)
    assert cluster[1].adu == -1, "no view without it yet: no answer"
    cluster.run_until(lambda: cluster[1].adu == 0)
    assert cluster[1].view.members == (1, 2)
    assert cluster.line == asked


def test_a_primary_that_is_cut_off_answers_nobody_and_the_head_of_the_queue_takes_over() -> None:
    """Scenario 71. One line of commands; the other side learns that it was deposed. [82]"""
    cluster = world()
    cluster.isolate(1)
    cluster.propose(1, 2)
    cluster.run_until(lambda: cluster.primary is cluster[2])
    assert cluster[2].view.members == (2, 3)
    kept = cluster.propose(2, 3)
    cluster.run(3000)
    assert cluster[1].adu == -1
    assert not cluster[1].takes_commands, "it cannot reach its view, nor a majority"
    assert [returned.proposed for returned in cluster.machines[NodeId(1)].returned] == [True]
    cluster.heal()
    cluster.run_until(cluster.is_level)
    assert cluster.line == kept
    assert cluster[2].view.members == (2, 3, 1)


def test_a_primary_whose_stream_broke_is_refused_by_its_epoch() -> None:
    """Scenario 72: the others have another view while it lives on. [82]"""
    cluster = world()
    old = cluster[1].epoch
    for node in (2, 3):
        cluster.cut |= {(NodeId(1), NodeId(node)), (NodeId(node), NodeId(1))}
        cluster[node].on_link(NodeId(1), LinkState.LOST)
        cluster[node].on_link(NodeId(1), LinkState.REFUSED)
    cluster.run_until(lambda: cluster[2].takes_commands)
    assert cluster[1].takes_commands, "it has not noticed"
    cluster.heal()
    cluster.seen.clear()
    cluster.propose(1)
    cluster.settle()
    assert not cluster[1].takes_commands
    assert {type(message) for src, _, message in cluster.seen if src in (2, 3)} >= {Deposed}
    assert all(message.epoch > old for _, _, message in cluster.seen if isinstance(message, Ack))
    cluster.run_until(cluster.is_level)


@pytest.mark.parametrize("reached", [(), (2,), (3,), (2, 3)], ids=lambda nodes: f"nodes {nodes} have it")
def test_a_primary_that_dies_while_it_sends(reached: tuple[int, ...]) -> None:
    """Scenario 70: whoever is next completes what it has; what it does not have is gone everywhere."""
    cluster = world()
    asked = cluster.propose(1, 2)
    cluster.under_way = [item for item in cluster.under_way if item[1] in reached]
    while cluster.under_way:
        cluster.deliver(0)
    for node in (2, 3):
        cluster.write(NodeId(node))
    cluster.under_way.clear()
    cluster.kill(1)
    cluster.run_until(lambda: cluster.primary is cluster[2])
    cluster.run(200)
    assert cluster.line == (asked if 2 in reached else [])
    more = cluster.propose(2)
    cluster.start(cluster.ids[0])
    cluster.run_until(cluster.is_level)
    assert cluster.line == (asked if 2 in reached else []) + more
    assert [text(cluster[node]) for node in (1, 2, 3)] == [cluster.line] * 3


def text(engine: PrimaryBackup) -> list[bytes]:
    """All commands that a node holds."""
    log = engine.log
    return [value for entry in log.entries for value in split_run(entry.body, entry.count)]


def test_an_answered_command_survives_the_death_of_everybody_but_one_after_the_other() -> None:
    cluster = world(5)
    for node in (1, 2):
        cluster.propose(node, 3)
        cluster.settle()
        cluster.kill(node)
        cluster.run_until(lambda node=node: cluster.primary is cluster[node + 1])  # type: ignore[misc]
    assert cluster[3].view.members == (3, 4, 5)
    assert cluster.answered == 6
    cluster.run(200)
    assert [cluster[node].adu for node in (3, 4, 5)] == [5, 5, 5]
    cluster.kill(3)
    cluster.run(5000)
    assert cluster.primary is None, "2 of 5 are no majority"
    cluster.start(NodeId(1))
    cluster.run_until(lambda: cluster.primary is not None)
    assert cluster.primary.node in (4, 5), "node 1 is in no view: it may lack what was committed since"


def test_of_two_nodes_both_are_needed_to_change_the_view() -> None:
    cluster = world(2)
    cluster.propose(1)
    cluster.settle()
    cluster.kill(1)
    cluster.run(5000)
    assert cluster.primary is None
    cluster.start(NodeId(1))
    cluster.run_until(cluster.is_level)
    cluster.propose(cluster.primary.node)  # type: ignore[union-attr]
    cluster.settle()
    assert len(cluster.line) == 2


def test_everybody_dies_and_comes_back_from_disk() -> None:
    cluster = world()
    cluster.propose(1, 5)
    cluster.settle()
    kill_all(cluster)
    for node in cluster.ids:
        cluster.start(node)
    cluster.run_until(cluster.is_level)
    assert len(cluster.line) == 5


def test_a_primary_that_comes_back_opens_a_new_epoch_before_it_serves() -> None:
    """Else a view that it had asked for before, with a node that nobody waits for any more, could come true."""
    cluster = world()
    epoch = cluster[1].epoch
    kill_all(cluster)
    for node in cluster.ids:
        cluster.start(node)
    assert not cluster[1].takes_commands or cluster[1].epoch > epoch
    cluster.run_until(lambda: cluster[1].takes_commands)
    assert cluster[1].epoch > epoch
    assert cluster[1].view.nonce == cluster[1].nonce


def test_a_node_that_returns_has_everything_before_it_is_in_the_view() -> None:
    cluster = world()
    cluster.kill(3)
    cluster.run_until(lambda: cluster[1].view.members == (1, 2))
    cluster.propose(1, 6)
    cluster.settle()
    cluster.start(NodeId(3))
    cluster.run_until(lambda: 3 in cluster[1].view.members)
    assert cluster[3].log.end >= 5
    cluster.run_until(cluster.is_level)


def test_while_a_node_joins_nothing_is_committed_that_it_lacks() -> None:
    """The view with it may be decided at any moment from the time at which it is asked for."""
    cluster = world()
    cluster.kill(3)
    cluster.run_until(lambda: cluster[1].view.members == (1, 2))
    cluster.start(NodeId(3))
    primary = cluster[1].primary
    assert primary is not None
    for _ in range(200):
        if primary.asked:
            break
        for node in cluster.ids:
            cluster.tick(node)
        while cluster.under_way and not primary.asked:
            cluster.deliver(0)
            for node in cluster.ids:
                cluster.write(node)
    assert primary.asked == {3}
    cluster.isolate(3)
    cluster.propose(1)
    for _ in range(5):
        cluster.settle()
    if cluster[1].primary is primary:  # the view is not decided yet
        assert cluster[1].adu == -1
    cluster.run_until(lambda: cluster[1].adu == 0)
    assert cluster[1].view.members == (1, 2)


def test_a_deaf_node_deposes_nobody() -> None:
    """Scenario 10: it hears nobody and thinks that all are gone; but it asks for a view only if a majority answers."""
    cluster = world()
    for other in (1, 3):
        cluster.cut.add((NodeId(other), NodeId(2)))
    cluster.run(5000)
    assert cluster.primary is cluster[1]
    assert cluster[1].view.members == (1, 3)


def test_a_primary_that_hears_nobody_steps_down() -> None:
    cluster = world()
    for other in (2, 3):
        cluster.cut.add((NodeId(other), NodeId(1)))
    cluster.run_until(lambda: cluster.primary is cluster[2])


def test_resigning_hands_over_to_the_head_of_the_queue() -> None:
    cluster = world()
    cluster.seen.clear()
    cluster[1].resign("asked")
    cluster.settle()
    assert [message.is_leaving for _, _, message in cluster.seen if isinstance(message, Resign)][:1] == [False]
    cluster.run_until(lambda: cluster.primary is cluster[2])
    assert cluster[2].view.members == (2, 3, 1), "it was there and comes last"


def test_a_node_that_stops_is_not_in_the_next_view() -> None:
    cluster = world()
    cluster[1].resign("stopping")
    cluster.run_until(lambda: cluster.primary is cluster[2])
    assert cluster[2].view.members == (2, 3)


def test_a_full_disk_makes_room_for_another_primary_and_leaves_the_view() -> None:
    cluster = world()
    cluster[1].on_disk(DiskState.FULL)
    cluster.run_until(lambda: cluster.primary is cluster[2])
    cluster.run_until(lambda: cluster[2].view.members == (2, 3))
    cluster[1].on_disk(DiskState.GOOD)
    cluster.run_until(cluster.is_level)


def test_a_backup_whose_disk_is_full_is_not_waited_for() -> None:
    cluster = world()
    cluster[3].on_disk(DiskState.FULL)
    cluster.run_until(lambda: cluster[1].view.members == (1, 2))
    cluster.propose(1)
    cluster.settle()
    assert cluster[1].adu == 0


def test_a_backup_whose_disk_hangs_is_not_waited_for() -> None:
    cluster = world()
    write, hung = cluster.write, NodeId(3)
    cluster.write = lambda node: None if node == hung else write(node)  # type: ignore[method-assign]
    settle_without(cluster, hung)
    cluster.propose(1)
    for _ in range(300):
        for node in cluster.ids:
            cluster.tick(node)
        settle_without(cluster, hung)
        if cluster[1].view.members == (1, 2):
            break
    assert cluster[1].view.members == (1, 2)
    assert cluster[1].adu == 0


def settle_without(cluster: World, hung: NodeId) -> None:
    """Messages and writes, except those of one disk."""
    while cluster.under_way or any(cluster.machines[node].writes for node in cluster.ids if node != hung):
        while cluster.under_way:
            cluster.deliver(0)
        for node in cluster.ids:
            cluster.write(node)


def test_a_node_that_has_lost_what_it_held_does_not_take_over_and_is_healed_by_the_primary() -> None:
    cluster = world()
    cluster.propose(1, 2)
    cluster.settle()
    machine = cluster.machines[NodeId(2)]
    cluster.kill(2)
    rotten = next(record for record in machine.durable if isinstance(record, Held))
    machine.durable = [record for record in machine.durable if not isinstance(record, Held)]
    engine = PrimaryBackup(
        NodeId(2), cluster.ids, SETTINGS, random.Random(5), list(machine.durable), [Header(0, 2, rotten.epoch)]
    )
    assert list(engine.log.damaged) == [(0, 2)]
    assert not engine.able
    machine.engine = engine
    for other in (1, 3):
        engine.on_link(NodeId(other), LinkState.UP)
        cluster[other].on_link(NodeId(2), LinkState.UP)
    cluster.run_until(cluster.is_level)
    assert not engine.log.damaged
    assert text(engine) == cluster.line


def test_the_log_is_truncated_and_a_node_that_is_too_far_behind_is_offered_a_snapshot() -> None:
    cluster = world()
    cluster.kill(3)
    cluster.run_until(lambda: cluster[1].view.members == (1, 2))
    cluster.propose(1, 8)
    cluster.run(40)
    engine = cluster[1]
    engine.log.drop_below(5)  # as after a snapshot that is far ahead
    cluster[2].log.drop_below(5)
    cluster.start(NodeId(3))
    wanted: list[NodeId] = []
    for _ in range(50):
        for node in cluster.ids:
            cluster.tick(node)
        for node in (1, 2):
            wanted += cluster[node].take_output().snapshot_wanted_by
        cluster.settle()
        wanted += [NodeId(3)] if cluster[3].adu < 0 and cluster[3].catch_up.target == 7 else []
        if wanted:
            break
    assert 3 in wanted
    cluster[3].on_installed(6)
    cluster.run_until(lambda: cluster[3].adu == 7)
    assert cluster[3].log.first == 7
    cluster.run_until(lambda: 3 in cluster[1].view.members)


def test_a_snapshot_writes_again_what_must_survive_truncation() -> None:
    cluster = world()
    cluster.propose(1, 4)
    cluster.run(100)
    engine = cluster[1]
    engine.log.first = 0
    engine._repeat_state(3)
    records = engine.take_output().records
    kinds = [type(record).__name__ for record in records]
    assert kinds == ["Entered", "ViewKept", "Reached", "Truncated"]
    kept = next(record for record in records if isinstance(record, ViewKept))
    assert (kept.epoch, kept.members) == (engine.view.epoch, engine.view.members)


def test_a_node_whose_view_log_is_truncated_elsewhere_is_told_the_result() -> None:
    cluster = world()
    cluster.isolate(3)
    cluster.run_until(lambda: cluster[1].view.members == (1, 2))
    for node in (1, 2):
        views = cluster[node].views
        paxos = views.paxos  # type: ignore[attr-defined]
        paxos.log.clear()
        paxos.log_first = paxos.adu + 1
    cluster.heal()
    cluster.run_until(cluster.is_level)
    logs = [cluster[node].views.paxos for node in (1, 3)]  # type: ignore[attr-defined]
    cluster.run_until(lambda: logs[0].adu == logs[1].adu)


def test_only_a_change_of_the_primary_is_a_change_of_the_leader() -> None:
    cluster = world()
    for machine in cluster.machines.values():
        machine.events.clear()
    cluster.kill(3)
    cluster.run_until(lambda: cluster[2].entered.members == (1, 2))
    events = cluster.machines[NodeId(2)].events
    assert [event.backups for event in events if isinstance(event, ViewChanged)] == [(2,)]
    assert not [event for event in events if isinstance(event, LeaderChanged)]
    assert cluster[2].leader == 1


def test_one_slot_at_a_time() -> None:
    """`alpha: 1`, the lab's rule."""
    cluster = World(3, settings=msgspec.structs.replace(SETTINGS, alpha=1))
    cluster.run_until(cluster.is_level)
    cluster.seen.clear()
    cluster.propose(1, 5)
    cluster.settle()
    assert cluster[1].adu == 4
    assert {message.count for _, _, message in cluster.seen if isinstance(message, Update)} == {1}


def test_whoever_is_not_primary_hands_commands_back() -> None:
    cluster = world()
    cluster.propose(2)
    returned = cluster.machines[NodeId(2)].returned
    assert [(one.proposed, one.reason) for one in returned] == [(False, "not-leader")]


def test_a_damaged_run_is_not_stored() -> None:
    cluster = world()
    epoch = cluster[1].epoch
    cluster[2].on_message(NodeId(1), Update(NodeId(1), epoch, 0, b"\xc5\xff", -1, 3))
    assert cluster[2].log.end == -1


def test_nobody_else_than_its_primary_speaks_for_an_epoch() -> None:
    cluster = world()
    view = cluster[1].view
    cluster[2].on_message(NodeId(3), Update(NodeId(3), view.epoch, 0, b"\x01", 0, 1))
    assert cluster[2].log.end == -1
    later = msgspec.structs.replace(view, epoch=view.epoch + 1)
    cluster[2].on_message(NodeId(3), NewView(NodeId(3), later, 0, 0))
    assert cluster[2].entered.epoch == view.epoch


def test_commands_wait_in_a_queue_with_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxos_twisted.core.primary_backup.replica.PROPOSALS_MAX", 20)
    cluster = world()
    for _ in range(8):
        cluster[1].on_propose(Batch(b"\x01\x01\x01", 3))
    out = cluster[1].take_output()
    assert [one.reason for one in out.returned] == ["overloaded", "overloaded"]


def test_a_far_laggard_fetches_before_it_is_sent_updates() -> None:
    assert JOIN_SLOTS < 10_000, "what is kept behind a snapshot must do for the last stretch"


def test_status_tells_the_view_and_how_far_the_backups_are() -> None:
    cluster = world()
    cluster.propose(1)
    cluster.settle()
    status = cluster[1].status()
    assert (status["role"], status["part"]) == ("leader", "primary")
    assert status["view"]["primary"] == 1
    assert status["view"]["queue"] == [2, 3]
    assert status["peers"]["2"]["acked"] == 0
    assert status["peers"]["2"]["part"] == "backup"
    msgspec.json.encode(status)
    cluster.kill(1)
    assert cluster[3].leader in (NO_NODE, 2)


def test_views_that_come_and_go_for_days_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxos_twisted.core.primary_backup.views.VIEWS_KEPT_MAX", 4)
    cluster = world()
    for _ in range(4):
        cluster.kill(3)
        cluster.run_until(lambda: cluster[1].view.members == (1, 2))
        cluster.start(NodeId(3))
        cluster.run_until(cluster.is_level)
    durable = cluster.machines[NodeId(2)].durable
    assert len([record for record in durable if isinstance(record, ViewKept)]) >= 2
    epoch = cluster[2].epoch
    cluster.kill(2)
    cluster.start(NodeId(2))
    assert cluster[2].epoch >= epoch
    cluster.run_until(cluster.is_level)


def test_who_joins_has_also_what_the_primary_before_may_have_committed() -> None:
    """1. Node 1 commits with nodes 2 and 3, and dies. 2. Node 2 has it, and does not know that it is committed. 3. It
    may not take node 4 into its view before node 4 has it: node 4 could be the next primary."""
    cluster = world(5)
    cluster.kill(5)
    cluster.kill(4)
    cluster.run_until(lambda: cluster[1].view.members == (1, 2, 3))
    cluster.propose(1, 2)
    while cluster[1].adu < 1:
        cluster.deliver(0)
        for node in cluster.running:
            cluster.write(node)
    cluster.under_way.clear()
    assert cluster[2].adu == -1
    cluster.kill(1)
    cluster.isolate(3)
    cluster.start(NodeId(4))
    cluster.start(NodeId(5))
    cluster.run_until(lambda: cluster[2].takes_commands)
    primary = cluster[2].primary
    assert primary is not None
    primary.joining.add(NodeId(4))
    primary.followers[NodeId(4)].acked = cluster[2].adu
    if cluster[2].adu < 1:
        assert 4 not in cluster[2]._wanted_members(primary)
    primary.joining.clear()
    primary.followers[NodeId(4)].acked = -1
    cluster.heal()
    cluster.start(NodeId(1))
    cluster.run_until(cluster.is_level)
    assert cluster.answered == 2
