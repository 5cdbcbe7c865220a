"""What the log, the metrics and /events tell of a node: events as they come, gauges when somebody asks."""

from collections.abc import Callable, Iterable

from twisted.logger import Logger

from paxos_twisted.core.engine import LinkState
from paxos_twisted.core.events import (
    CampaignStarted,
    Event,
    FillEnded,
    Healed,
    InstanceRecovered,
    LeaderChanged,
    LineDiverged,
    Phase1Ended,
    Phase1Started,
    RecoveryStarted,
    Restored,
    StateDiverged,
    SteppedDown,
    Suspected,
    ViewAsked,
    ViewChanged,
)
from paxos_twisted.node.happenings import Happenings
from paxos_twisted.node.metrics import Metrics
from paxos_twisted.node.phases import DETECT, ELECT, FILL, FIRST_COMMIT, PHASE1, Phases
from paxos_twisted.types import NO_NODE, NodeId

log = Logger()


class Events:
    """Logs events, counts them, and keeps the last ones with their exact times.

    Args:
        now: seconds of a monotonic clock.
        wall_ns: nanoseconds since 1970.
    """

    def __init__(self, node: NodeId, metrics: Metrics, now: Callable[[], float], wall_ns: Callable[[], int]) -> None:
        self.node = node
        self.leader_changes = 0
        self.happenings = Happenings(wall_ns)
        self.phases = Phases(metrics, now, wall_ns)
        self._metrics = metrics
        self._now = now
        self._leader = NO_NODE
        self._silent_s: dict[NodeId, float] = {}  # how long a peer had been silent when it was suspected
        self._phase1_from: float | None = None

    def on_started(self) -> None:
        """The node takes part from now on."""
        self.happenings.note("started")

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The stream to a peer has changed. That it is lost may be the first sign of a crash."""
        log.info("link to node {peer}: {state}", peer=node, state=state.value, event=f"link_{state.value}")
        self.happenings.note(f"link_{state.value}", peer=node)
        if node != self._leader:
            return
        if state is LinkState.LOST and not self.phases.current:
            self.phases.begin(DETECT)
        elif state is LinkState.UP and self.phases.current == DETECT:
            self.phases.end()  # the leader is still there

    def on_event(self, event: Event) -> None:
        """Take note of one event."""
        metrics, note, phases = self._metrics, self.happenings.note, self.phases
        match event:
            case LeaderChanged():
                self._on_leader(event)
            case Suspected():
                metrics.suspicions[str(event.node)] += 1
                self._silent_s[event.node] = event.silent_ms / 1000
                note("suspected", peer=event.node, cause=event.cause)
                log.warn("node {peer} is suspected ({cause})", peer=event.node, cause=event.cause, event="suspected")
            case Restored():
                metrics.restorations[str(event.node)] += 1
                note("restored", peer=event.node)
                log.info(
                    "node {peer} is heard again; suspicion needs {delay_ms} ms from now on",
                    peer=event.node,
                    delay_ms=event.delay_ms,
                    event="restored",
                )
            case CampaignStarted():
                if phases.current != ELECT:
                    phases.begin(ELECT)
                note("campaign")
                log.info("this node asks the others whether they would follow it", event="campaign")
            case Phase1Started():
                phases.begin(PHASE1)
                self._phase1_from = self._now()
                note("phase1", rnd=event.rnd)
                log.info(
                    "phase 1 of round {rnd} for slots from {slot} on", rnd=event.rnd, slot=event.slot, event="phase1"
                )
            case Phase1Ended():
                self._on_phase1_ended(event)
            case FillEnded():
                phases.begin(FIRST_COMMIT)
                note("filled", rnd=event.rnd)
                log.info("everything that round {rnd} found is decided", rnd=event.rnd, event="filled")
            case SteppedDown():
                phases.end()
                note("stepped_down", rnd=event.rnd, cause=event.cause)
                log.info(
                    "this node no longer leads round {rnd} ({cause})",
                    rnd=event.rnd,
                    cause=event.cause,
                    event="stepped_down",
                )
            case StateDiverged():
                metrics.state_hash_mismatches += 1
                note("diverged", peer=event.node)
                log.critical(
                    "after slot {slot} node {peer} has another state than this node: one of them is wrong",
                    slot=event.slot,
                    peer=event.node,
                    event="diverged",
                )
            case RecoveryStarted():
                log.debug(
                    "this node recovers instance {replica}.{slot} in ballot {ballot}",
                    replica=event.replica,
                    slot=event.slot,
                    ballot=event.ballot,
                    event="recovery",
                )
            case InstanceRecovered():
                log.info(
                    "instance {replica}.{slot} was recovered ({outcome})",
                    replica=event.replica,
                    slot=event.slot,
                    outcome=event.outcome,
                    event="recovered",
                )
            case ViewAsked():
                if self._leader == NO_NODE:  # else the primary goes on meanwhile, and only its backups change
                    phases.begin(PHASE1)
                note("view_asked", rnd=event.epoch)
                log.info(
                    "this node asks for view {epoch}: itself as primary, backups {backups}",
                    epoch=event.epoch,
                    backups=_listed(event.backups),
                    event="view_asked",
                )
            case ViewChanged():
                if event.primary == self.node and phases.current == PHASE1:
                    phases.begin(FILL)
                note("view", peer=event.primary, rnd=event.epoch)
                log.info(
                    "view {epoch}: primary {primary}, backups {backups}",
                    epoch=event.epoch,
                    primary=event.primary,
                    backups=_listed(event.backups),
                    event="view",
                )
            case LineDiverged():
                metrics.state_hash_mismatches += 1
                note("diverged", peer=event.node)
                log.critical(
                    "two primaries have served (mode no-partitions): node {peer} goes on without slots {slot} to {adu} "
                    "that this node has committed. This node takes no further part",
                    peer=event.node,
                    slot=event.slot,
                    adu=event.adu,
                    event="line_diverged",
                )
            case Healed():
                log.info("slots up to {slot} that had rotted here are known again", slot=event.slot, event="healed")

    def on_commit(self, seconds: float) -> None:
        """A command that had come in here `seconds` ago was decided: a failover, if there was one, is over."""
        if self.phases.current == FIRST_COMMIT:
            self.phases.end(at_most_s=seconds)
            self.happenings.note("first_commit")

    def _on_leader(self, event: LeaderChanged) -> None:
        was, self._leader = self._leader, event.leader
        self.happenings.note("leader", peer=event.leader, rnd=event.rnd, cause=event.cause)
        silent_s = event.silent_ms / 1000
        if event.leader == NO_NODE:
            self._on_lost(event.cause, silent_s)
            log.info(
                "no leader is known ({cause})",
                cause=event.cause,
                silent_ms=event.silent_ms,
                leader=NO_NODE,
                event="leader",
            )
            return
        if event.leader == self.node and event.cause == "suspect":  # the policy lab: the next node is trusted at once
            self._on_lost(event.cause, self._silent_s.get(was, 0.0))
        elif event.leader != self.node:
            self.phases.end()  # somebody else has won: what this node had begun leads nowhere
        who = "this node leads" if event.leader == self.node else f"node {event.leader} leads"
        log.info(
            "{who} in round {rnd} ({cause})",
            who=who,
            rnd=event.rnd,
            cause=event.cause,
            leader=event.leader,
            event="leader",
        )
        self.leader_changes += 1
        self._metrics.leader_changes[event.cause] += 1

    def _on_lost(self, cause: str, silent_s: float) -> None:
        """Nobody leads any more. A leader that was found to be silent has been so for a while."""
        if cause == "suspect" and not self.phases.current:
            self.phases.begin(DETECT, silent_s)
        self.phases.begin(ELECT)

    def _on_phase1_ended(self, event: Phase1Ended) -> None:
        self._metrics.phase1_attempts[event.outcome] += 1
        if self._phase1_from is not None:
            self._metrics.phase1_duration.observe(self._now() - self._phase1_from)
            self._phase1_from = None
        if event.outcome == "quorum":
            self.phases.begin(FILL)
            self.happenings.note("promised", rnd=event.rnd)
            log.info(
                "phase 1 of round {rnd} has a quorum; slots up to {bound} are proposed again, {noops} as no-ops",
                rnd=event.rnd,
                bound=event.bound,
                noops=event.noops,
                event="promised",
            )
        else:
            self.phases.begin(ELECT)
            self.happenings.note("phase1_failed", rnd=event.rnd, cause=event.outcome)
            log.info(
                "phase 1 of round {rnd} failed ({outcome})", rnd=event.rnd, outcome=event.outcome, event="phase1_failed"
            )


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
        self._events.on_commit(seconds)


def _listed(nodes: Iterable[NodeId]) -> str:
    return ", ".join(map(str, nodes)) or "none"
