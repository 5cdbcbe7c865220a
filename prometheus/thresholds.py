"""Numbers that alert expressions, their texts, runbooks and the lines in dashboards share.

Times that are compared with quantiles are bucket bounds of the histograms, so that they are measured and not
interpolated. [conventions CV-07]
"""

from typing import Final

from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.limits import DISK_RESERVE_BYTES
from paxos_twisted.node.metrics import COMMIT_BOUNDS, FSYNC_BOUNDS, LAG_BOUNDS

JOB: Final = "paxosnode"
"""The scrape job of the nodes."""

MACHINES: Final = "machine"
"""The scrape job of the machines (node-exporter), where there is one."""

EVALUATION_S: Final = 1
"""Between two scrapes, and between two evaluations: a failover takes less than a second. [CV-10]"""

SCRAPE_TIMEOUT_S: Final = 0.9
"""A node that has not answered by then counts as down for that scrape."""

LATENCY_S: Final = 0.1
"""The 99th percentile of answers to clients; twenty times what a healthy cluster on one switch needs."""

FSYNC_S: Final = 0.1
"""The 99th percentile of durable commits; a tenth of the time after which a node calls its disk slow."""

REACTOR_S: Final = 0.1
"""The 99th percentile of how late the reactor is: as long as the time between two heartbeats."""

LAG_SLOTS: Final = 50_000
"""Slots behind the furthest node: half of what lies between two snapshots. Scrapes are up to a second apart, so a busy
cluster (10 000 commands a second) seems to lag by a fifth of this."""

LEADER_CHANGES_SPARE: Final = 1
"""Leader changes in ten minutes beyond one for each node, which is what a rolling restart may cause. [CV-14]"""

DISK_FREE_BYTES: Final = 32 * DISK_RESERVE_BYTES
"""1 GiB. With DISK_RESERVE_BYTES the node stops taking part."""

CLOCK_SKEW_S: Final = 0.5
"""From the median of the cluster's machines. Safety and timers do not depend on it; times in logs and reports do."""

FAILOVER_CRASH_S: Final = 0.15
"""What a failover may take when the leader's process dies: its sockets tell the others at once."""

FAILOVER_POWER_CUT_S: Final = (Settings().delay_ms + 300) / 1000
"""What it may take when the leader's machine dies: nobody tells, so the failure detector's delay comes first."""

assert LATENCY_S in COMMIT_BOUNDS
assert FSYNC_S in FSYNC_BOUNDS
assert REACTOR_S in LAG_BOUNDS
