"""Many short random runs: one seed, one cluster, one mix of faults. A failing seed says how to replay itself."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator

import msgspec

from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.net.faults import Rule
from paxos_twisted.sim.clients import Habits
from paxos_twisted.sim.cluster import SETTINGS, Cluster
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.nemesis import Mix, Nemesis
from paxos_twisted.sim.order import search_order
from paxos_twisted.sim.small import Limits, small_limits
from paxos_twisted.sim.trace import Trace

SEARCH_EVERY = 20
"""Every so many seeds the general linearizability search runs, too."""


SELF_CHECK_EVERY = 16
"""See `Cluster.self_check_every`. Every replica is checked some twenty times a virtual second."""


class Run(msgspec.Struct):
    """What became of one seed."""

    seed: int
    error: str = ""
    """Empty: everything held. Else the violation, first."""
    where: str = ""
    """Traceback of the error."""
    nodes: int = 0
    slots: int = 0
    events: int = 0
    faults: int = 0
    leader_changes: int = 0
    virtual_ms: int = 0
    settled_ms: int = 0
    """Virtual time from the last fault's end until everything was answered and all nodes were level."""
    tail: tuple[str, ...] = ()
    """The end of the trace, when there was one."""


class Plan(msgspec.Struct, frozen=True):
    """What a seed means."""

    nodes: int
    settings: Settings
    snapshot_every: int
    latency_ms: tuple[int, int]
    clients: int
    habits: Habits
    mix: Mix
    pause_ms: int
    duration_ms: int
    session_expiry: int
    limits: Limits
    rules: tuple[Rule, ...] = ()
    """Message faults from the beginning until everything is healed."""


def draw_plan(cluster_seed: int) -> Plan:
    """Draw cluster, load and faults from a seed."""
    rng = Cluster.stream_of(cluster_seed, "plan")
    rand = rng.random
    nodes = (3, 3, 3, 5, 5, 7)[int(rand() * 6)]
    alpha = (1, 3, 8, 64, 64, 1024)[int(rand() * 6)]
    settings = msgspec.structs.replace(
        SETTINGS, alpha=alpha, policy="lab" if rand() < 0.12 else "sticky", heartbeat_ms=50 + int(rand() * 50)
    )
    low = 1 + int(rand() * 3)
    requests = int(100 + rand() * 200) * 3 // (nodes + 1)
    clients = 2 + int(rand() * 4)
    mix = Mix().drawn(rng)
    if rand() < 0.12 and settings.policy != "lab":  # the lab's detector has no answer to a leader that must keep silent
        mix = msgspec.structs.replace(mix, rot=0.6)
    return Plan(
        nodes=nodes,
        settings=settings,
        snapshot_every=(15, 40, 100, 100_000)[int(rand() * 4)],
        latency_ms=(low, low + int(rand() * 8)),
        clients=clients,
        habits=Habits(
            requests=requests // clients,
            # With one slot at a time, more than this would wait longer than clients have patience.
            outstanding=min((1, 1, 4, 16)[int(rand() * 4)], 4 if alpha == 1 else 16),
            think_ms=10 + int(rand() * 90),
            timeout_ms=300 + int(rand() * 500),
            accounts=2 + int(rand() * 8),
        ),
        mix=mix,
        pause_ms=50 + int(rand() * 350),
        duration_ms=1500 + int(rand() * 1500),
        session_expiry=(40, 10_000_000, 10_000_000)[int(rand() * 3)],
        limits=Limits(
            sessions_per_shard=(1, 64, 64, 64)[int(rand() * 4)],
            slots_kept=(0, 10, 40, 10_000)[int(rand() * 4)],
            run_bytes=(60, 200, 2**20, 2**20)[int(rand() * 4)],
            catch_up_bytes=(60, 300, 2**20)[int(rand() * 3)],
            slots_behind=(15, 60, 10_000)[int(rand() * 3)],
            decisions_buffered=(2 * alpha, 100_000, 100_000)[int(rand() * 3)],
            piece_bytes=(40, 400)[int(rand() * 2)],
            truncate_rows=(4, 16)[int(rand() * 2)],
            proposals=(100, 100_000, 100_000, 100_000)[int(rand() * 4)],
            writes_queued_bytes=(2000, 2**27, 2**27, 2**27)[int(rand() * 4)],
        ),
    )


