"""Where rows with text keys live: the same part of a table on every replica and in every version of Python."""

from zlib import crc32

from paxos_twisted.limits import SHARDS


def place_of(name: str) -> int:
    """The part of a table, 0 … SHARDS - 1, that belongs to a name."""
    return crc32(name.encode()) % SHARDS
