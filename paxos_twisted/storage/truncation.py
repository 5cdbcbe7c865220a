"""Which rows of the log may be deleted after a truncation, in portions that keep each commit short.

Rows are deleted only from the front, up to the largest number q such that no row up to q speaks of a slot above the
truncated one: so the log stays one piece, and no row has to be looked at again. For that, the highest slot spoken of so
far is kept per block of rows, not per row.
"""

from collections import deque

from paxos_twisted.core.records import Header
from paxos_twisted.limits import TRUNCATE_BYTES, TRUNCATE_ROWS
from paxos_twisted.types import NO_SLOT, Slot


class _Block:
    __slots__ = ("highest", "last", "rows", "size")

    def __init__(self, highest: Slot) -> None:
        self.last = 0  # number of the block's last row
        self.highest = highest  # no row up to `last` speaks of a slot above this
        self.rows = 0
        self.size = 0


class Prefix:
    """The rows of the log from the oldest kept one on, in blocks of at most TRUNCATE_ROWS rows."""

    __slots__ = ("_blocks", "_goal", "deleted")

    def __init__(self, first: int = 1) -> None:
        self.deleted = first - 1
        """Rows up to this number are deleted, or may be as soon as the caller likes. Never goes down."""
        self._goal = self.deleted  # rows up to here may go; deleted <= _goal
        self._blocks: deque[_Block] = deque()

    def append(self, seq: int, header: Header, size: int) -> None:
        """Take note of row `seq` (one more than the last) of `size` bytes."""
        blocks = self._blocks
        if blocks:
            block = blocks[-1]
            if block.rows == TRUNCATE_ROWS or block.size >= TRUNCATE_BYTES:
                block = _Block(block.highest)
                blocks.append(block)
        else:
            block = _Block(NO_SLOT)
            blocks.append(block)
        end = header.slot + header.count - 1
        if end > block.highest:  # noqa: PLR1730 - once a row: max() would cost four times as much
            block.highest = end
        block.last = seq
        block.rows += 1
        block.size += size

    def truncate(self, slot: Slot, before: int) -> None:
        """Let go all rows that speak only of slots up to `slot`, and have numbers below `before`.

        `before` is the first number of the write in which the order came: what that write repeats must stay.
        """
        for block in self._blocks:
            if block.highest > slot:
                break
            self._goal = max(self._goal, min(block.last, before - 1))

    @property
    def is_done(self) -> bool:
        """Nothing that may go is left."""
        return self._goal == self.deleted

    def next_portion(self, bytes_min: int = 0) -> int:
        """Move `deleted` on by one portion and return it: the rows up to there are to be deleted in the next commit.

        A portion is one block, or as many as hold `bytes_min` bytes, so that a log that grows fast also shrinks fast.
        """
        blocks, size = self._blocks, 0
        while self.deleted < self._goal:
            block = blocks[0]
            if block.last > self._goal:
                self.deleted = self._goal  # the rest of the block goes with a later order
                break
            self.deleted = block.last
            size += block.size
            blocks.popleft()
            if size >= bytes_min:
                break
        return self.deleted
