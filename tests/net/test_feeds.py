"""Feeds: every event reaches each follower once and in order, whatever node it follows and however slowly it reads."""

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paxos_twisted_client.codec import Codec
from paxos_twisted_client.feed import PROBE_S, Feed
from twisted.internet.task import Clock

from paxos_twisted.apps.chat import Chat, ChatError, Message, Post, Posted
from paxos_twisted.core.command import Command
from paxos_twisted.core.sessions import Refusal
from paxos_twisted.limits import (
    CHAT_ROOM_MESSAGES_MAX,
    FEED_BUFFER_BYTES,
    FEED_EVENTS_PER_FRAME_MAX,
    FEEDS_PER_CONNECTION_MAX,
)
from paxos_twisted.net.delay import AnswerDelay
from paxos_twisted.net.feeds import Feeds
from paxos_twisted.types import NO_NODE, ClientId, NodeId
from paxos_twisted.wire.client import Events, Follow, Unfollow

_events = msgspec.msgpack.Decoder(Events[Message]).decode


class Metrics:
    feed_followers = 0
    feed_events = 0


class Reader:
    """A connection with a client behind it that keeps the frames until they are taken."""

    def __init__(self) -> None:
        self.is_blocked = False
        self.frames: list[bytes] = []
        self.waiting = 0
        self.told_no_leader = 0

    @property
    def room_bytes(self) -> int:
        return FEED_BUFFER_BYTES - self.waiting

    def send_events(self, payload: bytes) -> None:
        self.frames.append(payload)
        self.waiting += len(payload)

    def on_no_leader(self) -> None:
        self.told_no_leader += 1

    def take(self) -> list[Events[Message]]:
        frames, self.frames, self.waiting = self.frames, [], 0
        return [_events(payload) for payload in frames]


class Node:
    """A replica of the chat, and those who follow its rooms."""

    def __init__(self) -> None:
        self.chat = Chat()
        self.turns = 0
        self.leader = NodeId(1)
        self.metrics = Metrics()
        self.feeds = Feeds(self.chat, msgspec.msgpack.encode, self._soon, lambda: self.leader, self.metrics)

    def _soon(self) -> None:
        self.turns += 1

    def apply(self, *ops: Post) -> None:
        commands: list[Command[Any] | None] = [Command(ClientId(1), -1, 1, 1, op) for op in ops]
        results = [self.chat.apply(op, 1) for op in ops]
        if self.feeds.is_followed:
            self.feeds.on_applied([*commands, None], [*results, None])

    def end_turn(self) -> None:
        """Turns, as long as one asks for the next."""
        while self.turns:
            self.turns = 0
            self.feeds.push()


def post(number: int, room: str = "hall", size: int = 0) -> Post:
    return Post(room, number.to_bytes(16, "big"), "ann", f"message {number}".ljust(size, "."))


def bodies(told: list[Events[Message]]) -> list[str]:
    return [event.body.rstrip(".") for events in told for event in events.events]


def follow(node: Node, reader: Reader, start: int = 0, topic: str = "hall") -> None:
    assert node.feeds.take(reader, Follow(topic, start)) is None
    node.end_turn()


# --- At the node


def test_a_follower_gets_what_is_there_and_then_what_comes() -> None:
    node, reader = Node(), Reader()
    node.apply(post(0), post(1))
    follow(node, reader)
    assert bodies(reader.take()) == ["message 0", "message 1"]
    node.apply(post(2), post(9, "yard"))
    node.feeds.push()
    (told,) = reader.take()
    assert (told.topic, told.first, told.kept, len(told.events)) == ("hall", 2, 0, 1)
    assert node.metrics.feed_events == 3


def test_a_wish_is_always_answered_even_if_there_is_nothing() -> None:
    node, reader = Node(), Reader()
    follow(node, reader, start=-10)
    assert reader.take() == [Events("hall", 0, 0, ())]
    follow(node, reader)
    assert reader.take() == [Events("hall", 0, 0, ())]
    node.feeds.push()
    assert reader.take() == []


def test_a_follower_that_is_ahead_of_this_node_waits_for_it() -> None:
    node, reader = Node(), Reader()
    node.apply(post(0))
    follow(node, reader, start=2)
    assert reader.take() == [Events("hall", 2, 0, ())]
    node.apply(post(1))
    node.feeds.push()
    assert reader.take() == []
    node.apply(post(2))
    node.feeds.push()
    assert bodies(reader.take()) == ["message 2"]


def test_a_reader_that_does_not_read_gets_nothing_queued_and_later_everything() -> None:
    node, reader = Node(), Reader()
    follow(node, reader)
    reader.take()
    reader.is_blocked = True
    for number in range(500):
        node.apply(post(number))
        node.feeds.push()
    assert reader.frames == []
    reader.is_blocked = False
    node.feeds.on_writable(reader)
    node.end_turn()
    told = reader.take()
    assert bodies(told) == [f"message {number}" for number in range(500)]
    assert max(len(events.events) for events in told) == FEED_EVENTS_PER_FRAME_MAX


