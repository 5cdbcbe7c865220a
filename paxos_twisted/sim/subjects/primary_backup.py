"""Primary-backup in the simulator: one primary in each view, nothing acknowledged that the whole view does not hold.

AGR is broken when a slot is applied that not all members of a view hold durably, as its primary gave it; when a later
primary gives another command to it, or begins without it.

ONE is broken by two views of one epoch; by somebody else than its primary who speaks for an epoch, or by another
incarnation of it; by two commands in one (slot, epoch).

PRO is broken by an acknowledgement of what is not durable; when the durable epoch of a node falls; when it holds what
the primary of an older one gave.

The view log inside is Multi-Paxos and is checked as such.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import split_run
from paxos_twisted.core.detectors.failure import DELAY_GROWTH_MAX
from paxos_twisted.core.engine import Engine
from paxos_twisted.core.primary_backup.messages import Ack, Commit, Deposed, NewView, Standing, Update, ViewPart
from paxos_twisted.core.primary_backup.replica import PrimaryBackup
from paxos_twisted.core.primary_backup.settings import SAFE, Settings
from paxos_twisted.core.primary_backup.view import Epoch, View
from paxos_twisted.core.records import Entered, Held, Record, ViewKept, ViewLog, Voted
from paxos_twisted.sim.invariants import AnyCommand, LogInvariants, Violation, encoded
from paxos_twisted.sim.model import Model
from paxos_twisted.sim.subjects.multipaxos import SETTINGS as VIEW_SETTINGS
from paxos_twisted.sim.subjects.multipaxos import MultiPaxosInvariants
from paxos_twisted.sim.subjects.subject import Subject
from paxos_twisted.types import NodeId, Slot
from paxos_twisted.wire.client import Reply

if TYPE_CHECKING:
    from paxos_twisted.sim.cluster import Cluster

SETTINGS = Settings(**{name: getattr(VIEW_SETTINGS, name) for name in VIEW_SETTINGS.__struct_fields__})
"""As for Multi-Paxos."""


class ViewLogInvariants(MultiPaxosInvariants):
    """Of the Multi-Paxos part that decides views."""

    def check_sent(self, raw: bytes, where: str) -> None:
        """What is proposed there, the nodes propose themselves."""

    def on_kept(self, node: NodeId, kept: ViewKept) -> None:
        """A node has forgotten how views were decided, up to a slot."""
        view = self.voter_views[node]
        if kept.rnd < view.durable_rnd:
            raise Violation(f"PRO: node {node} forgets that it had promised round {view.durable_rnd}, not {kept.rnd}")

    def on_record(self, node: NodeId, record: Record) -> None:
        """As in the base class; but a node that truncates its log writes votes of the past again."""
        is_repeated = isinstance(record, Voted) and all(
            self.voters.get((slot, record.rnd), 0) >> node & 1
            for slot in range(record.slot, record.slot + record.count)
        )
        if not is_repeated:
            super().on_record(node, record)

    def on_told(self) -> None:
        """All that is decided without a hole may be applied, and so forgotten, anywhere."""
        slot = -1
        while slot + 1 in self.chosen:
            slot += 1
        for view in self.views.values():
            view.applied = slot


class PrimaryBackupInvariants(LogInvariants):
    """Views, and who holds what."""

    def __init__(self, nodes: Sequence[NodeId], model: Model, mode: str) -> None:
        super().__init__(nodes, model)
        self.is_safe = mode == SAFE
        self.split = ""
        """Mode no-partitions: how it showed that two primaries had taken commands."""
        self.view_log = ViewLogInvariants(nodes, model)
        self.epochs: dict[Epoch, View] = {}
        """Every view that anybody has heard of."""
        self.served: dict[Epoch, NodeId] = {}
        """Epoch -> who said that it serves in it."""
        self.owners: dict[Epoch, int] = {}
        """Epoch -> incarnation of its primary."""
        self.given: dict[tuple[Slot, Epoch], bytes] = {}
        """What the primary of an epoch gave to a slot."""
        self.held: dict[NodeId, set[tuple[Slot, Epoch]]] = {node: set() for node in nodes}
        """What each node has ever held durably. (What it throws away later, it has still acknowledged rightly.)"""
        self.durable_epoch: dict[NodeId, Epoch] = dict.fromkeys(nodes, 0)
        self.begun: dict[Epoch, Slot] = {}
        """Epoch -> its primary held the slots below when it began."""
        self.committed_in: list[Epoch] = []
        """By slot: the lowest epoch whose view held it when it was applied first."""
        self._or_in: list[list[Epoch]] = []
        """By slot: later epochs whose view held it then, too. An epoch in between may be heard of late."""

    @property
    def leader_changes(self) -> int:
        """How often the primary changed."""
        primaries = [self.served[epoch] for epoch in sorted(self.served)]
        return sum(before != after for before, after in pairwise(primaries))

    def newest_view(self) -> View:
        """The view of the highest epoch in which somebody serves."""
        served = [epoch for epoch in self.served if epoch in self.epochs]
        return self.epochs[max(served)] if served else View(0, ())

    def on_started(self, node: NodeId, incarnation: int) -> None:
        """As in the base class."""
        super().on_started(node, incarnation)
        self.view_log.on_started(node, incarnation)

    # ---- messages

    def on_send(self, node: NodeId, message: Any) -> None:
        """ONE, VAL and PRO for what leaves a node."""
        match message:
            case Update():
                self._own(node, message.epoch)
                self._give(node, message.slot, message.epoch, message.values, message.count)
            case Ack():
                self._on_ack(node, message)
            case NewView():
                self._learn(message.view)
                self._own(node, message.view.epoch)
                self._begin(message.view.epoch, message.stop)
            case Commit():
                self._own(node, message.epoch)
            case Standing() if message.serving:
                self._own(node, message.epoch)
                self.served[message.epoch] = node
            case Deposed():
                self._learn(message.view)
            case ViewPart():
                self.view_log.on_told()
                self.view_log.on_send(node, message.message)

    def _begin(self, epoch: Epoch, stop: Slot) -> None:
        """The primary of `epoch` says what it had when it began."""
        if epoch in self.begun:
            return
        self.begun[epoch] = stop
        for slot in range(stop, len(self.committed_in)):
            if self.committed_in[slot] >= epoch:
                continue
            later = [other for other in self._or_in[slot] if other >= epoch]
            if later:  # so not before this one, of which nobody had heard then
                self.committed_in[slot] = later[0]
            elif self.is_safe:
                raise Violation(f"AGR: the primary of epoch {epoch} begins without slot {slot}, committed before")

    def _learn(self, view: View) -> None:
        known = self.epochs.setdefault(view.epoch, view)
        if known != view:
            raise Violation(f"ONE: two views of epoch {view.epoch}: {known!r} and {view!r}")

    def _own(self, node: NodeId, epoch: Epoch) -> None:
        view = self.epochs.get(epoch)
        if view is not None and view.primary != node:
            raise Violation(f"ONE: node {node} speaks as primary of epoch {epoch}, which is that of {view!r}")
        incarnation = self.views[node].incarnation
        if self.owners.setdefault(epoch, incarnation) != incarnation:
            raise Violation(f"ONE: node {node} serves in epoch {epoch} again after a restart")

    def _give(self, node: NodeId, slot: Slot, epoch: Epoch, body: bytes, count: int) -> None:
        for value in split_run(body, count):
            if self.given.setdefault((slot, epoch), value) != value:
                raise Violation(f"ONE: node {node} gives two commands to slot {slot} in epoch {epoch}")
            self.check_sent(value, f"slot {slot}, epoch {epoch}")
            is_decided = self.is_safe and slot < len(self.committed_in) and self.committed_in[slot] < epoch
            if is_decided and encoded(self.commands[slot]) != value:
                raise Violation(f"AGR: node {node} gives another command to slot {slot}, which was committed before")
            slot += 1

    def _on_ack(self, node: NodeId, ack: Ack) -> None:
        if self.durable_epoch[node] < ack.epoch:
            raise Violation(
                f"PRO: node {node} acknowledges in epoch {ack.epoch}; durably it obeys that of "
                f"{self.durable_epoch[node]}"
            )
        for slot in range(len(self.commands), ack.slot + 1):
            if (slot, ack.epoch) not in self.held[node]:
                raise Violation(f"PRO: node {node} acknowledges slot {slot} of epoch {ack.epoch}, which is not durable")

    # ---- the disk

    def on_record(self, node: NodeId, record: Record) -> None:
        """PRO and AGR for what is durable."""
        match record:
            case Held():
                if record.epoch != self.durable_epoch[node]:
                    raise Violation(
                        f"PRO: node {node} holds what the primary of epoch {record.epoch} gave, and obeys that of "
                        f"{self.durable_epoch[node]}"
                    )
                view = self.epochs[record.epoch]
                if view.primary == node:  # to itself: no message need have left yet
                    self._give(node, record.slot, record.epoch, record.values, record.count)
                for slot, value in enumerate(split_run(record.values, record.count), record.slot):
                    if self.given.get((slot, record.epoch)) != value:
                        raise Violation(f"VAL: node {node} holds in slot {slot} what no primary gave it")
                    self.held[node].add((slot, record.epoch))
            case Entered():
                if record.epoch < self.durable_epoch[node]:
                    raise Violation(
                        f"PRO: the durable epoch of node {node} falls from {self.durable_epoch[node]} to {record.epoch}"
                    )
                self._learn(View(record.epoch, record.members, record.nonce))
                self.durable_epoch[node] = record.epoch
            case ViewLog():
                self.view_log.on_record(node, record.record)
            case ViewKept():
                self.view_log.on_kept(node, record)
            case _:
                super().on_record(node, record)

    # ---- applying

    def on_applied(self, node: NodeId, slot: Slot, commands: Sequence[AnyCommand], results: list[Any]) -> None:
        """As in the base class. Mode no-partitions promises nothing once there are two primaries: then that is noted,
        and nothing is checked any more."""
        if self.split:
            return
        try:
            super().on_applied(node, slot, commands, results)
        except Violation as violation:
            if self.is_safe:
                raise
            self.split = str(violation)

    def on_reply(self, node: NodeId, reply: Reply) -> None:
        """As in the base class."""
        if not self.split:
            super().on_reply(node, reply)

    def check_first(self, node: NodeId, slot: Slot, command: AnyCommand) -> None:
        """AGR: every member of a view holds it, as the primary of that view gave it."""
        value = encoded(command)
        lowest = self.committed_in[-1] if self.committed_in else 0
        contradiction = f"AGR: node {node} applies slot {slot}; there is no view whose members all hold that"
        committed: list[Epoch] = []
        for epoch, view in sorted(self.epochs.items()):
            if (
                epoch < lowest
                or self.given.get((slot, epoch)) != value
                or not all((slot, epoch) in self.held[member] for member in view.members)
            ):
                continue
            # A later primary may have given the same command to the same slot, because its client has repeated it or
            # because it had it from this epoch: then it need not have been committed in this one.
            later = [begun for begun, stop in self.begun.items() if begun > epoch and stop <= slot]
            if later:
                contradiction = f"AGR: slot {slot} is committed in epoch {epoch}, and epoch {later[0]} began without it"
            else:
                committed.append(epoch)
        if self.is_safe and not committed:
            raise Violation(contradiction)
        self.committed_in.append(committed[0] if committed else 0)
        self._or_in.append(committed[1:])


class PrimaryBackupSubject(Subject):
    """See `Subject`."""

    name = "primary-backup"
    settings = SETTINGS
    message_kinds = (
        ("Update",),
        ("Ack",),
        ("NewView",),
        ("Commit",),
        ("ViewPart",),
        ("Canvass", "Support"),
        ("Standing",),
        ("Fetched",),
    )
    proposals = ("Update",)

    def invariants(
        self, nodes: Sequence[NodeId], model: Model, application: Application, settings: Any
    ) -> PrimaryBackupInvariants:
        """Views and who holds what."""
        return PrimaryBackupInvariants(nodes, model, settings.mode)

    def leader(self, engines: Mapping[NodeId, Engine]) -> NodeId | None:
        """The node that serves in the highest epoch."""
        serving = [
            (engine.epoch, node)
            for node, engine in engines.items()
            if isinstance(engine, PrimaryBackup) and engine.role == "primary"
        ]
        return max(serving)[1] if serving else None

    def term(self, engine: Engine) -> int:
        """The epoch."""
        assert isinstance(engine, PrimaryBackup)
        return engine.epoch

    def describe(self, engine: Engine) -> str:
        """Role, view, how far it is."""
        assert isinstance(engine, PrimaryBackup)
        return (
            f"{engine.role} follows {engine.leader} view {engine.view.epoch} {engine.view.members} "
            f"entered {engine.entered.epoch} adu {engine.adu} held to {engine.log.end}"
        )

    def election_ms(self, settings: Any) -> int:
        """A primary that is gone must be missed, then the leader of the view log; then a view is asked for, perhaps by
        somebody who is late in the queue."""
        assert isinstance(settings, Settings)
        delay = DELAY_GROWTH_MAX * settings.delay_ms + settings.delay_ms
        return 2 * (delay + 10 * settings.phase1_ms) + 3 * settings.delay_ms

    def draw_settings(self, rand: Callable[[], float]) -> Settings:
        """Windows."""
        alpha = (1, 3, 8, 64, 64, 1024)[int(rand() * 6)]
        return msgspec.structs.replace(SETTINGS, alpha=alpha, heartbeat_ms=50 + int(rand() * 50))

    def window(self, settings: Any) -> int:
        """Alpha."""
        assert isinstance(settings, Settings)
        return settings.alpha

    def survives_rot(self, settings: Any) -> bool:
        """When all others are gone the view has one member, and what rots there nobody else has."""
        return False


def evidence(cluster: "Cluster") -> PrimaryBackupInvariants:
    """What is known of a cluster that runs primary-backup."""
    assert isinstance(cluster.invariants, PrimaryBackupInvariants)
    return cluster.invariants
