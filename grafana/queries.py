"""What the dashboards ask of Prometheus.

`$cluster` and `$node` are the dashboards' variables; `$__rate_interval` is at least four scrapes. [conventions CV-10]
Gauges of slots belong to one node and are never added up. [CV-04]
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from prometheus.recording import (
    FSYNC_P99,
    HEALTH,
    HEALTH_SINCE,
    LAG,
    LATENCY_P99,
    LEADER,
    LEADER_CHANGES,
    LEADER_SINCE,
    MEMBERS,
    NODE_UP,
    NODES_UP,
    REACTOR_P99,
)
from prometheus.rules import compact
from prometheus.thresholds import JOB

C: Final = 'cluster="$cluster"'
N: Final = 'cluster="$cluster", node=~"$node"'
RATE: Final = "$__rate_interval"
NODE: Final = "node {{node}}"


class Query(msgspec.Struct, frozen=True):
    """One expression."""

    expr: str
    legend: str
    now: bool = False
    """Only the newest value is wanted."""
    empty_when: str = ""
    """Why it may rightly give no data; everything else must. [issue: every panel has data during a crash test]"""
    rows: bool = False
    """The answer is a table with a column for each label."""


def now(expr: str, legend: str, empty_when: str = "") -> Query:
    """An expression of which only the newest value is shown."""
    return Query(expr, legend, now=True, empty_when=empty_when)


def rows(expr: str, empty_when: str = "") -> Query:
    """An expression whose newest values fill a table."""
    return Query(compact(expr), "{{node}}", now=True, empty_when=empty_when, rows=True)


def rate(counter: str, by: str, legend: str, *, where: str = "", above_0: bool = False) -> Query:
    """A counter per second, added up by labels."""
    selector = ", ".join(filter(None, (N, where)))
    return Query(f"sum by ({by}) (rate({counter}{{{selector}}}[{RATE}]))" + (" > 0" if above_0 else ""), legend)


def quantile(share: float, histogram: str, by: str, legend: str, where: str = N) -> Query:
    """A quantile of a histogram over the last few scrapes."""
    levels = f"{by}, le" if by else "le"
    return Query(
        f"histogram_quantile({share:g}, sum by ({levels}) (rate({histogram}_bucket{{{where}}}[{RATE}])))", legend
    )


def gauge(metric: str, legend: str = NODE) -> Query:
    """A gauge of each node."""
    return Query(f"max by (node) ({metric}{{{N}}})", legend)


def counted(counter: str, by: str, legend: str) -> Query:
    """How often something happened lately, in whole numbers."""
    return Query(f"sum by ({by}) (round(increase({counter}{{{N}}}[{RATE}])))", legend)


# Now

HEALTH_NOW: Final = now(f"{HEALTH}{{{C}}}", "health")
HEALTH_OVER_TIME: Final = Query(f"{HEALTH}{{{C}}}", "health")
HEALTH_SINCE_NOW: Final = now(f"{HEALTH_SINCE}{{{C}}} * 1000", "since")
LEADER_NOW: Final = now(f"{LEADER}{{{C}}}", "leader")
LEADER_SINCE_NOW: Final = now(f"{LEADER_SINCE}{{{C}}} * 1000", "since")
NODES_MISSING: Final = now(f"{MEMBERS}{{{C}}} - {NODES_UP}{{{C}}}", "missing")
ALERTS_FIRING: Final = now(f'count(ALERTS{{{C}, alertstate="firing"}}) or vector(0)', "alerts")
ALERTS_SINCE: Final = rows(
    f"max by (alertname, node, severity) (ALERTS_FOR_STATE{{{C}}} and ignoring (alertstate) "
    f'ALERTS{{{C}, alertstate="firing"}}) * 1000',
    empty_when="no alert fires",
)
CHANGES_NOW: Final = now(f"{LEADER_CHANGES}{{{C}}}", "changes")
FOLLOWED: Final = gauge("paxos_known_leader_id")

# Clients

REQUESTS_BY_OUTCOME: Final = rate("paxos_client_requests_total", "outcome", "{{outcome}}", above_0=True)
REQUESTS_BY_OP: Final = rate("paxos_client_requests_total", "op", "{{op}}", above_0=True)
REQUESTS_BY_NODE: Final = rate("paxos_client_requests_total", "node", NODE)
SERVED: Final = 'outcome=~"ok|rejected|duplicate"'
"""What a client takes for an answer; the bank's "not enough funds" is one."""
REQUESTS_UNSERVED: Final = rate(
    "paxos_client_requests_total", "outcome", "{{outcome}}", where='outcome!~"ok|rejected|duplicate"'
)
ANSWERED_NOW: Final = now(f"sum(rate(paxos_client_requests_total{{{C}, {SERVED}}}[{RATE}]))", "answers")
ANSWERED_SHARE: Final = now(
    f"sum(increase(paxos_client_requests_total{{{C}, {SERVED}}}[5m])) / "
    f"sum(increase(paxos_client_requests_total{{{C}}}[5m]))",
    "answered",
)
LATENCY: Final = tuple(
    quantile(share, "paxos_client_request_duration_seconds", "", f"{share * 100:g} of 100")
    for share in (0.5, 0.9, 0.99)
)
LATENCY_P99_NOW: Final = now(f"{LATENCY_P99}{{{C}}}", "99 of 100")
LATENCY_BY_OP: Final = quantile(0.99, "paxos_client_request_duration_seconds", "op", "{{op}}")
LATENCY_BUCKETS: Final = Query(
    f"sum by (le) (increase(paxos_client_request_duration_seconds_bucket{{{N}}}[{RATE}]))", "{{le}}"
)
REDIRECTS: Final = rate("paxos_client_redirects_total", "when", "at each {{when}}")
CONNECTIONS: Final = gauge("paxos_client_connections")
REJECTED: Final = rate("paxos_connections_rejected_total", "reason", "{{reason}}")
PROPOSALS_OPEN: Final = gauge("paxos_proposals_open")
SESSIONS: Final = gauge("paxos_sessions")

