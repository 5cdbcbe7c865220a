"""The learner: counts votes until a quorum of one round has decided. [Paxos Made Simple, 2.3; Lab: learner]"""

from paxos_twisted.core.command import cut_run, slice_run
from paxos_twisted.core.multipaxos.messages import Accept, Decision, Learn
from paxos_twisted.core.runs import Ranges, RunMap
from paxos_twisted.types import NodeId, Round, Slot


class Tally:
    """Who voted in one round for a run of slots, and for what."""

    __slots__ = ("count", "rnd", "slot", "values", "voters")

    def __init__(self, slot: Slot, count: int, rnd: Round, values: bytes | None, voters: set[NodeId]) -> None:
        self.slot = slot
        self.count = count
        self.rnd = rnd
        """The highest round heard of for these slots."""
        self.values = values
        """None until an Accept or Learn of this round has brought them."""
        self.voters = voters
        """Distinct nodes that voted in `rnd`."""

    def cut(self, at: Slot) -> "tuple[Tally, Tally]":
        """The tallies of the slots below `at` and from it on."""
        head = at - self.slot
        below, above = (None, None) if self.values is None else cut_run(self.values, self.count, head)
        return (
            Tally(self.slot, head, self.rnd, below, set(self.voters)),
            Tally(at, self.count - head, self.rnd, above, set(self.voters)),
        )


class Learner:
    """Finds out what is decided.

    Args:
        node: the node this learner runs on.
        nodes: number of acceptors; a quorum is any majority of them.
    """

    def __init__(self, node: NodeId, nodes: int) -> None:
        self.node = node
        self.quorum_size = nodes // 2 + 1
        self.tallies: RunMap[Tally] = RunMap()
        self.decided = Ranges()
        """Slots that were returned as decided; the learner is silent about them from then on."""

    def handle_accept(self, accept: Accept) -> list[Decision] | None:
        """Remember the values that round `accept.rnd` proposes. Needed where Learns come without values.

        Returns what is decided by it: votes may have been heard before the values.
        """
        tally = self.tallies.get(accept.slot)
        if tally is None and accept.slot >= self.tallies.stop and accept.slot > self.decided.last:
            self.tallies.put(Tally(accept.slot, accept.count, accept.rnd, accept.values, set()))
            return None
        return self._merge(accept.slot, accept.count, accept.rnd, accept.values, None)

    def handle_learn(self, learn: Learn) -> list[Decision] | None:
        """Count one node's votes. Returns the runs decided by them, or None.

        Only distinct voters of one round count; a higher round starts afresh, a lower one is ignored, and a slot is
        returned once.
        """
        tally = self.tallies.get(learn.slot)
        if tally is not None and tally.count == learn.count and tally.rnd == learn.rnd:
            tally.voters.add(learn.sender)
            if len(tally.voters) < self.quorum_size and learn.values is None:
                return None
            decision = self._complete(tally, learn.values)
            return None if decision is None else [decision]
        return self._merge(learn.slot, learn.count, learn.rnd, learn.values, learn.sender)

    def handle_leader(self, rnd: Round, adu: Slot) -> list[Decision] | None:
        """The leader of `rnd` says that every slot up to `adu` is decided. Returns what is decided by that, or None.

        Only slots whose Accept of that very round has arrived: 1. If the slot was decided in `rnd`, the value is the
        proposed one. 2. If it was decided in a lower round, phase 1 has bound the proposal to the same value. 3. Of a
        decision in a higher round that differs from its proposal a leader does not speak: it steps down first.
        """
        decisions: list[Decision] = []
        for tally in self.tallies.within(self.tallies.first, adu + 1) if self.tallies else ():
            if tally.rnd == rnd and tally.values is not None:
                self.tallies.pop(tally)
                self.decided.add(tally.slot, tally.slot + tally.count)
                decisions.append(Decision(tally.values, tally.slot, tally.count, rnd))
        return decisions or None

    def handle_decided(self, slot: Slot, count: int, values: bytes) -> list[Decision] | None:
        """A peer says that these values are decided (catch-up). Returns those that were not known to be."""
        decisions = [
            Decision(slice_run(values, count, start - slot, stop - start), start, stop - start)
            for start, stop in self.decided.missing(slot, slot + count)
        ]
        for decision in decisions:
            self.tallies.remove(decision.slot, decision.slot + decision.count)
            self.decided.add(decision.slot, decision.slot + decision.count)
        return decisions or None

    def skip_to(self, slot: Slot) -> None:
        """Every slot below `slot` is decided and known from elsewhere (a snapshot, the log)."""
        if slot > 0:
            self.tallies.drop_below(slot)
            self.decided.add(0, slot)

    def _merge(
        self, slot: Slot, count: int, rnd: Round, values: bytes | None, sender: NodeId | None
    ) -> list[Decision] | None:
        """The general case: the run meets other runs, other rounds, or slots that are decided."""
        decisions: list[Decision] = []
        for start, stop in self.decided.missing(slot, slot + count):
            for hole_start, hole_stop in self.tallies.holes(start, stop):
                self.tallies.put(Tally(hole_start, hole_stop - hole_start, rnd, None, set()))
            for tally in self.tallies.within(start, stop):
                if rnd < tally.rnd:
                    continue
                if rnd > tally.rnd:
                    tally.rnd, tally.values, tally.voters = rnd, None, set()
                if sender is not None:
                    tally.voters.add(sender)
                part = None if values is None else slice_run(values, count, tally.slot - slot, tally.count)
                decision = self._complete(tally, part)
                if decision is not None:
                    decisions.append(decision)
        return decisions or None

    def _complete(self, tally: Tally, values: bytes | None) -> Decision | None:
        if values is not None:
            if tally.values is None:
                tally.values = values
            assert tally.values == values, f"two values in slot {tally.slot}, round {tally.rnd}"
        if len(tally.voters) < self.quorum_size or tally.values is None:
            return None
        self.tallies.pop(tally)
        self.decided.add(tally.slot, tally.slot + tally.count)
        return Decision(tally.values, tally.slot, tally.count, tally.rnd)
