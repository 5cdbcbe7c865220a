"""The recovery of one instance: what may be, or was, decided about it? [EP* Fig. 3; protocol-rules 69, 79]

    Prepare(b) to all ──> a majority Q has answered
        somebody knows the decision ──────────────────────────────> it is that
        the highest vote was accepted ────────────────────────────> Accept(b) the same
        the owner is in Q: it has not committed, and cannot any more ──> Accept(b) a no-op
        fewer than |Q| - e had pre-accepted it unchanged: no fast commit ──> Accept(b) a no-op
        else it may have been committed with what the owner had sent ──> Validate(b) to Q
            nobody knows anything that speaks against it ──────────> Accept(b) that
            something that speaks against it is committed ─────────> Accept(b) a no-op
            all outside Q would have had to vote, and one of them began what speaks against it ──> Accept(b) a no-op
            else wait for what speaks against it, tell the others that we do, and decide when it is decided

Votes are compared by `vbal`, the ballot in which they were cast, never by the ballot that was joined since. The
dependencies are those that the owner had sent, never the ones that this node happens to know.
"""

from collections.abc import Container, Iterable
from enum import Enum

from paxos_twisted.core.epaxos.instance import Instance, InstanceId
from paxos_twisted.core.epaxos.messages import ACCEPTED, PREACCEPTED, Deps, PrepareReply, ValidateReply
from paxos_twisted.core.epaxos.quorums import fast_quorum, slow_quorum
from paxos_twisted.types import NodeId


class Phase(Enum):
    """Where a recovery stands."""

    PREPARE = "prepare"
    VALIDATE = "validate"
    WAIT = "wait"
    ACCEPT = "accept"
    DONE = "done"


class Value:
    """What is to be accepted."""

    __slots__ = ("body", "count", "deps", "seq")

    def __init__(self, body: bytes, count: int, deps: Deps, seq: int) -> None:
        self.body = body
        self.count = count
        self.deps = deps
        self.seq = seq