# Clients' own view

BENCH_RTT: Final = tuple(
    quantile(share, "bankclient_request_duration_seconds", "", f"{share * 100:g} of 100", where=C)
    for share in (0.5, 0.9, 0.99)
)
BENCH_OUTCOMES: Final = Query(f"sum by (outcome) (rate(bankclient_requests_total{{{C}}}[{RATE}])) > 0", "{{outcome}}")
BENCH_WAITING: Final = (
    Query(f"max(bankclient_waiting_seconds{{{C}}})", "waits now"),
    Query(f"max(bankclient_longest_gap_seconds{{{C}}})", "longest so far"),
)
BENCH_LONGEST: Final = now(f"max(bankclient_longest_gap_seconds{{{C}}})", "longest wait")
BENCH_RECONNECTS: Final = Query(
    f"sum by (cause) (round(increase(bankclient_reconnects_total{{{C}}}[{RATE}])))", "{{cause}}"
)

# The log

COMMIT: Final = (
    quantile(0.5, "paxos_commit_duration_seconds", "node", "node {{node}}, half"),
    quantile(0.99, "paxos_commit_duration_seconds", "node", "node {{node}}, 99 of 100"),
)
APPLY: Final = quantile(0.99, "paxos_apply_duration_seconds", "node", NODE)
BUFFERED: Final = gauge("paxos_buffered_decisions")
MISMATCHES: Final = now(f"sum(paxos_state_hash_mismatches_total{{{N}}})", "differences")
APPLIED: Final = rate("paxos_slots_decided_total", "node", NODE)
APPLIED_BY_KIND: Final = rate("paxos_slots_decided_total", "kind", "{{kind}}")
DECIDED_SLOT: Final = gauge("paxos_decided_slot")
BEHIND: Final = Query(f"{LAG}{{{N}}}", NODE)
LOG_KEPT: Final = Query(
    f"max by (node) (paxos_applied_slot{{{N}}}) - max by (node) (paxos_log_first_slot{{{N}}})", NODE
)
SINCE_SNAPSHOT: Final = Query(
    f"max by (node) (paxos_applied_slot{{{N}}}) - max by (node) (paxos_snapshot_slot{{{N}}})", NODE
)

# Failover

PHASES: Final = ("detect", "elect", "phase1", "fill", "first_commit")
"""Phases of nodes in their order."""

CLIENT_PHASES: Final = ("client_timeout", "reconnect")
"""What comes between filling and the first commit, as only a client can see it: by a bench with --metrics-port."""

_LEADS: Final = f"and on (cluster, node) paxos_is_leader{{{C}}} == 1"


