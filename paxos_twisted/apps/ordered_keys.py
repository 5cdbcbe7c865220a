"""Text keys in order, for looking up by prefix: sorted blocks, so that a change stays cheap however many there are."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

BLOCK_KEYS: int = 512
"""A block is cut in two at twice this, and goes when it is empty. Inserting moves at most that many references."""


class OrderedKeys:
    """A set of strings that can be walked through in order from any place."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        ordered = sorted(keys)
        self._blocks = [ordered[at : at + BLOCK_KEYS] for at in range(0, len(ordered), BLOCK_KEYS)]
        self._firsts = [block[0] for block in self._blocks]
        """The first key of each block. No block is empty."""

    def add(self, key: str) -> None:
        """Add a key that is not there."""
        if not self._blocks:
            self._blocks.append([key])
            self._firsts.append(key)
            return
        at = max(bisect_right(self._firsts, key) - 1, 0)
        block = self._blocks[at]
        insort(block, key)
        self._firsts[at] = block[0]
        if len(block) > 2 * BLOCK_KEYS:
            self._blocks.insert(at + 1, block[BLOCK_KEYS:])
            del block[BLOCK_KEYS:]
            self._firsts.insert(at + 1, self._blocks[at + 1][0])

    def remove(self, key: str) -> None:
        """Remove a key that is there."""
        at = bisect_right(self._firsts, key) - 1
        block = self._blocks[at]
        place = bisect_left(block, key)
        assert block[place] == key
        del block[place]
        if block:
            self._firsts[at] = block[0]
        else:
            del self._blocks[at]
            del self._firsts[at]

    def after(self, key: str, *, inclusive: bool) -> Iterator[str]:
        """The keys from `key` on, in order. Nothing may change meanwhile."""
        at = max(bisect_right(self._firsts, key) - 1, 0)
        place = (bisect_left if inclusive else bisect_right)(self._blocks[at], key) if self._blocks else 0
        for block in self._blocks[at:]:
            for index in range(place, len(block)):
                yield block[index]
            place = 0

    def __len__(self) -> int:
        return sum(map(len, self._blocks))
