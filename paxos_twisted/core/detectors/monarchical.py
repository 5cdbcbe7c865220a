"""The lab's leader detector: the highest id that is not suspected. [Cachin, Guerraoui, Rodrigues, algorithm 2.6]

It hands leadership back as soon as a higher id returns, and lets a flapping high id cause endless changes (see
`docs/decisions.md`); the default is `paxos_twisted.core.multipaxos.sticky`.
"""

from collections.abc import Callable, Iterable

from paxos_twisted.types import NO_NODE, NodeId


class MonarchicalDetector:
    """Publishes the leader to subscribers whenever it changes. Negative ids never lead."""

    def __init__(self, members: Iterable[NodeId]) -> None:
        self._members = tuple(sorted(member for member in members if member >= 0))
        self._suspected: set[NodeId] = set()
        self._subscribers: list[Callable[[NodeId], None]] = []
        self.leader = self._highest()
        """The highest unsuspected id; NO_NODE when all are suspected."""

    def subscribe(self, trust: Callable[[NodeId], None]) -> None:
        """Call `trust(leader)` at every change from now on."""
        self._subscribers.append(trust)

    def suspect(self, node: NodeId) -> None:
        """`node` is suspected."""
        self._suspected.add(node)
        self._publish()

    def restore(self, node: NodeId) -> None:
        """`node` is no longer suspected."""
        self._suspected.discard(node)
        self._publish()

    def _highest(self) -> NodeId:
        return max((node for node in self._members if node not in self._suspected), default=NO_NODE)

    def _publish(self) -> None:
        leader = self._highest()
        if leader != self.leader:
            self.leader = leader
            for trust in self._subscribers:
                trust(leader)
