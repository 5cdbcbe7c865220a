"""What the primary-backup engine is told by the cluster configuration. All times are milliseconds."""

from paxos_twisted.core.multipaxos.settings import Settings as ViewSettings

SAFE = "safe"
"""Views are decided by a majority, with Multi-Paxos."""

NO_PARTITIONS = "no-partitions"
"""The rule of our sources: a node that is not heard has crashed. Whoever is at the head of the queue takes over and
asks nobody. One living node suffices; and when the network fails instead, there are two primaries."""


class Settings(ViewSettings, frozen=True, kw_only=True):
    """The same on all nodes. What Multi-Paxos is told too means: `alpha`, slots that may be open above `adu`;
    `heartbeat_ms`, `delay_ms`, `delta_ms`, the failure detector; `phase2_ms`, updates without an answer by then are
    sent again; `disk_slow_ms`, a member whose disk lags behind the others' for so long leaves the view; `catch_up_ms`.
    `policy` is Multi-Paxos' own: the view log is always decided with the sticky one."""

    mode: str = SAFE
    """SAFE or NO_PARTITIONS."""
