"""The chat as the checker sees it: each room is a part of the state of its own.

Times of messages are the proposer's and not known to clients before they read them, so they are not compared.
"""

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import msgspec

from paxos_twisted.apps.chat import (
    ChatError,
    ChatOp,
    ChatResult,
    History,
    Message,
    Page,
    Post,
    Posted,
    RoomLine,
    RoomList,
    Rooms,
    size_of,
)
from paxos_twisted.apps.struct_json import StructReader, to_json
from paxos_twisted.check.history import Operation
from paxos_twisted.check.model import State
from paxos_twisted.limits import CHAT_ROOM_BYTES_MAX, CHAT_ROOM_MESSAGES_MAX, CHAT_ROOMS_LISTED_MAX

NOWHERE: Final = ""
"""The key of a list that can see none of the rooms of the history. No room has this name."""

Part = tuple[ChatOp, ChatResult | None]

_ops: StructReader[ChatOp] = StructReader(Post, History, Rooms)
_results: StructReader[ChatResult] = StructReader(Posted, Page, RoomList, ChatError)
_line = msgspec.msgpack.Encoder().encode


class RoomState(NamedTuple):
    """What a room holds, as far as the history tells."""

    end: int
    lines: tuple[bytes, ...]
    """The newest messages, up to position `end` - 1, each as bytes without its time."""
    size: int | None
    """Bytes of the kept messages; None: it is not known how far back the room remembers (it was in use before)."""

    @property
    def first(self) -> int:
        """Position of `lines[0]`."""
        return self.end - len(self.lines)


EMPTY: Final = RoomState(0, (), 0)
ANY: Final = "any"
"""What a room holds at which nobody has looked since the history began, when the chat was in use before."""


class ChatModel:
    """The rules of `paxos_twisted.apps.chat.Chat` once more, in their plainest form, one room at a time."""

    name = "chat"

    def __init__(self, *, fresh: bool = True) -> None:
        """`fresh`: there were no rooms when the history began. Otherwise the first look at a room is believed.

        Ids of messages in the history are new: none was posted before it began. They are random, so that is so.
        """
        self.fresh = fresh
        self._known: list[str] = []  # every room of the history, in order

    def prepare(self, operations: Sequence[Operation[ChatOp, ChatResult]]) -> None:
        """Learn all rooms of a history: those that a list does not show do not exist."""
        known: set[str] = set()
        for operation in operations:
            if not isinstance(operation.op, Rooms):
                known.add(operation.op.room)
            if isinstance(operation.result, RoomList):
                known.update(line.name for line in operation.result.rooms)
        self._known = sorted(known)

    def keys(self, op: ChatOp, result: ChatResult | None) -> tuple[Hashable, ...]:
        """The room; for a list all rooms of the history in its range."""
        if not isinstance(op, Rooms):
            return (op.room,)
        last = result.rooms[-1].name if isinstance(result, RoomList) and not result.is_all and result.rooms else None
        found = tuple(name for name in self._known if name > op.after and (last is None or name <= last))
        return found or (NOWHERE,)

    def initial(self, key: Hashable) -> Hashable:
        """Nothing, or anything."""
        return EMPTY if self.fresh or key == NOWHERE else ANY

    def step(self, state: State, op: ChatOp, result: ChatResult | None) -> State | None:
        """Execute `op` where its rooms hold this, see `Model.step`."""
        match op:
            case Post():
                room = _post(state[0], op, result)
                return None if room is None else (room,)
            case History():
                room = _history(state[0], op, result)
                return None if room is None else (room,)
            case Rooms():
                return self._list(state, op, result)

    def is_read(self, op: ChatOp, result: ChatResult | None) -> bool:
        """Everything but a post that was not refused."""
        return not isinstance(op, Post) or isinstance(result, ChatError)

    def parts(self, op: ChatOp, result: ChatResult | None) -> Sequence[Part] | None:
        """A list cannot be taken apart: no other operation tells where a room begins and ends, and nothing more."""
        return None if isinstance(op, Rooms) else ((op, result),)

    def misfit(self, op: ChatOp, result: ChatResult) -> str | None:
        """Why no chat answers like that, whatever its rooms hold."""
        wrong = _misfit(op, result)
        return wrong and f"was answered {self.say_result(result)}: {wrong}"

    def _list(self, state: State, op: Rooms, result: ChatResult | None) -> State | None:
        if result is None:
            return state
        if not isinstance(result, RoomList) or _misfit(op, result) is not None:
            return None
        shown = {line.name: line for line in result.rooms}
        for key, room in zip(self.keys(op, result), state, strict=True):
            line = shown.get(str(key))
            if isinstance(room, RoomState) and not _fits_line(room, line):
                return None
        return state

    # The language of history files and of explanations, see `Language`.

    def read_op(self, raw: bytes) -> ChatOp:
        """See `paxos_twisted.apps.struct_json`."""
        return _ops.read(raw)

    def read_result(self, raw: bytes) -> ChatResult:
        """See `paxos_twisted.apps.struct_json`."""
        return _results.read(raw)

    def write_op(self, op: ChatOp) -> dict[str, object]:
        """The inverse of `read_op`."""
        return to_json(op)

    def write_result(self, result: ChatResult) -> dict[str, object]:
        """The inverse of `read_result`."""
        return to_json(result)

    def say_op(self, op: ChatOp) -> str:
        """As `chatclient` takes it."""
        match op:
            case Post(room=room, body=body):
                return f"post {room} {_short(body)}"
            case History(room=room, start=start):
                return f"history {room} {start}"
            case Rooms(after=after):
                return f"rooms {after}".rstrip()

    def say_result(self, result: ChatResult) -> str:
        """The answer in a few words."""
        match result:
            case Posted(position):
                return f"message {position}"
            case Page(first=first, messages=messages, end=end):
                return f"{len(messages)} messages from {first} on, {end} in all"
            case RoomList(rooms=rooms):
                return f"{len(rooms)} rooms"
            case ChatError(error):
                return f"refused: {error}"

    def say_value(self, key: Hashable, value: Hashable) -> str:
        """What the room holds."""
        if not isinstance(value, RoomState):
            return f"{key} holds anything or nothing"
        if not value.end:
            return f"{key} does not exist"
        last = f", the last one {_shown(value.lines[-1])}" if value.lines else ""
        return f"{key} has had {value.end} messages{last}"


