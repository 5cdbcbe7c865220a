"""The little of ZooKeeper's client protocol that a write needs: frames of big-endian integers and counted bytes.

[zookeeper.jute and ZooDefs.java of ZooKeeper 3.8]
"""

import struct
from collections import deque
from collections.abc import Iterator

from benchmarks.load import LoadError, Session

CREATE, SET_DATA, CLOSE = 1, 5, -11
"""Request types. [ZooDefs.OpCode]"""

NODE_EXISTS = -110
"""[KeeperException.Code]"""

SESSION_TIMEOUT_MS = 30_000

_INT = struct.Struct(">i")
_REPLY = struct.Struct(">iiqi")
"""Length of the rest, xid, zxid, error."""


def counted(data: bytes) -> bytes:
    """A buffer or a string: its length, then it."""
    return _INT.pack(len(data)) + data


def framed(payload: bytes) -> bytes:
    """A packet: the length of the rest, then the rest."""
    return _INT.pack(len(payload)) + payload


def connect_request() -> bytes:
    """Ask for a new session."""
    return framed(struct.pack(">iqiq", 0, 0, SESSION_TIMEOUT_MS, 0) + counted(bytes(16)) + b"\0")


def set_data_parts(path: str, value: bytes) -> tuple[bytes, bytes]:
    """A write of any version of a node: what stands before and behind its xid."""
    body = _INT.pack(SET_DATA) + counted(path.encode()) + counted(value) + _INT.pack(-1)
    return _INT.pack(4 + len(body)), body


def create_request(xid: int, path: str, value: bytes) -> bytes:
    """Create a persistent node that everybody may do everything with."""
    everybody = _INT.pack(1) + _INT.pack(31) + counted(b"world") + counted(b"anyone")
    body = counted(path.encode()) + counted(value) + everybody + _INT.pack(0)
    return framed(struct.pack(">ii", xid, CREATE) + body)


def close_request(xid: int) -> bytes:
    """End the session now, instead of letting it expire during the next measurement."""
    return framed(struct.pack(">ii", xid, CLOSE))


def replies(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(xid, error, where the next one begins) of each complete reply in `data`."""
    start, end = 0, len(data)
    while end - start >= _REPLY.size:
        length, xid, _, error = _REPLY.unpack_from(data, start)
        start += 4 + length
        if start > end:
            return
        yield xid, error, start


class JuteSession(Session):
    """One ZooKeeper session, which writes nodes that exist, one after the other."""

    __slots__ = ("_rest", "_sent_at", "_writes", "_xid")

    def __init__(
        self, address: tuple[str, int], timeout_s: float, writes: list[tuple[bytes, bytes]], first: int
    ) -> None:
        """Dial.

        Args:
            writes: `set_data_parts` of the nodes to go round.
            first: with which of them to begin.
        """
        super().__init__(address, timeout_s)
        self._writes = writes
        self._xid = first
        self._rest = b""
        self._sent_at: deque[float] = deque()  # a session's replies come in the order of its requests
        self.socket.sendall(connect_request())

    def greet(self) -> None:
        data = b""
        while len(data) < 4 or len(data) < 4 + _INT.unpack_from(data)[0]:
            data += self.receive()
        _, timeout_ms = struct.unpack_from(">ii", data, 4)
        if timeout_ms <= 0:
            raise LoadError("ZooKeeper gives us no session")

    def requests(self, count: int, now: float) -> bytes:
        parts: list[bytes] = []
        writes, size, xid = self._writes, len(self._writes), self._xid
        for _ in range(count):
            xid += 1
            head, body = writes[xid % size]
            parts += (head, _INT.pack(xid), body)
            self._sent_at.append(now)
        self._xid = xid
        return b"".join(parts)

    def create(self, paths: list[str], value: bytes) -> None:
        """Make these nodes, unless they exist. Blocks.

        Raises:
            LoadError, OSError: they cannot be made.
        """
        self.socket.sendall(b"".join(create_request(i, path, value) for i, path in enumerate(paths)))
        done, data = 0, b""
        while done < len(paths):
            data += self.receive()
            used = 0
            for _, error, after in replies(data):
                if error not in (0, NODE_EXISTS):
                    raise LoadError(f"ZooKeeper does not create a node: error {error}")
                done, used = done + 1, after
            data = data[used:]

    def take(self, data: bytes, now: float, rtts: list[float]) -> int:
        if self._rest:
            data = self._rest + data
        answered = used = 0
        for _, error, after in replies(data):
            if error:
                raise LoadError(f"ZooKeeper does not write: error {error}")
            rtts.append(now - self._sent_at.popleft())
            answered, used = answered + 1, after
        self._rest = data[used:]
        return answered

    def farewell(self) -> bytes:
        return close_request(self._xid + 1)
