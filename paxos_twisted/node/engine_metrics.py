"""What engines tell of themselves beside what all of them have."""

from typing import Any

from paxos_twisted.core.engine import Engine
from paxos_twisted.core.primary_backup.replica import PrimaryBackup
from paxos_twisted.node.families import PEERS, Group, Labels, counter, gauge
from paxos_twisted.types import NodeId


class EngineGroup(Group):
    """Metrics of one engine."""

    def __init__(self, labels: Labels, engine: Any) -> None:
        super().__init__(labels)
        self.engine = engine

    def refresh(self) -> None:
        """Take the numbers from the engine; called before each scrape."""
        raise NotImplementedError


class ViewState(EngineGroup):
    """The views of primary-backup replication. Only nodes that run it have these."""

    changes: int = counter("paxos_view_changes_total", "Views that began since this node started.")
    epoch: int = gauge("paxos_view_epoch", "Epoch of the newest view that this node knows.")
    backups: int = gauge("paxos_view_backups", "Backups in the newest view: what is committed, they all have.")
    member: int = gauge("paxos_view_member", "1 if this node is the primary or a backup of the newest view, else 0.")
    lag: dict[str, int] = gauge(
        "paxos_backup_lag_slots",
        "At the primary: slots that it has given out and this backup has not acknowledged. Elsewhere 0.",
        peer=PEERS,
    )

    def refresh(self) -> None:
        """See `EngineGroup.refresh`."""
        engine: PrimaryBackup = self.engine
        self.changes, self.epoch = engine.view_changes, engine.view.epoch
        self.backups, self.member = len(engine.view.queue), int(engine.node in engine.view.members)
        for peer in self.lag:
            self.lag[peer] = engine.lag_of(NodeId(int(peer)))


def engine_group(engine: Engine, labels: Labels) -> EngineGroup | None:
    """The metrics of this engine, if it has any of its own."""
    return ViewState(labels, engine) if isinstance(engine, PrimaryBackup) else None
