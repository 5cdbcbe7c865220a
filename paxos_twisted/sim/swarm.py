"""Many short random runs: one seed, one cluster, one mix of faults. A failing seed says how to replay itself."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from paxos_twisted.net.faults import Rule
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.nemesis import Mix, Nemesis
from paxos_twisted.sim.order import parts_of_series, search_order
from paxos_twisted.sim.small import Limits, small_limits
from paxos_twisted.sim.subjects import SUBJECTS
from paxos_twisted.sim.trace import Trace
from paxos_twisted.sim.workloads import WORKLOADS, Habits

SEARCH_EVERY = 20
"""Every so many seeds the general linearizability search runs, too."""


SELF_CHECK_EVERY = 16
"""See `Cluster.self_check_every`. Every replica is checked some twenty times a virtual second."""


class World(msgspec.Struct, frozen=True):
    """What is simulated: a seed means one run of one world."""

    engine: str = "multipaxos"
    application: str = "bank"
    nodes: int = 0
    """0: drawn from the seed."""

    def options(self) -> str:
        """As on the command line, as far as they are not the defaults."""
        words = []
        if self.engine != "multipaxos":
            words.append(f" --engine {self.engine}")
        if self.application != "bank":
            words.append(f" --application {self.application}")
        if self.nodes:
            words.append(f" --nodes {self.nodes}")
        return "".join(words)


MULTIPAXOS_BANK = World()


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
    told: tuple[str, ...] = ()
    """What a named scenario has to say to people."""


class Plan(msgspec.Struct, frozen=True):
    """What a seed means."""

    engine: str
    application: str
    nodes: int
    settings: Any
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


def draw_plan(cluster_seed: int, world: World = MULTIPAXOS_BANK) -> Plan:
    """Draw cluster, load and faults from a seed."""
    rng = Cluster.stream_of(cluster_seed, "plan")
    rand = rng.random
    drawn = (3, 3, 3, 5, 5, 7)[int(rand() * 6)]
    nodes = world.nodes or drawn
    subject = SUBJECTS[world.engine]
    settings = subject.draw_settings(rand)
    alpha = subject.window(settings)
    low = 1 + int(rand() * 3)
    requests = int(100 + rand() * 200) * 3 // (nodes + 1)
    clients = 2 + int(rand() * 4)
    mix = Mix().drawn(rng)
    if rand() < 0.12 and subject.survives_rot(settings):
        mix = msgspec.structs.replace(mix, rot=0.6)
    # From a source of its own: whatever else a seed means does not depend on it.
    rand_series = Cluster.stream_of(cluster_seed, "series").random
    series_share = (0.0, 0.05, 0.3, 0.8)[int(rand_series() * 4)]
    if not WORKLOADS[world.application].application().takes_series:
        series_share = 0.0
    return Plan(
        engine=world.engine,
        application=world.application,
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
            series_share=series_share,
            # With few slots at a time long series would fill them for longer than clients have patience.
            series_length_max=20 if alpha > 1 else 4,
            own_share=0.0 if subject.has_leader else (0.0, 0.5, 0.9, 1.0)[int(rand() * 4)],
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


def run_seed(seed: int, trace: Trace | None = None, plan: Plan | None = None, world: World = MULTIPAXOS_BANK) -> Run:
    """Run one seed and report; what goes wrong in the cluster is not raised. `plan`: another than the seed's own."""
    plan = plan or draw_plan(seed, world)
    with small_limits(plan.limits):
        return _run(seed, trace, plan)


def _run(seed: int, trace: Trace | None, plan: Plan) -> Run:
    run = Run(seed, nodes=plan.nodes)
    cluster = Cluster(
        seed,
        nodes=plan.nodes,
        engine=plan.engine,
        application=plan.application,
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
            checker = WORKLOADS[plan.application].checker()
            if checker is not None:
                search_order(parts_of_series(cluster.history, cluster.workload.application().result_type), checker)
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
    seeds: range,
    jobs: int,
    on_run: Callable[[Run, Summary], None] | None = None,
    failures_max: int = 10,
    world: World = MULTIPAXOS_BANK,
) -> Summary:
    """Run all seeds on `jobs` processes; give up after `failures_max` failures."""
    summary = Summary()
    start = time.perf_counter()
    for run in _runs(seeds, jobs, world):
        summary.add(run)
        summary.seconds = time.perf_counter() - start
        if on_run is not None:
            on_run(run, summary)
        if len(summary.failures) >= failures_max:
            break
    return summary


def _runs(seeds: range, jobs: int, world: World) -> Iterator[Run]:
    run = partial(run_seed, world=world)
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(run, seeds, chunksize=8)
