"""The network shell on real loopback sockets, with both kinds of transport: they must not differ but in speed."""

import errno
import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from net_support import (
    ME,
    MESSAGES,
    TWO,
    FakeMetrics,
    FakeRequests,
    Pump,
    accept,
    client_hello,
    encode,
    heartbeat,
    local_node,
    request,
)
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import ClientFactory, Factory, Protocol

from paxos_twisted.apps.bank import Bank, BankResult
from paxos_twisted.core.engine import LinkState
from paxos_twisted.limits import CLIENT_BUFFER_BYTES_MAX, REDIAL_MAX_S
from paxos_twisted.net.clients import ClientPort
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.framing import FrameConnection
from paxos_twisted.net.listener import Listener
from paxos_twisted.net.peers import PeerLinks
from paxos_twisted.net.reactor import ListeningPort
from paxos_twisted.net.transport import DirectClient, DirectServer, Sockets
from paxos_twisted.net.turn import Turn
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.client import Answer, ProtocolError
from paxos_twisted.wire.frames import FrameReader, frame
from paxos_twisted.wire.handshake import ClientWelcome

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"


class Recorder(Protocol):
    """Keeps what comes, and can write."""

    def __init__(self) -> None:
        self.data = b""
        self.is_lost = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.is_lost = True


class Pair:
    """A connection between a protocol of ours, listening, and a plain blocking socket."""

    def __init__(self, reactor: EPollReactor, pump: Pump, direct: bool) -> None:
        self.ours = Recorder()
        factory = Factory.forProtocol(lambda: self.ours)
        factory.noisy = False
        self.port = Sockets(reactor, direct).listen(HOST, 0, factory)
        self.plain = socket.create_connection((HOST, self.port.getHost().port))
        pump(lambda: self.ours.connected)
        self.transport: Any = self.ours.transport

    def close(self) -> None:
        self.plain.close()
        self.port.stopListening()


@pytest.fixture
def pair(reactor: EPollReactor, pump: Pump, direct: bool) -> Iterator[Pair]:
    made = Pair(reactor, pump, direct)
    yield made
    made.close()
    pump(lambda: made.ours.is_lost)


def read(sock: socket.socket, size: int, pump: Pump) -> bytes:
    """Read exactly so many bytes while the reactor turns."""
    sock.setblocking(False)
    parts: list[bytes] = []

    def is_done() -> bool:
        try:
            parts.append(sock.recv(1 << 20))
        except BlockingIOError:
            return False
        return not parts[-1] or sum(map(len, parts)) >= size

    pump(is_done)
    return b"".join(parts)


