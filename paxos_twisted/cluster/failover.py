"""How long clients wait when something happens to a node: the same fault again and again, under load."""

import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec
from paxos_twisted_client.endpoints import parse_address
from paxos_twisted_client.statistics import percentile
from twisted.internet.threads import deferToThread

from paxos_twisted.cluster.load import Load, LoadError
from paxos_twisted.cluster.local import ClusterError, LocalCluster
from paxos_twisted.cluster.nemesis import Nemesis, Round, Stuck

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
    reactor: Any, plan: Plan, cluster: LocalCluster, on_progress: Callable[[Report], object] = lambda report: None
) -> Report:
    """Measure on `cluster` (made, not started). The caller ends its processes."""
    rng = Random(plan.seed)
    started = time.monotonic()
    target = target_of(plan.kind, cluster.config.settings.delay_ms, plan.times)
    report = Report(plan=plan, target=target)
    load = Load(
        reactor,
        [parse_address(address) for address in cluster.config.addresses.values()],
        cluster=cluster.config.shared.cluster,
        clients=plan.clients,
        accounts=ACCOUNTS,
        rng=Random(rng.getrandbits(64)),
        records=False,
    )
    nemesis = Nemesis(reactor, cluster, load, rng)
    try:
        cluster.start()
        await deferToThread(cluster.wait_ready)
        load.run()
        for _ in range(plan.times):
            await nemesis.pause(rng.uniform(*PAUSE_S))
            _add(report, await nemesis.round(KINDS[plan.kind]))
            report.answered, report.seconds = load.answered, time.monotonic() - started
            on_progress(report)
    except (Stuck, LoadError, ClusterError) as error:
        report.trouble = str(error)
    finally:
        await load.close()
    return report


def _add(report: Report, done: Round) -> None:
    report.gaps_ms.append(round(done.gap_ms, 3))
    report.repair_gaps_ms.append(round(done.repair_gap_ms, 3))
    report.leader_changes += done.leader_changed


def _rank(values: list[float], percent: int) -> float:
    ordered = sorted(round(value * 1000) for value in values)
    return percentile(ordered, percent) / 1000 if ordered else 0.0
