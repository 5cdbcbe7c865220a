"""The chat: rooms of ordered messages that clients post, read back, and follow while they grow.

A room comes into being with its first message. It keeps its newest messages; what is older is forgotten, and `first`
says from which position on messages are still there.
"""

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from paxos_twisted.apps.application import Application, Footprint
from paxos_twisted.apps.places import place_of
from paxos_twisted.core.table import Table
from paxos_twisted.limits import (
    CHAT_AUTHOR_CHARACTERS_MAX,
    CHAT_BODY_CHARACTERS_MAX,
    CHAT_PAGE_BYTES,
    CHAT_PAGE_MESSAGES_MAX,
    CHAT_ROOM_BYTES_MAX,
    CHAT_ROOM_CHARACTERS_MAX,
    CHAT_ROOM_MESSAGES_MAX,
    CHAT_ROOMS_LISTED_MAX,
    CHAT_ROOMS_PER_PLACE_MAX,
)

RoomName = Annotated[str, Meta(min_length=1, max_length=CHAT_ROOM_CHARACTERS_MAX)]
MessageId = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""128 random bits, chosen by the client that writes the message."""


class Post(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False, forbid_unknown_fields=True):
    """Say something in a room."""

    room: RoomName
    id: MessageId
    author: Annotated[str, Meta(max_length=CHAT_AUTHOR_CHARACTERS_MAX)]
    body: Annotated[str, Meta(max_length=CHAT_BODY_CHARACTERS_MAX)]
    at: int = 0
    """When it was proposed, Unix milliseconds; whatever the client writes here is replaced."""


class History(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False, forbid_unknown_fields=True):
    """Read a room back."""

    room: RoomName
    start: int = -CHAT_PAGE_MESSAGES_MAX
    """Position of the first message wanted; negative: counted from the end."""
    limit: Annotated[int, Meta(ge=1, le=CHAT_PAGE_MESSAGES_MAX)] = CHAT_PAGE_MESSAGES_MAX


class Rooms(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False, forbid_unknown_fields=True):
    """List the rooms whose names come behind `after`, in the order of their names."""

    after: Annotated[str, Meta(max_length=CHAT_ROOM_CHARACTERS_MAX)] = ""


ChatOp = Post | History | Rooms


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message as the room keeps it, and as followers get it."""

    id: MessageId
    at: int
    author: str
    body: str


class Posted(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False):
    """The message stands in the room."""

    position: int
    """Where: 0 is the first message that was ever posted there."""


