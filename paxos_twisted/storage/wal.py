"""Did SQLite's write-ahead file lose a transaction that was durable?

SQLite reads that file up to the first frame with a wrong checksum and silently forgets the rest: right for a torn
write, wrong for rot. But a transaction is synced before the next one starts. So if frames of a later transaction follow
the damaged one, the damaged one had been durable, and the node may not start as if it had never been.
[sqlite.org/fileformat2.html, section 4; protocol-rules 2.9, rule 51]
"""

import struct
from array import array
from pathlib import Path
from sys import byteorder

_HEADER = struct.Struct(">8I")  # magic, format, page size, checkpoint number, salt 1, salt 2, checksum 1, checksum 2
_FRAME = struct.Struct(">6I")  # page number, pages after commit (0: not a commit), salt 1, salt 2, checksum 1, 2
_MAGIC = 0x377F0682  # | 1: checksums are computed over big-endian words
_MASK = 0xFFFFFFFF


def lost_transaction(path: Path) -> str | None:
    """Return a sentence when the write-ahead file `path` shows that a durable transaction has rotted, else None.

    None is also the answer for what this file alone cannot tell: damage in its last transaction or in its header. For
    those there is `paxos_twisted.storage.proof`.
    """
    if not path.exists():
        return None
    wal = path.read_bytes()
    if len(wal) < _HEADER.size:
        return None
    magic, _, page_size, _, salt1, salt2, sum1, sum2 = _HEADER.unpack_from(wal)
    if magic & ~1 != _MAGIC:
        return None
    swap = (byteorder == "big") != bool(magic & 1)
    sums = _checksum(wal[: _HEADER.size - 8], 0, 0, swap)
    if sums != (sum1, sum2):
        return None
    size = _FRAME.size + page_size
    frames = range(_HEADER.size, len(wal) - size + 1, size)
    damaged = None  # number of the first bad frame
    was_ended = False  # the transaction of the bad frame has ended
    for number, start in enumerate(frames, 1):
        _, commit, frame_salt1, frame_salt2, sum1, sum2 = _FRAME.unpack_from(wal, start)
        is_current = (frame_salt1, frame_salt2) == (salt1, salt2)  # else a left-over of an earlier round of the file
        if damaged is None:
            if is_current:
                sums = _checksum(wal[start : start + 8], *sums, swap)
                sums = _checksum(wal[start + _FRAME.size : start + size], *sums, swap)
            if not is_current or sums != (sum1, sum2):
                damaged = number
        elif is_current and was_ended:
            return (
                f"frame {damaged} of the write-ahead file {path.name} is damaged, and a later transaction follows it: "
                f"acknowledged records are gone"
            )
        if damaged is not None and is_current and commit:
            was_ended = True
    return None


def _checksum(data: bytes, sum1: int, sum2: int, swap: bool) -> tuple[int, int]:
    words = array("I", data)
    if swap:
        words.byteswap()
    for even, odd in zip(words[::2], words[1::2], strict=True):
        sum1 = (sum1 + even + sum2) & _MASK
        sum2 = (sum2 + odd + sum1) & _MASK
    return sum1, sum2
