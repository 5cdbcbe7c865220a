"""The wait of a client, cut into the phases of the failover that caused it.

At each moment one thing keeps the client from its answer. Until the new leader is ready that is the cluster: somebody
must notice (detect), be chosen (elect), ask a majority what was voted (phase 1) and decide it again (fill). From then
on it is the client, until its request is where it belongs: it waits for a timer of its own (client timeout), or
connects and asks around (reconnect). The rest is an ordinary commit, the first one (first commit).

So the phases follow each other without gap or overlap, and their sum is the wait. What the client does while the
cluster has no leader costs nothing and is not counted: it would have had to wait anyway.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from paxos_twisted.anatomy.facts import NOBODY, Event, Facts, Step, Wait

BEFORE = "before"
DOWN = "down"
DETECT = "detect"
ELECT = "elect"
PHASE1 = "phase1"
FILL = "fill"
CLIENT_TIMEOUT = "client_timeout"
RECONNECT = "reconnect"
FIRST_COMMIT = "first_commit"

PHASES = (DETECT, ELECT, PHASE1, FILL, CLIENT_TIMEOUT, RECONNECT, FIRST_COMMIT)
"""In their order. Two more may stand around them: what came before the fault, and time in which too few nodes ran."""

NAMES = {
    BEFORE: "before the fault",
    DOWN: "nodes were down",
    DETECT: "detection",
    ELECT: "election",
    PHASE1: "phase 1",
    FILL: "gap filling",
    CLIENT_TIMEOUT: "client timeout",
    RECONNECT: "redirect, reconnect",
    FIRST_COMMIT: "first commit",
}

SUM_SPARE_MS = 5.0
SUM_SPARE_SHARE = 0.02
"""The phases make up the wait within whichever of these is more."""

TURN_NS = 2_000_000
"""A shorter wait for one's turn to campaign is the ordinary course of events, not a timer."""

DETECTOR = "failure detector's delay"

MS = 1_000_000


class NoFailover(Exception):
    """There is nothing to split: leadership did not move during this wait. The text says what is known."""


@dataclass(frozen=True)
class Part:
    """A piece of the wait."""

    phase: str
    start_ms: float
    """From the beginning of the wait."""
    stop_ms: float
    text: str
    timer: str = ""
    """The timer that had to run out; empty when nobody just waited."""

    @property
    def ms(self) -> float:
        """Its length."""
        return self.stop_ms - self.start_ms


@dataclass(frozen=True)
class Anatomy:
    """The wait and its parts."""

    client: str
    gap_ms: float
    fault_ms: float | None
    """When the fault came, from the beginning of the wait."""
    old_leader: int | None
    new_leader: int
    rnd: int | None
    attempts: int
    """Campaigns, of all nodes."""
    parts: list[Part]
    uncertainty_ms: float
    """Boundaries between parts of different machines may be off by this much."""
    notes: list[str] = field(default_factory=list)

    @property
    def phases_ms(self) -> dict[str, float]:
        """The length of each of PHASES; 0 for what did not occur."""
        return {phase: self._sum(phase) for phase in PHASES}

    @property
    def timers_ms(self) -> dict[str, float]:
        """How long each timer was waited for."""
        found: dict[str, float] = {}
        for part in self.parts:
            if part.timer:
                found[part.timer] = found.get(part.timer, 0.0) + part.ms
        return found

    @property
    def timer_share(self) -> float:
        """What part of the wait is timeouts."""
        return sum(self.timers_ms.values()) / self.gap_ms if self.gap_ms else 0.0

    @property
    def remainder_ms(self) -> float:
        """What the phases do not explain."""
        return self.gap_ms - sum(self.phases_ms.values()) - self._sum(DOWN)

    @property
    def is_explained(self) -> bool:
        """Whether the phases make up the wait."""
        return abs(self.remainder_ms) <= max(SUM_SPARE_MS, SUM_SPARE_SHARE * self.gap_ms)

    def _sum(self, phase: str) -> float:
        return sum(part.ms for part in self.parts if part.phase == phase)


@dataclass(frozen=True)
class _Election:
    """The change of leader that ended the wait."""

    winner: int
    rnd: int | None
    lost_ns: int
    lost_at: int
    """The node that gave the old leader up first."""
    noticed_ns: int
    """When the winner gave it up."""
    campaign_ns: int
    phase1_ns: int
    promised_ns: int
    filled_ns: int
    attempts: int
    started_ns: int | None
    """When the winner was started, if that was after the fault."""


