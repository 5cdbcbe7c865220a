"""When a node asks for another view, and the question it asks first. Times are engine time in milliseconds."""

from random import Random

from paxos_twisted.core.primary_backup.messages import Canvass, Support
from paxos_twisted.core.primary_backup.view import Epoch
from paxos_twisted.types import NodeId

RETRY_MS = 20
"""First back-off after a canvass without success; doubles up to the detector's delay, with jitter."""

RETURN_MS_MAX = 10_000
"""A node that keeps leaving the view is taken back after this long at the latest."""

CALM_MS = 30_000
"""Who was in the view for so long has not left it too often."""


class Succession:
    """One canvass at a time."""

    def __init__(self, node: NodeId, quorum_size: int, rng: Random) -> None:
        self.node = node
        self.quorum_size = quorum_size
        self._rng = rng
        self._campaign = rng.getrandbits(31)  # an answer to a question before a restart must not count
        self._granted: set[NodeId] = set()
        self._deadline_ms: int | None = None
        self._failures = 0
        self.next_ms = 0
        """Ask nobody before."""

    @property
    def is_asking(self) -> bool:
        """A question is under way."""
        return self._deadline_ms is not None

    def ask(self, epoch: Epoch, takes_over: bool, now_ms: int, patience_ms: int) -> Canvass:
        """Begin. The answers have `patience_ms`."""
        self._campaign += 1
        self._granted = {self.node}
        self._deadline_ms = now_ms + patience_ms
        return Canvass(self.node, self._campaign, epoch, takes_over)

    def is_won(self, answer: Support | None = None) -> bool:
        """Count an answer. True exactly once a canvass, when a majority agrees."""
        if self._deadline_ms is None:
            return False
        if answer is not None and answer.campaign == self._campaign and answer.granted:
            self._granted.add(answer.sender)
        if len(self._granted) < self.quorum_size:
            return False
        self._deadline_ms = None
        return True

    def is_over(self, now_ms: int) -> bool:
        """Whether the answers have had their time."""
        return self._deadline_ms is not None and now_ms >= self._deadline_ms

    def fail(self, now_ms: int, ceiling_ms: int) -> None:
        """It came to nothing: try again after a back-off with jitter."""
        self._deadline_ms = None
        backoff = min(RETRY_MS << min(self._failures, 10), ceiling_ms)
        self._failures += 1
        self.next_ms = now_ms + backoff + self._rng.randrange(backoff)

    def end(self) -> None:
        """There is another view: what was asked before does not matter."""
        self._deadline_ms = None
        self._failures = 0
        self.next_ms = 0


class Returns:
    """How soon a node that left the view is taken back.

    At once, if its process had ended: it comes back whole. A node that was only not heard may be on a bad link: it is
    taken back later and later when it leaves again and again, for every change of the view costs a pause, and a record
    that stays until the next truncation.
    """

    def __init__(self, pause_ms: int) -> None:
        self.pause_ms = pause_ms
        self._left: dict[NodeId, tuple[int, int, int]] = {}  # (times, when it left last, when it may come back)

    def on_left(self, node: NodeId, now_ms: int) -> None:
        """`node` was not heard, and is no member any more."""
        times, left_ms, _ = self._left.get(node, (0, 0, 0))
        if now_ms - left_ms > CALM_MS:
            times = 0
        pause = 0 if times == 0 else min(self.pause_ms << (times - 1), RETURN_MS_MAX)
        self._left[node] = (min(times + 1, 16), now_ms, now_ms + pause)

    def may_return(self, node: NodeId, now_ms: int) -> bool:
        """Whether it may come back by now."""
        return node not in self._left or now_ms >= self._left[node][2]
