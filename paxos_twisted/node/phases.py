"""The phases of a failover as this node lives through them: when each began, how long it took. [conventions CV-11]

    detect        the leader is silent, or the connection to it is lost, and nobody has acted on it yet
    elect         it is given up: who would follow me?
    phase1        a new round asks a majority for promises
    fill          the slots that phase 1 found are proposed again
    first_commit  until the first command of a client is decided

A node that somebody else overtakes begins some phases and does not end them: its clocks are stopped, its marks stay.
"""

from collections.abc import Callable
from typing import Final

from paxos_twisted.node.metrics import Metrics

DETECT: Final = "detect"
ELECT: Final = "elect"
PHASE1: Final = "phase1"
FILL: Final = "fill"
FIRST_COMMIT: Final = "first_commit"

NS: Final = 1_000_000_000


class Phases:
    """Keeps `paxos_failover_phase_seconds` and `paxos_failover_phase_start_timestamp_seconds`.

    Args:
        now: seconds of a monotonic clock.
        wall_ns: nanoseconds since 1970.
    """

    def __init__(self, metrics: Metrics, now: Callable[[], float], wall_ns: Callable[[], int]) -> None:
        self.current = ""
        """The phase in which this node is; empty when it is in no failover."""
        self._metrics = metrics
        self._now = now
        self._wall_ns = wall_ns
        self._from = 0.0

    def begin(self, phase: str, ago_s: float = 0.0) -> None:
        """A phase begins, or began `ago_s` ago; the one before it ends. A phase that is repeated in the same failover
        (a campaign that came to nothing) keeps its beginning, and its times add up."""
        metrics = self._metrics
        if not self.current:  # a new failover: what is left of the last one must not be added to it
            for known in metrics.failover_phase:
                metrics.failover_phase[known] = metrics.failover_phase_start[known] = 0.0
        self.end(ago_s)
        self.current = phase
        self._from = self._now() - ago_s
        if not metrics.failover_phase_start[phase]:
            metrics.failover_phase_start[phase] = self._wall_ns() / NS - ago_s

    def end(self, ago_s: float = 0.0, at_most_s: float = float("inf")) -> None:
        """The failover is over, as far as this node has a part in it. Its last phase took `at_most_s`: a new leader
        that nobody asks for anything has no first commit to wait for."""
        if self.current:
            took_s = min(max(self._now() - ago_s - self._from, 0.0), at_most_s)
            self._metrics.failover_phase[self.current] += took_s
        self.current = ""
