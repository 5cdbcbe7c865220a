"""How long clients wait when something happens to a node: the same fault again and again, under load."""

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from paxos_twisted_client.endpoints import parse_address
from paxos_twisted_client.statistics import percentile
from twisted.internet.threads import deferToThread

from paxos_twisted.anatomy.sources import merged
from paxos_twisted.cluster.dissect import Evidence, dissect, events_of, run_facts
from paxos_twisted.cluster.load import Load, LoadError
from paxos_twisted.cluster.local import ClusterError, LocalCluster
from paxos_twisted.cluster.nemesis import Nemesis, Round, Stuck
from paxos_twisted.ctl.agreement import LEADERLESS
from paxos_twisted.report.main import write
from paxos_twisted.report.model import MISSED, OK, UNKNOWN, Check, Run, anatomy_json

KINDS: Final = {
    "kill": "kill leader",
    "freeze": "freeze leader",
    "stop": "restart leader",
    "restart": "restart follower",
    "kill-follower": "kill follower",
}
"""Names on the command line, and the faults that they mean."""

PAUSE_S: Final = (0.2, 0.4)
"""Between two faults: long enough for the clients to be in full swing, never the same phase of a heartbeat."""

ACCOUNTS: Final = 1001


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    kind: str
    times: int
    clients: int = 3
    seed: int
    f: int = 1
    engine: str = "multipaxos"

    @property
    def fault(self) -> str:
        """In the nemesis' words. Without leaders the victim is any replica, and its clients have to move on."""
        fault = KINDS[self.kind]
        return fault.replace("leader", "replica").replace("follower", "replica") if self.is_leaderless else fault

    @property
    def is_leaderless(self) -> bool:
        """Whether every node serves clients."""
        return self.engine in LEADERLESS


class Target(msgspec.Struct, frozen=True):
    """What we promise of a fault. Milliseconds; None: nothing."""

    median_ms: float | None
    worst_ms: float | None
    leader_changes: int | None
    """At most, in all rounds together."""


class Report(msgspec.Struct, kw_only=True):
    """What was measured."""

    plan: Plan
    gaps_ms: list[float] = []
    """The longest time that a client waited, for each fault."""
    repair_gaps_ms: list[float] = []
    """The same, while the node came back."""
    leader_changes: int = 0
    answered: int = 0
    seconds: float = 0.0
    target: Target
    trouble: str | None = None
    anatomies: list[dict[str, Any]] = []
    """Where the time went, for each fault that moved leadership: of the client that waited longest."""

    @property
    def median_ms(self) -> float:
        """Of the gaps, by nearest rank."""
        return _rank(self.gaps_ms, 50)

    @property
    def worst_ms(self) -> float:
        """Of the gaps."""
        return max(self.gaps_ms, default=0.0)

    @property
    def misses(self) -> list[str]:
        """Which targets are missed, one sentence each."""
        target = self.target
        found = [self.trouble] if self.trouble else []
        if target.median_ms is not None and self.median_ms > target.median_ms:
            found.append(f"median {self.median_ms:.0f} ms, {target.median_ms:.0f} ms are allowed")
        if target.worst_ms is not None and self.worst_ms > target.worst_ms:
            found.append(f"worst {self.worst_ms:.0f} ms, {target.worst_ms:.0f} ms are allowed")
        if target.leader_changes is not None and self.leader_changes > target.leader_changes:
            found.append(f"{self.leader_changes} leader changes, {target.leader_changes} are allowed")
        return found


def target_of(kind: str, delay_ms: int, times: int) -> Target:
    """The promise for a kind of fault. `delay_ms`: the failure detector's."""
    if kind == "kill":
        return Target(100, 300, times)
    if kind == "freeze":
        return Target(None, 3 * delay_ms, times)
    if kind == "stop":
        return Target(100, 300, times)
    return Target(None, None, 0)


