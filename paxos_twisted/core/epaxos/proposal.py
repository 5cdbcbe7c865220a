"""The command leader: drives an instance of its own in ballot 0, to the fast path or the slow one.
[EP Fig. 2; protocol-rules 62-64, 68]

    PreAccept ──> a fast quorum answered exactly what was sent ───────────────> committed (fast), once that is durable
             └──> a majority answered, and the fast path is out of reach ──> Accept ──> majority ──> committed (slow)
"""

from enum import Enum

from paxos_twisted.core.epaxos.instance import Instance
from paxos_twisted.core.epaxos.messages import Deps
from paxos_twisted.core.epaxos.quorums import fast_quorum, slow_quorum
from paxos_twisted.types import NodeId


class Step(Enum):
    """What is to be done now."""

    WAIT = "wait"
    COMMIT_FAST = "fast"
    ACCEPT = "accept"
    COMMIT_SLOW = "slow"


class Proposal:
    """One instance of this replica, until it is committed or somebody recovers it.

    Args:
        instance: pre-accepted by the owner itself.
        asked: who got the PreAccept.
        n: number of replicas.
    """

    __slots__ = (
        "_accepts", "_answers", "_fast", "_own_accept", "_own_answer", "_slow", "asked", "began_ms", "deadline_ms",
        "instance", "is_accepting", "is_widened", "wait_ms",
    )  # fmt: skip

    def __init__(self, instance: Instance, asked: tuple[NodeId, ...], n: int, now_ms: int, wait_ms: int) -> None:
        self.instance = instance
        self.asked = asked
        """Who got the newest PreAccept or Accept."""
        self.began_ms = now_ms
        self.wait_ms = wait_ms
        self.deadline_ms = now_ms + wait_ms
        self.is_accepting = False
        """The slow path: Accepts are out."""
        self.is_widened = False
        """A chosen replica was silent, so all others were asked, too."""
        self._fast, self._slow = fast_quorum(n), slow_quorum(n)
        self._answers: dict[NodeId, tuple[Deps, int]] = {}
        self._accepts: set[NodeId] = set()
        # Our own votes count once they are durable. [rule 66]
        self._own_answer = False
        self._own_accept = False

    def on_own_durable(self) -> None:
        """The newest vote of this replica for its own instance is on disk."""
        if self.is_accepting:
            self._own_accept = True
        else:
            self._own_answer = True

    def on_pre_accept_reply(self, sender: NodeId, deps: Deps, seq: int) -> None:
        """The first answer of a replica is final."""
        if not self.is_accepting:
            self._answers.setdefault(sender, (deps, seq))

    def on_accept_reply(self, sender: NodeId) -> None:
        """A vote in ballot 0."""
        if self.is_accepting:
            self._accepts.add(sender)

    def has_answered(self, node: NodeId) -> bool:
        """Whether that replica has pre-accepted: it knows the commands."""
        return node in self._answers

    def is_answered_by(self, node: NodeId) -> bool:
        """Whether that replica has answered the newest question."""
        return node in (self._accepts if self.is_accepting else self._answers)

    def next_step(self, now_ms: int) -> Step:
        """What the answers allow. A majority that has not become a fast quorum in time goes the slow way."""
        if self.is_accepting:
            is_done = self._own_accept and len(self._accepts) + 1 >= self._slow
            return Step.COMMIT_SLOW if is_done else Step.WAIT
        if not self._own_answer:
            return Step.WAIT
        mine = (self.instance.deps, self.instance.seq)
        equal = sum(answer == mine for answer in self._answers.values())
        if self.instance.bal == 0 and equal + 1 >= self._fast:
            return Step.COMMIT_FAST
        if len(self._answers) + 1 < self._slow:
            return Step.WAIT
        silent = sum(node not in self._answers for node in self.asked)
        is_out_of_reach = equal + silent + 1 < self._fast
        return Step.ACCEPT if is_out_of_reach or now_ms >= self.deadline_ms else Step.WAIT

    def union(self) -> tuple[Deps, int]:
        """What all answers together say: the value of the slow path."""
        deps, seq = list(self.instance.deps), self.instance.seq
        for other_deps, other_seq in self._answers.values():
            deps = list(map(max, deps, other_deps))
            seq = max(seq, other_seq)
        return tuple(deps), seq

    def accept(self, asked: tuple[NodeId, ...], now_ms: int, wait_ms: int) -> None:
        """Accepts go to `asked` now."""
        self.is_accepting = True
        self.asked = asked
        self.wait_ms = wait_ms
        self.deadline_ms = now_ms + wait_ms

    def widen(self, everybody: tuple[NodeId, ...], now_ms: int, wait_ms_max: int) -> None:
        """Somebody was silent for too long: ask all, and be more patient next time."""
        self.is_widened = True
        self.asked = everybody
        self.wait_ms = min(2 * self.wait_ms, wait_ms_max)
        self.deadline_ms = now_ms + self.wait_ms