def has_bytes(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_direct_transports_are_used_when_asked_for(pair: Pair, direct: bool) -> None:
    assert isinstance(pair.transport, DirectServer) is direct


def test_a_direct_transport_has_sent_when_write_returns_and_a_stock_one_has_not(pair: Pair, direct: bool) -> None:
    pair.transport.write(b"now")
    assert has_bytes(pair.plain) is direct


def test_everything_arrives_in_order_whatever_the_sizes(pair: Pair, pump: Pump) -> None:
    rng = random.Random(1)
    pieces = [rng.randbytes(rng.choice([0, 1, 50, 5_000, 300_000])) for _ in range(60)]
    for piece in pieces:
        pair.transport.write(piece)
    pair.transport.writeSequence([b"a", b"b", b""])
    data = b"".join(pieces) + b"ab"
    assert read(pair.plain, len(data), pump) == data


def test_what_is_written_before_closing_arrives(pair: Pair, pump: Pump) -> None:
    data = bytes(3_000_000)
    pair.transport.write(data)
    pair.transport.write(b"end")
    pair.transport.loseConnection()
    assert read(pair.plain, len(data) + 3, pump) == data + b"end"
    assert read(pair.plain, 1, pump) == b""


def test_what_is_written_before_a_half_close_arrives_and_the_other_half_stays_open(pair: Pair, pump: Pump) -> None:
    data = bytes(3_000_000)
    pair.transport.write(data)
    pair.transport.loseWriteConnection()
    assert read(pair.plain, len(data) + 1, pump) == data
    pair.plain.sendall(b"still here")
    pump(lambda: pair.ours.data == b"still here")
    pair.transport.write(b"too late")
    assert not has_bytes(pair.plain)


def test_nothing_is_sent_after_an_abort(pair: Pair, pump: Pump) -> None:
    pair.transport.abortConnection()
    pair.transport.write(b"too late")
    pump(lambda: pair.ours.is_lost)
    pair.plain.settimeout(5)
    with pytest.raises(ConnectionResetError):
        assert pair.plain.recv(100) == b"something other than a reset"


def test_writing_to_a_reset_connection_does_not_raise_and_the_loss_is_told_later(pair: Pair, pump: Pump) -> None:
    pair.plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.plain.close()
    for _ in range(3):
        pair.transport.write(b"x" * 100)
        assert not pair.ours.is_lost
    pump(lambda: pair.ours.is_lost)
    pair.transport.write(b"y")


class Producer:
    """A push producer that notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def pauseProducing(self) -> None:
        self.notes.append("pause")

    def resumeProducing(self) -> None:
        self.notes.append("resume")

    def stopProducing(self) -> None:
        self.notes.append("stop")


def test_a_push_producer_is_paused_while_the_other_side_does_not_read(pair: Pair, pump: Pump) -> None:
    producer = Producer()
    pair.transport.registerProducer(producer, True)
    size = 0
    while "pause" not in producer.notes or size < 10_000_000:
        pair.transport.write(bytes(100_000))
        size += 100_000
    assert set(producer.notes) == {"pause"}
    assert len(read(pair.plain, size, pump)) == size
    pump(lambda: producer.notes[-1] == "resume")
    pair.transport.unregisterProducer()


def test_a_pull_producer_is_asked_until_it_ends(pair: Pair, pump: Pump) -> None:
    class Pull(Producer):
        def resumeProducing(self) -> None:
            self.notes.append("resume")
            if len(self.notes) > 5:
                pair.transport.unregisterProducer()
            else:
                pair.transport.write(b"piece")

    producer = Pull()
    pair.transport.registerProducer(producer, False)
    assert read(pair.plain, 25, pump) == b"piece" * 5
    pump(lambda: len(producer.notes) == 6)


def test_a_refused_connection_is_told(reactor: EPollReactor, pump: Pump, direct: bool) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    failures: list[Any] = []

    class Dial(ClientFactory[Protocol]):
        noisy = False

        def clientConnectionFailed(self, connector: object, reason: Any) -> None:
            failures.append(reason.value.osError)

    Sockets(reactor, direct).connect(HOST, port, Dial())
    pump(lambda: failures)
    assert failures == [errno.ECONNREFUSED]


# The shell


class Node:
    """The network shell of a node on real sockets, with a driver that records."""

    def __init__(self, reactor: EPollReactor, direct: bool, node: NodeId = ME) -> None:
        self.reactor = reactor
        self.sockets = Sockets(reactor, direct)
        self.turn = Turn(reactor)
        self.connections = Connections(reactor, self.turn, {})
        self.node = node
        self.received: list[tuple[NodeId, Any]] = []
        self.told: list[tuple[NodeId, LinkState]] = []
        self.requests = FakeRequests()
        self.requests.leader = node
        self.port: ListeningPort | None = None
        self.number = 0
        self.clients = ClientPort(
            local=local_node(node=node), application=Bank(), addresses={}, connections=self.connections,
            requests=self.requests, applied=lambda: -1, metrics=FakeMetrics(),
        )  # fmt: skip
        self.turn.after = self.clients.release

    def start(self, peer: NodeId, port: int) -> None:
        """Listen, and dial one peer."""
        self.links = PeerLinks(
            local=local_node(node=self.node, identity=f"identity-{self.node}"), addresses={peer: (HOST, port)},
            message_type=MESSAGES, sockets=self.sockets, connections=self.connections,
            receive=lambda src, message: self.received.append((src, message)),
            on_link=lambda node, state: self.told.append((node, state)),
            progress=lambda: 1, guard=lambda *_: None, check_identity=lambda *_: None, rng=random.Random(1),
        )  # fmt: skip
        self.listen()
        self.links.start()

    def listen(self) -> None:
        listener = Listener(self.connections, self.links, self.clients)
        self.port = self.sockets.listen(HOST, self.number, listener)
        self.number = self.port.getHost().port

    def crash(self) -> None:
        """All sockets close, as those of a killed process."""
        assert self.port is not None
        self.port.stopListening()
        for link in self.links.links.values():
            link.stop()
        self.connections.abort_all()

    def stop(self, pump: Pump) -> None:
        assert self.port is not None
        self.port.stopListening()
        self.links.stop()
        gone: list[object] = []
        self.connections.finish_all().addCallback(gone.append)
        pump(lambda: gone)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def two_nodes(reactor: EPollReactor, pump: Pump, direct: bool) -> Iterator[tuple[Node, Node]]:
    one, two = Node(reactor, direct, ME), Node(reactor, direct, TWO)
    one.number, two.number = free_port(), free_port()
    one.start(TWO, two.number)
    two.start(ME, one.number)
    pump(lambda: one.told and two.told and TWO in one.links.streams and ME in two.links.streams)
    yield one, two
    one.stop(pump)
    two.stop(pump)
    pump(lambda: not reactor.getDelayedCalls())


def test_two_nodes_find_each_other_and_talk(two_nodes: tuple[Node, Node], pump: Pump, direct: bool) -> None:
    one, two = two_nodes
    assert one.told == [(TWO, LinkState.UP)]
    assert two.told == [(ME, LinkState.UP)]
    for stamp in range(1000):
        one.links.send((TWO,), heartbeat(ME, stamp))
    two.links.send((ME,), accept(TWO))
    pump(lambda: len(two.received) == 1000 and one.received)
    assert two.received == [(ME, heartbeat(ME, stamp)) for stamp in range(1000)]
    assert one.received == [(TWO, accept(TWO))]
    link = one.links.links[TWO]
    assert isinstance(link._connection.transport, DirectClient) is direct  # type: ignore[union-attr]
    assert link.bytes_sent == two.links.bytes_received(ME)
    assert link.rtt_ms() is not None


def test_large_messages_pass_with_back_pressure(two_nodes: tuple[Node, Node], pump: Pump) -> None:
    one, two = two_nodes
    for number in range(20):
        one.links.send((TWO,), accept(ME, bytes([number]) * 2_000_000))
    pump(lambda: len(two.received) == 20)
    assert [message.values[0] for _, message in two.received] == list(range(20))
    assert one.links.dropped() == {"injected": 0, "overflow": 0, "unconnected": 0}


def test_a_crash_shows_as_lost_and_refused_and_a_restart_as_up(two_nodes: tuple[Node, Node], pump: Pump) -> None:
    one, two = two_nodes
    two.crash()
    pump(lambda: len(one.told) == 3)
    assert [state for _, state in one.told] == [LinkState.UP, LinkState.LOST, LinkState.REFUSED]
    pump(lambda: not two.connections.alive)
    two.start(ME, one.number)
    pump(lambda: one.told[-1] == (TWO, LinkState.UP) and two.told[-1] == (ME, LinkState.UP))
    assert REDIAL_MAX_S <= 1.0
    one.links.send((TWO,), heartbeat(ME))
    pump(lambda: two.received)


def test_a_socket_has_the_options_that_a_link_needs(two_nodes: tuple[Node, Node]) -> None:
    one, _ = two_nodes
    for connection in one.connections.alive:
        sock = connection.transport.getHandle()  # type: ignore[union-attr]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000


_message = msgspec.msgpack.Decoder(ClientWelcome | Answer | ProtocolError)


class Client:
    """A blocking client."""

    def __init__(self, node: Node, pump: Pump, client: int = 7) -> None:
        self.pump = pump
        self.reader = FrameReader(1 << 24)
        self.sock = socket.create_connection((HOST, node.number))
        self.sock.sendall(frame(encode(client_hello(client=client))))
        self.frames: list[Any] = []
        assert isinstance(self.receive(1)[0], ClientWelcome)

    def receive(self, count: int) -> list[Any]:
        """Wait for so many further frames."""
        self.sock.setblocking(False)

        def is_done() -> bool:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                return False
            self.frames.extend(map(_message.decode, self.reader.feed(data)))
            return len(self.frames) >= count

        if len(self.frames) < count:
            self.pump(is_done)
        taken, self.frames = self.frames[:count], self.frames[count:]
        return taken


def test_requests_and_replies_cross_real_sockets(two_nodes: tuple[Node, Node], pump: Pump) -> None:
    one, _ = two_nodes
    one.requests.on_each = lambda command: one.clients.reply(
        command.client, Answer(command.client, command.seq, BankResult(3, command.seq))
    )
    client = Client(one, pump)
    client.sock.sendall(b"".join(frame(request(seq)) for seq in range(1, 2001)))
    assert [reply.seq for reply in client.receive(2000)] == list(range(1, 2001))
    client.sock.close()


def test_last_words_reach_a_client_that_goes_on_sending(two_nodes: tuple[Node, Node], pump: Pump) -> None:
    one, _ = two_nodes
    client = Client(one, pump)
    client.sock.sendall(frame(b"\xc0"))
    pump(lambda: one.connections.rejected)
    client.sock.setblocking(True)
    client.sock.sendall(frame(request(1)) * 1000)  # a close with this unread would be a reset
    (reply,) = client.receive(1)
    assert isinstance(reply, ProtocolError)
    client.sock.close()


def test_a_client_that_never_reads_is_cut_off_and_others_are_served(two_nodes: tuple[Node, Node], pump: Pump) -> None:
    one, _ = two_nodes
    deaf, bystander = Client(one, pump), Client(one, pump, client=8)
    deaf.sock.sendall(frame(request(1)))
    bystander.sock.sendall(frame(request(1, client=8)))
    pump(lambda: len(one.requests.taken) == 2)
    big = Answer(ClientId(7), 1, BankResult(3, 1, "x" * 500_000))

    def is_cut_off() -> bool:
        for _ in range(CLIENT_BUFFER_BYTES_MAX // 500_000):
            one.clients.reply(7, big)
        return bool(one.connections.rejected)

    pump(is_cut_off)
    assert one.connections.rejected == {("client", "slow"): 1}
    one.clients.reply(8, Answer(ClientId(8), 1, BankResult(3, 1)))
    (reply,) = bystander.receive(1)
    assert reply.client == 8
    deaf.sock.close()
    bystander.sock.close()


def test_a_congested_node_leaves_requests_in_the_sockets(two_nodes: tuple[Node, Node], pump: Pump) -> None:
    one, _ = two_nodes
    client = Client(one, pump)
    one.requests.is_congested = True
    client.sock.setblocking(True)
    count = 50_000
    data = b"".join(frame(request(seq)) for seq in range(1, count + 1))
    client.sock.setblocking(False)

    def is_full() -> bool:
        nonlocal data
        try:
            data = data[client.sock.send(data) :]
        except BlockingIOError:
            return True
        return not data

    pump(is_full)
    for _ in range(20):
        one.reactor.iterate(0)
    assert one.requests.taken == []
    one.requests.is_congested = False
    one.turn.soon()
    pump(lambda: is_full() and len(one.requests.taken) == count)
    assert [command.seq for _, command in one.requests.taken] == list(range(1, count + 1))
    client.sock.close()


def test_frames_pass_between_two_connections_whatever_their_size(
    reactor: EPollReactor, pump: Pump, direct: bool
) -> None:
    turn = Turn(reactor)
    connections = Connections(reactor, turn, {})
    sockets = Sockets(reactor, direct)

    class Keep:
        def __init__(self) -> None:
            self.frames: list[bytes] = []
            self.is_lost = False

        def on_made(self) -> None: ...

        def on_frames(self, frames: Iterator[bytes]) -> None:
            self.frames.extend(frames)

        def on_bad_stream(self, text: str) -> None:
            raise AssertionError(text)

        def on_blocked(self, is_blocked: bool) -> None: ...

        def on_lost(self) -> None:
            self.is_lost = True

    ours, theirs = Keep(), Keep()
    listening = Factory.forProtocol(lambda: FrameConnection(connections, theirs, 1 << 24))
    dialling = ClientFactory.forProtocol(lambda: FrameConnection(connections, ours, 1 << 24))
    listening.noisy = dialling.noisy = False
    port = sockets.listen(HOST, 0, listening)
    sockets.connect(HOST, port.getHost().port, dialling)
    pump(lambda: len(connections.alive) == 2)
    rng = random.Random(2)
    payloads = [rng.randbytes(rng.choice([1, 22, 3_000, 400_000])) for _ in range(100)]
    sender = next(connection for connection in connections.alive if connection.role is ours)
    for index, payload in enumerate(payloads):
        sender.send(payload)
        if index % 7 == 0:
            reactor.iterate(0)
    sender.finish(b"last")
    pump(lambda: theirs.is_lost and ours.is_lost)
    assert theirs.frames == [*payloads, b"last"]
    port.stopListening()