def test_a_turn_sends_no_more_than_a_buffer_and_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxos_twisted.apps.chat.CHAT_ROOM_BYTES_MAX", 10**9)
    node, reader = Node(), Reader()
    node.apply(*(post(number, size=2000) for number in range(600)))
    assert node.feeds.take(reader, Follow("hall", 0)) is None
    seen: list[str] = []
    turns = 0
    while node.turns:
        node.turns = 0
        node.feeds.push()
        assert reader.waiting < FEED_BUFFER_BYTES + 2 * FEED_EVENTS_PER_FRAME_MAX * 2100
        seen += bodies(reader.take())
        turns += 1
    assert seen == [f"message {number}" for number in range(600)]
    assert turns > 2


def test_followers_at_the_same_position_share_one_encoding() -> None:
    encoded: list[Any] = []

    def encode(message: Any) -> bytes:
        encoded.append(message)
        return msgspec.msgpack.encode(message)

    node = Node()
    node.feeds = Feeds(node.chat, encode, node._soon, lambda: node.leader, node.metrics)
    readers = [Reader() for _ in range(50)]
    for reader in readers:
        follow(node, reader)
    encoded.clear()
    node.apply(post(0))
    node.feeds.push()
    assert len(encoded) == 1
    assert all(bodies(reader.take())[-1:] == ["message 0"] for reader in readers)


def test_unfollowing_and_leaving_end_it() -> None:
    node, one, two = Node(), Reader(), Reader()
    follow(node, one)
    follow(node, two)
    follow(node, two, topic="yard")
    assert node.metrics.feed_followers == 3
    one.take()
    assert node.feeds.take(one, Unfollow("hall")) is None
    assert node.feeds.take(one, Unfollow("never")) is None
    node.apply(post(0))
    node.end_turn()
    assert one.take() == []
    node.feeds.forget(two)
    node.feeds.forget(one)
    assert not node.feeds.is_followed
    assert node.metrics.feed_followers == 0
    node.feeds.push()


def test_topics_of_a_connection_are_bounded() -> None:
    node, reader = Node(), Reader()
    for number in range(FEEDS_PER_CONNECTION_MAX):
        follow(node, reader, topic=f"room-{number}")
    trouble = node.feeds.take(reader, Follow("one more", 0))
    assert trouble == f"a connection follows at most {FEEDS_PER_CONNECTION_MAX} topics"
    assert node.feeds.take(reader, Follow("room-0", 0)) is None, "moving is always allowed"


def test_followers_are_told_once_when_no_leader_is_known() -> None:
    node, reader, bystander = Node(), Reader(), Reader()
    follow(node, reader)
    follow(node, bystander)
    node.feeds.take(bystander, Unfollow("hall"))
    node.leader = NO_NODE
    node.feeds.push()
    node.feeds.push()
    node.leader = NodeId(2)
    node.feeds.push()
    assert (reader.told_no_leader, bystander.told_no_leader) == (1, 0)


def test_a_snapshot_wakes_all_followers() -> None:
    node, reader = Node(), Reader()
    follow(node, reader)
    reader.take()
    node.chat.apply(post(0), 1)
    node.feeds.on_installed()
    node.feeds.push()
    assert bodies(reader.take()) == ["message 0"]


def test_refusals_and_no_ops_append_nothing() -> None:
    node, reader = Node(), Reader()
    follow(node, reader)
    reader.take()
    command: Command[Any] = Command(ClientId(1), -1, 1, 1, post(0))
    node.feeds.on_applied([command, command, None], [Refusal("stale", ""), ChatError("full"), None])
    node.feeds.push()
    assert reader.take() == []


# --- Node and client together


