"""What the engine is told by the cluster configuration. All times are milliseconds."""

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The same on all nodes."""

    alpha: int = 16_384
    """Slots that may be open above `adu`. 1 is the lab's rule: one slot at a time."""
    policy: str = "sticky"
    """Leader detector: sticky (default) or lab (highest unsuspected id)."""
    heartbeat_ms: int = 100
    """Time between heartbeat requests."""
    delay_ms: int = 800
    """A node not heard of for this long is suspected."""
    delta_ms: int = 200
    """The delay grows by this after each false suspicion."""
    phase1_ms: int = 250
    """A prepare without a quorum by then is given up; with back-off and jitter."""
    phase2_ms: int = 250
    """An accept without a decision by then is sent again, unchanged; with back-off."""
    catch_up_ms: int = 100
    """A node that is behind and has not come forward for this long asks a peer."""
    disk_slow_ms: int = 1000
    """A leader whose oldest unfinished write is older than this gives up leadership."""
