"""A stage on which a test plays the nodes, one message at a time, and a client pool acts. Virtual time, no sockets."""

from random import Random
from typing import Any

import msgspec
from paxos_twisted_client.endpoints import Address
from paxos_twisted_client.options import Patience
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.session import Request
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from paxos_twisted.apps.bank import Bank, BankResult
from paxos_twisted.core.command import Command, Series
from paxos_twisted.limits import SESSION_WINDOW
from paxos_twisted.types import NodeId
from paxos_twisted.wire.client import Answer, NoLeader, Redirect
from paxos_twisted.wire.frames import FrameReader, frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Command[Bank.op_type] | Series[Bank.op_type] | ClientHello).decode


class Wire(StringTransport):
    """A transport that ends when it is told to, one turn later."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.protocol: Any = None
        self.writes: list[bytes] = []
        self.is_gone = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive = enabled

    def write(self, data: bytes) -> None:
        if not self.is_gone:
            self.writes.append(data)

    def loseConnection(self) -> None:
        self.clock.callLater(0, self.end, ConnectionDone())

    def abortConnection(self) -> None:
        self.clock.callLater(0, self.end, ConnectionAborted())

    def end(self, reason: Exception) -> None:
        if not self.is_gone:
            self.is_gone = True
            self.protocol.connectionLost(Failure(reason))


class Node:
    """One node as the client sees it. `stage.nodes[i]` plays node i + 1."""

    def __init__(self, stage: "Stage", index: int) -> None:
        self.stage = stage
        self.node = NodeId(index + 1)
        self.address = Address("10.0.0.1", 7101 + index)
        self.dials: list[tuple[Deferred[Any], Any]] = []  # not yet accepted
        self.dialled = 0
        self.wire: Wire | None = None
        self.reader = FrameReader(1 << 20)

    # What the client did.

    @property
    def is_dialled(self) -> bool:
        """Whether the client waits for us to accept."""
        return bool(self.dials)

    @property
    def is_connected(self) -> bool:
        return self.wire is not None and not self.wire.is_gone

    def hears(self) -> list[Any]:
        """Everything that the client has sent since the last call."""
        self.stage.clock.advance(0)
        assert self.wire is not None
        data = b"".join(self.wire.writes)
        self.wire.writes.clear()
        return [_decode(payload) for payload in self.reader.feed(data)]

    def hears_requests(self) -> list[Command[Any]]:
        """The same, without the hello."""
        return [message for message in self.hears() if isinstance(message, Command)]

    # What we do.

    def accept(self) -> "Node":
        done, factory = self.dials.pop(0)
        self.wire = Wire(self.stage.clock)
        self.reader = FrameReader(1 << 20)
        protocol = self.wire.protocol = factory.buildProtocol(None)
        protocol.makeConnection(self.wire)
        done.callback(protocol)
        return self

    def refuse(self) -> None:
        self.dials.pop(0)[0].errback(Failure(ConnectionRefusedError()))
        self.stage.clock.advance(0)

    def say(self, *messages: Any) -> "Node":
        """Send messages in one piece."""
        return self.say_bytes(b"".join(frame(_encode(message)) for message in messages))

    def say_bytes(self, data: bytes) -> "Node":
        assert self.wire is not None
        if not self.wire.is_gone:
            self.wire.protocol.dataReceived(data)
        self.stage.clock.advance(0)
        return self

    def welcome(self, *words: Any, applied: int = -1, window: int = SESSION_WINDOW) -> "Node":
        """Accept, and welcome the client; `words` follow in the same piece."""
        if self.dials:
            self.accept()
        return self.say(ClientWelcome(PROTOCOL_VERSION, "demo", self.node, applied, window), *words)

    def answer(self, command: Command[Any], balance: int = 7) -> "Node":
        return self.say(Answer(command.client, command.seq, BankResult(command.op.account, balance)))

    def redirect(self, command: Command[Any], to: "Node") -> "Node":
        return self.say(self.redirection(to, command.client, command.seq))

    def redirection(self, to: "Node", client: Any = 0, seq: int = 0) -> Redirect:
        return Redirect(client, seq, to.node, str(to.address))

    def no_leader(self, command: Command[Any], retry_after_ms: int = 0) -> "Node":
        return self.say(NoLeader(command.client, command.seq, retry_after_ms, "an election runs"))

    def close(self) -> None:
        self._end(ConnectionDone())

    def reset(self) -> None:
        self._end(ConnectionLost())

    def _end(self, reason: Exception) -> None:
        assert self.wire is not None
        self.wire.end(reason)
        self.stage.clock.advance(0)

    # As an endpoint.

    def connect(self, factory: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.dials.append((done, factory))
        self.dialled += 1
        done.addErrback(self._cancelled)
        return done

    def _cancelled(self, failure: Failure) -> Failure:
        self.dials = [dial for dial in self.dials if not dial[0].called]
        return failure


class Stage:
    """A pool and its nodes."""

    def __init__(self, nodes: int = 3, **patience: float) -> None:
        self.clock = Clock()
        self.nodes = [Node(self, index) for index in range(nodes)]
        self.strangers: list[Address] = []
        self.pool = Pool(
            self.clock,
            [node.address for node in self.nodes],
            cluster="demo",
            application="bank",
            patience=Patience(**patience),
            rng=Random(1),
            now_ns=lambda: round(self.clock.seconds() * 1e9),
            endpoint=self._endpoint,
        )

    def _endpoint(self, address: Address) -> Any:
        for node in self.nodes:
            if node.address == address:
                return node
        self.strangers.append(address)
        return Stranger()

    def submit(self, session: Any, op: Any) -> Request:
        request: Request = session.submit(op, lambda request: None)
        self.clock.advance(0)
        return request

    def run(self, seconds: float, step: float = 0.001) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    @property
    def dialled(self) -> list[Node]:
        """The nodes that the client waits for."""
        return [node for node in self.nodes if node.is_dialled]

    def end(self) -> None:
        """Close the pool; nothing may be left behind."""
        closed: list[None] = []
        self.pool.close().addCallback(closed.append)
        self.clock.advance(0)
        self.clock.advance(0)
        assert closed == [None]
        assert self.clock.getDelayedCalls() == []


class Stranger:
    """An address that nobody listens on."""

    def connect(self, factory: Any) -> Deferred[Any]:
        failed: Deferred[Any] = Deferred()
        failed.errback(Failure(ConnectionRefusedError()))
        return failed
