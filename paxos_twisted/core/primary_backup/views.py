"""Where views come from: decided by a majority (`VotedViews`), or simply assumed (`AssumedViews`).

    engine                         VotedViews                                   the others
      │ want(change)                   │                                            │
      │ ─────────────────────────────> │ ViewWanted, to the leader of the view log ─>│
      │                                │ <── ViewPart: Prepare, Accept, Learn … ───> │
      │ <──────────── drain() -> views │                                            │

The Multi-Paxos engine inside is used unchanged. Its records are wrapped (`ViewLog`), its messages too (`ViewPart`), and
what waits for one of its writes waits for the write of the whole engine that holds it.
"""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any, Protocol

import msgspec

from paxos_twisted.core.engine import Batch, DiskState, LinkState
from paxos_twisted.core.multipaxos.replica import MultiPaxos
from paxos_twisted.core.multipaxos.settings import Settings as ViewSettings
from paxos_twisted.core.primary_backup.messages import ViewDecided, ViewPart, ViewTold, ViewWanted
from paxos_twisted.core.primary_backup.outbox import Outbox
from paxos_twisted.core.primary_backup.restore import Restored
from paxos_twisted.core.primary_backup.settings import Settings
from paxos_twisted.core.primary_backup.view import View, ViewChange, ViewRegister, encode_change, first_view, is_sound
from paxos_twisted.core.records import Chosen, Promised, Reached, Truncated, ViewKept, ViewLog, Voted
from paxos_twisted.limits import ROUND_STRIDE
from paxos_twisted.types import NO_NODE, NO_SLOT, NodeId, Slot

VIEWS_KEPT_MAX = 1000
"""Decisions about views after which the log is told their sum, so that they can be forgotten: a node on a bad link can
cause views for days while no command asks for a snapshot."""

VIEWS_OPEN_MAX = 8
"""Changes of the view that may be under way in the view log. One at a time makes sense; a few can meet there."""


