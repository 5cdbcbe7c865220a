"""Past facts an engine reports, for logs, metrics and traces. Nothing in the protocol depends on them."""

import msgspec

from paxos_twisted.types import NodeId, Round, Slot


class LeaderChanged(msgspec.Struct, frozen=True, tag=True):
    """This node now follows `leader` (NO_NODE: nobody)."""

    leader: NodeId
    rnd: Round
    cause: str
    """start, suspect, restore, handover, round (a higher round was seen), quorum (majority not heard)."""
    silent_ms: int = 0
    """How long the leader that was lost had not been heard."""


class Suspected(msgspec.Struct, frozen=True, tag=True):
    """The failure detector suspects `node`."""

    node: NodeId
    cause: str
    """timeout, or link (connection lost and reconnection refused)."""
    silent_ms: int = 0
    """How long it had not been heard."""


class Restored(msgspec.Struct, frozen=True, tag=True):
    """The failure detector heard from a suspected node again; `delay_ms` is the longer delay from now on."""

    node: NodeId
    delay_ms: int


class CampaignStarted(msgspec.Struct, frozen=True, tag=True):
    """This node asks who would follow it (pre-vote); no round has grown."""


class Phase1Started(msgspec.Struct, frozen=True, tag=True):
    """This node prepares round `rnd` for all slots from `slot` on."""

    rnd: Round
    slot: Slot


class Phase1Ended(msgspec.Struct, frozen=True, tag=True):
    """Phase 1 of `rnd` ended. With a quorum, slots up to `bound` are proposed again, `noops` of them as no-ops."""

    rnd: Round
    outcome: str
    """quorum, timeout or preempted."""
    bound: Slot
    noops: int


class FillEnded(msgspec.Struct, frozen=True, tag=True):
    """The slots that phase 1 had bound are decided: the leader is as good as any from now on."""

    rnd: Round


class SteppedDown(msgspec.Struct, frozen=True, tag=True):
    """This node stopped leading."""

    rnd: Round
    cause: str
    """round, quorum, disk-full, disk-slow, asked, stopping, stall."""


class Healed(msgspec.Struct, frozen=True, tag=True):
    """A record that had rotted no longer matters: the slots up to `slot` are known again."""

    slot: Slot


class StateDiverged(msgspec.Struct, frozen=True, tag=True):
    """After the same slot, `node` has another state than this node: one of the two is wrong. Must never happen."""

    node: NodeId
    slot: Slot


class ViewAsked(msgspec.Struct, frozen=True, tag=True):
    """Primary-backup: this node asks for the view of `epoch`, with itself as primary and these backups."""

    epoch: int
    backups: tuple[NodeId, ...]


class ViewChanged(msgspec.Struct, frozen=True, tag=True):
    """Primary-backup: from now on `primary` orders the commands, and commits what it and all `backups` have."""

    epoch: int
    primary: NodeId
    backups: tuple[NodeId, ...]
    """In the order of succession."""


class LineDiverged(msgspec.Struct, frozen=True, tag=True):
    """Primary-backup, mode no-partitions: two primaries have committed different commands. This node has committed
    slots from `slot` to `adu` that `node`, the primary of a later epoch, does not have: it takes no further part."""

    node: NodeId
    slot: Slot
    adu: Slot


class RecoveryStarted(msgspec.Struct, frozen=True, tag=True):
    """EPaxos: this node recovers instance (replica, slot) in `ballot`."""

    replica: int
    slot: Slot
    ballot: int


class InstanceRecovered(msgspec.Struct, frozen=True, tag=True):
    """EPaxos: this node's recovery has decided an instance."""

    replica: int
    slot: Slot
    outcome: str
    """commands or noop."""


Event = (
    LeaderChanged
    | Suspected
    | Restored
    | CampaignStarted
    | Phase1Started
    | Phase1Ended
    | FillEnded
    | SteppedDown
    | Healed
    | StateDiverged
    | ViewAsked
    | ViewChanged
    | LineDiverged
    | RecoveryStarted
    | InstanceRecovered
)
