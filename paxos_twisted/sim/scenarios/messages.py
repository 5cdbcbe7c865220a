"""Messages that come twice, late, never, or in the wrong order: scenarios 17 to 24."""

from typing import Any

from paxos_twisted.core.multipaxos.learner import Learner
from paxos_twisted.core.multipaxos.messages import Accept, Learn
from paxos_twisted.net.faults import Rule
from paxos_twisted.sim.scenario import LOAD, PIPELINED, Stage, scenario
from paxos_twisted.sim.subjects.multipaxos import engine_of, evidence
from paxos_twisted.sim.workloads import Habits
from paxos_twisted.types import NO_SLOT, NodeId


@scenario(17, "duplicates", "XO, AGR")
def duplicates(stage: Stage) -> None:
    """Every message comes twice, one copy very late."""
    cluster = stage.make(3)
    cluster.add_rule(Rule(duplicate=1.0, duplicate_ms=1500))
    cluster.add_clients(3, LOAD)
    for _ in range(3):
        stage.progress(cluster, 20)
        leader = cluster.need_leader()
        cluster.kill(leader)
        cluster.run(stage.rng.randrange(50, 400))
        cluster.restart(leader)
    stage.progress(cluster, 20)
    cluster.finish()


@scenario(18, "reorder", "AGR")
def reorder(stage: Stage) -> None:
    """Learn before Accept, Promise after its round has ended."""
    cluster = stage.make(3)
    cluster.add_rule(Rule(kinds=("Accept",), delay_ms=30, jitter_ms=30))
    cluster.add_rule(Rule(kinds=("Promise",), jitter_ms=400))
    cluster.add_clients(3, LOAD)
    for _ in range(4):
        stage.progress(cluster, 8, 10_000)
        leader = cluster.need_leader()
        cluster.freeze(leader)
        cluster.run(stage.rng.randrange(200, 900))
        cluster.thaw(leader)
    cluster.finish()


@scenario(19, "loss-20", "LIV under loss")
def loss_20(stage: Stage) -> None:
    """One message in five is lost, all the time."""
    cluster = stage.make(5)
    cluster.add_rule(Rule(loss=0.2))
    clients = cluster.add_clients(3, Habits(requests=30, think_ms=20))
    cluster.run_until(lambda: all(client.is_done for client in clients), 40_000, "all requests are answered")
    cluster.finish()


@scenario(20, "late-old-accept", "AGR")
def late_old_accept(stage: Stage) -> None:
    """Accepts of a deposed leader arrive after other values were decided in their slots."""
    cluster = stage.make(5)
    cluster.add_clients(3, LOAD)
    stage.progress(cluster, 5)
    old = cluster.need_leader()
    late = 0

    def delay(src: NodeId, dst: NodeId, message: Any) -> int | None:
        nonlocal late
        if isinstance(message, Accept) and src == old and message.rnd == first:
            late += 1
            return 1000 + stage.rng.randrange(1500)
        return 0

    first = engine_of(cluster, old).round
    cluster.network.filter = delay
    cluster.run_until(lambda: late >= 8, 3000, "the old leader proposes")
    cluster.kill(old)
    stage.progress(cluster, 10)
    cluster.run(1000)
    cluster.restart(old)
    cluster.run(2500)
    cluster.finish()


@scenario(21, "mixed-round-learns", "not decided")
def mixed_round_learns(stage: Stage) -> None:
    """One vote each of three rounds for the same value, played on the learner itself."""
    learner = Learner(NodeId(1), 5)
    rounds = [2002, 3003, 4004]
    if stage.rng.random() < 0.5:
        rounds.reverse()
    for rnd in rounds:
        node = NodeId(rnd % 1000)
        stage.check(learner.handle_accept(Accept(node, 0, rnd, b"\x01")) is None, "an Accept decides nothing")
        stage.check(learner.handle_learn(Learn(node, 0, rnd)) is None, "votes of different rounds do not add up")
        stage.check(learner.handle_learn(Learn(node, 0, rnd)) is None, "nor does a vote that comes twice")
    top = max(rounds)
    for sender in (1, 2, 3, 5):
        decided = learner.handle_learn(Learn(NodeId(sender), 0, top))
        stage.check((decided is not None) == (sender == 2), "three votes of one round decide, once")


@scenario(22, "decided-again", "ADU, XO")
def decided_again(stage: Stage) -> None:
    """The new leader does not know what was decided, and decides it again; the old one sees it twice."""
    cluster = stage.make(3)
    cluster.add_clients(3, PIPELINED)
    stage.progress(cluster, 5)
    old = cluster.need_leader()
    start = cluster.adu(old)

    def only_leader_learns(src: NodeId, dst: NodeId, message: Any) -> int | None:
        return None if src == old and getattr(message, "adu", NO_SLOT) > start else 0

    cluster.network.filter = only_leader_learns
    cluster.run_until(lambda: cluster.adu(old) > start, 3000, "the leader decides what nobody else knows")
    stop = cluster.adu(old) + 1
    cluster.freeze(old)
    cluster.network.filter = None
    cluster.run_until(lambda: cluster.leader() not in (None, old), cluster.liveness_ms(), "another node leads")
    cluster.thaw(old)
    stage.progress(cluster, 20)
    rounds = [rnd for slot, rnd in evidence(cluster).proposed if start < slot < stop]
    stage.check(len(set(rounds)) > 1, "old slots were proposed again")
    cluster.finish()


@scenario(23, "same-command-two-slots", "XO, BAL")
def same_command_two_slots(stage: Stage) -> None:
    """The client repeats its request at the new leader, while the old Accept survives."""
    cluster = stage.make(3)
    clients = cluster.add_clients(3, LOAD)
    twice = 0
    for _ in range(6):
        stage.progress(cluster, 10)
        old = cluster.need_leader()
        cluster.network.filter = lambda src, dst, message: None if isinstance(message, Learn) else 0
        proposed = len(evidence(cluster).proposed)
        cluster.run_until(
            lambda proposed=proposed: len(evidence(cluster).proposed) >= proposed + len(clients),  # type: ignore[misc]
            2000,
            "the leader proposes what nobody learns",
        )
        cluster.run(10)
        cluster.kill(old)
        cluster.network.filter = None
        stage.progress(cluster, 10)
        cluster.restart(old)
    commands = [(command.client, command.seq) for command in evidence(cluster).commands if command is not None]
    twice = len(commands) - len(set(commands))
    stage.check(twice > 0, "some command was decided in two slots")
    cluster.finish()


@scenario(24, "redirect-loop", "clients are served, after a bounded number of tries")
def redirect_loop(stage: Stage) -> None:
    """The leader's machine loses power: all others go on naming it until their detectors say otherwise."""
    cluster = stage.make(3)
    clients = cluster.add_clients(3, LOAD)
    stage.progress(cluster, 10)
    leader = cluster.need_leader()
    for client in clients:
        client.aim(cluster.followers()[0])
    redirects = [client.redirects for client in clients]
    cluster.cut_power(leader)
    stage.progress(cluster, 10)
    for client, before in zip(clients, redirects, strict=True):
        stage.check(client.redirects - before <= 10, "a client is not sent in circles")
    cluster.finish()
