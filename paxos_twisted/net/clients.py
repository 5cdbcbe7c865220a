"""The client port: reads requests, hands them to the driver, and sends each reply to where its client last asked."""

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import Command, Series
from paxos_twisted.limits import (
    CLIENT_ANSWERS_BYTES_MAX,
    CLIENT_BUFFER_BYTES_MAX,
    CLIENT_CONNECTIONS_MAX,
    CLIENT_FRAME_BYTES_MAX,
    CLIENT_SILENCE_S,
    COMMAND_BYTES_MAX,
    FEED_BUFFER_BYTES,
    SESSION_WINDOW,
    SESSIONS_PER_CONNECTION_MAX,
)
from paxos_twisted.net.connections import Connections
from paxos_twisted.net.delay import AnswerDelay
from paxos_twisted.net.feeds import Feeds
from paxos_twisted.net.framing import FrameConnection, notice_silence
from paxos_twisted.net.greeting import LocalNode
from paxos_twisted.types import NO_NODE, ClientId, NodeId, Slot
from paxos_twisted.wire.client import (
    Answer,
    Answers,
    Follow,
    NoLeader,
    ProtocolError,
    Redirect,
    Refused,
    Reply,
    Unfollow,
)
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome, Rejected

RETRY_AFTER_MS: Final = 10
"""What a client is told to wait when nobody leads: about as long as an election takes."""

SERIES: Final = "series"
"""What metrics call the operation of a request that is a series."""


class Requests(Protocol):
    """The driver, as the client port sees it. Nothing in it raises."""

    @property
    def is_congested(self) -> bool:
        """Clients should not be read now."""
        ...

    @property
    def leader(self) -> NodeId:
        """The known leader, or NO_NODE."""
        ...

    def on_request(self, raw: bytes, command: Command[Any] | Series[Any]) -> None:
        """Take a request, as bytes and decoded. Exactly one reply will follow."""
        ...


class Times(Protocol):
    """A histogram of seconds."""

    def observe(self, value: float) -> None:
        """Count one value."""
        ...


class ClientMetrics(Protocol):
    """Where the client port counts."""

    client_requests: dict[tuple[str, str], int]
    """Replies, by operation and outcome (see `_outcome`)."""
    client_redirects: dict[str, int]
    """By when it was said: "connect" or "request"."""
    feed_followers: int
    feed_events: int

    @property
    def client_request_duration(self) -> Mapping[str, Times]:
        """From the arrival of a request that was answered to its answer, by operation."""
        ...


class ClientPort:
    """The `Clients` of the driver.

    Args:
        addresses: host:port of every node, for redirects.
        applied: the last applied slot, or whatever else clients take for the birth of a session.
        delay: holds answers back, if the node was told to.
    """

    def __init__(
        self,
        *,
        local: LocalNode,
        application: Application,
        addresses: Mapping[NodeId, str],
        connections: Connections,
        requests: Requests,
        applied: Callable[[], Slot],
        metrics: ClientMetrics,
        delay: AnswerDelay | None = None,
    ) -> None:
        self.local = local
        self.application = application
        self.connections = connections
        self.requests = requests
        self.streams: dict[ClientStream, None] = {}
        """All connected clients: a set that keeps its order."""
        self.by_client: dict[int, ClientStream] = {}
        """Where each client last sent a request."""
        self.connected: Container[int] = self.by_client
        """The clients that a reply would reach, for the driver."""
        self.is_draining = False
        """The node stops: requests are no longer taken."""
        frame_type: Any = Command[application.op_type]  # type: ignore[name-defined]
        self.encode = msgspec.msgpack.Encoder().encode
        has_rereads = type(application).is_reread is not Application.is_reread
        self.is_reread = application.is_reread if has_rereads else None
        self.metrics = metrics
        self.feeds: Feeds | None = None
        """Who follows what; None when the application has no feeds."""
        if application.event_type is not None:
            frame_type |= Follow | Unfollow
            soon = connections.turn.soon
            self.feeds = Feeds(application, self.encode, soon, lambda: requests.leader, metrics)
        if application.takes_series:
            frame_type |= Series[application.op_type]  # type: ignore[name-defined]
        self.decode = msgspec.msgpack.Decoder(frame_type).decode
        self.delay = delay
        self._addresses = addresses
        self._applied = applied
        self._holding: dict[ClientStream, None] = {}

    def welcome(self, connection: FrameConnection, hello: ClientHello) -> "ClientStream | None":
        """Take a client's connection, or reject it and return None."""
        rejected = self.local.check_client(hello)
        if rejected is None and self.is_draining:
            rejected = Rejected("full", f"node {self.local.node} is stopping; ask another node")
        if rejected is None and len(self.streams) >= CLIENT_CONNECTIONS_MAX:
            rejected = Rejected("full", f"node {self.local.node} serves {CLIENT_CONNECTIONS_MAX} connections already")
        if rejected is not None:
            self.connections.count("client", rejected.reason, f"{connection.address}: {rejected.text}")
            connection.finish(self.encode(rejected))
            return None
        connection.reader.bytes_max = CLIENT_FRAME_BYTES_MAX
        notice_silence(connection, CLIENT_SILENCE_S)
        node = self.local.node
        connection.send(
            self.encode(ClientWelcome(PROTOCOL_VERSION, self.local.cluster, node, self._applied(), SESSION_WINDOW))
        )
        leader = self.requests.leader
        client = ClientId(hello.client)
        if leader == NO_NODE:
            text = f"node {node} knows no leader now"
            connection.send(self.encode(NoLeader(client, 0, RETRY_AFTER_MS, text)))
        elif leader != node:
            self.metrics.client_redirects["connect"] += 1
            connection.send(self.encode(Redirect(client, 0, leader, self._addresses[leader])))
        stream = ClientStream(self, connection, hello.client)
        self.streams[stream] = None
        return stream

    def reply(self, client: int, reply: Reply) -> None:
        """Send a reply at the end of this turn, if the client is connected here. Never raises or disturbs others."""
        stream = self.by_client.get(client)
        if stream is not None:
            stream.reply(client, reply)

    def hold(self, stream: "ClientStream") -> None:
        """Remember a connection that is not read because the driver has enough to do."""
        self._holding[stream] = None

    def release(self) -> None:
        """Read again the connections that were held, as far as the driver takes it. Called at the end of each turn."""
        while self._holding and not self.requests.is_congested:
            stream = next(iter(self._holding))
            del self._holding[stream]
            stream.release()

    def forget(self, stream: "ClientStream") -> None:
        """A connection has ended."""
        self.streams.pop(stream, None)
        self._holding.pop(stream, None)
        if self.feeds is not None:
            self.feeds.forget(stream)
        by_client = self.by_client
        for client in stream.clients:
            if by_client.get(client) is stream:
                del by_client[client]


