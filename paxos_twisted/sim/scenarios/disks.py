"""Disks that forget, rot, fill up, slow down or get lost: scenarios 42 to 51."""

from paxos_twisted.core.records import Voted
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.scenario import LOAD, PIPELINED, Stage, scenario
from paxos_twisted.types import NodeId, Slot


@scenario(42, "power-cut-all", "DUR, AGR")
def power_cut_all(stage: Stage) -> None:
    """All nodes lose power at a random disk operation."""
    cluster = stage.make(5)
    cluster.add_clients(4, PIPELINED)
    for _ in range(4):
        stage.progress(cluster, 20)
        commits = cluster.disk(cluster.ids[0]).commits + stage.rng.randrange(1, 6)
        cluster.run_until(
            lambda commits=commits: cluster.disk(cluster.ids[0]).commits >= commits,  # type: ignore[misc]
            3000,
            "the disk works",
        )
        for node in cluster.ids:
            cluster.cut_power(node)
        cluster.run(stage.rng.randrange(5, 100))
        for node in cluster.ids:
            cluster.restart(node)
            cluster.run(stage.rng.randrange(30))
    cluster.finish()


@scenario(43, "lost-suffix", "PRO, DUR")
def lost_suffix(stage: Stage) -> None:
    """Each crash drops everything that was not synced, in any subset of rows."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    for _ in range(12):
        stage.progress(cluster, 8)
        node = cluster.ids[stage.rng.randrange(3)]
        cluster.run(stage.rng.randrange(20))
        cluster.cut_power(node)
        cluster.run(stage.rng.randrange(10, 200))
        cluster.restart(node)
    cluster.finish()


@scenario(44, "torn-last", "starts, and cuts the torn record")
def torn_last(stage: Stage) -> None:
    """The last record, of which nobody was told, is half written."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    node = cluster.followers()[0]
    disk = cluster.disk(node)
    for _ in range(20):
        stage.progress(cluster, 5)
        cluster.run_until(lambda: disk.is_busy, 3000, "a write is under way")
        cluster.cut_power(node)
        cluster.run(20)
        cluster.restart(node)
        if any("being written" in finding for finding in cluster.nodes[node].findings):
            break
    stage.check(
        any("being written" in finding for finding in cluster.nodes[node].findings), "a torn write was found and cut"
    )
    cluster.finish()


def _votes(cluster: Cluster, node: NodeId) -> list[tuple[int, Slot]]:
    """(row, slot) of the votes on a disk, oldest first."""
    return [(seq, record.slot) for seq, record in cluster.disk(node).log() if isinstance(record, Voted)]


