"""The messages of Multi-Paxos. One Accept, Learn or Vote speaks of a run of consecutive slots in one round.

`sender` is the node that speaks; the network checks it against the authenticated connection.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.core.command import cut_run
from paxos_twisted.types import NO_NODE, NO_ROUND, NO_SLOT, NodeId, Round, Slot

Count = Annotated[int, Meta(ge=1)]
FromZero = Annotated[Slot, Meta(ge=0, le=2**60)]
Reached = Annotated[Slot, Meta(ge=-1, le=2**60)]
InRound = Annotated[Round, Meta(ge=-1, le=2**60)]


class Prepare(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """Ask for a promise for every slot from `slot` on. [Paxos Made Simple, 2.2 phase 1a and section 3]"""

    sender: NodeId
    slot: FromZero
    """The first slot after the highest consecutively decided one (adu + 1)."""
    crnd: InRound


class Vote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an acceptor voted for in the slots `slot` … `slot + count - 1`, in round `vrnd`."""

    slot: FromZero
    vrnd: InRound
    vval: bytes
    count: Count = 1

    def cut(self, at: Slot) -> "tuple[Vote, Vote]":
        """The votes below slot `at` and from it on."""
        below, above = cut_run(self.vval, self.count, at - self.slot)
        head = at - self.slot
        return Vote(self.slot, self.vrnd, below, head), Vote(at, self.vrnd, above, self.count - head)


class Promise(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """I shall vote in no round below `rnd`; these are my votes so far. [2.2 phase 1b]"""

    to: NodeId
    sender: NodeId
    rnd: InRound
    votes: tuple[Vote, ...]
    """Every slot >= Prepare.slot that the acceptor voted in, by increasing slot, decided ones too."""
    first: FromZero = 0
    """The acceptor remembers its votes from this slot on; those below are truncated, all decided."""


class Accept(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Ask acceptors to vote for a run of values from `slot` on. [2.2 phase 2a]"""

    sender: NodeId
    slot: FromZero
    rnd: InRound
    values: bytes
    """Encoded commands, exactly as they arrived."""
    count: Count = 1
    adu: Reached = NO_SLOT
    """Every slot up to here is decided, as `Decided` says."""

    def cut(self, at: Slot) -> "tuple[Accept, Accept]":
        """The requests for the slots below `at` and from it on."""
        below, above = cut_run(self.values, self.count, at - self.slot)
        head = at - self.slot
        return (
            Accept(self.sender, self.slot, self.rnd, below, head, self.adu),
            Accept(self.sender, at, self.rnd, above, self.count - head, self.adu),
        )


class Learn(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """I have voted for these slots in round `rnd`. [2.2 phase 2b; 2.3]

    On the wire `values` is left out: the round and the slot determine the value, and learners have it from the Accept.
    """

    sender: NodeId
    slot: FromZero
    rnd: InRound
    values: bytes | None = None
    count: Count = 1


class Reject(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """A hint, never a vote: your round is too low (`rnd` is promised), or you are behind (`adu` is decided)."""

    sender: NodeId
    rnd: InRound
    adu: Reached


class AskFollow(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """Would you follow me? No round has grown. [Raft dissertation, 9.6: pre-vote]"""

    sender: NodeId
    campaign: int
    """Tells the answers of one campaign from those of another."""
    adu: Reached


class WouldFollow(msgspec.Struct, array_like=True, tag=7, frozen=True, gc=False):
    """The answer to AskFollow."""

    sender: NodeId
    campaign: int
    granted: bool
    leader: NodeId
    """Whom I follow instead; NO_NODE if nobody."""
    rnd: InRound
    adu: Reached


class HeartbeatRequest(msgspec.Struct, array_like=True, tag=8, frozen=True, gc=False):
    """Are you there? And how I am."""

    sender: NodeId
    stamp: int
    """Sender's engine time (ms), echoed in the reply."""
    leading: InRound
    """The round in which the sender leads (phase 1 done), or NO_ROUND."""
    adu: Reached
    first: Reached
    """First slot whose decision the sender can still tell from its log."""
    lag_ms: int
    """Disk progress: age of the sender's oldest unfinished write, 0 when all is written."""


class HeartbeatReply(msgspec.Struct, array_like=True, tag=9, frozen=True, gc=False):
    """I am here, and I heard you: the link works in both directions."""

    sender: NodeId
    stamp: int
    adu: Reached
    first: Reached
    lag_ms: int


class CatchUpRequest(msgspec.Struct, array_like=True, tag=10, frozen=True, gc=False):
    """Tell me what was decided from `slot` on."""

    sender: NodeId
    slot: FromZero


class CatchUpReply(msgspec.Struct, array_like=True, tag=11, frozen=True, gc=False):
    """These values are decided, from `slot` on (count 0: I know no more than you)."""

    sender: NodeId
    slot: FromZero
    count: Annotated[int, Meta(ge=0)]
    values: bytes
    adu: Reached


class Resign(msgspec.Struct, array_like=True, tag=12, frozen=True, gc=False):
    """I led in `rnd` and no longer do; somebody else should, now."""

    sender: NodeId
    rnd: InRound


class Decided(msgspec.Struct, array_like=True, tag=13, frozen=True, gc=False):
    """I lead in `rnd`; every slot up to `adu` is decided: where I have proposed in `rnd`, with the value proposed."""

    sender: NodeId
    rnd: InRound
    adu: Reached


Message = (
    Prepare
    | Promise
    | Accept
    | Learn
    | Reject
    | AskFollow
    | WouldFollow
    | HeartbeatRequest
    | HeartbeatReply
    | CatchUpRequest
    | CatchUpReply
    | Resign
    | Decided
)


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The values decided for the slots `slot` … `slot + count - 1`."""

    value: bytes
    slot: Slot
    count: int = 1
    rnd: Round = NO_ROUND
    """The round whose quorum we saw; NO_ROUND when a peer told us."""

    def cut(self, at: Slot) -> "tuple[Decision, Decision]":
        """The decisions below slot `at` and from it on."""
        head = at - self.slot
        below, above = cut_run(self.value, self.count, head)
        return Decision(below, self.slot, head, self.rnd), Decision(above, at, self.count - head, self.rnd)


__all__ = [
    "NO_NODE",
    "NO_ROUND",
    "NO_SLOT",
    "Accept",
    "AskFollow",
    "CatchUpReply",
    "CatchUpRequest",
    "Decided",
    "Decision",
    "HeartbeatReply",
    "HeartbeatRequest",
    "Learn",
    "Message",
    "Prepare",
    "Promise",
    "Reject",
    "Resign",
    "Vote",
    "WouldFollow",
]
