"""Nodes that die, freeze, or come back: scenarios 1 to 6, 41, 52, 53."""

from typing import Any

from paxos_twisted.core.command import NOOP
from paxos_twisted.core.multipaxos.messages import Accept, Learn, Prepare
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.scenario import LOAD, PIPELINED, Stage, scenario
from paxos_twisted.sim.subjects.multipaxos import evidence
from paxos_twisted.sim.workloads import Habits
from paxos_twisted.types import NodeId


@scenario(1, "leader-crash-idle", "LIV, one leader change")
def leader_crash_idle(stage: Stage) -> None:
    """The leader is killed while nobody asks for anything."""
    cluster = stage.make(3)
    cluster.run(500)
    changes = cluster.leader_changes()
    old = cluster.need_leader()
    cluster.kill(old)
    cluster.run_until(lambda: cluster.leader() not in (None, old), 1000, "another node leads")
    cluster.run(1500)
    cluster.restart(old)
    cluster.run(1500)
    stage.check(cluster.leader_changes() - changes == 1, "exactly one leader change")
    cluster.finish()


@scenario(2, "leader-crash-one-vote", "AGR, XO")
def leader_crash_one_vote(stage: Stage) -> None:
    """The leader dies after one acceptor has voted for its last proposals."""
    cluster = stage.make(5)
    cluster.add_clients(2, LOAD)
    stage.progress(cluster)
    leader = cluster.need_leader()
    chosen = cluster.followers()[0]
    heard = []

    def only_one(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if isinstance(message, Accept) and src == leader:
            heard.append(message.slot)
            return 0 if dst == chosen else None
        return 0

    cluster.network.filter = only_one
    cluster.run_until(lambda: len(heard) >= 4, 2000, "the leader proposes")
    cluster.run(stage.rng.randrange(1, 12))
    cluster.kill(leader)
    cluster.network.filter = None
    stage.progress(cluster)
    cluster.finish()


@scenario(3, "crash-before-answer", "XO, the same answer")
def crash_before_answer(stage: Stage) -> None:
    """A request is decided and applied; its answer is lost, the leader dies, and the client asks again."""
    cluster = stage.make(3)
    leader = cluster.need_leader()
    client = cluster.add_clients(1, Habits(requests=1))[0]
    client.aim(leader)
    cluster.run_until(lambda: cluster.adu(leader) >= 0, 1000, "the request is applied at the leader")
    cluster.unreachable.add((client.number, leader))
    cluster.run(stage.rng.randrange(10))
    cluster.kill(leader)
    cluster.run_until(lambda: client.is_done, cluster.liveness_ms(), "the client is answered elsewhere")
    stage.check(len(cluster.model.first) == 1, "the request had one effect")
    stage.check(client.answers[0][2] == cluster.model.results[0], "the answer is that of the first execution")
    cluster.finish()


def _leave_holes(stage: Stage, cluster: Cluster, holes: int, above: int) -> tuple[list[int], list[int]]:
    """Let the Accepts of some slots vanish, those of later slots arrive, and the leader die.

    Returns the slots of the holes, and those above for which followers have voted.
    """
    leader = cluster.need_leader()
    first = len(cluster.model.results) + 3  # what is on its way now still arrives
    missing = list(range(first, first + holes))
    heard: set[int] = set()

    def lose(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if isinstance(message, Accept) and src == leader:
            slots = set(range(message.slot, message.slot + message.count))
            if slots & set(missing):
                return None
            heard.update(slot for slot in slots if slot > missing[-1])
        if isinstance(message, Learn) and message.slot >= first:
            return None  # nobody finds out what is decided: it is left to the next leader
        return 0

    cluster.network.filter = lose
    cluster.run_until(lambda: len(heard) >= above, 3000, "slots above the hole are proposed")
    cluster.run(12)
    cluster.kill(leader)
    cluster.network.filter = None
    stage.progress(cluster)
    return missing, sorted(heard)


@scenario(4, "pipelined-hole", "the hole is a no-op, what is above it is kept")
def pipelined_hole(stage: Stage) -> None:
    """Accepts of later slots arrive, one is lost, the leader dies."""
    cluster = stage.make(5, changes={"alpha": 8})
    cluster.add_clients(6, LOAD)
    stage.progress(cluster, 10)
    _check_holes(stage, cluster, *_leave_holes(stage, cluster, holes=1, above=2))
    cluster.finish()


@scenario(5, "hole-at-the-start", "no-ops from adu + 1 on, LIV")
def hole_at_the_start(stage: Stage) -> None:
    """The first slots above adu are unbound, a later one is bound."""
    cluster = stage.make(3)
    cluster.add_clients(6, LOAD)
    stage.progress(cluster, 5)
    _check_holes(stage, cluster, *_leave_holes(stage, cluster, holes=2, above=1))
    cluster.finish()


def _check_holes(stage: Stage, cluster: Cluster, holes: list[int], above: list[int]) -> None:
    votes = evidence(cluster).voters
    for slot in holes:
        chosen = evidence(cluster).chosen.get(slot)
        stage.check(chosen is not None and chosen[1] == NOOP, f"slot {slot} is a no-op")
    kept = [slot for slot in above if any(votes.get((slot, rnd), 0).bit_count() > 1 for rnd in _rounds(cluster))]
    for slot in kept:
        chosen = evidence(cluster).chosen.get(slot)
        stage.check(chosen is not None and chosen[1] != NOOP, f"slot {slot} keeps its command")


def _rounds(cluster: Cluster) -> list[int]:
    return sorted(evidence(cluster).owners)[:1]  # the first leader's


@scenario(6, "f-crashes-in-a-row", "LIV, DUR")
def f_crashes_in_a_row(stage: Stage) -> None:
    """Two leaders are killed one after the other; the other three go on."""
    cluster = stage.make(5)
    cluster.add_clients(3, PIPELINED)
    for _ in range(2):
        stage.progress(cluster, 20)
        cluster.kill(cluster.need_leader())
        cluster.run(stage.rng.randrange(300))
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(41, "event-loop-stall", "LIN, what is old is recognised as old")
def event_loop_stall(stage: Stage) -> None:
    """The leader is frozen for ten time-outs and wakes with a full queue."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    stage.progress(cluster, 10)
    leader = cluster.need_leader()
    cluster.freeze(leader)
    cluster.run(10 * cluster.settings.delay_ms)
    stage.progress(cluster, 10)
    cluster.thaw(leader)
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(52, "rolling-restart", "LIV, DUR")
def rolling_restart(stage: Stage) -> None:
    """Each node restarts in turn under load."""
    cluster = stage.make(5)
    cluster.add_clients(3, PIPELINED)
    for node in cluster.ids:
        stage.progress(cluster, 20)
        cluster.kill(node)
        cluster.run(stage.rng.randrange(20, 200))
        cluster.restart(node)
        cluster.run_until(
            lambda node=node: cluster.adu(node) >= len(cluster.model.results) - 20,  # type: ignore[misc]
            cluster.liveness_ms(),
            f"node {node} has caught up",
        )
    cluster.finish()


@scenario(53, "reused-round", "ONE")
def reused_round(stage: Stage) -> None:
    """Proposers are killed right after they have sent Prepare or Accept, and start again at once."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    stage.progress(cluster, 10)
    deaths = 0
    doomed: set[NodeId] = set()

    def revive(node: NodeId) -> None:
        doomed.discard(node)
        cluster.restart(node)

    def kill_sender(src: NodeId, dst: NodeId, message: Any) -> int | None:
        nonlocal deaths
        is_last_words = isinstance(message, Prepare) or (isinstance(message, Accept) and stage.rng.random() < 0.05)
        if is_last_words and deaths < 12 and src not in doomed and stage.rng.random() < 0.6:
            deaths += 1
            doomed.add(src)
            cluster.scheduler.after(stage.rng.randrange(3), lambda: cluster.kill(src))
            cluster.scheduler.after(5 + stage.rng.randrange(60), lambda: revive(src))
        return 0

    cluster.network.filter = kill_sender
    cluster.kill(cluster.need_leader())
    cluster.run_until(lambda: deaths >= 6, 30_000, "proposers die")
    cluster.network.filter = None
    cluster.run(200)
    cluster.finish()
