"""The shows of paxoscluster, each on a cluster of its own: demo, soak, failover."""

import contextlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from rich.console import Console
from rich.text import Text
from twisted.internet.defer import CancelledError, Deferred

from paxos_twisted.cluster.command_line import f_option
from paxos_twisted.cluster.course import CONFIG as COURSE_CONFIG
from paxos_twisted.cluster.course import NODES as COURSE_NODES
from paxos_twisted.cluster.course import Situation, course_json, in_words, run_course
from paxos_twisted.cluster.demo import Plan, run_demo
from paxos_twisted.cluster.demo_screens import WIDTH, Screen, Silent
from paxos_twisted.cluster.dissect import Evidence
from paxos_twisted.cluster.failover import KINDS, run_failover, write_report
from paxos_twisted.cluster.failover import Plan as FailoverPlan
from paxos_twisted.cluster.failover import Report as FailoverReport
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.cluster.nemesis import LEADERLESS_WEIGHTS, WEIGHTS
from paxos_twisted.cluster.picture import save_picture
from paxos_twisted.cluster.soak import CONFIG as SOAK_CONFIG
from paxos_twisted.cluster.soak import Plan as SoakPlan
from paxos_twisted.cluster.soak import Report as SoakReport
from paxos_twisted.cluster.soak import run_soak
from paxos_twisted.cluster.soak_screens import Progress, failover_end, soak_end
from paxos_twisted.cluster.soaked import SOAKED
from paxos_twisted.core.registry import ENGINES
from paxos_twisted.ctl.agreement import LEADERLESS, Verdict
from paxos_twisted.ctl.command_line import EXIT_CODES, EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN, EXIT_VIOLATION

EXIT_OF_VERDICT: Final = {Verdict.OK: EXIT_OK, Verdict.VIOLATION: EXIT_VIOLATION, Verdict.UNKNOWN: EXIT_UNKNOWN}

KINDS_OF_FAULTS: Final = sorted({*WEIGHTS, *LEADERLESS_WEIGHTS})

EXIT_INTERRUPTED: Final = 130

Value = TypeVar("Value")


