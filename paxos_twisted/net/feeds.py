"""Feeds: clients follow topics of the application, and every event reaches each of them once and in order.

A follower is nothing but a position in a topic. Its events are read from the applied state when its connection takes
them, so nothing is queued for it, however slow it is, and a follower that goes on elsewhere says from which position.
What was forgotten in the state meanwhile shows as a gap in the positions.

    applied ──> topics that have grown ──> their followers are due ──> one or more Events each, as the connection takes
                                                 │            ^
                                                 └── blocked ─┘ when it has been read
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import Command, Series
from paxos_twisted.core.sessions import Refusal
from paxos_twisted.limits import FEED_EVENTS_PER_FRAME_MAX, FEEDS_PER_CONNECTION_MAX
from paxos_twisted.types import NO_NODE, NodeId
from paxos_twisted.wire.client import Events, Follow, Unfollow


class FeedMetrics(Protocol):
    """Where feeds count."""

    feed_followers: int
    feed_events: int


class Reader(Protocol):
    """A connection whose client follows topics."""

    @property
    def is_blocked(self) -> bool:
        """The client does not read; `Feeds.on_writable` follows when it does again."""
        ...

    @property
    def room_bytes(self) -> int:
        """How many more bytes of events may be sent in this turn; 0 or less: none."""
        ...

    def send_events(self, payload: bytes) -> None:
        """Send one frame at the end of this turn. Never raises."""
        ...

    def on_no_leader(self) -> None:
        """The node knows no leader any more: the client had better look for one elsewhere."""
        ...


class Follower:
    """A position of one reader in one topic."""

    __slots__ = ("is_asked", "position", "reader", "topic")

    def __init__(self, reader: Reader, topic: str, position: int) -> None:
        self.reader = reader
        self.topic = topic
        self.position = position
        """Of the next event that the reader has not got; negative: counted from the end, and nothing was sent yet."""
        self.is_asked = True
        """The reader waits for an answer, be it empty."""


class Feeds:
    """All followers at one node. Implements the driver's `Feeds`.

    Args:
        encode: encodes one frame.
        soon: asks for the end of this turn, and so for `push`.
        leader: the node's known leader, or NO_NODE.
    """

    def __init__(
        self,
        application: Application,
        encode: Callable[[Any], bytes],
        soon: Callable[[], None],
        leader: Callable[[], NodeId],
        metrics: FeedMetrics,
    ) -> None:
        self._application = application
        self._encode = encode
        self._soon = soon
        self._leader = leader
        self._metrics = metrics
        self._topics: dict[str, dict[Follower, None]] = {}
        self._readers: dict[Reader, dict[str, Follower]] = {}
        self._grown: dict[str, None] = {}  # topics with new events
        self._due: dict[Follower, None] = {}  # followers that may have something to get, in a fair order
        self._blocked: dict[Follower, None] = {}  # … and whose connections take nothing now
        self._has_leader = True

    # From connections

    def take(self, reader: Reader, message: Follow | Unfollow) -> str | None:
        """Take a client's wish. Returns what is wrong with it, or None."""
        follows = self._readers.setdefault(reader, {})
        follower = follows.get(message.topic)
        if isinstance(message, Unfollow):
            if follower is not None:
                self._drop(follower)
        elif follower is not None:
            follower.position, follower.is_asked = message.start, True
            self._due[follower] = None
        elif len(follows) >= FEEDS_PER_CONNECTION_MAX:
            return f"a connection follows at most {FEEDS_PER_CONNECTION_MAX} topics"
        else:
            follower = Follower(reader, message.topic, message.start)
            follows[message.topic] = follower
            self._topics.setdefault(message.topic, {})[follower] = None
            self._due[follower] = None
            self._metrics.feed_followers += 1
        self._soon()
        return None

    def on_writable(self, reader: Reader) -> None:
        """A connection takes bytes again."""
        for follower in self._readers.get(reader, {}).values():
            if follower in self._blocked:
                del self._blocked[follower]
                self._due[follower] = None
                self._soon()

    def forget(self, reader: Reader) -> None:
        """A connection has ended."""
        for follower in list(self._readers.get(reader, {}).values()):
            self._drop(follower)
        self._readers.pop(reader, None)

    # From the driver

    @property
    def is_followed(self) -> bool:
        """Somebody follows something."""
        return bool(self._topics)

    def on_applied(self, commands: Sequence[Command[Any] | Series[Any] | None], results: Sequence[Any]) -> None:
        """Note which topics have grown."""
        feed_of, topics, grown = self._application.feed_of, self._topics, self._grown
        for command, result in zip(commands, results, strict=True):
            if command is not None and type(command) is not Series and type(result) is not Refusal:
                topic = feed_of(command.op, result)
                if topic in topics:
                    grown[topic] = None

    def on_installed(self) -> None:
        """Anything may have grown."""
        self._grown.update(dict.fromkeys(self._topics))

    def push(self) -> None:
        """Send every follower what its connection takes now."""
        self._watch_leader()
        for topic in self._grown:
            self._due.update(self._topics.get(topic, {}))
        self._grown.clear()
        if not self._due:
            return
        due, self._due = self._due, {}
        frames: dict[tuple[str, int], tuple[int, int, bytes]] = {}  # followers at the same position share a frame
        for follower in due:
            self._serve(follower, frames)
        if self._due:
            self._soon()

    # Inside

    def _serve(self, follower: Follower, frames: dict[tuple[str, int], tuple[int, int, bytes]]) -> None:
        """Send up to one buffer of events; the rest is due in the next turn, or once the client has read."""
        reader = follower.reader
        while True:
            if reader.is_blocked:
                self._blocked[follower] = None
                return
            if reader.room_bytes <= 0:
                self._due[follower] = None
                return
            key = follower.topic, follower.position
            found = frames.get(key)
            if found is None:
                found = frames[key] = self._frame(*key)
            first, count, frame = found
            if not count and not follower.is_asked:
                return
            reader.send_events(frame)
            follower.position, follower.is_asked = first + count, False
            self._metrics.feed_events += count
            if count < FEED_EVENTS_PER_FRAME_MAX:
                return

    def _frame(self, topic: str, position: int) -> tuple[int, int, bytes]:
        first, events = self._application.read_feed(topic, position, FEED_EVENTS_PER_FRAME_MAX)
        kept, _ = self._application.read_feed(topic, 0, 0)
        return first, len(events), self._encode(Events(topic, first, kept, tuple(events)))

    def _drop(self, follower: Follower) -> None:
        del self._readers[follower.reader][follower.topic]
        followers = self._topics[follower.topic]
        del followers[follower]
        if not followers:
            del self._topics[follower.topic]
        self._due.pop(follower, None)
        self._blocked.pop(follower, None)
        self._metrics.feed_followers -= 1

    def _watch_leader(self) -> None:
        """Followers ask for nothing that would tell them that this node is cut off, so they are told."""
        has_leader = self._leader() != NO_NODE
        if has_leader is not self._has_leader:
            self._has_leader = has_leader
            if not has_leader:
                for reader, follows in self._readers.items():
                    if follows:
                        reader.on_no_leader()
