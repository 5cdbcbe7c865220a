"""The engine's part of a snapshot: which instances are in the state, and what a later instance must depend on."""

from collections.abc import Iterable

import msgspec

from paxos_twisted.core.epaxos.conflicts import ConflictIndex, SavedIndex
from paxos_twisted.core.epaxos.instance import Grid
from paxos_twisted.core.epaxos.messages import Deps
from paxos_twisted.types import Slot


class Executed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A set of executed instances. What interferes with nothing does not wait, so a column may have holes."""

    prefix: tuple[Slot, ...]
    """Per column: everything up to here."""
    above: tuple[tuple[Slot, ...], ...]
    """Per column: further slots, ascending."""

    @property
    def highest(self) -> Deps:
        """Per column the highest slot."""
        return tuple(above[-1] if above else prefix for prefix, above in zip(self.prefix, self.above, strict=True))

    def holds(self, replica: int, slot: Slot) -> bool:
        """Whether an instance is in the set."""
        return slot <= self.prefix[replica] or slot in self.above[replica]

    def covers(self, other: "Executed") -> bool:
        """Whether all of `other` is in this set."""
        return all(
            other_prefix <= prefix or set(range(prefix + 1, other_prefix + 1)) <= set(above)
            for prefix, above, other_prefix in zip(self.prefix, self.above, other.prefix, strict=True)
        ) and all(self.holds(replica, slot) for replica, above in enumerate(other.above) for slot in above)


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What stands in the snapshot beside the state."""

    executed: Executed
    highest: tuple[Slot, ...]
    """Per column the highest slot heard of: the owner goes on above it."""
    index: SavedIndex


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Part)


def executed_of(grid: Grid) -> Executed:
    """The executed set, as it is now."""
    return Executed(grid.executed, tuple(tuple(sorted(column.above)) for column in grid.columns))


def nothing(n: int) -> Executed:
    """The empty set, for `n` columns."""
    return Executed((-1,) * n, ((),) * n)


def encode_part(grid: Grid, index: ConflictIndex) -> bytes:
    """The part that belongs to the state as it is now."""
    return _encoder.encode(Part(executed_of(grid), grid.highest, index.saved()))


def decode_part(part: bytes, n: int) -> Part:
    """The opposite.

    Raises:
        ValueError: it is none, or of a cluster of another size.
    """
    try:
        found = _decoder.decode(part)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the engine's part of the snapshot does not decode: {error}") from error
    vectors: Iterable[tuple[object, ...]] = (
        found.executed.prefix, found.executed.above, found.highest, found.index.floor, found.index.promised,
        found.index.blind,
    )  # fmt: skip
    if any(len(vector) != n for vector in vectors):
        raise ValueError(f"the engine's part of the snapshot is not of a cluster of {n} replicas")
    return found
