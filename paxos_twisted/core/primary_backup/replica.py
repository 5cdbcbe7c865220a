"""The primary-backup engine: one node's log, its part as primary or backup, and the views, behind the engine contract.

`docs/primary-backup.md` has the picture and says why it is safe. A slot is committed when all members of the view have
it durably; who the members are, and who is primary, a majority of all nodes decides with Multi-Paxos (`views.py`).
[protocol-rules 80-83; Lamport, Malkhi, Zhou, Vertical Paxos and Primary-Backup Replication, section 4]
"""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any, assert_never

from paxos_twisted.core.command import is_run
from paxos_twisted.core.detectors.failure import FailureDetector
from paxos_twisted.core.engine import Batch, DecidedRun, DiskState, LinkState, Output, Returned
from paxos_twisted.core.events import (
    CampaignStarted,
    FillEnded,
    Healed,
    LeaderChanged,
    LineDiverged,
    Restored,
    SteppedDown,
    Suspected,
    ViewAsked,
    ViewChanged,
)
from paxos_twisted.core.multipaxos.catch_up import CatchUp
from paxos_twisted.core.multipaxos.replica import MARK_MS, SLOTS_KEPT, STALL_MS
from paxos_twisted.core.primary_backup.held import Entry, HeldLog
from paxos_twisted.core.primary_backup.intake import Intake
from paxos_twisted.core.primary_backup.messages import (
    LINEAGE_MAX,
    Ack,
    Canvass,
    Commit,
    Deposed,
    Fetch,
    Fetched,
    Message,
    NewView,
    Resign,
    Standing,
    Support,
    Update,
    ViewDecided,
    ViewPart,
    ViewTold,
    ViewWanted,
)
from paxos_twisted.core.primary_backup.outbox import Outbox
from paxos_twisted.core.primary_backup.primary import Follower, Primary
from paxos_twisted.core.primary_backup.restore import ENDLESS, restore
from paxos_twisted.core.primary_backup.settings import Settings
from paxos_twisted.core.primary_backup.succession import Returns, Succession
from paxos_twisted.core.primary_backup.view import Epoch, View, ViewChange, is_sound
from paxos_twisted.core.primary_backup.views import AssumedViews, Views, VotedViews
from paxos_twisted.core.records import Chosen, Entered, Header, Held, LogRecord, Reached, Truncated
from paxos_twisted.limits import (
    ALPHA_MAX,
    CATCH_UP_BYTES_MAX,
    LOG_BYTES_KEPT_MAX,
    PROPOSALS_MAX,
    WINDOW_BYTES_MAX,
)
from paxos_twisted.types import NO_NODE, NO_SLOT, NodeId, Slot

JOIN_SLOTS = 4096
"""A node that lags by no more is sent the updates; one that lags by more fetches what is committed first."""

NOBODY_COUNTS = View(0, ())
"""The view of a node that has entered none."""


class Peer:
    """What another node said of itself last."""

    __slots__ = ("able", "adu", "ceded", "entered", "epoch", "is_known", "lag_ms", "serving")

    def __init__(self) -> None:
        self.is_known = False
        """It was heard since this node started."""
        self.epoch: Epoch = 0
        self.entered: Epoch = 0
        self.serving = False
        self.able = True
        self.adu: Slot = NO_SLOT
        self.lag_ms = 0
        self.ceded: Epoch = 0
        """It gave up this epoch by itself: it is not the one to open the next."""


