"""Times on one clock, from the files of a scenario: answers, faults, who followed whom, and the anatomy of each wait.

The clock is the monotonic one of the host with the load. Nodes' clocks are shifted by what `paxosctl events` has
measured; without it (an older run) they are taken to be the same, as they are in a virtual lab.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from paxos_twisted.anatomy.facts import Event, Facts, Fault
from paxos_twisted.anatomy.sources import Calls, Clocks, calls_of_history, events_of_collected, events_of_log, merged
from paxos_twisted.anatomy.sources import offsets as offsets_of
from paxos_twisted.anatomy.split import Anatomy, NoFailover, split
from paxos_twisted.report.folder import Folder, answered_nodes
from paxos_twisted.report.model import DOWN, FROZEN, Answer, Evidence, Mark, Scenario, Span

NS = 1_000_000_000
MS = 1_000_000

SETTLED_S = 30.0
"""Waits that end later than this after a fault are not its effect any more."""

DISTURBING_NS = 10 * MS
"""A shorter wait is an ordinary request; a fault that causes no longer one has no anatomy."""


def gather(folder: Folder, found: Scenario) -> None:
    """Fill in what a scenario's plots and anatomies are made from. What is missing in the files is left out."""
    host = folder.about["load_host"]
    clocks, uncertainty_ns = _clocks(folder, host)
    if clocks is None:
        found.why_no_anatomy = "the load has left no times"
        return
    calls = [
        call
        for name in folder.hosts
        if name == host
        for call in calls_of_history(folder.text(name, "history.jsonl").splitlines())
    ]
    ids = {node["host"]: int(node["id"]) for node in folder.about["nodes"]}
    events = merged(
        events_of_collected(folder.json(host, "after/events.json"), clocks),
        *(events_of_log(folder.log(name), node, clocks) for name, node in ids.items()),
    )
    faults = _faults(folder, clocks, ids)
    addresses = {node["address"]: int(node["id"]) for node in folder.about["nodes"] if "address" in node}
    begun_ns = faults[0].begun_ns if faults else _begin(calls)
    dissect(found, faults, calls, events, uncertainty_ns, addresses)
    zero_ns = begun_ns
    if found.anatomies and found.anatomies[0].fault_ms is not None and found.evidence.begins_s:
        zero_ns = round(found.evidence.begins_s[0] * NS + found.anatomies[0].fault_ms * MS)
    found.evidence.begins_s = [begin_s - zero_ns / NS for begin_s in found.evidence.begins_s]
    found.evidence.answers = answers_of(calls, zero_ns)
    found.evidence.marks = _marks(folder, clocks, ids, zero_ns)
    stop_s = max((answer.at_s for answer in found.evidence.answers), default=0.0)
    start_s = min((answer.at_s for answer in found.evidence.answers), default=0.0)
    known = answered_nodes(folder.json(host, "before/verify.json"))
    leaders = {int(node): status["leader"] for node, status in known.items() if "leader" in status}
    found.evidence.lanes = lanes_of(events, sorted(ids.values()), start_s, stop_s, zero_ns, leaders)
    _overlay(found.evidence, folder, clocks, ids, events, zero_ns)


def dissect(
    found: Scenario,
    faults: Sequence[Fault],
    calls: Sequence[Calls],
    events: Sequence[Event],
    uncertainty_ns: int,
    addresses: Mapping[str, int],
) -> None:
    """The anatomy of each client's longest wait after each fault."""
    for index, fault in enumerate(faults):
        until_ns = faults[index + 1].begun_ns if index + 1 < len(faults) else fault.done_ns + round(SETTLED_S * NS)
        wins = [event.time_ns for event in events if event.event == "leader" and event.peer == event.node]
        # What begins after somebody has taken over is not the effect of the fault, however slow the machine is then.
        until_ns = min([until_ns, *(win_ns for win_ns in wins if win_ns > fault.begun_ns)])
        of_fault: list[tuple[Anatomy, int]] = []
        for call in calls:
            wait = call.longest_wait(fault.begun_ns, until_ns)
            if wait is None or wait.length_ns < DISTURBING_NS:
                continue
            try:
                facts = Facts(wait, tuple(events), fault, uncertainty_ns, dict(addresses))
                of_fault.append((split(facts), wait.start_ns))
            except NoFailover as reason:
                found.why_no_anatomy = str(reason)
        if of_fault:
            of_fault.sort(key=lambda pair: -pair[0].gap_ms)
            found.anatomies.append(of_fault[0][0])
            found.evidence.begins_s.append(of_fault[0][1] / NS)
            found.anatomies_of_clients.append([anatomy for anatomy, _ in of_fault])
    if found.anatomies:
        found.why_no_anatomy = ""
    elif faults and not found.why_no_anatomy:
        found.why_no_anatomy = "no client waited noticeably"


def answers_of(calls: Sequence[Calls], zero_ns: int) -> list[Answer]:
    """The answers of all clients, in the order of time."""
    found = [
        Answer((at_ns - zero_ns) / NS, rtt_ns / MS, call.client) for call in calls for at_ns, rtt_ns in call.answers
    ]
    return sorted(found, key=lambda answer: answer.at_s)


