"""Primary-backup: primaries that die, are cut off or are wrongly suspected, with an auction: scenarios 69 to 74."""

from typing import Any

from paxos_twisted.apps.auction import Bid, BidResult
from paxos_twisted.core.primary_backup.messages import Canvass, Commit, NewView, Update
from paxos_twisted.core.primary_backup.settings import NO_PARTITIONS
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.scenario import LOAD, PIPELINED, Stage, scenario
from paxos_twisted.sim.subjects.primary_backup import evidence
from paxos_twisted.sim.workloads import Habits
from paxos_twisted.types import NodeId

PB = "primary-backup"

BIDDERS = Habits(requests=100_000, think_ms=40, accounts=2, transfer_share=0.05)


def _other_primary(cluster: Cluster, old: NodeId) -> None:
    cluster.run_until(lambda: cluster.leader() not in (None, old), cluster.liveness_ms(), "another node is primary")


def _whole_view(cluster: Cluster) -> NodeId:
    """Wait until all nodes are in the view: whoever of them is the only one left then can go on. Returns the primary.

    (A view of one member is stuck when that one is gone: nobody else has what was acknowledged.)
    """
    cluster.run_until(
        lambda: len(evidence(cluster).newest_view().members) == len(cluster.ids) and cluster.leader() is not None,
        4 * cluster.liveness_ms(),
        "all nodes are in the view",
    )
    return cluster.need_leader()


@scenario(69, "primary-dies-acked", "DUR, LIN", engine=PB, application="auction")
def primary_dies_acked(stage: Stage) -> None:
    """The primary dies right after its answer, again and again."""
    cluster = stage.make(3)
    cluster.add_clients(4, BIDDERS)
    for _ in range(4):
        stage.progress(cluster, 10)
        primary = _whole_view(cluster)
        goal = cluster.answered() + 1
        cluster.run_until(lambda goal=goal: cluster.answered() >= goal, 3000, "an answer")  # type: ignore[misc]
        (cluster.cut_power if stage.rng.random() < 0.5 else cluster.kill)(primary)
        _other_primary(cluster, primary)
        stage.progress(cluster, 5)
        cluster.restart(primary)
    cluster.finish()