@click.command(epilog=EXIT_CODES)
@f_option
@click.option("--clients", type=click.IntRange(1, 64), default=3, show_default=True)
@click.option("-n", "--requests", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Per client.")
@click.option("--kill-at", type=click.IntRange(1), help="Kill the leader at this answer; else in the middle.")
@click.option("--seed", type=int, envvar="PAXOS_SEED", help="Same seed, same transactions; else a random one.")
@click.option("--profile", type=click.Choice(["default", "lab"]), default="default", show_default=True)
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep everything here.")
@click.option("--keep", is_flag=True, help="Keep logs, history and data also when all is well.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Save what is shown as a picture.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def demo(
    f: int,
    clients: int,
    requests: int,
    kill_at: int | None,
    seed: int | None,
    profile: str,
    directory: Path | None,
    keep: bool,
    svg: Path | None,
    output: str,
) -> None:
    """Watch a leader die.

    Three nodes, a bench, kill -9 in the middle, and the proof that nothing was lost or done twice.
    """
    if kill_at is not None and kill_at > clients * requests:
        raise click.UsageError(f"--kill-at: there are only {clients * requests} transactions")
    plan = Plan(
        f=f,
        clients=clients,
        requests=requests,
        kill_at=kill_at or max(1, clients * requests // 2),
        seed=_seed(seed),
        profile=profile,
    )
    keep = keep or directory is not None
    if output == "json":
        result = run_demo(plan, Silent(), directory=directory, keep=keep)
        report = msgspec.to_builtins(result) | {"verdict": result.verdict.value}
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False, record=svg is not None, width=WIDTH if svg is not None else None)
        result = run_demo(plan, Screen(console, Console(stderr=True)), directory=directory, keep=keep)
        if svg is not None:
            save_picture(console, svg, "make demo")
    raise SystemExit(EXIT_OF_VERDICT[result.verdict])


@click.command(epilog=EXIT_CODES)
@f_option
@click.option("--rounds", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Faults, in all.")
@click.option("--seconds", type=click.FloatRange(1), help="End earlier, when this time is over.")
@click.option("--seed", type=int, envvar="PAXOS_SEED", help="Of faults and transactions; else a random one.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS_OF_FAULTS), help="Only these faults.")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="multipaxos", show_default=True)
@click.option("--application", type=click.Choice(list(SOAKED)), default="bank", show_default=True)
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep everything here.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def soak(
    f: int,
    rounds: int,
    seconds: float | None,
    seed: int | None,
    kinds: tuple[str, ...],
    engine: str,
    application: str,
    directory: Path | None,
    output: str,
) -> None:
    """Torture a cluster, and check it.

    Kill, freeze and restart nodes under load, again and again.

    A round is one fault. After every few rounds everything comes to rest and is read: all accounts, keys, rooms or
    auctions. What happened since the last time must be linearizable, each request done exactly once, no money gained or
    lost, all nodes equal. The first violation ends the soak with exit code 3; logs, data and the history are kept.
    """
    possible = LEADERLESS_WEIGHTS if engine in LEADERLESS else WEIGHTS
    for kind in kinds:
        if kind not in possible:
            raise click.UsageError(f"--kind: with engine {engine} there are {', '.join(possible)}, not {kind!r}")
    plan = SoakPlan(
        f=f, engine=engine, application=application, rounds=rounds, seconds=seconds, seed=_seed(seed), kinds=kinds
    )

    latest: list[SoakReport] = []

    def run(cluster: LocalCluster, progress: Progress) -> Callable[[Any], Coroutine[Any, Any, SoakReport]]:
        def on_progress(report: SoakReport) -> None:
            latest[:] = [report]
            progress.soak(report)

        return lambda reactor: run_soak(reactor, plan, cluster, on_progress)

    try:
        report = _with_cluster(
            directory,
            "soak",
            f,
            SOAK_CONFIG,
            run,
            keep=lambda end: end.verdict is not Verdict.OK,
            engine=engine,
            application=application,
        )
    except _Interrupted:
        if latest and output == "table":
            Console(highlight=False).print(soak_end(latest[0], is_interrupted=True))
        raise SystemExit(EXIT_INTERRUPTED) from None
    if output == "json":
        _print_report(report, verdict=report.verdict.value)
    else:
        Console(highlight=False).print(soak_end(report))
    raise SystemExit(EXIT_OF_VERDICT[report.verdict])


@click.command(epilog=EXIT_CODES)
@f_option
@click.option("--times", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--kind", type=click.Choice(list(KINDS)), default="kill", show_default=True)
@click.option("--clients", type=click.IntRange(1, 64), default=3, show_default=True)
@click.option("--engine", type=click.Choice(list(ENGINES)), default="multipaxos", show_default=True)
@click.option("--seed", type=int, envvar="PAXOS_SEED", help="Of faults and transactions; else a random one.")
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep everything here.")
@click.option(
    "--report", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write a page with plots into it."
)
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def failover(
    f: int,
    times: int,
    kind: str,
    clients: int,
    engine: str,
    seed: int | None,
    directory: Path | None,
    folder: Path | None,
    output: str,
) -> None:
    """Measure how long clients wait.

    Namely when something happens to a node:

    \b
    kill           kill -9 the leader
    freeze         SIGSTOP the leader
    stop           SIGTERM the leader (a planned restart)
    restart        SIGTERM a follower
    kill-follower  kill -9 a follower

    Each wait is taken apart: detection, election, phase 1 ..., and what part of it is timeouts (docs/failover.md).
    The exit code is 3 when a figure is worse than what we promise of it.
    """
    plan = FailoverPlan(kind=kind, times=times, clients=clients, seed=_seed(seed), f=f, engine=engine)
    evidence = None if folder is None else Evidence(plan.seed)

    def run(cluster: LocalCluster, progress: Progress) -> Callable[[Any], Coroutine[Any, Any, FailoverReport]]:
        async def measure(reactor: Any) -> FailoverReport:
            report = await run_failover(reactor, plan, cluster, progress.failover, evidence)
            if folder is not None and evidence is not None:
                write_report(folder, report, evidence, cluster)
            return report

        return measure

    try:
        report = _with_cluster(
            directory, "failover", f, "", run, keep=lambda end: end.trouble is not None, engine=engine
        )
    except _Interrupted:
        raise SystemExit(EXIT_INTERRUPTED) from None
    if output == "json":
        _print_report(report, median_ms=report.median_ms, worst_ms=report.worst_ms, misses=report.misses)
    else:
        Console(highlight=False).print(failover_end(report))
    raise SystemExit(EXIT_VIOLATION if report.misses else EXIT_OK)


@click.command(epilog=EXIT_CODES)
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep everything here.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def course(directory: Path | None, output: str) -> None:
    """Play the situations of the EPaxos course text.

    Five replicas. Two conflicting writes at replicas 0 and 3: on the fast path, then, with the commits of replica 0
    paused, on the slow path; and a read at replica 2 that waits for a write whose commit is paused. With the messages
    that were sent, their dependencies and sequence numbers. Exit code 3 when something is not as the text says.

    Replicas are numbered from 0 as in the text: replica 0 is node 1.
    """
    console = Console(highlight=False)

    def show_played(situation: Situation) -> None:
        if output == "table":
            for line in in_words(situation):
                console.print(Text(line), soft_wrap=True)
            console.print()

    def run(cluster: LocalCluster, progress: Progress) -> Callable[[Any], Coroutine[Any, Any, list[Situation]]]:
        return lambda reactor: run_course(reactor, cluster, show_played)

    try:
        played = _with_cluster(
            directory,
            "course",
            COURSE_NODES // 2,
            COURSE_CONFIG,
            run,
            keep=lambda situations: any(one.wrong for one in situations),
            engine="epaxos",
            application="kv",
        )
    except _Interrupted:
        raise SystemExit(EXIT_INTERRUPTED) from None
    if output == "json":
        click.echo(json.dumps([course_json(one) for one in played], indent=2, ensure_ascii=False))
    raise SystemExit(EXIT_VIOLATION if any(one.wrong for one in played) else EXIT_OK)


# Inside.


def _with_cluster(
    directory: Path | None,
    name: str,
    f: int,
    more: str,
    run: Callable[[LocalCluster, Progress], Callable[[Any], Coroutine[Any, Any, Value]]],
    keep: Callable[[Value], bool],
    *,
    engine: str = "multipaxos",
    application: str = "bank",
) -> Value:
    """Make a cluster, run something on it in the global reactor, leave no process behind."""
    folder = directory if directory is not None else Path(tempfile.mkdtemp(prefix=f"paxos-{name}-"))
    kept = True
    try:
        with LocalCluster.create(folder, f, name=name, more=more, engine=engine, application=application) as cluster:
            with Progress(Console(stderr=True)) as progress:
                report = _react(run(cluster, progress))
            kept = keep(report)
        return report
    except _Interrupted:
        kept = False
        raise
    finally:
        if directory is None and not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _react(run: Callable[[Any], Coroutine[Any, Any, Value]]) -> Value:
    """Run the global reactor until `run` is done, and return its result."""
    from twisted.internet import reactor as global_reactor  # noqa: PLC0415 - an entry point
    from twisted.internet import task  # noqa: PLC0415

    reactor: Any = global_reactor
    results: list[Value] = []

    async def whole() -> None:
        with contextlib.suppress(CancelledError):
            results.append(await run(reactor))

    def start(_: object) -> Deferred[None]:
        done = Deferred.fromCoroutine(whole())

        def end() -> Deferred[None]:  # after ctrl-C the clients are closed in order, too
            done.cancel()
            return done

        reactor.addSystemEventTrigger("before", "shutdown", end)
        return done

    code: object = None
    try:
        task.react(start)
    except SystemExit as end:  # so `react` always ends
        code = end.code
    if results:
        return results[0]
    if code:
        raise SystemExit(EXIT_FAILED)  # an exception of ours, which `react` has told on stderr
    raise _Interrupted


class _Interrupted(Exception):
    """Somebody pressed ctrl-C."""


def _print_report(report: msgspec.Struct, **more: object) -> None:
    click.echo(json.dumps(msgspec.to_builtins(report) | more, indent=2, ensure_ascii=False))


def _seed(given: int | None) -> int:
    return given if given is not None else secrets.randbelow(2**31)
