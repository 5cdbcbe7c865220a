"""Links that break, in one direction or another: scenarios 7 to 16."""

from typing import Any

from paxos_twisted.check.bank import BankModel
from paxos_twisted.core.multipaxos.messages import HeartbeatReply, HeartbeatRequest
from paxos_twisted.sim.clients import SimClient
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.order import search_order
from paxos_twisted.sim.scenario import LOAD, PIPELINED, Stage, scenario
from paxos_twisted.sim.subjects.multipaxos import rounds_burnt
from paxos_twisted.types import NodeId


@scenario(7, "duel", "AGR, LIV by back-off")
def duel(stage: Stage) -> None:
    """Two detectors name two leaders for long (the lab's detector: with the default one there is no duel)."""
    cluster = stage.make(3, changes={"policy": "lab"})
    cluster.add_clients(3, LOAD)
    stage.progress(cluster)

    def no_heartbeats(src: NodeId, dst: NodeId, message: Any) -> int | None:
        between = {src, dst} == {cluster.ids[1], cluster.ids[2]}
        return None if between and isinstance(message, HeartbeatRequest | HeartbeatReply) else 0

    cluster.network.filter = no_heartbeats
    cluster.run(4000)
    cluster.finish()


def _put_on_side(cluster: Cluster, clients: list[SimClient], side: list[NodeId]) -> None:
    """These clients reach these nodes only."""
    for client in clients:
        cluster.unreachable.update((client.number, node) for node in cluster.ids if node not in side)
        client.aim(side[0])


@scenario(8, "isolated-leader", "no decision on the leader's side; LIN")
def isolated_leader(stage: Stage) -> None:
    """The leader is cut off together with some clients."""
    cluster = stage.make(5)
    inside = cluster.add_clients(2, LOAD)
    cluster.add_clients(2, LOAD)
    stage.progress(cluster, 10)
    leader = cluster.need_leader()
    cluster.isolate(leader)
    _put_on_side(cluster, inside, [leader])
    cluster.run(60)  # what was decided before may still be applied and answered
    slot, answered = cluster.adu(leader), sum(client.answered_count for client in inside)
    cluster.run(2000)
    stage.check(cluster.adu(leader) == slot, "the cut-off leader decides nothing")
    stage.check(sum(client.answered_count for client in inside) == answered, "nobody is answered by it")
    stage.progress(cluster, 10)
    cluster.finish()
    search_order(cluster.history, BankModel())


@scenario(38, "old-leader-read", "LIN")
def old_leader_read(stage: Stage) -> None:
    """Clients ask for balances at a leader that was just replaced. Reads go through the log."""
    cluster = stage.make(5)
    readers = cluster.add_clients(2, LOAD)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 10)
    for _ in range(3):
        old = cluster.need_leader()
        _put_on_side(cluster, readers, [old])
        cluster.isolate(old, "hold" if stage.rng.random() < 0.5 else "drop")
        cluster.run_until(
            lambda old=old: cluster.leader() not in (None, old),  # type: ignore[misc]
            cluster.liveness_ms(),
            "another node leads",
        )
        cluster.run(stage.rng.randrange(200))
        cluster.rejoin(old)
        cluster.run(stage.rng.randrange(400))
        cluster.unreachable.clear()
        stage.progress(cluster, 10)
    cluster.finish()
    search_order(cluster.history, BankModel())


@scenario(9, "returning-loner", "STB, rounds bounded")
def returning_loner(stage: Stage) -> None:
    """One node is alone for two hundred time-outs and comes back."""
    cluster = stage.make(5)
    cluster.run(300)
    loner = cluster.followers()[stage.rng.randrange(4)]
    changes, rounds = cluster.leader_changes(), rounds_burnt(cluster)
    cluster.isolate(loner)
    cluster.run(200 * cluster.settings.delay_ms)
    cluster.rejoin(loner)
    cluster.add_clients(2, LOAD)
    stage.progress(cluster, 20)
    cluster.run(1000)
    stage.check(cluster.leader_changes() == changes, "it deposes nobody")
    stage.check(rounds_burnt(cluster) == rounds, "it has burnt no round")
    cluster.finish()


