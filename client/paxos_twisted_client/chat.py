"""The chat as its clients see it: messages in words, the bench, and the automatic mode's random bodies."""

import os
import secrets
import time
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import click

from paxos_twisted.apps.chat import ChatError, ChatOp, ChatResult, History, Message, Page, Post, Posted, RoomList, Rooms
from paxos_twisted.apps.struct_json import Json, to_json
from paxos_twisted.limits import (
    CHAT_AUTHOR_CHARACTERS_MAX,
    CHAT_BODY_CHARACTERS_MAX,
    CHAT_PAGE_MESSAGES_MAX,
    CHAT_ROOM_CHARACTERS_MAX,
)
from paxos_twisted_client.client_side import ClientSide, Field, Function, Verb, is_of_program

ROOM: Final = "hall"
"""Where one is when one names no room."""

WORDS: Final = (
    "acceptor", "ballot", "commit", "decree", "epoch", "failover", "gossip", "heartbeat", "island", "journal", "kernel",
    "leader", "majority", "node", "olive", "parliament", "quorum", "round", "slot", "temple", "urn", "vote", "wave",
)  # fmt: skip
"""Of which random messages consist."""

COMMANDS: Final = {
    "/join": "go to another room",
    "/rooms": "all rooms",
    "/who": "who has said something here lately",
    "/history": "older messages: /history 100",
    "/status": "where we are connected",
    "/help": "this list",
    "/quit": "leave (also Ctrl-D)",
}
"""What the screen understands besides messages."""


def _room(text: str) -> str:
    name = text.strip()
    if not 0 < len(name) <= CHAT_ROOM_CHARACTERS_MAX or not name.isprintable():
        raise ValueError(
            f"{text!r} is no name of a room: 1 to {CHAT_ROOM_CHARACTERS_MAX} characters that can be printed"
        )
    return name


def _body(text: str) -> str:
    if not 0 < len(text) <= CHAT_BODY_CHARACTERS_MAX:
        raise ValueError(f"a message has 1 to {CHAT_BODY_CHARACTERS_MAX} characters, this one has {len(text)}")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= CHAT_PAGE_MESSAGES_MAX):
        raise ValueError(f"{text!r} is not a number from 1 to {CHAT_PAGE_MESSAGES_MAX}")
    return int(text)


