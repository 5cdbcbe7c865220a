"""The default leader detector: sticky and quorum-connected.

* Pre-vote: a node asks a majority whether they would follow it before any round grows, so returning, deaf or flapping
  nodes depose nobody. [Raft dissertation, 9.6]
* Stickiness: whoever hears a working leader says no. [Raft dissertation, 4.2.3]
* Quorum-connected: questions and answers must both arrive, so whoever wins is connected to a majority in both
  directions. The length of the log does not matter; phase 1 brings it. [Omni-Paxos, section 4]

Check-quorum (a leader that has not heard a majority steps down) is in `paxos_twisted.core.multipaxos.replica`.
"""

from collections.abc import Collection
from random import Random

from paxos_twisted.core.multipaxos.messages import AskFollow, WouldFollow
from paxos_twisted.types import NO_NODE, NO_ROUND, NodeId, Round, Slot

STAGGER_MS = 40
"""When a leader is lost, the connected nodes campaign one after the other, the highest id first, this far apart."""

YIELD_MS = 120
"""Whoever has told another that it would follow it gives it that long to win before it campaigns itself: the time of a
phase 1 on a busy machine. Without it two nodes that lost their leader at the same moment depose each other."""

RETRY_MS = 20
"""First back-off after a campaign without success; doubles up to the detector's delay, with jitter."""


class Sticky:
    """Whom this node follows, and its campaigns. All times are engine time in milliseconds."""

    def __init__(self, node: NodeId, nodes: int, campaign_ms: int, rng: Random) -> None:
        self.node = node
        self.quorum_size = nodes // 2 + 1
        self.campaign_ms = campaign_ms
        self._rng = rng
        self.leader: NodeId = NO_NODE
        self.leader_rnd: Round = NO_ROUND
        """Round in which `leader` leads, or the last one did; never goes down."""
        self.heard_ms = 0
        self.link_lost = False
        """The connection to the leader is lost: it does not count as working, but is not given up yet either."""
        self._campaign = rng.getrandbits(31)  # an answer to a campaign before a restart must not count
        self._granted: set[NodeId] = set()
        self._denied: set[NodeId] = set()
        self._failures = 0
        self._next_ms = 0
        self._has_yielded = False
        self._deadline_ms: int | None = None

    def is_working(self, now_ms: int, delay_ms: int) -> bool:
        """Whether this node hears its leader."""
        return self.leader != NO_NODE and not self.link_lost and now_ms - self.heard_ms <= delay_ms

    def follow(self, leader: NodeId, rnd: Round, now_ms: int) -> bool:
        """`leader` was heard leading in `rnd`. Returns whether that is news."""
        if rnd < self.leader_rnd:
            return False
        self.heard_ms = now_ms
        self._failures = 0
        self._deadline_ms = None
        if leader == self.leader:
            self.leader_rnd = rnd
            return False
        self.leader, self.leader_rnd = leader, rnd
        self.link_lost = False
        return True

    def lose(self, now_ms: int, connected: Collection[NodeId], is_behind: bool = False) -> None:
        """The leader is gone. `connected`: nodes not suspected; the highest of them campaigns first.

        A node that `is_behind` lets all others go first: it would have to propose again what they know to be decided.
        It still campaigns, because it may be the only one that is connected to a majority. [Rule 46]
        """
        gone, self.leader = self.leader, NO_NODE
        self.link_lost = False
        rank = sum(1 for other in connected if other > self.node and other != gone)
        if is_behind:
            rank += len(connected)
        self._next_ms = now_ms + rank * STAGGER_MS
        self._has_yielded = False
        self._deadline_ms = None

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time for a campaign of this node."""
        if self._deadline_ms is not None:
            if now_ms < self._deadline_ms:
                return False
            self.fail(now_ms, self.campaign_ms)
        return self.leader == NO_NODE and now_ms >= self._next_ms

    def ask(self, now_ms: int, adu: Slot) -> AskFollow:
        """Start a campaign."""
        self._campaign += 1
        self._granted = {self.node}
        self._denied = set()
        self._deadline_ms = now_ms + self.campaign_ms
        return AskFollow(self.node, self._campaign, adu)

    def is_won(self, answer: WouldFollow | None = None) -> bool:
        """Count an answer. True exactly once a campaign, when a majority would follow."""
        if self._deadline_ms is None:
            return False
        if answer is not None:
            if answer.campaign != self._campaign:
                return False
            (self._granted if answer.granted else self._denied).add(answer.sender)
        if len(self._granted) < self.quorum_size:
            return False
        self._deadline_ms = None
        return True

    def is_lost(self, nodes: int) -> bool:
        """Whether so many have denied that the campaign cannot be won any more."""
        return self._deadline_ms is not None and nodes - len(self._denied) < self.quorum_size

    def fail(self, now_ms: int, ceiling_ms: int) -> None:
        """A campaign or a phase 1 came to nothing: try again after a back-off with jitter."""
        self._deadline_ms = None
        backoff = min(RETRY_MS << min(self._failures, 10), ceiling_ms)
        self._failures += 1
        self._next_ms = now_ms + backoff + self._rng.randrange(backoff + STAGGER_MS)

    def postpone(self, until_ms: int) -> None:
        """Do not campaign before `until_ms`."""
        self._next_ms = max(self._next_ms, until_ms)

    def make_way(self, now_ms: int) -> None:
        """Another was told that this node would follow it. Only once for each lost leader: a node that hears no answers
        goes on asking, and must not keep all others from campaigning."""
        if not self._has_yielded:
            self._has_yielded = True
            self.postpone(now_ms + YIELD_MS)
