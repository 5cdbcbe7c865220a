"""Ways to break primary-backup, one rule each. [rules 80-83]"""

from functools import partial
from typing import Any

from paxos_twisted.core.primary_backup import replica
from paxos_twisted.core.primary_backup.held import HeldLog
from paxos_twisted.core.primary_backup.messages import Ack, Fetched, Update
from paxos_twisted.core.primary_backup.primary import Primary
from paxos_twisted.core.primary_backup.replica import PrimaryBackup
from paxos_twisted.core.primary_backup.view import View, ViewChange
from paxos_twisted.core.primary_backup.views import VotedViews
from paxos_twisted.core.records import Held
from paxos_twisted.sim.mutation import mutant
from paxos_twisted.types import NodeId, Slot

primary_backup = partial(mutant, engine="primary-backup")


@primary_backup("pb-ack-before-durable", "A backup acknowledges what is durable.")
def _ack_before_durable(put: Any) -> None:
    def mutated(self: PrimaryBackup, primary: NodeId) -> None:
        epoch = self.entered.epoch
        self._outbox.send((primary,), Ack(self.node, epoch, self.log.good(epoch)))

    put(PrimaryBackup, "_acknowledge", mutated)


@primary_backup("pb-own-before-durable", "The primary counts itself only when it has the update durably.")
def _own_before_durable(put: Any) -> None:
    put(Primary, "committed", lambda self: _least(self, [self.end]))


def _least(primary: Primary, own: list[Slot]) -> Slot:
    return min([*own, primary.end, *(primary.followers[node].acked for node in primary.required)])


@primary_backup("pb-one-backup-enough", "The primary answers when all backups of its view have the update.")
def _one_backup_enough(put: Any) -> None:
    def mutated(self: Primary) -> Slot:
        acked = [self.followers[node].acked for node in self.required]
        return min(self.acked, self.end, max(acked, default=self.end))

    put(Primary, "committed", mutated)


@primary_backup("pb-joins-too-early", "A view gets a new member only when that one has everything that is committed.")
def _joins_too_early(put: Any) -> None:
    def mutated(self: PrimaryBackup, primary: Primary) -> tuple[NodeId, ...]:
        connected = self.failure_detector.connected()
        others = [node for node in self.others if node in connected and self.peers[node].able]
        primary.joining |= set(others) - set(primary.view.members)
        return (self.node, *others)

    put(PrimaryBackup, "_wanted_members", mutated)


@primary_backup("pb-old-epoch-taken", "A backup refuses the updates of older epochs.")
def _old_epoch_taken(put: Any) -> None:
    on_update = PrimaryBackup._on_update

    def mutated(self: PrimaryBackup, update: Update) -> None:
        if update.epoch < self.entered.epoch and update.sender != self.node:
            entered, view = self.entered, self.view
            self.entered = self.view = View(update.epoch, (update.sender, self.node))
            on_update(self, update)
            self.entered, self.view = entered, view
        else:
            on_update(self, update)

    put(PrimaryBackup, "_on_update", mutated)


@primary_backup("pb-views-assumed", "Who is primary a majority decides.")
def _views_assumed(put: Any) -> None:
    want = VotedViews.want

    def mutated(self: VotedViews, change: ViewChange) -> None:
        want(self, change)
        if change.epoch == self.register.view.epoch:
            self.register.view = View(change.epoch + 1, change.members, change.nonce)
            self._told.append(self.register.view)

    put(VotedViews, "want", mutated)


@primary_backup("pb-serves-after-restart", "A primary that comes back does not go on in its old epoch.", 80, "crashes")
def _serves_after_restart(put: Any) -> None:
    init = PrimaryBackup.__init__

    def mutated(self: PrimaryBackup, *arguments: Any) -> None:
        init(self, *arguments)
        self.nonce = int(self.node)
        if self.view.primary == self.node and self.view.nonce == self.nonce:
            self._open(self.view)

    put(PrimaryBackup, "__init__", mutated)


@primary_backup("pb-successor-starts-afresh", "A new primary goes on with all that it holds: it may be committed.")
def _successor_starts_afresh(put: Any) -> None:
    opened = PrimaryBackup._open

    def mutated(self: PrimaryBackup, view: View) -> None:
        self.log.void_from(self.log.adu + 1)
        opened(self, view)

    put(PrimaryBackup, "_open", mutated)


@primary_backup(
    "pb-leftovers-kept", "What a backup holds from older epochs, and the new primary has not, is void.", 120
)
def _leftovers_kept(put: Any) -> None:
    put(HeldLog, "good", lambda self, epoch: self.end)


@primary_backup("pb-fetch-tells-all", "What a node tells as committed is committed.")
def _fetch_tells_all(put: Any) -> None:
    on_fetch = PrimaryBackup._on_fetch

    def mutated(self: PrimaryBackup, fetch: Any) -> None:
        if fetch.slot < self.log.first or self.log.end <= self.log.adu:
            on_fetch(self, fetch)
            return
        entries = list(self.log.between(fetch.slot, self.log.end + 1, 10**6))
        body, count = b"".join(entry.body for entry in entries), sum(entry.count for entry in entries)
        self._outbox.send((fetch.sender,), Fetched(self.node, fetch.slot, count, body, self.log.adu))

    put(PrimaryBackup, "_on_fetch", mutated)


@primary_backup("pb-restart-forgets-log", "A restart reads back what was acknowledged.", stress="crashes")
def _restart_forgets_log(put: Any) -> None:
    restore = replica.restore  # type: ignore[attr-defined]

    def mutated(entries: Any, *rest: Any) -> Any:
        return restore([entry for entry in entries if not isinstance(entry, Held)], *rest)

    put(replica, "restore", mutated)


@primary_backup("pb-answers-before-commit", "Clients are answered when their command is committed.")
def _answers_before_commit(put: Any) -> None:
    put(Primary, "committed", lambda self: self.end)


@primary_backup(
    "pb-epochs-not-told", "Who speaks for an old epoch is told so, and stops.", 5, scenario="pb-false-suspicion"
)
def _epochs_not_told(put: Any) -> None:
    on_view = PrimaryBackup._on_view

    def mutated(self: PrimaryBackup, view: View) -> None:
        if self.primary is None or view.primary == self.node:
            on_view(self, view)

    put(PrimaryBackup, "_on_view", mutated)
