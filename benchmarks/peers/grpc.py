"""The little of gRPC that etcd's Put needs: hand-made HTTP/2 frames with headers encoded once.

The first request of a connection teaches the server its headers; from then on they are one byte each, as real clients
do it. Answers are not decoded: gRPC sends a message only when the call succeeded, so a stream that ends without DATA
is a failure. [RFC 9113; RFC 7541; PROTOCOL-HTTP2.md of gRPC]
"""

import struct
from collections.abc import Iterator

from benchmarks.load import LoadError, Session

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW = 65_535
WINDOW_MAX = 2**31 - 1
INITIAL_WINDOW_SIZE = 4
"""The SETTINGS parameter."""

_HEADER = struct.Struct(">IBI")
"""Length and type together, flags, stream."""
_STREAM = struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def frames(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(type, flags, stream, where the payload begins, where it ends) of each complete frame in `data`."""
    start, end = 0, len(data)
    while end - start >= 9:
        head, flags, stream = _HEADER.unpack_from(data, start)
        stop = start + 9 + (head >> 8)
        if stop > end:
            return
        yield head & 0xFF, flags, stream, start + 9, stop
        start = stop


def opening() -> bytes:
    """What a client says first: answers may be as long as they like, we read them anyway."""
    settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_MAX)
    window = _STREAM.pack(WINDOW_MAX - INITIAL_WINDOW)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, window)


def _text(value: str) -> bytes:
    """A header's name or value, without Huffman coding. [RFC 7541, 5.2]"""
    data = value.encode("ascii")
    assert len(data) < 127, "longer ones take more than one byte of length"
    return bytes([len(data)]) + data


def first_headers(authority: str) -> bytes:
    """POST to etcd's Put, and remember these fields for later. [RFC 7541, 6.1, 6.2.1 and appendix A]"""
    remembered = 0x40
    return b"".join(
        (
            b"\x83",  # :method POST
            b"\x86",  # :scheme http
            bytes([remembered | 4]) + _text("/etcdserverpb.KV/Put"),  # :path
            bytes([remembered | 1]) + _text(authority),  # :authority
            bytes([remembered | 31]) + _text("application/grpc"),  # content-type
            bytes([remembered]) + _text("te") + _text("trailers"),
        )
    )


LATER_HEADERS = b"\x83\x86\xc1\xc0\xbf\xbe"
"""The same, remembered: the newest entry of the dynamic table is number 62. [RFC 7541, 2.3.3]"""


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def put_message(key: bytes, value: bytes) -> bytes:
    """A PutRequest (field 1 is the key, 2 the value) behind gRPC's five bytes: not compressed, length."""
    body = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return b"\0" + _STREAM.pack(len(body)) + body


def put_parts(headers: bytes, message: bytes) -> tuple[bytes, bytes, bytes]:
    """A call: what stands before, between and behind its two stream numbers."""
    first = frame(HEADERS, END_HEADERS, 0, headers)
    second = frame(DATA, END_STREAM, 0, message)
    return first[:5], first[9:] + second[:5], second[9:]


class GrpcSession(Session):
    """One HTTP/2 connection to etcd, on which every request is a stream."""

    __slots__ = ("_answers", "_fresh", "_puts", "_rest", "_sent_at", "_stream", "_window")

    def __init__(self, address: tuple[str, int], timeout_s: float, messages: list[bytes], first: int) -> None:
        """Dial.

        Args:
            messages: `put_message` of the keys to go round.
            first: with which of them to begin.
        """
        super().__init__(address, timeout_s)
        headers = first_headers(f"{address[0]}:{address[1]}")
        self._fresh: bytes | None = headers  # None: the server knows them
        turned = messages[first % len(messages) :] + messages[: first % len(messages)]
        self._puts = turned
        self._stream = -1
        self._rest = b""
        self._window = INITIAL_WINDOW
        self._sent_at: dict[int, float] = {}
        self._answers: set[int] = set()  # streams whose message has come
        self.socket.sendall(opening())

    def greet(self) -> None:
        """HTTP/2 needs no waiting: the server's settings may come later."""

    def requests(self, count: int, now: float) -> bytes:
        parts: list[bytes] = []
        for _ in range(count):
            self._stream = stream = self._stream + 2
            message = self._puts[(stream >> 1) % len(self._puts)]
            if self._fresh is not None:
                before, between, behind = put_parts(self._fresh, message)
                self._fresh = None
            else:
                before, between, behind = _BEFORE, _BETWEEN[len(message)], message
            number = _STREAM.pack(stream)
            parts += (before, number, between, number, behind)
            self._sent_at[stream] = now
            self._window -= len(message)
        if self._window < 0:
            raise LoadError("so many bytes at once need HTTP/2's flow control, which this client does not have")
        return b"".join(parts)

    def take(self, data: bytes, now: float, rtts: list[float]) -> int:
        if self._rest:
            data = self._rest + data
        answered = used = 0
        for kind, flags, stream, start, used in frames(data):
            if kind == DATA:
                self._answers.add(stream)
            elif kind != HEADERS:
                self._control(kind, flags, stream, data[start:used])
                continue
            if flags & END_STREAM:
                if stream not in self._answers:
                    raise LoadError("etcd does not put")
                self._answers.discard(stream)
                rtts.append(now - self._sent_at.pop(stream))
                answered += 1
        self._rest = data[used:]
        return answered

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.owed += frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self.owed += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE and not stream:
            self._window += _STREAM.unpack(payload)[0]
        elif kind in (RST_STREAM, GOAWAY):
            raise LoadError("etcd ends the call" if kind == RST_STREAM else "etcd ends the connection")


class _Between(dict[int, bytes]):
    """By the message's length, made when first needed."""

    def __missing__(self, length: int) -> bytes:
        self[length] = put_parts(LATER_HEADERS, bytes(length))[1]
        return self[length]


_BEFORE = put_parts(LATER_HEADERS, b"")[0]
_BETWEEN = _Between()
