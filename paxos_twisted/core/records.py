"""What a node writes to its log. The storage layer numbers, seals and recovers these; only engines interpret them.

`Header` is the small part of a record that must survive even when the record itself rots: it says for which slots the
node must keep silent until it has been healed. [Protocol-Aware Recovery, section 3.3]
"""

import msgspec

from paxos_twisted.types import NO_ROUND, NO_SLOT, NodeId, Round, Slot


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Which slots a record speaks of, and in which round. slot -1: of none in particular."""

    slot: Slot = NO_SLOT
    count: int = 0
    rnd: Round = NO_ROUND


class Promised(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """The acceptor promised `rnd`. [Paxos Made Simple, 2.2, phase 1b]"""

    rnd: Round

    @property
    def header(self) -> Header:
        """No slot, but a round: a node that lost this record has lost its promise."""
        return Header(rnd=self.rnd)


class Voted(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """The acceptor promised `rnd` and voted for `values` in the slots `slot` … `slot + count - 1`. [2.2, phase 2b]"""

    rnd: Round
    slot: Slot
    count: int
    values: bytes
    adu: Slot
    """At the time of writing: every slot up to here is decided, and its value stands in this log (or in the snapshot)
    in the newest record that speaks of the slot."""

    @property
    def header(self) -> Header:
        """The slots and the round of the vote."""
        return Header(self.slot, self.count, self.rnd)


class Chosen(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """These values are decided; the node did not vote for them in the round that decided, or in a higher one."""

    slot: Slot
    count: int
    values: bytes

    @property
    def header(self) -> Header:
        """The slots; a decision has no round."""
        return Header(self.slot, self.count)


class Reached(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """Every slot up to `adu` is decided and its value stands in this log, see `Voted.adu`."""

    adu: Slot

    @property
    def header(self) -> Header:
        """A mark that a node can lose without harm: it only knows less."""
        return Header()


class PeerSeen(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """A peer's data directory, by its random identity, and how far it had written: it may not come back with less."""

    node: NodeId
    identity: str
    progress: int

    @property
    def header(self) -> Header:
        """A hint that can be lost."""
        return Header()


class SnapshotPiece(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """Piece `index` of the snapshot of slot `slot`. Counts only once `SnapshotTaken` is written."""

    slot: Slot
    index: int
    data: bytes


class SnapshotTaken(msgspec.Struct, array_like=True, tag=7, frozen=True, gc=False):
    """All `pieces` pieces of the snapshot of `slot` are written: it replaces the snapshot before it."""

    slot: Slot
    pieces: int
    digest: str


class Truncated(msgspec.Struct, array_like=True, tag=8, frozen=True, gc=False):
    """Log records that speak only of slots at or below `slot` may go: a durable snapshot covers them, and records
    written after them repeat whatever else is to be kept (the promised round, the peers)."""

    slot: Slot


LogRecord = Promised | Voted | Chosen | Reached | PeerSeen
"""These get a number each, and stay in order."""

Record = LogRecord | SnapshotPiece | SnapshotTaken | Truncated