class Views(Protocol):
    """Decides views. All methods are those of an engine, but for these:"""

    needs_majority: bool

    @property
    def view(self) -> View:
        """The newest view that it knows."""
        ...

    def want(self, change: ViewChange) -> None:
        """Ask for this change until `forget`, or until the epoch is over."""
        ...

    def forget(self) -> None:
        """Ask no longer. What was asked for may still come."""
        ...

    @property
    def wanted(self) -> ViewChange | None:
        """What is asked for."""
        ...

    def adopt(self, view: View) -> None:
        """Its primary says so."""
        ...

    def drain(self) -> list[View]:
        """Views that are new since the last call. Puts messages and records into the outbox."""
        ...

    def on_message(self, src: NodeId, message: ViewPart | ViewWanted | ViewTold) -> None:
        """Take a message about views."""
        ...

    def on_tick(self, now_ms: int) -> None:
        """Time goes on."""
        ...

    def on_persisted(self, write_no: int) -> None:
        """Writes of the whole engine up to `write_no` are durable."""
        ...

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The connection to `node` changed."""
        ...

    def on_disk(self, state: DiskState) -> None:
        """The disk changed."""
        ...

    def resign(self, cause: str) -> None:
        """The node is about to stop, or was asked to lead nothing."""
        ...

    @property
    def may_truncate(self) -> bool:
        """Whether the log may lose its old records now."""
        ...

    def repeat(self) -> None:
        """Write again what must survive the truncation of the log."""
        ...

    def status(self) -> dict[str, Any]:
        """For /status."""
        ...

    def check_invariants(self) -> None:
        """What must hold between any two inputs."""
        ...


class VotedViews:
    """Views as the commands of a Multi-Paxos log: a majority of all members decides each, in one order for all."""

    needs_majority = True

    def __init__(
        self,
        node: NodeId,
        members: Sequence[NodeId],
        settings: Settings,
        rng: Random,
        outbox: Outbox,
        restored: Restored,
    ) -> None:
        self.node = node
        self.outbox = outbox
        self.settings = settings
        kept = restored.view_kept
        slot = NO_SLOT if kept is None else kept.slot
        self.register = ViewRegister(
            first_view(members) if kept is None else View(kept.epoch, kept.members, kept.nonce)
        )
        inner_settings = ViewSettings(
            **{
                **{name: getattr(settings, name) for name in ViewSettings.__struct_fields__},
                "alpha": VIEWS_OPEN_MAX,
                "policy": "sticky",
            }
        )
        self.paxos = MultiPaxos(
            node, members, inner_settings, rng, restored.view_records, restored.view_lost, slot, slot
        )
        self._kept_to: Slot = slot
        self._writes: deque[tuple[int, int]] = deque()  # (number of the view log's write, of the one that holds it)
        self._wanted: ViewChange | None = None
        self._asked: NodeId = NO_NODE  # whom we have told of what we want, last
        self._asked_ms = 0
        self._now_ms = 0
        self._told: list[View] = []

    @property
    def view(self) -> View:
        """The newest view that is decided, as far as this node knows."""
        return self.register.view

    @property
    def wanted(self) -> ViewChange | None:
        """What is asked for."""
        return self._wanted

    def want(self, change: ViewChange) -> None:
        """Ask the leader of the view log for this change, again and again."""
        self._wanted = change
        self._asked = NO_NODE

    def forget(self) -> None:
        """Ask no longer."""
        self._wanted = None

    def adopt(self, view: View) -> None:
        """The view log will say so, too."""

    def drain(self) -> list[View]:
        """New views. What Multi-Paxos wants done goes into the outbox."""
        self._pursue()
        outbox, node = self.outbox, self.node
        out = self.paxos.take_output()
        for record in out.records:
            if not isinstance(record, Truncated):  # the whole engine truncates, see `repeat`
                assert isinstance(record, Promised | Voted | Chosen | Reached)
                outbox.persist(ViewLog(record))
        if out.records:
            self._writes.append((out.write_no, outbox.gate))
        for receivers, message in out.sends:
            outbox.send(receivers, ViewPart(node, message))
        for write_no, receivers, message in out.sends_after:
            if self._writes and write_no >= self._writes[0][0]:
                outbox.send_after(receivers, ViewPart(node, message))
            else:
                outbox.send(receivers, ViewPart(node, message))
        for peer in out.snapshot_wanted_by:
            outbox.send((peer,), ViewTold(node, self.paxos.adu, self.view))
        views, self._told = self._told, []
        for run in out.decided:
            views += self.register.apply(run.body, run.count)
        if views and self.paxos.leader == node:
            outbox.send(self.paxos.others, ViewDecided(node, views[-1]))
        if self.paxos.adu - self._kept_to >= VIEWS_KEPT_MAX and self.may_truncate:
            self.repeat()
        if self._wanted is not None and self._wanted.epoch < self.view.epoch:
            self._wanted = None
        return views

    def _pursue(self) -> None:
        """Tell the leader of the view log what we want; again when another one leads it, or when it takes long."""
        change, leader = self._wanted, self.paxos.leader
        if change is None or leader == NO_NODE:
            return
        if leader == self._asked and self._now_ms - self._asked_ms < self.settings.phase2_ms:
            return
        self._asked, self._asked_ms = leader, self._now_ms
        if leader == self.node:
            self._propose(encode_change(change))
        else:
            self.outbox.send((leader,), ViewWanted(self.node, encode_change(change)))

    def _propose(self, change: bytes) -> None:
        if self.paxos.takes_commands and self.paxos.waiting < VIEWS_OPEN_MAX:
            self.paxos.on_propose(Batch(change, 1))

    def on_message(self, src: NodeId, message: ViewPart | ViewWanted | ViewTold) -> None:
        """Take a message about views."""
        match message:
            case ViewPart(message=part):
                if part.sender == src:
                    self.paxos.on_message(src, part)
            case ViewWanted(change=change):
                try:
                    wanted = msgspec.msgpack.decode(change, type=ViewChange)
                except msgspec.DecodeError:
                    return
                # A later epoch than ours is fine: the view log puts this change behind the one that we do not know yet.
                if wanted.epoch >= self.view.epoch and is_sound(wanted.members) and wanted.members[0] == src:
                    self._propose(change)
            case ViewTold(slot=slot, view=view):
                self._on_told(slot, view)

    def _on_told(self, slot: Slot, view: View) -> None:
        if slot <= self.paxos.adu:
            return
        # `drain` follows every input, so the register has applied whatever Multi-Paxos had decided before.
        if view.epoch > self.view.epoch:
            self.register.view = view
            self._told.append(view)
        self.outbox.persist(self._kept(slot))
        self.paxos.on_installed(slot)

    def _kept(self, slot: Slot) -> ViewKept:
        view, acceptor = self.view, self.paxos.acceptor
        above = acceptor.votes.within(slot + 1, max(acceptor.votes.stop, slot + 1))
        votes = tuple((vote.slot, vote.count, vote.vrnd, vote.vval) for vote in above)
        return ViewKept(slot, view.epoch, view.members, view.nonce, acceptor.rnd, votes)

    def on_tick(self, now_ms: int) -> None:
        """Time goes on."""
        self._now_ms = now_ms
        self.paxos.on_tick(now_ms)

    def on_persisted(self, write_no: int) -> None:
        """Pass on which of the view log's writes are durable."""
        number = 0
        while self._writes and self._writes[0][1] <= write_no:
            number = self._writes.popleft()[0]
        if number:
            self.paxos.on_persisted(number)

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The connection to `node` changed."""
        self.paxos.on_link(node, state)

    def on_disk(self, state: DiskState) -> None:
        """The disk changed."""
        self.paxos.on_disk(state)

    def resign(self, cause: str) -> None:
        """Lead the view log no longer."""
        self.paxos.resign(cause)

    @property
    def may_truncate(self) -> bool:
        """Not while a vote about views is unreadable: the row that cannot be read is what reminds us of it."""
        return not self.paxos.acceptor.silent

    def repeat(self) -> None:
        """Write the whole of the view log again, as short as it can be said, and forget its decisions."""
        paxos = self.paxos
        paxos.on_snapshot(paxos.adu)
        self.outbox.persist(self._kept(paxos.adu))
        self._kept_to = paxos.adu

    def status(self) -> dict[str, Any]:
        """The view log in short."""
        paxos = self.paxos
        return {"leader": paxos.leader, "round": paxos.round, "adu": paxos.adu, "role": paxos.role}

    def check_invariants(self) -> None:
        """Those of Multi-Paxos."""
        self.paxos.check_invariants()
        assert list(self._writes) == sorted(self._writes)


class AssumedViews:
    """Mode no-partitions: whoever wants a view has it. Epochs are counter × 1000 + node, as rounds are, so that two
    primaries never have the same one and the others can at least tell them apart."""

    needs_majority = False

    def __init__(self, node: NodeId, members: Sequence[NodeId], restored: Restored) -> None:
        self.node = node
        # "The first starts as leader, later ones join": nobody else may begin, or nodes that start together would
        # each find the others dead.
        first = View(first_view(members).epoch, (min(members),))
        self.view = first if restored.entered is None else restored.entered
        self.wanted: ViewChange | None = None

    def want(self, change: ViewChange) -> None:
        """Have it with the next `drain`."""
        self.wanted = change

    def forget(self) -> None:
        """Nothing is ever under way."""
        self.wanted = None

    def adopt(self, view: View) -> None:
        """The next view comes after this one."""
        if view.epoch > self.view.epoch:
            self.view = view

    def drain(self) -> list[View]:
        """The view that was wanted."""
        change, self.wanted = self.wanted, None
        if change is None or change.epoch != self.view.epoch:
            return []
        epoch = (self.view.epoch // ROUND_STRIDE + 1) * ROUND_STRIDE + self.node
        self.view = View(epoch, change.members, change.nonce)
        return [self.view]

    def on_message(self, src: NodeId, message: ViewPart | ViewWanted | ViewTold) -> None:
        """Nobody asks anybody."""

    def on_tick(self, now_ms: int) -> None:
        """Nothing takes time."""

    def on_persisted(self, write_no: int) -> None:
        """Nothing is written here; the engine writes that it has entered the view."""

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The engine judges the links."""

    def on_disk(self, state: DiskState) -> None:
        """Nothing is written here."""

    def resign(self, cause: str) -> None:
        """There is no leader but the primary."""

    @property
    def may_truncate(self) -> bool:
        """Always."""
        return True

    def repeat(self) -> None:
        """The engine repeats the view that it has entered."""

    def status(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}

    def check_invariants(self) -> None:
        """None."""
