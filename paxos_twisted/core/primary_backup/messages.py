"""The messages of primary-backup replication. `docs/primary-backup.md` shows them in their order.

`sender` is the node that speaks; the network checks it against the authenticated connection.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.core.multipaxos.messages import Count, FromZero, Reached
from paxos_twisted.core.multipaxos.messages import Message as ViewMessage
from paxos_twisted.core.primary_backup.view import FromOne, View
from paxos_twisted.types import NodeId

LINEAGE_MAX = 32
"""Past epochs that a new view tells of."""


class ViewPart(msgspec.Struct, array_like=True, tag=70, frozen=True, gc=False):
    """A message of the part that decides views. It is Multi-Paxos, unchanged."""

    sender: NodeId
    message: ViewMessage


class Canvass(msgspec.Struct, array_like=True, tag=71, frozen=True, gc=False):
    """May I ask for another view? Nothing has changed yet. [Raft dissertation, 9.6: pre-vote]

    Only who hears a majority answer may go on, so a deaf node, which thinks that all others are gone, changes nothing.
    """

    sender: NodeId
    campaign: int
    """Tells the answers to one question from those to another."""
    epoch: FromOne
    """The view that is to be replaced."""
    takes_over: bool
    """True: the sender wants to be primary. False: it is, and wants other backups."""


class Support(msgspec.Struct, array_like=True, tag=72, frozen=True, gc=False):
    """The answer to Canvass."""

    sender: NodeId
    campaign: int
    granted: bool
    """False: I hear the primary, or I know of a later view."""


class ViewWanted(msgspec.Struct, array_like=True, tag=73, frozen=True, gc=False):
    """To the leader of the view log: propose this change of the view."""

    sender: NodeId
    change: Annotated[bytes, Meta(max_length=1024)]


class ViewTold(msgspec.Struct, array_like=True, tag=74, frozen=True, gc=False):
    """The view log up to `slot` is truncated here. This is what it has led to."""

    sender: NodeId
    slot: FromZero
    view: View


class ViewDecided(msgspec.Struct, array_like=True, tag=84, frozen=True, gc=False):
    """From the leader of the view log, the moment it knows: this view is decided. Multi-Paxos tells it too, but up to a
    tick later, and clients are waiting."""

    sender: NodeId
    view: View


class NewView(msgspec.Struct, array_like=True, tag=75, frozen=True, gc=False):
    """I am the primary of this view. To its backups, and to those that could join it."""

    sender: NodeId
    view: View
    start: FromZero
    """Every slot below is committed. Whoever is a member of the view holds them."""
    stop: FromZero
    """I held the slots below when the view began. What others hold from here on, from lower epochs, is void."""
    lineage: Annotated[tuple[tuple[FromOne, FromZero], ...], Meta(max_length=LINEAGE_MAX)] = ()
    """(epoch, stop) of the last epochs, this one last. Mode no-partitions finds with it that two primaries served."""


class Update(msgspec.Struct, array_like=True, tag=76, frozen=True, gc=False):
    """Store these commands, in these slots."""

    sender: NodeId
    epoch: FromOne
    slot: FromZero
    values: bytes
    """Encoded commands, exactly as they arrived."""
    commit: Reached
    """Every slot up to here is committed."""
    count: Count = 1


class Ack(msgspec.Struct, array_like=True, tag=77, frozen=True, gc=False):
    """I have every slot up to `slot` durably: committed ones, and those of this epoch."""

    sender: NodeId
    epoch: FromOne
    slot: Reached


class Deposed(msgspec.Struct, array_like=True, tag=78, frozen=True, gc=False):
    """You speak for an epoch that is over: this is the view I know."""

    sender: NodeId
    view: View


class Commit(msgspec.Struct, array_like=True, tag=79, frozen=True, gc=False):
    """Every slot up to `slot` is committed. Sent when no Update carries it."""

    sender: NodeId
    epoch: FromOne
    slot: Reached


class Standing(msgspec.Struct, array_like=True, tag=80, frozen=True, gc=False):
    """Are you there? And how I am. Or the answer to it, which proves that the link works in both directions."""

    sender: NodeId
    is_answer: bool
    epoch: FromOne
    """The highest view that the sender knows."""
    entered: FromOne
    """The view whose updates it takes."""
    serving: bool
    """It is the primary of `epoch` and takes commands."""
    able: bool
    """It could be a member of a view: its disk is not full, nothing that it held has rotted, and it is not leaving."""
    adu: Reached
    first: FromZero
    """First slot that the sender can still tell from its log."""
    lag_ms: int
    """Disk progress: age of the sender's oldest unfinished write, 0 when all is written."""


class Resign(msgspec.Struct, array_like=True, tag=81, frozen=True, gc=False):
    """I was the primary of `epoch` and no longer serve; the head of the queue should, now."""

    sender: NodeId
    epoch: FromOne
    is_leaving: bool
    """The process ends: the next view should do without it."""


class Fetch(msgspec.Struct, array_like=True, tag=82, frozen=True, gc=False):
    """Tell me what was committed from `slot` on."""

    sender: NodeId
    slot: FromZero


class Fetched(msgspec.Struct, array_like=True, tag=83, frozen=True, gc=False):
    """These commands are committed, from `slot` on (count 0: I know no more than you)."""

    sender: NodeId
    slot: FromZero
    count: Annotated[int, Meta(ge=0)]
    values: bytes
    adu: Reached


Message = (
    ViewPart
    | Canvass
    | Support
    | ViewWanted
    | ViewTold
    | ViewDecided
    | NewView
    | Update
    | Ack
    | Deposed
    | Commit
    | Standing
    | Resign
    | Fetch
    | Fetched
)
