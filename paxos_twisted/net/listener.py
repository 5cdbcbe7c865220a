"""The port that peers and clients connect to. The first frame says who it is; until then a connection gets little."""

from collections.abc import Iterator

import msgspec
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from paxos_twisted.limits import HANDSHAKE_BYTES_MAX, HANDSHAKE_TIMEOUT_S, HANDSHAKES_MAX
from paxos_twisted.net.clients import ClientPort
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.framing import FrameConnection, Role
from paxos_twisted.net.greeting import GreetingError, read_hello
from paxos_twisted.net.peers import PeerLinks
from paxos_twisted.net.reactor import DelayedCall
from paxos_twisted.wire.handshake import PeerHello, Rejected


class Listener(Factory[Protocol]):
    """Accepts connections and gives each to the peer links or to the client port."""

    noisy = False

    def __init__(self, connections: Connections, peers: PeerLinks, clients: ClientPort) -> None:
        self.connections = connections
        self.peers = peers
        self.clients = clients
        self.greeting = 0
        """Connections that have not said who they are."""

    def buildProtocol(self, addr: IAddress | None) -> FrameConnection | None:
        """Accept a connection, unless too many strangers are connected: then it is closed at once."""
        if self.greeting >= HANDSHAKES_MAX:
            self.connections.count("client", "full", f"{HANDSHAKES_MAX} connections have not said who they are")
            return None
        self.greeting += 1
        return _Greeting(self).connection


class _Greeting:
    """The role of a connection whose first frame has not come."""

    def __init__(self, listener: Listener) -> None:
        self.connection = FrameConnection(listener.connections, self, HANDSHAKE_BYTES_MAX)
        self._listener = listener
        self._timer: DelayedCall | None = None
        self._is_over = False

    def on_made(self) -> None:
        self._timer = self._listener.connections.clock.callLater(HANDSHAKE_TIMEOUT_S, self._on_silence)

    def on_frames(self, frames: Iterator[bytes]) -> None:
        payload = next(frames, None)
        if payload is None:
            return
        self._end()
        try:
            hello = read_hello(payload)
        except GreetingError as error:
            self._listener.connections.count("client", "frame", f"{self.connection.address}: {error}")
            self.connection.finish(msgspec.msgpack.encode(Rejected("version", str(error))))
            return
        role: Role | None
        if isinstance(hello, PeerHello):
            role = self._listener.peers.welcome(self.connection, hello)
        else:
            role = self._listener.clients.welcome(self.connection, hello)
        if role is not None:
            self.connection.role = role
            role.on_frames(frames)

    def on_bad_stream(self, text: str) -> None:
        self._listener.connections.count("client", "frame", f"{self.connection.address}: {text}")
        self.connection.abort()

    def on_blocked(self, is_blocked: bool) -> None:
        """A rejection fits into any buffer."""

    def on_lost(self) -> None:
        self._end()

    def _on_silence(self) -> None:
        text = f"{self.connection.address} has not said who it is for {HANDSHAKE_TIMEOUT_S:g} s"
        self._listener.connections.count("client", "timeout", text)
        self.connection.abort()

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._listener.greeting -= 1
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
