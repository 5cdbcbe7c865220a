"""The EPaxos engine: command leader, acceptor, recovery and execution, joined behind the engine contract.

`docs/epaxos.md` has the picture. Rule numbers in comments are those of that page.
"""

from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from typing import Any, assert_never

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import BARRIER, NOOP
from paxos_twisted.core.detectors.failure import FailureDetector
from paxos_twisted.core.engine import Batch, DecidedRun, DiskState, LinkState, Output, Returned
from paxos_twisted.core.epaxos.acceptor import Acceptor
from paxos_twisted.core.epaxos.conflicts import ConflictIndex
from paxos_twisted.core.epaxos.execution import Executor
from paxos_twisted.core.epaxos.gossip import Gossip
from paxos_twisted.core.epaxos.instance import Grid, Instance, InstanceId, covers
from paxos_twisted.core.epaxos.intake import Intake
from paxos_twisted.core.epaxos.interference import NOTHING, Access, footprints_of
from paxos_twisted.core.epaxos.messages import (
    COMMITTED,
    EXECUTED,
    PREACCEPTED,
    Accept,
    AcceptReply,
    Ask,
    Collected,
    Commit,
    Deps,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreAccept,
    PreAcceptReply,
    Preempted,
    Prepare,
    PrepareReply,
    Validate,
    ValidateReply,
    Waiting,
)
from paxos_twisted.core.epaxos.part import Executed, decode_part, encode_part, executed_of, nothing
from paxos_twisted.core.epaxos.proposal import Proposal, Step
from paxos_twisted.core.epaxos.quorums import accept_peers, slow_quorum, thrifty_peers
from paxos_twisted.core.epaxos.recovery import Phase, Recovery, Value
from paxos_twisted.core.epaxos.restore import check_usable, restore
from paxos_twisted.core.epaxos.settings import Settings
from paxos_twisted.core.epaxos.watch import Watch
from paxos_twisted.core.events import InstanceRecovered, RecoveryStarted, Restored, Suspected
from paxos_twisted.core.records import Cell, Decisions, Header, LogRecord, Truncated, Vowed
from paxos_twisted.limits import (
    CATCH_UP_BYTES_MAX,
    EPAXOS_ASK_RANGES_MAX,
    EPAXOS_KEYS_MAX,
    LOG_BYTES_KEPT_MAX,
    PROPOSALS_MAX,
    ROUND_STRIDE,
)
from paxos_twisted.types import NO_NODE, NO_SLOT, NodeId, Slot

STALL_MS = 100
"""Time between two ticks counts for at most this much: a node that was frozen (or its machine) was away itself, and
must not count that time against others."""

BEHIND = 256
"""A replica that lags by more executed instances than this does not serve clients yet."""

CELLS_KEPT = 10_000
"""Executed instances a column that are kept for others, though a snapshot covers them."""

SWEEP_KEYS = 4096
"""Keys of the conflict index that are looked at in one heartbeat's time."""

FROZEN_ASK_MS = 500
"""A replica that needs a snapshot asks for it so often."""

SLOTS_AHEAD_MAX = 10_000_000
"""Messages about slots further ahead than this are not from a sane peer."""


