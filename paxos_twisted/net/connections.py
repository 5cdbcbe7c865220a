"""All TCP connections of a node together: what they share, how they end together, and what went wrong with them."""

from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from paxos_twisted.net.reactor import Clock
from paxos_twisted.net.turn import Turn

if TYPE_CHECKING:
    from paxos_twisted.net.framing import FrameConnection

_log = Logger()


class Connections:
    """The connections that are alive, and the clock and the turn that they share.

    Args:
        rejected: where to count connections closed for a reason, by (side, reason). side: "client" (and strangers) or
            "peer". reason: a word of `Rejected.reason`, or "frame" (nonsense came), "timeout" (nothing came), "slow"
            (the other side does not read).
    """

    def __init__(self, clock: Clock, turn: Turn, rejected: MutableMapping[tuple[str, str], int]) -> None:
        self.clock = clock
        self.turn = turn
        self.rejected = rejected
        self.alive: dict[FrameConnection, None] = {}
        """A set that keeps its order."""
        self._waiting: list[Deferred[None]] = []

    def add(self, connection: "FrameConnection") -> None:
        """A connection was made."""
        self.alive[connection] = None

    def remove(self, connection: "FrameConnection") -> None:
        """A connection is lost."""
        self.alive.pop(connection, None)
        if not self.alive:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def finish_all(self) -> Deferred[None]:
        """Close all connections, with what is still to be written. Fires when all are gone: after LINGER_S at most."""
        for connection in list(self.alive):
            connection.finish()
        if not self.alive:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._waiting.append(deferred)
        return deferred

    def abort_all(self) -> None:
        """Close all connections at once."""
        for connection in list(self.alive):
            connection.abort()

    def count(self, side: str, reason: str, text: str) -> None:
        """Count and log why a connection is about to be closed. (The log's observer keeps floods out.)"""
        key = (side, reason)
        self.rejected[key] = self.rejected.get(key, 0) + 1
        _log.warn("closed a connection: {text}", text=text)