def phase_now(phase: str) -> Query:
    """How long a phase took when the present leader took over."""
    return now(f'max(paxos_failover_phase_seconds{{{C}, phase="{phase}"}} {_LEADS})', phase)


def client_phase_now(phase: str) -> Query:
    """How long the clients of a bench were in a phase when they last looked for the leader."""
    return now(f'max(bankclient_failover_phase_seconds{{{C}, phase="{phase}"}})', phase)


PHASES_NOW: Final = (
    *(phase_now(phase) for phase in PHASES[:-1]),
    *(client_phase_now(phase) for phase in CLIENT_PHASES),
    phase_now(PHASES[-1]),
)
PHASES_TOTAL: Final = now(
    f'sum(paxos_failover_phase_seconds{{{C}, phase=~"{"|".join(PHASES)}"}} {_LEADS})', "all phases"
)
PHASES_OVER_TIME: Final = tuple(
    Query(f'max(paxos_failover_phase_seconds{{{N}, phase="{phase}"}} {_LEADS})', phase) for phase in PHASES
)
TAKEN_OVER: Final = now(
    f'max(paxos_failover_phase_start_timestamp_seconds{{{C}, phase="phase1"}}) * 1000', "last phase 1"
)
PHASE_STARTS: Final = f"paxos_failover_phase_start_timestamp_seconds{{{C}}} * 1000 > 0"
"""In milliseconds, as annotations want them. [CV-25]"""
TAKE_OVERS: Final = f'paxos_failover_phase_start_timestamp_seconds{{{C}, phase="phase1"}} * 1000 > 0'
CLIENT_STARTS: Final = f"bankclient_failover_phase_start_timestamp_seconds{{{C}}} * 1000 > 0"
ROUND: Final = gauge("paxos_round")
CHANGES_BY_CAUSE: Final = counted("paxos_leader_changes_total", "cause", "{{cause}}")
SUSPICIONS: Final = counted("paxos_suspicions_total", "node, peer", "{{node}} suspects {{peer}}")
PHASE1_ATTEMPTS: Final = counted("paxos_phase1_attempts_total", "outcome", "{{outcome}}")
PHASE1_MEAN: Final = Query(
    f"sum by (node) (increase(paxos_phase1_duration_seconds_sum{{{N}}}[5m])) / "
    f"sum by (node) (increase(paxos_phase1_duration_seconds_count{{{N}}}[5m]))",
    NODE,
)
CATCH_UP: Final = rate(
    "paxos_messages_sent_total",
    "type",
    "{{type}}",
    where='type=~"CatchUpRequest|CatchUpReply|SnapshotOffer|SnapshotRequest|SnapshotData"',
)

# Peers

LINKS: Final = Query(f"max by (node, peer) (paxos_peer_up{{{N}}})", "{{node}} to {{peer}}")
RECONNECTS: Final = counted("paxos_peer_reconnects_total", "node, peer", "{{node}} to {{peer}}")
PEER_RTT: Final = quantile(0.99, "paxos_peer_rtt_seconds", "node, peer", "{{node}} to {{peer}}")
BYTES: Final = rate("paxos_network_bytes_total", "node, direction", "node {{node}} {{direction}}")
MESSAGES: Final = rate("paxos_messages_sent_total", "type", "{{type}}", above_0=True)
DROPPED: Final = rate("paxos_messages_dropped_total", "reason", "{{reason}}")

# Inside a node