class ClientStream:
    """The role of a connection of a client, or of a program that speaks for many clients."""

    def __init__(self, port: ClientPort, connection: FrameConnection, client: int) -> None:
        self.connection = connection
        self.clients: set[int] = set()
        """Those whose requests came over this connection."""
        self._port = port
        self._client = client
        # Requests without a reply: (arrival, operation) by seq, or by (client, seq) for clients other than the first.
        self._open: dict[int | tuple[int, int], tuple[float, str]] = {}
        self._rereads: set[int | tuple[int, int]] = set()
        """Those of `_open` that only read and whose outcome nobody keeps."""
        self._held: list[Iterator[bytes]] = []  # frames that came when the driver had enough to do
        self._is_reading = True
        self._is_blocked = False

    def on_made(self) -> None:
        """The connection was made before it had this role."""

    def on_frames(self, frames: Iterator[bytes]) -> None:
        """Take requests."""
        port = self._port
        requests = port.requests
        if self._held or requests.is_congested:
            self._held.append(frames)
            port.hold(self)
            self._read_or_not()
            return
        decode, by_client, operation_name = port.decode, port.by_client, port.application.op_name
        own, open_requests, is_reread = self._client, self._open, port.is_reread
        now = port.connections.clock.seconds()
        for payload in frames:
            try:
                command = decode(payload)
            except Exception as error:  # whatever a decoder may find to raise: it is the stream's fault, not ours
                self._fail(f"this is no request of the application {port.application.name!r}: {error}")
                break
            kind = type(command)
            if kind is not Command and kind is not Series:
                if not self._follow(command):
                    break
                continue
            client = command.client
            if by_client.get(client) is not self and not self._speaks_for(client):
                break
            if len(payload) > COMMAND_BYTES_MAX or port.is_draining:
                self._turn_down(client, command.seq, len(payload))
                continue
            key = command.seq if client == own else (client, command.seq)
            if kind is Series:
                open_requests[key] = now, SERIES
            else:
                open_requests[key] = now, operation_name(command.op)
                if is_reread is not None and is_reread(command.op):
                    self._rereads.add(key)
            requests.on_request(payload, command)

    def on_bad_stream(self, text: str) -> None:
        """Say so and close."""
        self._fail(text)

    def on_blocked(self, is_blocked: bool) -> None:
        """A client that does not read its replies is not read either."""
        self._is_blocked = is_blocked
        self._read_or_not()
        if not is_blocked and self._port.feeds is not None:
            self._port.feeds.on_writable(self)

    def on_lost(self) -> None:
        """Its requests go on; their replies go nowhere, or to where the client asks again."""
        self._held.clear()
        self._port.forget(self)

    def release(self) -> None:
        """Take the requests that were held."""
        held, self._held = self._held, []
        for frames in held:
            if self.connection.is_open:
                self.connection.process(frames)  # holds them again once the driver has had enough
        self._read_or_not()

    def reply(self, client: int, reply: Reply) -> None:
        """Send one reply, at the end of this turn unless it is one of those that wait."""
        delay = self._port.delay
        if delay is not None and type(reply) is Answer and not delay.is_full:
            entry = self._open.get(reply.seq if client == self._client else (client, reply.seq))
            if entry is not None and entry[1] in delay.operations:
                delay.put(lambda: self._send(client, reply))
                return
        self._send(client, reply)

    def _send(self, client: int, reply: Reply) -> None:
        connection, port = self.connection, self._port
        if isinstance(reply, ProtocolError):
            connection.send(port.encode(reply))
            return
        key = reply.seq if client == self._client else (client, reply.seq)
        if connection.out_bytes > CLIENT_ANSWERS_BYTES_MAX:
            connection.push()  # much may have gathered in this turn without any fault of the client
            if connection.out_bytes > CLIENT_BUFFER_BYTES_MAX:
                port.connections.count("client", "slow", f"{connection.address} does not read its answers")
                connection.abort()
            elif connection.out_bytes > CLIENT_ANSWERS_BYTES_MAX and key in self._rereads and type(reply) is Answer:
                # It asked for much at once. A read has changed nothing: it may come again as if it had not been.
                text = f"{connection.out_bytes} bytes of answers wait to be read"
                reply = Refused(reply.client, reply.seq, "overloaded", text)
        connection.send(port.encode(reply))
        self._rereads.discard(key)
        entry = self._open.pop(key, None)
        if entry is None:  # answered before: the client had repeated its request
            return
        arrival, operation = entry
        metrics = port.metrics
        if isinstance(reply, Answer | Answers):
            outcome = "ok" if operation == SERIES else port.application.outcome(reply.result)
            metrics.client_request_duration[operation].observe(port.connections.turn.now - arrival)
        else:
            outcome = _outcome(reply)
            if outcome == "redirected":
                metrics.client_redirects["request"] += 1
        metrics.client_requests[operation, outcome] += 1

    # What the feeds call

    @property
    def is_blocked(self) -> bool:
        """The client does not read."""
        return self._is_blocked

    @property
    def room_bytes(self) -> int:
        """How many more bytes of events may be sent in this turn."""
        return FEED_BUFFER_BYTES - self.connection.out_bytes

    def send_events(self, payload: bytes) -> None:
        """Send one frame at the end of this turn."""
        self.connection.send(payload)

    def on_no_leader(self) -> None:
        """Say that this node knows no leader any more."""
        text = f"node {self._port.local.node} knows no leader now"
        reply = NoLeader(ClientId(self._client), 0, RETRY_AFTER_MS, text)
        self.connection.send(self._port.encode(reply))

    def _follow(self, message: Follow | Unfollow) -> bool:
        assert self._port.feeds is not None
        trouble = self._port.feeds.take(self, message)
        if trouble is not None:
            self._fail(trouble)
        return trouble is None

    def _speaks_for(self, client: int) -> bool:
        if client not in self.clients and len(self.clients) >= SESSIONS_PER_CONNECTION_MAX:
            self._fail(f"a connection speaks for at most {SESSIONS_PER_CONNECTION_MAX} clients")
            return False
        self.clients.add(client)
        self._port.by_client[client] = self
        return True

    def _turn_down(self, client: ClientId, seq: int, size: int) -> None:
        reply: Reply
        if size > COMMAND_BYTES_MAX:
            reply = Refused(client, seq, "invalid", f"a request of {size} bytes; {COMMAND_BYTES_MAX} are allowed")
        else:
            reply = NoLeader(client, seq, RETRY_AFTER_MS, f"node {self._port.local.node} is stopping; ask another node")
        self.reply(client, reply)

    def _fail(self, text: str) -> None:
        self._port.connections.count("client", "frame", f"{self.connection.address}: {text}")
        self.connection.finish(self._port.encode(ProtocolError(text)))

    def _read_or_not(self) -> None:
        should_read = not (self._held or self._is_blocked)
        if should_read is not self._is_reading:
            self._is_reading = should_read
            if should_read:
                self.connection.resume_reading()
            else:
                self.connection.pause_reading()


def operations_of(application: Application) -> tuple[str, ...]:
    """What metrics may call a request to this application."""
    return (*application.op_names, SERIES) if application.takes_series else application.op_names


def _outcome(reply: Reply) -> str:
    """The word of the metrics for a reply that is no Answer."""
    match reply:
        case Refused(reason="overloaded"):
            return "overloaded"
        case Refused(reason="disk-full"):
            return "disk_full"
        case Refused():
            return "refused"
        case Redirect():
            return "redirected"
        case NoLeader():
            return "no_leader"
        case _:
            return "unknown"