async def run_failover(
    reactor: Any,
    plan: Plan,
    cluster: LocalCluster,
    on_progress: Callable[[Report], object] = lambda report: None,
    evidence: Evidence | None = None,
) -> Report:
    """Measure on `cluster` (made, not started). The caller ends its processes.

    Args:
        evidence: keeps what a written report is made from.
    """
    rng = Random(plan.seed)
    started = time.monotonic()
    delay_ms = cluster.config.settings.delay_ms
    target = Target(None, None, 0) if plan.is_leaderless else target_of(plan.kind, delay_ms, plan.times)
    report = Report(plan=plan, target=target)
    load = Load(
        reactor,
        [parse_address(address) for address in cluster.config.addresses.values()],
        cluster=cluster.config.shared.cluster,
        clients=plan.clients,
        accounts=ACCOUNTS,
        rng=Random(rng.getrandbits(64)),
        records=False,
        spread=plan.is_leaderless,
    )
    nemesis = Nemesis(reactor, cluster, load, rng, is_leaderless=plan.is_leaderless)
    if evidence is not None:
        load.on_answer = evidence.on_answer
    try:
        cluster.start()
        await deferToThread(cluster.wait_ready)
        load.run()
        for _ in range(plan.times):
            await nemesis.pause(rng.uniform(*PAUSE_S))
            before = await deferToThread(events_of, cluster)  # a node that is killed takes them with it
            done = await nemesis.round(plan.fault)
            _add(report, done)
            events = merged(before, await deferToThread(events_of, cluster))
            anatomies = dissect(cluster, events, done.fault, done.waits)
            report.anatomies += [anatomy_json(anatomy) for anatomy in anatomies[:1]]
            if evidence is not None:
                evidence.add(done, anatomies, events)
            report.answered, report.seconds = load.answered, time.monotonic() - started
            on_progress(report)
    except (Stuck, LoadError, ClusterError) as error:
        report.trouble = str(error)
    finally:
        await load.close()
    return report


def write_report(folder: Path, report: Report, evidence: Evidence, cluster: LocalCluster) -> None:
    """index.html, report.json and report.md.

    Raises:
        OSError: the folder cannot be written.
    """
    plan, target = report.plan, report.target
    title = f"{plan.fault.capitalize()}: {len(report.gaps_ms)} times under the load of {plan.clients} clients"
    scenario = evidence.scenario(plan.kind, title, _checks(report, target), [int(node) for node in cluster.members])
    scenario.leader_changes = report.leader_changes
    facts = {**run_facts(cluster), "seed": str(plan.seed), "answered": f"{report.answered:,} transactions"}
    run = Run(folder.name, title, [scenario], facts, cluster.config_path.read_text("utf-8"))
    write(run, folder)


def _checks(report: Report, target: Target) -> list[Check]:
    def at_most(name: str, value: float, limit: float | None, unit: str) -> list[Check]:
        if limit is None:
            return []
        return [Check(name, OK if value <= limit else MISSED, f"{value:.0f}{unit}, {limit:.0f}{unit} are promised")]

    checks = [
        Check("clients were served again after every fault", UNKNOWN if report.trouble else OK, report.trouble or ""),
        *at_most("median wait", report.median_ms, target.median_ms, " ms"),
        *at_most("longest wait", report.worst_ms, target.worst_ms, " ms"),
        *at_most("leader changes", report.leader_changes, target.leader_changes, ""),
    ]
    if report.anatomies:
        wrong = [f"{each['gap_ms']:.1f} ms" for each in report.anatomies if not each["is_explained"]]
        rest_ms = max(abs(each["remainder_ms"]) for each in report.anatomies)
        text = "not those of " + ", ".join(wrong) if wrong else f"at most {rest_ms:.2f} ms belong to no phase"
        checks.append(Check("the phases make up each wait", MISSED if wrong else OK, text))
    return checks


def _add(report: Report, done: Round) -> None:
    report.gaps_ms.append(round(done.gap_ms, 3))
    report.repair_gaps_ms.append(round(done.repair_gap_ms, 3))
    report.leader_changes += done.leader_changed


def _rank(values: list[float], percent: int) -> float:
    ordered = sorted(round(value * 1000) for value in values)
    return percentile(ordered, percent) / 1000 if ordered else 0.0
