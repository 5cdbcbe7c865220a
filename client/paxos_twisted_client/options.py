"""How patient a client is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Times after which a client gives up something. Dial, read and write are apart, as they mean different things."""

    dial_s: float = 0.5
    """From the first SYN to the node's welcome."""
    read_s: float = 1.0
    """Silence of a node that owes us an answer."""
    write_s: float = 1.0
    """A node that does not take our bytes."""
    request_s: float = 10.0
    """One request, over all attempts. Then its outcome is unknown, or refused when it certainly was not applied."""
    pause_min_s: float = 0.010
    """First pause after all nodes were asked for the leader in vain. An election takes a few times this."""
    pause_max_s: float = 0.200
    """Longest such pause."""
    pause_growth: float = 1.5
    """Each pause is that much longer than the one before it: a leader is found at most half an outage late."""

    def __post_init__(self) -> None:
        assert self.dial_s > 0
        assert self.read_s > 0
        assert self.write_s > 0
        assert self.request_s > 0
        assert 0 < self.pause_min_s <= self.pause_max_s
        assert self.pause_growth > 1