@scenario(45, "rot", "no vote forgotten or invented; healed from peers")
def rot(stage: Stage) -> None:
    """One bit flips: in an older record, in the last acknowledged one, at two nodes in different slots."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 40)
    first, second = stage.rng.sample(cluster.ids, 2)
    for node, place in ((first, 0.3), (second, 0.7), (first, 1.0)):
        cluster.kill(node)
        votes = _votes(cluster, node)
        seq, slot = votes[min(int(place * len(votes)), len(votes) - 1)]
        cluster.disk(node).rot(stage.rng, seq)
        cluster.restart(node)
        stage.check(
            any(f"record {seq} " in finding for finding in cluster.nodes[node].findings), "the finding names the record"
        )
        cluster.run_until(
            lambda node=node, slot=slot: cluster.adu(node) > slot,  # type: ignore[misc]
            cluster.liveness_ms(),
            "the node is healed by its peers",
        )
        stage.progress(cluster, 10)
    cluster.finish()


@scenario(46, "rot-all", "stops or is silent; no wrong value")
def rot_all(stage: Stage) -> None:
    """The votes for one slot rot at all nodes: its value is gone, and must not be invented."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 20)
    for node in cluster.ids:
        cluster.kill(node)
    slots = [{slot for _, slot in _votes(cluster, node)} for node in cluster.ids]
    common = sorted(slots[0] & slots[1] & slots[2])
    slot = common[stage.rng.randrange(len(common) // 2, len(common))]
    for node in cluster.ids:
        for seq, voted in _votes(cluster, node):
            if voted == slot:
                cluster.disk(node).rot(stage.rng, seq)
    for node in cluster.ids:
        cluster.restart(node)
    cluster.run(4000)
    applied = max(cluster.adu(node) for node in cluster.ids)
    stage.check(applied < slot, f"slot {slot} is not decided again, by nobody")
    for node in cluster.ids:
        findings = cluster.nodes[node].findings
        stage.check(any("silent" in finding for finding in findings), f"node {node} says that it keeps silent")


@scenario(47, "fsync-error-once", "the node ends; PRO")
def fsync_error_once(stage: Stage) -> None:
    """One sync fails, the next would succeed: a page cache may lie, so the process must end."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    for _ in range(3):
        stage.progress(cluster, 15)
        node = cluster.need_leader() if stage.rng.random() < 0.5 else cluster.followers()[0]
        stops = len(cluster.stops)
        cluster.disk(node).fails_next = True
        cluster.run_until(
            lambda stops=stops: len(cluster.stops) > stops,  # type: ignore[misc]
            3000,
            "the node ends",
        )
        stage.check(cluster.stops[-1][0] == node, "it is that node")
        cluster.run(stage.rng.randrange(300))
        cluster.restart(node)
    cluster.finish()


@scenario(48, "disk-full", "no false answer, LIV after space")
def disk_full(stage: Stage) -> None:
    """The disk of the leader fills up, then that of a follower."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 10)
    leader = cluster.need_leader()
    cluster.disk(leader).is_full = True
    stage.progress(cluster, 20)
    stage.check(cluster.leader() != leader, "leadership has moved")
    cluster.disk(leader).is_full = False
    stage.progress(cluster, 10)
    follower = cluster.followers()[0]
    cluster.disk(follower).is_full = True
    stage.progress(cluster, 20)
    for node in cluster.ids:
        cluster.disk(node).is_full = True
    cluster.run(600)
    answered = cluster.answered()
    cluster.run(1000)
    stage.check(cluster.answered() == answered, "nobody is answered while all disks are full")
    for node in cluster.ids:
        cluster.disk(node).is_full = False
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(49, "slow-disk-leader", "leadership moves, LIV")
def slow_disk_leader(stage: Stage) -> None:
    """The leader's disk becomes several hundred times slower."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    stage.progress(cluster, 10)
    leader = cluster.need_leader()
    cluster.disk(leader).factor = 400
    cluster.run_until(lambda: cluster.leader() not in (None, leader), cluster.liveness_ms(), "another node leads")
    stage.progress(cluster, 20)
    changes = cluster.leader_changes()
    cluster.run(3000)
    stage.check(cluster.leader() != leader, "leadership does not come back")
    stage.check(cluster.leader_changes() - changes <= 1, "it does not wander about")
    cluster.finish()


@scenario(50, "lost-disk", "refused, AGR")
def lost_disk(stage: Stage) -> None:
    """A node comes back with an empty disk and its old id."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 20)
    node = cluster.followers()[0]
    cluster.cut_power(node)
    cluster.disk(node).lose()
    cluster.allowed_stops.add(node)
    stage.check(not cluster.restart(node), "it does not start on an empty disk by itself")
    cluster.lose_disk(node)
    cluster.restart(node)
    cluster.run(2000)
    stage.progress(cluster, 20)
    stage.check(cluster.nodes[node].rejections > 0, "after a forced first start its peers refuse it")
    stage.check(cluster.adu(node) == -1, "it takes part in nothing")
    cluster.finish()


@scenario(51, "old-disk", "refused, AGR")
def old_disk(stage: Stage) -> None:
    """A node comes back with yesterday's disk."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 10)
    node = cluster.followers()[0]
    backup = cluster.disk(node).backup()
    cluster.run(2500)
    stage.progress(cluster, 60)
    cluster.run(1500)
    cluster.cut_power(node)
    cluster.disk(node).restore(backup)
    cluster.ban(node)
    cluster.restart(node)
    cluster.run(2000)
    stage.check(cluster.nodes[node].rejections > 0, "its peers refuse it")
    stage.progress(cluster, 20)
    cluster.finish()
