"""The catalogue of the node's metrics. `python -m paxos_twisted.node.metrics > docs/metrics.md` writes its page.

Names are promises to dashboards and alerts. Base units; `_total` on counters only; no label ever carries a client, a
sequence number, a slot, a key or a round. [conventions, section 5.1]
"""

import platform
import sys
from typing import Final

import twisted
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

import paxos_twisted
from paxos_twisted.node.application_metrics import AuctionState, ChatState
from paxos_twisted.node.engine_metrics import InstanceState, ViewState
from paxos_twisted.node.families import (
    APP,
    ENGINE,
    MESSAGES,
    OPS,
    PEERS,
    Collector,
    Family,
    Group,
    Histogram,
    Labels,
    counter,
    gauge,
    histogram,
    info,
    spell_labels,
)
from paxos_twisted.storage.metrics import COMMIT_BUCKETS_S

# Factors of two, with the thresholds of alerts (10 ms, 100 ms, 1 s) in place of the bounds next to them (CV-07): a
# quantile is interpolated between bounds, so a threshold that is none would be compared with an invention.
COMMIT_BOUNDS: Final = (
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.01, 0.016, 0.032, 0.064, 0.1, 0.256, 0.512, 1.0, 2.048, 4.096, 8.192,
)  # fmt: skip
"""Commit and round trip times, seconds."""
FSYNC_BOUNDS: Final = COMMIT_BUCKETS_S
"""Durable writes, seconds."""
LAG_BOUNDS: Final = (0.001, 0.002, 0.004, 0.01, 0.016, 0.032, 0.064, 0.1, 0.256, 0.512, 1.0, 2.0, 4.0)
"""How late the reactor calls what was due, seconds."""
GAP_BOUNDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Failover gaps, seconds."""

THRESHOLDS: Final = (0.01, 0.1, 1.0)
"""Seconds that alerts compare quantiles with."""

OUTCOMES: Final = (
    "ok", "rejected", "duplicate", "redirected", "no_leader", "overloaded", "disk_full", "refused", "unknown", "error",
)  # fmt: skip
LEADER_CAUSES: Final = ("start", "suspect", "restore", "handover", "round", "quorum")
REJECTIONS: Final = (
    "version", "cluster", "application", "node", "settings", "identity", "credential", "full", "timeout", "frame",
    "slow",
)  # fmt: skip


class Identity(Group):
    """What does not change while the node runs."""

    build: dict[str, str] = info(
        "paxos_build_info", "Versions of this node.", "version", "revision", "python", "twisted"
    )
    node: dict[str, str] = info(
        "paxos_node_info", "What this node is.", "node", "engine", "app", "durability", "policy"
    )


class Leadership(Group):
    """Who leads, who is suspected, and what a change of leader costs."""

    is_leader: int = gauge("paxos_is_leader", "1 if this node leads, else 0.", engine=ENGINE)
    known_leader_id: int = gauge(
        "paxos_known_leader_id", "Id of the node that this node follows; -1 if none.", engine=ENGINE
    )
    round: int = gauge("paxos_round", "Highest round that this node has promised.", engine=ENGINE)
    leader_changes: dict[str, int] = counter(
        "paxos_leader_changes_total", "Times that this node began to follow another leader.", cause=LEADER_CAUSES
    )
    suspicions: dict[str, int] = counter(
        "paxos_suspicions_total", "Times that the failure detector suspected a peer.", peer=PEERS
    )
    restorations: dict[str, int] = counter(
        "paxos_restorations_total", "Times that a suspected peer was heard again.", peer=PEERS
    )
    phase1_attempts: dict[str, int] = counter(
        "paxos_phase1_attempts_total", "Phases 1 that this node began.", outcome=("quorum", "timeout", "preempted")
    )
    phase1_duration: Histogram = histogram(
        "paxos_phase1_duration_seconds", "From the first Prepare to a majority of promises.", COMMIT_BOUNDS
    )
    failover_phase: dict[str, float] = gauge(
        "paxos_failover_phase_seconds",
        "How long each phase of the last failover took at this node; the phases of clients are their own metrics.",
        phase=("detect", "elect", "phase1", "fill", "first_commit"),
    )
    failover_phase_start: dict[str, float] = gauge(
        "paxos_failover_phase_start_timestamp_seconds",
        "When each phase of the last failover began at this node; 0 if there was none.",
        phase=("detect", "elect", "phase1", "fill", "first_commit"),
    )


class Log(Group):
    """Deciding and applying."""

    decided_slot: int = gauge("paxos_decided_slot", "Every slot up to here is decided; -1 before the first.")
    applied_slot: int = gauge("paxos_applied_slot", "Every slot up to here is applied; -1 before the first.")
    buffered_decisions: int = gauge("paxos_buffered_decisions", "Slots decided above a hole, waiting for it.")
    first_slot: int = gauge("paxos_log_first_slot", "First slot that the log still holds.")
    slots_decided: dict[str, int] = counter(
        "paxos_slots_decided_total", "Slots applied, by what was in them.", kind=("command", "noop", "internal")
    )
    commit_duration: Histogram = histogram(
        "paxos_commit_duration_seconds",
        "From a command's arrival at the leader to its decision.",
        COMMIT_BOUNDS,
        app=APP,
    )
    apply_duration: Histogram = histogram(
        "paxos_apply_duration_seconds", "Time to apply one run of commands.", COMMIT_BOUNDS, app=APP
    )
    proposals_open: int = gauge(
        "paxos_proposals_open", "Commands that wait here or are proposed and not decided; clients pause at 50 000."
    )
    sessions: int = gauge("paxos_sessions", "Client sessions in the replicated state.")
    state_hash_mismatches: int = counter(
        "paxos_state_hash_mismatches_total", "Times that a peer had another state than this node after the same slot."
    )


class Clients(Group):
    """What clients ask and get."""

    client_requests: dict[tuple[str, str], int] = counter(
        "paxos_client_requests_total", "Requests of clients, by how they ended here.", app=APP, op=OPS, outcome=OUTCOMES
    )
    client_request_duration: dict[str, Histogram] = histogram(
        "paxos_client_request_duration_seconds",
        "From a request's arrival to its answer, at the node that answered.",
        COMMIT_BOUNDS,
        app=APP,
        op=OPS,
    )
    client_redirects: dict[str, int] = counter(
        "paxos_client_redirects_total", "Clients sent to the leader.", when=("connect", "request")
    )
    client_connections: int = gauge("paxos_client_connections", "Open connections of clients.")
    connections_rejected: dict[tuple[str, str], int] = counter(
        "paxos_connections_rejected_total",
        "Connections closed because of what came over them, or because it did not come.",
        side=("client", "peer"),
        reason=REJECTIONS,
    )


class Feeds(Group):
    """Topics that clients follow: rooms of the chat, auctions."""

    feed_followers: int = gauge("paxos_feed_followers", "Topics that clients follow at this node, one for each client.")
    feed_events: int = counter("paxos_feed_events_total", "Events sent to followers.")


class Peers(Group):
    """Links between nodes. Each node tells its own view."""

    messages_sent: dict[tuple[str, str], int] = counter(
        "paxos_messages_sent_total", "Messages sent.", peer=PEERS, type=MESSAGES
    )
    messages_received: dict[tuple[str, str], int] = counter(
        "paxos_messages_received_total", "Messages received.", peer=PEERS, type=MESSAGES
    )
    network_bytes: dict[tuple[str, str], int] = counter(
        "paxos_network_bytes_total", "Bytes of messages between nodes.", peer=PEERS, direction=("sent", "received")
    )
    messages_dropped: dict[str, int] = counter(
        "paxos_messages_dropped_total",
        "Messages not sent on: by the fault layer, because the peer does not read, because it is not connected, or "
        "of another version.",
        reason=("injected", "overflow", "unconnected", "version"),
    )
    peer_up: dict[str, int] = gauge("paxos_peer_up", "1 if this node's link to the peer is up, else 0.", peer=PEERS)
    peer_reconnects: dict[str, int] = counter(
        "paxos_peer_reconnects_total", "Times that the link to a peer came up again.", peer=PEERS
    )
    peer_rtt: dict[str, Histogram] = histogram(
        "paxos_peer_rtt_seconds", "Round trips to the peer, as TCP measures them (smoothed).", COMMIT_BOUNDS, peer=PEERS
    )


class Disk(Group):
    """The log on disk and its snapshots."""

    fsync_duration: Histogram = histogram(
        "paxos_wal_fsync_duration_seconds", "Durable commits of the log (a group of writes each).", FSYNC_BOUNDS
    )
    wal_size: int = gauge("paxos_wal_size_bytes", "Size of the log and its snapshots on disk.")
    write_queue: int = gauge("paxos_write_queue_bytes", "Records that wait for the disk.")
    wal_errors: int = counter("paxos_wal_errors_total", "Writes that failed. A failed write stops the node.")
    snapshot_duration: Histogram = histogram(
        "paxos_snapshot_duration_seconds", "From the beginning of a snapshot until it is durable.", GAP_BOUNDS
    )
    snapshot_slot: int = gauge("paxos_snapshot_slot", "Slot of the newest durable snapshot; -1 if there is none.")
    disk_free: int = gauge("paxos_disk_free_bytes", "Space left where the data directory is.")


class Process(Group):
    """The event loop. Beside these stand the process_*, python_gc_* and python_info families of prometheus_client."""

    reactor_lag: Histogram = histogram(
        "paxos_reactor_lag_seconds", "How late the reactor calls what was due.", LAG_BOUNDS
    )
    heartbeat_lateness: Histogram = histogram(
        "paxos_heartbeat_lateness_seconds", "How late this node sent its heartbeats.", LAG_BOUNDS
    )


GROUPS: tuple[type[Group], ...] = (
    Identity,
    Leadership,
    Log,
    Clients,
    Feeds,
    Peers,
    Disk,
    Process,
    ViewState,
    InstanceState,
    ChatState,
    AuctionState,
)
"""Everything that docs/metrics.md lists. An engine or application that measures something of its own adds its group."""


class Metrics(Identity, Leadership, Log, Clients, Feeds, Peers, Disk, Process):
    """The numbers of a node, whichever engine and application it runs, registered. Attributes are plain integers,
    dictionaries and `Histogram`s."""

    def __init__(self, registry: CollectorRegistry, labels: Labels, *, revision: str = "") -> None:
        super().__init__(labels)
        self.known_leader_id = self.decided_slot = self.applied_slot = self.snapshot_slot = self.round = -1
        self.build.update(
            version=paxos_twisted.__version__,
            revision=revision,
            python=platform.python_version(),
            twisted=twisted.__version__,
        )
        self.collector = Collector(self)
        """Parts of the node append their groups, and what is to be called before a scrape."""
        registry.register(self.collector)


def new_registry() -> CollectorRegistry:
    """A registry with the metrics of the process, of garbage collection and of the platform."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def catalogue() -> list[Family]:
    """Every family of every group, in the order of the documentation."""
    return [family for group in GROUPS for family in group.declared]


def document() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Every node answers `GET /metrics` on its HTTP port. This page is generated from the code; do not edit it:",
        "`python -m paxos_twisted.node.metrics > docs/metrics.md`.",
        "",
        "Times are seconds, sizes are bytes. Every combination of labels is there from the start, with 0. Gauges of",
        "slots belong to one node: compare them with `max` and `min`, never add them up.",
    ]
    for group in GROUPS:
        lines += ["", f"## {group.__name__}", "", group.__doc__ or "", "", "| metric | type | labels | meaning |"]
        lines += ["| --- | --- | --- | --- |"]
        for family in group.declared:
            kind = "gauge, always 1" if family.type == "info" else family.type
            lines.append(f"| `{family.name}` | {kind} | {spell_labels(family.labels)} | {family.help} |")
    lines += ["", "## Buckets", ""]
    lines += ["Thresholds of alerts (10 ms, 100 ms, 1 s) are bounds, so that quantiles near them are measured.", ""]
    lines += ["| histogram | upper bounds in seconds |", "| --- | --- |"]
    for family in catalogue():
        if family.bounds:
            lines.append(f"| `{family.name}` | {', '.join(f'{bound:g}' for bound in family.bounds)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(document())