def _post(room: Hashable, op: Post, result: ChatResult | None) -> RoomState | str | None:
    if isinstance(result, ChatError):
        return room if not isinstance(room, RoomState) or not room.end else None  # type: ignore[return-value]
    if result is not None and not isinstance(result, Posted):
        return None
    line = _line((op.id, op.author, op.body))
    if not isinstance(room, RoomState):
        return ANY if result is None else RoomState(result.position + 1, (line,), None)
    for position, kept in enumerate(room.lines, room.first):
        if kept.startswith(line[: 1 + 2 + 16]):  # the same id: sent again under another session
            return room if result is None or result.position == position else None
    if result is not None and result.position != room.end:
        forgotten = room.size is None and result.position < room.first
        return room if forgotten else None
    size = None if room.size is None else room.size + _size(line)
    lines = (*room.lines, line)
    drop = 0
    while len(lines) - drop > CHAT_ROOM_MESSAGES_MAX or (
        size is not None and size > CHAT_ROOM_BYTES_MAX and len(lines) - drop > 1
    ):
        size = None if size is None else size - _size(lines[drop])
        drop += 1
    return RoomState(room.end + 1, lines[drop:], size)


def _history(room: Hashable, op: History, result: ChatResult | None) -> RoomState | str | None:
    if result is None:
        return room  # type: ignore[return-value]
    if not isinstance(result, Page) or _misfit(op, result) is not None:
        return None
    seen = tuple(_line((message.id, message.author, message.body)) for message in result.messages)
    stop = result.first + len(seen)
    if not isinstance(room, RoomState):
        whole = result.first == result.kept and stop == result.end
        return RoomState(result.end, seen if stop == result.end else (), sum(map(_size, seen)) if whole else None)
    if result.end != room.end or (room.size is not None and result.kept != room.first):
        return None
    low, high = max(result.first, room.first), min(stop, room.end)
    if (
        low < high
        and seen[low - result.first : high - result.first] != room.lines[low - room.first : high - room.first]
    ):
        return None
    return room


def _fits_line(room: RoomState, line: RoomLine | None) -> bool:
    if line is None:
        return not room.end
    return line.end == room.end > 0 and (room.size is None or line.kept == room.first)


def _misfit(op: ChatOp, result: ChatResult) -> str | None:
    match op, result:
        case (Post(), Posted() | ChatError()):
            return None
        case (History(), Page()):
            return _page_misfit(op, result)
        case (Rooms(), RoomList()):
            names = [line.name for line in result.rooms]
            if names != sorted(set(names)) or any(name <= op.after for name in names):
                return "its rooms are not in order, or not those asked for"
            if len(names) > CHAT_ROOMS_LISTED_MAX or any(not 0 <= line.kept < line.end for line in result.rooms):
                return "no list looks like that"
            return None
        case _:
            return "that is the answer to another request"


def _page_misfit(op: History, page: Page) -> str | None:
    start = max(page.end + op.start, 0) if op.start < 0 else op.start
    start = max(start, page.kept)
    count = len(page.messages)
    if not 0 <= page.kept <= page.end:
        return "no room looks like that"
    if page.first != start:
        return f"its first message should be {start}"
    if count > op.limit or (count and page.first + count > page.end) or (not count and start < page.end):
        return "no page has that length"
    return None


def _size(line: bytes) -> int:
    message_id, author, body = msgspec.msgpack.decode(line, type=tuple[bytes, str, str])
    return size_of(Message(message_id, 0, author, body))


def _shown(line: bytes) -> str:
    return _short(msgspec.msgpack.decode(line, type=tuple[bytes, str, str])[2])


def _short(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:40])
    return shown if len(text) <= 40 else f"{shown}…"
