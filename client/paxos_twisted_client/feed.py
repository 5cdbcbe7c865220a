"""A feed: the events of one topic, each once and in order, from whichever node the pool uses.

The position is the client's: it asks every node that it comes to for the events from there on. So a failover costs no
event and repeats none, and a node that has not applied them yet tells them when it has.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

from paxos_twisted.wire.client import Events
from paxos_twisted_client.connection import NodeConnection
from paxos_twisted_client.reactor import Clock, DelayedCall

if TYPE_CHECKING:
    from paxos_twisted_client.pool import Pool

PROBE_S: Final = 2.0
"""A node that has told no events for so long is asked whether it is still there; the read timeout watches over that."""

_log = Logger()


class Feed:
    """Made by `Pool.follow`."""

    def __init__(
        self,
        pool: "Pool",
        reactor: Clock,
        topic: str,
        start: int,
        on_events: Callable[[int, Sequence[Any]], None],
        on_gap: Callable[[int, int], None] | None,
    ) -> None:
        self.topic = topic
        self.position = start
        """Of the next event; negative until the first answer: counted from the end."""
        self.connection: NodeConnection | None = None
        """Over which it is followed now."""
        self.is_closed = False
        self._pool = pool
        self._reactor = reactor
        self._on_events = on_events
        self._on_gap = on_gap
        self._asked = False
        self._has_begun = False
        self._probe: DelayedCall | None = None

    # From the program

    def close(self) -> None:
        """No more events."""
        if self.is_closed:
            return
        self.is_closed = True
        self._pool.feeds.pop(self.topic, None)
        connection = self.connection
        self._settle_ask()
        self._stop_probe()
        self.connection = None
        if connection is not None and connection.is_open:
            connection.send(self._pool.codec.unfollow(self.topic), self._pool.now_ns())
            connection.unanswered -= 1  # nobody answers this

    # From the pool

    def pump(self) -> None:
        """Follow over the connection in use, if that is another one than before."""
        connection = self._pool.current
        if connection is None or connection is self.connection or self.is_closed:
            return
        self._settle_ask()
        self.connection = connection
        self._ask()

    def on_lost(self, connection: NodeConnection) -> None:
        """A connection has ended."""
        if connection is self.connection:
            self._settle_ask()
            self._stop_probe()
            self.connection = None

    def take(self, events: Events[Any]) -> None:
        """What the node in use tells."""
        was_asked = self._asked
        self._settle_ask()
        first, told = events.first, events.events
        if self.position < 0:
            self.position = first
        if events.kept > self.position:
            gap = self.position
            self.position = events.kept
            if self._on_gap is not None:
                self._call(self._on_gap, gap, events.kept)
        skip = self.position - first
        if skip < 0:  # a message was lost on the way: a node tells everything in order
            self._ask()
            return
        fresh = told[skip:]
        self.position += len(fresh)
        if fresh or (was_asked and not self._has_begun):
            self._has_begun = True
            self._call(self._on_events, self.position - len(fresh), fresh)
        if not self.is_closed and self.connection is not None:
            self._watch()

    # Inside

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception:
            # The connection and the other feeds have no part in the program's mistake.
            _log.failure("the callback of the feed of {topic} failed", topic=self.topic)

    def _ask(self) -> None:
        connection = self.connection
        assert connection is not None
        self._stop_probe()
        if self._asked or not connection.is_open:
            return
        self._asked = True
        connection.feeds_asked += 1
        connection.send(self._pool.codec.follow(self.topic, self.position), self._pool.now_ns())
        self._watch()

    def _settle_ask(self) -> None:
        if self._asked:
            self._asked = False
            assert self.connection is not None
            self.connection.feeds_asked -= 1
            self.connection.unanswered -= 1

    def _watch(self) -> None:
        self._stop_probe()
        self._probe = self._reactor.callLater(PROBE_S, self._check)

    def _check(self) -> None:
        self._probe = None
        if self.connection is None:
            return
        self._settle_ask()  # the wish or its answer was lost: ask once more
        self._ask()

    def _stop_probe(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None and probe.active():
            probe.cancel()
