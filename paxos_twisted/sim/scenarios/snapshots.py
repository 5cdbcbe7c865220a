"""Nodes that fall behind, truncated logs, state transfer, sessions: scenarios 25 to 31."""

from typing import Any

import msgspec

from paxos_twisted.core.multipaxos.messages import AskFollow, CatchUpReply
from paxos_twisted.core.transfer import SnapshotData, SnapshotOffer
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.scenario import LOAD, PIPELINED, Stage, scenario
from paxos_twisted.sim.small import Limits
from paxos_twisted.sim.workloads import Habits
from paxos_twisted.types import NodeId

TRUNCATING = Limits(slots_kept=0, piece_bytes=20, truncate_rows=4)
"""Nothing is kept behind a snapshot, and a snapshot has several pieces."""


def _fall_behind(stage: Stage, cluster: Cluster, requests: int) -> NodeId:
    """Cut a follower off while the others answer so many requests; return it, still cut off."""
    laggard = cluster.followers()[0]
    cluster.isolate(laggard)
    stage.progress(cluster, requests, 20_000)
    return laggard


def _catches_up(cluster: Cluster, node: NodeId) -> None:
    goal = len(cluster.model.results) - 1
    cluster.run_until(lambda: cluster.adu(node) >= goal, cluster.liveness_ms(), f"node {node} has caught up")


def _installed(cluster: Cluster, node: NodeId) -> int:
    return cluster.invariants.view(node).installs


@scenario(25, "session-in-snapshot", "XO", TRUNCATING)
def session_in_snapshot(stage: Stage) -> None:
    """A retry reaches a node that got its state by snapshot."""
    cluster = stage.make(3, snapshot_every=10)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 5)
    laggard = _fall_behind(stage, cluster, 10)
    client = cluster.add_clients(1, Habits(requests=1, timeout_ms=2000, give_up_share=0.0))[0]
    client.aim(cluster.need_leader())
    cluster.run_until(
        lambda: any(key[0] == client.client for key in cluster.model.first), 1000, "the request is executed"
    )
    if client.is_done:
        return  # the answer was on its way already: this seed has nothing to tell
    cluster.unreachable.update((client.number, node) for node in cluster.ids if node != laggard)
    stage.progress(cluster, 30)
    cluster.rejoin(laggard)
    _catches_up(cluster, laggard)
    stage.check(_installed(cluster, laggard) > 0, "it got a snapshot")
    leader = cluster.need_leader()
    cluster.isolate(leader)  # of the two others, the one with the snapshot may lead now
    stage.progress(cluster, 10)
    cluster.finish()
    stage.check(client.is_done and client.answered_count == 1, "the client got its answer")


@scenario(26, "expired-session", "refused everywhere", Limits(shards=2))
def expired_session(stage: Stage) -> None:
    """A retry comes very late, after its session has expired."""
    cluster = stage.make(3, session_expiry=30)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 5)
    client = cluster.add_clients(1, Habits(requests=1, timeout_ms=400, give_up_share=0.0))[0]
    client.aim(cluster.need_leader())
    cluster.run_until(
        lambda: any(key[0] == client.client for key in cluster.model.first), 1000, "the request is executed"
    )
    cluster.unreachable.update((client.number, node) for node in cluster.ids)
    if client.is_done:
        return
    session = client.client
    stage.progress(cluster, 120, 20_000)
    cluster.unreachable.clear()
    cluster.run_until(lambda: client.is_done, cluster.liveness_ms(), "the client has its outcome")
    stage.check(client.answered_count == 0, "it is refused, as its session has expired")
    stage.check(sum(key[0] == session for key in cluster.model.first) == 1, "the request was executed once")
    stage.check(cluster.model.refused_reasons.get((session, 1)) == "expired", "and refused by the session table")
    cluster.finish()


@scenario(27, "laggard-log", "LIV")
def laggard_log(stage: Stage) -> None:
    """A follower is away for 500 slots, and the others still have their log."""
    cluster = stage.make(5)
    cluster.add_clients(4, PIPELINED)
    laggard = _fall_behind(stage, cluster, 500)
    cluster.rejoin(laggard)
    _catches_up(cluster, laggard)
    stage.check(_installed(cluster, laggard) == 0, "it needed no snapshot")
    cluster.finish()


@scenario(28, "laggard-snapshot", "EQ, LIV", TRUNCATING)
def laggard_snapshot(stage: Stage) -> None:
    """A follower is away until what it lacks is truncated."""
    cluster = stage.make(5, snapshot_every=40)
    cluster.add_clients(4, PIPELINED)
    laggard = _fall_behind(stage, cluster, 200)
    cluster.rejoin(laggard)
    _catches_up(cluster, laggard)
    stage.check(_installed(cluster, laggard) > 0, "it got a snapshot")
    cluster.finish()


