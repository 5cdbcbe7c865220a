"""The stream that this node dials to one peer, and its life.

    phase      event                          next       besides
    STOPPED    start                          DIALLING
    DIALLING   connected                      GREETING   say PeerHello
    DIALLING   no connection                  WAITING    tell REFUSED if refused after a loss
    GREETING   PeerWelcome                    UP         tell UP
    GREETING   Rejected, nonsense, timeout    WAITING    log it, once per change
    GREETING   lost                           WAITING
    UP         lost                           WAITING    tell LOST
    WAITING    timer                          DIALLING   at once after a loss, then backing off
    any        stop                           STOPPED    tell nothing

A crashed process closes its sockets, so a peer's death shows as LOST and, a moment later, REFUSED. That is why the
first redial is immediate: no detector delay is needed to tell a dead process from a broken connection.
"""

import random
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import msgspec
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from paxos_twisted.core.engine import LinkState
from paxos_twisted.limits import (
    HANDSHAKE_BYTES_MAX,
    HANDSHAKE_TIMEOUT_S,
    PEER_BUFFER_BYTES_MAX,
    PEER_SILENCE_S,
    REDIAL_MAX_S,
    REDIAL_MIN_S,
)
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.framing import FrameConnection, notice_silence, round_trip_ms
from paxos_twisted.net.greeting import GreetingError, LocalNode, read_peer_greeting
from paxos_twisted.net.reactor import DelayedCall
from paxos_twisted.net.transport import Connector, Sockets
from paxos_twisted.types import NodeId
from paxos_twisted.wire.handshake import Rejected

_log = Logger()


class Phase(Enum):
    """Where the stream's life stands."""

    STOPPED = "stopped"
    WAITING = "waiting"
    DIALLING = "dialling"
    GREETING = "greeting"
    UP = "up"