def split(facts: Facts) -> Anatomy:
    """Cut a wait into its parts.

    Raises:
        NoFailover: leadership did not move.
    """
    wait = facts.wait
    fault_ns = _fault_ns(facts)
    if fault_ns is not None and fault_ns >= wait.end_ns:
        raise NoFailover("the wait was over before the fault came")
    begun_ns = wait.start_ns if fault_ns is None else max(fault_ns, wait.start_ns)
    if facts.events and not any(event.event == "leader" for event in facts.events):
        return _without_leader(facts, fault_ns)
    old = _old_leader(facts, begun_ns)
    election = _election(facts, begun_ns, old)
    cuts = _Cuts(wait.start_ns, wait.end_ns)
    if fault_ns is not None:
        cuts.until(fault_ns, BEFORE, "an ordinary request is under way")
    if election.started_ns is not None:
        cuts.until(election.started_ns, DOWN, f"node {election.winner} is not running")
    timer = _detection(facts, cuts, begun_ns, election, old)
    cuts.until(election.noticed_ns, ELECT, f"node {election.winner}, which will win, has not noticed yet", timer)
    waits_for_turn = election.campaign_ns - max(election.noticed_ns, election.lost_ns) > TURN_NS
    cuts.until(
        election.campaign_ns,
        ELECT,
        f"node {election.winner} waits for its turn to ask for votes",
        "turn to campaign" if waits_for_turn else "",
    )
    cuts.until(election.phase1_ns, ELECT, f"node {election.winner} asks who would follow it")
    cuts.until(election.promised_ns, PHASE1, f"a majority promises round {election.rnd}")
    cuts.until(election.filled_ns, FILL, "what phase 1 found is decided again")
    for stop_ns, phase, text, timer in client_phases(wait, facts.addresses):
        cuts.until(min(stop_ns, wait.sent_ns), phase, text, timer)
    cuts.until(wait.sent_ns, RECONNECT, "the client turns to the new leader")
    cuts.until(wait.end_ns, FIRST_COMMIT, f"node {election.winner} decides the request and answers")
    return Anatomy(
        client=wait.client,
        gap_ms=wait.length_ns / MS,
        fault_ms=None if fault_ns is None else (fault_ns - wait.start_ns) / MS,
        old_leader=old,
        new_leader=election.winner,
        rnd=election.rnd,
        attempts=election.attempts,
        parts=cuts.parts,
        uncertainty_ms=facts.uncertainty_ns / MS,
        notes=_notes(facts, fault_ns),
    )


def _without_leader(facts: Facts, fault_ns: int | None) -> Anatomy:
    """Nobody leads, so nobody is elected: the client finds another replica, and that one recovers what the lost one
    had left open before it can answer."""
    wait = facts.wait
    cuts = _Cuts(wait.start_ns, wait.end_ns)
    if fault_ns is not None:
        cuts.until(fault_ns, BEFORE, "an ordinary request is under way")
    for stop_ns, phase, text, timer in client_phases(wait, facts.addresses):
        cuts.until(min(stop_ns, wait.sent_ns), phase, text, timer)
    if not wait.steps:  # it is at another replica, whose commands conflict with those that the lost one had begun
        cuts.until(wait.end_ns, FILL, "what the lost replica had left open is recovered, and then the request executed")
    cuts.until(wait.sent_ns, RECONNECT, "the client turns to another replica")
    address = next((step.address for step in reversed(wait.steps) if step.what in ("welcome", "use")), "")
    text = f"{_name(facts.addresses, address)} recovers what the request conflicts with, decides it and answers"
    cuts.until(wait.end_ns, FIRST_COMMIT, text)
    return Anatomy(
        client=wait.client,
        gap_ms=wait.length_ns / MS,
        fault_ms=None if fault_ns is None else (fault_ns - wait.start_ns) / MS,
        old_leader=None,
        new_leader=facts.addresses.get(address, NOBODY),
        rnd=None,
        attempts=0,
        parts=cuts.parts,
        uncertainty_ms=facts.uncertainty_ns / MS,
        notes=_notes(facts, fault_ns),
    )