class PrimaryBackup:
    """One replica. See `paxos_twisted.core.engine.Engine` for the contract, and `MultiPaxos` for the arguments."""

    name = "primary-backup"
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
        self.alpha = min(settings.alpha, ALPHA_MAX)
        restored = restore(entries, lost, snapshot, applied)
        self.log: HeldLog = restored.log
        self._outbox = Outbox()
        self.views: Views
        if settings.mode == "safe":
            inner_rng = Random(rng.getrandbits(64))
            self.views = VotedViews(node, self.members, settings, inner_rng, self._outbox, restored)
        else:
            self.views = AssumedViews(node, self.members, restored)
        self.nonce = rng.getrandbits(62) or 1
        """Names this incarnation in the views that it asks for."""
        self.entered: View = restored.entered or NOBODY_COUNTS
        """The view whose updates this node takes; its epoch never goes down, also across restarts."""
        self.lineage: deque[tuple[Epoch, Slot]] = deque(restored.lineage, LINEAGE_MAX)
        self.primary: Primary | None = None
        """Set while this node serves as primary."""
        self.is_diverged = False
        """Mode no-partitions: this node has committed what the primary of a later epoch does not have."""
        self.failure_detector = FailureDetector(node, self.members, settings.delay_ms, settings.delta_ms)
        self.succession = Succession(node, self.quorum_size, rng)
        self.returns = Returns(settings.delay_ms)
        self.intake = Intake(self.alpha)
        self.catch_up = CatchUp(settings.catch_up_ms)
        self.peers: dict[NodeId, Peer] = {other: Peer() for other in self.others}
        self.now_ms = 0
        """Engine time: the tick's clock without the time during which this node was frozen."""
        self._clock_ms: int | None = None

        self.views.drain()  # what the log says
        self.view = self.views.view
        """The newest view that this node knows."""
        if self.entered.epoch > self.view.epoch:
            self.view = self.entered
            self.views.adopt(self.entered)

        self.view_changes = 0
        """Views that began since this node started."""
        self._leader = NO_NODE
        self._leader_epoch: Epoch = 0
        self._leader_heard_ms = 0
        self._leader_link_lost = False
        self._lost_cause = "start"
        self._lost_ms = 0
        self._met = False  # the primary of the view was heard since this node started
        self._commit_known = NO_SLOT  # told by a primary; may be beyond what is here
        self._commit_told = NO_SLOT
        self._own_from: Slot = 0  # the first slot that was given to a command of a client of this node
        self._own_bytes: deque[tuple[Slot, int]] = deque()  # (slot after the last, bytes) of open entries
        self._open_bytes = 0
        self._own: deque[tuple[int, Epoch, Slot]] = deque()  # (write, epoch, slot): held by us once it is written
        self._heartbeat_ms = 0
        self._beat_soon = False
        self._electable_from_ms = 0
        self._is_leaving = False
        self._disk = DiskState.GOOD
        self._links_up: set[NodeId] = set()
        self._refused: set[NodeId] = set()  # whose process has ended, as far as the transport knows
        self._marked = self.log.adu
        self._wrote_ms = 0
        self._outbox.out.decided.extend(restored.decided)

    # What others may ask

    @property
    def adu(self) -> Slot:
        """Every slot up to here is committed, known, and given out to be applied; never goes down."""
        return self.log.adu

    @property
    def log_first(self) -> Slot:
        """The first slot that this node can still tell."""
        return self.log.first

    @property
    def epoch(self) -> Epoch:
        """The epoch of the newest view that this node knows."""
        return self.view.epoch

    @property
    def round(self) -> int:
        """The epoch, in the words of the engine contract."""
        return self.view.epoch

    @property
    def leader(self) -> NodeId:
        """The primary, if it is known to serve; else NO_NODE."""
        return self._leader

    def lag_of(self, node: NodeId) -> int:
        """Slots that this primary has given out and `node`, a backup, has not acknowledged; 0 for everybody else."""
        primary = self.primary
        if primary is None or node not in primary.required:
            return 0
        return max(primary.end - max(primary.followers[node].acked, primary.start - 1), 0)

    @property
    def role(self) -> str:
        """primary; candidate: asks for a view to be primary; backup; joining: in no view; diverged."""
        if self.is_diverged:
            return "diverged"
        if self.primary is not None:
            return "primary"
        if self.views.wanted is not None or self.succession.is_asking:
            return "candidate"
        return "backup" if self.node in self.view.members else "joining"

    @property
    def takes_commands(self) -> bool:
        """This node serves as primary."""
        return self.primary is not None

    @property
    def waiting(self) -> int:
        """Commands queued or open here."""
        if self.primary is None:
            return 0
        return self.intake.count + max(self.primary.end - max(self.log.adu, self._own_from - 1), 0)

    @property
    def able(self) -> bool:
        """This node could be a member of a view, and primary."""
        return not (self._is_leaving or self._disk is DiskState.FULL or self.log.damaged or self.is_diverged)

    @property
    def is_caught_up(self) -> bool:
        """Everything that a peer said is committed, give or take what is on its way, is committed here."""
        return self.log.adu + ALPHA_MAX // 16 >= self.catch_up.target and not self.log.damaged

    @property
    def is_ready(self) -> bool:
        """The primary is known, and this node has caught up."""
        return self._leader != NO_NODE and self.is_caught_up and not self.is_diverged

    @property
    def disk_lag_ms(self) -> int:
        """Age of the oldest unfinished write, in engine time."""
        return self._outbox.lag_ms(self.now_ms)

    # Inputs

    def on_message(self, src: NodeId, message: Message) -> None:
        """Take a message from peer `src`; `message.sender` was checked against the connection."""
        match message:
            case Update():
                self._on_update(message)
            case Ack():
                self._on_ack(message)
            case Commit():
                self._on_commit(message)
            case Standing():
                self._on_standing(message)
            case ViewPart() | ViewWanted() | ViewTold():
                self.views.on_message(src, message)
                self._settle()
            case Canvass():
                self._on_canvass(message)
            case Support():
                self._on_support(message)
            case ViewDecided(view=view):
                if is_sound(view.members):
                    self._on_view(view)
                    self._settle()
            case NewView():
                self._on_new_view(message)
            case Deposed():
                self._on_deposed(message)
            case Resign():
                self._on_resign(message)
            case Fetch():
                self._on_fetch(message)
            case Fetched():
                self._on_fetched(message)
            case _:
                assert_never(message)

    def on_propose(self, batch: Batch) -> None:
        """Queue commands if this node serves; else hand them back."""
        returned = self._outbox.out.returned
        if self._disk is DiskState.FULL:
            returned.append(Returned(batch, False, "disk-full"))
        elif self.primary is None:
            returned.append(Returned(batch, False, "not-leader"))
        elif self.waiting + batch.count > PROPOSALS_MAX:
            returned.append(Returned(batch, False, "overloaded"))
        else:
            self.intake.add(batch)
            self._pump(self.primary)

    def on_persisted(self, write_no: int) -> None:
        """Writes up to `write_no` are durable: what is held here counts now, like what the backups hold."""
        self._outbox.on_persisted(write_no)
        self.views.on_persisted(write_no)
        self._hear_self()
        self._settle()

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The transport saw the connection to `node` change."""
        self.views.on_link(node, state)
        if state is LinkState.UP:
            self._links_up.add(node)
            self._refused.discard(node)
            if node == self._leader:
                self._leader_link_lost = False
            self._outbox.send((node,), self._standing(is_answer=False))
        else:
            self._links_up.discard(node)
            if node == self._leader:
                self._leader_link_lost = True
            if state is LinkState.REFUSED:
                self._refused.add(node)
                self._suspect(self.failure_detector.on_refused(node))
                if node == self._leader:
                    self._lose_leader("suspect")
                self._act()
        self._settle()

    def on_disk(self, state: DiskState) -> None:
        """A full disk: store nothing, serve nobody; heartbeats and answers go on."""
        if state is self._disk:
            return
        self._disk = state
        self.views.on_disk(state)
        if state is DiskState.FULL:
            self._step_down("disk-full")
            self._beat_soon = True
        self._settle()

    def resign(self, cause: str) -> None:
        """Hand over to the head of the queue, and do not seek to be primary for two detector delays."""
        self._electable_from_ms = self.now_ms + 2 * self.failure_detector.delay_ms
        if cause == "stopping":
            self._is_leaving = True
            self.views.resign(cause)
        self._step_down(cause)
        self._settle()

    def on_snapshot(self, slot: Slot) -> None:
        """A durable snapshot covers every slot up to `slot`: forget what is far enough behind."""
        first = self._first_to_keep(slot)
        self.log.drop_below(first)
        self._repeat_state(first)
        self._settle()

    def on_installed(self, slot: Slot) -> None:
        """The state of a peer after `slot` was installed here and is durable."""
        if slot > self.log.adu:
            self._step_down("view")  # what is open here will not be applied slot by slot: hand it back
            self.log.skip_to(slot)
        self.log.drop_below(slot + 1)
        self._repeat_state(slot + 1)
        self._commit_to(self._commit_known)
        self._acknowledge(self.entered.primary)
        self._settle()

    def on_tick(self, now_ms: int) -> None:
        """Time goes on."""
        if self._clock_ms is None:
            self._clock_ms = now_ms
            self.failure_detector.start(0)
        self.now_ms += min(max(now_ms - self._clock_ms, 0), STALL_MS)
        self._clock_ms = now_ms
        self.views.on_tick(now_ms)
        for suspicion in self.failure_detector.check(self.now_ms):
            self._suspect(suspicion)
        if self.now_ms >= self._heartbeat_ms or self._beat_soon:
            self._heartbeat_ms = self.now_ms + self.settings.heartbeat_ms
            self._beat_soon = False
            self._outbox.send(self.others, self._standing(is_answer=False))
        if self.primary is not None:
            self._serve_on(self.primary)
        elif self._leader not in (NO_NODE, self.node):
            silent_ms = self.now_ms - self._leader_heard_ms
            if silent_ms > self.failure_detector.delay_ms:
                self._lose_leader("suspect")
        self._settle()
        self._act()
        self._ask_if_behind()
        if self.log.adu > self._marked and self.now_ms - self._wrote_ms >= MARK_MS and self._disk is DiskState.GOOD:
            self._persist(Reached(self.log.adu))
        self._settle()

    def take_output(self) -> Output:
        """Drain."""
        self._hear_self()
        if self._outbox.out.records:
            self._wrote_ms = self.now_ms
        return self._outbox.take(self.now_ms)

    def status(self) -> dict[str, Any]:
        """Role, view, how far the backups are, for /status."""
        connected = self.failure_detector.connected()
        primary = self.primary
        backups = {} if primary is None else primary.followers
        return {
            "role": {"primary": "leader", "candidate": "candidate"}.get(self.role, "follower"),
            "part": self.role,
            "round": self.view.epoch,
            "mode": self.settings.mode,
            "view": {
                "epoch": self.view.epoch,
                "entered": self.entered.epoch,
                "primary": self.view.primary,
                "queue": list(self.view.queue),
                "serving": self._leader == self.view.primary,
            },
            "caught_up": self.is_caught_up,
            "detector": {"policy": "queue", "delay_ms": self.failure_detector.delay_ms},
            "log": {
                "first_slot": self.log.first,
                "held_to": self.log.entries.stop - 1,
                "open_runs": len(self._own_bytes),
                "buffered_slots": max(self.log.entries.stop - 1 - self.log.adu, 0) if primary is None else 0,
            },
            "silent_slots": [[start, stop] for start, stop in self.log.damaged],
            "view_log": self.views.status(),
            "peers": {
                str(node): {
                    "up": node in self._links_up,
                    "suspected": node not in connected,
                    "adu": self.catch_up.known.get(node, NO_SLOT),
                    "disk_lag_ms": peer.lag_ms,
                    "able": peer.able,
                    "part": self._part_of(node),
                    "acked": backups[node].acked if node in backups else NO_SLOT,
                }
                for node, peer in self.peers.items()
            },
        }

    def _part_of(self, node: NodeId) -> str:
        if node not in self.view.members:
            return "joining" if self.primary is not None and node in self.primary.joining else "none"
        return "primary" if node == self.view.primary else "backup"

    def check_invariants(self) -> None:
        """What must hold between any two inputs."""
        self.log.check_invariants()
        self.views.check_invariants()
        assert self.entered.epoch <= self.view.epoch
        assert is_sound(self.view.members)
        assert self._outbox.persisted < self._outbox.out.write_no
        assert self._open_bytes == sum(size for _, size in self._own_bytes)
        primary = self.primary
        if primary is None:
            assert not self.intake.count
            assert not self._own_bytes
        else:
            assert primary.view == self.view == self.entered
            assert primary.view.primary == self.node
            assert primary.view.nonce == self.nonce
            assert self.log.good(primary.view.epoch) == primary.end
            assert primary.asked <= primary.joining
            assert all(follower.acked <= primary.end for follower in primary.followers.values())
            assert self._leader == self.node

    # The primary's part

    def _open(self, view: View) -> None:
        """Become (or stay) primary, in an epoch that this incarnation has asked for.

        What this node holds above `adu` may have been committed: every slot that was, it holds, because it was a member
        of the view before. So it makes all of it its own, under the new epoch, before anything else.
        """
        log, node = self.log, self.node
        end = log.end
        self._enter(view, end + 1)
        start = log.adu + 1
        if self.primary is None:
            self._own_from = end + 1
        primary = Primary(node, view, start, end, self.others, self.settings.phase2_ms)
        primary.is_filled = self.primary is not None  # it goes on: nothing is taken over
        self.primary = primary
        self._own_bytes.clear()
        self._open_bytes = 0
        for entry in list(log.joined(start, end + 1, view.epoch)):
            self._hold(entry)
        self._own.append((self._outbox.gate, view.epoch, end))
        new_view = self._new_view(primary)
        if self.views.needs_majority:
            self._outbox.send(self.others, new_view)
        else:
            # Nobody but this node's disk knows of its epoch: it must not be used again after a crash. So the view
            # waits for the disk, and the updates for the first answer to it.
            self._outbox.send_after(self.others, new_view)
            for follower in primary.followers.values():
                follower.is_sent = False
        self._follow(node, view.epoch, self._lost_cause)
        self._beat_soon = True
        self._commit_told = NO_SLOT
        for backup in view.queue:
            self._stream(primary, backup, primary.followers[backup])
        self._hear_self()
        self._advance(primary)

    def _new_view(self, primary: Primary) -> NewView:
        lineage = () if self.views.needs_majority else tuple(self.lineage)
        return NewView(self.node, primary.view, primary.start, primary.stop, lineage)

    def _hold(self, entry: Entry) -> None:
        """The primary's own copy."""
        self.log.put(entry)
        self._persist(Held(entry.epoch, entry.slot, entry.count, entry.body, self.log.adu))
        self._own_bytes.append((entry.stop, len(entry.body)))
        self._open_bytes += len(entry.body)

    def _pump(self, primary: Primary) -> None:
        """Give slots to queued commands while the window has room, store them and send them to all, in parallel."""
        epoch = primary.view.epoch
        before = primary.end
        while self.intake.count:
            room = self.log.adu + self.alpha - primary.end
            if room <= 0 or self._open_bytes >= WINDOW_BYTES_MAX:
                break
            batch = self.intake.take(room)
            assert batch is not None
            entry = Entry(primary.end + 1, epoch, batch.body, batch.count)
            primary.end = entry.stop - 1
            self._hold(entry)
            self._send_update(primary, entry)
        if primary.end > before:
            self._own.append((self._outbox.gate, epoch, primary.end))

    def _send_update(self, primary: Primary, entry: Entry) -> None:
        """A new entry goes to all that have been sent everything before it; the others get it in their turn."""
        receivers: list[NodeId] = []
        for node, follower in primary.followers.items():
            if follower.is_sent and follower.next == entry.slot and follower.has_room:
                follower.on_sent(entry, self.now_ms)
                receivers.append(node)
        if receivers:
            self._outbox.send(tuple(receivers), self._update(primary, entry))
            self._commit_told = self.log.adu

    def _update(self, primary: Primary, entry: Entry) -> Update:
        return Update(self.node, primary.view.epoch, entry.slot, entry.body, self.log.adu, entry.count)

    def _stream(self, primary: Primary, node: NodeId, follower: Follower) -> None:
        """Send `node` what it has not been sent, as far as there is room."""
        if not follower.is_sent or follower.next > primary.end:
            return
        if follower.next < self.log.first:
            self._outbox.out.snapshot_wanted_by.append(node)
            follower.rewind(self.log.first, self.settings.delay_ms)
        room = WINDOW_BYTES_MAX - follower.flight_bytes
        for entry in self.log.between(follower.next, primary.end + 1, min(room, CATCH_UP_BYTES_MAX)):
            follower.on_sent(entry, self.now_ms)
            self._outbox.send((node,), self._update(primary, entry))

    def _on_ack(self, ack: Ack) -> None:
        primary = self.primary
        if primary is None or ack.epoch != primary.view.epoch or ack.slot > primary.end:
            return
        follower = primary.followers[ack.sender]
        if not follower.is_sent and ack.sender in primary.view.members:
            follower.is_sent = True
            self._stream(primary, ack.sender, follower)
        if not follower.on_ack(ack.slot, self.now_ms, self.settings.phase2_ms):
            return
        self._advance(primary)
        if self.primary is primary:
            if follower.next <= primary.end:
                self._stream(primary, ack.sender, follower)
            if ack.sender in primary.joining and ack.sender not in primary.asked:
                self._review_view(primary)
                self._settle()

    def _advance(self, primary: Primary) -> None:
        """Commit what everybody has, and answer for it."""
        commit = primary.committed()
        if commit > self.log.adu:
            self._commit(commit)
            while self._own_bytes and self._own_bytes[0][0] <= commit + 1:
                self._open_bytes -= self._own_bytes.popleft()[1]
            self._pump(primary)
        if not primary.is_filled and self.log.adu >= primary.stop - 1:
            primary.is_filled = True
            self._outbox.out.events.append(FillEnded(primary.view.epoch))

    def _hear_self(self) -> None:
        """What is written here counts for the commitment."""
        persisted, newest = self._outbox.persisted, NO_SLOT
        while self._own and self._own[0][0] <= persisted:
            _, epoch, slot = self._own.popleft()
            if self.primary is not None and epoch == self.primary.view.epoch:
                newest = max(newest, slot)
        if self.primary is not None and newest > self.primary.acked:
            self.primary.acked = newest
            self._advance(self.primary)

    def _serve_on(self, primary: Primary) -> None:
        """A primary's duties at each tick: reach its view, have a working disk, repeat what was not answered."""
        delay = self.failure_detector.delay_ms
        if self.views.needs_majority:
            heard = sum(self.failure_detector.silence_ms(node, self.now_ms) <= delay for node in self.members)
            if heard < self.quorum_size and primary.required - self.failure_detector.connected():
                # It can neither commit nor get another view; somebody else may be able to.
                self._step_down("quorum")
                return
        if self._is_own_disk_slow(primary):
            self._electable_from_ms = self.now_ms + 4 * delay
            self._step_down("disk-slow")
            return
        for node, follower in primary.followers.items():
            if not follower.is_sent:
                continue
            if follower.is_overdue(self.now_ms):
                follower.rewind(self.log.first, self.settings.delay_ms)
            if follower.has_entered or node in primary.view.members:
                self._stream(primary, node, follower)
        if self._commit_told < self.log.adu:
            sent = tuple(node for node, follower in primary.followers.items() if follower.has_entered)
            self._outbox.send(sent, Commit(self.node, primary.view.epoch, self.log.adu))
            self._commit_told = self.log.adu

    def _is_own_disk_slow(self, primary: Primary) -> bool:
        """This node's disk holds all up, and some backup's does not: then somebody else should be primary."""
        limit = self.settings.disk_slow_ms
        if self.disk_lag_ms <= limit:
            return False
        connected = self.failure_detector.connected()
        return any(node in connected and self.peers[node].lag_ms <= limit // 4 for node in primary.view.queue)

    def _step_down(self, cause: str) -> None:
        """Stop serving. Clients are answered from committed slots only, so nothing said so far becomes untrue."""
        primary = self.primary
        if primary is None:
            return
        self.primary = None
        reason = "disk-full" if cause == "disk-full" else "not-leader"
        returned = self._outbox.out.returned
        returned.extend(Returned(batch, False, reason) for batch in self.intake.drain())
        start = max(self._own_from, self.log.adu + 1)
        for entry in list(self.log.between(start, primary.end + 1, 2**62)):
            returned.append(Returned(Batch(entry.body, entry.count), True, reason))
        self._own_bytes.clear()
        self._open_bytes = 0
        self.succession.end()
        self.views.forget()
        epoch = primary.view.epoch
        self._outbox.out.events.append(SteppedDown(epoch, "round" if cause == "view" else cause))
        if cause != "view":
            self._outbox.send(self.others, Resign(self.node, epoch, self._is_leaving))
        self._lose_leader("handover" if cause in ("asked", "stopping") else "quorum" if cause == "quorum" else "round")

    # Views

    def _settle(self) -> None:
        """Take new views, and all that follows from them, until there is nothing new."""
        while views := self.views.drain():
            for view in views:
                self._on_view(view)

    def _on_view(self, view: View) -> None:
        """There is a later view."""
        if view.epoch <= self.view.epoch:
            return
        before, self.view = self.view, view
        self.views.adopt(view)
        self.views.forget()
        self.succession.end()
        for node in before.members:
            if node not in view.members and node not in self._refused:
                self.returns.on_left(node, self.now_ms)
        self.view_changes += 1
        self._outbox.out.events.append(ViewChanged(view.epoch, view.primary, view.queue))
        is_mine = view.primary == self.node and view.nonce == self.nonce
        is_over = view.epoch < self._leader_epoch  # somebody serves in a later one; this was decided long ago
        if is_mine and not is_over and (self.able or self.primary is not None):
            self._open(view)
            return
        self._step_down("view")
        if self._leader not in (NO_NODE, view.primary) and self._leader_epoch < view.epoch:
            self._lose_leader("round")
        self._lost_ms = self.now_ms

    def _enter(self, view: View, stop: Slot) -> None:
        """Obey the primary of `view` from now on, and nobody of a lower epoch any more."""
        self.log.void_from(stop)
        self.entered = view
        self.lineage.append((view.epoch, stop))
        self._persist(Entered(view.epoch, view.members, view.nonce, stop))

    def _on_new_view(self, new: NewView) -> None:
        view = new.view
        if self.is_diverged or self._disk is DiskState.FULL:
            return
        if view.primary != new.sender or not is_sound(view.members) or new.start > new.stop:
            return
        if view.epoch < self.view.epoch:
            self._outbox.send((new.sender,), Deposed(self.node, self.view))
            return
        self._on_view(view)
        if view.epoch > self.entered.epoch:
            if self._has_diverged(new):
                return
            self._enter(view, new.stop)
            # A member holds every slot that was committed before; what it holds there is what was committed.
            if self.node in view.members and self.log.end >= new.start - 1:
                self._commit(new.start - 1)
        self.catch_up.note(new.sender, new.start - 1)
        self._follow(new.sender, view.epoch, self._lost_cause)
        self._acknowledge(new.sender)

    def _has_diverged(self, new: NewView) -> bool:
        """Mode no-partitions: whether this node has committed slots that the line of the new primary has without it.

        The first epoch of that line which this node did not enter began without the slots from its `stop` on. What we
        committed there, was committed by another primary at the same time.
        """
        if self.views.needs_majority:
            return False
        stop = next((stop for epoch, stop in new.lineage if epoch > self.entered.epoch), new.stop)
        if self.log.adu < stop:
            return False
        self.is_diverged = True
        self._lose_leader("round")
        self._outbox.out.events.append(LineDiverged(new.sender, stop, self.log.adu))
        return True

    def _on_deposed(self, deposed: Deposed) -> None:
        """Somebody refuses this node because of a later view."""
        if not is_sound(deposed.view.members) or deposed.view.primary == self.node:
            return  # our own next view: the view log will tell
        self._on_view(deposed.view)

    def _on_resign(self, resign: Resign) -> None:
        peer = self.peers[resign.sender]
        peer.serving = False
        peer.ceded = resign.epoch
        if resign.is_leaving:
            peer.able = False
        if resign.sender == self._leader and resign.epoch >= self._leader_epoch:
            self._lose_leader("handover")
        self._act()
        self._settle()

    # Asking for another view

    def _act(self) -> None:
        """What is due: as primary, views with other backups; as somebody in the queue, to take over."""
        if self._clock_ms is None:
            return
        if self.succession.is_over(self.now_ms):
            self.succession.fail(self.now_ms, self.failure_detector.delay_ms)
        if self.primary is not None:
            self._admit(self.primary)
            self._review_view(self.primary)
        else:
            self._take_over_if_due()

    def _take_over_if_due(self) -> None:
        if self.views.wanted is not None and (self._leader != NO_NODE or not self.able):
            self.views.forget()
        if (
            self._leader != NO_NODE
            or not self.able
            or self.node not in self.view.members
            or self.now_ms < max(self._electable_from_ms, self.succession.next_ms)
            or self.succession.is_asking
            or self.views.wanted is not None
            or self.now_ms < self._lost_ms + self._rank() * self.failure_detector.delay_ms // 2
        ):
            return
        if self.views.needs_majority:
            if len(self._links_up) + 1 < self.quorum_size:
                return
            self._outbox.out.events.append(CampaignStarted())
            self._canvass(takes_over=True)
        elif self._may_assume():
            self._outbox.out.events.append(CampaignStarted())
            self._want(self._successors())

    def _rank(self) -> int:
        """How many are before this node in the queue, the primary included, that could be primary instead."""
        connected = self.failure_detector.connected()
        rank = 0
        for node in self.view.members:
            if node == self.node:
                break
            peer = self.peers[node]
            rank += node in connected and peer.able and peer.ceded < self.view.epoch
        return rank

    def _may_assume(self) -> bool:
        """Mode no-partitions: whether "the head of the queue takes over" can be said by this node.

        Whoever has heard the primary knows the view. Whoever was started again does not: the primary may have changed
        the view meanwhile. It first hears all members of the view that it knows; the last one to go has the last view.
        """
        if self._met:
            return True
        others = [self.peers[node] for node in self.view.members if node != self.node]
        return all(peer.is_known and peer.epoch <= self.view.epoch for peer in others)

    def _successors(self) -> tuple[NodeId, ...]:
        """This node as primary, and whoever of the view is there; who has just resigned comes last."""
        connected = self.failure_detector.connected()
        there = [
            node for node in self.view.members if node != self.node and node in connected and self.peers[node].able
        ]
        there.sort(key=lambda node: self.peers[node].ceded >= self.view.epoch)
        return (self.node, *there)

    def _canvass(self, takes_over: bool) -> None:
        question = self.succession.ask(self.view.epoch, takes_over, self.now_ms, self.settings.phase1_ms)
        self._outbox.send(self.others, question)
        if self.succession.is_won():
            self._ask_for_view()  # a cluster of one

    def _on_canvass(self, canvass: Canvass) -> None:
        granted = canvass.epoch >= self.view.epoch
        if canvass.takes_over:
            is_working = (
                self._leader not in (NO_NODE, canvass.sender)
                and not self._leader_link_lost
                and (self._leader == self.node or self.now_ms - self._leader_heard_ms <= self.failure_detector.delay_ms)
            )
            granted = granted and not is_working
        self._outbox.send((canvass.sender,), Support(self.node, canvass.campaign, granted))

    def _on_support(self, support: Support) -> None:
        if self.succession.is_won(support):
            self._ask_for_view()
            self._settle()

    def _ask_for_view(self) -> None:
        """A majority agrees that another view is asked for."""
        primary = self.primary
        if primary is not None:
            members = self._wanted_members(primary)
            if members == primary.view.members and not primary.asked - set(members):
                return
            primary.asked |= set(members) - set(primary.view.members)
            assert primary.asked <= primary.joining
            self._want(members)
        elif self._leader == NO_NODE and self.able and self.node in self.view.members:
            self._want(self._successors())

    def _want(self, members: tuple[NodeId, ...]) -> None:
        assert members[0] == self.node
        self._outbox.out.events.append(ViewAsked(self.view.epoch + 1, members[1:]))
        self.views.want(ViewChange(self.view.epoch, members, self.nonce))

    def _review_view(self, primary: Primary) -> None:
        """Ask for another view when a backup is gone, or somebody has caught up."""
        if self.succession.is_asking or self.views.wanted is not None or self.now_ms < self.succession.next_ms:
            return
        members = self._wanted_members(primary)
        if members == primary.view.members and not primary.asked - set(members):
            return
        if self.views.needs_majority:
            self._canvass(takes_over=False)
        else:
            primary.asked |= set(members) - set(primary.view.members)
            self._want(members)

    def _wanted_members(self, primary: Primary) -> tuple[NodeId, ...]:
        """The view as it should be: who is there and keeps up; and behind them who holds all that is committed."""
        # What was held when the epoch began may have been committed before, though this node was not told.
        committed = max(self.log.adu, primary.stop - 1)
        stay = [node for node in primary.view.queue if self._keeps_up(primary, node)]
        join = [
            node
            for node in sorted(primary.joining)
            if node not in primary.view.members
            and primary.followers[node].acked >= committed
            and self._keeps_up(primary, node)
        ]
        return (self.node, *stay, *join)

    def _keeps_up(self, primary: Primary, node: NodeId) -> bool:
        """Whether `node` is there, could be primary, and answers updates."""
        peer, follower = self.peers[node], primary.followers[node]
        if node not in self.failure_detector.connected() or not peer.able:
            return False
        limit = max(self.settings.disk_slow_ms, self.failure_detector.delay_ms)
        if follower.owing_since_ms is None or self.now_ms - follower.owing_since_ms <= limit:
            return True
        return primary.slowest() != node  # others are no better

    def _admit(self, primary: Primary) -> None:
        """Bring those that are in no view nearer to it, one step at a time."""
        connected = self.failure_detector.connected()
        for node, follower in primary.followers.items():
            if node in primary.view.members:
                continue
            peer = self.peers[node]
            if node not in connected or not peer.able or not follower.has_entered:
                if follower.is_sent:
                    primary.let_go(node)
                    self._advance(primary)
            elif not follower.is_sent:
                next_slot = max(peer.adu, follower.acked) + 1
                is_near = next_slot >= self.log.first and self.log.adu - next_slot <= JOIN_SLOTS
                # Alone, the primary cannot wait: what it commits, nobody else has.
                may_return = not primary.view.queue or self.returns.may_return(node, self.now_ms)
                if is_near and may_return:
                    follower.is_sent = True
                    follower.rewind(next_slot, self.settings.phase2_ms)
                    follower.join_mark = primary.end
                    self._stream(primary, node, follower)
                    if follower.acked >= follower.join_mark:
                        primary.joining.add(node)
            elif follower.acked >= follower.join_mark:
                primary.joining.add(node)

    # The backup's part

    def _on_update(self, update: Update) -> None:
        epoch = self.entered.epoch
        if update.epoch < self.view.epoch:
            self._outbox.send((update.sender,), Deposed(self.node, self.view))
            return
        stop = update.slot + update.count
        if (
            update.epoch != epoch  # the primary tells its view again when it hears that we have not entered it
            or update.sender != self.entered.primary
            or self.is_diverged
            or self._disk is DiskState.FULL
            or stop > self.log.adu + 2 * ALPHA_MAX
            or not is_run(update.values, update.count)
        ):
            return
        self._hear_leader(update.sender)
        if stop > self.log.adu + 1:
            entry = Entry(update.slot, epoch, update.values, update.count)
            if entry.slot <= self.log.adu:
                entry = entry.cut(self.log.adu + 1)[1]
            if self.log.put(entry):
                self._persist(Held(epoch, entry.slot, entry.count, entry.body, self.log.adu))
        self._commit_to(update.commit)
        self._acknowledge(update.sender)

    def _on_commit(self, commit: Commit) -> None:
        if commit.epoch == self.entered.epoch and commit.sender == self.entered.primary and not self.is_diverged:
            self._hear_leader(commit.sender)
            self._commit_to(commit.slot)

    def _commit_to(self, commit: Slot) -> None:
        """A primary says that every slot up to `commit` is committed. What is here of its epoch is what it means."""
        self._commit_known = max(self._commit_known, commit)
        target = min(self._commit_known, self.log.good(self.entered.epoch))
        if target > self.log.adu:
            self._commit(target)

    def _acknowledge(self, primary: NodeId) -> None:
        """Tell how much is here, once it is durable."""
        epoch = self.entered.epoch
        if primary not in (self.node, NO_NODE) and epoch == self.view.epoch:
            self._outbox.send_after((primary,), Ack(self.node, epoch, self.log.good(epoch)))

    def _commit(self, slot: Slot) -> None:
        was_damaged = bool(self.log.damaged)
        self._outbox.out.decided.extend(self.log.commit(slot))
        self._note_healed(was_damaged)

    def _note_healed(self, was_damaged: bool) -> None:
        if was_damaged and not self.log.damaged:
            self._outbox.out.events.append(Healed(self.log.adu))

    # Who is there

    def _standing(self, is_answer: bool) -> Standing:
        return Standing(
            self.node,
            is_answer,
            self.view.epoch,
            self.entered.epoch,
            self.primary is not None,
            self.able,
            self.log.adu,
            self.log.first,
            self.disk_lag_ms,
        )

    def _on_standing(self, standing: Standing) -> None:
        sender = standing.sender
        peer = self.peers[sender]
        peer.is_known = True
        peer.epoch, peer.entered = standing.epoch, standing.entered
        peer.serving, peer.able = standing.serving, standing.able
        peer.adu, peer.lag_ms = standing.adu, standing.lag_ms
        if not self.is_diverged:
            self.catch_up.note(sender, standing.adu)
        if standing.is_answer:
            restored: Restored | None = self.failure_detector.on_reply(sender, self.now_ms)
            if restored is not None:
                self._outbox.out.events.append(restored)
        else:
            self._outbox.send((sender,), self._standing(is_answer=True))
        if standing.serving and standing.epoch >= self.view.epoch:
            if standing.epoch > self.view.epoch:
                self._step_down("view")  # whoever is primary in a later epoch: this node is not any more
            self._follow(sender, standing.epoch, self._lost_cause)
        elif standing.serving:
            self._outbox.send((sender,), Deposed(self.node, self.view))
        elif sender == self._leader:
            self._lose_leader("handover")
        primary = self.primary
        if primary is not None and not standing.is_answer and standing.entered < primary.view.epoch:
            self._outbox.send((sender,), self._new_view(primary))
        self._settle()

    def _suspect(self, suspicion: Suspected | None) -> None:
        if suspicion is not None:
            self._outbox.out.events.append(suspicion)

    def _follow(self, leader: NodeId, epoch: Epoch, cause: str) -> None:
        """`leader` serves in `epoch`."""
        if epoch < self._leader_epoch or self.is_diverged:
            return
        self._leader_heard_ms = self.now_ms
        if leader != self.node:
            self._met = True
        if leader == self._leader:
            self._leader_epoch = epoch
            return
        self._leader, self._leader_epoch = leader, epoch
        self._leader_link_lost = False
        self._outbox.out.events.append(LeaderChanged(leader, epoch, cause))
        self._lost_cause = "round"

    def _hear_leader(self, leader: NodeId) -> None:
        if leader == self._leader:
            self._leader_heard_ms = self.now_ms

    def _lose_leader(self, cause: str) -> None:
        if self._leader == NO_NODE:
            return
        self._leader = NO_NODE
        self._lost_ms = self.now_ms
        self._lost_cause = cause
        silent_ms = self.now_ms - self._leader_heard_ms
        self._outbox.out.events.append(LeaderChanged(NO_NODE, self._leader_epoch, cause, silent_ms))

    # Catching up

    def _ask_if_behind(self) -> None:
        if self.primary is not None:  # it holds everything, though it may not know yet that it is committed
            return
        whom = self.catch_up.whom_to_ask(self.log.adu, self.now_ms, self._sources())
        if whom is not None and self._disk is DiskState.GOOD:
            self._outbox.send((whom,), Fetch(self.node, self.log.adu + 1))

    def _sources(self) -> frozenset[NodeId]:
        """Who may be asked what is committed. In mode no-partitions only the primary whose view we have entered: others
        may be on another line."""
        connected = self.failure_detector.connected() - {self.node}
        if self.views.needs_majority:
            return connected
        primary = self.entered.primary
        return connected & {primary} if self.entered.epoch == self.view.epoch and not self.is_diverged else frozenset()

    def _on_fetch(self, fetch: Fetch) -> None:
        log = self.log
        if fetch.slot < log.first:
            self._outbox.out.snapshot_wanted_by.append(fetch.sender)
            return
        bodies: list[bytes] = []
        count = 0
        for entry in log.between(fetch.slot, log.adu + 1, CATCH_UP_BYTES_MAX):
            bodies.append(entry.body)
            count += entry.count
        self._outbox.send((fetch.sender,), Fetched(self.node, fetch.slot, count, b"".join(bodies), log.adu))

    def _on_fetched(self, fetched: Fetched) -> None:
        if self.is_diverged or self.primary is not None or self._disk is DiskState.FULL:
            return
        self.catch_up.note(fetched.sender, fetched.adu)
        if fetched.sender not in self._sources() or not fetched.count or not is_run(fetched.values, fetched.count):
            return
        was_damaged = bool(self.log.damaged)
        run: DecidedRun | None = self.log.learn(fetched.slot, fetched.count, fetched.values)
        if run is not None:
            self._persist(Chosen(run.slot, run.count, run.body))
            self._outbox.out.decided.append(run)
            self._note_healed(was_damaged)
            self._commit_to(self._commit_known)
            self._acknowledge(self.entered.primary)
        whom = self.catch_up.ask_again(self.log.adu, self.now_ms, self._sources())
        if whom is not None:
            self._outbox.send((whom,), Fetch(self.node, self.log.adu + 1))

    # Output

    def _persist(self, record: LogRecord | Truncated) -> None:
        self._outbox.persist(record)
        if isinstance(record, Held | Reached):
            self._marked = max(self._marked, record.adu)

    def _repeat_state(self, first: Slot) -> None:
        """Write again what must survive the truncation of the log below slot `first`."""
        if first <= 0 or not self.views.may_truncate:
            return
        entered = self.entered
        if entered.epoch:
            self._persist(Entered(entered.epoch, entered.members, entered.nonce, ENDLESS))
        self.views.repeat()
        self._persist(Reached(self.log.adu))
        self._persist(Truncated(first - 1))

    def _first_to_keep(self, slot: Slot) -> Slot:
        first, size = slot + 1, 0
        while first > self.log.first and slot - first < SLOTS_KEPT and size < LOG_BYTES_KEPT_MAX // 8:
            entry = self.log.entries.at(first - 1)
            assert entry is not None
            first = entry.slot
            size += len(entry.body)
        return max(first, self.log.first)
