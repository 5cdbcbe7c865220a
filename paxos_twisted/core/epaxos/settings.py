"""What the engine is told by the cluster configuration. All times are milliseconds."""

from paxos_twisted.core.multipaxos.settings import Settings as CommonSettings

LEADERLESS = "leaderless"


class Settings(CommonSettings, frozen=True, kw_only=True):
    """The same on all nodes. What Multi-Paxos is told too means: `heartbeat_ms`, `delay_ms`, `delta_ms`, the failure
    detector (the instances of a suspected node are recovered); `catch_up_ms`, an instance that others have executed and
    this node has not seen committed for so long is asked for. `alpha`, `phase1_ms`, `phase2_ms` and `disk_slow_ms` mean
    nothing here: there is no leader whose slots, elections or slow disk would hold up others."""

    policy: str = LEADERLESS
    """For the eye: every replica serves clients."""
    thrifty: bool = True
    """PreAccept and Accept go only to as many replicas as a quorum needs; to the others once one of those is silent."""
    answer_ms: int = 250
    """A PreAccept or Accept that a quorum has not answered by then is sent again, to all; with back-off."""
    recover_ms: int = 1000
    """An instance of a replica that is not suspected is asked for after so long, and recovered after twice as long."""
    hold_ms: int = 1000
    """While a committed instance waits longer than this for its dependencies, nothing new that interferes is begun."""
