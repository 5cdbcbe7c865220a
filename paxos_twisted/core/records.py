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


class Held(msgspec.Struct, array_like=True, tag=20, frozen=True, gc=False):
    """Primary-backup: this node holds `values` from slot `slot` on, as the primary of `epoch` gave them."""

    epoch: int
    slot: Slot
    count: int
    values: bytes
    adu: Slot
    """As `Voted.adu`."""

    @property
    def header(self) -> Header:
        """The slots, and the epoch in the place of a round."""
        return Header(self.slot, self.count, self.epoch)


class Entered(msgspec.Struct, array_like=True, tag=21, frozen=True, gc=False):
    """Primary-backup: this node obeys the view of `epoch`. What it holds from slot `stop` on, from lower epochs, is
    void: the new primary does not have it, so nobody was told that it is committed."""

    epoch: int
    members: tuple[NodeId, ...]
    """The primary, and its backups in the order of succession."""
    nonce: int
    stop: Slot

    @property
    def header(self) -> Header:
        """It can be lost without harm: the primary tells its view again, and what is void is refused by its epoch."""
        return Header()


class ViewLog(msgspec.Struct, array_like=True, tag=22, frozen=True, gc=False):
    """Primary-backup: a record of the Multi-Paxos part that decides views."""

    record: Promised | Voted | Chosen | Reached

    @property
    def header(self) -> Header:
        """See `view_header`."""
        return view_header(self.record.header)


class ViewKept(msgspec.Struct, array_like=True, tag=23, frozen=True, gc=False):
    """Primary-backup: what the first `slot` + 1 decisions about views have led to, and what this node has promised and
    voted besides. It stands for the records of the Multi-Paxos part that are truncated."""

    slot: Slot
    epoch: int
    members: tuple[NodeId, ...]
    nonce: int
    rnd: Round
    votes: tuple[tuple[Slot, int, Round, bytes], ...] = ()
    """(slot, count, round, values) of the votes above `slot`."""

    @property
    def header(self) -> Header:
        """All the slots that it stands for: a node that lost it must not look as if it had never voted there."""
        count = max([self.slot + 1, *(slot + count for slot, count, _, _ in self.votes)])
        return view_header(Header(0, count, self.rnd) if count else Header(rnd=self.rnd))


def view_header(header: Header) -> Header:
    """The header of a record about views: its slots are those of another log, so they are told as negative numbers.

    The storage, which compares slots to find out what a snapshot covers, takes such a record for one that speaks of no
    slot: whoever truncates repeats what is needed of it.
    """
    if not header.count:
        return header if header.rnd == NO_ROUND else Header(NO_SLOT - 1, 0, header.rnd)
    return Header(NO_SLOT - header.slot - header.count, header.count, header.rnd)


def is_about_views(header: Header) -> bool:
    """Whether `view_header` has made this header."""
    return header.slot < NO_SLOT


def unview_header(header: Header) -> Header:
    """The opposite of `view_header`."""
    assert is_about_views(header)
    if not header.count:
        return Header(rnd=header.rnd)
    return Header(NO_SLOT - header.slot - header.count, header.count, header.rnd)


class Cell(msgspec.Struct, array_like=True, tag=9, frozen=True, gc=False):
    """EPaxos: all that this replica knows of one instance. The newest record of an instance counts."""

    at: Slot
    """How many commands had been executed here when it was written, less one: what is written below the position of a
    snapshot, and speaks only of instances that it covers, may go."""
    replica: int
    slot: Slot
    status: int
    bal: int
    vbal: int
    deps: tuple[int, ...]
    seq: int
    is_noop: bool
    init_deps: tuple[int, ...] | None
    init_seq: int
    count: int
    values: bytes | None
    """The commands; None: they stand in an earlier record of the instance."""

    @property
    def header(self) -> Header:
        """A vote, or a ballot joined: a node that lost it must not go on as if it had never been."""
        return Header(self.at, 1)


class Decisions(msgspec.Struct, array_like=True, tag=10, frozen=True, gc=False):
    """EPaxos: these instances are committed. Others know it, too."""

    at: Slot
    """As `Cell.at`."""
    cells: tuple[tuple[int, Slot, int, bool, tuple[int, ...]], ...]
    """(replica, slot, seq, whether it is a no-op, deps)."""

    @property
    def header(self) -> Header:
        """It can be lost without harm: a node then asks again. But it may only go with what stands around it."""
        return Header(self.at + 1, 0)


class Vowed(msgspec.Struct, array_like=True, tag=11, frozen=True, gc=False):
    """EPaxos: this replica votes for no instance that depends on less than this without adding to it."""

    at: Slot
    """As `Cell.at`."""
    deps: tuple[int, ...]

    @property
    def header(self) -> Header:
        """A promise."""
        return Header(self.at, 1)


LogRecord = (
    Promised | Voted | Chosen | Reached | PeerSeen | Held | Entered | ViewLog | ViewKept | Cell | Decisions | Vowed
)
"""These get a number each, and stay in order."""

Record = LogRecord | SnapshotPiece | SnapshotTaken | Truncated


def size_of_values(record: Record) -> int:
    """Bytes of the commands in a record: nearly all that it is on disk and in queues."""
    return len(getattr(record, "values", None) or b"")
