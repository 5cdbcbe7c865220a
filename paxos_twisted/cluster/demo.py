"""The demo: three nodes, the real bench, and the leader killed in the middle of it.

It shows what it does while it does it, and afterwards proves from the outside that nothing was lost or doubled. The
steps are those of a test; `paxos_twisted.cluster.demo_screens` says how they look.
"""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from paxos_twisted.check.command import check_files
from paxos_twisted.check.history import History, HistoryError
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.bench_run import BenchError, BenchReport, run_bench
from paxos_twisted.cluster.local import GONE, RUNNING, ClusterError, LocalCluster
from paxos_twisted.cluster.timeline import Step, Timeline, failover_steps, make_timeline
from paxos_twisted.ctl.agreement import Check, Statuses, Verdict, judge, verdict_of, wait_until_quiet
from paxos_twisted.ctl.node_api import NodeError, NodeStatus
from paxos_twisted.types import NodeId

BENCH_S: Final = 120.0
"""The bench takes seconds; a busy machine gets this long."""

QUIET_S: Final = 20.0
LINKED_S: Final = 3.0
"""For the table at the end, so that it shows no link that is only about to be made."""

HISTORY: Final = "history.jsonl"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    f: int = 1
    clients: int = 3
    requests: int = 500
    """Of each client."""
    kill_at: int = 750
    """The leader is killed when so many transactions are answered."""
    seed: int = 1
    profile: str = "default"

    @property
    def total(self) -> int:
        """Transactions of all clients."""
        return self.clients * self.requests


class Result(msgspec.Struct, kw_only=True):
    """What happened. Times are milliseconds or seconds, as the names say."""

    plan: Plan
    directory: str
    leader: int = 0
    successor: int | None = None
    successor_round: int | None = None
    bench: BenchReport | None = None
    steps: list[Step] = []
    """Of the failover."""
    first_answer_ms: float | None = None
    """From the kill to the first answer after it."""
    timeline: Timeline | None = None
    slots: int = 0
    commands: int = 0
    noops: int = 0
    duplicates: int = 0
    checks: list[Check] = []
    """After the bench, without the killed node."""
    checks_after: list[Check] = []
    """After the killed node has come back."""
    rejoin_s: float | None = None
    seconds: float = 0.0
    error: str | None = None
    """What went wrong before all could be checked."""

    @property
    def verdict(self) -> Verdict:
        """Whether everything that was promised was kept."""
        if self.error is not None:
            return Verdict.UNKNOWN
        return verdict_of([*self.checks, *self.checks_after])


class Stage(Protocol):
    """Where the demo is shown."""

    def opened(self, plan: Plan) -> None:
        """It begins."""
        ...

    def doing(self, what: str) -> contextlib.AbstractContextManager[object]:
        """Something that takes a moment."""
        ...

    def done(self, what: str, seen: str = "") -> None:
        """A step is done."""
        ...

    @property
    def is_terminal(self) -> bool:
        """Whether the bench may draw its progress bar."""
        ...

    def nodes(self, name: str, statuses: Statuses) -> None:
        """The nodes, as they say they are."""
        ...

    def measured(self, result: Result) -> None:
        """The statistics of the bench, and what happened around the kill."""
        ...

    def checked(self, title: str, checks: list[Check]) -> None:
        """Verdicts."""
        ...

    def closed(self, result: Result) -> None:
        """It is over."""
        ...


def run_demo(plan: Plan, stage: Stage, *, directory: Path | None = None, keep: bool = False) -> Result:
    """Play the demo. Whatever happens, no process is left behind.

    Args:
        directory: where the cluster lives; by default a new one among the temporary files, which is removed at the end
            unless `keep`, or something went wrong.

    Raises:
        OSError: the directory cannot be used.
        ClusterError: there is a cluster in it already.
    """
    is_temporary = directory is None
    folder = Path(tempfile.mkdtemp(prefix="paxos-demo-")) if directory is None else directory
    result = Result(plan=plan, directory=str(folder))
    started = time.monotonic()
    stage.opened(plan)
    with LocalCluster.create(folder, plan.f, name="demo", profile=plan.profile) as cluster:
        try:
            _play(cluster, plan, stage, result)
        except (ClusterError, BenchError, HistoryError, NodeError) as error:
            result.error = str(error)
        except KeyboardInterrupt:
            cluster.kill_all()
            if is_temporary and not keep:
                shutil.rmtree(folder, ignore_errors=True)
            raise
    result.seconds = time.monotonic() - started
    if is_temporary and not keep and result.verdict is Verdict.OK:
        shutil.rmtree(folder, ignore_errors=True)
        result.directory = ""
    stage.closed(result)
    return result


