"""State transfer: how a node that asks for truncated slots gets a peer's snapshot instead. The same for all engines.

laggard                    peer
   │  (asks for old slots)  │
   │ <──── SnapshotOffer ── │   slot, number of pieces, digest
   │ ── SnapshotRequest ──> │   one piece at a time, any number of times
   │ <───── SnapshotData ── │
   │        …               │   all pieces there, digest right: written, then installed as a whole
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.limits import SNAPSHOT_PIECE_BYTES_MAX
from paxos_twisted.types import NO_SLOT, NodeId, Slot

RETRY_MS = 500
"""A piece that did not come by then is asked for again."""

RETRIES_MAX = 6
"""After so many repetitions without a piece the transfer is given up; the laggard asks anybody again."""

AVOID_MS = 1000
"""A node whose snapshot could not be read is not taken at its word again for so long; another one may do."""

PIECES_MAX = 65_536


class SnapshotOffer(msgspec.Struct, array_like=True, tag=200, frozen=True, gc=False):
    """What you ask for is truncated here; this snapshot covers it."""

    sender: NodeId
    slot: Slot
    pieces: Annotated[int, Meta(ge=0, le=PIECES_MAX)]
    digest: str


class SnapshotRequest(msgspec.Struct, array_like=True, tag=201, frozen=True, gc=False):
    """Send me piece `index` of your snapshot of `slot`."""

    sender: NodeId
    slot: Slot
    index: Annotated[int, Meta(ge=0, le=PIECES_MAX)]


class SnapshotData(msgspec.Struct, array_like=True, tag=202, frozen=True, gc=False):
    """Piece `index` of the snapshot of `slot`."""

    sender: NodeId
    slot: Slot
    index: int
    data: Annotated[bytes, Meta(max_length=2 * SNAPSHOT_PIECE_BYTES_MAX)]


class Progress(msgspec.Struct, array_like=True, tag=203, frozen=True, gc=False):
    """My log is durable up to record number `last`: I may never come back with less.

    And, when nothing was decided for a while: after `slot` my state has this digest.
    """

    sender: NodeId
    last: int
    slot: Slot = NO_SLOT
    digest: Annotated[str, Meta(max_length=128)] = ""
    coverage: Annotated[str, Meta(max_length=128)] = ""
    """Names the set of commands that the digest covers, where `slot` only tells how many they are."""


class SnapshotGone(msgspec.Struct, array_like=True, tag=204, frozen=True, gc=False):
    """My snapshot of `slot` cannot be read now, though I offered it: take another node's."""

    sender: NodeId
    slot: Slot


TransferMessage = SnapshotOffer | SnapshotRequest | SnapshotData | SnapshotGone | Progress


class Incoming:
    """A snapshot that is being fetched, piece by piece, from one peer."""

    def __init__(self, offer: SnapshotOffer, now_ms: int) -> None:
        self.offer = offer
        self.pieces: list[bytes] = []
        self._asked_ms = now_ms
        self._retries = 0

    @property
    def is_complete(self) -> bool:
        """All pieces are here (their digest is still to be checked)."""
        return len(self.pieces) == self.offer.pieces

    def on_data(self, data: SnapshotData, now_ms: int) -> bool:
        """Take a piece. Returns whether it was the one that was asked for."""
        if data.slot != self.offer.slot or data.index != len(self.pieces) or data.sender != self.offer.sender:
            return False
        self.pieces.append(data.data)
        self._asked_ms = now_ms
        self._retries = 0
        return True

    def is_overdue(self, now_ms: int) -> bool:
        """Whether to ask for the same piece once more. Counts the repetitions."""
        if now_ms - self._asked_ms < RETRY_MS:
            return False
        self._asked_ms = now_ms
        self._retries += 1
        return True

    @property
    def is_hopeless(self) -> bool:
        """Asked too often."""
        return self._retries > RETRIES_MAX