class Page(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Part of a room's history."""

    first: int
    """Position of the first message in `messages`."""
    messages: tuple[Message, ...]
    kept: int
    """Position of the oldest message that the room still has."""
    end: int
    """How many messages were ever posted there."""


class RoomLine(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One room in a list."""

    name: str
    kept: int
    end: int
    at: int
    """When its newest message was proposed."""


class RoomList(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Some rooms."""

    rooms: tuple[RoomLine, ...]
    is_all: bool
    """No more rooms come behind these."""


class ChatError(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """What was asked cannot be done; nothing was changed."""

    error: str


ChatResult = Posted | Page | RoomList | ChatError


class Room(msgspec.Struct, array_like=True, gc=False):
    """What the state holds of a room, beside its messages."""

    kept: int
    """Position of the oldest message that is kept."""
    end: int
    """Position of the next message; kept <= end."""
    bytes: int
    """Size of the kept messages, as `size_of` counts."""
    at: int


class Chat(Application):
    """Rooms and their messages.

    Invariants: a room keeps the messages kept … end - 1, without gaps; at most CHAT_ROOM_MESSAGES_MAX of them and, but
    for the newest one, CHAT_ROOM_BYTES_MAX bytes. `ids` knows exactly the messages that are kept.
    """

    name = "chat"
    op_type = ChatOp
    result_type = ChatResult
    op_names: tuple[str, ...] = ("post", "history", "rooms")
    event_type = Message
    stamps = True

    def __init__(self) -> None:
        self.rooms: Table[str, Room] = Table("rooms", tuple[str, Room], place_of)
        # Neighbours lie in different parts, so that a part is small even if there is only one room.
        self.messages: Table[tuple[str, int], Message] = Table(
            "messages", tuple[tuple[str, int], Message], lambda key: place_of(key[0]) + key[1]
        )
        self.ids: Table[tuple[str, bytes], int] = Table(
            "ids", tuple[tuple[str, bytes], int], lambda key: place_of(key[0]) + key[1][0]
        )
        self.posted = 0
        """Messages that this replica has put into rooms since it started, for the metrics. No part of the state."""

    def tables(self) -> Iterable[Table[Any, Any]]:
        """Rooms, their messages, and where each message id stands."""
        return self.rooms, self.messages, self.ids

    def op_name(self, op: ChatOp) -> str:
        """ "post", "history" or "rooms"."""
        return type(op).__name__.lower()

    def outcome(self, result: ChatResult) -> str:
        """Only an error is a refusal."""
        return "rejected" if type(result) is ChatError else "ok"

    def footprint(self, op: ChatOp) -> Footprint:
        """The room's place: a room is made only if there is place, so rooms at one place interfere."""
        if isinstance(op, Rooms):
            return Footprint(writes=False, everything=True)
        return Footprint((place_of(op.room),), writes=isinstance(op, Post))

    def is_reread(self, op: ChatOp) -> bool:
        """Pages and lists are long and change nothing."""
        return type(op) is not Post

    def stamp(self, op: ChatOp, now_ms: int) -> ChatOp:
        """Messages carry the time at which they were proposed."""
        return msgspec.structs.replace(op, at=now_ms) if type(op) is Post else op

    def apply(self, op: ChatOp, client: int) -> ChatResult:
        """Execute one operation."""
        if type(op) is Post:
            return self._post(op)
        if type(op) is History:
            return self._history(op)
        assert type(op) is Rooms
        return self._list(op)

    def feed_of(self, op: ChatOp, result: ChatResult) -> str | None:
        """A room is a topic."""
        return op.room if type(op) is Post and type(result) is Posted else None

    def read_feed(self, topic: str, start: int, limit: int) -> tuple[int, Sequence[Message]]:
        """The room's messages, see `Application.read_feed`."""
        room = self.rooms.shard(topic).get(topic)
        if room is None:
            return max(start, 0), ()
        if start < 0:
            start = max(room.end + start, 0)
        start = max(start, room.kept)
        messages = self.messages
        stop = min(start + limit, room.end)
        return start, [messages.shard(key)[key] for key in ((topic, position) for position in range(start, stop))]

    def _post(self, op: Post) -> Posted | ChatError:
        name = op.room
        known = self.ids.shard((name, op.id)).get((name, op.id))
        if known is not None:  # sent again under another session
            return Posted(known)
        shard = self.rooms.writable(name)
        room = shard.get(name)
        if room is None:
            if len(shard) >= CHAT_ROOMS_PER_PLACE_MAX:
                return ChatError(
                    f"there is no place for a room called {name!r}: choose another name, or a room that is there"
                )
            shard[name] = room = Room(0, 0, 0, 0)
        message = Message(op.id, op.at, op.author, op.body)
        position = room.end
        self.messages.writable((name, position))[name, position] = message
        self.ids.writable((name, op.id))[name, op.id] = position
        room.end += 1
        room.bytes += size_of(message)
        room.at = op.at
        while room.kept < position and (
            room.end - room.kept > CHAT_ROOM_MESSAGES_MAX or room.bytes > CHAT_ROOM_BYTES_MAX
        ):
            self._forget_oldest(name, room)
        self.posted += 1
        return Posted(position)

    def _forget_oldest(self, name: str, room: Room) -> None:
        key = name, room.kept
        message = self.messages.writable(key).pop(key)
        del self.ids.writable((name, message.id))[name, message.id]
        room.bytes -= size_of(message)
        room.kept += 1

    def _history(self, op: History) -> Page:
        room = self.rooms.shard(op.room).get(op.room)
        if room is None:
            return Page(max(op.start, 0), (), 0, 0)
        first, messages = self.read_feed(op.room, op.start, op.limit)
        size = count = 0
        for message in messages:
            size += size_of(message)
            if count and size > CHAT_PAGE_BYTES:
                break
            count += 1
        return Page(first, tuple(messages[:count]), room.kept, room.end)

    def _list(self, op: Rooms) -> RoomList:
        names = (name for shard in self.rooms.shards for name in shard if name > op.after)
        found = nsmallest(CHAT_ROOMS_LISTED_MAX + 1, names)
        lines = []
        for name in found[:CHAT_ROOMS_LISTED_MAX]:
            room = self.rooms.shard(name)[name]
            lines.append(RoomLine(name, room.kept, room.end, room.at))
        return RoomList(tuple(lines), len(found) <= CHAT_ROOMS_LISTED_MAX)


def size_of(message: Message) -> int:
    """Bytes that a message counts for: its texts, and about what stands around them."""
    return len(message.author.encode()) + len(message.body.encode()) + 48
