"""Whole clusters under virtual time: runs repeat themselves exactly, seeds are clean, scenarios hold."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from paxos_twisted.core.command import Series
from paxos_twisted.sim.cluster import Cluster
from paxos_twisted.sim.invariants import LogInvariants
from paxos_twisted.sim.main import main
from paxos_twisted.sim.scenario import Scenario, run_scenario
from paxos_twisted.sim.scenarios import SCENARIOS
from paxos_twisted.sim.subjects import SUBJECTS
from paxos_twisted.sim.subjects.multipaxos import engine_of, rounds_burnt
from paxos_twisted.sim.swarm import World, draw_plan, run_seed, run_swarm
from paxos_twisted.sim.trace import Trace
from paxos_twisted.sim.workloads import WORKLOADS, Habits

pytestmark = pytest.mark.simulation

WORLDS = [
    *(World(engine, application) for engine in sorted(SUBJECTS) for application in sorted(WORKLOADS)),
    *(World("epaxos", "bank", nodes) for nodes in (3, 5, 7)),
]

DIGEST = """
from paxos_twisted.sim.scenario import run_scenario
from paxos_twisted.sim.scenarios import SCENARIOS
from paxos_twisted.sim.swarm import World, run_seed
from paxos_twisted.sim.trace import Trace
trace = Trace()
for seed in (2, 5, 11):
    run = run_seed(seed, trace)
    assert not run.error, run.error
for engine, application in (("epaxos", "kv"), ("epaxos", "bank"), ("primary-backup", "auction")):
    run = run_seed(3, trace, world=World(engine, application, 3))
    assert not run.error, run.error
for name in ("power-cut-all", "laggard-snapshot", "collected-instance"):
    run_scenario(SCENARIOS[name], 1, trace)