class _Cuts:
    """Parts, one behind the other. What would lie before the last cut, or outside of the wait, is left out."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.parts: list[Part] = []
        self._start_ns = self._reached_ns = start_ns
        self._end_ns = end_ns

    def until(self, stop_ns: int, phase: str, text: str, timer: str = "") -> None:
        """The part that ends at `stop_ns`."""
        stop_ns = min(stop_ns, self._end_ns)
        if stop_ns <= self._reached_ns:
            return
        start_ms, stop_ms = (self._reached_ns - self._start_ns) / MS, (stop_ns - self._start_ns) / MS
        last = self.parts[-1] if self.parts else None
        if last is not None and (last.phase, last.text, last.timer) == (phase, text, timer):
            self.parts[-1] = Part(phase, last.start_ms, stop_ms, text, timer)
        else:
            self.parts.append(Part(phase, start_ms, stop_ms, text, timer))
        self._reached_ns = stop_ns


def _fault_ns(facts: Facts) -> int | None:
    """When the fault struck, as exactly as can be told: not before it was ordered, not after somebody felt it or it was
    reported done; and within that, when answers stopped."""
    fault = facts.fault
    if fault is None:
        return None
    felt = [
        event.time_ns
        for event in facts.events
        if event.event == "link_lost" and event.peer in fault.nodes and fault.begun_ns <= event.time_ns <= fault.done_ns
    ]
    return min([max(facts.wait.start_ns, fault.begun_ns), fault.done_ns, *felt])


def _old_leader(facts: Facts, begun_ns: int) -> int | None:
    """Who led when the wait began, by the last word of any node."""
    told = [event for event in facts.events if event.event == "leader" and event.time_ns <= begun_ns]
    leaders = [event.peer for event in told if event.peer not in (None, NOBODY)]
    return leaders[-1] if leaders else None


def _election(facts: Facts, begun_ns: int, old: int | None) -> _Election:
    end_ns = facts.wait.end_ns + facts.uncertainty_ns
    from_ns = begun_ns - facts.uncertainty_ns
    events = [event for event in facts.events if from_ns <= event.time_ns <= end_ns]
    won = [event for event in events if event.event == "leader" and event.peer == event.node]
    if not won:
        if not facts.events:
            raise NoFailover("the nodes have told nothing: no events were collected")
        raise NoFailover("leadership did not move")
    winner, rnd = won[-1].node, won[-1].rnd

    def last(names: tuple[str, ...], until_ns: int, default_ns: int) -> int:
        times = [each.time_ns for each in events if each.node == winner and each.event in names]
        return max((time_ns for time_ns in times if time_ns <= until_ns), default=default_ns)

    promised_ns = last(("promised", "view"), won[-1].time_ns, won[-1].time_ns)
    phase1_ns = last(("phase1", "view_asked"), promised_ns, promised_ns)
    filled = [e.time_ns for e in events if e.node == winner and e.event == "filled" and e.time_ns >= promised_ns]
    started_ns = last(("started",), phase1_ns, 0) or None
    given_up = [
        event
        for event in events
        if event.time_ns <= phase1_ns and event.node != old and event.time_ns >= (started_ns or 0) and _is_lost(event)
    ]
    lost = given_up[0] if given_up else Event(phase1_ns, winner, "campaign")
    return _Election(
        winner=winner,
        rnd=rnd,
        lost_ns=lost.time_ns,
        lost_at=lost.node,
        noticed_ns=next((event.time_ns for event in given_up if event.node == winner), lost.time_ns),
        campaign_ns=last(("campaign",), phase1_ns, phase1_ns),
        phase1_ns=phase1_ns,
        promised_ns=promised_ns,
        filled_ns=filled[0] if filled else facts.wait.end_ns,
        attempts=sum(event.event == "campaign" for event in events if event.time_ns <= phase1_ns),
        started_ns=started_ns,
    )


def _is_lost(event: Event) -> bool:
    """Whether a node gives the leader up: it says so, trusts another one by itself, or runs for leader."""
    if event.event == "leader":
        return event.peer == NOBODY or event.cause in ("suspect", "restore")
    return event.event == "campaign"


def _detection(facts: Facts, cuts: _Cuts, begun_ns: int, election: _Election, old: int | None) -> str:
    """The parts until a node gives the old leader up. Returns the timer that had to run out for it, if any."""
    who = f"node {old}" if old is not None else "the leader"
    hints = [
        event
        for event in facts.events
        if event.node == election.lost_at
        and event.peer == old
        and event.event in ("link_lost", "link_refused")
        and begun_ns - facts.uncertainty_ns <= event.time_ns <= election.lost_ns
    ]
    if any(event.event == "link_refused" for event in hints):
        cuts.until(hints[0].time_ns, DETECT, f"the connections to {who} break")
        cuts.until(election.lost_ns, DETECT, f"node {election.lost_at} dials {who} again and is refused: it is dead")
        return ""
    causes = [
        event.cause
        for event in facts.events
        if event.event == "leader" and event.time_ns == election.lost_ns and event.node == election.lost_at
    ]
    if causes and causes[0] == "handover":
        cuts.until(election.lost_ns, DETECT, f"{who} gives up leadership by itself, and says so")
    elif election.started_ns is not None:
        cuts.until(election.lost_ns, DETECT, f"node {election.lost_at} has started and looks for the others")
    else:
        text = f"node {election.lost_at} hears nothing of {who}"
        cuts.until(election.lost_ns, DETECT, text, DETECTOR)
        return DETECTOR
    return ""


def client_phases(wait: Wait, addresses: Mapping[str, int]) -> Iterator[tuple[int, str, str, str]]:
    """What the client does, one thing after the other: (until when, phase, text, timer). `addresses` name nodes."""
    if not wait.steps:
        return
    first = wait.steps[0]
    yield (first.time_ns, *_while_asking(addresses, Step(wait.start_ns, "use"), first))
    for step, following in pairwise(wait.steps):
        yield (following.time_ns, *_while(addresses, step, following))


def _while(addresses: Mapping[str, int], step: Step, following: Step) -> tuple[str, str, str]:
    """What lies between two steps: phase, text, timer."""
    if step.what == "pause":
        return CLIENT_TIMEOUT, "the client pauses: no node that it asked leads", "client's pause"
    if step.what == "dial":
        where = _name(addresses, step.address)
        if following.cause == "timeout_dial":
            return CLIENT_TIMEOUT, f"the client dials {where} in vain", "client's dial timeout"
        if following.what == "left":
            return RECONNECT, f"the client dials {where} and is refused", ""
        return RECONNECT, f"the client connects to {where}", ""
    if step.what in ("welcome", "use"):
        return _while_asking(addresses, step, following)
    return RECONNECT, "the client turns to another node", ""


_ASKED = {
    "timeout_read": (CLIENT_TIMEOUT, "the client waits for {where}, which is silent", "client's read timeout"),
    "timeout_write": (CLIENT_TIMEOUT, "the client waits for {where}, which takes no bytes", "client's write timeout"),
    "redirect": (RECONNECT, "the client asks {where} and is redirected", ""),
    "no_leader": (RECONNECT, "the client asks {where}, which knows no leader", ""),
}


def _while_asking(addresses: Mapping[str, int], step: Step, following: Step) -> tuple[str, str, str]:
    where = _name(addresses, step.address or following.address)
    phase, text, timer = _ASKED.get(following.cause, (RECONNECT, "the client waits for {where}", ""))
    return phase, text.format(where=where), timer


def _name(addresses: Mapping[str, int], address: str) -> str:
    node = addresses.get(address)
    return f"node {node}" if node is not None else address or "the old leader"


def _notes(facts: Facts, fault_ns: int | None) -> list[str]:
    found = []
    if facts.fault is not None and fault_ns is not None:
        width_ms = (facts.fault.done_ns - facts.fault.begun_ns) / MS
        if width_ms > SUM_SPARE_MS:
            found.append(f"the command that broke the cluster took {width_ms:.0f} ms; it struck when answers stopped")
    if facts.uncertainty_ns > SUM_SPARE_MS * MS:
        found.append(f"clocks of nodes are known to {facts.uncertainty_ns / MS:.1f} ms only")
    return found


def longest(waits: Sequence[Anatomy]) -> Anatomy | None:
    """The one of the client that waited longest."""
    return max(waits, key=lambda anatomy: anatomy.gap_ms, default=None)
