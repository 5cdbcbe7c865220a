"""The soak: harm without end against real processes under load, and after every few rounds the proof of innocence."""

import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec
from paxos_twisted_client.endpoints import parse_address
from paxos_twisted_client.statistics import percentile
from twisted.internet.threads import deferToThread

from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.load import Load, LoadError
from paxos_twisted.cluster.local import ClusterError, LocalCluster
from paxos_twisted.cluster.nemesis import Nemesis, Round, Stuck
from paxos_twisted.cluster.soaked import SOAKED, AnyHistory
from paxos_twisted.ctl.agreement import LEADERLESS, Check, Verdict, judge, verdict_of, wait_until_quiet

QUIET_S: Final = 30.0
"""At rest all nodes hold the same within milliseconds."""

ROUNDS: Final = "rounds.jsonl"
"""One line a round: its number, then the fields of `Round`."""

CONFIG: Final = "snapshot_every: 1000\n"
"""Often, so that snapshots, truncation and state transfer are under fire too."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    rounds: int
    seconds: float | None = None
    """End after the round in which this time is over, if the rounds are not over before."""
    seed: int
    f: int = 1
    engine: str = "multipaxos"
    application: str = "bank"
    clients: int = 6
    outstanding: int = 3
    accounts: int = 24
    """Or keys, rooms, auctions."""
    think_s: float = 0.006
    window: int = 4
    """Rounds between two proofs."""
    kinds: tuple[str, ...] = ()
    """Only these faults; empty: all."""


class KindReport(msgspec.Struct):
    """All rounds of one kind of fault."""

    rounds: int
    median_ms: float
    worst_ms: float
    leader_changes: int


class Report(msgspec.Struct, kw_only=True):
    """What has happened so far."""

    plan: Plan
    directory: str
    rounds: int = 0
    windows: int = 0
    undecided: int = 0
    answered: int = 0
    refused: int = 0
    unknown: int = 0
    checked: int = 0
    seconds: float = 0.0
    kinds: dict[str, KindReport] = {}
    violation: list[str] = []
    """Why it ended early; empty: nothing was violated."""
    evidence: str | None = None
    """Where all that is known of the violation lies."""

    @property
    def verdict(self) -> Verdict:
        """Of all windows."""
        if self.violation:
            return Verdict.VIOLATION
        return Verdict.UNKNOWN if self.undecided else Verdict.OK


class Gaps:
    """Gaps by kind of fault. A number a round."""

    def __init__(self) -> None:
        self._gaps: dict[str, list[float]] = {}
        self._changes: dict[str, int] = {}

    def add(self, done: Round) -> None:
        """Note a round."""
        self._gaps.setdefault(done.kind, []).append(done.gap_ms)
        self._changes[done.kind] = self._changes.get(done.kind, 0) + done.leader_changed

    def report(self) -> dict[str, KindReport]:
        """Median and worst of each kind, by name."""
        kinds = {}
        for kind, gaps in sorted(self._gaps.items()):
            ordered = sorted(round(gap * 1000) for gap in gaps)
            median = percentile(ordered, 50) / 1000
            kinds[kind] = KindReport(len(gaps), median, ordered[-1] / 1000, self._changes[kind])
        return kinds


class _Violated(Exception):
    """A window is not as it should be."""


async def run_soak(
    reactor: Any, plan: Plan, cluster: LocalCluster, on_progress: Callable[[Report], object] = lambda report: None
) -> Report:
    """Torture `cluster` (made, not started) as planned. The caller ends its processes."""
    soak = _Soak(reactor, plan, cluster, on_progress)
    try:
        await soak.run()
    except (_Violated, Stuck, LoadError, ClusterError) as error:
        soak.report.violation = str(error).splitlines()
        soak.keep_evidence()
    finally:
        soak.note_progress()
        await soak.close()
    return soak.report


class _Soak:
    def __init__(
        self, reactor: Any, plan: Plan, cluster: LocalCluster, on_progress: Callable[[Report], object]
    ) -> None:
        self.plan = plan
        self.cluster = cluster
        self.report = Report(plan=plan, directory=str(cluster.directory))
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._gaps = Gaps()
        application = SOAKED[plan.application](plan.accounts)
        self._judge = application.judge()
        self._window: AnyHistory | None = None
        rng = Random(plan.seed)
        self.load = Load(
            reactor,
            [parse_address(address) for address in cluster.config.addresses.values()],
            cluster=cluster.config.shared.cluster,
            clients=plan.clients,
            accounts=plan.accounts,
            rng=Random(rng.getrandbits(64)),
            outstanding=plan.outstanding,
            think_s=plan.think_s,
            application=application,
            spread=True,
        )
        self._nemesis = Nemesis(reactor, cluster, self.load, rng, is_leaderless=plan.engine in LEADERLESS)
        self._rng = rng
        self._rounds = (cluster.directory / ROUNDS).open("ab", buffering=0)

    async def run(self) -> None:
        plan, report = self.plan, self.report
        self.cluster.start()
        await deferToThread(self.cluster.wait_ready)
        self.load.run()
        while report.rounds < plan.rounds and not self._is_over():
            kind = self._rng.choice(plan.kinds) if plan.kinds else self._nemesis.draw()
            done = await self._nemesis.round(kind)
            self._gaps.add(done)
            report.rounds += 1
            self._rounds.write(msgspec.json.encode((report.rounds, *done)) + b"\n")
            if report.rounds % plan.window == 0:
                await self._prove()
                self.load.run()
            self.note_progress()
        await self._prove()

    def note_progress(self) -> None:
        load, report = self.load, self.report
        report.answered, report.refused, report.unknown = load.answered, load.refused, load.unknown
        report.checked, report.undecided = self._judge.checked, self._judge.undecided
        report.kinds = self._gaps.report()
        report.seconds = time.monotonic() - self._started
        self._on_progress(report)

    async def close(self) -> None:
        """End the clients."""
        self._rounds.close()
        await self.load.close()

    def keep_evidence(self) -> None:
        """Write down what would be lost with this process; logs, data and rounds lie there already."""
        folder = self.cluster.directory / "evidence"
        folder.mkdir(exist_ok=True)
        (folder / "why.txt").write_text("\n".join(self.report.violation) + "\n", encoding="utf-8")
        (folder / "plan.json").write_bytes(msgspec.json.format(msgspec.json.encode(self.plan), indent=2))
        history = self._window if self._window is not None else self.load.history
        if history is not None:
            self._judge.keep_evidence(folder, history)
        self.report.evidence = str(folder)

    async def _prove(self) -> None:
        """Bring everything to rest, read it all, and check what happened since the last time."""
        await self.load.rest()
        readings = await self.load.audit()
        window = self._window = self.load.take()
        verdict = self._judge.check(window, readings)
        if verdict.outcome is Outcome.VIOLATION:
            raise _Violated("\n".join(verdict.text))
        checks = await deferToThread(self._compare)
        if verdict_of(checks) is not Verdict.OK:
            raise _Violated("\n".join(f"{check.name}: {check.text}" for check in checks))
        self._window = None
        self.report.windows += 1

    def _compare(self) -> list[Check]:
        statuses, _ = wait_until_quiet(self.cluster.apis, QUIET_S)
        return judge(statuses)

    def _is_over(self) -> bool:
        return self.plan.seconds is not None and time.monotonic() - self._started >= self.plan.seconds