print(trace.lines, trace.digest())
"""


def test_one_seed_is_one_run_in_any_process() -> None:
    """Byte-identical traces in two processes and under two hash seeds."""
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    assert len(found) == 1
    assert int(found.pop().split()[0]) > 10_000


def test_a_trace_changes_nothing() -> None:
    """Replaying a seed with a trace is the run that failed without one."""
    for seed in (3, 4):
        plain, traced = run_seed(seed), run_seed(seed, Trace())
        assert (plain.events, plain.slots, plain.virtual_ms) == (traced.events, traced.slots, traced.virtual_ms)


def test_seeds_differ() -> None:
    digests = set()
    for seed in range(3):
        trace = Trace()
        run_seed(seed, trace)
        digests.add(trace.digest())
    assert len(digests) == 3


def test_a_swarm_of_seeds_is_clean() -> None:
    """`make sim` runs ten thousand; these are others than its first ones."""
    summary = run_swarm(range(900_000, 900_200), 1)
    assert not summary.failures, summary.failures[0].error
    assert summary.runs == 200
    assert summary.slots > 10_000
    assert summary.faults > 1000
    assert summary.leader_changes > 200


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: f"{world.engine} {world.application} {world.nodes or ''}")
def test_a_small_swarm_of_each_world_is_clean(world: World) -> None:
    """All engines, all applications, all sizes; `make sim ENGINE=… APPLICATION=… NODES=…` runs more."""
    summary = run_swarm(range(910_000, 910_008), 1, world=world)
    assert not summary.failures, f"{summary.failures[0].seed}: {summary.failures[0].error}"


def test_plans_reach_the_corners() -> None:
    plans = [draw_plan(seed) for seed in range(300)]
    assert {plan.nodes for plan in plans} == {3, 5, 7}
    assert {plan.settings.policy for plan in plans} == {"lab", "sticky"}
    assert {plan.settings.alpha for plan in plans} >= {1, 3, 8, 64, 1024}
    assert any(plan.mix.rot for plan in plans)
    assert all(plan.limits.decisions_buffered >= 2 * plan.settings.alpha for plan in plans)


def test_a_quiet_cluster_keeps_its_leader() -> None:
    """STB: without faults the leader does not change."""
    cluster = Cluster(1, nodes=5)
    cluster.start()
    cluster.add_clients(3)
    cluster.run(20_000)
    assert cluster.leader_changes() == 0
    assert rounds_burnt(cluster) <= 2
    cluster.finish()


def test_memory_stays_bounded() -> None:
    """MEM: logs, tables and rows on disk do not grow with the number of commands."""
    from paxos_twisted.sim.small import Limits, small_limits  # noqa: PLC0415
    from paxos_twisted.sim.workloads import Habits  # noqa: PLC0415

    with small_limits(Limits(slots_kept=50)):
        cluster = Cluster(1, nodes=3, snapshot_every=100, self_check_every=16)
        cluster.start()
        cluster.add_clients(4, Habits(requests=10**6, outstanding=8, think_ms=10))
        sizes = []
        for _ in range(3):
            cluster.run(4000)
            rows = max(len(disk.image.rows) for disk in map(cluster.disk, cluster.ids) if disk.image is not None)
            engines = [engine_of(cluster, node) for node in cluster.ids]
            kept = max(len(engine.log) + len(engine.acceptor.votes) + len(engine.learner.tallies) for engine in engines)
            sizes.append((rows, kept))
        assert len(cluster.model.results) > 5000
        assert max(rows for rows, _ in sizes) < 1000
        assert max(kept for _, kept in sizes) < 1000
        cluster.finish()


@pytest.mark.parametrize("one", SCENARIOS.values(), ids=lambda one: f"{one.number} {one.name}: {one.must_hold}")
def test_scenario(one: Scenario) -> None:
    for seed in range(3 if one.engine == "multipaxos" else 2):
        run = run_scenario(one, seed)
        assert not run.error, f"{run.error} (paxossim scenario {one.name} --start {seed} --seeds 1 --trace)"


def test_all_scenarios_are_there() -> None:
    later = {32, 33, 34, 35, 36, 37, 39, 40}  # membership, the handshake's own tests, leases and quorum reads
    assert {one.number for one in SCENARIOS.values()} == set(range(1, 75)) - later


def test_the_command_line() -> None:
    runner = CliRunner()
    swarm = runner.invoke(main, ["swarm", "--seeds", "4", "--start", "40", "--jobs", "1"])
    assert swarm.exit_code == 0
    assert "4 seeds, 0 failed" in swarm.output
    replay = runner.invoke(main, ["replay", "40"])
    assert "everything held" in replay.output
    assert "sha256" in replay.output
    assert len(runner.invoke(main, ["replay", "40", "--trace"]).output.splitlines()) > 1000
    scenario = runner.invoke(main, ["scenario", "star", "--seeds", "1"])
    assert "LIV, the hub leads" in scenario.output
    assert runner.invoke(main, ["scenario", "nonsense"]).exit_code == 2
    assert "seeds" in runner.invoke(main, ["mutants", "no-session-table"]).output


@pytest.mark.parametrize("engine", sorted(SUBJECTS))
def test_each_operation_of_a_series_takes_a_slot(engine: str) -> None:
    """Without faults. (With them the slots behind the first one may go to others: they decide nothing.)"""
    cluster = Cluster(1, engine=engine)
    cluster.start()
    clients = cluster.add_clients(3, Habits(requests=20, series_share=0.7, own_share=0.5))
    cluster.run_until(lambda: all(client.is_done for client in clients), 10_000, "all is answered")
    cluster.finish()
    sent = [one.op for one in cluster.history.operations]
    lengths = [len(op) for op in sent if type(op) is tuple]
    assert len(lengths) > 20
    assert {min(lengths), max(lengths)} <= set(range(2, 21))
    for node in cluster.nodes.values():
        assert node.state is not None
        assert node.state.commands_applied == sum(lengths) + len(sent) - len(lengths)
    if isinstance(cluster.invariants, LogInvariants):
        log = cluster.invariants.commands
        for slot, command in enumerate(log):
            if isinstance(command, Series):
                assert not any(log[slot + 1 : slot + len(command.ops)])


def test_seeds_of_applications_that_take_no_series_draw_none() -> None:
    shares = {draw_plan(seed).habits.series_share for seed in range(20)}
    assert {0.0, 0.8} < shares
    assert {draw_plan(seed, World(application="kv")).habits.series_share for seed in range(20)} == {0.0}
