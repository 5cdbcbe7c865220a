"""What a node knows after a restart: the log read back into votes, the promised round and decided slots."""

from collections.abc import Sequence

import msgspec

from paxos_twisted.core.engine import DecidedRun
from paxos_twisted.core.multipaxos.acceptor import Acceptor
from paxos_twisted.core.multipaxos.messages import Vote
from paxos_twisted.core.records import Chosen, Header, LogRecord, PeerSeen, Promised, Reached, Voted
from paxos_twisted.core.runs import Ranges, RunMap
from paxos_twisted.types import NO_ROUND, NO_SLOT, NodeId, Slot


class Restored(msgspec.Struct):
    """The durable state of a node."""

    acceptor: Acceptor
    decided: list[DecidedRun]
    """What follows the snapshot and is known to be decided, without a hole: to be applied again."""
    adu: Slot


def restore(
    node: NodeId, entries: Sequence[LogRecord], lost: Sequence[Header], snapshot: Slot, applied: Slot
) -> Restored:
    """Rebuild a node from its log.

    Args:
        node: the node itself.
        entries: all readable records, in the order in which they were written.
        lost: headers of the records that could not be read.
        snapshot: slot of the durable snapshot, or NO_SLOT. Votes at or below it may be truncated.
        applied: `snapshot`, or NO_SLOT when the snapshot itself could not be read (it must come from a peer then).
    """
    acceptor = Acceptor(node)
    chosen: RunMap[DecidedRun] = RunMap()
    mark = NO_SLOT
    for entry in entries:
        match entry:
            case Promised(rnd=rnd):
                acceptor.rnd = max(acceptor.rnd, rnd)
            case Voted(rnd=rnd, slot=slot, count=count, values=values, adu=adu):
                acceptor.rnd = max(acceptor.rnd, rnd)
                acceptor.votes.put(Vote(slot, rnd, values, count))
                mark = max(mark, adu)
            case Chosen(slot=slot, count=count, values=values):
                chosen.put(DecidedRun(slot, count, values))
            case Reached(adu=adu):
                mark = max(mark, adu)
            case PeerSeen():
                pass
    unknown = Ranges()  # slots whose decided value may have stood in a lost record
    for header in lost:
        acceptor.rnd = max(acceptor.rnd, header.rnd)
        stop = header.slot + header.count
        if header.slot < 0 or stop <= snapshot + 1:
            continue
        if header.rnd == NO_ROUND or not acceptor.voted_since(header.slot, header.count, header.rnd):
            unknown.add(header.slot, stop)
        if header.rnd != NO_ROUND and not acceptor.voted_since(header.slot, header.count, header.rnd):
            acceptor.silent.add(header.slot, stop)
    acceptor.truncate(snapshot + 1)
    decided: list[DecidedRun] = []
    adu = applied
    if applied == snapshot:
        decided = _decided_after(applied, mark, acceptor.votes, chosen, unknown)
        if decided:
            adu = decided[-1].slot + decided[-1].count - 1
    if adu > NO_SLOT:
        acceptor.forget_loss(0, adu + 1)
    return Restored(acceptor, decided, adu)


def _decided_after(
    applied: Slot, mark: Slot, votes: RunMap[Vote], chosen: RunMap[DecidedRun], unknown: Ranges
) -> list[DecidedRun]:
    """The decided runs in (applied, mark] up to the first hole. A Chosen record counts before any vote: a vote may be
    newer than the decision and still be for another value, when it came late and from a lower round."""
    decided: list[DecidedRun] = []
    slot = applied + 1
    while slot <= mark:
        run = chosen.at(slot)
        if run is not None:
            run = chosen.within(slot, min(run.slot + run.count, mark + 1))[0]
        else:
            vote = votes.at(slot)
            if vote is None or slot in unknown:
                break
            stop = min(vote.slot + vote.count, mark + 1)
            stop = chosen.holes(slot, stop)[0][1]
            stop = unknown.missing(slot, stop)[0][1]
            vote = votes.within(slot, stop)[0]
            run = DecidedRun(vote.slot, vote.count, vote.vval)
        decided.append(run)
        slot = run.slot + run.count
    return decided