REACTOR: Final = (
    quantile(0.5, "paxos_reactor_lag_seconds", "node", "node {{node}}, half"),
    Query(f"{REACTOR_P99}{{{N}}}", "node {{node}}, 99 of 100 in a minute"),
)
REACTOR_BUCKETS: Final = Query(f"sum by (le) (increase(paxos_reactor_lag_seconds_bucket{{{N}}}[{RATE}]))", "{{le}}")
HEARTBEATS: Final = quantile(0.99, "paxos_heartbeat_lateness_seconds", "node", NODE)
SNAPSHOTS: Final = Query(
    f"sum by (node) (increase(paxos_snapshot_duration_seconds_sum{{{N}}}[5m])) / "
    f"sum by (node) (increase(paxos_snapshot_duration_seconds_count{{{N}}}[5m]) > 0)",
    NODE,
    empty_when="no snapshot was taken in five minutes",
)
FSYNC: Final = (
    quantile(0.5, "paxos_wal_fsync_duration_seconds", "node", "node {{node}}, half"),
    Query(f"{FSYNC_P99}{{{N}}}", "node {{node}}, 99 of 100 in a minute"),
)
COMMITS: Final = rate("paxos_wal_fsync_duration_seconds_count", "node", NODE)
WRITE_QUEUE: Final = gauge("paxos_write_queue_bytes")
WAL_SIZE: Final = gauge("paxos_wal_size_bytes")
DISK_FREE: Final = gauge("paxos_disk_free_bytes")
WAL_ERRORS: Final = now(f"sum(paxos_wal_errors_total{{{N}}})", "errors")
CPU: Final = Query(f'rate(process_cpu_seconds_total{{{N}, job="{JOB}"}}[{RATE}])', NODE)
MEMORY: Final = Query(f'process_resident_memory_bytes{{{N}, job="{JOB}"}}', NODE)
FILES: Final = Query(f'process_open_fds{{{N}, job="{JOB}"}}', NODE)
GARBAGE: Final = Query(f'sum by (node) (rate(python_gc_collections_total{{{N}, job="{JOB}"}}[{RATE}]))', NODE)
STARTED: Final = now(f'process_start_time_seconds{{{N}, job="{JOB}"}} * 1000', NODE)

NODES: Final[Sequence[tuple[str, str, Query]]] = (
    ("up", "bool", rows(f"max by (node) ({NODE_UP}{{{N}}})")),
    ("leads", "bool", rows(f"max by (node) (paxos_is_leader{{{N}}})")),
    ("follows node", "none", rows(f"max by (node) (paxos_known_leader_id{{{N}}})")),
    ("applied slot", "none", rows(f"max by (node) (paxos_applied_slot{{{N}}})")),
    ("slots behind", "none", rows(f"max by (node) ({LAG}{{{N}}})")),
    ("clients", "none", rows(f"max by (node) (paxos_client_connections{{{N}}})")),
    ("space left", "bytes", rows(f"max by (node) (paxos_disk_free_bytes{{{N}}})")),
    ("started", "dateTimeFromNow", rows(f'max by (node) (process_start_time_seconds{{{N}, job="{JOB}"}}) * 1000')),
)
"""Columns of the table of nodes: title, unit, query."""

# Engines side by side: of all clusters that Prometheus knows, so that two of them can be compared

_ENGINE: Final = "* on (cluster, node) group_left (engine) paxos_node_info"
_SIDES: Final = "{{engine}} ({{cluster}})"
_OTHER_ENGINE: Final = "no cluster runs this engine"
_ANSWERED: Final = f"sum by (cluster, engine) (rate(paxos_client_requests_total{{{SERVED}}}[{RATE}]) {_ENGINE})"


def side_quantile(share: float, histogram: str) -> Query:
    """A quantile of a histogram for each engine."""
    rates = f"sum by (cluster, engine, le) (rate({histogram}_bucket[{RATE}]) {_ENGINE})"
    return Query(f"histogram_quantile({share:g}, {rates})", _SIDES)


def side_per_answer(counter: str, where: str = "") -> Query:
    """How much of a counter each answer costs, over all nodes of a cluster."""
    spent = f"sum by (cluster, engine) (rate({counter}{where}[{RATE}]) {_ENGINE})"
    return Query(f"{spent} / ({_ANSWERED} > 0)", _SIDES)


SIDE_ANSWERS: Final = Query(_ANSWERED, _SIDES)
SIDE_HALF: Final = side_quantile(0.5, "paxos_client_request_duration_seconds")
SIDE_P99: Final = side_quantile(0.99, "paxos_client_request_duration_seconds")
SIDE_COMMIT: Final = side_quantile(0.99, "paxos_commit_duration_seconds")
SIDE_MESSAGES: Final = side_per_answer("paxos_messages_sent_total")
SIDE_BYTES: Final = side_per_answer("paxos_network_bytes_total", '{direction="sent"}')
SIDE_CPU: Final = side_per_answer("process_cpu_seconds_total", f'{{job="{JOB}"}}')
SIDE_FSYNCS: Final = side_per_answer("paxos_wal_fsync_duration_seconds_count")
SIDE_BUSIEST: Final = Query(
    f"max by (cluster, engine) (sum by (cluster, node, engine) (rate(paxos_client_requests_total[{RATE}]) {_ENGINE})) "
    f"/ (sum by (cluster, engine) (rate(paxos_client_requests_total[{RATE}]) {_ENGINE}) > 0)",
    _SIDES,
)