class Recovery:
    """One node's attempt to recover one instance, in a ballot of its own.

    Args:
        instance: what this node knows of it.
        owner: the node that began it.
        ballot: this attempt's ballot.
        n: number of replicas.
        owners: the node of each replica number.
        noop: the value that does nothing.
    """

    __slots__ = (
        "_accepts", "_e", "_n", "_owners", "_reports", "_slow", "answers", "attempt", "ballot", "blockers",
        "candidate", "deadline_ms", "instance", "noop", "owner", "phase", "quorum", "value", "votes", "wait_ms",
    )  # fmt: skip

    def __init__(
        self,
        instance: Instance,
        owner: NodeId,
        ballot: int,
        owners: tuple[NodeId, ...],
        noop: Value,
        now_ms: int,
        wait_ms: int,
        attempt: int,
    ) -> None:
        self.instance = instance
        self.owner = owner
        self.ballot = ballot
        self.phase = Phase.PREPARE
        self.answers: dict[NodeId, PrepareReply] = {}
        self.quorum: tuple[NodeId, ...] = ()
        """Q: who had answered when the phase ended."""
        self.votes = 0
        """|R|: how many of Q had pre-accepted it unchanged."""
        self.candidate: PrepareReply | None = None
        """One of R: the commands and what the owner had sent."""
        self.blockers: dict[InstanceId, None] = {}
        """I: what speaks against it and is not committed, as far as reported."""
        self.value: Value | None = None
        """What was proposed in `ballot`; never changes."""
        self.noop = noop
        self.attempt = attempt
        self.wait_ms = wait_ms
        self.deadline_ms = now_ms + wait_ms
        self._n = len(owners)
        self._e = self._n - fast_quorum(self._n)
        self._slow = slow_quorum(self._n)
        self._owners = owners
        self._reports: dict[NodeId, ValidateReply] = {}
        self._accepts: set[NodeId] = set()

    @property
    def is_current(self) -> bool:
        """This node has joined no higher ballot since."""
        return self.instance.bal == self.ballot

    def silent(self) -> tuple[NodeId, ...]:
        """Who has not answered the newest question."""
        asked: Iterable[NodeId] = self.quorum if self.phase is Phase.VALIDATE else self._owners
        answered: Container[NodeId] = self.answers
        if self.phase is Phase.VALIDATE:
            answered = self._reports
        elif self.phase is Phase.ACCEPT:
            answered = self._accepts
        return tuple(node for node in asked if node not in answered)

    # Prepare

    def on_prepare_reply(self, reply: PrepareReply) -> bool:
        """Take an answer; the own one when it is durable. Returns whether the phase has changed."""
        if reply.ballot != self.ballot or reply.sender in self.answers:
            return False
        if self.phase is Phase.PREPARE:
            self.answers[reply.sender] = reply
            if len(self.answers) < self._slow:
                return False
            self._judge()
            return True
        if self.phase is Phase.WAIT:
            self.answers[reply.sender] = reply
            if reply.status == ACCEPTED:
                return self._accept_vote(reply)
            if reply.sender == self.owner:
                return self._accept(self.noop)
        return False

    def _judge(self) -> None:
        """Q is complete. [rule 69 b-e; a was answered with the decision]"""
        self.quorum = tuple(sorted(self.answers))
        answers = [self.answers[node] for node in self.quorum]
        highest = max(answer.vbal for answer in answers)
        newest = [answer for answer in answers if answer.vbal == highest]
        accepted = next((answer for answer in newest if answer.status == ACCEPTED), None)
        if accepted is not None:
            self._accept_vote(accepted)
            return
        if self.owner in self.quorum:
            self._accept(self.noop)
            return
        unchanged = [
            answer
            for answer in newest
            if answer.status == PREACCEPTED and (answer.deps, answer.seq) == (answer.init_deps, answer.init_seq)
        ]
        self.votes = len(unchanged)
        if self.votes < len(self.quorum) - self._e:
            self._accept(self.noop)
            return
        self.candidate = unchanged[0]
        self.phase = Phase.VALIDATE

    def _accept_vote(self, vote: PrepareReply) -> bool:
        return self._accept(Value(vote.body, vote.count, vote.deps, vote.seq))

    # Validate

    def on_validate_reply(self, reply: ValidateReply) -> bool:
        """Take a report; the own one when it is durable. Returns whether the phase has changed."""
        if self.phase is not Phase.VALIDATE or reply.ballot != self.ballot or reply.sender not in self.quorum:
            return False
        self._reports[reply.sender] = reply
        if len(self._reports) < len(self.quorum):
            return False
        conflicts = [conflict for report in self._reports.values() for conflict in report.conflicts]
        if not conflicts:
            return self._accept_candidate()
        if any(conflict.committed for conflict in conflicts):
            return self._accept(self.noop)
        everybody_else_voted = self.votes == len(self.quorum) - self._e
        if everybody_else_voted and any(self._owners[one.replica] not in self.quorum for one in conflicts):
            return self._accept(self.noop)
        self.blockers = dict.fromkeys(sorted({(one.replica, one.slot) for one in conflicts}))
        self.phase = Phase.WAIT
        return True

    # Wait

    def on_blocker_committed(self, is_compatible: bool, all_committed: bool) -> bool:
        """Something that spoke against it is decided. Returns whether the phase has changed.

        Args:
            is_compatible: it is a no-op, or depends on this instance.
            all_committed: so are all others of `blockers`, and they are compatible.
        """
        if self.phase is not Phase.WAIT:
            return False
        if not is_compatible:
            return self._accept(self.noop)
        return all_committed and self._accept_candidate()

    def on_waiting(self, other: InstanceId, votes: int) -> bool:
        """The recovery of `other` waits, too. If so many had pre-accepted that one unchanged, this one cannot have been
        committed on the fast path. Returns whether the phase has changed."""
        if self.phase is not Phase.WAIT or other not in self.blockers:
            return False
        f = self._n // 2
        return votes > self._n - f - self._e and self._accept(self.noop)

    # Accept

    def on_accept_reply(self, sender: NodeId) -> bool:
        """A vote in `ballot`; the own one when it is durable. Returns whether the value is decided by it."""
        if self.phase is not Phase.ACCEPT:
            return False
        self._accepts.add(sender)
        if len(self._accepts) < self._slow:
            return False
        self.phase = Phase.DONE
        return True

    def _accept_candidate(self) -> bool:
        vote = self.candidate
        assert vote is not None
        return self._accept(Value(vote.body, vote.count, vote.init_deps, vote.init_seq))

    def _accept(self, value: Value) -> bool:
        assert self.value is None
        self.value = value
        self.phase = Phase.ACCEPT
        return True