def run_seed(seed: int, trace: Trace | None = None, plan: Plan | None = None) -> Run:
    """Run one seed and report; what goes wrong in the cluster is not raised. `plan`: another than the seed's own."""
    plan = plan or draw_plan(seed)
    with small_limits(plan.limits):
        return _run(seed, trace, plan)


def _run(seed: int, trace: Trace | None, plan: Plan) -> Run:
    run = Run(seed, nodes=plan.nodes)
    cluster = Cluster(
        seed,
        nodes=plan.nodes,
        settings=plan.settings,
        snapshot_every=plan.snapshot_every,
        session_expiry=plan.session_expiry,
        latency_ms=plan.latency_ms,
        self_check_every=SELF_CHECK_EVERY,
        trace=trace,
    )
    try:
        cluster.start()
        cluster.add_clients(plan.clients, plan.habits)
        for rule in plan.rules:
            cluster.add_rule(rule)
        nemesis = Nemesis(cluster, plan.mix, cluster.stream("nemesis"), plan.pause_ms, plan.duration_ms)
        cluster.run(plan.duration_ms)
        run.faults = nemesis.faults
        run.settled_ms = cluster.finish()
        if seed % SEARCH_EVERY == 0:
            search_order(cluster.history)
    except Exception as error:  # whatever it is, it belongs to this seed
        run.error = str(error) if isinstance(error, Violation) else f"CRASH: {error!r}"
        run.where = traceback.format_exc()
    run.slots = len(cluster.model.results)
    run.events = cluster.scheduler.events
    run.leader_changes = cluster.leader_changes()
    run.virtual_ms = cluster.scheduler.now_ms
    if trace is not None:
        run.tail = tuple(trace.tail)
    return run


class Summary(msgspec.Struct):
    """A swarm so far."""

    runs: int = 0
    slots: int = 0
    events: int = 0
    faults: int = 0
    leader_changes: int = 0
    virtual_ms: int = 0
    settled_max_ms: int = 0
    settled_max_seed: int = 0
    seconds: float = 0.0
    failures: list[Run] = []

    def add(self, run: Run) -> None:
        """Count one run."""
        self.runs += 1
        self.slots += run.slots
        self.events += run.events
        self.faults += run.faults
        self.leader_changes += run.leader_changes
        self.virtual_ms += run.virtual_ms
        if run.settled_ms > self.settled_max_ms:
            self.settled_max_ms, self.settled_max_seed = run.settled_ms, run.seed
        if run.error:
            self.failures.append(run)

    def text(self) -> str:
        """One line for people."""
        rate = self.runs / self.seconds if self.seconds else 0.0
        return (
            f"{self.runs} seeds, {len(self.failures)} failed, {rate:.1f} seeds/s, {self.slots} slots, "
            f"{self.faults} faults, {self.leader_changes} leader changes, {self.events} events, "
            f"{self.virtual_ms / 1000:.0f} s of virtual time, slowest recovery {self.settled_max_ms} ms "
            f"(seed {self.settled_max_seed})"
        )


def run_swarm(
    seeds: range, jobs: int, on_run: Callable[[Run, Summary], None] | None = None, failures_max: int = 10
) -> Summary:
    """Run all seeds on `jobs` processes; give up after `failures_max` failures."""
    summary = Summary()
    start = time.perf_counter()
    for run in _runs(seeds, jobs):
        summary.add(run)
        summary.seconds = time.perf_counter() - start
        if on_run is not None:
            on_run(run, summary)
        if len(summary.failures) >= failures_max:
            break
    return summary


def _runs(seeds: range, jobs: int) -> Iterator[Run]:
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(run_seed, seeds, chunksize=8)
