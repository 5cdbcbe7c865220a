"""Alert rules. What clients notice is critical, what may become that is a warning. [conventions CV-12…CV-15]

Certificates (PaxosCertificateExpiring) have no rule: the nodes do not use TLS yet.
"""

from typing import Final

from prometheus.recording import (
    DECIDED,
    FSYNC_P99,
    LAG,
    LATENCY_P99,
    LEADER,
    LEADER_CHANGES,
    MEMBERS,
    NODE_UP,
    NODES_UP,
    PROPOSALS,
    REACTOR_P99,
    SEEN_BY_PEERS,
)
from prometheus.rules import Alert
from prometheus.thresholds import (
    CLOCK_SKEW_S,
    DISK_FREE_BYTES,
    FSYNC_S,
    JOB,
    LAG_SLOTS,
    LATENCY_S,
    LEADER_CHANGES_SPARE,
    MACHINES,
    REACTOR_S,
)

RUNBOOKS: Final = "docs/runbooks/"
"""What the addresses of runbooks begin with: a path in this repository. Put the address of a published copy here."""

CLUSTER: Final = "Cluster {{ $labels.cluster }}"
NODE: Final = "Node {{ $labels.node }} of cluster {{ $labels.cluster }}"
SECONDS: Final = "{{ $value | humanizeDuration }}"

_TIME: Final = f'node_time_seconds{{job="{MACHINES}"}}'
_OFFSET: Final = f"max by (cluster, node) ({_TIME} - timestamp({_TIME}))"

ALERTS: Final = (
    Alert(
        name="PaxosNoLeader",
        severity="critical",
        expr=f"{LEADER} < 0",
        hold="5s",
        summary=f"{CLUSTER} has no leader",
        description="No node leads, so no command of a client is decided. A failover takes less than a second; this "
        "lasts longer.",
    ),
    Alert(
        name="PaxosQuorumLost",
        severity="critical",
        expr=f"{NODES_UP} <= {MEMBERS} / 2",
        hold="5s",
        summary=f"{CLUSTER} has lost its quorum: {{{{ $value }}}} node(s) are up",
        description="Fewer than a majority of the nodes are up and connected. Clients get no answers until enough "
        "nodes are back; nothing that was answered is lost.",
    ),
    Alert(
        name="PaxosNodeDown",
        severity="warning",
        expr=f"{NODE_UP} == 0",
        hold="30s",
        summary=f"{NODE} is down or cut off",
        description="The node does not answer scrapes, or no other node has a link to it. Clients are served as long "
        "as a majority is up, but the cluster can lose fewer further nodes.",
    ),
    Alert(
        name="PaxosLeaderFlapping",
        severity="warning",
        expr=f"{LEADER_CHANGES} > {MEMBERS} + {LEADER_CHANGES_SPARE}",
        hold="0s",
        summary=f"{CLUSTER} has changed its leader {{{{ $value }}}} times in ten minutes",
        description="Leadership moves more often than a rolling restart explains. Clients see a pause at each change.",
    ),
    Alert(
        name="PaxosCommitStalled",
        severity="critical",
        expr=f"min_over_time({PROPOSALS}[10s]) > 0 unless on (cluster) changes({DECIDED}[10s]) > 0",
        hold="5s",
        summary=f"{CLUSTER} decides nothing while {{{{ $value }}}} command(s) wait",
        description="Commands of clients wait at the nodes, and no slot has been decided for ten seconds.",
    ),
    Alert(
        name="PaxosClientLatencyHigh",
        severity="critical",
        expr=f"{LATENCY_P99} > {LATENCY_S:g}",
        hold="1m",
        summary=f"Clients of cluster {{{{ $labels.cluster }}}} wait {SECONDS} for an answer (99th percentile)",
        description=f"More than one request in a hundred takes longer than {LATENCY_S:g} s at the node that answers "
        "it, without the way to the client.",
    ),
    Alert(
        name="PaxosFsyncSlow",
        severity="warning",
        expr=f"{FSYNC_P99} > {FSYNC_S:g}",
        hold="1m",
        summary=f"{NODE} waits {SECONDS} for its disk (99th percentile)",
        description=f"More than one durable commit in a hundred takes longer than {FSYNC_S:g} s. If the node leads, or "
        "if it is needed for the majority, each command waits as long.",
    ),
    Alert(
        name="PaxosReactorBlocked",
        severity="warning",
        expr=f"{REACTOR_P99} > {REACTOR_S:g}",
        hold="30s",
        summary=f"{NODE} runs its timers {SECONDS} late (99th percentile)",
        description=f"The event loop is more than {REACTOR_S:g} s late. Everything that the node does waits, and late "
        "heartbeats make the others suspect it.",
    ),
    Alert(
        name="PaxosReplicaLagging",
        severity="warning",
        expr=f"{LAG} > {LAG_SLOTS}",
        hold="30s",
        summary=f"{NODE} is {{{{ $value }}}} slots behind",
        description=f"The node is up, but more than {LAG_SLOTS} slots behind the furthest one and does not catch up. "
        "It cannot take over quickly, and it needs the others' snapshot soon.",
    ),
    Alert(
        name="PaxosStateDiverged",
        severity="critical",
        expr="max by (cluster, node) (paxos_state_hash_mismatches_total) > 0",
        hold="0s",
        summary=f"{NODE} has another state than a peer",
        description="After the same slot, two nodes had different states. The guarantees are broken: answers depend on "
        "who gives them. The alert stays until the node is restarted.",
    ),
    Alert(
        name="PaxosDiskNearlyFull",
        severity="warning",
        expr=f"max by (cluster, node) (paxos_disk_free_bytes) < {DISK_FREE_BYTES}",
        hold="30s",
        summary=f"{NODE} has {{{{ $value | humanize1024 }}}}B left for its log",
        description="When the disk is full the node stops voting; when a majority's disks are, clients are refused.",
    ),
    Alert(
        name="PaxosClockSkew",
        severity="info",
        expr=f"""
abs(
  {_OFFSET}
  - on (cluster) group_left ()
  quantile by (cluster) (0.5, {_OFFSET})
) > {CLOCK_SKEW_S:g}""",
        hold="1m",
        summary=f"The clock of node {{{{ $labels.node }}}} of cluster {{{{ $labels.cluster }}}} is off by {SECONDS}",
        description="The machine's clock differs from the median of its cluster. No guarantee depends on it, but times "
        "in logs, reports and annotations cannot be compared. Needs node-exporter on the machines.",
    ),
    Alert(
        name="PaxosMetricsMissing",
        severity="warning",
        expr=f"""
max by (cluster, node) ({SEEN_BY_PEERS}) unless on (cluster, node) up{{job="{JOB}"}}
or
max by (cluster, node) (up{{job="{JOB}"}} == 1) unless on (cluster, node) paxos_node_info
or
absent(up{{job="{JOB}"}})""",
        hold="30s",
        summary="{{ if $labels.node }}" + NODE + " is not watched{{ else }}No node is watched{{ end }}",
        description="A member of the cluster is no target of Prometheus, or a target shows no metrics of a node: other "
        "alerts cannot see it.",
    ),
)