@scenario(10, "deaf-node", "STB, LIV")
def deaf_node(stage: Stage) -> None:
    """The highest id sends but hears nothing: it looks alive for ever."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster)
    changes = cluster.leader_changes()
    deaf = cluster.ids[-1]
    for node in cluster.ids[:-1]:
        cluster.cut(node, deaf)
    stage.progress(cluster, 20)
    cluster.run(5000)
    stage.check(cluster.leader_changes() - changes <= 1, "at most one leader change")
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(11, "mute-leader", "LIV")
def mute_leader(stage: Stage) -> None:
    """The leader hears but cannot send."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster)
    changes = cluster.leader_changes()
    leader = cluster.need_leader()
    for node in cluster.followers():
        cluster.cut(leader, node)
    cluster.run(100)
    stage.progress(cluster, 20)
    cluster.run(4000)
    stage.check(cluster.leader_changes() - changes <= 2, "at most two leader changes")
    cluster.finish()


def _star(cluster: Cluster, hub: NodeId) -> None:
    cluster.keep_links([(hub, node) for node in cluster.ids if node != hub])


@scenario(12, "star", "LIV, the hub leads")
def star(stage: Stage) -> None:
    """All links are cut but those of one follower."""
    cluster = stage.make(5)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster)
    hub = cluster.followers()[stage.rng.randrange(4)]
    _star(cluster, hub)
    cluster.run_until(lambda: cluster.leader() == hub, cluster.liveness_ms(), "the hub leads")
    stage.progress(cluster, 20)
    changes = cluster.leader_changes()
    cluster.run(4000)
    stage.check(cluster.leader_changes() == changes, "then it stays so")
    cluster.finish()


@scenario(13, "constrained", "LIV, the hub catches up")
def constrained(stage: Stage) -> None:
    """As the star, but the hub is far behind: electable is who is connected, not who has the longest log."""
    cluster = stage.make(5)
    cluster.add_clients(3, PIPELINED)
    stage.progress(cluster)
    hub = cluster.followers()[stage.rng.randrange(4)]
    cluster.isolate(hub)
    stage.progress(cluster, 100)
    cluster.rejoin(hub)
    _star(cluster, hub)
    cluster.run_until(lambda: cluster.leader() == hub, cluster.liveness_ms(), "the hub leads")
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(14, "chain", "STB bounded")
def chain(stage: Stage) -> None:
    """Of three links one is cut."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster)
    changes = cluster.leader_changes()
    a, c = stage.rng.sample(cluster.ids, 2)
    cluster.cut_both(a, c)
    stage.progress(cluster, 20)
    cluster.run(5000)
    stage.check(cluster.leader_changes() - changes <= 1, "at most one leader change")
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(15, "half-switch", "STB, LIV")
def half_switch(stage: Stage) -> None:
    """1, 2, 3 see each other, 4 sees only 2, 5 only 3."""
    cluster = stage.make(5)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster)
    changes = cluster.leader_changes()
    cluster.keep_links([(1, 2), (2, 3), (1, 3), (4, 2), (5, 3)])
    cluster.run(cluster.liveness_ms())
    stage.progress(cluster, 20)
    settled = cluster.leader_changes()
    cluster.run(5000)
    stage.check(settled - changes <= 2, "at most two leader changes")
    stage.check(cluster.leader_changes() == settled, "then it stays so")
    cluster.finish()


@scenario(16, "flapping-link", "throughput > 0, STB bounded")
def flapping_link(stage: Stage) -> None:
    """A link of the leader toggles every half time-out."""
    cluster = stage.make(5)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster)
    changes = cluster.leader_changes()
    leader = cluster.need_leader()
    other = cluster.followers()[0]
    for _ in range(10):
        before = cluster.answered()
        cluster.cut_both(leader, other)
        cluster.run(cluster.settings.delay_ms // 2)
        cluster.mend_both(leader, other)
        cluster.run(cluster.settings.delay_ms // 2)
        stage.check(cluster.answered() > before, "requests are answered all the time")
    stage.check(cluster.leader_changes() == changes, "the leader stays")
    cluster.finish()
