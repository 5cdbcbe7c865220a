"""When a node that is behind asks whom for decided slots, so that one question at a time is under way."""

from collections.abc import Collection

from paxos_twisted.types import NO_NODE, NO_SLOT, NodeId, Slot

PATIENCE_GROWTH_MAX = 8


class CatchUp:
    """Remembers how far the others are, and the question that is under way. Times are engine time in milliseconds."""

    def __init__(self, patience_ms: int) -> None:
        self.patience_ms = patience_ms
        self.known: dict[NodeId, Slot] = {}
        """How far each peer said it was; never goes down."""
        self._progress = NO_SLOT
        self._progress_ms = 0
        self._wait_ms = patience_ms  # doubles while a question is unanswered, so that answers do not pile up
        self._asked: NodeId = NO_NODE

    def note(self, node: NodeId, adu: Slot) -> None:
        """`node` said that every slot up to `adu` is decided."""
        if adu > self.known.get(node, NO_SLOT):
            self.known[node] = adu

    @property
    def target(self) -> Slot:
        """The highest slot that some peer said is decided."""
        return max(self.known.values(), default=NO_SLOT)

    def whom_to_ask(self, adu: Slot, now_ms: int, connected: Collection[NodeId]) -> NodeId | None:
        """The peer to ask now, if any: when this node is behind and has not come forward for `patience_ms`."""
        if adu > self._progress or adu >= self.target:
            self._progress = adu
            self._progress_ms = now_ms
            self._asked = NO_NODE
            self._wait_ms = self.patience_ms
            return None
        if now_ms - self._progress_ms < self._wait_ms:
            return None
        self._wait_ms = min(2 * self._wait_ms, PATIENCE_GROWTH_MAX * self.patience_ms)
        return self._ask(adu, now_ms, connected)

    def ask_again(self, adu: Slot, now_ms: int, connected: Collection[NodeId]) -> NodeId | None:
        """An answer came: whom to ask for more at once, if this node is still behind."""
        if adu <= self._progress:
            return None  # the answer brought nothing; patience decides about the next question
        self._progress = adu
        self._progress_ms = now_ms
        self._wait_ms = self.patience_ms
        return None if adu >= self.target else self._ask(adu, now_ms, connected, same=True)

    def _ask(self, adu: Slot, now_ms: int, connected: Collection[NodeId], same: bool = False) -> NodeId | None:
        ahead = sorted(node for node in connected if self.known.get(node, NO_SLOT) > adu)
        if not ahead:
            return None
        if not (same and self._asked in ahead):
            # Another one than last time: the next higher id, around.
            self._asked = next((node for node in ahead if node > self._asked), ahead[0])
        self._progress_ms = now_ms
        return self._asked
