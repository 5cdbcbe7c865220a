"""EPaxos: fast and slow paths, owners that die, recoveries that meet: scenarios 54 to 68."""

from typing import Any

from paxos_twisted.core.command import NOOP
from paxos_twisted.core.epaxos.acceptor import Acceptor
from paxos_twisted.core.epaxos.conflicts import ConflictIndex
from paxos_twisted.core.epaxos.instance import Grid
from paxos_twisted.core.epaxos.interference import footprints_of
from paxos_twisted.core.epaxos.messages import (
    Accept,
    AcceptReply,
    Commit,
    PreAccept,
    PreAcceptReply,
    Prepare,
    PrepareReply,
    Validate,
    ValidateReply,
)
from paxos_twisted.core.epaxos.recovery import Recovery, Value
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.order import search_order
from paxos_twisted.sim.scenario import PIPELINED, Stage, scenario
from paxos_twisted.sim.scenarios.snapshots import TRUNCATING
from paxos_twisted.sim.subjects.epaxos import EPaxosInvariants, InstanceId, evidence
from paxos_twisted.sim.workloads import WORKLOADS, Habits
from paxos_twisted.types import NodeId

EPAXOS = "epaxos"

HOT = Habits(requests=100_000, think_ms=30, accounts=1, transfer_share=0.0)
"""All clients write one key."""

MIXED = Habits(requests=100_000, think_ms=30, accounts=3, own_share=0.6)


def _spread(cluster: Cluster, habits: Habits) -> None:
    """A client at each replica."""
    for client, node in zip(cluster.add_clients(len(cluster.ids), habits), cluster.ids, strict=True):
        client.aim(node)


def _own(cluster: Cluster, node: NodeId) -> list[InstanceId]:
    """The instances that a node has begun, by slot."""
    replica = cluster.ids.index(node)
    return sorted(where for where in evidence(cluster).begun if where[0] == replica)


def _all_quiet(cluster: Cluster) -> bool:
    return cluster.invariants.is_level(cluster.live())


def _search(cluster: Cluster) -> None:
    """LIN, without the order of execution as a witness."""
    checker = WORKLOADS[cluster.workload.name].checker()
    assert checker is not None
    search_order(cluster.history, checker)


@scenario(54, "fast-and-slow", "EX, LIN", engine=EPAXOS)
def fast_and_slow(stage: Stage) -> None:
    """Interfering and free writes from all replicas."""
    cluster = stage.make(5)
    _spread(cluster, MIXED)
    stage.progress(cluster, 200)
    cluster.finish()
    invariants = evidence(cluster)
    stage.check(invariants.fast > 0, "some commands took the fast path")
    stage.check(invariants.fast < len(invariants.decided), "and some did not")
    _search(cluster)


def _lose_owner(stage: Stage, cluster: Cluster, heard_by: int, kinds: tuple[type, ...] = (PreAccept,)) -> NodeId:
    """Kill a replica whose messages of these kinds reach only `heard_by` others from now on. Returns it."""
    owner = cluster.ids[stage.rng.randrange(len(cluster.ids))]
    others = [node for node in cluster.ids if node != owner]
    stage.rng.shuffle(others)
    said = 0

    def lose(src: NodeId, dst: NodeId, message: Any) -> int | None:
        nonlocal said
        if src == owner and isinstance(message, kinds):
            said += 1
            return 0 if dst in others[:heard_by] else None
        return 0

    cluster.network.filter = lose
    begun = len(_own(cluster, owner))
    cluster.run_until(lambda: said > 0 and len(_own(cluster, owner)) > begun, 3000, "the owner begins an instance")
    cluster.run(stage.rng.randrange(2, 25))
    cluster.kill(owner)
    cluster.network.filter = None
    return owner


@scenario(55, "owner-dies-early", "EA, XO", engine=EPAXOS)
def owner_dies_early(stage: Stage) -> None:
    """An owner dies after one other replica has pre-accepted its last instances."""
    cluster = stage.make(5, changes={"thrifty": stage.rng.random() < 0.5})
    _spread(cluster, HOT)
    stage.progress(cluster, 20)
    owner = _lose_owner(stage, cluster, heard_by=1)
    open_ones = [where for where in _own(cluster, owner) if where not in evidence(cluster).decided]
    stage.progress(cluster, 30)
    cluster.run_until(lambda: _all_quiet(cluster), cluster.liveness_ms(), "the others agree")
    stage.check(
        all(where in evidence(cluster).decided for where in open_ones if where in evidence(cluster).pre_accepts),
        "whatever the dead owner had left open is decided",
    )
    cluster.finish()


