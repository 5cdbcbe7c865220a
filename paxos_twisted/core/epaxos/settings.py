"""What the engine is told by the cluster configuration. All times are milliseconds."""

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, tag="epaxos"):
    """The same on all nodes."""

    thrifty: bool = True
    """PreAccept and Accept go only to as many replicas as a quorum needs; to the others once one of those is silent."""
    heartbeat_ms: int = 100
    """Time between heartbeats; they carry what each replica has executed."""
    delay_ms: int = 800
    """A node not heard of for this long is suspected: the instances that it left open are recovered."""
    delta_ms: int = 200
    """The delay grows by this after each false suspicion."""
    answer_ms: int = 250
    """A PreAccept or Accept that a quorum has not answered by then is sent again, to all; with back-off."""
    recover_ms: int = 1000
    """An instance of a replica that is not suspected, waited for this long, is asked for; then recovered."""
    catch_up_ms: int = 100
    """An instance that others have executed and this node has not seen committed for this long is asked for."""
    hold_ms: int = 1000
    """While a committed instance waits longer than this for its dependencies, nothing new that interferes is begun."""