class PeerLink:
    """Keeps one stream to one peer, and sends on it."""

    def __init__(
        self,
        *,
        peer: NodeId,
        host: str,
        port: int,
        local: LocalNode,
        sockets: Sockets,
        connections: Connections,
        rng: random.Random,
        progress: Callable[[], int],
        check_identity: Callable[[NodeId, str], str | None],
        on_link: Callable[[NodeId, LinkState], None],
        kinds: tuple[type[Any], ...],
    ) -> None:
        self.peer = peer
        self.host = host
        self.port = port
        self.phase = Phase.STOPPED
        self.sent: dict[type[Any], int] = dict.fromkeys(kinds, 0)
        """Messages by type."""
        self.dropped = {"overflow": 0, "unconnected": 0}
        """Messages not sent: the peer does not read, or is not connected."""
        self.connects = 0
        """How often the stream came up."""
        self.rejection = ""
        """Why the peer does not let us in, or we do not let it; empty when nothing is wrong."""
        self._bytes_of_past_streams = 0
        self._local = local
        self._sockets = sockets
        self._connections = connections
        self._rng = rng
        self._progress = progress
        self._check_identity = check_identity
        self._on_link = on_link
        self._told: LinkState | None = None
        self._attempts = 0  # dials since the stream was last up for a while
        self._up_from = 0.0
        self._timer: DelayedCall | None = None
        self._connector: Connector | None = None
        self._connection: FrameConnection | None = None
        self._stream: FrameConnection | None = None  # the connection, while UP

    # What the peer links call

    @property
    def is_up(self) -> bool:
        """Whether messages can be sent."""
        return self._stream is not None

    @property
    def is_closing(self) -> bool:
        """Whether what still comes in does not matter."""
        return self._connection is None or not self._connection.is_open

    @property
    def bytes_sent(self) -> int:
        """Bytes handed to the system for this peer, greetings included."""
        return self._bytes_of_past_streams + (self._connection.bytes_out if self._connection else 0)

    @property
    def bytes_waiting(self) -> int:
        """Bytes that wait for the peer to read."""
        return self._stream.out_bytes if self._stream else 0

    def rtt_ms(self) -> float | None:
        """The stream's round trip time, or None."""
        return round_trip_ms(self._stream) if self._stream else None

    def send(self, payload: bytes, kind: type[Any]) -> None:
        """Send one encoded message, or drop it as if the network had lost it."""
        stream = self._stream
        if stream is None:
            self.dropped["unconnected"] += 1
        elif stream.out_bytes + len(payload) > PEER_BUFFER_BYTES_MAX:
            self.dropped["overflow"] += 1
        else:
            self.sent[kind] += 1
            stream.send(payload)

    def start(self) -> None:
        """Begin to dial."""
        assert self.phase is Phase.STOPPED
        self._dial()

    def hurry(self) -> None:
        """Dial now instead of later: the peer has just dialled us, so it is there."""
        if self.phase is Phase.WAITING:
            self._cancel_timer()
            self._dial()

    def stop(self) -> None:
        """Stop dialling, and close the stream behind what is written. Nothing is told any more."""
        self.phase = Phase.STOPPED
        self._stream = None
        self._cancel_timer()
        if self._connection is not None:
            self._connection.finish()
        elif self._connector is not None:
            self._connector.disconnect()

    # What happens to the stream

    def on_connected(self) -> FrameConnection:
        """The peer has accepted the connection: greet it."""
        self._connection = FrameConnection(self._connections, _Outgoing(self), HANDSHAKE_BYTES_MAX)
        return self._connection

    def on_made(self) -> None:
        """The connection can be written to."""
        connection = self._connection
        assert connection is not None
        if self.phase is Phase.STOPPED:  # stopped while the connection was being made
            connection.abort()
            return
        self.phase = Phase.GREETING
        notice_silence(connection, PEER_SILENCE_S)
        connection.send(msgspec.msgpack.encode(self._local.hello_to(self.peer, self._progress())))
        self._cancel_timer()
        self._timer = self._connections.clock.callLater(HANDSHAKE_TIMEOUT_S, self._on_silence)

    def on_failed(self, reason: Failure) -> None:
        """There is no connection."""
        self._connector = None
        if self.phase is Phase.STOPPED:
            return
        if isinstance(reason.value, ConnectionRefusedError) and self._told is LinkState.LOST:
            self._tell(LinkState.REFUSED)
        self._wait()

    def on_greeting(self, payload: bytes) -> None:
        """The peer has answered our greeting, or sends what it must not send."""
        assert self._connection is not None
        if self.phase is not Phase.GREETING:
            self._give_up("frame", f"node {self.peer} sends on a stream that only we send on")
            return
        try:
            greeting = read_peer_greeting(payload, self.peer)
        except GreetingError as error:
            self._reject(str(error))
            return
        if isinstance(greeting, Rejected):
            self._reject(greeting.text)
            return
        refusal = self._check_identity(self.peer, greeting.identity)
        if refusal is not None:
            self._reject(refusal)
            return
        self._cancel_timer()
        self.phase = Phase.UP
        self.connects += 1
        self._up_from = self._connections.clock.seconds()
        if self.rejection:
            self.rejection = ""
            _log.info("node {peer} and this node accept each other again", peer=self.peer)
        self._stream = self._connection
        self._tell(LinkState.UP)

    def on_lost(self) -> None:
        """The connection is gone."""
        was_up = self._stream is not None
        self._cancel_timer()
        if self._connection is not None:
            self._bytes_of_past_streams += self._connection.bytes_out
        self._connection = self._connector = self._stream = None
        if self.phase is Phase.STOPPED:
            return
        if was_up:
            if self._connections.clock.seconds() - self._up_from >= REDIAL_MAX_S:
                self._attempts = 0  # else a peer that accepts and closes would be dialled without end
            self._tell(LinkState.LOST)
        self._wait()

    def _tell(self, state: LinkState) -> None:
        self._told = state
        self._on_link(self.peer, state)

    def _dial(self) -> None:
        self._timer = None
        self.phase = Phase.DIALLING
        self._attempts += 1
        self._connector = self._sockets.connect(self.host, self.port, _Dial(self))

    def _wait(self) -> None:
        self.phase = Phase.WAITING
        wait_s = 0.0
        if self._attempts:
            wait_s = min(REDIAL_MAX_S, REDIAL_MIN_S * 2.0 ** min(self._attempts - 1, 10))
            wait_s *= 0.5 + self._rng.random() / 2  # else nodes that start together dial together for ever
        self._timer = self._connections.clock.callLater(wait_s, self._dial)

    def _on_silence(self) -> None:
        self._timer = None
        self._give_up("timeout", f"node {self.peer} has not answered our greeting for {HANDSHAKE_TIMEOUT_S:g} s")

    def _reject(self, text: str) -> None:
        if text != self.rejection:
            self.rejection = text
            _log.error(
                "no link to node {peer} at {host}:{port}: {text}",
                peer=self.peer, host=self.host, port=self.port, text=text,
            )  # fmt: skip
        self._attempts = 10  # somebody has to change something first
        self._close()

    def _give_up(self, reason: str, text: str) -> None:
        self._connections.count("peer", reason, text)
        self._close()

    def _close(self) -> None:
        assert self._connection is not None
        self._connection.abort()  # the rest comes with on_lost

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class _Outgoing:
    """The role of a connection that we dialled."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link

    def on_made(self) -> None:
        self._link.on_made()

    def on_frames(self, frames: Iterator[bytes]) -> None:
        for payload in frames:
            self._link.on_greeting(payload)
            if self._link.is_closing:
                return

    def on_bad_stream(self, text: str) -> None:
        self._link._give_up("frame", f"node {self._link.peer}: {text}")

    def on_blocked(self, is_blocked: bool) -> None:
        """`FrameConnection.out_bytes` grows meanwhile, up to the limit that `PeerLink.send` sees to."""

    def on_lost(self) -> None:
        self._link.on_lost()


class _Dial(ClientFactory[Protocol]):
    """One connection attempt."""

    noisy = False

    def __init__(self, link: PeerLink) -> None:
        self._link = link

    def buildProtocol(self, addr: object) -> Protocol:
        return self._link.on_connected()

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._link.on_failed(reason)
