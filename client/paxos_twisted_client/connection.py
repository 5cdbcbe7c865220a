"""One TCP connection to one node: handshake, frames, and the three ways in which a node can be silent."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from typing import Protocol as Interface

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from paxos_twisted.limits import REPLY_FRAME_BYTES_MAX
from paxos_twisted.wire.client import Answer, Answers, Events, NoLeader, ProtocolError, Redirect, Refused, Unknown
from paxos_twisted.wire.frames import FrameError, FrameReader, frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientGreeting, ClientHello, ClientWelcome, Rejected
from paxos_twisted_client.codec import Codec
from paxos_twisted_client.endpoints import Address
from paxos_twisted_client.options import Patience
from paxos_twisted_client.reactor import Clock, DelayedCall, Endpoint

REDIRECT: Final = "redirect"
TIMEOUT_DIAL: Final = "timeout_dial"
TIMEOUT_READ: Final = "timeout_read"
TIMEOUT_WRITE: Final = "timeout_write"
CLOSED: Final = "closed"
ERROR: Final = "error"
NO_LEADER: Final = "no_leader"

CAUSES: Final = (REDIRECT, TIMEOUT_DIAL, TIMEOUT_READ, TIMEOUT_WRITE, CLOSED, ERROR, NO_LEADER)
"""Why a client leaves a node."""

TIMEOUTS: Final = frozenset({TIMEOUT_DIAL, TIMEOUT_READ, TIMEOUT_WRITE})

_greeting = msgspec.msgpack.Decoder(ClientGreeting)
NS: Final = 1_000_000_000

SLICES: Final = 4
"""Parts of a timeout, see "Timers" below."""


class Answered(Interface):
    """A session, as the connection knows it."""

    def on_answer(self, connection: "NodeConnection", answer: Answer[Any] | Answers[Any]) -> None:
        """The node answered one of this session's requests."""
        ...


class Owner(Interface):
    """Who dials connections: the pool."""

    @property
    def sessions(self) -> Mapping[int, Answered]:
        """The sessions by client id."""
        ...

    def on_open(self, connection: "NodeConnection", word: Redirect | NoLeader | None) -> None:
        """The node welcomed us. `word` is what it said right behind: that it does not lead."""
        ...

    def on_reply(self, connection: "NodeConnection", reply: Refused | Redirect | NoLeader | Unknown) -> None:
        """A reply that is not an answer."""
        ...

    def on_events(self, connection: "NodeConnection", events: Events[Any]) -> None:
        """Events of a topic that is followed."""
        ...

    def on_writable(self, connection: "NodeConnection") -> None:
        """The node takes bytes again."""
        ...

    def on_lost(self, connection: "NodeConnection", cause: str, text: str, waited_s: float) -> None:
        """Said once, unless we closed it: the connection ended, or never began. `waited_s` of that was waiting for a
        timeout."""
        ...


