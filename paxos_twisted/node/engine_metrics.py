"""What engines tell of themselves beside what all of them have."""

from typing import Any, Final

from paxos_twisted.core.engine import Engine
from paxos_twisted.core.epaxos.replica import EPaxos
from paxos_twisted.core.primary_backup.replica import PrimaryBackup
from paxos_twisted.node.families import PEERS, Group, Histogram, Labels, counter, gauge, histogram
from paxos_twisted.types import NodeId

COMPONENT_BOUNDS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
"""Instances."""

LAG_BOUNDS_S: Final = (0.001, 0.004, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds; the engine sees time in ticks of 20 ms."""


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


class InstanceState(EngineGroup):
    """The instances of EPaxos. Only nodes that run it have these."""

    commits: dict[str, int] = counter(
        "paxos_epaxos_commits_total",
        "Instances that this node has decided: its own on the fast and on the slow path, and those that it recovered, "
        "with their commands or as no-ops.",
        path=("fast", "slow", "recovered", "recovered_noop"),
    )
    proposed_again: int = counter(
        "paxos_epaxos_proposed_again_total",
        "Own instances that became no-ops, so that their commands went into new ones.",
    )
    recoveries: int = counter("paxos_epaxos_recoveries_total", "Recoveries that this node began.")
    recoveries_failed: int = counter(
        "paxos_epaxos_recoveries_failed_total", "Of these, those that another ballot or silence has ended."
    )
    thrifty_fallbacks: int = counter(
        "paxos_epaxos_thrifty_fallbacks_total", "Times that a chosen replica was silent, so that all others were asked."
    )
    executed: int = counter("paxos_epaxos_instances_executed_total", "Instances executed, those of other nodes too.")
    messages: int = counter(
        "paxos_epaxos_messages_total",
        "Messages that the engine gave out, heartbeats too. Divided by the commands: messages per command.",
    )
    graph: dict[str, int] = gauge(
        "paxos_epaxos_instances",
        "Instances known: not committed yet; committed, and waiting for dependencies; executed, and kept for others.",
        state=("open", "waiting", "executed"),
    )
    own_open: int = gauge("paxos_epaxos_own_open", "Instances that this node has begun and not executed.")
    held: int = gauge("paxos_epaxos_held_commands", "Commands held back, because too much is open at their keys.")
    keys: int = gauge("paxos_epaxos_conflict_keys", "Keys in the conflict index.")
    components: Histogram = histogram(
        "paxos_epaxos_component_size", "Instances in one strongly connected component.", COMPONENT_BOUNDS
    )
    lag: Histogram = histogram(
        "paxos_epaxos_execution_lag_seconds", "From the commit of an own instance to its execution.", LAG_BOUNDS_S
    )

    def refresh(self) -> None:
        """See `EngineGroup.refresh`."""
        engine: EPaxos = self.engine
        counters = engine.counters
        for path in self.commits:
            self.commits[path] = counters[path]
        self.proposed_again = counters["proposed_again"]
        self.recoveries, self.recoveries_failed = counters["recoveries"], counters["recoveries_failed"]
        self.thrifty_fallbacks, self.executed = counters["thrifty_fallbacks"], counters["executed"]
        self.messages = counters["messages"]
        known, waiting, executed = engine.graph_size()
        self.graph["open"], self.graph["waiting"], self.graph["executed"] = (
            known - waiting - executed,
            waiting,
            executed,
        )
        self.own_open, self.held, self.keys = engine.own_open, engine.intake.parked, len(engine.index)
        for size in engine.component_sizes:
            self.components.observe(size)
        for lag_ms in engine.execution_lags_ms:
            self.lag.observe(lag_ms / 1000)
        engine.component_sizes.clear()
        engine.execution_lags_ms.clear()


ENGINE_GROUPS: dict[type[Any], type[EngineGroup]] = {PrimaryBackup: ViewState, EPaxos: InstanceState}
"""By the engine's class."""


def engine_group(engine: Engine, labels: Labels) -> EngineGroup | None:
    """The metrics of this engine, if it has any of its own."""
    kind = ENGINE_GROUPS.get(type(engine))
    return None if kind is None else kind(labels, engine)
