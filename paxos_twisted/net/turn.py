"""The end of a reactor turn: everything that came in has been taken in, now everything goes out, once.

    turn of the reactor:  read, read, read …  →  driver.flush()  →  one write per connection

A turn with a thousand requests so makes one run of commands, one log record, one Accept per peer, and one system call
per connection. Nothing waits for a timer: the end of the turn comes when the sockets that were ready have been read.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from paxos_twisted.net.reactor import Clock

_log = Logger()


class Pushable(Protocol):
    """Something that has collected output in this turn."""

    def push(self) -> None:
        """Write it out."""
        ...

    def abort(self) -> None:
        """Give up: writing has failed."""
        ...


class Turn:
    """Calls `flush`, then `push` of all who asked for it, then `after`, at the end of the current reactor turn."""

    __slots__ = (
        "_at_end",
        "_clock",
        "_flushing",
        "_pushes",
        "_scheduled",
        "_stopped",
        "after",
        "flush",
        "now",
        "turns",
    )

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Stock reactors know no end of a turn; their timers of no delay come close.
        self._at_end: Callable[[Callable[[], None]], object] = getattr(
            clock, "at_end_of_turn", lambda call: clock.callLater(0, call)
        )
        self._pushes: list[Pushable] = []
        self._scheduled = False
        self._flushing = False
        self._stopped = False
        self.flush: Callable[[], None] = _nothing
        """The driver's output; it must not raise."""
        self.after: Callable[[], None] = _nothing
        """What follows when all is written, e.g. reading clients again. It must not raise."""
        self.turns = 0
        self.now = clock.seconds()
        """When the current turn began to end."""

    def soon(self) -> None:
        """Let this turn end with a flush. Cheap to call again and again."""
        if not self._scheduled:
            self._scheduled = True
            self._at_end(self._end)

    def push_soon(self, connection: Pushable) -> None:
        """Call `connection.push` at the end of the turn, after the flush if one is running. Once per output, please."""
        self._pushes.append(connection)
        if not self._flushing:
            self.soon()

    def stop(self) -> None:
        """Nothing goes out any more, also not what has been collected: the node is wrong."""
        self._stopped = True
        self._pushes.clear()

    def _end(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        self.turns += 1
        self.now = self._clock.seconds()
        self._flushing = True
        self.flush()
        self._flushing = False
        pushes, self._pushes = self._pushes, []
        if self._stopped:  # the flush has found something wrong
            return
        for connection in pushes:
            try:
                connection.push()
            except Exception:
                # One connection's trouble is not the others'.
                _log.failure("writing to {connection} failed", connection=connection)
                connection.abort()
        self.after()


def _nothing() -> None:
    pass
