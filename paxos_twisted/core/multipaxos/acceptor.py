"""The acceptor: promises rounds and votes for values. [Paxos Made Simple, 2.2; Lab: acceptor]"""

from paxos_twisted.core.multipaxos.messages import Accept, Learn, Prepare, Promise, Vote
from paxos_twisted.core.runs import Ranges, RunMap
from paxos_twisted.types import NO_ROUND, NodeId, Round, Slot


class Acceptor:
    """One node's promises and votes. Whoever sends what a handler returns must first make it durable.

    Used alone, `handle_prepare` and `handle_accept` are the whole interface.
    """

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.rnd: Round = NO_ROUND
        """The highest round promised, for all slots; never goes down, also across restarts."""
        self.votes: RunMap[Vote] = RunMap()
        """Per slot the newest vote, from slot `first` on."""
        self.first: Slot = 0
        """Votes below are truncated; all those slots are decided."""
        self.silent = Ranges()
        """Slots whose vote could not be read back: neither "no vote" nor a guess may be reported for them."""
        self.fresh: list[Vote] = []
        """Votes that are new since the owner last emptied this list, to be made durable before the Learn leaves."""

    def handle_prepare(self, prepare: Prepare) -> Promise | None:
        """Promise a round higher than any seen, and report the votes from `prepare.slot` on.

        Returns None when the round is not higher than the promised one, or while a vote in that range is unreadable.
        """
        if prepare.crnd <= self.rnd:
            return None
        if self.silent.overlaps(prepare.slot, self.silent.last + 1):
            return None
        self.rnd = prepare.crnd
        votes = tuple(self.votes.within(prepare.slot, self.votes.stop)) if prepare.slot < self.votes.stop else ()
        return Promise(prepare.sender, self.node, self.rnd, votes, self.first)

    def handle_accept(self, accept: Accept) -> Learn | None:
        """Vote, unless promised to a higher round. An Accept without a Prepare raises the promised round too.

        Returns None when the round is lower than the promised one, or all its slots are truncated.
        """
        if accept.rnd < self.rnd:
            return None
        stop = accept.slot + accept.count
        if accept.slot < self.first:
            if stop <= self.first:
                return None
            accept = accept.cut(self.first)[1]
        assert accept.rnd >= self.rnd
        self.rnd = accept.rnd
        known = self.votes.get(accept.slot)
        if known is None or known.vrnd != accept.rnd or known.count != accept.count:
            vote = Vote(accept.slot, accept.rnd, accept.values, accept.count)
            self.votes.put(vote)
            self.fresh.append(vote)
            if self.silent:
                # Every vote we forgot was cast in a round <= rnd, so this newer one is all that a promise must tell.
                self.silent.remove(accept.slot, stop)
        else:
            assert known.vval == accept.values, f"two values in slot {accept.slot}, round {accept.rnd}"
        return Learn(self.node, accept.slot, accept.rnd, accept.values, accept.count)

    def voted_since(self, slot: Slot, count: int, rnd: Round) -> bool:
        """Whether the newest votes in all these slots are of round `rnd` or higher."""
        vote = self.votes.get(slot)
        if vote is not None and vote.count == count:
            return vote.vrnd >= rnd
        stop = slot + count
        return self.votes.covers(slot, stop) and all(vote.vrnd >= rnd for vote in self.votes.within(slot, stop))

    def truncate(self, first: Slot) -> None:
        """Forget the votes below `first`: a durable snapshot covers those slots."""
        if first > self.first:
            self.first = first
            self.votes.drop_below(first)
            self.silent.remove(0, first)

    def forget_loss(self, start: Slot, stop: Slot) -> None:
        """The slots [start, stop) and all below are decided, their values known: nothing there is unreadable any more.

        The lost votes stay lost, so a promise may not look as if there had been none (a candidate that knows less could
        believe that it is free there): to candidates that are behind, these slots are truncated.
        """
        lost = [min(b, stop) for a, b in self.silent if a < stop and start < b]
        if lost:
            self.silent.remove(start, stop)
            self.truncate(lost[-1])