@scenario(70, "primary-dies-sending", "one primary, EQ afterwards", engine=PB)
def primary_dies_sending(stage: Stage) -> None:
    """The primary dies when one of two backups has its updates."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    for _ in range(3):
        stage.progress(cluster, 15)
        primary = _whole_view(cluster)
        deaf = [node for node in cluster.ids if node != primary][stage.rng.randrange(2)]
        _drop_updates(cluster, primary, deaf)
        cluster.run(stage.rng.randrange(8))
        cluster.kill(primary)
        cluster.network.filter = None
        stage.progress(cluster, 10)
        cluster.restart(primary)
    cluster.finish()


def _drop_updates(cluster: Cluster, primary: NodeId, deaf: NodeId) -> None:
    """From now on the updates of the primary do not reach `deaf`. Returns when it has sent some."""
    said = 0

    def half(src: NodeId, dst: NodeId, message: Any) -> int | None:
        nonlocal said
        if src == primary and isinstance(message, Update):
            said += 1
            return None if dst == deaf else 0
        return 0

    cluster.network.filter = half
    cluster.run_until(lambda: said >= 4, 3000, "the primary sends updates")


@scenario(70, "primary-dies-queueing", "one primary, EQ afterwards", engine=PB)
def primary_dies_queueing(stage: Stage) -> None:
    """A new primary dies when one of the others has its view, and with it the leader queue."""
    cluster = stage.make(5)
    cluster.add_clients(3, PIPELINED)
    for _ in range(2):
        stage.progress(cluster, 10)
        old = _whole_view(cluster)
        first = [node for node in cluster.ids if node != old][stage.rng.randrange(4)]
        cluster.kill(old)
        new = _tell_view_to(cluster, first)
        cluster.run(stage.rng.randrange(6))
        cluster.kill(new)
        cluster.network.filter = None
        stage.progress(cluster, 10)
        cluster.restart(old)
        cluster.restart(new)
    cluster.finish()


def _tell_view_to(cluster: Cluster, first: NodeId) -> NodeId:
    """From now on a new view is told to `first` only. Returns the first primary that tells one."""
    said: list[NodeId] = []

    def once(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if isinstance(message, NewView):
            said.append(src)
            return 0 if dst == first else None
        return 0

    cluster.network.filter = once
    cluster.run_until(lambda: bool(said), cluster.liveness_ms(), "a view is told")
    return said[0]


def _cut_off(stage: Stage, cluster: Cluster) -> NodeId:
    """Cut the primary off from the others; some clients reach only it, others only them. Returns it."""
    primary = _whole_view(cluster)
    cluster.isolate(primary, "hold" if stage.rng.random() < 0.3 else "drop")
    for number, client in enumerate(cluster.clients):
        reached = [primary] if number % 2 else [node for node in cluster.ids if node != primary]
        cluster.unreachable.update((client.number, node) for node in cluster.ids if node not in reached)
        client.aim(reached[0])
    return primary


@scenario(71, "pb-partition", "one line of bids", engine=PB, application="auction")
def pb_partition(stage: Stage) -> None:
    """The primary is cut off and not dead, with clients on its side."""
    cluster = stage.make(3)
    cluster.add_clients(6, BIDDERS)
    stage.progress(cluster, 20)
    old = _cut_off(stage, cluster)
    _other_primary(cluster, old)
    stage.progress(cluster, 20)
    cluster.run(stage.rng.randrange(500))
    cluster.rejoin(old)
    cluster.unreachable.clear()
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(71, "pb-split", "shows what mode no-partitions does not give", engine=PB, application="auction")
def pb_split(stage: Stage) -> None:
    """The same in mode no-partitions. This is meant to go wrong: two primaries take bids, and both say "success"."""
    cluster = stage.make(3, changes={"mode": NO_PARTITIONS})
    cluster.add_clients(6, Habits(requests=100_000, think_ms=40, accounts=1, transfer_share=0.0))
    stage.progress(cluster, 20)
    old = _cut_off(stage, cluster)
    start_ms = cluster.scheduler.now_ms
    sides = (range(1, 6, 2), range(0, 6, 2))

    def successes(side: range) -> list[str]:
        """The bids that clients of this side were told to be the highest ones, since the cut."""
        sessions = {session for number in side for session, _, _ in cluster.clients[number].answers}
        return [
            f"    {operation.op.bidder} bids {operation.op.amount} for {operation.op.name!r}: success"
            for operation in cluster.history.operations
            if operation.client in sessions
            and operation.call >= start_ms * 1_000_000
            and isinstance(operation.op, Bid)
            and isinstance(operation.result, BidResult)
            and operation.result.outcome == "success"
        ]

    cluster.run_until(lambda: bool(evidence(cluster).split), 30_000, "two primaries decide differently")
    cluster.run(1500)
    stage.check(all(map(successes, sides)), "both sides take bids")
    split = evidence(cluster).split
    stage.check(split.startswith("AGR"), f"the two lines differ: {split}")
    stage.tell(f"node {old} was primary and is cut off; it takes the bids of the clients on its side:")
    stage.told.extend(successes(sides[0])[:4])
    stage.tell("the others think that it is dead; one of them is primary, too:")
    stage.told.extend(successes(sides[1])[:4])
    stage.tell("one slot of the log, two commands: " + split[:300])


@scenario(70, "primary-dies-joining", "what is committed the new member has", engine=PB)
def primary_dies_joining(stage: Stage) -> None:
    """The primary, alone in its view, dies when a view with a new member is decided: that one must have everything."""
    cluster = stage.make(3)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 15)
    primary = _whole_view(cluster)
    joining, other = [node for node in cluster.ids if node != primary]
    cluster.disk(other).is_full = True  # it may vote for nothing now, and is in no view
    cluster.isolate(joining)
    cluster.run(3 * cluster.settings.delay_ms)
    cluster.disk(other).is_full = False
    stage.progress(cluster, 10)
    asked: list[NodeId] = []

    def hold(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if isinstance(message, Canvass) and src == primary:
            asked.append(dst)
        return None if asked and src == primary and isinstance(message, Update | NewView | Commit) else 0

    cluster.rejoin(joining)
    cluster.network.filter = hold
    cluster.run_until(lambda: bool(asked), cluster.liveness_ms(), "the primary asks for a larger view")
    cluster.run(stage.rng.randrange(5, 40))
    cluster.kill(primary)
    cluster.network.filter = None
    cluster.run(800)
    cluster.restart(primary)
    stage.progress(cluster, 10)
    cluster.finish()


@scenario(72, "pb-false-suspicion", "the old primary is refused by its epoch", engine=PB)
def pb_false_suspicion(stage: Stage) -> None:
    """The primary is taken for dead and lives."""
    cluster = stage.make(3)
    cluster.add_clients(4, PIPELINED)
    for _ in range(3):
        stage.progress(cluster, 15)
        old = _whole_view(cluster)
        if stage.rng.random() < 0.5:
            cluster.freeze(old)
            _other_primary(cluster, old)
            cluster.thaw(old)
        else:
            for other in cluster.ids:
                if other != old:
                    cluster.cut(old, other)
            _other_primary(cluster, old)
            for other in cluster.ids:
                if other != old:
                    cluster.mend(old, other)
        stage.progress(cluster, 15)
        new = cluster.need_leader()
        cluster.run_until(
            lambda old=old, new=new: (
                cluster.subject.term(cluster.engine(old))  # type: ignore[misc]
                >= cluster.subject.term(cluster.engine(new))
            ),
            cluster.liveness_ms(),
            "the old primary obeys the new epoch",
        )
    cluster.finish()


@scenario(73, "bid-retry", "XO, the same answer", engine=PB, application="auction")
def bid_retry(stage: Stage) -> None:
    """A bid is taken, its answer is lost, the primary dies, and the client asks again."""
    cluster = stage.make(3)
    cluster.add_clients(2, BIDDERS)
    stage.progress(cluster, 30)
    primary = _whole_view(cluster)
    client = cluster.add_clients(1, Habits(requests=1, accounts=2))[0]
    client.aim(primary)
    cluster.run_until(
        lambda: any(key[0] == client.client for key in cluster.model.first), 1000, "the request is executed"
    )
    cluster.unreachable.add((client.number, primary))
    cluster.run(stage.rng.randrange(10))
    cluster.kill(primary)
    cluster.run_until(lambda: client.is_done, cluster.liveness_ms(), "the client is answered elsewhere")
    session, seq, answer = client.answers[0]
    effect = cluster.model.effect(session, seq, answer)
    stage.check(effect is not None and effect[1] == answer, "the answer is that of the first execution")
    cluster.finish()


@scenario(74, "close-race", "no bid after the end, one winner", engine=PB, application="auction")
def close_race(stage: Stage) -> None:
    """Bids, deadlines and closings around fail-overs, with clocks that are two seconds apart."""
    cluster = stage.make(3)
    for node, skew_ms in zip(cluster.ids, (-2000, 0, 2000), strict=True):
        cluster.nodes[node].wall_skew_ms = skew_ms
    cluster.add_clients(6, BIDDERS)
    for _ in range(5):
        stage.progress(cluster, 25)
        primary = _whole_view(cluster)
        cluster.run(stage.rng.randrange(60))
        cluster.kill(primary)
        _other_primary(cluster, primary)
        cluster.restart(primary)
    cluster.finish()
