"""What a report says."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from paxos_twisted.anatomy import split
from paxos_twisted.anatomy.split import Anatomy

OK, VIOLATION, UNKNOWN, MISSED, SKIPPED = "ok", "violation", "unknown", "missed", "skipped"
MARKS = {OK: "✓", VIOLATION: "✗", UNKNOWN: "?", MISSED: "!", SKIPPED: "–"}
WORDS = {
    OK: "All properties hold.",
    VIOLATION: "A property was VIOLATED.",
    UNKNOWN: "Not everything could be judged.",
    MISSED: "All properties hold; clients waited longer than promised.",
}

COLOURS = {
    split.BEFORE: "#d7dce2",
    split.DOWN: "#6b7280",
    split.DETECT: "#c8553d",
    split.ELECT: "#e9a23b",
    split.PHASE1: "#7fa650",
    split.FILL: "#2f8f83",
    split.CLIENT_TIMEOUT: "#8e5ea2",
    split.RECONNECT: "#5c8fd6",
    split.FIRST_COMMIT: "#2b5c8a",
}
"""Of the phases, everywhere in the report; told apart also without red and green, and in print."""

DOWN, FROZEN = -2, -3
"""Instead of a leader in a lane: the node's process is not there, or does not move."""


@dataclass
class Check:
    """One property, and whether it holds."""

    name: str
    verdict: str
    text: str


@dataclass
class Answer:
    """One answer of one client."""

    at_s: float
    """When it came, on the scenario's clock."""
    rtt_ms: float
    client: str


@dataclass
class Mark:
    """A moment that plots show."""

    at_s: float
    text: str


@dataclass
class Span:
    """A piece of a node's lane."""

    start_s: float
    stop_s: float
    leader: int
    """Whom the node followed; -1: nobody; DOWN, FROZEN."""


@dataclass
class Evidence:
    """What plots are made from. Second 0 is the first fault, or the beginning of the load."""

    answers: list[Answer] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    lanes: dict[str, list[Span]] = field(default_factory=dict)
    begins_s: list[float] = field(default_factory=list)
    """When the wait of each of the scenario's anatomies began."""


@dataclass
class Scenario:
    """What one scenario has shown."""

    name: str
    title: str
    verdict: str = OK
    checks: list[Check] = field(default_factory=list)
    clients: list[dict[str, Any]] = field(default_factory=list)
    """The lab's table, a row for each client."""
    gap_ms: float | None = None
    timeout_share: float | None = None
    leader_changes: int | None = None
    leaders: list[int | None] = field(default_factory=list)
    """Before and after."""
    anatomies: list[Anatomy] = field(default_factory=list)
    """Of the client that waited longest, for each fault."""
    anatomies_of_clients: list[list[Anatomy]] = field(default_factory=list)
    """Of all clients, for each fault."""
    why_no_anatomy: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What happened when, by the wall clock: the fault, its healing, and what nodes say about leadership."""
    compared: str = ""
    """Clients at once beside a client alone, when the run has both. [L5-113]"""
    raw: dict[str, str] = field(default_factory=dict)
    """Files beside the report, by what they are."""
    about: dict[str, Any] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)


@dataclass
class Run:
    """Everything that belongs into one report."""

    name: str
    title: str
    scenarios: list[Scenario]
    facts: dict[str, str] = field(default_factory=dict)
    """Versions, machines, settings."""
    settings: str = ""
    """The cluster's configuration."""

    @property
    def verdict(self) -> str:
        """Of all scenarios together."""
        return worst_of(one.verdict for one in self.scenarios) if self.scenarios else UNKNOWN

    def as_json(self) -> dict[str, Any]:
        """Without the points of plots: they stand in the histories."""
        scenarios = []
        for one in self.scenarios:
            told = {key: value for key, value in asdict(one).items() if key not in ("evidence", "anatomies_of_clients")}
            told["anatomies"] = [anatomy_json(anatomy) for anatomy in one.anatomies]
            told["leader_timeline"] = {
                node: [asdict(span) for span in spans] for node, spans in one.evidence.lanes.items()
            }
            scenarios.append(told)
        facts: Mapping[str, Any] = {"run": self.name, "verdict": self.verdict, "facts": self.facts}
        return {**facts, "settings": self.settings, "scenarios": scenarios}


def anatomy_json(anatomy: Anatomy) -> dict[str, Any]:
    """An anatomy with its sums."""
    return {
        **asdict(anatomy),
        "phases_ms": {phase: round(ms, 3) for phase, ms in anatomy.phases_ms.items()},
        "timers_ms": {timer: round(ms, 3) for timer, ms in anatomy.timers_ms.items()},
        "timer_share": round(anatomy.timer_share, 4),
        "remainder_ms": round(anatomy.remainder_ms, 3),
        "is_explained": anatomy.is_explained,
    }


def worst_of(verdicts: Iterable[str]) -> str:
    """A violation wins over what could not be told, that over a missed target."""
    found = set(verdicts)
    return next((verdict for verdict in (VIOLATION, UNKNOWN, MISSED) if verdict in found), OK)
