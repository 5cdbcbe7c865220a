"""What the tests of the network shell share: transports, a driver and a cluster that only record."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.bank import DEPOSIT, Bank, BankOp
from paxos_twisted.core.command import Command
from paxos_twisted.core.engine import LinkState
from paxos_twisted.core.multipaxos.messages import Accept, HeartbeatRequest, Learn, Message
from paxos_twisted.core.transfer import TransferMessage
from paxos_twisted.net.clients import ClientPort
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.framing import FrameConnection
from paxos_twisted.net.greeting import LocalNode
from paxos_twisted.net.listener import Listener
from paxos_twisted.net.peers import PeerLinks
from paxos_twisted.net.turn import Turn
from paxos_twisted.node.families import Histogram
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.frames import FrameReader, frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome, PeerHello, PeerWelcome, Rejected

MESSAGES = Message | TransferMessage
ME, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)

encode = msgspec.msgpack.encode

Pump = Callable[[Callable[[], object]], None]
"""Turns a real reactor until something is true."""


class FakeTransport:
    """A connection whose other side is the test."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        """One entry per `write`."""
        self.is_reading = True
        self.is_half_closed = False
        self.is_aborted = False
        self.is_closing = False
        self.producer: Any = None
        self.protocol: Any = None

    def connect(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    def say(self, *payloads: bytes) -> None:
        """The other side sends frames, in one chunk."""
        self.protocol.dataReceived(b"".join(map(frame, payloads)))

    def lose(self) -> None:
        """The connection ends."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def heard(self) -> list[bytes]:
        """The frames that the other side has got so far."""
        return list(FrameReader(1 << 30).feed(b"".join(self.written)))

    # What protocols call.

    def write(self, data: bytes) -> None:
        assert not self.is_aborted
        self.written.append(bytes(data))

    def loseConnection(self) -> None:
        self.is_closing = True

    def loseWriteConnection(self) -> None:
        assert self.producer is None, "with a producer a real transport would never close"
        self.is_half_closed = True

    def abortConnection(self) -> None:
        self.is_aborted = True

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        self.is_reading = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        assert enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        assert enabled

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4711)


class FakeConnector:
    """A connection attempt that the test decides on."""

    def __init__(self, host: str, port: int, factory: Any) -> None:
        self.host, self.port, self.factory = host, port, factory
        self.is_given_up = False

    def disconnect(self) -> None:
        self.is_given_up = True

    def succeed(self) -> FakeTransport:
        transport = FakeTransport()
        transport.connect(self.factory.buildProtocol(None))
        return transport

    def fail(self, error: Exception) -> None:
        self.factory.clientConnectionFailed(self, Failure(error))


class FakeSockets:
    """Records attempts to connect."""

    def __init__(self) -> None:
        self.attempts: list[FakeConnector] = []

    def connect(self, host: str, port: int, factory: Any, timeout_s: float = 0.0) -> FakeConnector:
        self.attempts.append(FakeConnector(host, port, factory))
        return self.attempts[-1]


class FakeRequests:
    """The driver as the client port sees it."""

    def __init__(self) -> None:
        self.is_congested = False
        self.leader = ME
        self.taken: list[tuple[bytes, Command[Any]]] = []
        self.on_each: Callable[[Command[Any]], None] = lambda command: None

    def on_request(self, raw: bytes, command: Command[Any]) -> None:
        self.taken.append((raw, command))
        self.on_each(command)


class FakeMetrics:
    """Counts what the client port counts."""

    def __init__(self) -> None:
        self.client_requests: dict[tuple[str, str], int] = {}
        names = Bank.op_names
        outcomes = ("ok", "rejected", "redirected", "no_leader", "overloaded", "disk_full", "refused", "unknown")
        self.client_requests.update({(name, outcome): 0 for name in names for outcome in outcomes})
        self.client_redirects = {"connect": 0, "request": 0}
        self.client_request_duration = {name: Histogram((0.001, 0.01, 0.1)) for name in names}