class FakeConnection:
    """The client's end of a connection to one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.reader = Reader()
        self.is_open = True
        self.unanswered = 0
        self.feeds_asked = 0
        self.is_lossy = False

    def send(self, frame: bytes, now_ns: int) -> None:
        self.unanswered += 1
        if not self.is_lossy:
            message = msgspec.msgpack.decode(frame[4:], type=Follow | Unfollow)
            assert self.node.feeds.take(self.reader, message) is None


class FakePool:
    """A pool whose test decides which node is in use."""

    def __init__(self) -> None:
        self.current: FakeConnection | None = None
        self.feeds: dict[str, Feed] = {}
        self.codec = Codec("chat")

    def now_ns(self) -> int:
        return 0


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_a_client_that_moves_between_replicas_gets_each_message_once_and_in_order(seed: int) -> None:
    rng = Random(seed)
    log: list[Post] = []
    nodes = [Node() for _ in range(3)]
    applied = [0] * 3
    clock, pool = Clock(), FakePool()
    seen: list[tuple[int, str]] = []
    gaps: list[tuple[int, int]] = []
    start = rng.choice([0, 0, -3])
    feed = Feed(
        pool,  # type: ignore[arg-type]
        clock,
        "hall",
        start,
        lambda first, events: seen.extend((first + at, event.body) for at, event in enumerate(events)),
        lambda first, stop: gaps.append((first, stop)),
    )
    pool.feeds["hall"] = feed

    def apply(index: int, count: int) -> None:
        for op in log[applied[index] : applied[index] + count]:
            nodes[index].apply(op)
        applied[index] = min(applied[index] + count, len(log))
        nodes[index].turns += 1

    def move() -> None:
        old = pool.current
        if old is not None:
            old.is_open = False
            old.node.feeds.forget(old.reader)
            pool.current = None
            feed.on_lost(old)  # type: ignore[arg-type]
        pool.current = FakeConnection(rng.choice(nodes))
        feed.pump()

    def deliver(lossy: bool) -> None:
        connection = pool.current
        if connection is None:
            return
        connection.node.end_turn()
        for events in connection.reader.take():
            if connection is pool.current and not (lossy and rng.random() < 0.2):
                feed.take(events)
        connection.node.feeds.on_writable(connection.reader)
        connection.node.end_turn()

    for _ in range(60):
        match rng.randrange(7):
            case 0 | 1:
                log.append(post(len(log)))
            case 2 | 3:
                apply(rng.randrange(3), rng.randrange(1, 4))
            case 4:
                deliver(lossy=True)
            case 5:
                if rng.random() < 0.4:
                    move()
                if pool.current is not None:
                    pool.current.is_lossy = rng.random() < 0.2
                    pool.current.reader.is_blocked = rng.random() < 0.2
            case _:
                clock.advance(PROBE_S * rng.random())
    # The network heals, all replicas catch up: the client must have everything.
    if pool.current is None:
        move()
    assert pool.current is not None
    pool.current.is_lossy = pool.current.reader.is_blocked = False
    for index in range(3):
        apply(index, len(log))
    for _ in range(4):
        clock.advance(PROBE_S)
        deliver(lossy=False)
    positions = [position for position, _ in seen]
    assert [body for _, body in seen] == [f"message {position}" for position in positions]
    assert not gaps
    if positions:
        assert positions == list(range(positions[0], len(log)))
    assert start < 0 or len(positions) == len(log)
    assert pool.current.unanswered == pool.current.feeds_asked == 0
    feed.close()
    feed.close()
    assert not clock.getDelayedCalls()
    assert not pool.feeds


def test_what_the_cluster_has_forgotten_is_told_as_a_gap() -> None:
    node, clock, pool = Node(), Clock(), FakePool()
    seen: list[int] = []
    gaps: list[tuple[int, int]] = []
    feed = Feed(
        pool,
        clock,
        "hall",
        2,
        lambda first, events: seen.append(first),
        lambda *gap: gaps.append(gap),  # type: ignore[arg-type]
    )
    node.apply(*(post(number) for number in range(CHAT_ROOM_MESSAGES_MAX + 10)))
    pool.current = FakeConnection(node)
    feed.pump()
    node.end_turn()
    for events in pool.current.reader.take():
        feed.take(events)
    assert gaps == [(2, 10)]
    assert seen[0] == 10
    assert feed.position == CHAT_ROOM_MESSAGES_MAX + 10
    feed.close()


def test_a_silent_node_is_asked_again() -> None:
    node, clock, pool = Node(), Clock(), FakePool()
    feed = Feed(pool, clock, "hall", 0, lambda first, events: None, None)  # type: ignore[arg-type]
    pool.current = FakeConnection(node)
    feed.pump()
    assert pool.current.unanswered == 1, "the connection's read timeout watches over it"
    node.end_turn()
    (told,) = pool.current.reader.take()
    feed.take(told)
    assert pool.current.unanswered == 0
    clock.advance(PROBE_S)
    assert pool.current.unanswered == 1
    feed.close()


# --- Answers that wait


def test_delayed_answers_leave_in_order_after_the_delay() -> None:  # [AV-10]
    clock = Clock()
    delay = AnswerDelay(clock, 0.1, ["bid"])
    sent: list[int] = []
    delay.put(lambda: sent.append(1))
    clock.advance(0.06)
    delay.put(lambda: sent.append(2))
    assert len(delay) == 2
    clock.advance(0.05)
    assert sent == [1]
    clock.advance(0.05)
    assert sent == [1, 2]
    assert not clock.getDelayedCalls()
    delay.put(lambda: sent.append(3))
    delay.flush()
    assert sent == [1, 2, 3], "a stopping node does not let anybody wait"
    clock.advance(1)
    assert sent == [1, 2, 3]


def test_posted_is_small() -> None:
    """Results of posts are kept for each session: they must not grow with the message."""
    assert len(msgspec.msgpack.encode(Posted(2**40))) < 20