class EPaxos:
    """One replica of EPaxos. See `paxos_twisted.core.engine.Engine` for the contract.

    Args:
        node: this node.
        members: all nodes, this one included. Replica number i is the i-th of them, sorted.
        settings: the cluster's settings.
        rng: jitter of back-offs; nothing else is random.
        entries, lost, snapshot, applied: what the storage recovered, see `paxos_twisted.core.epaxos.restore`.
        application: says what commands touch.
        part: the engine's part of the snapshot (`ReplicatedState.engine_part`); empty when there is none.

    Raises:
        LogDamaged: something is lost that this replica had answered to others.
    """

    name = "epaxos"
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
        *,
        application: Application,
        part: bytes = b"",
    ) -> None:
        check_usable(lost, snapshot, applied)
        self.node = node
        self.members = tuple(sorted(members))
        self.n = len(self.members)
        self.me = self.members.index(node)
        self.others = tuple(member for member in self.members if member != node)
        self.quorum_size = slow_quorum(self.n)
        self.settings = settings
        self.grid = Grid(self.n)
        self.index = ConflictIndex(self.n)
        footprints = footprints_of(application)
        self.acceptor = Acceptor(node, self.grid, self.index, footprints)
        self.intake = Intake(footprints)
        self.executor = Executor(self.grid)
        decoded = decode_part(part, self.n) if part else None
        ready = restore(self.acceptor, entries, decoded)
        self.acceptor.changed.clear()
        self.gossip = Gossip(self.others, self.grid, self.index)
        self.watch = Watch(self.grid, self.gossip, self.members, self.me, settings, rng)
        self.failure_detector = FailureDetector(node, self.members, settings.delay_ms, settings.delta_ms)
        self._rng = rng

        self.proposals: dict[Slot, Proposal] = {}
        """Own instances that this replica drives, by slot."""
        self.recoveries: dict[InstanceId, Recovery] = {}
        """Instances that this replica recovers."""
        self.position: Slot = applied
        """Commands given out so far, less one. It says how much, not what: the order differs between replicas."""
        self.now_ms = 0
        """Engine time: the tick's clock without the time during which this node was frozen."""
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        """What happened since the start, for metrics."""
        self.component_sizes: list[int] = []
        """Sizes of the components executed since somebody emptied this list."""
        self.execution_lags_ms: list[int] = []
        """Times from commit to execution, since somebody emptied this list; own instances only."""

        self._next: Slot = self.grid.columns[self.me].top + 1  # never used before, also across restarts [rule 59]
        self._begun: dict[Slot, tuple[int, bytes, Access]] = {}  # own instances of this incarnation, not executed
        self._begun_commands = 0
        self._ballot_hints: dict[InstanceId, int] = {}  # ballots that others have joined
        self._waiting_votes: dict[InstanceId, int] = {}  # recoveries of others that wait, with their |R|
        self._gone: dict[InstanceId, None] = {}  # others have executed and forgotten these: a snapshot must bring them
        self._covered: Executed = decoded.executed if decoded is not None else nothing(self.n)
        self._parts: dict[Slot, Executed] = {}  # position -> executed set of a snapshot in the making
        self._decided: list[Instance] = []  # committed, and not yet in a record
        self._clock_ms: int | None = None
        self._heartbeat_ms = 0
        self._look_ms = 0
        self._frozen_ask_ms = 0
        self._serve_from_ms = 0
        self._is_caught_up = self.n == 1
        self._was_serving = False
        self._heard: set[NodeId] = set()
        self._links_up: set[NodeId] = set()
        self._disk = DiskState.GOOD
        self._peer_lag_ms: dict[NodeId, int] = {}
        self._coverage = ""

        self._out = Output(1)
        self._persisted = 0
        self._writing: deque[tuple[int, int]] = deque()  # (write_no, engine time) of writes under way
        self._own: deque[tuple[int, Callable[[], None]]] = deque()  # what counts once its write is durable
        for instance in ready:
            self.executor.on_committed(instance)

    # What others may ask

    @property
    def leader(self) -> NodeId:
        """Every replica that can serve clients names itself: nobody is sent elsewhere. NO_NODE when it cannot."""
        return self.node if self.is_serving else NO_NODE

    @property
    def is_serving(self) -> bool:
        """A majority is connected, this replica has caught up, its disk works, and it was not told to be quiet."""
        return (
            self._is_caught_up
            and not self._gone
            and self._disk is not DiskState.FULL
            and self.now_ms >= self._serve_from_ms
            and len((self.failure_detector.connected() & self._heard) | {self.node}) >= self.quorum_size
        )

    @property
    def takes_commands(self) -> bool:
        """Commands given to `on_propose` now are proposed."""
        return self.is_serving

    @property
    def waiting(self) -> int:
        """Commands queued here, or begun here and not executed."""
        return self.intake.waiting + self._begun_commands

    @property
    def adu(self) -> Slot:
        """Position of the last command that was given out."""
        return self.position

    @property
    def is_ready(self) -> bool:
        """Clients can be served here, and this node has caught up."""
        return self.is_serving

    @property
    def disk_lag_ms(self) -> int:
        """Age of the oldest unfinished write, in engine time."""
        return self.now_ms - self._writing[0][1] if self._writing else 0

    # Inputs

    def on_message(self, src: NodeId, message: Message) -> None:
        """Take a message from peer `src`; `message.sender` was checked against the connection."""
        if isinstance(message, Heartbeat):
            self._on_heartbeat(message)
        elif isinstance(message, HeartbeatReply):
            self._on_heartbeat_reply(message)
        elif isinstance(message, Ask):
            self._on_ask(message)
        elif self._is_sane(message):
            self._on_instance_message(message)

    def _on_instance_message(self, message: Any) -> None:
        is_gone = self.grid.columns[message.replica].is_forgotten(message.slot)
        if is_gone:
            self._on_message_about_forgotten(message)
            return
        match message:
            case PreAccept() | Accept() | Prepare() | Validate():
                self._on_question(message)
            case PreAcceptReply():
                self._on_pre_accept_reply(message)
            case AcceptReply():
                self._on_accept_reply(message)
            case Commit():
                self._on_commit(message)
            case PrepareReply():
                self._on_prepare_reply(message)
            case ValidateReply():
                self._on_validate_reply(message)
            case Waiting():
                self._on_waiting(message)
            case Preempted():
                self._on_preempted(message)
            case Collected():
                self._on_collected(message)
            case _:
                assert_never(message)

    def on_propose(self, batch: Batch) -> None:
        """Begin an instance with these commands, or queue them."""
        if self._disk is DiskState.FULL:
            self._out.returned.append(Returned(batch, False, "disk-full"))
        elif not self.takes_commands:
            self._out.returned.append(Returned(batch, False, "not-leader"))
        elif self.waiting + batch.count > PROPOSALS_MAX:
            self._out.returned.append(Returned(batch, False, "overloaded"))
        else:
            self.intake.add(batch)
            self._pump()

    def on_persisted(self, write_no: int) -> None:
        """Writes up to `write_no` are durable: the node's own votes among them count now."""
        assert write_no < self._out.write_no
        self._persisted = max(self._persisted, write_no)
        while self._writing and self._writing[0][0] <= write_no:
            self._writing.popleft()
        self._hear_self()

    def on_tick(self, now_ms: int) -> None:
        """Time goes on."""
        if self._clock_ms is None:
            self._clock_ms = now_ms
            self.failure_detector.start(0)
        self.now_ms += min(max(now_ms - self._clock_ms, 0), STALL_MS)
        self._clock_ms = now_ms
        self.acceptor.now_ms = self.now_ms
        for suspicion in self.failure_detector.check(self.now_ms):
            self._suspect(suspicion)
        if self.now_ms >= self._heartbeat_ms:
            self._heartbeat_ms = self.now_ms + self.settings.heartbeat_ms
            self._gossip()
        if self._disk is not DiskState.FULL:
            self._press_on()
            if self.now_ms >= self._look_ms:
                self._look_ms = self.now_ms + self.settings.catch_up_ms
                self._look()
        self._check_serving()
        self._pump()

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The transport saw the connection to `node` change."""
        if state is LinkState.UP:
            self._links_up.add(node)
            self._send((node,), self._heartbeat())
            return
        self._links_up.discard(node)
        if state is LinkState.REFUSED:
            suspicion = self.failure_detector.on_refused(node)
            if suspicion is not None:
                self._suspect(suspicion)
            self._check_serving()

    def on_disk(self, state: DiskState) -> None:
        """A full disk: vote for nothing, begin nothing; heartbeats and answers go on."""
        self._disk = state
        self._check_serving()

    def resign(self, cause: str) -> None:
        """Take no commands for two detector delays: clients go to other replicas."""
        del cause
        self._serve_from_ms = self.now_ms + 2 * self.failure_detector.delay_ms
        self._check_serving()

    def on_snapshot(self, slot: Slot) -> None:
        """The node's own snapshot of `slot` is durable: forget what it covers and nobody is likely to need."""
        covered = self._parts.pop(slot, None)
        for position in [position for position in self._parts if position < slot]:
            del self._parts[position]
        if covered is None:
            return
        self._covered = covered
        self._collect()
        self._truncate(slot, covered)

    def on_installed(self, slot: Slot, part: bytes = b"") -> None:
        """The state of a peer, with everything that was executed here, was installed and is durable."""
        decoded = decode_part(part, self.n)
        self._covered = decoded.executed
        self._parts.clear()
        if slot > self.position:
            self.position = slot
            self._coverage = ""
            self._take_over(decoded.executed)
            self.index.merge(decoded.index)
        for column, highest in zip(self.grid.columns, decoded.highest, strict=True):
            column.top = max(column.top, highest)
        self._next = max(self._next, self.grid.columns[self.me].top + 1)  # [rule 77]
        self._truncate(slot, decoded.executed)

    # Snapshots

    def snapshot_part(self) -> bytes:
        """What belongs into a snapshot of the state after the last `take_output`."""
        self._parts[self.position] = executed_of(self.grid)
        return encode_part(self.grid, self.index)

    def accepts_snapshot(self, part: bytes) -> bool:
        """Whether a peer's snapshot covers everything that was given out here."""
        try:
            return decode_part(part, self.n).executed.covers(executed_of(self.grid))
        except ValueError:
            return False

    def coverage(self) -> str:
        """Names the set of commands that were given out."""
        if not self._coverage:
            self._coverage = sha256(msgspec.msgpack.encode(executed_of(self.grid))).hexdigest()[:32]
        return self._coverage

    def _take_over(self, executed: Executed) -> None:
        """These instances are in the state now."""
        for replica, column in enumerate(self.grid.columns):
            column.executed = max(column.executed, executed.prefix[replica])
            column.above.update(executed.above[replica])
            column.above = {slot for slot in column.above if slot > column.executed}
            while column.executed + 1 in column.above:
                column.executed += 1
                column.above.discard(column.executed)
            for slot in [slot for slot in column.cells if column.is_executed(slot)]:
                instance = column.cells.pop(slot)
                self._stop_driving(instance)
        for gone in [gone for gone in self._gone if self.grid.is_executed(*gone)]:
            del self._gone[gone]
        self._decided = [instance for instance in self._decided if not self.grid.is_executed(*instance.id)]
        self.executor.forget_all()

    def _stop_driving(self, instance: Instance) -> None:
        """It is executed, by way of a snapshot: whoever asked for it is answered when he asks again."""
        instance.status = EXECUTED
        self.recoveries.pop(instance.id, None)
        self._waiting_votes.pop(instance.id, None)
        self.watch.forget(instance.id)
        if instance.replica == self.me:
            self.proposals.pop(instance.slot, None)
            self._free(instance.slot)

    def _collect(self) -> None:
        """Forget executed instances that the durable snapshot covers: at once those that all have executed, and of the
        others the oldest beyond a bound; who needs them takes the snapshot. [rule 76]"""
        bytes_kept = 0
        for replica, column in enumerate(self.grid.columns):
            settled = self.index.settled[replica]
            kept = 0
            for slot in sorted(column.cells, reverse=True):
                if not column.is_executed(slot) or not self._covered.holds(replica, slot):
                    continue
                instance = column.cells[slot]
                kept += 1
                bytes_kept += len(instance.body)
                if slot <= settled or kept > CELLS_KEPT or bytes_kept > LOG_BYTES_KEPT_MAX // 8:
                    del column.cells[slot]

    def _truncate(self, slot: Slot, covered: Executed) -> None:
        """Let the records go that were written before position `slot`, after repeating what they say of instances that
        the snapshot does not cover."""
        for instance in self.grid:
            if instance.written_at is None or instance.written_at >= slot or covered.holds(*instance.id):
                continue
            instance.written_at = None
            self._write_cell(instance)
        self._out.records.append(Vowed(self.position, tuple(self.index.promised)))
        self._out.records.append(Truncated(slot - 1))

    # Own instances

    def _pump(self) -> None:
        """Begin what there is room for."""
        if not self.intake.waiting or not self.is_serving:
            return
        while (taken := self.intake.take()) is not None:
            self._begin(*taken)

    def _begin(self, batch: Batch, access: Access) -> None:
        # Others may have heard of slots that we do not remember: begun before a crash, and not durable. [rule 59]
        slot = max(self._next, self.grid.columns[self.me].top + 1)
        self._next = slot + 1
        instance = self.acceptor.start(self.me, slot, batch.body, batch.count, access)
        self.intake.begun(batch, access)
        self._begun[slot] = (batch.count, batch.body, access)
        self._begun_commands += batch.count
        peers = thrifty_peers(self.me, self.n) if self.settings.thrifty else self._other_numbers()
        asked = tuple(self.members[peer] for peer in peers)
        proposal = Proposal(instance, asked, self.n, self.now_ms, self.settings.answer_ms)
        self.proposals[slot] = proposal
        self._write_changed()
        self._send_after(self._pre_accept(instance), asked)
        self._when_durable(lambda: self._on_own_vote(proposal))

    def _pre_accept(self, instance: Instance) -> PreAccept:
        deps = instance.init_deps
        assert deps is not None
        return PreAccept(self.node, self.me, instance.slot, deps, instance.init_seq, instance.body, instance.count)

    def _on_own_vote(self, proposal: Proposal) -> None:
        proposal.on_own_durable()
        self._advance(proposal)

    def _on_pre_accept_reply(self, reply: PreAcceptReply) -> None:
        proposal = self.proposals.get(reply.slot) if reply.replica == self.me else None
        if proposal is not None:
            proposal.on_pre_accept_reply(reply.sender, reply.deps, reply.seq)
            self._advance(proposal)

    def _advance(self, proposal: Proposal) -> None:
        """Go on with an own instance as far as the answers allow."""
        instance = proposal.instance
        if self.proposals.get(instance.slot) is not proposal or instance.is_deciding:
            return
        if instance.bal != 0:
            del self.proposals[instance.slot]  # somebody recovers it: ballot 0 is over
            return
        match proposal.next_step(self.now_ms):
            case Step.COMMIT_FAST:
                # The decision must be on our disk before anybody hears of it. 1. We commit, execute and answer. 2. We
                # crash. 3. We come back, and somebody who recovers the instance hears from us, its owner, that it is
                # not committed. 4. It becomes a no-op. [rule 69 c]
                instance.is_deciding = True
                self._write_cell(instance, COMMITTED)
                self._when_durable(lambda: self._commit_fast(proposal))
            case Step.ACCEPT:
                self._go_slow(proposal)
            case Step.COMMIT_SLOW:
                self.counters["slow"] += 1
                self._commit_own(proposal)
            case Step.WAIT:
                pass

    def _commit_fast(self, proposal: Proposal) -> None:
        instance = proposal.instance
        if instance.status >= COMMITTED:
            return  # somebody has recovered it meanwhile, with the same outcome
        self.counters["fast"] += 1
        self.acceptor.commit(instance, instance.deps, instance.seq, False)
        self._tell(proposal)
        self._on_decided(instance, is_written=True)

    def _commit_own(self, proposal: Proposal) -> None:
        instance = proposal.instance
        self.acceptor.commit(instance, instance.deps, instance.seq, False)
        self._tell(proposal)
        self._on_decided(instance)

    def _tell(self, proposal: Proposal) -> None:
        """Tell everybody; those who have pre-accepted the instance know its commands."""
        instance = proposal.instance
        whole = self.acceptor.decision(instance)
        short = msgspec.structs.replace(whole, body=None)
        knowing = tuple(node for node in self.others if proposal.has_answered(node))
        self._send(tuple(node for node in self.others if node not in knowing), whole)
        self._send(knowing, short)

    def _go_slow(self, proposal: Proposal) -> None:
        """The fast path is out of reach: let a majority accept the union of what was answered. [rule 64]"""
        instance = proposal.instance
        deps, seq = proposal.union()
        if self.settings.thrifty and not proposal.is_widened:
            asked = tuple(self.members[peer] for peer in accept_peers(self.me, self.n))
        else:
            asked = self.others
        proposal.accept(asked, self.now_ms, self.settings.answer_ms)
        own = self.acceptor.handle_accept(Accept(self.node, self.me, instance.slot, 0, deps, seq, None, instance.count))
        assert isinstance(own, AcceptReply)
        self._write_changed()
        self._send_accepts(proposal, asked)
        self._when_durable(lambda: self._on_own_vote(proposal))

    def _send_accepts(self, proposal: Proposal, receivers: tuple[NodeId, ...]) -> None:
        instance = proposal.instance
        short = Accept(self.node, self.me, instance.slot, 0, instance.deps, instance.seq, None, instance.count)
        knowing = tuple(node for node in receivers if proposal.has_answered(node))
        self._send(knowing, short)
        self._send(
            tuple(node for node in receivers if node not in knowing),
            msgspec.structs.replace(short, body=instance.body),
        )

    def _on_accept_reply(self, reply: AcceptReply) -> None:
        if reply.ballot == 0:
            proposal = self.proposals.get(reply.slot) if reply.replica == self.me else None
            if proposal is not None:
                proposal.on_accept_reply(reply.sender)
                self._advance(proposal)
            return
        recovery = self.recoveries.get((reply.replica, reply.slot))
        if recovery is not None and recovery.ballot == reply.ballot and recovery.on_accept_reply(reply.sender):
            self._continue_recovery(recovery)

    def _press_on(self) -> None:
        """Repeat what was not answered in time, and to all: a chosen replica may be down. [rule 68]"""
        now_ms, settings = self.now_ms, self.settings
        late = [proposal for proposal in self.proposals.values() if now_ms >= proposal.deadline_ms]
        for proposal in late:
            self._advance(proposal)
            slot = proposal.instance.slot
            if self.proposals.get(slot) is not proposal or now_ms < proposal.deadline_ms:
                continue
            if proposal.instance.is_deciding:
                continue
            if not proposal.is_widened and len(proposal.asked) < len(self.others):
                self.counters["thrifty_fallbacks"] += 1
            proposal.widen(self.others, now_ms, settings.delay_ms)
            silent = tuple(node for node in self.others if not proposal.is_answered_by(node))
            if proposal.is_accepting:
                self._send_accepts(proposal, silent)
            else:
                self._send_after(self._pre_accept(proposal.instance), silent)
        for recovery in [one for one in self.recoveries.values() if now_ms >= one.deadline_ms]:
            self._repeat_recovery(recovery)

    def _on_preempted(self, hint: Preempted) -> None:
        """A hint: our ballot cannot win any more."""
        if hint.ballot == 0:
            if hint.replica == self.me and self.proposals.pop(hint.slot, None) is not None:
                self._see_ballot(hint)
            return
        recovery = self.recoveries.get((hint.replica, hint.slot))
        if recovery is not None and recovery.ballot == hint.ballot < hint.joined:
            self._give_up(recovery)
            self._see_ballot(hint)

    def _see_ballot(self, hint: Preempted) -> None:
        instance = self.grid.at(hint.replica, hint.slot, self.now_ms)
        self._ballot_hints[instance.id] = max(self._ballot_hints.get(instance.id, 0), hint.joined)
        self.watch.postpone(instance.id, self.now_ms + self._back_off(1))

    # Questions of others

    def _on_question(self, message: PreAccept | Accept | Prepare | Validate) -> None:
        if self._disk is DiskState.FULL:
            return
        acceptor = self.acceptor
        match message:
            case PreAccept():
                if message.sender != self.members[message.replica]:
                    return
                answer: Any = acceptor.handle_pre_accept(message)
            case Accept():
                answer = acceptor.handle_accept(message)
            case Prepare():
                answer = acceptor.handle_prepare(message)
            case Validate():
                answer = acceptor.handle_validate(message)
        self._write_changed()
        if answer is None:
            return
        if isinstance(answer, PrepareReply | AcceptReply | ValidateReply) and answer.ballot:
            self._defer((message.replica, message.slot), answer.ballot)
        self._send_after(answer, (message.sender,))

    def _defer(self, instance: InstanceId, ballot: int) -> None:
        """Somebody else recovers the instance: do not get in the way."""
        recovery = self.recoveries.get(instance)
        if recovery is not None and recovery.ballot < ballot:
            self._give_up(recovery)
        if instance[0] == self.me:
            self.proposals.pop(instance[1], None)
        self.watch.postpone(instance, self.now_ms + self.settings.recover_ms)

    def _on_message_about_forgotten(self, message: Any) -> None:
        """Whoever asks about an instance that is executed and forgotten here needs a snapshot; never "not seen"."""
        if isinstance(message, PreAccept | Accept | Prepare | Validate):
            self._send((message.sender,), Collected(self.node, message.replica, message.slot))

    # Decisions

    def _on_commit(self, commit: Commit) -> None:
        if self._disk is DiskState.FULL:
            return
        instance = self.acceptor.handle_commit(commit)
        if instance is not None:
            self._on_decided(instance)

    def _on_decided(self, instance: Instance, *, is_written: bool = False) -> None:
        """An instance is committed: it may run, and others may go on."""
        here = instance.id
        if not is_written:
            self._decided.append(instance)
        self._waiting_votes.pop(here, None)
        self._ballot_hints.pop(here, None)
        self._gone.pop(here, None)
        self.watch.forget(here)
        self.recoveries.pop(here, None)
        self.executor.on_committed(instance)
        if instance.replica == self.me:
            self.proposals.pop(instance.slot, None)
            if instance.is_noop:
                self._propose_again(instance)
        for recovery in list(self.recoveries.values()):
            if here in recovery.blockers:
                self._check_blockers(recovery)

    def _propose_again(self, instance: Instance) -> None:
        """Our instance has become a no-op: its commands go into a new one, with the same client and seq. [rule 71]"""
        was_begun = self._free(instance.slot)
        if instance.body and instance.body != BARRIER and was_begun:
            self.counters["proposed_again"] += 1
            self.intake.add_first(Batch(instance.body, instance.count))
            self._pump()

    def _free(self, slot: Slot) -> bool:
        """The own instance is executed, or a no-op: there is room for others. Returns whether it was begun in this
        incarnation."""
        begun = self._begun.pop(slot, None)
        if begun is None:
            return False
        count, body, access = begun
        self._begun_commands -= count
        self.intake.on_executed(body, access)
        return True

    def _run(self) -> None:
        """Execute what can be executed, and give it out."""
        if self._gone:
            return  # a snapshot is needed, and must cover what is executed here: so nothing more until it has come
        executed = self.executor.run(self.now_ms)
        if not executed:
            return
        self._coverage = ""
        for instance in executed:
            body, count = instance.value
            self._out.decided.append(DecidedRun(self.position + 1, count, body))
            self.position += count
            if not instance.is_noop:
                self.index.on_executed(instance.replica, instance.slot, instance.access)
            if instance.replica == self.me:
                if len(self.execution_lags_ms) < SAMPLES_MAX:
                    self.execution_lags_ms.append(self.now_ms - instance.commit_ms)
                self._free(instance.slot)
            instance.access = NOTHING
        self.counters["executed"] += len(executed)
        if len(self.component_sizes) < SAMPLES_MAX:
            self.component_sizes += self.executor.sizes
        self.executor.sizes.clear()

    # Recovery

    def _look(self) -> None:
        """Ask for, or recover, what is overdue. Hold back own commands while something waits for too long."""
        connected = self.failure_detector.connected() - {self.node}
        todo = self.watch.look(self.now_ms, connected, self._is_driven)
        if todo.ask:
            executed = executed_of(self.grid).highest
            for node, ranges in todo.ask.items():
                self._send((node,), Ask(self.node, tuple(ranges), executed))
        for instance in todo.recover:
            self._recover(instance)
        if self._gone and self.now_ms >= self._frozen_ask_ms:
            self._frozen_ask_ms = self.now_ms + FROZEN_ASK_MS
            self._ask_for_snapshot(connected)
        oldest = min(self.executor.since.values(), default=self.now_ms)
        self.intake.set_strict(self.now_ms - oldest > self.settings.hold_ms)

    def _is_driven(self, instance: InstanceId) -> bool:
        if instance in self.recoveries:
            return True
        if instance[0] != self.me:
            return False
        own = self.grid.get(*instance)
        return instance[1] in self.proposals or (own is not None and own.is_deciding)

    def _recover(self, instance: Instance, attempt: int = 0) -> None:
        """Take a ballot of our own, above all that we know of, and ask everybody. [rule 69]"""
        known = max(instance.bal, self._ballot_hints.get(instance.id, 0))
        ballot = (known // ROUND_STRIDE + 1) * ROUND_STRIDE + self.node
        noop = Value(NOOP, 1, (NO_SLOT,) * self.n, 0)
        recovery = Recovery(
            instance,
            self.members[instance.replica],
            ballot,
            self.members,
            noop,
            self.now_ms,
            self._back_off(attempt),
            attempt,
        )
        self.recoveries[instance.id] = recovery
        self.counters["recoveries"] += 1
        self._out.events.append(RecoveryStarted(instance.replica, instance.slot, ballot))
        prepare = Prepare(self.node, instance.replica, instance.slot, ballot)
        own = self.acceptor.handle_prepare(prepare)
        assert isinstance(own, PrepareReply)
        self._write_changed()
        self._send_after(prepare, self.others)
        self._when_durable(lambda: self._on_prepare_reply(own))

    def _on_prepare_reply(self, reply: PrepareReply) -> None:
        recovery = self.recoveries.get((reply.replica, reply.slot))
        if recovery is None or recovery.ballot != reply.ballot:
            return
        if not recovery.is_current:
            self._give_up(recovery)
        elif recovery.on_prepare_reply(reply):
            self._continue_recovery(recovery)

    def _on_validate_reply(self, reply: ValidateReply) -> None:
        recovery = self.recoveries.get((reply.replica, reply.slot))
        if recovery is None or recovery.ballot != reply.ballot:
            return
        if not recovery.is_current:
            self._give_up(recovery)
        elif recovery.on_validate_reply(reply):
            self._continue_recovery(recovery)

    def _on_waiting(self, waiting: Waiting) -> None:
        here = (waiting.replica, waiting.slot)
        if self.grid.is_committed(*here):
            return
        self._waiting_votes[here] = max(self._waiting_votes.get(here, 0), waiting.votes)
        for recovery in list(self.recoveries.values()):
            if recovery.is_current and recovery.on_waiting(here, waiting.votes):
                self._continue_recovery(recovery)

    def _continue_recovery(self, recovery: Recovery) -> None:
        """The phase has changed: ask the next question."""
        instance = recovery.instance
        replica, slot = instance.id
        recovery.deadline_ms = self.now_ms + recovery.wait_ms
        match recovery.phase:
            case Phase.VALIDATE:
                validate = self._validate(recovery)
                own = self.acceptor.handle_validate(validate)
                self._write_changed()
                self._send(tuple(node for node in recovery.quorum if node != self.node), validate)
                if isinstance(own, ValidateReply):
                    self._when_durable(lambda: self._on_validate_reply(own))
            case Phase.WAIT:
                self._send(self.others, Waiting(self.node, replica, slot, recovery.votes))
                for other_replica, other_slot in recovery.blockers:  # they must be decided, too
                    column = self.grid.columns[other_replica]
                    column.top = max(column.top, other_slot)
                self._check_blockers(recovery)
                for other, votes in list(self._waiting_votes.items()):
                    if recovery.on_waiting(other, votes):
                        self._continue_recovery(recovery)
                        return
            case Phase.ACCEPT:
                accept = self._recovered_value(recovery)
                vote = self.acceptor.handle_accept(accept)
                self._write_changed()
                self._send(self.others, accept)
                if isinstance(vote, AcceptReply):
                    self._when_durable(lambda: self._on_own_accept(recovery))
            case Phase.DONE:
                self._finish_recovery(recovery)
            case Phase.PREPARE:
                pass

    def _on_own_accept(self, recovery: Recovery) -> None:
        is_mine = self.recoveries.get(recovery.instance.id) is recovery and recovery.is_current
        if is_mine and recovery.on_accept_reply(self.node):
            self._continue_recovery(recovery)

    def _validate(self, recovery: Recovery) -> Validate:
        vote, instance = recovery.candidate, recovery.instance
        assert vote is not None
        return Validate(
            self.node, instance.replica, instance.slot, recovery.ballot, vote.init_deps, vote.init_seq, vote.body,
            vote.count,
        )  # fmt: skip

    def _recovered_value(self, recovery: Recovery) -> Accept:
        value, instance = recovery.value, recovery.instance
        assert value is not None
        return Accept(
            self.node, instance.replica, instance.slot, recovery.ballot, value.deps, value.seq, value.body, value.count
        )

    def _finish_recovery(self, recovery: Recovery) -> None:
        instance, value = recovery.instance, recovery.value
        assert value is not None
        is_noop = value.body == NOOP
        self.counters["recovered_noop" if is_noop else "recovered"] += 1
        self._out.events.append(InstanceRecovered(instance.replica, instance.slot, "noop" if is_noop else "commands"))
        if instance.status < COMMITTED:
            self.acceptor.commit(instance, value.deps, value.seq, is_noop)
            self._send(self.others, self.acceptor.decision(instance))
            self._on_decided(instance)

    def _check_blockers(self, recovery: Recovery) -> None:
        """Something that a recovery waits for may be decided."""
        here = recovery.instance.id
        if recovery.phase is not Phase.WAIT or not recovery.is_current:
            return
        all_committed = True
        for replica, slot in recovery.blockers:
            blocker = self.grid.get(replica, slot)
            if blocker is None or blocker.status < COMMITTED:
                # An executed one that is forgotten here was executed without this instance, or this one would be, too.
                if self.grid.is_executed(replica, slot) and recovery.on_blocker_committed(False, False):
                    self._continue_recovery(recovery)
                    return
                all_committed = False
            elif not blocker.is_noop and not covers(blocker.deps, *here):
                if recovery.on_blocker_committed(False, False):
                    self._continue_recovery(recovery)
                return
        if all_committed and recovery.on_blocker_committed(True, True):
            self._continue_recovery(recovery)

    def _repeat_recovery(self, recovery: Recovery) -> None:
        """A question was not answered in time: ask again; after a few times begin anew, with other answers."""
        recovery.wait_ms = min(2 * recovery.wait_ms, self.settings.delay_ms)
        recovery.deadline_ms = self.now_ms + recovery.wait_ms
        recovery.attempt += 1
        if not recovery.is_current:
            self._give_up(recovery)
            return
        if recovery.attempt > ATTEMPTS_MAX and recovery.phase is not Phase.ACCEPT:
            self._give_up(recovery)
            return
        replica, slot = recovery.instance.id
        silent = tuple(node for node in recovery.silent() if node != self.node)
        if recovery.phase in (Phase.PREPARE, Phase.WAIT):
            self._send_after(Prepare(self.node, replica, slot, recovery.ballot), silent)
        if recovery.phase is Phase.WAIT:
            self._send(self.others, Waiting(self.node, replica, slot, recovery.votes))
        elif recovery.phase is Phase.VALIDATE:
            self._send(silent, self._validate(recovery))
        elif recovery.phase is Phase.ACCEPT:
            self._send(silent, self._recovered_value(recovery))

    def _give_up(self, recovery: Recovery) -> None:
        """Leave the instance alone for a while. Whatever was accepted stays accepted."""
        here = recovery.instance.id
        if self.recoveries.get(here) is recovery:
            del self.recoveries[here]
        self.counters["recoveries_failed"] += 1
        self.watch.postpone(here, self.now_ms + self._back_off(1))

    def _back_off(self, attempt: int) -> int:
        wait = min(self.settings.answer_ms << min(attempt, 4), self.settings.delay_ms)
        return wait + self._rng.randrange(wait // 2 + 1)

    # Heartbeats

    def _gossip(self) -> None:
        """Tell the others how far we are, and draw conclusions from what they have told."""
        gossip, index = self.gossip, self.index
        if self._disk is not DiskState.FULL:
            promise = gossip.next_promise()
            if promise is not None:
                self._out.records.append(Vowed(self.position, promise))
                gossip.vow(promise, self._gate())
        self._write_decisions()
        gossip.note_durable(self._persisted, self._gate())
        gossip.lower()
        index.sweep(SWEEP_KEYS)
        if len(index) > EPAXOS_KEYS_MAX:
            index.drop_all(self.grid.executed)
        self._send(self.others, self._heartbeat())
        if not self._is_caught_up and self._has_majority():
            self._is_caught_up = gossip.lag(self.failure_detector.connected()) <= BEHIND

    def _heartbeat(self) -> Heartbeat:
        gossip = self.gossip
        return Heartbeat(
            self.node,
            self.now_ms,
            gossip.own_executed,
            tuple(self.index.settled),
            gossip.own_promised,
            self.grid.highest,
            self.disk_lag_ms,
        )

    def _on_heartbeat(self, heartbeat: Heartbeat) -> None:
        vectors = (heartbeat.executed, heartbeat.settled, heartbeat.promised, heartbeat.highest)
        if any(len(vector) != self.n for vector in vectors):
            return
        self.gossip.hear(heartbeat)
        self._next = max(self._next, heartbeat.highest[self.me] + 1)
        self._peer_lag_ms[heartbeat.sender] = heartbeat.lag_ms
        self._send((heartbeat.sender,), HeartbeatReply(self.node, heartbeat.stamp))

    def _on_heartbeat_reply(self, reply: HeartbeatReply) -> None:
        self._heard.add(reply.sender)
        restored: Restored | None = self.failure_detector.on_reply(reply.sender, self.now_ms)
        if restored is not None:
            self._out.events.append(restored)
            self.watch.on_restored(reply.sender)

    def _suspect(self, suspicion: Suspected) -> None:
        self._out.events.append(suspicion)
        self._heard.discard(suspicion.node)
        self.watch.on_suspected(suspicion.node, self.now_ms)
        self._look_ms = self.now_ms

    def _has_majority(self) -> bool:
        return len((self.failure_detector.connected() & self._heard) | {self.node}) >= self.quorum_size

    def _check_serving(self) -> None:
        """A replica that cannot serve any more tells its clients so: they go elsewhere."""
        is_serving = self.is_serving
        if self._was_serving and not is_serving:
            reason = "disk-full" if self._disk is DiskState.FULL else "not-leader"
            self._out.returned.extend(Returned(batch, False, reason) for batch in self.intake.return_all())
            for count, body, _ in self._begun.values():
                self._out.returned.append(Returned(Batch(body, count), True, reason))
        self._was_serving = is_serving

    # Catch-up

    def _on_ask(self, ask: Ask) -> None:
        """Tell the decisions that we know; for what is forgotten here, offer a snapshot."""
        if len(ask.executed) != self.n:
            return
        size = 0
        forgotten: InstanceId | None = None
        for replica, start, stop in ask.wanted:
            if replica >= self.n or stop - start > SLOTS_AHEAD_MAX:
                return
            column = self.grid.columns[replica]
            for slot in range(start, min(stop, column.top + 1)):
                if size > CATCH_UP_BYTES_MAX:
                    break
                instance = column.cells.get(slot)
                if instance is None:
                    if column.is_executed(slot):
                        forgotten = (replica, slot)
                elif instance.status >= COMMITTED:
                    size += len(instance.body) + 64
                    self._send((ask.sender,), self.acceptor.decision(instance))
        if forgotten is not None:
            self._send((ask.sender,), Collected(self.node, *forgotten))
            self._offer_snapshot(ask.sender, ask.executed)

    def _offer_snapshot(self, node: NodeId, executed: Deps) -> None:
        """Offer the snapshot if it has what `node` has executed; else take a new one, as soon as that would have it."""
        if all(have >= wanted for have, wanted in zip(self._covered.prefix, executed, strict=True)):
            if node not in self._out.snapshot_wanted_by:
                self._out.snapshot_wanted_by.append(node)
        elif all(have >= wanted for have, wanted in zip(self.grid.executed, executed, strict=True)):
            self._out.is_snapshot_stale = True

    def _on_collected(self, collected: Collected) -> None:
        """Only a snapshot can bring this instance. Execute nothing meanwhile: the snapshot must cover all we have."""
        here = (collected.replica, collected.slot)
        if not self.grid.is_committed(*here):
            if not self._gone:
                self._look_ms = self._frozen_ask_ms = self.now_ms  # ask for it at once
            self._gone[here] = None
            self._is_caught_up = False
            self._check_serving()

    def _ask_for_snapshot(self, connected: frozenset[NodeId]) -> None:
        executed = executed_of(self.grid).highest
        wanted = tuple((replica, slot, slot + 1) for replica, slot in list(self._gone)[:EPAXOS_ASK_RANGES_MAX])
        replica, slot, _ = wanted[0]
        node = self.gossip.who_has(replica, slot, connected)
        receivers = (node,) if node is not None else tuple(sorted(connected))
        self._send(receivers, Ask(self.node, wanted, executed))

    # Output

    def take_output(self) -> Output:
        """Drain."""
        self._hear_self()
        self._run()
        self._pump()
        self._write_decisions()
        out = self._out
        if out.records:
            self._writing.append((out.write_no, self.now_ms))
            self._out = Output(out.write_no + 1)
        else:
            self._out = Output(out.write_no)
        return out

    def _write_changed(self) -> None:
        for instance in self.acceptor.changed:
            self._write_cell(instance)
        self.acceptor.changed.clear()

    def _write_cell(self, instance: Instance, status: int | None = None) -> None:
        is_first = instance.written_at is None
        if is_first:
            instance.written_at = self.position
        body = instance.body if is_first or not instance.is_body_written else None
        instance.is_body_written = bool(instance.body)
        self._out.records.append(
            Cell(
                self.position,
                instance.replica,
                instance.slot,
                min(instance.status, COMMITTED) if status is None else status,
                instance.bal,
                instance.vbal,
                instance.deps,
                instance.seq,
                instance.is_noop,
                instance.init_deps,
                instance.init_seq,
                instance.count,
                body or None,
            )
        )

    def _write_decisions(self) -> None:
        """Decisions since the last write: the commands of those that were never written, and a line for each other."""
        if not self._decided:
            return
        lines = []
        for instance in self._decided:
            if instance.is_body_written or (instance.is_noop and instance.written_at is not None):
                lines.append((instance.replica, instance.slot, instance.seq, instance.is_noop, instance.deps))
            else:
                self._write_cell(instance, COMMITTED)
        self._decided.clear()
        if lines:
            self._out.records.append(Decisions(self.position, tuple(lines)))

    def _gate(self) -> int:
        """The write on which everything said now depends: the one being gathered, or the last one handed out."""
        return self._out.write_no if self._out.records else self._out.write_no - 1

    def _send(self, receivers: tuple[NodeId, ...], message: Message) -> None:
        if receivers:
            self.counters["messages"] += len(receivers)
            self._out.sends.append((receivers, message))

    def _send_after(self, message: Message, receivers: tuple[NodeId, ...]) -> None:
        gate = self._gate()
        if gate <= self._persisted:
            self._send(receivers, message)
        elif receivers:
            self.counters["messages"] += len(receivers)
            self._out.sends_after.append((gate, receivers, message))

    def _when_durable(self, action: Callable[[], None]) -> None:
        """Our own vote counts once it is durable, like everybody's."""
        self._own.append((self._gate(), action))

    def _hear_self(self) -> None:
        while self._own and self._own[0][0] <= self._persisted:
            self._own.popleft()[1]()

    def _other_numbers(self) -> tuple[int, ...]:
        return tuple((self.me + step) % self.n for step in range(1, self.n))

    def _is_sane(self, message: Any) -> bool:
        """Whether the message can be one of a replica of this cluster."""
        if message.replica >= self.n or message.slot > self.grid.columns[message.replica].executed + SLOTS_AHEAD_MAX:
            return False
        deps: Deps | None = getattr(message, "deps", None)
        if deps is not None and len(deps) != self.n:
            return False
        conflicts = getattr(message, "conflicts", ())
        return all(conflict.replica < self.n for conflict in conflicts) and (
            not isinstance(message, PrepareReply) or len(message.init_deps) == self.n
        )

    # For people and tests

    @property
    def own_open(self) -> int:
        """Instances that were begun here and are not executed."""
        return len(self._begun)

    def graph_size(self) -> tuple[int, int, int]:
        """How many instances are kept; committed and waiting; executed. By counting columns, not instances."""
        kept = len(self.grid)
        executed = sum(
            len(column.cells) - sum(map(column.cells.__contains__, range(column.executed + 1, column.top + 1)))
            for column in self.grid.columns
        ) + sum(sum(map(column.cells.__contains__, column.above)) for column in self.grid.columns)
        return kept, self.executor.committed_waiting, executed

    def status(self) -> dict[str, Any]:
        """What is open and how the others are, for /status."""
        connected = self.failure_detector.connected()
        return {
            "role": "replica",
            "round": -1,
            "caught_up": self._is_caught_up and not self._gone,
            "replica": self.me,
            "detector": {"policy": "leaderless", "delay_ms": self.failure_detector.delay_ms},
            "log": {
                "executed": list(self.grid.executed),
                "highest": list(self.grid.highest),
                "instances": len(self.grid),
                "buffered_slots": self.executor.committed_waiting,
                "own_open": len(self._begun),
                "keys": len(self.index),
            },
            "recovering": len(self.recoveries),
            "commits": {name: self.counters[name] for name in ("fast", "slow", "recovered", "recovered_noop")},
            "peers": {
                str(node): {
                    "up": node in self._links_up,
                    "suspected": node not in connected,
                    "executed": list(self.gossip.executed[node]),
                    "disk_lag_ms": self._peer_lag_ms.get(node, 0),
                }
                for node in self.others
            },
        }

    def check_invariants(self) -> None:
        """What must hold between any two inputs."""
        assert not self.acceptor.changed
        assert self._next > max(self.proposals, default=NO_SLOT)
        for replica, column in enumerate(self.grid.columns):
            assert column.executed + 1 not in column.above
            assert self.index.floor[replica] <= self.index.promised[replica] <= self.index.settled[replica]
            for slot in range(max(column.executed - CHECKED_BELOW, 0), column.top + 1):  # older ones do not change
                instance = column.cells.get(slot)
                if instance is None:
                    continue
                assert instance.id == (replica, slot)
                assert instance.vbal <= instance.bal or instance.status >= COMMITTED
                assert (instance.status == EXECUTED) == column.is_executed(slot)
                if instance.status >= PREACCEPTED and instance.deps:
                    assert instance.deps[replica] < slot
        for here, recovery in self.recoveries.items():
            assert recovery.instance.id == here
            assert recovery.instance.status < COMMITTED
        for proposal in self.proposals.values():
            assert proposal.instance.status < COMMITTED
        assert self._begun_commands == sum(count for count, _, _ in self._begun.values())


COUNTERS = (
    "fast", "slow", "recovered", "recovered_noop", "proposed_again", "recoveries", "recoveries_failed",
    "thrifty_fallbacks", "executed", "messages",
)  # fmt: skip

CHECKED_BELOW = 16
"""Executed instances of a column that are checked again and again."""

SAMPLES_MAX = 10_000
"""Samples kept for metrics between two scrapes."""

ATTEMPTS_MAX = 6
"""A recovery without an end after so many repetitions begins again, in a higher ballot."""