@scenario(56, "owner-dies-fast-quorum", "the recovered value is the owner's", engine=EPAXOS)
def owner_dies_fast_quorum(stage: Stage) -> None:
    """An owner commits and executes, and dies before anybody hears of it."""
    cluster = stage.make(5, changes={"thrifty": stage.rng.random() < 0.5})
    _spread(cluster, MIXED)
    stage.progress(cluster, 20)
    owner = cluster.ids[stage.rng.randrange(5)]
    untold: list[Commit] = []

    def hush(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if src == owner and isinstance(message, Commit):
            untold.append(message)
            return None
        return 0

    cluster.network.filter = hush
    cluster.run_until(lambda: len(untold) >= 4, 3000, "the owner commits what nobody hears of")
    cluster.kill(owner)
    cluster.network.filter = None
    invariants = evidence(cluster)
    told = {(commit.replica, commit.slot) for commit in untold}
    requests = {where: invariants.decided[where] for where in told}
    stage.progress(cluster, 30)
    cluster.run_until(lambda: _all_quiet(cluster), cluster.liveness_ms(), "the others agree")
    cluster.finish()
    stage.check(
        all(invariants.decided[where] == value for where, value in requests.items()),
        "what the owner had decided stays decided",
    )


@scenario(57, "two-recoverers", "EA: an accepted value of an older ballot loses", engine=EPAXOS)
def two_recoverers(stage: Stage) -> None:
    """Several replicas recover the instances of a dead owner at the same time; their messages are late."""
    cluster = stage.make(5, changes={"recover_ms": 60, "answer_ms": 60})
    _spread(cluster, HOT)
    stage.progress(cluster, 15)
    owner = _lose_owner(stage, cluster, heard_by=stage.rng.randrange(1, 4))

    def late(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if isinstance(message, Prepare | PrepareReply | Accept | AcceptReply | Validate | ValidateReply):
            fate = stage.rng.random()
            return None if fate < 0.25 else stage.rng.randrange(1, 400) if fate < 0.6 else 0
        return 0

    cluster.network.filter = late
    cluster.run(2500)
    cluster.network.filter = None
    cluster.restart(owner)
    cluster.finish()


@scenario(57, "sutra", "EA: the published counter-example to one ballot variable")
def sutra(stage: Stage) -> None:
    """Played on the acceptors and recoveries themselves. [Sutra 2020]

    1. Replica 1 pre-accepts an instance; only replica 5 hears of it. Then replica 1 is silent.
    2. Replica 2 recovers in ballot 1002; 3 and 4 know nothing; so it proposes a no-op, and only itself accepts it.
    3. Replica 3 recovers in 1003 with the answers of 4 and 5: it proposes the commands; 3, 4, 5 accept: decided.
    4. Replica 1 comes back and begins ballot 2001. Only replica 2 joins it.
    5. Replica 4 recovers in 2004 with the answers of 2 and 5. Replica 2 has accepted the no-op in 1002, and has
       *joined* 2001 since. Whoever takes 2001 for the ballot of its vote lets the no-op win.
    """
    application = WORKLOADS["bank"].application()
    footprints = footprints_of(application)
    nodes = tuple(NodeId(number) for number in range(1, 6))
    acceptors = {}
    for node in nodes:
        acceptors[node] = Acceptor(node, Grid(5), ConflictIndex(5), footprints)
    one, two, three, four, five = nodes
    body = b"\x96\x01\x07\xff\x01\x01\x94\x01\x05\x0a\x00"  # client 7 pays 10 into account 5
    noop = Value(NOOP, 1, (-1,) * 5, 0)

    begun = acceptors[one].start(0, 0, body, 1, footprints(body, 1)[0])
    pre_accept = PreAccept(one, 0, 0, begun.deps, begun.seq, body)
    stage.check(isinstance(acceptors[five].handle_pre_accept(pre_accept), PreAcceptReply), "5 pre-accepts")

    def recover(by: NodeId, ballot: int, quorum: tuple[NodeId, ...]) -> Accept:
        """Prepare, and Validate where that is asked for. Returns the Accept."""
        recovery = Recovery(acceptors[by].grid.at(0, 0, 0), one, ballot, nodes, noop, 0, 100, 0)
        for node in quorum:
            reply = acceptors[node].handle_prepare(Prepare(by, 0, 0, ballot))
            assert isinstance(reply, PrepareReply)
            recovery.on_prepare_reply(reply)
        vote = recovery.candidate
        if vote is not None:
            validate = Validate(by, 0, 0, ballot, vote.init_deps, vote.init_seq, vote.body, vote.count)
            for node in recovery.quorum:
                report = acceptors[node].handle_validate(validate)
                assert isinstance(report, ValidateReply)
                recovery.on_validate_reply(report)
        value = recovery.value
        assert value is not None
        return Accept(by, 0, 0, ballot, value.deps, value.seq, value.body, value.count)

    first = recover(two, 1002, (two, three, four))
    stage.check(first.body == NOOP, "ballot 1002 proposes a no-op")
    acceptors[two].handle_accept(first)
    second = recover(three, 1003, (three, four, five))
    stage.check(second.body == body, "ballot 1003 proposes the commands")
    for node in (three, four, five):
        stage.check(isinstance(acceptors[node].handle_accept(second), AcceptReply), f"{node} accepts them: decided")
    for node in (one, two):
        acceptors[node].handle_prepare(Prepare(one, 0, 0, 2001))
    third = recover(four, 2004, (two, four, five))
    stage.check(
        (third.body, third.deps, third.seq) == (second.body, second.deps, second.seq),
        "EA: ballot 2004 proposes what is decided",
    )


@scenario(58, "slow-owner", "EA, XO", engine=EPAXOS)
def slow_owner(stage: Stage) -> None:
    """Recovery begins while the owner still runs."""
    cluster = stage.make(5, changes={"recover_ms": 80, "answer_ms": 60})
    _spread(cluster, HOT)
    stage.progress(cluster, 10)
    owner = cluster.ids[stage.rng.randrange(5)]

    def slow(src: NodeId, dst: NodeId, message: Any) -> int | None:
        is_late = dst == owner and isinstance(message, PreAcceptReply | AcceptReply)
        is_late = is_late or (src == owner and isinstance(message, Accept | Commit))
        return 100 + stage.rng.randrange(500) if is_late else 0

    cluster.network.filter = slow
    cluster.run(3000)
    stage.check(any(ballot for _, _, ballot in evidence(cluster).owners), "somebody has recovered an instance")
    cluster.network.filter = None
    stage.progress(cluster, 20)
    cluster.finish()


def _thrifty_peer_down(stage: Stage, nodes: int) -> None:
    cluster = stage.make(nodes, changes={"thrifty": True})
    patient = Habits(requests=100_000, think_ms=30, accounts=3, own_share=0.6, timeout_ms=20_000)
    clients = cluster.add_clients(3, patient)
    for client in clients:
        client.aim(cluster.ids[0])
    stage.progress(cluster, 20)
    chosen = cluster.ids[1 + stage.rng.randrange((nodes - 1) // 2)]
    if stage.rng.random() < 0.5:
        cluster.cut_power(chosen)
    else:
        cluster.freeze(chosen)
    stage.progress(cluster, 50, 6000)
    cluster.finish()


@scenario(59, "thrifty-peer-down", "LIV", engine=EPAXOS)
def thrifty_peer_down(stage: Stage) -> None:
    """A replica that is asked first is dead, or frozen."""
    _thrifty_peer_down(stage, 5)


@scenario(59, "thrifty-peer-down-7", "LIV", engine=EPAXOS)
def thrifty_peer_down_7(stage: Stage) -> None:
    """The same with seven replicas."""
    _thrifty_peer_down(stage, 7)


@scenario(60, "recovered-as-noop", "XO, the command is done once", engine=EPAXOS)
def recovered_as_noop(stage: Stage) -> None:
    """The owner comes back after its instance became a no-op: it proposes the commands again, in another one."""
    cluster = stage.make(5, changes={"recover_ms": 80, "thrifty": False})
    owner = cluster.ids[stage.rng.randrange(5)]
    others = [node for node in cluster.ids if node != owner]
    cluster.add_clients(2, HOT)
    stage.progress(cluster, 10)

    def mute(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if src == owner and isinstance(message, PreAccept):
            return 0 if dst == others[0] else None
        if src == owner and isinstance(message, PreAcceptReply | Accept | Commit):
            return None
        return None if dst == owner and isinstance(message, PreAcceptReply) else 0

    cluster.network.filter = mute
    client = cluster.add_clients(1, Habits(requests=1, timeout_ms=20_000, accounts=1, transfer_share=0.0))[0]
    client.aim(owner)
    begun = len(_own(cluster, owner))
    cluster.run_until(lambda: len(_own(cluster, owner)) > begun, 3000, "the owner begins an instance")
    cluster.run(5)
    cluster.freeze(owner)
    where = _own(cluster, owner)[begun]
    decided = evidence(cluster).decided
    cluster.network.filter = lambda src, dst, message: None if owner in (src, dst) else 0
    cluster.run_until(lambda: where in decided, 15_000, "the others decide it")
    if not decided[where].is_noop:
        return  # the one who had heard of it was enough to save it: this seed has nothing to tell
    cluster.network.filter = None
    cluster.thaw(owner)
    cluster.run_until(lambda: client.is_done, 4000, "the client is answered by the owner")
    stage.check(client.answered_count == 1, "the command was done")
    cluster.finish()


@scenario(61, "recovery-circle", "LIV", engine=EPAXOS)
def recovery_circle(stage: Stage) -> None:
    """Two owners die that have begun interfering instances, each without knowing of the other's."""
    cluster = stage.make(5, changes={"thrifty": False})
    hot = Habits(requests=100_000, think_ms=30, accounts=1, transfer_share=0.0, outstanding=3)
    _spread(cluster, hot)
    _spread(cluster, hot)
    stage.progress(cluster, 10)
    first, second = stage.rng.sample(cluster.ids, 2)
    others = [node for node in cluster.ids if node not in (first, second)]
    stage.rng.shuffle(others)
    split = stage.rng.randrange(1, 3)
    heard = {first: others[:split], second: others[split:]}

    def part(src: NodeId, dst: NodeId, message: Any) -> int | None:
        if src in heard and isinstance(message, PreAccept):
            return 0 if dst in heard[src] else None
        return None if dst in heard and isinstance(message, PreAcceptReply | AcceptReply) else 0

    cluster.network.filter = part
    cluster.run(stage.rng.randrange(20, 150))
    for node in heard:
        cluster.kill(node)
    cluster.network.filter = None
    stage.progress(cluster, 30)  # with three of five
    cluster.finish()


@scenario(62, "endless-chain", "answers keep coming, MEM", TRUNCATING, engine=EPAXOS)
def endless_chain(stage: Stage) -> None:
    """All replicas write one key as fast as they can."""
    cluster = stage.make(5, snapshot_every=100)
    habits = Habits(requests=10**6, think_ms=1, accounts=1, transfer_share=0.0, outstanding=16)
    _spread(cluster, habits)
    for _ in range(8):
        before = cluster.answered()
        cluster.run(400)
        stage.check(cluster.answered() > before + 20, "requests are answered all the time")
    rows = [len(disk.image.rows) for disk in map(cluster.disk, cluster.ids) if disk.image is not None]
    stage.check(max(rows) < 3000, f"the log is cut: {rows} rows")
    cluster.finish()


@scenario(63, "tie-in-component", "EX", engine=EPAXOS)
def tie_in_component(stage: Stage) -> None:
    """Instances with the same seq depend on each other, and their commits come in different orders."""
    cluster = stage.make(5, changes={"thrifty": False})
    for node in cluster.ids:
        for client in cluster.add_clients(1, HOT):
            client.aim(node)

    def scatter(src: NodeId, dst: NodeId, message: Any) -> int | None:
        return stage.rng.randrange(1, 80) if isinstance(message, PreAccept | Commit) else 0

    cluster.network.filter = scatter
    stage.progress(cluster, 60)
    cluster.run_until(lambda: _has_tie(evidence(cluster)), 20_000, "two instances of one seq depend on each other")
    cluster.network.filter = None
    cluster.finish()


def _has_tie(invariants: EPaxosInvariants) -> bool:
    by_seq: dict[int, list[InstanceId]] = {}
    for where, value in invariants.decided.items():
        if not value.is_noop:
            by_seq.setdefault(value.seq, []).append(where)
    return any(
        a < b and b[1] <= invariants.decided[a].deps[b[0]] and a[1] <= invariants.decided[b].deps[a[0]]
        for peers in by_seq.values()
        for a in peers
        for b in peers
    )


@scenario(64, "read-held-commits", "LIN", engine=EPAXOS)
def read_held_commits(stage: Stage) -> None:
    """Commits are ten seconds late; what is written at one replica is read at another one meanwhile."""
    cluster = stage.make(3)
    writers = cluster.add_clients(2, Habits(requests=100_000, think_ms=30, accounts=2))
    readers = cluster.add_clients(2, Habits(requests=100_000, think_ms=30, accounts=2, transfer_share=0.5))
    stage.progress(cluster, 10)
    for client in writers:
        client.aim(cluster.ids[0])
    for client in readers:
        client.aim(cluster.ids[1 + stage.rng.randrange(2)])

    def hold(src: NodeId, dst: NodeId, message: Any) -> int | None:
        return 10_000 if isinstance(message, Commit) and src == cluster.ids[0] else 0

    cluster.network.filter = hold
    stage.progress(cluster, 40, 10_000)
    cluster.network.filter = None
    cluster.finish()
    _search(cluster)


@scenario(65, "owner-restart-slot", "no instance is used twice", engine=EPAXOS)
def owner_restart_slot(stage: Stage) -> None:
    """Owners are killed right after a PreAccept has left, and start again at once."""
    cluster = stage.make(3)
    _spread(cluster, HOT)
    stage.progress(cluster, 10)
    deaths = 0
    doomed: set[NodeId] = set()

    def revive(node: NodeId) -> None:
        doomed.discard(node)
        cluster.restart(node)

    def kill_sender(src: NodeId, dst: NodeId, message: Any) -> int | None:
        nonlocal deaths
        if isinstance(message, PreAccept) and src not in doomed and deaths < 15 and stage.rng.random() < 0.3:
            deaths += 1
            doomed.add(src)
            end = cluster.cut_power if stage.rng.random() < 0.5 else cluster.kill
            cluster.scheduler.after(stage.rng.randrange(3), lambda: end(src))
            cluster.scheduler.after(5 + stage.rng.randrange(60), lambda: revive(src))
        return 0

    cluster.network.filter = kill_sender
    cluster.run_until(lambda: deaths >= 10, 60_000, "owners die")
    cluster.network.filter = None
    cluster.run(200)
    cluster.finish()


@scenario(66, "forgotten-preaccept", "EV", engine=EPAXOS)
def forgotten_preaccept(stage: Stage) -> None:
    """Power fails at replicas between a PreAccept and the disk."""
    cluster = stage.make(5, changes={"thrifty": stage.rng.random() < 0.5})
    _spread(cluster, HOT)
    stage.progress(cluster, 10)
    cuts = 0
    dark: set[NodeId] = set()

    def light(node: NodeId) -> None:
        dark.discard(node)
        cluster.restart(node)

    def cut_receiver(src: NodeId, dst: NodeId, message: Any) -> int | None:
        nonlocal cuts
        may_go = isinstance(message, PreAccept) and len(dark) < 2 and dst not in dark and cuts < 25
        if may_go and stage.rng.random() < 0.15:
            cuts += 1
            dark.add(dst)
            cluster.scheduler.after(2 + stage.rng.randrange(5), lambda: cluster.cut_power(dst))
            cluster.scheduler.after(20 + stage.rng.randrange(100), lambda: light(dst))
        return 0

    cluster.network.filter = cut_receiver
    cluster.run_until(lambda: cuts >= 12, 60_000, "power fails")
    cluster.network.filter = None
    cluster.run(200)
    cluster.finish()


@scenario(67, "n7-fast-quorum", "four of seven are no fast quorum; EA", engine=EPAXOS)
def n7_fast_quorum(stage: Stage) -> None:
    """Four equal answers, the owner's included; then the owner dies."""
    cluster = stage.make(7, changes={"thrifty": False, "answer_ms": 400})
    habits = Habits(requests=100_000, think_ms=30, own_share=1.0)
    _spread(cluster, habits)
    stage.progress(cluster, 20)
    owner = cluster.ids[stage.rng.randrange(7)]
    others = [node for node in cluster.ids if node != owner]
    stage.rng.shuffle(others)

    def three_hear(src: NodeId, dst: NodeId, message: Any) -> int | None:
        return None if src == owner and isinstance(message, PreAccept) and dst not in others[:3] else 0

    begun = _own(cluster, owner)
    cluster.network.filter = three_hear
    cluster.run_until(lambda: len(_own(cluster, owner)) > len(begun), 3000, "the owner begins an instance")
    cluster.run(40)
    new = [where for where in _own(cluster, owner) if where not in begun]
    stage.check(not any(where in evidence(cluster).decided for where in new[1:]), "four answers decide nothing")
    cluster.kill(owner)
    cluster.network.filter = None
    stage.progress(cluster, 30)
    cluster.finish()


@scenario(68, "collected-instance", "EA, the snapshot is taken", TRUNCATING, engine=EPAXOS)
def collected_instance(stage: Stage) -> None:
    """A replica comes back and asks about instances that the others have executed and forgotten."""
    cluster = stage.make(5, snapshot_every=30)
    _spread(cluster, PIPELINED)
    stage.progress(cluster, 20)
    away = cluster.ids[stage.rng.randrange(5)]
    cluster.isolate(away)
    stage.progress(cluster, 200, 20_000)
    cluster.rejoin(away)
    cluster.run_until(
        lambda: cluster.invariants.view(away).installs > 0, cluster.liveness_ms(), "it has taken a snapshot"
    )
    stage.progress(cluster, 20)
    cluster.finish()