class Shell:
    """The network shell of node 1 of three, with everything around it faked."""

    def __init__(self, secret: str = "", application: Application | None = None) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.connections = Connections(self.clock, self.turn, {})
        self.sockets = FakeSockets()
        self.received: list[tuple[NodeId, Any]] = []
        self.links_told: list[tuple[NodeId, LinkState]] = []
        self.known: dict[NodeId, tuple[str, int]] = {}
        self.progress = 17
        self.flushes = 0
        self.local = local_node(secret=secret)
        self.links = PeerLinks(
            local=self.local,
            addresses={TWO: ("127.0.0.1", 7102), THREE: ("127.0.0.1", 7103)},
            message_type=MESSAGES,
            sockets=self.sockets,  # type: ignore[arg-type]
            connections=self.connections,
            receive=lambda src, message: self.received.append((src, message)),
            on_link=lambda node, state: self.links_told.append((node, state)),
            progress=lambda: self.progress,
            guard=self.guard,
            check_identity=lambda node, identity: self.guard(node, identity, 1 << 60),
            rng=random.Random(1),
        )
        self.requests = FakeRequests()
        self.metrics = FakeMetrics()
        self.clients = ClientPort(
            local=self.local,
            application=application or Bank(),
            addresses={ME: "127.0.0.1:7101", TWO: "127.0.0.1:7102", THREE: "127.0.0.1:7103"},
            connections=self.connections,
            requests=self.requests,
            applied=lambda: 99,
            metrics=self.metrics,
        )
        self.turn.after = self.clients.release
        self.turn.flush = self._flush
        self.on_flush: Callable[[], None] = lambda: None
        self.listener = Listener(self.connections, self.links, self.clients)

    def guard(self, node: NodeId, identity: str, progress: int) -> str | None:
        known = self.known.get(node)
        if known is not None and (known[0] != identity or known[1] > progress):
            return f"node {node} has lost its memory"
        return None

    def accept(self) -> FakeTransport:
        """Somebody connects."""
        protocol = self.listener.buildProtocol(None)
        assert protocol is not None
        transport = FakeTransport()
        transport.connect(protocol)
        return transport

    def accept_client(self, **fields: Any) -> FakeTransport:
        transport = self.accept()
        transport.say(encode(client_hello(**fields)))
        self.end_turn()
        return transport

    def accept_peer(self, node: NodeId = TWO, **fields: Any) -> FakeTransport:
        transport = self.accept()
        transport.say(encode(peer_hello(sender=node, **fields)))
        self.end_turn()
        return transport

    def link_up(self, node: NodeId = TWO) -> FakeTransport:
        """Our stream to a peer, past the handshake. Forgets what was written for it."""
        attempt = next(a for a in reversed(self.sockets.attempts) if a.port == 7100 + node)
        transport = attempt.succeed()
        self.end_turn()
        transport.say(encode(PeerWelcome(PROTOCOL_VERSION, node, f"identity-{node}")))
        transport.written.clear()
        return transport

    def end_turn(self) -> None:
        """The reactor has read all that there was."""
        self.clock.advance(0)

    def _flush(self) -> None:
        self.flushes += 1
        self.on_flush()


def local_node(**changes: Any) -> LocalNode:
    fields: dict[str, Any] = {
        "node": ME,
        "members": (ME, TWO, THREE),
        "cluster": "demo",
        "application": "bank",
        "settings": "settings-digest",
        "identity": "identity-1",
    }
    return LocalNode(**(fields | changes))


def peer_hello(**changes: Any) -> PeerHello:
    fields: dict[str, Any] = {
        "version": PROTOCOL_VERSION,
        "cluster": "demo",
        "sender": TWO,
        "receiver": ME,
        "settings": "settings-digest",
        "identity": f"identity-{changes.get('sender', TWO)}",
        "progress": 5,
    }
    return PeerHello(**(fields | changes))


def client_hello(**changes: Any) -> ClientHello:
    fields: dict[str, Any] = {"version": PROTOCOL_VERSION, "cluster": "demo", "application": "bank", "client": 7}
    return ClientHello(**(fields | changes))


def request(seq: int = 1, client: int = 7, amount: int = 10) -> bytes:
    """A deposit, as it comes in a frame."""
    return encode(Command(ClientId(client), -1, seq, 1, BankOp(DEPOSIT, 3, amount)))


def heartbeat(sender: NodeId = TWO, stamp: int = 0) -> HeartbeatRequest:
    return HeartbeatRequest(sender, stamp, -1, -1, 0, 0)


def accept(sender: NodeId = TWO, values: bytes = b"\xc0") -> Accept:
    return Accept(sender, 0, 1001, values)


def learn(sender: NodeId = TWO) -> Learn:
    return Learn(sender, 0, 1001)


class Heard(NamedTuple):
    """A greeting and what came behind it."""

    greeting: ClientWelcome | PeerWelcome | Rejected
    rest: list[bytes]


_greetings = msgspec.msgpack.Decoder(ClientWelcome | PeerWelcome | Rejected)


def read_greeting(transport: FakeTransport) -> Heard:
    first, *rest = transport.heard()
    return Heard(_greetings.decode(first), rest)


def rejection(transport: FakeTransport) -> str:
    """The reason for which a connection was rejected."""
    greeting = read_greeting(transport).greeting
    assert isinstance(greeting, Rejected), greeting
    return greeting.reason


__all__ = ["FrameConnection"]