def _play(cluster: LocalCluster, plan: Plan, stage: Stage, result: Result) -> None:
    count = len(cluster.members)
    with stage.doing(f"Starting {count} nodes ..."):
        before = time.monotonic()
        cluster.start()
        cluster.wait_ready()
        result.leader = cluster.leader()
        took = time.monotonic() - before
    stage.done(f"{count} nodes, each a process with its own disk", f"ready after {took:.1f} s")
    stage.nodes("demo", _until_linked(cluster))
    _bench(cluster, plan, stage, result)
    survivors = {node: cluster.apis[node] for node in cluster.members if cluster.state(node) == RUNNING}
    with stage.doing("Comparing the survivors, checking what the clients were told ..."):
        statuses, _ = wait_until_quiet(survivors, QUIET_S)
        result.checks = [*_bench_checks(plan, result), *_slot_checks(plan, statuses, result)]
        result.checks += [check for check in judge(statuses) if check.name in ("same state", "one leader")]
        result.checks.append(_history_check(cluster.directory / HISTORY, plan))
    stage.checked("What the clients were promised", result.checks)
    _rejoin(cluster, stage, result)


def _bench(cluster: LocalCluster, plan: Plan, stage: Stage, result: Result) -> None:
    leader = NodeId(result.leader)
    process = cluster.process(leader)
    assert process is not None
    history = cluster.directory / HISTORY
    arguments = [
        *("--config", str(cluster.config_path), "--clients", str(plan.clients), "-n", str(plan.requests)),
        *("--seed", str(plan.seed), "--history", str(history)),
        # The shell's own kill: a millisecond after the mark. The process is our child and was not waited for, so nobody
        # else can have its number.
        *("--at", str(plan.kill_at), "--run", f"kill -9 {process.pid}"),
    ]
    what = f"{plan.clients} clients, {plan.requests:,} transactions each; kill -9 the leader at number {plan.kill_at:,}"
    # The bench draws a bar of its own on a terminal, so nothing of ours may move meanwhile.
    stage.done(what)
    errors = cluster.directory / "bench.log"
    bench = run_bench(arguments, errors, BENCH_S, show_progress=stage.is_terminal)
    result.bench = bench
    if cluster.state(leader) != GONE:
        raise BenchError(f"node {leader} was not killed: {errors.read_text(errors='replace').strip()}")
    kill_ns = bench.marks[0].time_ns
    assert kill_ns is not None
    _measure(cluster, result, history, kill_ns)
    stage.measured(result)


def _measure(cluster: LocalCluster, result: Result, history: Path, kill_ns: int) -> None:
    """Who took over, when, and what it looked like from outside."""
    assert result.bench is not None
    successor = cluster.leader(other_than=NodeId(result.leader))
    result.successor = successor
    status = cluster.apis[successor].status()
    result.successor_round = status.round
    clock_ns = time.time_ns() - time.monotonic_ns()
    result.steps = failover_steps(cluster.apis[successor].metrics(), (kill_ns + clock_ns) / 1e9)
    answers = answer_times(history)
    leads_ms = result.steps[-1].after_ms if result.steps else 0.0
    result.first_answer_ms = first_answer_ms(answers, kill_ns, leads_ms)
    result.timeline = make_timeline(answers, kill_ns, result.first_answer_ms)


def _until_linked(cluster: LocalCluster) -> Statuses:
    """The nodes once all have found the returned one again (they dial it at least once a second), or soon after."""
    deadline = time.monotonic() + LINKED_S
    while True:
        statuses = cluster.statuses()
        known = [status for status in statuses.values() if isinstance(status, NodeStatus)]
        if all(_is_fine(status) for status in known) or time.monotonic() > deadline:
            return statuses
        time.sleep(0.05)


