"""A replicated table: a dictionary that can be photographed while it changes.

A snapshot or a state digest must show the state after one slot, but encoding a million rows takes a second and the node
must go on working meanwhile. So rows live in SHARDS parts. `freeze` marks all parts as part of the picture; a part is
encoded either when its turn comes (`Photograph.next_piece`) or, if a write comes first, just before that write changes
it. The cost of a write during a snapshot is at most the encoding of one part, once.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from paxos_twisted.limits import SHARDS

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row")

_encoder = msgspec.msgpack.Encoder()


class Table(Generic[Key, Row]):
    """Rows by key, in SHARDS parts. `shard_of` places a key; it must not depend on `hash()`.

    Reading: `shard(key).get(key)`. Writing: `writable(key)[key] = row`, `del writable(key)[key]`.
    Rows must be immutable, or be replaced (or changed) only after `writable` was called for their key.
    """

    __slots__ = ("_photographs", "name", "row_type", "shard_of", "shards")

    def __init__(self, name: str, row_type: Any, shard_of: Callable[[Key], int]) -> None:
        self.name = name
        self.row_type = row_type
        """Type of `[key, row]` pairs when a piece is read back, e.g. `tuple[int, int]`."""
        self.shard_of = shard_of
        self.shards: list[dict[Key, Row]] = [{} for _ in range(SHARDS)]
        self._photographs: list[Photograph[Key, Row]] = []

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def shard(self, key: Key) -> dict[Key, Row]:
        """The part that holds `key`, for reading."""
        return self.shards[self.shard_of(key) % SHARDS]

    def writable(self, key: Key) -> dict[Key, Row]:
        """The part that holds `key`, for writing: if a picture still needs its old contents, they are encoded first."""
        index = self.shard_of(key) % SHARDS
        if self._photographs:
            for photograph in self._photographs:
                photograph.keep(index)
        return self.shards[index]

    def items(self) -> Iterator[tuple[Key, Row]]:
        """All rows, part by part, sorted by key inside a part."""
        for shard in self.shards:
            yield from sorted(shard.items(), key=_first)

    def freeze(self) -> "Photograph[Key, Row]":
        """Start a picture of the contents as they are now. It costs writes until it is finished or released."""
        photograph = Photograph(self)
        self._photographs.append(photograph)
        return photograph

    def release(self, photograph: "Photograph[Key, Row]") -> None:
        """Forget a picture, finished or not."""
        if photograph in self._photographs:
            self._photographs.remove(photograph)

    def replace(self, shards: list[dict[Key, Row]]) -> None:
        """Take over other contents (a snapshot is installed). Pictures being taken keep showing the old contents."""
        for index in range(SHARDS):
            for photograph in self._photographs:
                photograph.keep(index)
        self.shards[:] = shards

    def load(self, piece: bytes) -> None:
        """Add the rows of one piece.

        Raises:
            msgspec.ValidationError: the piece does not hold rows of this table's type.
        """
        for key, row in msgspec.msgpack.decode(piece, type=list[self.row_type]):  # type: ignore[name-defined]
            self.shard(key)[key] = row


class Photograph(Generic[Key, Row]):
    """A table's contents at the moment of `freeze`, taken part by part."""

    __slots__ = ("_kept", "_next", "_table")

    def __init__(self, table: Table[Key, Row]) -> None:
        self._table = table
        self._next = 0
        self._kept: dict[int, bytes] = {}

    def keep(self, index: int) -> None:
        """Encode part `index` now, because it is about to change. Parts already taken are not kept again."""
        if index >= self._next and index not in self._kept:
            self._kept[index] = self._encode(index)

    def next_piece(self) -> bytes | None:
        """Return the next part, encoded canonically (sorted by key), or None after the last one."""
        if self._next == SHARDS:
            self._table.release(self)
            return None
        index = self._next
        self._next += 1
        kept = self._kept.pop(index, None)
        return self._encode(index) if kept is None else kept

    def _encode(self, index: int) -> bytes:
        return _encoder.encode(sorted(self._table.shards[index].items(), key=_first))


def _first(item: tuple[Any, Any]) -> Any:
    return item[0]
