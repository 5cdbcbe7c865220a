"""`paxossim`: the simulator's command line."""

import sys
from collections.abc import Callable
from typing import Any

import click

from paxos_twisted import __version__
from paxos_twisted.sim.mutants import MUTANTS, hunt
from paxos_twisted.sim.scenario import run_scenario
from paxos_twisted.sim.scenarios import SCENARIOS
from paxos_twisted.sim.subjects import SUBJECTS
from paxos_twisted.sim.swarm import Run, Summary, World, run_seed, run_swarm
from paxos_twisted.sim.trace import Trace
from paxos_twisted.sim.workloads import WORKLOADS

FAILED = 3
"""Exit code: a property is violated."""


def _world_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is simulated."""
    for option in (
        click.option(
            "--nodes", default="0", type=click.Choice(["0", "3", "5", "7"]), help="How many; 0: drawn from the seed."
        ),
        click.option("--application", default="bank", show_default=True, type=click.Choice(sorted(WORKLOADS))),
        click.option("--engine", default="multipaxos", show_default=True, type=click.Choice(sorted(SUBJECTS))),
    ):
        command = option(command)
    return command


EXIT_CODES = """\b
Exit codes:
  0  no property was violated
  2  wrong arguments
  3  a property was violated, or a mutant was not noticed
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, "-V", "--version", prog_name="paxossim")
def main() -> None:
    """Run whole clusters in one process, on virtual time, from a seed."""


@main.command(epilog=EXIT_CODES)
@click.option("--seeds", default=1000, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--start", default=0, show_default=True, type=click.IntRange(0), help="The first one.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option("--failures", default=5, show_default=True, type=click.IntRange(1), help="Give up after so many.")
@_world_options
def swarm(seeds: int, start: int, jobs: int, failures: int, engine: str, application: str, nodes: str) -> None:
    """Many short runs with random clusters, loads and faults."""
    world = World(engine, application, int(nodes))
    shown = 0.0

    def on_run(run: Run, summary: Summary) -> None:
        nonlocal shown
        if run.error:
            click.echo(_failure(run, world))
        elif summary.seconds - shown >= 10:
            shown = summary.seconds
            click.echo(summary.text(), err=True)

    summary = run_swarm(range(start, start + seeds), jobs, on_run, failures, world)
    click.echo(summary.text())
    sys.exit(FAILED if summary.failures else 0)


@main.command(epilog=EXIT_CODES)
@click.argument("seed", type=int)
@click.option("--trace", "is_traced", is_flag=True, help="Print every event.")
@click.option("--tail", default=60, show_default=True, help="Without --trace: lines shown before a failure.")
@_world_options
def replay(seed: int, is_traced: bool, tail: int, engine: str, application: str, nodes: str) -> None:
    """Run one seed again, exactly as in the swarm."""
    trace = Trace(tail, click.echo if is_traced else None)
    run = run_seed(seed, trace, world=World(engine, application, int(nodes)))
    if run.error and not is_traced:
        click.echo("\n".join(run.tail))
    click.echo(
        f"seed {seed}: {run.nodes} nodes, {run.slots} slots, {run.faults} faults, {run.leader_changes} leader changes, "
        f"{run.events} events, {run.virtual_ms} ms of virtual time, trace {trace.lines} lines, sha256 {trace.digest()}"
    )
    if run.error:
        click.echo(run.where if run.error.startswith("CRASH") else "", err=True)
        click.echo(run.error)
        sys.exit(FAILED)
    click.echo("everything held")


@main.command(epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Seeds for each scenario.")
@click.option("--start", default=0, show_default=True, help="The first seed.")
@click.option("--trace", "is_traced", is_flag=True, help="Print every event.")
def scenario(name: str | None, seeds: int, start: int, is_traced: bool) -> None:
    """Run a named scenario, or all of them."""
    if name is not None and name not in SCENARIOS:
        raise click.UsageError(f"there is no scenario {name!r}; there are: {', '.join(SCENARIOS)}")
    failed = 0
    for one in SCENARIOS.values() if name is None else [SCENARIOS[name]]:
        for seed in range(start, start + seeds):
            outcome = run_scenario(one, seed, Trace(60, click.echo if is_traced else None))
            if name is not None and outcome.told:
                click.echo("\n".join(outcome.told))
            if outcome.error:
                failed += 1
                click.echo("\n".join(outcome.tail) if not is_traced else "")
                click.echo(f"{one.number:>3} {one.name}: seed {seed} FAILED: {outcome.error}")
        click.echo(f"{one.number:>3} {one.name:26} {one.must_hold}")
    sys.exit(FAILED if failed else 0)


@main.command(epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option("--engine", type=click.Choice(sorted(SUBJECTS)), help="Only those of one engine.")
def mutants(name: str | None, engine: str | None) -> None:
    """Switch off one safety rule at a time and count the seeds until the simulator notices."""
    if name is not None and name not in MUTANTS:
        raise click.UsageError(f"there is no mutant {name!r}; there are: {', '.join(MUTANTS)}")
    missed = 0
    for one in MUTANTS.values() if name is None else [MUTANTS[name]]:
        if engine is not None and one.engine != engine:
            continue
        found = hunt(one)
        if found is None:
            missed += 1
            click.echo(f"{one.name:34} NOT CAUGHT in {one.seeds_max} seeds")
        else:
            count, run = found
            click.echo(f"{one.name:34} {count:>4} seeds   {run.error[:100]}")
    sys.exit(FAILED if missed else 0)


def _failure(run: Run, world: World) -> str:
    return f"seed {run.seed} FAILED: {run.error}\n    replay it: paxossim replay {run.seed}{world.options()} --trace"


if __name__ == "__main__":
    main()
