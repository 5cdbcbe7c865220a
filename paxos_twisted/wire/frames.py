"""Length-prefixed frames: four bytes, big-endian, then that many bytes of msgpack."""

import struct
from collections.abc import Iterator

_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size


class FrameError(Exception):
    """The byte stream is not a sequence of frames of an allowed size. The connection cannot go on."""


def frame(payload: bytes) -> bytes:
    """Return `payload` as one frame."""
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cut a byte stream into frames. Holds at most one incomplete frame and the chunk that ended in it."""

    __slots__ = ("_chunks", "_held", "_wanted", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._chunks: list[bytes] = []  # joined once, when `_wanted` bytes are there: a large frame is copied once
        self._held = 0
        self._wanted = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payloads that `data` completes. Drain it before the next call.

        Raises:
            FrameError: a frame is empty or longer than `bytes_max`; told before the frame has arrived.
        """
        if self._held:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._held = 0
        start, end = 0, len(data)
        self._wanted = HEADER_BYTES
        while end - start >= HEADER_BYTES:
            (length,) = _LENGTH.unpack_from(data, start)
            if not 0 < length <= self.bytes_max:
                raise FrameError(f"a frame of {length} bytes; 1 to {self.bytes_max} are allowed")
            stop = start + HEADER_BYTES + length
            if stop > end:
                self._wanted = HEADER_BYTES + length
                break
            yield data[start + HEADER_BYTES : stop]
            start = stop
        if start < end:
            self._chunks.append(data[start:])
            self._held = end - start