class NodeConnection(Protocol):
    """Dialled once, used until it ends. Frames written in one turn of the reactor leave in one write.

    It is also its transport's push producer: the transport says when the node takes no more bytes.
    """

    transport: Any

    def __init__(
        self,
        reactor: Clock,
        address: Address,
        owner: Owner,
        *,
        codec: Codec,
        hello: ClientHello,
        patience: Patience,
        now_ns: Callable[[], int],
        loses: Callable[[], bool] | None = None,
    ) -> None:
        """`loses` is asked for each message in either direction, and says whether the network loses it: for tests."""
        self.address = address
        self.welcome: ClientWelcome | None = None
        self.rejected: Rejected | None = None
        self.unanswered = 0  # requests sent here that wait for their reply; sessions and feeds count it down
        self.feeds_asked = 0  # those of them that are feeds' and say nothing of who leads
        self.strays = 0  # replies to requests that nobody here waits for
        self.is_paused = False
        self.is_over = False  # no more callbacks to the owner
        self._reactor = reactor
        self._owner = owner
        self._codec = codec
        self._hello = hello
        self._patience = patience
        self._now_ns = now_ns
        self._loses = loses
        self._reader = FrameReader(REPLY_FRAME_BYTES_MAX)
        self._out: list[bytes] = []
        self._in_turn = False
        self._flush_call: DelayedCall | None = None
        self._dialing: Deferred[Any] | None = None
        self._dial_timer: DelayedCall | None = None
        self._read_timer: DelayedCall | None = None
        self._write_timer: DelayedCall | None = None
        self._heard_ns = 0
        self._waiting_since_ns = 0
        self._read_due_ns = 0  # when `_read_timer` should fire
        self._word: Redirect | NoLeader | None = None
        self._has_opened = False
        self._gone: Deferred[None] = Deferred()
        self._is_gone = False

    # From the owner.

    @property
    def birth(self) -> int:
        """What the node had applied when it welcomed us."""
        assert self.welcome is not None
        return self.welcome.applied

    @property
    def window(self) -> int:
        """Requests of one session that may be unanswered here."""
        assert self.welcome is not None
        return self.welcome.window

    @property
    def is_open(self) -> bool:
        """Welcomed and not ended."""
        return self._has_opened and not self.is_over

    def dial(self, endpoint: Endpoint) -> None:
        """Connect and shake hands. The owner hears `on_open` or `on_lost`, never during this call."""
        self._dial_timer = self._reactor.callLater(self._patience.dial_s / SLICES, self._dial_slice, SLICES - 1)
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        self._dialing = endpoint.connect(factory)
        self._dialing.addCallbacks(self._dialled, self._dial_failed)

    def send(self, request: bytes, now_ns: int) -> None:
        """Send one framed request with what else is sent in this turn."""
        if not self.unanswered:
            self._waiting_since_ns = now_ns
            if self._read_timer is None:
                self._watch_silence(self._patience.read_s)
        self.unanswered += 1
        if self._loses is not None and self._loses():
            return
        self._out.append(request)
        if not self._in_turn and self._flush_call is None:
            self._flush_call = self._reactor.callLater(0, self._flush)

    def close(self) -> "Deferred[None]":
        """End the connection without telling the owner. Fires when the socket is closed."""
        done: Deferred[None] = Deferred()
        if self._is_gone:
            done.callback(None)
            return done
        self._gone.addCallback(lambda _: done.callback(None))
        if self.is_over:
            return done
        self._stop_timers()
        self.is_over = True
        if self.transport is None:
            self._cancel_dial()
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        return done

    # From Twisted.

    def makeConnection(self, transport: Any) -> None:
        if self.is_over:  # given up while the socket was connecting
            self.transport = transport
            transport.abortConnection()
            return
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def connectionMade(self) -> None:
        transport = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)
        transport.write(frame(msgspec.msgpack.encode(self._hello)))

    def dataReceived(self, data: bytes) -> None:
        if self.is_over:
            return
        self._heard_ns = self._now_ns()
        self._in_turn = True
        try:
            for payload in self._reader.feed(data):
                if self.welcome is None:
                    self._on_greeting(payload)
                elif self._loses is None or not self._loses():
                    self._on_payload(payload)
                if self.is_over:
                    return
        except (FrameError, msgspec.DecodeError) as error:
            self._end(ERROR, f"{self.address} does not speak our protocol: {error}")
            return
        finally:
            self._in_turn = False
        if self.welcome is not None and not self._has_opened:
            # Only now, so that "I do not lead" in the same piece is known before a request is wasted on this node.
            self._has_opened = True
            self._owner.on_open(self, self._word)
        if self._out and self._flush_call is None:
            self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.is_over:
            if isinstance(reason.value, ConnectionDone):
                self._end(CLOSED, f"{self.address} closed the connection")
            else:
                self._end(ERROR, f"{self.address}: {_in_words(reason)}")
        self._has_gone()

    def pauseProducing(self) -> None:
        """The transport's buffer is full: the node does not read."""
        self.is_paused = True
        if self._write_timer is None and not self.is_over:
            self._write_timer = self._reactor.callLater(self._patience.write_s, self._write_timeout)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self.is_paused = False
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if not self.is_over:
            self._owner.on_writable(self)

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""

    # Replies.

    def _on_greeting(self, payload: bytes) -> None:
        greeting = _greeting.decode(payload)
        if isinstance(greeting, Rejected):
            self.rejected = greeting
            self._end(ERROR, f"{self.address} rejected us: {greeting.text}")
        elif greeting.version != PROTOCOL_VERSION or greeting.cluster != self._hello.cluster:
            self._end(
                ERROR,
                f"{self.address} speaks version {greeting.version} for cluster {greeting.cluster!r}; "
                f"we speak version {PROTOCOL_VERSION} for {self._hello.cluster!r}",
            )
        else:
            self.welcome = greeting
            if self._dial_timer is not None:
                self._dial_timer.cancel()
                self._dial_timer = None

    def _on_payload(self, payload: bytes) -> None:
        reply = self._codec.decode(payload)
        if isinstance(reply, Answer | Answers):
            session = self._owner.sessions.get(reply.client)
            if session is None:
                self.strays += 1
            else:
                session.on_answer(self, reply)
        elif type(reply) is Events:
            self._owner.on_events(self, reply)
        elif isinstance(reply, ProtocolError):
            self._end(ERROR, f"{self.address} did not understand us: {reply.text}")
        elif not self._has_opened and isinstance(reply, Redirect | NoLeader) and reply.seq == 0:
            self._word = reply
        else:
            assert not isinstance(reply, Events)
            self._owner.on_reply(self, reply)

    # Timers. The time in which we were stopped or busy is not the node's fault, so
    # - each is confirmed after one more turn of the reactor, as timers run before sockets are looked at;
    # - a stall of ours, however long, counts as one slice of a timeout at most.

    def _dial_slice(self, left: int) -> None:
        if left:
            self._dial_timer = self._reactor.callLater(self._patience.dial_s / SLICES, self._dial_slice, left - 1)
        else:
            self._dial_timer = self._reactor.callLater(0, self._confirm_dial_timeout)

    def _confirm_dial_timeout(self) -> None:
        self._dial_timer = None
        wait_s = self._patience.dial_s
        self._end(TIMEOUT_DIAL, f"{self.address} did not welcome us within {wait_s:g} s", wait_s)

    def _write_timeout(self) -> None:
        self._write_timer = self._reactor.callLater(0, self._confirm_write_timeout)

    def _confirm_write_timeout(self) -> None:
        self._write_timer = None
        wait_s = self._patience.write_s
        self._end(TIMEOUT_WRITE, f"{self.address} has taken no bytes for {wait_s:g} s", wait_s)

    def _check_silence(self) -> None:
        self._read_timer = None
        if not self.unanswered:
            return
        read_s = self._patience.read_s
        left_s = read_s - self._silent_s()
        if self.is_paused:  # bytes wait to be written: the write timeout is in charge
            left_s = read_s
        elif left_s <= 0 and self._now_ns() - self._read_due_ns > read_s / SLICES * NS:
            left_s = read_s / SLICES
        if left_s > 0:
            self._watch_silence(left_s)
        else:
            self._read_timer = self._reactor.callLater(0, self._confirm_silence)

    def _watch_silence(self, after_s: float) -> None:
        self._read_due_ns = self._now_ns() + int(after_s * NS)
        self._read_timer = self._reactor.callLater(after_s, self._check_silence)

    def _confirm_silence(self) -> None:
        self._read_timer = None
        silent_s = self._silent_s()
        if self.unanswered and silent_s >= self._patience.read_s:
            self._end(TIMEOUT_READ, f"{self.address} has been silent for {silent_s:.3g} s", silent_s)
        else:
            self._check_silence()

    def _silent_s(self) -> float:
        """How long the node has owed us an answer without saying anything."""
        return (self._now_ns() - max(self._heard_ns, self._waiting_since_ns)) / NS

    # The end.

    def _flush(self) -> None:
        self._flush_call = None
        out, self._out = self._out, []
        if not self.is_over and self.transport is not None:
            self.transport.write(b"".join(out))

    def _dialled(self, _: object) -> None:
        self._dialing = None

    def _dial_failed(self, failure: Failure) -> None:
        self._dialing = None
        if not self.is_over:
            self._end(ERROR, f"{self.address}: {_in_words(failure)}")
        self._has_gone()

    def _end(self, cause: str, text: str, waited_s: float = 0.0) -> None:
        """Tell the owner, once, and let go of the socket at once: what waits in it is of no use any more."""
        assert not self.is_over
        self.is_over = True
        self._stop_timers()
        if self.transport is not None:
            self.transport.abortConnection()
        else:
            self._cancel_dial()
        self._owner.on_lost(self, cause, text, waited_s)

    def _cancel_dial(self) -> None:
        if self._dialing is None:
            self._has_gone()
        else:
            self._dialing.cancel()

    def _stop_timers(self) -> None:
        for call in (self._dial_timer, self._read_timer, self._write_timer, self._flush_call):
            if call is not None and call.active():
                call.cancel()
        self._dial_timer = self._read_timer = self._write_timer = self._flush_call = None

    def _has_gone(self) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._gone.callback(None)


def _in_words(failure: Failure) -> str:
    """Twisted's messages are long; these three are what people meet."""
    if isinstance(failure.value, ConnectionRefusedError):
        return "connection refused"
    if isinstance(failure.value, ConnectionLost):
        return "connection lost"
    if isinstance(failure.value, DNSLookupError):
        return "no such host"
    return failure.getErrorMessage().rstrip(".")
