"""`make bench`: our cluster beside etcd, ZooKeeper and PySyncObj on this machine, in one run.

    python -m benchmarks.versus [--quick] [--systems ours,etcd] [--markdown FILE] [--json FILE] [--plots DIRECTORY]

Three nodes each, real processes, the same disk, default durability; the cheapest closed-loop client for each, all
connections at the leader. The systems take turns (A B C A B C); while one runs, no other does. The tables show medians
and, behind ±, half the distance between the lowest and the highest. A system that is not installed is skipped with a
sentence. The whole is bounded: no turn is begun that would not end in time.
"""

import resource
import shlex
import sys
import tempfile
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks.measure import Load, Results, Subject, machine
from benchmarks.peers.registry import ALL
from benchmarks.peers.system import System
from benchmarks.plots import draw
from benchmarks.report import markdown, show
from benchmarks.targets import BATCHES
from benchmarks.turn import Plan, take_turn

LOADS = [Load(*shape) for shape in ((1, 1), (8, 1), (64, 1), (256, 1), (1000, 1), (8, 32), (10, 100))]
VALUES = [Load(64, 1, value_bytes) for value_bytes in (256, 4096)]

FULL = Plan([*LOADS, BATCHES, *VALUES], seconds=3.0, rounds=3, kills=3, warm_up_s_max=10.0, limit_s=30 * 60.0)
QUICK_LOADS = [Load(*shape) for shape in ((1, 1), (64, 1), (256, 1), (8, 32))]
QUICK = Plan(
    [*QUICK_LOADS, BATCHES, Load(64, 1, 4096)], seconds=0.8, rounds=2, kills=1, warm_up_s_max=3.0, limit_s=120.0
)

DEFAULT_SYSTEMS = "ours,ours-kv,etcd,zookeeper,pysyncobj,pysyncobj-memory"

DESCRIPTORS = 4096
"""A thousand connections, and some."""


def chosen(names: str, nodes: int = 3) -> tuple[list[System], list[str]]:
    """The systems that can run here, and a sentence for each that cannot.

    Raises:
        click.BadParameter: there is no system of that name.
    """
    systems, notes = [], []
    for name in names.split(","):
        if name not in ALL:
            raise click.BadParameter(f"{name!r} is none of {', '.join(ALL)}", param_hint="--systems")
        reason = ALL[name].missing()
        if reason is None:
            systems.append(ALL[name](nodes))
        else:
            notes.append(f"Skipped: {reason}")
    return systems, notes


def compare(systems: list[System], plan: Plan, place: Path, results: Results, console: Console) -> None:
    """Let the systems take turns until the plan is done or the time is up."""
    began, longest = time.monotonic(), 0.0
    with console.status("") as status:
        for turn in range(plan.rounds * len(systems)):
            round_, which = divmod(turn, len(systems))
            if time.monotonic() - began + longest > plan.limit_s:
                results.notes.append(f"The time was up after {turn} of {plan.rounds * len(systems)} turns.")
                return
            turn_began = time.monotonic()
            with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as directory:
                name = f"{systems[which].title}, round {round_ + 1} of {plan.rounds}"
                take_turn(systems[which], plan, Path(directory), results, status.update, name)
            took = time.monotonic() - turn_began
            console.print(f"{name}: {took:.0f} s", highlight=False)
            longest = max(longest, took)


@click.command()
@click.option("--quick", is_flag=True, help="Two minutes: fewer loads, shorter, two rounds. Says what; proves little.")
@click.option("--systems", default=DEFAULT_SYSTEMS, show_default=True, help=f"Of {', '.join(ALL)}.")
@click.option("--nodes", default=3, show_default=True, type=click.Choice([3, 5, 7]), help="Size of the clusters.")
@click.option("--seconds", type=float, help="Length of one measurement.")
@click.option("--rounds", type=int, help="Turns of each system.")
@click.option("--limit", type=float, help="Minutes after which no turn is begun.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the nodes write; default: a new folder here.")
@click.option("--markdown", "page", type=click.Path(path_type=Path), help="Also write the tables to this file.")
@click.option("--json", "data", type=click.Path(path_type=Path), help="Also write every measurement to this file.")
@click.option("--plots", type=click.Path(path_type=Path), help="Also draw plots into this directory.")
def main(
    quick: bool,
    systems: str,
    nodes: int,
    seconds: float | None,
    rounds: int | None,
    limit: float | None,
    directory: Path | None,
    page: Path | None,
    data: Path | None,
    plots: Path | None,
) -> None:
    """Compare our cluster with others on this machine."""
    plan = QUICK if quick else FULL
    plan = plan._replace(
        seconds=seconds or plan.seconds, rounds=rounds or plan.rounds, limit_s=limit * 60 if limit else plan.limit_s
    )
    here, notes = chosen(systems, nodes)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    _raise_descriptors()
    # Not under /tmp: that may be memory, where a sync costs nothing.
    with tempfile.TemporaryDirectory(dir=directory or Path.cwd(), prefix=".bench-") as place:
        method = (
            f"{nodes} nodes each on one machine; closed loop, median ± half the range of {plan.rounds} × "
            f"{plan.seconds:g} s each, systems in turns"
        )
        results = Results(
            setting=[
                shlex.join(["python", "-m", "benchmarks.versus", *sys.argv[1:]]),
                machine(Path(place)),
                method,
            ],
            subjects=[Subject(system.name, system.title, system.version(), system.settings(), "") for system in here],
            notes=notes,
        )
        for note in notes:
            console.print(note, markup=False)
        try:
            compare(here, plan, Path(place), results, console)
        except KeyboardInterrupt:
            results.notes.append("Broken off by hand.")
    show(results, console)
    if page is not None:
        page.write_text(markdown(results), encoding="utf-8")
    if data is not None:
        data.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    if plots is not None:
        console.print(draw(results, plots), markup=False)


def _raise_descriptors() -> None:
    """Let us and the nodes that we start have as many open sockets as a thousand clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
