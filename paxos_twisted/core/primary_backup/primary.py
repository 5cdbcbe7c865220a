"""The primary of one epoch: how far it and its backups are, and what is committed by that.

A slot is committed when every node in `required` has it durably: the members of the view, and whoever is about to join.

How a node joins without losing anything:

1. The primary sends it what it has, and goes on committing without it.
2. When it has nearly everything, it is `joining`: from now on nothing is committed without it.
3. When it has everything that is committed, and not before, the primary asks for the view with it. (Also everything
   that the primary held when its epoch began: that may have been committed, and it was not told.)
4. So when that view is decided, at whatever moment, its new member holds every committed slot.
5. What was asked for cannot be taken back: `asked` stays required until the epoch is over.
"""

from collections import deque
from collections.abc import Iterable

from paxos_twisted.core.primary_backup.held import Entry
from paxos_twisted.core.primary_backup.view import View
from paxos_twisted.limits import WINDOW_BYTES_MAX
from paxos_twisted.types import NO_SLOT, NodeId, Slot


class Follower:
    """One node that gets updates, as its primary knows it. Times are engine time in milliseconds."""

    __slots__ = (
        "_flight",
        "_sent_ms",
        "acked",
        "flight_bytes",
        "has_entered",
        "is_sent",
        "join_mark",
        "next",
        "owing_since_ms",
        "resend_ms",
    )

    def __init__(self, start: Slot, is_sent: bool, resend_ms: int) -> None:
        self.has_entered = False
        """It has answered in this epoch."""
        self.is_sent = is_sent
        """It gets updates: backups always, others when they have nearly caught up."""
        self.next = start
        """The next slot to send."""
        self.acked: Slot = NO_SLOT
        """It holds every slot up to here durably, as it said in this epoch."""
        self.join_mark: Slot = NO_SLOT
        """It has nearly everything once it has acknowledged this slot."""
        self.owing_since_ms: int | None = None
        """Since when something is sent to it and it has not come forward; None: it owes nothing."""
        self.resend_ms = resend_ms
        """What it owes is sent again after this time."""
        self.flight_bytes = 0
        """Bytes sent and not acknowledged."""
        self._sent_ms = 0  # when it was sent, or sent again, the oldest that it owes
        self._flight: deque[tuple[Slot, int]] = deque()  # (slot after the last, bytes)

    @property
    def has_room(self) -> bool:
        """Whether more may be sent before it answers."""
        return self.flight_bytes < WINDOW_BYTES_MAX

    def on_sent(self, entry: Entry, now_ms: int) -> None:
        """`entry`, which starts at `next`, was sent."""
        assert entry.slot == self.next
        if not self._flight:
            self._sent_ms = now_ms
        if self.owing_since_ms is None:
            self.owing_since_ms = now_ms
        self.next = entry.stop
        self.flight_bytes += len(entry.body)
        self._flight.append((entry.stop, len(entry.body)))

    def on_ack(self, slot: Slot, now_ms: int, resend_ms: int) -> bool:
        """It holds every slot up to `slot`. Returns whether that is news."""
        self.has_entered = True
        if slot <= self.acked:
            return False
        self.acked = slot
        self.resend_ms = resend_ms
        self.next = max(self.next, slot + 1)
        while self._flight and self._flight[0][0] <= slot + 1:
            self.flight_bytes -= self._flight.popleft()[1]
        self._sent_ms = now_ms
        self.owing_since_ms = now_ms if self._flight else None
        return True

    def is_overdue(self, now_ms: int) -> bool:
        """Whether something that was sent should have been answered by now."""
        return bool(self._flight) and now_ms - self._sent_ms >= self.resend_ms

    def rewind(self, first: Slot, resend_max_ms: int) -> None:
        """Send everything that is not acknowledged again, from `first` at the lowest; wait longer the next time."""
        self._flight.clear()
        self.flight_bytes = 0
        self.next = max(self.acked + 1, first)
        self.resend_ms = min(2 * self.resend_ms, resend_max_ms)


class Primary:
    """See the top of this file.

    Args:
        node: this node.
        view: its view.
        start: every slot below is committed.
        end: the last slot that it holds.
    """

    def __init__(
        self, node: NodeId, view: View, start: Slot, end: Slot, others: Iterable[NodeId], resend_ms: int
    ) -> None:
        self.node = node
        self.view = view
        self.start = start
        self.end = end
        """The last slot given to a command; never goes down."""
        self.stop = end + 1
        """Slots below were held when the epoch began: they are completed first."""
        self.is_filled = False
        """What was held when the epoch began is committed."""
        self.acked = NO_SLOT
        """This node's own log is durable up to here."""
        self.followers = {other: Follower(start, other in view.members, resend_ms) for other in others if other != node}
        self.joining: set[NodeId] = set()
        """Nothing is committed without them any more."""
        self.asked: set[NodeId] = set()
        """Those among `joining` that some view that was asked for has as a member."""

    @property
    def required(self) -> set[NodeId]:
        """The other nodes without which nothing is committed."""
        return set(self.view.queue) | self.joining

    def committed(self) -> Slot:
        """The last slot such that it and all below are durable at every required node."""
        return min(self.acked, *(self.followers[node].acked for node in self.required), self.end)

    def let_go(self, node: NodeId) -> None:
        """`node`, no backup, is not to join after all; too late if it was asked for."""
        follower = self.followers[node]
        if node not in self.view.members and node not in self.asked:
            self.joining.discard(node)
            follower.is_sent = False
            follower.join_mark = NO_SLOT

    def slowest(self) -> NodeId:
        """Who holds up the commitment: the node with the lowest acknowledged slot."""
        acked = {node: self.followers[node].acked for node in sorted(self.required)}
        acked[self.node] = self.acked
        return min(acked, key=lambda node: (acked[node], node != self.node))
