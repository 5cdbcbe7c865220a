"""The contract between the replicated state and the application that it runs."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from paxos_twisted.core.table import Table


class Footprint(NamedTuple):
    """What an operation touches: two operations whose order matters must meet in a key that one of them writes."""

    keys: tuple[int | str, ...] = ()
    writes: bool = True
    """False: all keys are only read."""
    everything: bool = False
    """Every key of the application, named or not."""


class Application(Protocol):
    """A deterministic state machine: the same operations in the same order give the same state and results.

    `apply` looks at nothing but the operation and the tables: no clock, no randomness, no iteration over sets, no
    floating point. It never raises for an operation that the codec let in; what cannot be done is a result.

    Applications inherit from this class: what has a body here has a default that is right for those that do not care.
    """

    name: str
    """One word, as in the cluster configuration: bank, kv, chat, auction."""

    op_type: Any
    """The type (a msgspec struct or a union of tagged ones) of `Command.op`."""

    result_type: Any
    """The type of what `apply` returns."""

    op_names: tuple[str, ...]
    """Everything that `op_name` may return."""

    def apply(self, op: Any, client: int) -> Any:
        """Execute one operation of `client` and return its result, which is never None."""
        ...

    def tables(self) -> Iterable[Table[Any, Any]]:
        """All replicated tables, always in the same order. Their contents are the whole state."""
        ...

    def op_name(self, op: Any) -> str:
        """The operation's name as metrics and histories write it, e.g. "deposit"."""
        ...

    def outcome(self, result: Any) -> str:
        """ "ok" when the operation did what was asked, "rejected" when the result is a refusal of the application."""
        ...

    # Series: many operations in one request. The session table keeps the results of one series per session.

    takes_series: bool = False
    """Every result is short (SERIES_RESULT_BYTES_MAX), so that SERIES_MAX of them make one answer."""

    # Interference. Leaderless engines order two commands only if their order matters.

    def footprint(self, op: Any) -> Footprint:
        """What `op` may read or write, rather too much than too little. It must not depend on the state."""
        return Footprint(everything=True)

    # Reads. The session table keeps each result until the client has acknowledged it: too much for long ones.

    def is_reread(self, op: Any) -> bool:
        """Whether `op` only reads and its result is not kept: when the command is repeated, it is executed again.

        That is as linearizable as the first outcome: whoever repeats a request has not seen its answer yet.
        """
        return False

    # Time. No application looks at a clock: the node that proposes an operation writes its time into it.

    stamps: bool = False
    """`stamp` wants to see the operations."""

    def stamp(self, op: Any, now_ms: int) -> Any:
        """The operation as it is proposed at `now_ms` (wall clock, Unix milliseconds). Called once, before the log.

        A repeated request is stamped anew; as it is applied once at most, one of the stamps counts, on every replica.
        """
        return op

    has_deadlines: bool = False
    """`due` wants to be asked."""

    def due(self, now_ms: int) -> Sequence[Any]:
        """Operations that the node that takes commands should propose by itself, because their time has come.

        Asked every 100 ms at most, of the applied state; what is under way is asked for again, and several nodes may
        propose the same. So each must change nothing when it is applied a second time.
        """
        return ()

    waiting_operations: tuple[str, ...] = ()
    """Names of operations whose answers a node may be told to hold back, see `paxos_twisted.net.delay`."""

    # Feeds. A topic is a list of events in the state that clients follow: it grows at its end, and may be cut at its
    # beginning. Positions count from 0 and are never used twice.

    event_type: Any = None
    """The type of a feed's events, None when there are no feeds."""

    def feed_of(self, op: Any, result: Any) -> str | None:
        """The topic to which this operation, with this result, has appended; None when to none."""
        return None

    def read_feed(self, topic: str, start: int, limit: int) -> tuple[int, Sequence[Any]]:
        """Up to `limit` events from position `start` on; from the end when `start` is negative: -10 are the last ten.

        Returns:
            The position of the first of them, and the events. The position is larger than `start` when the history has
            been cut meanwhile. Without events it is the position of the next one that this replica would show.
        """
        return max(start, 0), ()