@scenario(29, "truncated-promise", "AGR, the candidate catches up first", TRUNCATING)
def truncated_promise(stage: Stage) -> None:
    """The only node that may stand for election is behind, and the others have truncated what it lacks."""
    cluster = stage.make(3, snapshot_every=20)
    cluster.add_clients(3, LOAD)
    laggard = _fall_behind(stage, cluster, 80)
    leader = cluster.need_leader()

    def only_laggard_stands(src: NodeId, dst: NodeId, message: Any) -> int | None:
        return None if isinstance(message, AskFollow) and src != laggard else 0

    cluster.network.filter = only_laggard_stands
    cluster.rejoin(laggard)
    cluster.kill(leader)
    cluster.run_until(lambda: cluster.leader() == laggard, cluster.liveness_ms(), "the node that was behind leads")
    stage.progress(cluster, 10)
    stage.check(_installed(cluster, laggard) > 0, "it got a snapshot before")
    cluster.finish()


@scenario(29, "truncated-promise-starved", "AGR, it does not lead", TRUNCATING)
def truncated_promise_starved(stage: Stage) -> None:
    """The same, and nothing of what it lacks reaches it: promises alone must not make it leader."""
    cluster = stage.make(3, snapshot_every=20)
    cluster.add_clients(3, LOAD)
    laggard = _fall_behind(stage, cluster, 80)
    leader = cluster.need_leader()

    def starve(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if isinstance(message, AskFollow) and src != laggard:
            return None
        return None if dst == laggard and isinstance(message, SnapshotOffer | SnapshotData | CatchUpReply) else 0

    cluster.network.filter = starve
    cluster.rejoin(laggard)
    cluster.kill(leader)
    cluster.run(4000)
    stage.check(cluster.leader() != laggard, "it does not lead")
    cluster.network.filter = None
    cluster.finish()


@scenario(30, "snapshot-cut", "EQ, never half installed", TRUNCATING)
def snapshot_cut(stage: Stage) -> None:
    """Pieces get lost, and one of them is not what its sender has."""
    cluster = stage.make(3, snapshot_every=30)
    cluster.add_clients(3, LOAD)
    laggard = _fall_behind(stage, cluster, 80)
    pieces = 0

    def damage(src: NodeId, dst: NodeId, message: Any) -> Any:
        nonlocal pieces
        if isinstance(message, SnapshotData):
            pieces += 1
            if pieces == 3:
                return msgspec.structs.replace(message, data=message.data[:-1] + b"\x00")
        return message

    def lose(src: NodeId, dst: NodeId, message: Any) -> int | None:
        return None if isinstance(message, SnapshotData) and stage.rng.random() < 0.2 else 0

    cluster.network.tamper = damage
    cluster.network.filter = lose
    cluster.rejoin(laggard)
    cluster.run(1500)
    sender = cluster.need_leader()
    cluster.cut_both(sender, laggard)
    cluster.run(300)
    cluster.mend_both(sender, laggard)
    cluster.run_until(lambda: _installed(cluster, laggard) > 0, 30_000, "a snapshot is installed at last")
    stage.check(pieces > 3, "pieces were sent")
    cluster.finish()


@scenario(31, "crash-in-install", "PRO, ADU", TRUNCATING)
def crash_in_install(stage: Stage) -> None:
    """Power fails at each write of the installation of a snapshot."""
    cluster = stage.make(3, snapshot_every=20)
    cluster.add_clients(3, LOAD)
    laggard = _fall_behind(stage, cluster, 80)
    cuts = 0
    wanted = 0

    def cut_soon(src: NodeId, dst: NodeId, message: Any) -> int | None:
        nonlocal cuts
        if isinstance(message, SnapshotData) and dst == laggard and cuts < wanted and stage.rng.random() < 0.8:
            cuts += 1
            after = stage.rng.randrange(2, 12)
            cluster.scheduler.after(after, lambda: cluster.cut_power(laggard))
            cluster.scheduler.after(after + 20, lambda: cluster.restart(laggard))
        return 0

    cluster.network.filter = cut_soon
    for _ in range(4):
        wanted += 3
        cluster.rejoin(laggard)
        cluster.run(50)
        _catches_up(cluster, laggard)
        cluster.isolate(laggard)
        stage.progress(cluster, 60, 20_000)
    stage.check(cuts >= 3, f"power was cut {cuts} times while a snapshot came in")
    cluster.finish()
