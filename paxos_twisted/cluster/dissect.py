"""The anatomy of failovers that were just made: what clients and nodes of a local cluster tell about them."""

import platform
import time
from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import twisted
from paxos_twisted_client.statistics import summarize

from paxos_twisted import __version__
from paxos_twisted.anatomy.facts import Event, Facts, Fault, Wait
from paxos_twisted.anatomy.sources import Clocks, events_of_collected, merged
from paxos_twisted.anatomy.split import Anatomy, NoFailover, split
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.cluster.nemesis import Round
from paxos_twisted.ctl.events import collect
from paxos_twisted.report import model
from paxos_twisted.report.evidence import cover, lanes_of

MS: Final = 1_000_000
NS: Final = 1_000_000_000

AROUND_NS: Final = NS
"""Answers are kept that came so long before and after a wait: a picture shows no more."""

RTTS_KEPT: Final = 200_000
"""Round-trip times of each client that its statistics are made from; of more, a random sample."""


def events_of(cluster: LocalCluster) -> tuple[Event, ...]:
    """What all running nodes remember, by our monotonic clock. All processes here read the same clock, so nothing is
    to be corrected. Asks all nodes."""
    told = msgspec.to_builtins(collect(cluster.apis))
    return merged(events_of_collected(told, Clocks(time.time_ns(), time.monotonic_ns())))


def dissect(
    cluster: LocalCluster, events: Sequence[Event], fault: Fault | None, waits: Sequence[Wait]
) -> list[Anatomy]:
    """The anatomy of each client's wait, the longest one first; of none, if leadership did not move."""
    addresses = {address: int(node) for node, address in cluster.config.addresses.items()}
    found = []
    for wait in waits:
        try:
            found.append(split(Facts(wait, tuple(events), fault, 0, addresses)))
        except NoFailover:
            continue
    return sorted(found, key=lambda anatomy: -anatomy.gap_ms)


class _Failover(NamedTuple):
    anatomies: list[Anatomy]
    begin_ns: int
    """Of the longest wait."""
    fault: Fault
    answers: list[tuple[int, int, int]]


class Evidence:
    """Collects what the written report of several failovers shows."""

    def __init__(self, seed: int) -> None:
        self.events: tuple[Event, ...] = ()
        self.failovers: list[_Failover] = []
        self.rtts_ns: dict[int, list[int]] = {}
        self.counts: dict[int, int] = {}
        self._recent: list[tuple[int, int, int]] = []
        self._rng = Random(seed)

    def on_answer(self, client: int, started_ns: int, finished_ns: int) -> None:
        """One answer."""
        self._recent.append((client, started_ns, finished_ns))
        count = self.counts[client] = self.counts.get(client, 0) + 1
        kept = self.rtts_ns.setdefault(client, [])
        if len(kept) < RTTS_KEPT:
            kept.append(finished_ns - started_ns)
        elif (place := self._rng.randrange(count)) < RTTS_KEPT:
            kept[place] = finished_ns - started_ns

    def add(self, done: Round, anatomies: list[Anatomy], events: Sequence[Event]) -> None:
        """One fault and what came of it."""
        self.events = merged(self.events, events)
        recent, self._recent = self._recent, []
        if not anatomies or done.fault is None:
            return
        wait = max(done.waits, key=lambda wait: wait.length_ns)
        first_ns, last_ns = wait.start_ns - AROUND_NS, wait.end_ns + AROUND_NS
        near = [answer for answer in recent if first_ns <= answer[2] <= last_ns]
        self.failovers.append(_Failover(anatomies, wait.start_ns, done.fault, near))

    def scenario(self, name: str, title: str, checks: list[model.Check], members: Sequence[int]) -> model.Scenario:
        """All failovers as one scenario of a report."""
        found = model.Scenario(name, title, checks=checks, verdict=model.worst_of(check.verdict for check in checks))
        found.about = {"fault": name}
        found.anatomies = [failover.anatomies[0] for failover in self.failovers]
        found.anatomies_of_clients = [failover.anatomies for failover in self.failovers]
        found.clients = [self._row(client) for client in sorted(self.rtts_ns)]
        if not self.failovers:
            return found
        longest = max(found.anatomies, key=lambda anatomy: anatomy.gap_ms)
        found.gap_ms, found.timeout_share = longest.gap_ms, longest.timer_share
        zero_ns = self.failovers[0].fault.begun_ns
        evidence = found.evidence
        evidence.begins_s = [(failover.begin_ns - zero_ns) / NS for failover in self.failovers]
        evidence.answers = [
            model.Answer((finished_ns - zero_ns) / NS, (finished_ns - started_ns) / MS, str(client + 1))
            for failover in self.failovers
            for client, started_ns, finished_ns in failover.answers
        ]
        evidence.marks = [model.Mark((failover.fault.begun_ns - zero_ns) / NS, name) for failover in self.failovers]
        first_s, last_s = evidence.answers[0].at_s, evidence.answers[-1].at_s
        evidence.lanes = lanes_of(self.events, members, first_s, last_s, zero_ns)
        state = {"kill": model.DOWN, "freeze": model.FROZEN}.get(name)
        if state is not None:
            for failover in self.failovers:
                self._overlay(evidence, failover.fault, state, zero_ns)
        return found

    def _overlay(self, evidence: model.Evidence, fault: Fault, state: int, zero_ns: int) -> None:
        """From the fault until it says something again, a node is dead or does not move."""
        for node in fault.nodes:
            words = [event.time_ns for event in self.events if event.node == node and event.time_ns > fault.done_ns]
            back_s = (min(words) - zero_ns) / NS if words else float("inf")
            lane = evidence.lanes.get(str(node), [])
            evidence.lanes[str(node)] = cover(lane, (fault.done_ns - zero_ns) / NS, back_s, state)

    def _row(self, client: int) -> dict[str, Any]:
        summary = summarize(self.rtts_ns[client])
        return {
            "host": "here",
            "client": client + 1,
            "count": self.counts[client],
            "mean": summary.mean / MS,
            "min": summary.minimum / MS,
            "max": summary.maximum / MS,
            "median": summary.median / MS,
            "stdev": summary.deviation / MS,
            "p99": summary.percentile_99 / MS,
            "gap_ms": summary.maximum / MS,
        }


def run_facts(cluster: LocalCluster) -> dict[str, str]:
    """Versions and the machine."""
    return {
        "paxos-twisted": __version__,
        "Python": platform.python_version(),
        "Twisted": twisted.__version__,
        "machine": f"{platform.system()} {platform.release()}, {platform.machine()}; all nodes and clients on it",
        "nodes": f"{len(cluster.members)}, each a process with its own disk",
    }
