"""The Multi-Paxos engine: proposer, acceptor, learner and detectors of one node, joined behind the engine contract.

`docs/multipaxos.md` has the picture. Rule numbers in comments are those of that page.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, assert_never

from paxos_twisted.core.command import is_run
from paxos_twisted.core.detectors.failure import FailureDetector
from paxos_twisted.core.detectors.monarchical import MonarchicalDetector
from paxos_twisted.core.engine import Batch, DecidedRun, DiskState, LinkState, Output, Returned
from paxos_twisted.core.events import (
    CampaignStarted,
    FillEnded,
    Healed,
    LeaderChanged,
    Phase1Ended,
    Phase1Started,
    Restored,
    SteppedDown,
    Suspected,
)
from paxos_twisted.core.multipaxos.catch_up import CatchUp
from paxos_twisted.core.multipaxos.learner import Learner
from paxos_twisted.core.multipaxos.messages import (
    Accept,
    AskFollow,
    CatchUpReply,
    CatchUpRequest,
    Decided,
    Decision,
    HeartbeatReply,
    HeartbeatRequest,
    Learn,
    Message,
    Prepare,
    Promise,
    Reject,
    Resign,
    WouldFollow,
)
from paxos_twisted.core.multipaxos.proposer import Proposer
from paxos_twisted.core.multipaxos.restore import restore
from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.core.multipaxos.sticky import Sticky
from paxos_twisted.core.records import Chosen, Header, LogRecord, Promised, Reached, Truncated, Voted
from paxos_twisted.core.runs import RunMap
from paxos_twisted.limits import (
    ALPHA_MAX,
    CATCH_UP_BYTES_MAX,
    DECISIONS_BUFFERED_MAX,
    LOG_BYTES_KEPT_MAX,
    PROMISE_SLOTS_BEHIND_MAX,
    PROPOSALS_MAX,
    ROUND_STRIDE,
)
from paxos_twisted.types import NO_NODE, NO_ROUND, NO_SLOT, NodeId, Round, Slot

STALL_MS = 100
"""Time between two ticks counts for at most this much: a node that was frozen (or its machine) was away itself, and
must not count that time against others."""

MARK_MS = 200
"""A node that has been idle for this long notes durably how far it is, so that a restart has less to ask for."""

BEHIND_SLOTS = 256
"""A node that knows of more decided slots than this beyond its own lets others campaign first."""

SLOTS_KEPT = 10_000
"""Decided slots kept behind a snapshot for followers that lag a little."""

FOLLOWER, CANDIDATE, LEADER = "follower", "candidate", "leader"


class MultiPaxos:
    """One replica of Multi-Paxos. See `paxos_twisted.core.engine.Engine` for the contract.

    Args:
        node: this node.
        members: all nodes, this one included.
        settings: the cluster's settings.
        rng: jitter of back-offs; nothing else is random.
        entries, lost, snapshot, applied: what the storage recovered, see `paxos_twisted.core.multipaxos.restore`.
    """

    name = "multipaxos"
    message_type: Any = Message

    def __init__(
        self,
        node: NodeId,
        members: Sequence[NodeId],
        settings: Settings,
        rng: Random,
        entries: Sequence[LogRecord] = (),
        lost: Sequence[Header] = (),
        snapshot: Slot = NO_SLOT,
        applied: Slot = NO_SLOT,
    ) -> None:
        self.node = node
        self.members = tuple(sorted(members))
        self.others = tuple(member for member in self.members if member != node)
        self.quorum_size = len(self.members) // 2 + 1
        self.settings = settings
        restored = restore(node, entries, lost, snapshot, applied)
        self.acceptor = restored.acceptor
        self.learner = Learner(node, len(self.members))
        self.proposer = Proposer(
            node, len(self.members), restored.adu, stride=ROUND_STRIDE, alpha=min(settings.alpha, ALPHA_MAX)
        )
        self.failure_detector = FailureDetector(node, self.members, settings.delay_ms, settings.delta_ms)
        self.sticky = Sticky(node, len(self.members), settings.phase1_ms, rng)
        self.monarch = MonarchicalDetector(self.members) if settings.policy == "lab" else None
        if self.monarch is not None:
            self.monarch.subscribe(self._trust)
        self.catch_up = CatchUp(settings.catch_up_ms)
        self._rng = rng

        self.adu: Slot = restored.adu
        """Every slot <= adu is decided, known, and given out to be applied; never goes down."""
        self.log: RunMap[DecidedRun] = RunMap()
        """Decided runs from `log_first` to `adu`, for those who lag."""
        self.log_first: Slot = applied + 1
        self.role = FOLLOWER
        self.now_ms = 0
        """Engine time: the tick's clock without the time during which this node was frozen."""
        self._clock_ms: int | None = None
        self._ahead: RunMap[Decision] = RunMap()  # decided, above a hole
        self._phase1_deadline_ms: int | None = None
        self._phase1_failures = 0
        self._progress_ms = 0  # the leader's last decision or first proposal, for re-sending
        self._resend_ms = settings.phase2_ms
        self._filling = False
        self._heartbeat_ms = 0
        self._beat_soon = False
        self._marked = restored.adu
        self._wrote_ms = 0
        self._electable_from_ms = 0
        self._disk = DiskState.GOOD
        self._peer_lag_ms: dict[NodeId, int] = {}
        self._links_up: set[NodeId] = set()
        self._round_hint: Round = NO_ROUND
        self._told = NO_SLOT  # the peers were told that every slot up to here is decided
        self._heard = (NO_ROUND, NO_SLOT)  # (round, adu) that the leader of the highest round has told of

        self._out = Output(1)
        self._persisted = 0
        self._writing: deque[tuple[int, int]] = deque()  # (write_no, engine time) of writes under way
        self._own: deque[tuple[int, Promise | Learn]] = deque()  # to ourselves, waiting for the disk
        if restored.decided:
            self.log_first = restored.decided[0].slot
            for run in restored.decided:
                self.log.put(run)
                self._out.decided.append(run)
        self.learner.skip_to(self.adu + 1)

    # What others may ask

    @property
    def leader(self) -> NodeId:
        """The node that takes commands, as far as this one knows; NO_NODE when none does."""
        if self.role == LEADER:
            return self.node
        if self.monarch is not None:
            return self.monarch.leader
        return self.sticky.leader

    @property
    def takes_commands(self) -> bool:
        """Commands given to `on_propose` now are proposed, or wait for the end of phase 1."""
        return self.role == LEADER or self._phase1_deadline_ms is not None

    @property
    def waiting(self) -> int:
        """Commands queued or open here."""
        return self.proposer.waiting

    @property
    def round(self) -> Round:
        """The round this node leads in; else the highest one that it has promised or in which it hears a leader."""
        return self.proposer.crnd if self.role == LEADER else max(self.acceptor.rnd, self.sticky.leader_rnd)

    @property
    def is_caught_up(self) -> bool:
        """Everything that a peer said is decided, give or take what is on its way, is decided here."""
        return self.adu + ALPHA_MAX // 16 >= self.catch_up.target and not self.acceptor.silent

    @property
    def is_ready(self) -> bool:
        """A leader is known and this node has caught up."""
        return self.leader != NO_NODE and self.is_caught_up

    @property
    def disk_lag_ms(self) -> int:
        """Age of the oldest unfinished write, in engine time."""
        return self.now_ms - self._writing[0][1] if self._writing else 0

    # Inputs

    def on_message(self, src: NodeId, message: Message) -> None:
        """Take a message from peer `src`; `message.sender` was checked against the connection."""
        match message:
            case Accept():
                self._on_accept(message)
            case Learn():
                self._on_learn(message)
            case Decided():
                self._defer_to(message.rnd)
                self._on_decided(message.rnd, message.adu)
            case HeartbeatRequest():
                self._on_heartbeat_request(message)
            case HeartbeatReply():
                self._on_heartbeat_reply(message)
            case Prepare():
                self._on_prepare(message)
            case Promise():
                self._on_promise(message)
            case Reject():
                self._on_reject(message)
            case AskFollow():
                self._on_ask_follow(message)
            case WouldFollow():
                self._on_would_follow(message)
            case CatchUpRequest():
                self._on_catch_up_request(message)
            case CatchUpReply():
                self._on_catch_up_reply(message)
            case Resign():
                self._on_resign(message)
            case _:
                assert_never(message)

    def on_propose(self, batch: Batch) -> None:
        """Queue commands if this node leads or is about to; else hand them back."""
        if self._disk is DiskState.FULL:
            self._out.returned.append(Returned(batch, False, "disk-full"))
        elif not self.takes_commands:
            self._out.returned.append(Returned(batch, False, "not-leader"))
        elif self.proposer.waiting + batch.count > PROPOSALS_MAX:
            self._out.returned.append(Returned(batch, False, "overloaded"))
        else:
            self.proposer.propose(batch)
            self._pump()

    def on_persisted(self, write_no: int) -> None:
        """Writes up to `write_no` are durable: the node's own votes and promises among them count now."""
        assert write_no < self._out.write_no
        self._persisted = max(self._persisted, write_no)
        while self._writing and self._writing[0][0] <= write_no:
            self._writing.popleft()
        self._hear_self()

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The transport saw the connection to `node` change."""
        if state is LinkState.UP:
            self._links_up.add(node)
            if len(self._links_up) + 1 == self.quorum_size and self.leader == NO_NODE and self.role == FOLLOWER:
                self.sticky.lose(self.now_ms, self.members)  # the first moment at which a campaign makes sense
            if node == self.sticky.leader:
                self.sticky.link_lost = False
            self._send((node,), self._heartbeat())
            return
        self._links_up.discard(node)
        if state is LinkState.LOST:
            if node == self.sticky.leader:
                self.sticky.link_lost = True
        else:
            self._suspect(self.failure_detector.on_refused(node))
            if self.monarch is None and node == self.sticky.leader:
                self._lose_leader("suspect")
                self._campaign_if_due()

    def on_disk(self, state: DiskState) -> None:
        """A full disk: vote for nothing, propose nothing, lead nobody; heartbeats and answers go on."""
        if state is self._disk:
            return
        self._disk = state
        if state is DiskState.FULL:
            self._step_down("disk-full")

    def resign(self, cause: str) -> None:
        """Give up leadership, if held, and do not seek it for two detector delays."""
        self._electable_from_ms = self.now_ms + 2 * self.failure_detector.delay_ms
        if self.role != FOLLOWER:
            self._step_down(cause)

    def on_snapshot(self, slot: Slot) -> None:
        """A durable snapshot covers every slot up to `slot`: forget votes and decisions that are far enough behind."""
        first = self._first_to_keep(slot)
        self.log.drop_below(first)
        self.log_first = max(self.log_first, first)
        self.acceptor.truncate(first)
        self._repeat_state(first)

    def on_installed(self, slot: Slot) -> None:
        """The state of a peer after `slot` was installed here and is durable."""
        if slot > self.adu:
            if self.role != FOLLOWER:
                self._step_down("round")  # what is open here will not be applied slot by slot: hand it back
            self.adu = slot
            self.log.clear()
            self.log_first = slot + 1
            self.learner.skip_to(slot + 1)
            self._ahead.drop_below(slot + 1)
            self._absorb_ahead()
            self.proposer.advance(self.adu)
        self.acceptor.truncate(slot + 1)
        self._repeat_state(slot + 1)

    def on_tick(self, now_ms: int) -> None:
        """Time goes on."""
        if self._clock_ms is None:
            self._clock_ms = now_ms
            self.failure_detector.start(0)
            if self.monarch is None:
                self.sticky.lose(0, self.members)
            elif self.monarch.leader == self.node:
                self._start_phase1()
        self.now_ms += min(max(now_ms - self._clock_ms, 0), STALL_MS)
        self._clock_ms = now_ms
        for suspicion in self.failure_detector.check(self.now_ms):
            self._suspect(suspicion)
        if self.now_ms >= self._heartbeat_ms or self._beat_soon:
            self._heartbeat_ms = self.now_ms + self.settings.heartbeat_ms
            self._beat_soon = False
            self._send(self.others, self._heartbeat())
        if self.role == LEADER:
            self._lead_on()
        elif self._phase1_deadline_ms is not None:
            if self.now_ms >= self._phase1_deadline_ms:
                self._phase1_failed("timeout")
        elif self.monarch is None:
            if self.sticky.leader not in (NO_NODE, self.node) and (
                self.now_ms - self.sticky.heard_ms > self.failure_detector.delay_ms
            ):
                self._lose_leader("suspect")
            self._campaign_if_due()
        elif self.monarch.leader == self.node and self.now_ms >= self._electable_from_ms:
            self._start_phase1()
        self._ask_if_behind()
        if self.adu > self._marked and self.now_ms - self._wrote_ms >= MARK_MS and self._disk is not DiskState.FULL:
            self._persist(Reached(self.adu))

    def take_output(self) -> Output:
        """Drain."""
        self._hear_self()
        out = self._out
        if out.records:
            self._writing.append((out.write_no, self.now_ms))
            self._wrote_ms = self.now_ms
            self._out = Output(out.write_no + 1)
        else:
            self._out = Output(out.write_no)
        return out

    def status(self) -> dict[str, Any]:
        """Role, rounds, what is open and how the others are, for /status."""
        connected = self.failure_detector.connected()
        return {
            "role": self.role,
            "round": self.round,
            "promised_round": self.acceptor.rnd,
            "caught_up": self.is_caught_up,
            "detector": {"policy": self.settings.policy, "delay_ms": self.failure_detector.delay_ms},
            "log": {
                "first_slot": self.log_first,
                "buffered_slots": sum(run.count for run in self._ahead),
                "open_runs": len(self.proposer.open),
            },
            "silent_slots": [[start, stop] for start, stop in self.acceptor.silent],
            "peers": {
                str(node): {
                    "up": node in self._links_up,
                    "suspected": node not in connected,
                    "adu": self.catch_up.known.get(node, NO_SLOT),
                    "disk_lag_ms": self._peer_lag_ms.get(node, 0),
                }
                for node in self.others
            },
        }

    def check_invariants(self) -> None:
        """What must hold between any two inputs."""
        assert self.proposer.adu == self.adu
        assert self.log_first <= self.adu + 1
        assert self.log.covers(self.log_first, self.adu + 1)
        assert not self._ahead or self._ahead.first > self.adu + 1
        assert self.learner.decided.missing(0, self.adu + 1) == []
        assert not self.learner.tallies or self.learner.tallies.first > self.adu
        assert self.acceptor.first <= max(self.adu, self.acceptor.first - 1) + 1
        if self.role == LEADER:
            assert self.proposer.phase1_done
            assert self.acceptor.rnd == self.proposer.crnd
        if not self.proposer.phase1_done:
            assert not self.proposer.open

    # Phase 2

    def _pump(self) -> None:
        """Propose what the window has room for."""
        accepts = self.proposer.take_accepts()
        if accepts and not self._progress_ms:
            self._progress_ms = self.now_ms
        for accept in accepts:
            self._propose(accept)
            self._on_accept(accept)

    def _propose(self, accept: Accept) -> None:
        """Send an Accept, and with it how far everything is decided."""
        self._told = self.adu
        self._send(self.others, Accept(accept.sender, accept.slot, accept.rnd, accept.values, accept.count, self.adu))

    def _on_accept(self, accept: Accept) -> None:
        stop = accept.slot + accept.count
        if self._disk is DiskState.FULL or stop > self.adu + 2 * ALPHA_MAX:
            return
        acceptor = self.acceptor
        if accept.rnd < acceptor.rnd:
            self._send((accept.sender,), Reject(self.node, acceptor.rnd, self.adu))
            return
        if accept.sender != self.node:
            if not is_run(accept.values, accept.count):
                return  # a damaged run must not be voted for: it would stop every node that applies it
            self._defer_to(accept.rnd)
            self._follow(accept.sender, accept.rnd)
            if accept.adu > self.adu:
                self._on_decided(accept.rnd, accept.adu)
        decisions = self.learner.handle_accept(accept) if stop > self.adu + 1 else None
        learn = acceptor.handle_accept(accept)
        if learn is not None:
            if acceptor.fresh:
                for vote in acceptor.fresh:
                    self._persist(Voted(vote.vrnd, vote.slot, vote.count, vote.vval, self.adu))
                acceptor.fresh.clear()
            if accept.sender == self.node:
                self._to_self(learn)
            else:
                self._send_after(Learn(self.node, learn.slot, learn.rnd, None, learn.count), (accept.sender,))
        if decisions is not None:
            self._decided(decisions)
        rnd, adu = self._heard
        if accept.rnd == rnd and accept.slot <= adu and stop > self.adu + 1:  # told before the Accept came
            self._on_decided(rnd, adu)

    def _on_decided(self, rnd: Round, adu: Slot) -> None:
        """The leader of `rnd` tells how far everything is decided."""
        if self._disk is DiskState.FULL:
            return
        self._heard = max(self._heard, (rnd, adu))
        if adu > self.adu:
            decisions = self.learner.handle_leader(rnd, adu)
            if decisions is not None:
                self._decided(decisions)

    def _on_learn(self, learn: Learn) -> None:
        self._defer_to(learn.rnd)  # a vote in a higher round than ours: somebody else has been elected
        stop = learn.slot + learn.count
        # The start counts, not the end: a run that begins at adu + 1 must be heard however long it is.
        if learn.slot > self.adu + DECISIONS_BUFFERED_MAX or stop <= self.adu + 1:
            return
        if self._disk is DiskState.FULL and learn.sender != self.node:
            return
        decisions = self.learner.handle_learn(learn)
        if decisions is not None:
            self._decided(decisions)

    def _decided(self, decisions: Iterable[Decision]) -> None:
        """Give decided runs out in slot order; keep those above a hole."""
        adu_before = self.adu
        for decision in decisions:
            if decision.slot == self.adu + 1:
                self._apply(decision)
            else:
                self._ahead.put(decision)
        self._absorb_ahead()
        self.proposer.advance(self.adu)
        if self.role == LEADER:
            if self.adu > adu_before:  # decisions above a hole are no progress: what is missing must be sent again
                self._progress_ms = self.now_ms if self.proposer.open else 0
                self._resend_ms = self.settings.phase2_ms
            if self._filling and self.adu >= self.proposer.bound_to:
                self._filling = False
                self._out.events.append(FillEnded(self.proposer.crnd))
            self._pump()

    def _absorb_ahead(self) -> None:
        while self._ahead and self._ahead.first == self.adu + 1:
            decision = self._ahead.get(self.adu + 1)
            assert decision is not None
            self._ahead.pop(decision)
            self._apply(decision)

    def _apply(self, decision: Decision) -> None:
        slot, count = decision.slot, decision.count
        run = DecidedRun(slot, count, decision.value)
        self.log.put(run)
        self._out.decided.append(run)
        # The log must hold the decided value. Our vote is it if it was cast in the round that decided, or later.
        if decision.rnd == NO_ROUND or not self.acceptor.voted_since(slot, count, decision.rnd):
            self._persist(Chosen(slot, count, decision.value))
        self.adu = slot + count - 1
        if self.acceptor.silent:
            self.acceptor.forget_loss(slot, slot + count)
            if not self.acceptor.silent:
                self._out.events.append(Healed(self.adu))

    def _resend(self) -> None:
        """Unanswered accepts are sent again, unchanged: same slots, same round, same values."""
        self._progress_ms = self.now_ms
        self._resend_ms = min(self._resend_ms * 2, self.settings.delay_ms)
        size = 0
        for accept in list(self.proposer.open):
            self._propose(accept)
            self._on_accept(accept)
            size += len(accept.values)
            if size > CATCH_UP_BYTES_MAX:
                break

    # Phase 1

    def _start_phase1(self) -> None:
        """Raise the round, promise it durably to ourselves, and only then ask the others."""
        if self._disk is DiskState.FULL or self.acceptor.silent:  # an unreadable vote must be healed first
            return
        self.proposer.increase_crnd(max(self.acceptor.rnd, self.sticky.leader_rnd, self._round_hint))
        prepare = self.proposer.prepare()
        promise = self.acceptor.handle_prepare(prepare)
        assert promise is not None
        self.role = CANDIDATE
        self._persist(Promised(prepare.crnd))
        self._out.events.append(Phase1Started(prepare.crnd, prepare.slot))
        self._send_after(prepare)
        self._to_self(promise)
        wait = self.settings.phase1_ms << min(self._phase1_failures, 3)
        self._phase1_deadline_ms = self.now_ms + wait + self._rng.randrange(wait // 4 + 1)

    def _on_prepare(self, prepare: Prepare) -> None:
        if self._disk is DiskState.FULL:
            return
        if prepare.crnd <= self.acceptor.rnd or self._is_settled_against(prepare):
            self._send((prepare.sender,), Reject(self.node, self.acceptor.rnd, self.adu))
            return
        promise = self.acceptor.handle_prepare(prepare)
        if promise is None:
            return
        self._defer_to(prepare.crnd)
        self._persist(Promised(prepare.crnd))
        self._send_after(promise, (prepare.sender,))

    def _is_settled_against(self, prepare: Prepare) -> bool:
        """An acceptor may ignore any prepare without harm: so does one that hears a working leader, and one whose
        promise would have to list what the candidate can learn more cheaply by catching up."""
        if self._is_far_behind(prepare.slot):
            return True
        return (
            self.monarch is None
            and self.sticky.leader != prepare.sender
            and self.sticky.is_working(self.now_ms, self.failure_detector.delay_ms)
        )

    def _is_far_behind(self, slot: Slot) -> bool:
        """Whether the decided slots from `slot` on are too many, or too many bytes, for a promise: catch up first."""
        if slot + PROMISE_SLOTS_BEHIND_MAX < self.adu:
            return True
        size = 0
        while slot <= self.adu and (run := self.log.at(slot)) is not None:
            slot = run.slot + run.count
            size += len(run.body)
            if size > CATCH_UP_BYTES_MAX:
                return True
        return False

    def _on_promise(self, promise: Promise) -> None:
        if promise.to != self.node or self._phase1_deadline_ms is None:
            return
        if not all(is_run(vote.vval, vote.count) for vote in promise.votes):
            return
        accepts = self.proposer.handle_promise(promise)
        if promise.first - 1 == self.proposer.must_reach > self.adu:
            self.catch_up.note(promise.sender, self.proposer.must_reach)
        if accepts is None:
            return
        self.role = LEADER
        self._phase1_deadline_ms = None
        self._phase1_failures = 0
        self._progress_ms = 0
        self._resend_ms = self.settings.phase2_ms
        bound_to, rnd = self.proposer.bound_to, self.proposer.crnd
        self._out.events.append(Phase1Ended(rnd, "quorum", bound_to, self.proposer.noops_bound))
        self._filling = bound_to > self.adu
        if not self._filling:
            self._out.events.append(FillEnded(rnd))
        self._follow(self.node, rnd)
        self._send(self.others, self._heartbeat())  # so that everybody knows where to send clients
        self._pump()

    def _phase1_failed(self, outcome: str) -> None:
        self._out.events.append(Phase1Ended(self.proposer.crnd, outcome, NO_SLOT, 0))
        self._phase1_failures += 1
        self._end_phase1()
        self._return_commands("not-leader")
        self.sticky.fail(self.now_ms, self.settings.delay_ms)
        if self.monarch is not None:
            pause = self.settings.phase1_ms
            self._electable_from_ms = self.now_ms + self._rng.randrange(pause) if outcome != "timeout" else self.now_ms

    def _end_phase1(self) -> None:
        self.role = FOLLOWER
        self._phase1_deadline_ms = None
        self.proposer.forget_phase1()

    def _on_reject(self, reject: Reject) -> None:
        """A hint: give up a round that cannot win, and aim above the one that stands in its way."""
        self.catch_up.note(reject.sender, reject.adu)
        if reject.rnd <= self.proposer.crnd:
            return
        self._round_hint = max(self._round_hint, reject.rnd)
        if self.role == LEADER:
            self._step_down("round")
        elif self._phase1_deadline_ms is not None:
            self._phase1_failed("preempted")

    def _defer_to(self, rnd: Round) -> None:
        """A round higher than ours is about: stop proposing at once."""
        if rnd <= self.proposer.crnd:
            return
        if self.role == LEADER:
            self._step_down("round")
        elif self._phase1_deadline_ms is not None:
            self._phase1_failed("preempted")

    def _step_down(self, cause: str) -> None:
        """Stop leading. Clients are answered from applied slots only, so nothing said so far becomes untrue."""
        was_leader, rnd = self.role == LEADER, self.proposer.crnd
        self._end_phase1()
        self._filling = False
        self._return_commands("disk-full" if cause == "disk-full" else "not-leader")
        if not was_leader:
            return
        self._out.events.append(SteppedDown(rnd, cause))
        if cause != "round":
            self._send(self.others, Resign(self.node, rnd))
        if self.monarch is None and self.sticky.leader == self.node:
            self._lose_leader("handover" if cause in ("asked", "stopping") else cause)
            if (
                cause != "round"
            ):  # else it may be that nobody leads in the higher round: the pre-vote will tell, at once
                self.sticky.postpone(self.now_ms + self.settings.phase1_ms)

    def _return_commands(self, reason: str) -> None:
        never, opened = self.proposer.depose()
        self._out.returned.extend(Returned(batch, False, reason) for batch in never)
        self._out.returned.extend(Returned(batch, True, reason) for batch in opened)

    # Leadership: sticky policy

    def _follow(self, leader: NodeId, rnd: Round) -> None:
        if self.sticky.follow(leader, rnd, self.now_ms) and self.monarch is None:
            self._out.events.append(LeaderChanged(leader, rnd, "round"))

    def _lose_leader(self, cause: str) -> None:
        is_behind = self.catch_up.target > self.adu + BEHIND_SLOTS
        silent_ms = self.now_ms - self.sticky.heard_ms
        self.sticky.lose(self.now_ms, self.failure_detector.connected(), is_behind)
        self._out.events.append(LeaderChanged(NO_NODE, self.sticky.leader_rnd, cause, silent_ms))

    def _campaign_if_due(self) -> None:
        if (
            self.role == FOLLOWER
            and self.now_ms >= self._electable_from_ms
            and self._disk is not DiskState.FULL
            and not self.acceptor.silent
            and self.proposer.must_reach <= self.adu
            and len(self._links_up) + 1 >= self.quorum_size
            and self.sticky.is_due(self.now_ms)
        ):
            self._out.events.append(CampaignStarted())
            self._send(self.others, self.sticky.ask(self.now_ms, self.adu))
            if self.sticky.is_won():
                self._start_phase1()  # a cluster of one

    def _on_ask_follow(self, ask: AskFollow) -> None:
        self.catch_up.note(ask.sender, ask.adu)
        delay = self.failure_detector.delay_ms
        busy = self.role == LEADER or (self.sticky.leader != ask.sender and self.sticky.is_working(self.now_ms, delay))
        behind = ask.adu + 1 < self.acceptor.first or self._is_far_behind(ask.adu + 1)
        granted = not (busy or behind) and self._disk is not DiskState.FULL and not self.acceptor.silent
        if granted:
            self.sticky.make_way(self.now_ms)
        answer = WouldFollow(self.node, ask.campaign, granted, self.leader, self.acceptor.rnd, self.adu)
        self._send((ask.sender,), answer)

    def _on_would_follow(self, answer: WouldFollow) -> None:
        self.catch_up.note(answer.sender, answer.adu)
        if self.role != FOLLOWER or self.monarch is not None:
            return
        if self.sticky.is_won(answer):
            self._start_phase1()
        elif self.sticky.is_lost(len(self.members)):
            self.sticky.fail(self.now_ms, self.settings.delay_ms)

    def _on_resign(self, resign: Resign) -> None:
        if self.monarch is None and resign.sender == self.sticky.leader and resign.rnd >= self.sticky.leader_rnd:
            self._lose_leader("handover")
            self._campaign_if_due()

    # Leadership: lab policy

    def _trust(self, leader: NodeId) -> None:
        """The monarchical detector has a new leader. [Lab: trust event]"""
        self._out.events.append(
            LeaderChanged(leader, self.acceptor.rnd, "suspect" if leader < self.node else "restore")
        )
        if leader == self.node:
            if self.role == FOLLOWER and self._clock_ms is not None:
                self._start_phase1()
        elif self.role != FOLLOWER:
            self._step_down("round")

    def _suspect(self, suspicion: Suspected | None) -> None:
        if suspicion is None:
            return
        # Whoever has truncated what we lack may be gone, and the others know enough; if not, phase 1 will say so again.
        self.proposer.must_reach = NO_SLOT
        self._out.events.append(suspicion)
        if self.monarch is not None:
            self.monarch.suspect(suspicion.node)

    # Heartbeats

    def _heartbeat(self) -> HeartbeatRequest:
        leading = self.proposer.crnd if self.role == LEADER else NO_ROUND
        return HeartbeatRequest(self.node, self.now_ms, leading, self.adu, self.log_first, self.disk_lag_ms)

    def _on_heartbeat_request(self, request: HeartbeatRequest) -> None:
        self.catch_up.note(request.sender, request.adu)
        self._peer_lag_ms[request.sender] = request.lag_ms
        reply = HeartbeatReply(self.node, request.stamp, self.adu, self.log_first, self.disk_lag_ms)
        self._send((request.sender,), reply)
        if request.leading == NO_ROUND:
            return
        if request.leading >= self.acceptor.rnd:
            self._defer_to(request.leading)
            self._follow(request.sender, request.leading)
            self._on_decided(request.leading, request.adu)
        else:
            # 1. We promised ourselves a higher round, and our phase 1 failed. 2. The others follow this leader and
            # would not follow us. 3. We can vote in no round of its. Without this word nothing would ever change.
            self._send((request.sender,), Reject(self.node, self.acceptor.rnd, self.adu))

    def _on_heartbeat_reply(self, reply: HeartbeatReply) -> None:
        self.catch_up.note(reply.sender, reply.adu)
        self._peer_lag_ms[reply.sender] = reply.lag_ms
        restored: Restored | None = self.failure_detector.on_reply(reply.sender, self.now_ms)
        if restored is not None:
            self._out.events.append(restored)
            if self.monarch is not None:
                self.monarch.restore(restored.node)

    def _lead_on(self) -> None:
        """A leader's duties at each tick: hear a majority, have a working disk, repeat what was not answered, and say
        how far everything is decided if no Accept has said it since."""
        delay = self.failure_detector.delay_ms
        heard = sum(self.failure_detector.silence_ms(node, self.now_ms) <= delay for node in self.members)
        if heard < self.quorum_size and self.monarch is None:
            self._step_down("quorum")
        elif self.monarch is None and self._is_disk_slower_than_others():
            self._electable_from_ms = self.now_ms + 4 * delay
            self._step_down("disk-slow")
        elif self.proposer.open and self.now_ms - self._progress_ms >= self._resend_ms:
            self._resend()
        else:
            self.sticky.follow(self.node, self.proposer.crnd, self.now_ms)
        if self._told < self.adu and self.role == LEADER:
            self._told = self.adu
            self._send(self.others, Decided(self.node, self.proposer.crnd, self.adu))

    def _is_disk_slower_than_others(self) -> bool:
        """Our oldest write is late, and a majority could go on without us: then somebody else should lead."""
        limit = self.settings.disk_slow_ms
        if self.disk_lag_ms <= limit:
            return False
        connected = self.failure_detector.connected()
        quick = sum(node in connected and self._peer_lag_ms.get(node, limit) <= limit // 4 for node in self.others)
        return quick >= self.quorum_size

    # Catch-up

    def _ask_if_behind(self) -> None:
        connected = self.failure_detector.connected() - {self.node}
        whom = self.catch_up.whom_to_ask(self.adu, self.now_ms, connected)
        if whom is not None and self._disk is not DiskState.FULL:
            self._send((whom,), CatchUpRequest(self.node, self.adu + 1))

    def _on_catch_up_request(self, request: CatchUpRequest) -> None:
        slot = request.slot
        if slot < self.log_first:
            self._out.snapshot_wanted_by.append(request.sender)
            return
        bodies: list[bytes] = []
        size = count = 0
        while slot + count <= self.adu and size < CATCH_UP_BYTES_MAX:
            run = self.log.at(slot + count)
            assert run is not None
            if run.slot < slot:
                run = run.cut(slot)[1]
            bodies.append(run.body)
            size += len(run.body)
            count += run.count
        self._send((request.sender,), CatchUpReply(self.node, slot, count, b"".join(bodies), self.adu))

    def _on_catch_up_reply(self, reply: CatchUpReply) -> None:
        self.catch_up.note(reply.sender, reply.adu)
        if self._disk is DiskState.FULL or not reply.count or reply.slot > self.adu + 1:
            return
        if not is_run(reply.values, reply.count):
            return
        decisions = self.learner.handle_decided(reply.slot, reply.count, reply.values)
        if decisions is not None:
            if self.role == LEADER and self.proposer.is_contradicted(decisions):
                self._step_down("round")  # now, while its clients can still be told that the outcome is unknown
            self._decided(decisions)
        connected = self.failure_detector.connected() - {self.node}
        whom = self.catch_up.ask_again(self.adu, self.now_ms, connected)
        if whom is not None:
            self._send((whom,), CatchUpRequest(self.node, self.adu + 1))

    # Output

    def _persist(self, record: Promised | Voted | Chosen | Reached | Truncated) -> None:
        self._out.records.append(record)
        if isinstance(record, Voted | Reached):
            self._marked = max(self._marked, record.adu)

    def _gate(self) -> int:
        """The write on which everything said now depends: the one being gathered, or the last one handed out."""
        return self._out.write_no if self._out.records else self._out.write_no - 1

    def _send(self, receivers: tuple[NodeId, ...], message: Message) -> None:
        if receivers:
            self._out.sends.append((receivers, message))

    def _send_after(self, message: Message, receivers: tuple[NodeId, ...] | None = None) -> None:
        gate = self._gate()
        to = self.others if receivers is None else receivers
        if not to:
            return
        if gate <= self._persisted:
            self._out.sends.append((to, message))
        else:
            self._out.sends_after.append((gate, to, message))

    def _to_self(self, message: Promise | Learn) -> None:
        """Our own vote counts once it is durable, like everybody's."""
        self._own.append((self._gate(), message))

    def _hear_self(self) -> None:
        while self._own and self._own[0][0] <= self._persisted:
            message = self._own.popleft()[1]
            if isinstance(message, Learn):
                self._on_learn(message)
            else:
                self._on_promise(message)

    def _repeat_state(self, first: Slot) -> None:
        """Write again what must survive the truncation of the log below slot `first`."""
        if first > 0:
            self._persist(Promised(self.acceptor.rnd))
            self._persist(Reached(self.adu))
            self._persist(Truncated(first - 1))

    def _first_to_keep(self, slot: Slot) -> Slot:
        first, size = slot + 1, 0
        while first > self.log_first and slot - first < SLOTS_KEPT and size < LOG_BYTES_KEPT_MAX // 8:
            run = self.log.at(first - 1)
            assert run is not None
            first = run.slot
            size += len(run.body)
        return max(first, self.log_first)
