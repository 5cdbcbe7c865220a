"""What the log and the metrics tell of a node: events as they come, gauges when somebody asks."""

from collections.abc import Callable

from twisted.logger import Logger

from paxos_twisted.core.events import (
    CampaignStarted,
    Event,
    FillEnded,
    Healed,
    LeaderChanged,
    Phase1Ended,
    Phase1Started,
    Restored,
    StateDiverged,
    SteppedDown,
    Suspected,
)
from paxos_twisted.node.metrics import Metrics
from paxos_twisted.types import NO_NODE, NodeId

log = Logger()


class Events:
    """Logs events and counts them.

    Args:
        now: seconds of a monotonic clock.
        wall: seconds since 1970, for the starts of failover phases.
    """

    def __init__(self, node: NodeId, metrics: Metrics, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self.node = node
        self.leader_changes = 0
        self._metrics = metrics
        self._now = now
        self._wall = wall
        self._phase = ""
        self._phase_from = 0.0

    def on_link_lost(self) -> None:
        """The stream to a peer was lost: perhaps the first sign of a crash."""
        if not self._phase:
            self._begin("detect")

    def on_event(self, event: Event) -> None:
        """Take note of one event."""
        metrics = self._metrics
        match event:
            case LeaderChanged():
                if event.leader == NO_NODE:
                    log.info("no leader is known ({cause})", cause=event.cause)
                else:
                    who = "this node leads" if event.leader == self.node else f"node {event.leader} leads"
                    log.info("{who} in round {rnd} ({cause})", who=who, rnd=event.rnd, cause=event.cause)
                    self.leader_changes += 1
                    metrics.leader_changes[event.cause] += 1
                    if event.leader != self.node:
                        self._phase = ""  # somebody else has won: what this node had begun leads nowhere
            case Suspected():
                metrics.suspicions[str(event.node)] += 1
                self._begin("elect")
                log.warn("node {node} is suspected ({cause})", node=event.node, cause=event.cause)
            case Restored():
                metrics.restorations[str(event.node)] += 1
                log.info(
                    "node {node} is heard again; suspicion needs {delay_ms} ms from now on",
                    node=event.node,
                    delay_ms=event.delay_ms,
                )
            case CampaignStarted():
                log.info("this node asks the others whether they would follow it")
            case Phase1Started():
                self._begin("phase1")
                log.info("phase 1 of round {rnd} for slots from {slot} on", rnd=event.rnd, slot=event.slot)
            case Phase1Ended():
                self._end_phase1(event)
            case FillEnded():
                self._begin("first_commit")
                log.info("everything that round {rnd} found is decided", rnd=event.rnd)
            case SteppedDown():
                self._phase = ""
                log.info("this node no longer leads round {rnd} ({cause})", rnd=event.rnd, cause=event.cause)
            case StateDiverged():
                metrics.state_hash_mismatches += 1
                log.critical(
                    "after slot {slot} node {node} has another state than this node: one of them is wrong",
                    slot=event.slot,
                    node=event.node,
                )
            case Healed():
                log.info("slots up to {slot} that had rotted here are known again", slot=event.slot)

    def _end_phase1(self, event: Phase1Ended) -> None:
        self._metrics.phase1_attempts[event.outcome] += 1
        if self._phase == "phase1":
            self._metrics.phase1_duration.observe(self._now() - self._phase_from)
        if event.outcome == "quorum":
            self._begin("fill")
            log.info(
                "phase 1 of round {rnd} has a quorum; slots up to {bound} are proposed again, {noops} as no-ops",
                rnd=event.rnd,
                bound=event.bound,
                noops=event.noops,
            )
        else:
            log.info("phase 1 of round {rnd} failed ({outcome})", rnd=event.rnd, outcome=event.outcome)

    def on_commit(self) -> None:
        """A command that came in here was decided: a failover, if there was one, is over."""
        if self._phase == "first_commit":
            self._end()

    def _begin(self, phase: str) -> None:
        """A phase of a failover begins; the one before it ends."""
        self._end()
        self._phase = phase
        self._phase_from = self._now()
        self._metrics.failover_phase_start[phase] = self._wall()

    def _end(self) -> None:
        if self._phase:
            self._metrics.failover_phase[self._phase] = self._now() - self._phase_from
        self._phase = ""


class Durations:
    """The driver's `Meter`."""

    def __init__(self, metrics: Metrics, events: Events) -> None:
        self._committed = metrics.commit_duration.observe
        self._events = events
        self.on_apply = metrics.apply_duration.observe
        self.on_snapshot = metrics.snapshot_duration.observe

    def on_commit(self, seconds: float) -> None:
        """A run that came in here was decided."""
        self._committed(seconds)
        self._events.on_commit()
