"""The client's view of a cluster: at most one connection to each node, one of them in use, and when to leave it.

Looking for the leader goes in rounds. In a round each node is asked at most once, so nodes that redirect to each other
end a round instead of the client; and then comes a pause that grows from round to round. The first round begins at once
when a connection is lost: a process that died refuses us at once, and a redirect to it costs nothing.

    look_for_leader ─> ask: dial, or use the connection that is there
                        ├─ welcomed ─────────────> in use ── answers ──> settled: the next trouble starts a new round
                        ├─ refused, rejected, timeout ─> next                      │
                        └─ redirect, no leader <───────────────────────────────────┘
                             └─> the named node, or next; none left: pause, then a new round
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from time import monotonic_ns
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList

from paxos_twisted.types import ClientId
from paxos_twisted.wire.client import Events, NoLeader, Redirect, Refused, Unknown
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello
from paxos_twisted_client.codec import Codec
from paxos_twisted_client.connection import CAUSES, NO_LEADER, NS, REDIRECT, TIMEOUTS, NodeConnection
from paxos_twisted_client.endpoints import Address, parse_address, tcp_endpoint
from paxos_twisted_client.feed import Feed
from paxos_twisted_client.limits import HOPS_MAX, MOVES_KEPT, STEPS_KEPT
from paxos_twisted_client.options import Patience
from paxos_twisted_client.reactor import Clock, DelayedCall, Endpoint
from paxos_twisted_client.session import Session


class Move(NamedTuple):
    """The client left a node, or did not reach it."""

    time_ns: int
    address: Address
    cause: str
    """One of `paxos_twisted_client.connection.CAUSES`."""
    text: str
    waited_s: float
    """How long we had waited for a timeout; 0 for other causes."""


class Step(NamedTuple):
    """What the client did on its way to a node that answers."""

    time_ns: int
    what: str
    """dial, welcome (the node greets us), use (a connection that is there), left, pause (no node helped), resume."""
    address: str = ""
    cause: str = ""
    """Why it left, see `Move`."""


class Pool:
    """Connections to one cluster, shared by any number of sessions."""

    def __init__(
        self,
        reactor: Clock,
        addresses: Sequence[Address],
        *,
        cluster: str,
        application: str,
        patience: Patience | None = None,
        rng: Random | None = None,
        credential: str = "",
        now_ns: Callable[[], int] = monotonic_ns,
        endpoint: Callable[[Address], Endpoint] | None = None,
        on_move: Callable[[Move], None] | None = None,
        loss: float = 0.0,
    ) -> None:
        """`endpoint` makes what dials an address: TCP by default. `rng` draws client ids and jitter. `loss` is the
        share of messages, in either direction, that this client treats as lost by the network: for tests."""
        assert addresses
        self.patience = patience or Patience()
        self.now_ns = now_ns
        self.codec = Codec(application)
        self.sessions: dict[int, Session] = {}
        self.feeds: dict[str, Feed] = {}
        """What is followed, by topic."""
        self.current: NodeConnection | None = None  # open, and as far as we know the leader's
        self.is_settled = False  # the current node has answered a request
        self.reconnects = dict.fromkeys(CAUSES, 0)  # how often we left a node, or did not reach it
        self.moves: deque[Move] = deque(maxlen=MOVES_KEPT)
        self.steps: deque[Step] = deque(maxlen=STEPS_KEPT)
        self.trouble = ""  # what went wrong last, for people; "" while all is well
        self._reactor = reactor
        self._addresses = tuple(dict.fromkeys(addresses))
        self._cluster = cluster
        self._credential = credential
        self._rng = rng or Random()
        self._loses = None if not loss else lambda: self._rng.random() < loss
        self._endpoint = endpoint or (lambda address: tcp_endpoint(reactor, address))
        self.on_move = on_move
        self._connections: dict[Address, NodeConnection] = {}  # at most one for each node; dialling or open
        self._candidate: NodeConnection | None = None  # the one that is dialling
        self._pause: DelayedCall | None = None
        self._pause_s = self.patience.pause_min_s
        self._asked: set[Address] = set()  # in this round
        self._last = -1  # index of the listed address that was tried last
        self._hint: Address | None = None  # where the leader is said to be
        self._not_before_ns: dict[Address, int] = {}  # nodes that asked us to come back later
        self._distrust_until_ns: dict[Address, int] = {}  # nodes that were silent: their fellows may not know yet
        self._rejections: dict[Address, str] = {}
        self._opening: list[Deferred[None]] = []  # fire when a node is in use that may lead
        self._is_closed = False

    # From the program.

    def session(self) -> Session:
        """Open a session: a new random client id. Nothing is sent before its first request."""
        assert not self._is_closed
        session = Session(self, self._reactor, self._rng)
        self.sessions[session.client] = session
        return session

    def follow(
        self,
        topic: str,
        start: int,
        on_events: Callable[[int, Sequence[Any]], None],
        on_gap: Callable[[int, int], None] | None = None,
    ) -> Feed:
        """Get the events of a topic from position `start` on (-10: the last ten), whatever node is in use.

        `on_events(first, events)` gets each event once and in order; an empty list once says that there are none yet.
        `on_gap(first, stop)` is told of positions that the cluster had forgotten before they reached us.
        """
        assert topic not in self.feeds
        feed = Feed(self, self._reactor, topic, start, on_events, on_gap)
        self.feeds[topic] = feed
        self._pump()
        self.look_for_leader()
        return feed

    def forget(self, session: Session) -> None:
        """Replies to this session are strays from now on."""
        self.sessions.pop(session.client, None)

    def connect(self) -> "Deferred[None]":
        """Look for the leader now, without a request. Fires when a node is in use that has not sent us elsewhere, or
        when the pool gives up: all nodes reject us, or it was closed. `current` tells."""
        done: Deferred[None] = Deferred()
        if self.current is not None:
            done.callback(None)
        else:
            self._opening.append(done)
            self.look_for_leader()
        return done

    def renew(self, session: Session) -> Session:
        """Open a session in the place of one that has expired. What is unanswered in the old one ends there."""
        if not session.outstanding:
            session.close()
        self._refresh()
        return self.session()

    def _refresh(self) -> None:
        """Leave the current connection for a new one: a new session needs a recent welcome."""
        connection, self.current = self.current, None
        if connection is not None:
            self._drop(connection)
            self._hint = connection.address
            self._new_trouble()
        self.look_for_leader()

    def steps_since(self, time_ns: int) -> Sequence[Step]:
        """What the client has done since then to reach a node that answers: nothing, as a rule."""
        steps = self.steps
        if not steps or steps[-1].time_ns < time_ns:
            return ()
        return [step for step in steps if step.time_ns >= time_ns]

    @property
    def leader(self) -> str:
        """The node in use, for people; "" when there is none."""
        if self.current is None or self.current.welcome is None:
            return ""
        return f"node {self.current.welcome.node} at {self.current.address}"

    def close(self) -> "Deferred[None]":
        """End all requests and connections. Fires when every socket is closed."""
        self._is_closed = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        for feed in list(self.feeds.values()):
            feed.close()
        for session in list(self.sessions.values()):
            session.close()
        connections, self._connections = list(self._connections.values()), {}
        self.current = self._candidate = None
        self._opened()
        return DeferredList([connection.close() for connection in connections]).addCallback(lambda _: None)

    # From sessions.

    def look_for_leader(self) -> None:
        """Begin a round, unless one is under way."""
        if self._is_closed or self.current or self._candidate or self._pause:
            return
        self._asked.clear()
        self._ask_next()

    def settle(self, connection: NodeConnection) -> None:
        """A node has answered a request: it leads, and the next trouble is a new one."""
        if connection is not self.current:
            return
        self.is_settled = True
        self._hint = connection.address
        self._pause_s = self.patience.pause_min_s
        self.trouble = ""
        self._asked.clear()
        self._not_before_ns.clear()
        for other in list(self._connections.values()):
            if other is not connection and not other.unanswered:
                self._drop(other)

    # From connections.

    def on_open(self, connection: NodeConnection, word: Redirect | NoLeader | None) -> None:
        """The candidate has welcomed us."""
        assert connection is self._candidate
        self._candidate = None
        self._step("welcome", connection.address)
        self._rejections.clear()
        self.current = connection
        if word is not None:
            self._on_word(connection, word)
        else:
            self._pump()
            self._opened()

    def on_reply(self, connection: NodeConnection, reply: Refused | Redirect | NoLeader | Unknown) -> None:
        """A node did not answer a request, or says by itself (seq 0) that it does not lead."""
        if reply.seq == 0:
            # Requests under way there get their own replies, which decide.
            if isinstance(reply, Redirect | NoLeader) and connection.unanswered == connection.feeds_asked:
                self._on_word(connection, reply)
            return
        session = self.sessions.get(reply.client)
        if session is None:
            connection.strays += 1
            return
        if not session.on_reply(connection, reply):
            return
        if not isinstance(reply, Refused):
            self._on_word(connection, reply)
        session.pump()  # another node may be in use already

    def on_events(self, connection: NodeConnection, events: Events[Any]) -> None:
        """A node tells what happened in a topic."""
        feed = self.feeds.get(events.topic)
        if feed is not None and feed.connection is connection:
            feed.take(events)

    def on_writable(self, connection: NodeConnection) -> None:
        """Send what was kept back."""
        if connection is self.current:
            self._pump()

    def on_lost(self, connection: NodeConnection, cause: str, text: str, waited_s: float) -> None:
        """A connection ended, or never began."""
        address = connection.address
        self._connections.pop(address, None)
        self.trouble = text
        if cause in TIMEOUTS:
            self._distrust_until_ns[address] = self.now_ns() + int(self.patience.read_s * NS)
        if connection.rejected is not None and connection.rejected.reason != "full":
            self._rejections[address] = text
        was_used = connection is self.current or connection is self._candidate
        if connection is self._candidate:
            self._candidate = None
        if connection is self.current:
            self.current = None
            self._new_trouble()
        if was_used:
            if self._hint == address:
                self._hint = None
            self._count(address, cause, text, waited_s)
        self._forget_connection(connection)
        if not was_used:
            self._pump()
        elif self._is_wanted():
            self._ask_next()

    # Inside.

    def _on_word(self, connection: NodeConnection, word: Redirect | NoLeader | Unknown) -> None:
        """A node does not lead: leave it, keep the connection, for later or for replies that are under way."""
        if connection is not self.current:
            return
        address = connection.address
        self.current = None
        self._new_trouble()
        self._asked.add(address)
        self._hint = None
        cause = NO_LEADER
        if isinstance(word, Redirect):
            cause = REDIRECT
            text = f"{address} says that node {word.leader} at {word.address} leads"
            try:
                self._hint = parse_address(word.address)
            except ValueError:
                text = f"{address} redirects to {word.address!r}, which is no address"
        else:
            text = f"{address}: {word.text}"
            if isinstance(word, NoLeader):
                wait_ms = min(max(word.retry_after_ms, 0), int(self.patience.request_s * 1000))
                self._not_before_ns[address] = self.now_ns() + wait_ms * 1_000_000
        self.trouble = text
        self._count(address, cause, text, 0.0)
        if self._is_wanted():
            self._ask_next()

    def _new_trouble(self) -> None:
        if self.is_settled:
            self.is_settled = False
            self._asked.clear()

    def _is_wanted(self) -> bool:
        return not self._is_closed and (
            bool(self._opening) or bool(self.feeds) or any(session.outstanding for session in self.sessions.values())
        )

    def _ask_next(self) -> None:
        """Ask the next node of this round, or end the round."""
        now_ns = self.now_ns()
        address = self._choose(now_ns)
        if address is None:
            self._end_round(now_ns)
            return
        self._asked.add(address)
        connection = self._connections.get(address)
        if connection is not None:
            self._step("use", address)
            self.current = connection
            self._pump()
            return
        self._step("dial", address)
        hello = ClientHello(
            PROTOCOL_VERSION, self._cluster, self.codec.application, self._some_client(), self._credential
        )
        connection = NodeConnection(
            self._reactor,
            address,
            self,
            codec=self.codec,
            hello=hello,
            patience=self.patience,
            now_ns=self.now_ns,
            loses=self._loses,
        )
        self._connections[address] = self._candidate = connection
        connection.dial(self._endpoint(address))

    def _choose(self, now_ns: int) -> Address | None:
        if len(self._asked) >= HOPS_MAX:
            return None
        hint = self._hint
        if hint is not None and hint not in self._asked and self._distrust_until_ns.get(hint, 0) <= now_ns:
            if hint in self._addresses:
                self._last = self._addresses.index(hint)
            return hint
        count = len(self._addresses)
        for step in range(1, count + 1):
            index = (self._last + step) % count
            address = self._addresses[index]
            if address not in self._asked and self._not_before_ns.get(address, 0) <= now_ns:
                self._last = index
                return address
        return None

    def _end_round(self, now_ns: int) -> None:
        """No node of this round helped: wait a little, and until at least one node wants to be asked again."""
        if all(address in self._rejections for address in self._addresses):
            text = "; ".join(dict.fromkeys(self._rejections.values()))
            self._rejections.clear()
            self._opened()
            for session in list(self.sessions.values()):
                session.end_all("rejected", text)
            return
        wait_s = self._pause_s * self._rng.uniform(0.5, 1)
        self._pause_s = min(self._pause_s * self.patience.pause_growth, self.patience.pause_max_s)
        earliest_ns = min(self._not_before_ns.get(address, 0) for address in self._addresses)
        wait_s = max(wait_s, (earliest_ns - now_ns) / NS)
        self._pause = self._reactor.callLater(wait_s, self._new_round)
        self._step("pause")

    def _new_round(self) -> None:
        self._pause = None
        self._step("resume")
        self._asked.clear()
        if self._is_wanted():
            self._ask_next()

    def _opened(self) -> None:
        opening, self._opening = self._opening, []
        for done in opening:
            done.callback(None)

    def _pump(self) -> None:
        for session in list(self.sessions.values()):
            if session.outstanding:
                session.pump()
        for feed in list(self.feeds.values()):
            feed.pump()

    def _drop(self, connection: NodeConnection) -> None:
        self._connections.pop(connection.address, None)
        connection.close()
        self._forget_connection(connection)

    def _forget_connection(self, connection: NodeConnection) -> None:
        for session in list(self.sessions.values()):
            session.on_lost(connection)
        for feed in list(self.feeds.values()):
            feed.on_lost(connection)

    def _some_client(self) -> ClientId:
        """The hello names one session; others on the same connection name themselves in their requests."""
        return ClientId(next(iter(self.sessions), 0))

    def _count(self, address: Address, cause: str, text: str, waited_s: float) -> None:
        self.reconnects[cause] += 1
        self._step("left", address, cause)
        move = Move(self.now_ns(), address, cause, text, waited_s)
        self.moves.append(move)
        if self.on_move is not None:
            self.on_move(move)

    def _step(self, what: str, address: Address | None = None, cause: str = "") -> None:
        self.steps.append(Step(self.now_ns(), what, "" if address is None else str(address), cause))
