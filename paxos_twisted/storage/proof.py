"""The proof file: a lower bound of the last acknowledged record, apart from the log.

It is rewritten in place after each commit and not synced, so it survives a killed process at once and a power cut a
little later. A log that ends before it has lost acknowledged records, e.g. because a frame of SQLite's write-ahead file
has rotted. [PAR's persist record; protocol-rules 2.9, rule 51]

    bytes 0-7  "PTPROOF1"     8-15  number of the record, big-endian     16-19  CRC-32 of bytes 0-15, as of a sealed row
"""

import os
import struct
from pathlib import Path
from zlib import crc32

from paxos_twisted.storage.errors import RotError

_LAYOUT = struct.Struct(">8sQ")
_MAGIC = b"PTPROOF1"
_SIZE = _LAYOUT.size + 4


def encode_proof(seq: int, identity: str) -> bytes:
    """Return the contents of the file."""
    body = _LAYOUT.pack(_MAGIC, seq)
    return body + crc32(body, crc32(identity.encode())).to_bytes(4, "big")


def decode_proof(data: bytes, identity: str) -> int:
    """Return the record's number.

    Raises:
        RotError: these are not the contents that were written, or not into this data directory.
    """
    if len(data) != _SIZE or encode_proof(_LAYOUT.unpack_from(data)[1], identity) != data:
        raise RotError("has a wrong checksum")
    return int(_LAYOUT.unpack_from(data)[1])


class Proof:
    """The open file."""

    __slots__ = ("_fd", "_identity")

    def __init__(self, path: Path, identity: str) -> None:
        """Open the file, which must exist.

        Raises:
            OSError: it cannot be opened.
        """
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._identity = identity

    def read(self) -> int:
        """Return the record's number.

        Raises:
            RotError: the file has rotted.
            OSError: it cannot be read.
        """
        return decode_proof(os.pread(self._fd, _SIZE + 1, 0), self._identity)

    def write(self, seq: int) -> None:
        """Raise the bound to `seq`, without a sync.

        Raises:
            OSError: the disk failed or is full.
        """
        os.pwrite(self._fd, encode_proof(seq, self._identity), 0)

    def sync(self) -> None:
        """Make the bound durable.

        Raises:
            OSError: the disk failed.
        """
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