def _start(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a position: 0 or more")
    return int(text)


def own_name() -> str:
    """The name under which somebody talks who says none: that of the user and the process."""
    return f"{os.environ.get('USER') or 'guest'}-{os.getpid()}"


class ChatSide(ClientSide):
    """The client side of `paxos_twisted.apps.chat`."""

    application = "chat"
    unit = "message"
    server = "the chat"
    intro = "Talk in rooms that survive machines."
    examples = (
        ("--name ann", "a chat in the room hall: type, and see what others say"),
        ('post hall "hello there"', "one message"),
        ("history hall", "the last messages of a room"),
        ("talk --count 100", "the automatic mode: random messages, one after the other"),
        ("listen hall", "print what is said, as it is said"),
    )
    example = "post hall hello"
    verbs: tuple[Verb, ...]

    def __init__(self) -> None:
        self.room = ROOM
        self.name = own_name()
        self.verbs = (
            Verb(
                "post",
                (Field("room", "room", _room), Field("body", "message", _body, is_piped=True)),
                self.post,
                "Say BODY in ROOM; it may also come through a pipe.",
                "say something",
            ),
            Verb(
                "history",
                (Field("room", "room", _room),),
                _history,
                f"Print the last COUNT messages of ROOM, {CHAT_PAGE_MESSAGES_MAX} at most. With START: from there on.",
                "what was said",
                optional=(
                    Field("count", "how many", _count),
                    Field("start", "position of the first message", _start),
                ),
            ),
            Verb(
                "rooms", (), Rooms, "List the rooms, or those behind AFTER.", "all rooms",
                optional=(Field("after", "room after which to begin", str),),
            ),
        )  # fmt: skip

    @property
    def words(self) -> dict[str, str]:
        """What the screen completes."""
        return dict(COMMANDS)

    def toolbar(self) -> str:
        """Who we are, and where."""
        return f"{self.name} in {self.room}"

    def post(self, room: str, body: str) -> Post:
        """A new message. Its id makes it one message, however often it is sent. [CH-17]"""
        return Post(room, secrets.token_bytes(16), self.name, body)

    def did(self, op: ChatOp, result: ChatResult) -> bool:
        """Unless the chat refused."""
        return not isinstance(result, ChatError)

    def say(self, op: ChatOp, result: ChatResult) -> str:
        """The messages, the rooms, or what became of the message."""
        match result:
            case Posted(position):
                return f"message {position}"
            case Page(messages=messages):
                return "\n".join(message_line(message) for message in messages) or "nothing was said here"
            case RoomList(rooms=rooms):
                return (
                    "\n".join(
                        f"{printable(line.name)}\t{line.end} messages, the last at {clock_time(line.at)}"
                        for line in rooms
                    )
                    or "there are no rooms"
                )
            case ChatError(error):
                return f"refused: {error}"

    def note(self, op: ChatOp, result: ChatResult) -> str:
        """What is not shown."""
        if isinstance(result, Page):
            behind = result.first + len(result.messages)
            if behind < result.end:
                return f"there are more: history {result_room(op)} {CHAT_PAGE_MESSAGES_MAX} {behind}"
            if result.kept:
                return f"the first {result.kept} messages of this room are forgotten"
        if isinstance(result, RoomList) and not result.is_all:
            return f"there are more: rooms {result.rooms[-1].name}"
        return ""

    def op_json(self, op: ChatOp) -> Json:
        """See docs/history.md."""
        return to_json(op)

    def result_json(self, op: ChatOp, result: ChatResult) -> Json:
        """See docs/history.md."""
        return to_json(result)

    def verb_options(self, command: Function) -> Function:
        """Who; the room is an argument."""
        text = "Under which name to talk; else that of the user and the process.  [env: PAXOS_NAME]"
        return click.option(
            "--name", "own_name", callback=self._keep, expose_value=False, envvar="PAXOS_NAME", help=text
        )(command)

    def identity_options(self, command: Function) -> Function:
        """Who and where, for the other commands."""
        text = f"The room to be in.  [default: {ROOM}]"
        option = click.option("--room", "own_room", callback=self._keep, expose_value=False, help=text)
        return option(self.verb_options(command))

    def _keep(self, context: click.Context, option: click.Parameter, value: str | None) -> None:
        if value is None or is_of_program(context, option):
            return
        try:
            if option.name == "own_room":
                self.room = _room(value)
            else:
                self.name = _name(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    def bench_options(self, command: Function) -> Function:
        """Who and where; and what random messages look like."""
        options = [
            click.option(
                "--rooms",
                "room_count",
                type=click.IntRange(1, 1000),
                default=1,
                show_default=True,
                help="Bench: rooms in which is talked.",
            ),
            click.option(
                "--words",
                "word_count",
                type=click.IntRange(1, 100),
                default=6,
                show_default=True,
                help="Bench: words in a message.",
            ),
        ]
        for option in reversed(options):
            command = option(command)
        return self.identity_options(command)

    def workload_of(self, given: dict[str, Any]) -> Mapping[str, Any]:
        """Rooms and words."""
        return {"room": self.room, "rooms": given.pop("room_count"), "words": given.pop("word_count")}

    def workload(self, seed: int, process: int, options: Mapping[str, Any]) -> "ChatWorkload":
        """Random messages."""
        return ChatWorkload(seed, process, options)


class ChatWorkload:
    """Messages of random words. The same for the same seed, but for their ids: those are never used twice."""

    def __init__(self, seed: int, process: int, options: Mapping[str, Any]) -> None:
        self._rng = Random(f"{seed}/{process}")
        self._name = f"client-{process + 1}"
        self._room, self._rooms, self._words = options["room"], options["rooms"], options["words"]

    def next(self) -> Post:
        """Draw one message."""
        number = self._rng.randrange(self._rooms)
        room = self._room if not number else f"{self._room}-{number}"
        return Post(room, secrets.token_bytes(16), self._name, random_body(self._rng, self._words))


def random_body(rng: Random, words: int) -> str:
    """A message that nobody wrote."""
    return " ".join(rng.choice(WORDS) for _ in range(words))


def printable(text: str) -> str:
    """A text of somebody else without what would move our cursor or change our colours."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def clock_time(at_ms: int) -> str:
    """A time of day, where we are."""
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))


def message_line(message: Message) -> str:
    """A message as one line."""
    return f"{clock_time(message.at)} {printable(message.author) or 'somebody'}: {printable(message.body)}"


def result_room(op: ChatOp) -> str:
    """The room that was asked for."""
    return "" if isinstance(op, Rooms) else op.room


def _history(room: str, count: int = 50, start: int | None = None) -> History:
    return History(room, -count if start is None else start, count)


def _name(text: str) -> str:
    if not 0 < len(text) <= CHAT_AUTHOR_CHARACTERS_MAX or not text.isprintable():
        raise ValueError(f"{text!r} is no name: 1 to {CHAT_AUTHOR_CHARACTERS_MAX} characters that can be printed")
    return text