def of_engine(expr: str, legend: str) -> Query:
    """What only one engine has."""
    return Query(expr, legend, empty_when=_OTHER_ENGINE)


EPAXOS_COMMITS: Final = of_engine(f"sum by (path) (rate(paxos_epaxos_commits_total{{{N}}}[{RATE}]))", "{{path}}")
EPAXOS_FAST: Final = of_engine(
    f'sum(rate(paxos_epaxos_commits_total{{{N}, path="fast"}}[{RATE}])) '
    f"/ (sum(rate(paxos_epaxos_commits_total{{{N}}}[{RATE}])) > 0)",
    "fast",
)
EPAXOS_GRAPH: Final = of_engine(f"max by (state) (paxos_epaxos_instances{{{N}}})", "{{state}}")
EPAXOS_COMPONENTS: Final = of_engine(
    f"histogram_quantile(0.99, sum by (le) (rate(paxos_epaxos_component_size_bucket{{{N}}}[{RATE}])))", "99 of 100"
)
EPAXOS_LAG: Final = of_engine(
    f"histogram_quantile(0.99, sum by (node, le) (rate(paxos_epaxos_execution_lag_seconds_bucket{{{N}}}[{RATE}])))",
    NODE,
)
EPAXOS_TROUBLE: Final = (
    of_engine(f"sum(rate(paxos_epaxos_recoveries_total{{{N}}}[{RATE}]))", "recoveries"),
    of_engine(f"sum(rate(paxos_epaxos_thrifty_fallbacks_total{{{N}}}[{RATE}]))", "thrifty fallbacks"),
    of_engine(f"sum(rate(paxos_epaxos_proposed_again_total{{{N}}}[{RATE}]))", "proposed again"),
)
VIEW_EPOCH: Final = of_engine(f"max by (node) (paxos_view_epoch{{{N}}})", NODE)
VIEW_BACKUPS: Final = of_engine(f"max(paxos_view_backups{{{C}}})", "backups")
BACKUP_LAG: Final = of_engine(f"max by (peer) (paxos_backup_lag_slots{{{C}}})", "backup {{peer}}")

# Chat and auctions

_OTHER_APP: Final = "the cluster runs another application"


def of_app(expr: str, legend: str, *, newest: bool = False) -> Query:
    """What only one application has."""
    return Query(expr, legend, now=newest, empty_when=_OTHER_APP)


CHAT_ROOMS: Final = of_app(f"max(chat_rooms{{{C}}})", "rooms", newest=True)
CHAT_KEPT: Final = of_app(f"max(chat_messages{{{C}}})", "messages", newest=True)
CHAT_POSTED: Final = of_app(f"max(rate(chat_messages_posted_total{{{N}}}[{RATE}]))", "messages")
CHAT_KEPT_OVER_TIME: Final = of_app(f"max by (node) (chat_messages{{{N}}})", NODE)
AUCTIONS_LIVE: Final = of_app(f"max(auction_live{{{C}}})", "open", newest=True)
AUCTIONS_KNOWN: Final = of_app(f"max(auction_known{{{C}}})", "all", newest=True)
AUCTION_HIGHEST: Final = of_app(f"max(auction_highest_bid{{{C}}})", "highest bid", newest=True)
AUCTION_END: Final = of_app(f"max(auction_end_timestamp_seconds{{{C}}} > 0) * 1000", "deadline", newest=True)
AUCTION_HIGHEST_OVER_TIME: Final = of_app(f"max(auction_highest_bid{{{C}}})", "highest bid")
AUCTION_BIDS: Final = of_app(f"max by (outcome) (rate(auction_bids_total{{{N}}}[{RATE}]))", "{{outcome}}")
AUCTION_LIVE_OVER_TIME: Final = of_app(f"max by (node) (auction_live{{{N}}})", NODE)
FOLLOWERS: Final = gauge("paxos_feed_followers")
FEED_EVENTS: Final = rate("paxos_feed_events_total", "node", NODE)

# Scrapes

UP: Final = Query(f'max by (node) (up{{{N}, job="{JOB}"}})', NODE)
SCRAPE_S: Final = Query(f'max by (node) (scrape_duration_seconds{{{N}, job="{JOB}"}})', NODE)
