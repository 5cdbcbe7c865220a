"""A connection that carries frames: reads them for its role, and writes what a turn has collected with one call.

What the frames mean is the role's affair: first a handshake, then a peer's stream or a client's (see `Role`). The
connection knows about bytes, back-pressure and about ending well.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final, Protocol, cast

from twisted.internet import protocol
from twisted.python.failure import Failure

from paxos_twisted.limits import LINGER_S
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.reactor import DelayedCall, Transport
from paxos_twisted.wire.frames import HEADER_BYTES, FrameError, FrameReader

PUSH_BYTES: Final = 256 * 1024
"""Handed to the transport at a time, while it takes more."""


class Role(Protocol):
    """What a connection is used for."""

    def on_made(self) -> None:
        """The connection can be used."""
        ...

    def on_frames(self, frames: Iterator[bytes]) -> None:
        """Take the frames that one read brought, all of them unless the connection is closed or the role changes.

        Raises:
            FrameError: when the iterator does.
        """
        ...

    def on_bad_stream(self, text: str) -> None:
        """What came is no sequence of frames. The connection must be closed."""
        ...

    def on_blocked(self, is_blocked: bool) -> None:
        """The other side reads too slowly (or again fast enough)."""
        ...

    def on_lost(self) -> None:
        """The connection is gone. Told once, last."""
        ...


class FrameConnection(protocol.Protocol):
    """One TCP connection of frames. Towards its transport it is a push producer."""

    def __init__(self, connections: Connections, role: Role, frame_bytes_max: int) -> None:
        self.role = role
        self.reader = FrameReader(frame_bytes_max)
        self.is_open = False
        """Connected, and neither side has begun to close."""
        self.is_blocked = False
        """The transport holds enough; what is written now stays in `_out`."""
        self.out_bytes = 0
        """Bytes that wait here for the end of the turn, or for a transport that takes them."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.address = "?"
        self._out: list[bytes] = []
        self._connections = connections
        self._turn = connections.turn
        self._linger: DelayedCall | None = None

    # What the role calls

    def send(self, payload: bytes) -> None:
        """Send one frame at the end of this turn. Never raises; ignored when the connection is closing."""
        if not self.is_open:
            return
        out = self._out
        if not out:
            self._turn.push_soon(self)
        out += (len(payload).to_bytes(HEADER_BYTES, "big"), payload)
        self.out_bytes += HEADER_BYTES + len(payload)

    def finish(self, payload: bytes | None = None) -> None:
        """Say what is still to be said, then close. What comes in from now on is ignored.

        The connection is half-closed and then read until the other side closes too (LINGER_S at most): closing a socket
        with unread input resets it, and the reset would overtake our last words.
        """
        if not self.is_open:
            return
        if payload is not None:
            self.send(payload)
        self.is_open = False
        wire = self._wire
        wire.unregisterProducer()
        if self._out:
            wire.write(b"".join(self._out))
            self._forget_output()
        wire.resumeProducing()
        wire.loseWriteConnection()
        self._linger = self._connections.clock.callLater(LINGER_S, wire.abortConnection)

    def abort(self) -> None:
        """Close at once and forget what was to be sent. Never raises; the role's `on_lost` comes in a later turn."""
        self.is_open = False
        self._forget_output()
        self._wire.abortConnection()

    def pause_reading(self) -> None:
        """Let what the other side sends wait at the other side."""
        if self.is_open:
            self._wire.pauseProducing()

    def resume_reading(self) -> None:
        """Read again."""
        if self.is_open:
            self._wire.resumeProducing()

    def process(self, frames: Iterator[bytes]) -> None:
        """Let the role take frames, now or (frames it has put aside) later."""
        try:
            self.role.on_frames(frames)
        except FrameError as error:
            self.role.on_bad_stream(str(error))

    # What the turn calls

    def push(self) -> None:
        """Write what has been collected, as long as the transport takes it."""
        out = self._out
        while out and not self.is_blocked:
            if self.out_bytes <= PUSH_BYTES:
                data = b"".join(out)
                out.clear()
            else:
                size = stop = 0
                while size < PUSH_BYTES and stop < len(out):
                    size += len(out[stop])
                    stop += 1
                data = b"".join(out[:stop])
                del out[:stop]
            self.out_bytes -= len(data)
            self.bytes_out += len(data)
            self._wire.write(data)

    # What Twisted calls

    def connectionMade(self) -> None:
        self._wire = cast(Transport, self.transport)
        self._wire.setTcpNoDelay(True)
        self._wire.setTcpKeepAlive(True)
        self._wire.registerProducer(self, True)
        self.address = _address(self._wire)
        self.is_open = True
        self._connections.add(self)
        self.role.on_made()

    def dataReceived(self, data: bytes) -> None:
        if self.is_open:
            self.bytes_in += len(data)
            self.process(self.reader.feed(data))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.is_open = False
        self._forget_output()
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._connections.remove(self)
        self.role.on_lost()

    def pauseProducing(self) -> None:
        """The transport holds enough. (We are a producer towards it.)"""
        self.is_blocked = True
        self.role.on_blocked(True)

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self.is_blocked = False
        if self._out:
            self._turn.push_soon(self)
        self.role.on_blocked(False)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` follows."""

    def __repr__(self) -> str:
        return f"<connection with {self.address}>"

    def _forget_output(self) -> None:
        self._out.clear()
        self.out_bytes = 0


def notice_silence(connection: FrameConnection, seconds: int) -> None:
    """Let the kernel end a connection whose other side's kernel has not answered for so many seconds (at least 3).

    A machine that lost power, or a cut cable, closes nothing. Without this the stream would hang until TCP's own
    retransmission, which backs off to two minutes, finds the machine again. Does nothing where it is not offered.
    """
    handle = getattr(connection.transport, "getHandle", None)
    if handle is None:
        return
    sock: socket.socket = handle()
    for name, value in (
        ("TCP_KEEPIDLE", seconds // 3),
        ("TCP_KEEPINTVL", seconds // 3),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", seconds * 1000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def round_trip_ms(connection: FrameConnection) -> float | None:
    """The smoothed round trip time of a connection as the kernel measures it, or None where it does not tell."""
    handle = getattr(connection.transport, "getHandle", None)
    if handle is None or not connection.is_open or not hasattr(socket, "TCP_INFO"):
        return None
    info = handle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + 4)
    return struct.unpack_from("I", info, _RTT_AT)[0] / 1000 if len(info) == _RTT_AT + 4 else None


_RTT_AT: Final = 68
"""Where `tcpi_rtt` (microseconds) stands in `struct tcp_info` of linux/tcp.h: behind eight bytes and 15 integers."""


def _address(wire: Transport) -> str:
    peer = wire.getPeer()
    return f"{getattr(peer, 'host', '?')}:{getattr(peer, 'port', '?')}"
