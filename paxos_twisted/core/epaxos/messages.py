"""The messages of EPaxos. `replica` and `slot` name an instance: cell `slot` of the column of replica number `replica`
(its place in the sorted list of members, from 0). `sender` is the node that speaks; the network checks it.

Ballot 0 of an instance belongs to its owner; every other one is counter * ROUND_STRIDE + id of the node that recovers.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.limits import EPAXOS_ASK_RANGES_MAX, NODES_MAX
from paxos_twisted.types import NodeId, Slot

Replica = Annotated[int, Meta(ge=0, le=NODES_MAX - 1)]
Number = Annotated[Slot, Meta(ge=0, le=2**60)]
Reach = Annotated[Slot, Meta(ge=-1, le=2**60)]
Deps = Annotated[tuple[Reach, ...], Meta(min_length=1, max_length=NODES_MAX)]
"""For each column the highest slot that is depended on, and with it all slots below; -1: none. [EP 4.3]"""
Seq = Annotated[int, Meta(ge=0, le=2**60)]
"""Orders the instances of a strongly connected component; 0 belongs to no-ops alone."""
Ballot = Annotated[int, Meta(ge=0, le=2**60)]
Count = Annotated[int, Meta(ge=1)]

NONE, PREACCEPTED, ACCEPTED, COMMITTED, EXECUTED = range(5)
"""Status of an instance; it never falls."""


class PreAccept(msgspec.Struct, array_like=True, tag=40, frozen=True, gc=False):
    """The owner proposes commands with the dependencies that it knows of. [EP Fig. 2, phase 1]"""

    sender: NodeId
    replica: Replica
    slot: Number
    deps: Deps
    seq: Seq
    body: bytes
    """Encoded commands, exactly as they arrived."""
    count: Count = 1


class PreAcceptReply(msgspec.Struct, array_like=True, tag=41, frozen=True, gc=False):
    """I keep the instance, with what I know of besides. The first answer is final."""

    sender: NodeId
    replica: Replica
    slot: Number
    deps: Deps
    seq: Seq


class Accept(msgspec.Struct, array_like=True, tag=42, frozen=True, gc=False):
    """Accept this value in `ballot`. [EP Fig. 2, phase 2; EP* Fig. 3]"""

    sender: NodeId
    replica: Replica
    slot: Number
    ballot: Ballot
    deps: Deps
    seq: Seq
    body: bytes | None = None
    """None: the commands of the PreAccept that the receiver has answered."""
    count: Count = 1


class AcceptReply(msgspec.Struct, array_like=True, tag=43, frozen=True, gc=False):
    """I have accepted what `ballot` proposed."""

    sender: NodeId
    replica: Replica
    slot: Number
    ballot: Ballot


class Commit(msgspec.Struct, array_like=True, tag=44, frozen=True, gc=False):
    """This is decided, in whatever ballot."""

    sender: NodeId
    replica: Replica
    slot: Number
    deps: Deps
    seq: Seq
    body: bytes | None = None
    """None: the commands of the PreAccept that the receiver has answered."""
    count: Count = 1


class Prepare(msgspec.Struct, array_like=True, tag=45, frozen=True, gc=False):
    """I recover this instance: join my ballot and say what you know of it. [EP* Fig. 3, Recover]"""

    sender: NodeId
    replica: Replica
    slot: Number
    ballot: Ballot


class PrepareReply(msgspec.Struct, array_like=True, tag=46, frozen=True, gc=False):
    """I have joined `ballot`; this is what I know. [EP* Fig. 3, RecoverOK]"""

    sender: NodeId
    replica: Replica
    slot: Number
    ballot: Ballot
    status: Annotated[int, Meta(ge=NONE, le=COMMITTED)]
    vbal: Ballot
    """The ballot in which (body, deps, seq) was accepted. The one that was joined says nothing about values."""
    deps: Deps
    seq: Seq
    body: bytes
    """Empty when the status is NONE."""
    count: Annotated[int, Meta(ge=0)]
    init_deps: Deps
    """What the owner had sent, or a recovery has validated; with `init_seq`. Meaningful when PREACCEPTED."""
    init_seq: Seq


class Validate(msgspec.Struct, array_like=True, tag=47, frozen=True, gc=False):
    """These commands may have been committed with the owner's own dependencies. What speaks against it? [EP* Fig. 3]"""

    sender: NodeId
    replica: Replica
    slot: Number
    ballot: Ballot
    deps: Deps
    seq: Seq
    body: bytes
    count: Count = 1


class Conflict(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An interfering instance of which neither depends on the other, as far as the one who reports it knows."""

    replica: Replica
    slot: Number
    committed: bool


class ValidateReply(msgspec.Struct, array_like=True, tag=48, frozen=True, gc=False):
    """All that I know to speak against it."""

    sender: NodeId
    replica: Replica
    slot: Number
    ballot: Ballot
    conflicts: tuple[Conflict, ...]


class Waiting(msgspec.Struct, array_like=True, tag=49, frozen=True, gc=False):
    """My recovery of this instance waits for others; `votes` replicas had pre-accepted it unchanged. [EP* Fig. 3]"""

    sender: NodeId
    replica: Replica
    slot: Number
    votes: Annotated[int, Meta(ge=0, le=NODES_MAX)]


class Preempted(msgspec.Struct, array_like=True, tag=50, frozen=True, gc=False):
    """A hint, never a vote: your `ballot` is lower than the one that I have joined."""

    sender: NodeId
    replica: Replica
    slot: Number
    ballot: Ballot
    joined: Ballot


class Heartbeat(msgspec.Struct, array_like=True, tag=51, frozen=True, gc=False):
    """Are you there? And how I am."""

    sender: NodeId
    stamp: int
    """The sender's engine time (ms), echoed in the reply."""
    executed: Deps
    """Per column: everything up to here is executed at the sender."""
    settled: Deps
    """Per column: the sender's new instances depend at least on this, see `paxos_twisted.core.epaxos.conflicts`."""
    promised: Deps
    """Per column: the sender votes for nothing with less unchanged."""
    highest: Deps
    """Per column: the highest slot that the sender knows of."""
    lag_ms: int
    """Age of the sender's oldest unfinished write, 0 when all is written."""


class HeartbeatReply(msgspec.Struct, array_like=True, tag=52, frozen=True, gc=False):
    """I am here, and I heard you: the link works in both directions."""

    sender: NodeId
    stamp: int


class Ask(msgspec.Struct, array_like=True, tag=53, frozen=True, gc=False):
    """Tell me the decisions that you know among these; Commits follow, or a snapshot."""

    sender: NodeId
    wanted: Annotated[tuple[tuple[Replica, Number, Number], ...], Meta(max_length=EPAXOS_ASK_RANGES_MAX)]
    """(replica, start, stop): the slots [start, stop) of a column."""
    executed: Deps
    """A snapshot must cover this: what the sender has executed, up to the highest slot of each column."""


class Collected(msgspec.Struct, array_like=True, tag=54, frozen=True, gc=False):
    """This instance is executed here, and forgotten: take a snapshot. Never "not seen". [rule 77]"""

    sender: NodeId
    replica: Replica
    slot: Number


Message = (
    PreAccept
    | PreAcceptReply
    | Accept
    | AcceptReply
    | Commit
    | Prepare
    | PrepareReply
    | Validate
    | ValidateReply
    | Waiting
    | Preempted
    | Heartbeat
    | HeartbeatReply
    | Ask
    | Collected
)
