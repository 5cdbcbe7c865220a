"""Sealed rows: bytes that show when they have rotted, or lie in the wrong place, node or data directory.

A sealed row is msgpack followed by four bytes, big-endian: the CRC-32 of (cluster, node, identity, kind of row) and the
msgpack. The first part of that sum is computed once, so sealing costs one encoding and one pass over the bytes.
[protocol-rules 2.9, rule 51]
"""

from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import msgspec

from paxos_twisted.core.records import Header, LogRecord, SnapshotTaken
from paxos_twisted.storage.errors import RotError
from paxos_twisted.types import NO_SLOT, NodeId, Slot

FORMAT = 1
"""Version of everything in this file. Another number in a data directory is refused by name."""

CRC_BYTES = 4

Row = TypeVar("Row")

_encode = msgspec.msgpack.Encoder().encode


class Last(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How far the log goes: the second, small proof beside the rows, written together with them."""

    seq: int = 0
    """Number of the last record; records are numbered from 1. 0: none was written yet."""
    header: Header = Header()
    """A copy of the last record's header. Every other record's header is copied in the row behind it."""
    count: int = 0
    """Records that have not been truncated: they are `seq - count + 1` … `seq`."""
    snapshot: Slot = NO_SLOT
    """Slot of the durable snapshot. No slot above it has been truncated."""

    @property
    def first(self) -> int:
        """Number of the oldest record that is kept (`seq + 1` when none is)."""
        return self.seq - self.count + 1


class About(NamedTuple):
    """Whose data directory it is. Readable without knowing it beforehand."""

    format: int
    cluster: str
    node: NodeId
    identity: str
    """Random name of the data directory, made at the first start."""


class Seal:
    """Seals and opens the rows of one data directory."""

    __slots__ = ("_last", "_piece", "_row", "_taken", "about")

    def __init__(self, cluster: str, node: NodeId, identity: str) -> None:
        self.about = About(FORMAT, cluster, node, identity)
        owner = crc32(_encode((cluster, node, identity)))
        self._row, self._last, self._taken, self._piece = (
            crc32(kind, owner) for kind in (b"row", b"last", b"taken", b"piece")
        )

    def seal(self, seq: int, previous: Header, record: LogRecord) -> bytes:
        """Return the row of record number `seq`; `previous` is the header of record `seq` - 1."""
        body = _encode((seq, previous, record))
        return body + crc32(body, self._row).to_bytes(4, "big")

    def unseal(self, row: bytes, seq: int) -> tuple[Header, LogRecord]:
        """Return (header of the record before, record).

        Raises:
            RotError: the row is not the one that was written as record number `seq` of this data directory.
        """
        number, previous, record = _open(row, self._row, _row_decoder)
        if number != seq:
            raise RotError(f"holds record {number} instead")
        return previous, record

    def seal_last(self, last: Last) -> bytes:
        """Return the row that says how far the log goes."""
        return _close(last, self._last)

    def unseal_last(self, row: bytes) -> Last:
        """The opposite of `seal_last`.

        Raises:
            RotError: the row is not what was written.
        """
        return _open(row, self._last, _last_decoder)

    def seal_taken(self, taken: SnapshotTaken) -> bytes:
        """Return the row that says which snapshot counts."""
        return _close(taken, self._taken)

    def unseal_taken(self, row: bytes) -> SnapshotTaken:
        """The opposite of `seal_taken`.

        Raises:
            RotError: the row is not what was written.
        """
        return _open(row, self._taken, _taken_decoder)

    def piece_crc(self, slot: Slot, index: int, data: bytes) -> int:
        """Return the sum that is stored beside piece `index` of the snapshot of `slot`."""
        return crc32(data, crc32(b"%d %d " % (slot, index), self._piece))


def seal_about(about: About) -> bytes:
    """Return the row that says whose data directory it is."""
    return _close(about, 0)


def unseal_about(row: bytes) -> About:
    """The opposite of `seal_about`.

    Raises:
        RotError: the row is not what was written.
    """
    return _open(row, 0, _about_decoder)


_row_decoder = msgspec.msgpack.Decoder(tuple[int, Header, LogRecord])
_last_decoder = msgspec.msgpack.Decoder(Last)
_taken_decoder = msgspec.msgpack.Decoder(SnapshotTaken)
_about_decoder = msgspec.msgpack.Decoder(About)


def _close(value: Any, start: int) -> bytes:
    body = _encode(value)
    return body + crc32(body, start).to_bytes(4, "big")


def _open(row: bytes, start: int, decoder: "msgspec.msgpack.Decoder[Row]") -> Row:
    body = row[:-CRC_BYTES]
    if crc32(body, start) != int.from_bytes(row[-CRC_BYTES:], "big") or len(row) <= CRC_BYTES:
        raise RotError("has a wrong checksum")
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise RotError(f"does not decode ({error})") from error
