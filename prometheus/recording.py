"""Recording rules: what alerts and dashboards ask for more than once, and what only a rule can remember.

Nodes are told apart by the target labels `cluster` and `node`, see targets.py. Slots and leaders of several nodes are
compared with `max`, never added. [conventions CV-04, CV-14, CV-16]
"""

from typing import Final

from prometheus.rules import Recording
from prometheus.thresholds import EVALUATION_S, JOB

SEEN_BY_PEERS: Final = 'label_replace(max by (cluster, peer) (paxos_peer_up), "node", "$1", "peer", "(.+)")'
"""1 if some node has a link to the node, 0 if none has: nodes that discovery has forgotten are in it too. [CV-15]"""

NODE_UP: Final = "node:paxos_up:min"
LAG: Final = "node:paxos_applied_slot:lag"
FSYNC_P99: Final = "node:paxos_wal_fsync_duration_seconds:p99_1m"
REACTOR_P99: Final = "node:paxos_reactor_lag_seconds:p99_1m"
MEMBERS: Final = "cluster:paxos_members:count"
NODES_UP: Final = "cluster:paxos_up:sum"
LEADER: Final = "cluster:paxos_known_leader_id:leader"
LEADER_SINCE: Final = "cluster:paxos_known_leader_id:changed_timestamp_seconds"
HEALTH: Final = "cluster:paxos_health:state"
HEALTH_SINCE: Final = "cluster:paxos_health:changed_timestamp_seconds"
DECIDED: Final = "cluster:paxos_decided_slot:max"
PROPOSALS: Final = "cluster:paxos_proposals_open:sum"
LEADER_CHANGES: Final = "cluster:paxos_leader_changes:increase10m_max"
LATENCY_P99: Final = "cluster:paxos_client_request_duration_seconds:p99_1m"

DOWN, DEGRADED, HEALTHY = 0, 1, 2
"""Values of HEALTH: clients are not served; they are, but nodes are missing; all is well."""


def _changed(series: str) -> str:
    """When the series got its present value. A rule that reads its own last value: it survives a restart of Prometheus
    of up to five minutes, and begins with the first value seen."""
    return f"""
(timestamp({series}) and {series} != {series} offset {EVALUATION_S}s)
or {series.rpartition(":")[0]}:changed_timestamp_seconds
or timestamp({series})"""


def _p99(histogram: str, level: str) -> str:
    return f"histogram_quantile(0.99, sum by ({level}, le) (rate({histogram}_bucket[1m])))"


_LEADING: Final = "(paxos_round and on (cluster, node) paxos_is_leader == 1)"
"""Rounds of nodes that say that they lead. A leader that was frozen says so for a moment after it was replaced."""

NODES: Final = (
    Recording(
        name=NODE_UP,
        labels=("cluster", "node"),
        expr=f"""
min by (cluster, node) (
  up{{job="{JOB}"}}
  or
  {SEEN_BY_PEERS}
)""",
        meaning="1 if the node answers scrapes and some other node has a link to it, else 0.",
    ),
    Recording(
        name=LAG,
        labels=("cluster", "node"),
        expr="""
clamp_min(
  max by (cluster) (paxos_decided_slot) - on (cluster) group_right () max by (cluster, node) (paxos_applied_slot),
  0
)""",
        meaning="Slots that the furthest node has decided and this one has not applied.",
    ),
    Recording(
        name=FSYNC_P99,
        labels=("cluster", "node"),
        expr=_p99("paxos_wal_fsync_duration_seconds", "cluster, node"),
        meaning="99 of 100 durable commits of the last minute took at most so long.",
    ),
    Recording(
        name=REACTOR_P99,
        labels=("cluster", "node"),
        expr=_p99("paxos_reactor_lag_seconds", "cluster, node"),
        meaning="99 of 100 probes of the last minute found the reactor at most so late.",
    ),
)

CLUSTERS: Final = (
    Recording(
        name=MEMBERS,
        labels=("cluster",),
        expr=f"""
(1 + max by (cluster) (count by (cluster, node) (paxos_peer_up)))
or
count by (cluster) (up{{job="{JOB}"}})""",
        meaning="Nodes of the cluster by the nodes' own configuration; by that of Prometheus when no node answers.",
    ),
    Recording(
        name=NODES_UP,
        labels=("cluster",),
        expr=f"sum by (cluster) ({NODE_UP})",
        meaning="Nodes that are up.",
    ),
    Recording(
        name=LEADER,
        labels=("cluster",),
        expr=f"""
max by (cluster) (
  paxos_known_leader_id and on (cluster, node)
  {_LEADING}
  == on (cluster) group_left ()
  max by (cluster) {_LEADING}
)
or
max by (cluster) (up{{job="{JOB}"}}) * 0 - 1""",
        meaning="Id of the node that leads, by its own word, in the highest round if there are two; -1 if none does.",
    ),
    Recording(
        name=HEALTH,
        labels=("cluster",),
        expr=f"""
({LEADER} >= bool 0)
* ({NODES_UP} > bool {MEMBERS} / 2)
* (1 + ({NODES_UP} >= bool {MEMBERS}))""",
        meaning="2: healthy; 1: degraded, it serves but a node is missing; 0: down, no leader or no quorum.",
    ),
    Recording(
        name=HEALTH_SINCE,
        labels=("cluster",),
        expr=_changed(HEALTH),
        meaning="When the cluster got into its present state of health.",
    ),
    Recording(
        name=LEADER_SINCE,
        labels=("cluster",),
        expr=_changed(LEADER),
        meaning="Since when this node leads, or none does.",
    ),
    Recording(
        name=DECIDED,
        labels=("cluster",),
        expr="max by (cluster) (paxos_decided_slot)",
        meaning="The furthest decided slot.",
    ),
    Recording(
        name=PROPOSALS,
        labels=("cluster",),
        expr="sum by (cluster) (paxos_proposals_open)",
        meaning="Commands of clients that wait to be decided.",
    ),
    Recording(
        name=LEADER_CHANGES,
        labels=("cluster",),
        expr="max by (cluster) (sum by (cluster, node) (round(increase(paxos_leader_changes_total[10m]))))",
        meaning="Leader changes of the last ten minutes, as the node saw them that saw most.",
    ),
    Recording(
        name=LATENCY_P99,
        labels=("cluster",),
        expr=_p99("paxos_client_request_duration_seconds", "cluster"),
        meaning="99 of 100 requests of the last minute were answered within this time, at the node that answered.",
    ),
)

RECORDINGS: Final = NODES + CLUSTERS
