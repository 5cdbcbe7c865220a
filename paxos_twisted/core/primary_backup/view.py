"""Views: who is primary and who succeeds it. And the register of them, which decided commands move on."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.core.command import array_of
from paxos_twisted.limits import NODE_ID_MAX, NODES_MAX
from paxos_twisted.types import NO_NODE, NodeId

Epoch = int
"""Numbers views. Of two primaries the one with the higher epoch is right."""

FIRST_EPOCH: Epoch = 1
"""The epoch of the view that the configuration gives. Nobody serves in it: its primary first opens one of its own."""

Members = Annotated[tuple[Annotated[NodeId, Meta(ge=-1, le=NODE_ID_MAX)], ...], Meta(max_length=NODES_MAX)]
FromOne = Annotated[Epoch, Meta(ge=0, le=2**60)]
Nonce = Annotated[int, Meta(ge=0, le=2**62)]


class View(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Who is primary and who is backup in one epoch."""

    epoch: FromOne
    members: Members
    """The primary, then its backups: the leader queue, in the order of succession. Every one of them holds every slot
    that was committed in a lower epoch."""
    nonce: Nonce = 0
    """Names the incarnation of the primary that asked for this view. A node that comes back after a crash does not
    know what it had asked for before, so it may not serve in such a view: it must open another one."""

    @property
    def primary(self) -> NodeId:
        """Who orders the commands."""
        return self.members[0] if self.members else NO_NODE

    @property
    def queue(self) -> tuple[NodeId, ...]:
        """The backups, the next primary first."""
        return self.members[1:]


class ViewChange(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """The command of the view log: if the view is still that of `epoch`, these are the members from now on.

    Always asked for by `members[0]`. So the queue of a new view, its primary and its epoch are one decision.
    """

    epoch: FromOne
    members: Members
    nonce: Nonce


_decode = msgspec.msgpack.Decoder(list[ViewChange | None]).decode
_encode = msgspec.msgpack.Encoder().encode


def encode_change(change: ViewChange) -> bytes:
    """The change as a command of the view log."""
    return _encode(change)


def first_view(members: Sequence[NodeId]) -> View:
    """The view that everybody knows from the configuration: the lowest id is primary, the others follow by id."""
    return View(FIRST_EPOCH, tuple(sorted(members)))


class ViewRegister:
    """The state machine of the view log: compare the epoch, and swap the view. The same on all nodes."""

    def __init__(self, view: View) -> None:
        self.view = view

    def apply(self, body: bytes, count: int) -> list[View]:
        """Apply decided commands. Returns the views that came of them, in order; what asks for a change of an epoch
        that is over changes nothing, and neither does what does not decode."""
        try:
            changes = _decode(array_of(body, count))
        except msgspec.DecodeError:  # no node proposes such bytes; the same everywhere in any case
            return []
        views: list[View] = []
        for change in changes:
            if change is not None and change.epoch == self.view.epoch and is_sound(change.members):
                self.view = View(self.view.epoch + 1, change.members, change.nonce)
                views.append(self.view)
        return views


def is_sound(members: Sequence[NodeId]) -> bool:
    """Whether a view could have these members: at least one, and nobody twice."""
    return bool(members) and len(set(members)) == len(members)
