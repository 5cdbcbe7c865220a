"""The eventually perfect failure detector with increasing timeout. [Cachin, Guerraoui, Rodrigues, algorithm 2.7]

Everybody asks everybody "are you there?" and answers whoever asks. A node is suspected when no answer came for `delay`.
An answer proves that the link works in both directions, so a node that can only send, or only hear, is suspected.
A false suspicion is taken back and the delay grows by `delta`.

The caller's clock may only count time during which this node itself was running: a frozen node must not blame others
for its own absence (`paxos_twisted.core.multipaxos.replica` sees to that).
"""

from collections.abc import Iterable

from paxos_twisted.core.events import Restored, Suspected
from paxos_twisted.types import NodeId

DELAY_GROWTH_MAX = 2
"""The delay never exceeds this many times its first value: a sick network must not end detection altogether, and a
silent leader is replaced within three times the configured delay, whatever happened before."""


class FailureDetector:
    """Suspects and restores the other nodes.

    Args:
        node: this node; it never suspects itself.
        members: all nodes.
        delay_ms: suspect after this long without an answer.
        delta_ms: growth of the delay after a false suspicion.
    """

    def __init__(self, node: NodeId, members: Iterable[NodeId], delay_ms: int, delta_ms: int) -> None:
        self.node = node
        self.others = tuple(sorted(member for member in members if member != node))
        self.delay_ms = delay_ms
        self.delta_ms = delta_ms
        self._delay_max_ms = DELAY_GROWTH_MAX * delay_ms
        self._heard_ms: dict[NodeId, int] = dict.fromkeys(self.others, 0)
        self.suspected: set[NodeId] = set()
        self._dead: set[NodeId] = set()

    def start(self, now_ms: int) -> None:
        """Count from now on."""
        self._heard_ms = dict.fromkeys(self.others, now_ms)

    def on_reply(self, node: NodeId, now_ms: int) -> Restored | None:
        """`node` has answered a heartbeat request."""
        self._heard_ms[node] = now_ms
        if node not in self.suspected:
            return None
        self.suspected.discard(node)
        if node in self._dead:
            self._dead.discard(node)  # it had really crashed: the delay was not too short
        else:
            self.delay_ms = min(self.delay_ms + self.delta_ms, self._delay_max_ms)
        return Restored(node, self.delay_ms)

    def on_refused(self, node: NodeId) -> Suspected | None:
        """The connection to `node` was lost and nobody listens there any more: the process is dead."""
        self._dead.add(node)
        if node in self.suspected:
            return None
        self.suspected.add(node)
        return Suspected(node, "link")

    def check(self, now_ms: int) -> list[Suspected]:
        """Suspect whoever was not heard of for the delay. Call it regularly."""
        late = [
            node for node in self.others if node not in self.suspected and self.silence_ms(node, now_ms) > self.delay_ms
        ]
        self.suspected.update(late)
        return [Suspected(node, "timeout", self.silence_ms(node, now_ms)) for node in late]

    def silence_ms(self, node: NodeId, now_ms: int) -> int:
        """Time since the last answer of `node`; 0 for this node itself."""
        return 0 if node == self.node else now_ms - self._heard_ms[node]

    def connected(self) -> frozenset[NodeId]:
        """The nodes that are not suspected, this one included."""
        return frozenset(node for node in self.others if node not in self.suspected) | {self.node}