def lanes_of(
    events: Sequence[Event],
    nodes: Sequence[int],
    start_s: float,
    stop_s: float,
    zero_ns: int,
    leaders: Mapping[int, int] | None = None,
) -> dict[str, list[Span]]:
    """Whom each node followed, by its own word. `leaders`: at the beginning, if events do not go back so far. What is
    not known is left out."""
    lanes: dict[str, list[Span]] = {}
    for node in nodes:
        spans: list[Span] = []
        leader, since_s = (leaders or {}).get(node), start_s
        for event in events:
            if event.node != node or event.event not in ("leader", "started"):
                continue
            at_s = (event.time_ns - zero_ns) / NS
            told = -1 if event.event == "started" or event.peer is None else event.peer
            if at_s > since_s and told != leader:
                if leader is not None:
                    spans.append(Span(since_s, min(at_s, stop_s), leader))
                since_s = at_s
            leader = told
            if at_s >= stop_s:
                break
        if since_s < stop_s and leader is not None:
            spans.append(Span(since_s, stop_s, leader))
        lanes[str(node)] = [span for span in spans if span.stop_s > span.start_s]
    return lanes


def cover(lane: list[Span], start_s: float, stop_s: float, what: int) -> list[Span]:
    """A lane in which [start, stop) is `what`."""
    found = []
    for span in lane:
        if span.start_s < start_s:
            found.append(Span(span.start_s, min(span.stop_s, start_s), span.leader))
        if span.stop_s > stop_s:
            found.append(Span(max(span.start_s, stop_s), span.stop_s, span.leader))
    end_s = max((span.stop_s for span in lane), default=stop_s)
    if start_s < end_s:
        found.append(Span(start_s, min(stop_s, end_s), what))
    return sorted(found, key=lambda span: span.start_s)


def _clocks(folder: Folder, host: str) -> tuple[Clocks | None, int]:
    collected = folder.json(host, "after/events.json")
    offsets_ns, uncertainty_ns = offsets_of(collected)
    if "monotonic_ns" in collected:
        return Clocks(collected["unix_ns"], collected["monotonic_ns"], offsets_ns), uncertainty_ns
    clock = folder.json(host, "bench.json").get("clock")
    if clock:
        return Clocks(clock["unix_ns"], clock["monotonic_ns"]), uncertainty_ns
    times = folder.json(host, "after/times.json")
    if "begun_mono_ns" in times:
        return Clocks(times["begun_ns"], times["begun_mono_ns"]), uncertainty_ns
    return None, 0


def _begin(calls: Sequence[Calls]) -> int:
    return min((at_ns - rtt_ns for call in calls for at_ns, rtt_ns in call.answers[:1]), default=0)


def _faults(folder: Folder, clocks: Clocks, ids: Mapping[str, int]) -> list[Fault]:
    """One for each time that the load called for one."""
    host = folder.about["load_host"]
    records = [record for record in folder.faults() if "struck_ns" in record]
    found = []
    for call in folder.lines(host, "trigger.jsonl"):
        called_ns = clocks.monotonic_ns(call["asked_ns"]) if "asked_ns" in call else None
        if called_ns is None:
            continue
        struck = [record for record in records if (record.get("argument") or record.get("host")) in call["nodes"]]
        spans = [_span(record, clocks, ids) for record in struck]
        if not spans:
            continue
        found.append(
            Fault(
                max(called_ns, min(begun_ns for begun_ns, _ in spans)),
                max(done_ns for _, done_ns in spans),
                frozenset(ids[name] for name in call["nodes"] if name in ids),
            )
        )
    return sorted(found, key=lambda fault: fault.begun_ns)


def _span(record: Mapping[str, Any], clocks: Clocks, ids: Mapping[str, int]) -> tuple[int, int]:
    node = ids.get(str(record.get("host"))) if not record.get("argument") else None
    return clocks.monotonic_ns(record["striking_ns"], node), clocks.monotonic_ns(record["struck_ns"], node)


def _marks(folder: Folder, clocks: Clocks, ids: Mapping[str, int], zero_ns: int) -> list[Mark]:
    found = []
    for record in folder.faults():
        who = record.get("argument") or record.get("host", "")
        node = ids.get(str(record.get("host"))) if not record.get("argument") else None
        words = (("struck_ns", f"{folder.about['fault']} {who}"), ("healing_ns", "mended"))
        for key, text in words:
            if key in record:
                found.append(Mark((clocks.monotonic_ns(record[key], node) - zero_ns) / NS, text.strip()))
    return sorted(found, key=lambda mark: mark.at_s)


_STILL = {"kill": DOWN, "power-cut": DOWN, "freeze": FROZEN}


def _overlay(
    evidence: Evidence, folder: Folder, clocks: Clocks, ids: Mapping[str, int], events: Sequence[Event], zero_ns: int
) -> None:
    """A dead process does not say that it is dead, and a frozen one not that it does not move."""
    what = _STILL.get(folder.about["fault"])
    if what is None:
        return
    for fault in _faults(folder, clocks, ids):
        for node in fault.nodes:
            key = "started" if what == DOWN else None
            back = [
                event.time_ns
                for event in events
                if event.node == node and event.time_ns > fault.done_ns and (key is None or event.event == key)
            ]
            mended = [mark.at_s for mark in evidence.marks if mark.text == "mended"]
            stop_s = (min(back) - zero_ns) / NS if back else min(mended, default=float("inf"))
            lane = evidence.lanes.get(str(node), [])
            evidence.lanes[str(node)] = cover(lane, (fault.done_ns - zero_ns) / NS, stop_s, what)