def _is_fine(status: NodeStatus) -> bool:
    return all(peer.up and not peer.suspected for peer in status.peers.values())


def answer_times(history: Path) -> list[int]:
    """The times of all answers in a history file, ascending."""

    class Line(msgspec.Struct):
        type: str
        time: int

    decode = msgspec.json.Decoder(Line).decode
    with history.open("rb") as file:
        return sorted(line.time for line in map(decode, file) if line.type == "ok")


def first_answer_ms(answers: list[int], kill_ns: int, leads_ms: float) -> float | None:
    """From the kill to the first answer of the new leader, which leads from `leads_ms` after the kill on. Answers that
    the old one had sent before it died may still arrive after the kill, but they come before that."""
    after = next((time_ns for time_ns in answers if time_ns >= kill_ns + leads_ms * 1e6), None)
    return None if after is None else (after - kill_ns) / 1e6


def _bench_checks(plan: Plan, result: Result) -> list[Check]:
    assert result.bench is not None
    together = result.bench.together
    name = "every transaction was answered"
    if together.answered == plan.total:
        return [Check(name, Verdict.OK, f"{together.answered:,} of {plan.total:,}")]
    # Not a broken guarantee, but then the number of commands cannot be told either.
    text = f"{together.answered:,} of {plan.total:,}; {together.refused:,} refused, {together.unknown:,} unknown"
    return [Check(name, Verdict.UNKNOWN, text)]


def _slot_checks(plan: Plan, statuses: Statuses, result: Result) -> list[Check]:
    """Exactly as many commands in effect as there were transactions; and every slot is accounted for."""
    known = [status for status in statuses.values() if isinstance(status, NodeStatus)]
    if not known:
        raise ClusterError("no node answers")
    status = known[0]
    result.slots = status.adu + 1
    result.commands, result.noops, result.duplicates = (
        status.commands.applied,
        status.commands.noops,
        status.commands.duplicates,
    )
    total = plan.total
    counts = {one.commands.applied for one in known}
    exact = Check(
        f"exactly {total:,} took effect, none of them twice",
        Verdict.OK if counts == {total} else Verdict.VIOLATION,
        f"{' and '.join(f'{count:,}' for count in sorted(counts))} on each of {len(known)} nodes",
    )
    slots = {one.adu + 1 for one in known}
    adds_up = slots == {result.commands + result.noops + result.duplicates}
    text = f"{result.slots:,} = {result.commands:,} commands + {result.noops:,} no-ops + {result.duplicates:,} repeats"
    if result.slots > total and adds_up:
        text += " without effect, left by the change of leader"
    return [exact, Check("every slot is accounted for", Verdict.OK if adds_up else Verdict.VIOLATION, text)]


def _history_check(history: Path, plan: Plan) -> Check:
    name = "what the clients saw is linearizable"
    checked = check_files([history])
    recorded: History[Any, Any] = checked.history
    outcome = checked.verdict.outcome
    verdict = {Outcome.OK: Verdict.OK, Outcome.VIOLATION: Verdict.VIOLATION, Outcome.UNKNOWN: Verdict.UNKNOWN}[outcome]
    if verdict is Verdict.OK:
        return Check(name, verdict, f"{len(recorded.operations):,} operations by {plan.clients} clients")
    return Check(name, verdict, "; ".join(checked.lines()[:12]))


def _rejoin(cluster: LocalCluster, stage: Stage, result: Result) -> None:
    node = NodeId(result.leader)
    with stage.doing(f"Starting node {node} again ..."):
        before = time.monotonic()
        cluster.start(node)
        cluster.wait_ready()
        statuses, _ = wait_until_quiet(cluster.apis, QUIET_S)
        result.rejoin_s = time.monotonic() - before
        result.checks_after = judge(statuses)
        statuses = _until_linked(cluster)
    stage.done(f"Node {node} is started again, from its own disk", f"caught up after {result.rejoin_s:.1f} s")
    stage.nodes("demo", statuses)
    stage.checked(f"After node {node} has come back", result.checks_after)
