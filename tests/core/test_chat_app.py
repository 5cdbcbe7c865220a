"""The chat: order, unique ids, bounded rooms, and what followers read. [CH-16, CH-17]"""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps import chat as chat_module
from paxos_twisted.apps.chat import (
    Chat,
    ChatError,
    ChatOp,
    History,
    Message,
    Page,
    Post,
    Posted,
    RoomList,
    Rooms,
    size_of,
)
from paxos_twisted.apps.places import place_of
from paxos_twisted.apps.struct_json import StructReader, to_json
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import ReplicatedState, digest_of, pieces_of
from paxos_twisted.limits import (
    CHAT_PAGE_BYTES,
    CHAT_ROOM_BYTES_MAX,
    CHAT_ROOM_MESSAGES_MAX,
    CHAT_ROOMS_LISTED_MAX,
    CHAT_ROOMS_PER_PLACE_MAX,
)
from paxos_twisted.types import ClientId

CLIENT = 7


def message_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def post(number: int, room: str = "hall", body: str = "") -> Post:
    return Post(room, message_id(number), "ann", body or f"message {number}", 1000 + number)


def talk(chat: Chat, count: int, room: str = "hall", start: int = 0) -> None:
    for number in range(start, start + count):
        assert chat.apply(post(number, room), CLIENT) == Posted(number - start)


def page(chat: Chat, room: str = "hall", start: int = 0, limit: int = 100) -> Page:
    result = chat.apply(History(room, start, limit), CLIENT)
    assert isinstance(result, Page)
    return result


def check_room(chat: Chat, room: str = "hall") -> None:
    """The invariants of a room."""
    row = chat.rooms.shard(room)[room]
    kept = [chat.messages.shard((room, at))[room, at] for at in range(row.kept, row.end)]
    assert sum(map(size_of, kept)) == row.bytes
    assert len(kept) <= CHAT_ROOM_MESSAGES_MAX
    assert row.bytes <= CHAT_ROOM_BYTES_MAX or len(kept) == 1
    assert {key[1]: at for key, at in chat.ids.items() if key[0] == room} == {
        message.id: row.kept + number for number, message in enumerate(kept)
    }
    assert len([key for key, _ in chat.messages.items() if key[0] == room]) == len(kept)


def test_messages_keep_their_order_and_are_read_back() -> None:
    chat = Chat()
    talk(chat, 5)
    assert page(chat) == Page(0, tuple(Message(message_id(i), 1000 + i, "ann", f"message {i}") for i in range(5)), 0, 5)
    assert [message.body for message in page(chat, start=3).messages] == ["message 3", "message 4"]
    assert [message.body for message in page(chat, start=-2).messages] == ["message 3", "message 4"]
    assert page(chat, start=5) == Page(5, (), 0, 5)
    assert page(chat, start=1, limit=2).first == 1
    assert chat.posted == 5


def test_rooms_are_apart_and_begin_with_their_first_message() -> None:
    chat = Chat()
    assert page(chat, "yard") == Page(0, (), 0, 0)
    assert page(chat, "yard", 7) == Page(7, (), 0, 0)
    talk(chat, 2, "hall")
    talk(chat, 3, "yard", start=10)
    result = chat.apply(Rooms(), CLIENT)
    assert isinstance(result, RoomList)
    assert [(line.name, line.kept, line.end, line.at) for line in result.rooms] == [
        ("hall", 0, 2, 1001),
        ("yard", 0, 3, 1012),
    ]
    assert result.is_all
    assert len(chat.rooms) == 2


def test_a_message_that_is_sent_again_under_another_session_stands_once() -> None:
    chat = Chat()
    talk(chat, 3)
    again = msgspec.structs.replace(post(1), body="other words", at=99)
    assert chat.apply(again, CLIENT + 1) == Posted(1)
    assert page(chat).end == 3
    assert chat.apply(post(1, "yard"), CLIENT) == Posted(0), "ids are unique in a room"


def test_a_room_forgets_its_oldest_messages_and_says_from_where_on_it_remembers() -> None:
    chat = Chat()
    talk(chat, CHAT_ROOM_MESSAGES_MAX + 5)
    found = page(chat, start=0, limit=2)
    assert (found.first, found.kept, found.end) == (5, 5, CHAT_ROOM_MESSAGES_MAX + 5)
    assert found.messages[0].body == "message 5"
    check_room(chat)
    # Its id is free again: whoever sends it so late is not recognized.
    assert chat.apply(post(0), CLIENT) == Posted(CHAT_ROOM_MESSAGES_MAX + 5)


def test_long_messages_are_bounded_in_bytes_and_pages_are_cut() -> None:
    chat = Chat()
    for number in range(40):
        chat.apply(post(number, body="x" * 2000), CLIENT)
        check_room(chat)
    for number in range(40, 80):
        chat.apply(post(number, body="€" * 2000), CLIENT)
        check_room(chat)
    found = page(chat, start=-100)
    assert 0 < sum(map(size_of, found.messages)) <= CHAT_PAGE_BYTES
    assert found.first + len(found.messages) < found.end


def test_a_full_part_of_the_table_refuses_a_further_room_only() -> None:
    chat = Chat()
    place = place_of("hall")
    names = [name for name in (f"room-{i}" for i in range(40_000)) if place_of(name) == place]
    for number, name in enumerate(names[:CHAT_ROOMS_PER_PLACE_MAX]):
        assert chat.apply(post(number, name), CLIENT) == Posted(0)
    refused = chat.apply(post(99, "hall"), CLIENT)
    assert isinstance(refused, ChatError)
    assert "'hall'" in refused.error
    assert chat.outcome(refused) == "rejected"
    assert chat.apply(post(100, names[0]), CLIENT) == Posted(1)


def test_lists_come_in_portions() -> None:
    chat = Chat()
    names = sorted(f"room-{i:04}" for i in range(CHAT_ROOMS_LISTED_MAX + 20))
    for number, name in enumerate(names):
        chat.apply(post(number, name), CLIENT)
    first = chat.apply(Rooms(), CLIENT)
    assert isinstance(first, RoomList)
    assert not first.is_all
    rest = chat.apply(Rooms(first.rooms[-1].name), CLIENT)
    assert isinstance(rest, RoomList)
    assert rest.is_all
    assert [line.name for line in (*first.rooms, *rest.rooms)] == names


def test_feeds_are_read_by_position() -> None:
    chat = Chat()
    assert chat.read_feed("hall", -10, 100) == (0, ())
    assert chat.read_feed("hall", 4, 100) == (4, ())
    talk(chat, 10)
    assert chat.feed_of(post(1), Posted(1)) == "hall"
    assert chat.feed_of(post(1), ChatError("")) is None
    assert chat.feed_of(History("hall"), page(chat)) is None
    first, events = chat.read_feed("hall", -3, 100)
    assert (first, [event.body for event in events]) == (7, ["message 7", "message 8", "message 9"])
    assert chat.read_feed("hall", 10, 100)[0] == 10, "a follower that has seen all stays where it is"
    assert chat.read_feed("hall", 15, 100) == (15, []), "… also at a replica that is behind"
    first, events = chat.read_feed("hall", 0, 4)
    assert (first, len(events)) == (0, 4)
    for number in range(10, CHAT_ROOM_MESSAGES_MAX + 5):
        chat.apply(post(number), CLIENT)
    assert chat.read_feed("hall", 2, 1)[0] == 5, "what was forgotten shows as a gap"


def test_operations_are_named_stamped_and_read_again_as_the_contract_says() -> None:
    chat = Chat()
    ops: list[ChatOp] = [post(1), History("hall"), Rooms()]
    assert [chat.op_name(op) for op in ops] == ["post", "history", "rooms"] == list(chat.op_names)
    assert [chat.is_reread(op) for op in ops] == [False, True, True]
    stamped = chat.stamp(post(1), 5)
    assert isinstance(stamped, Post) and stamped.at == 5
    assert chat.stamp(Rooms(), 5) == Rooms()


def test_long_reads_are_not_kept_in_the_session_table() -> None:
    state = ReplicatedState(Chat(), 10**6)
    read: Command[ChatOp] = Command(ClientId(7), -1, 2, 1, History("hall"))
    state.apply(0, [Command(ClientId(7), -1, 1, 1, post(0)), read, Command(ClientId(8), -1, 1, 1, post(1))])
    (again,) = state.apply(3, [read])
    assert isinstance(again, Page) and again.end == 2, "a repeated read is executed again"
    assert sum(len(row.answers) for key, row in state.sessions.table.items() if key >= 0) == 2


@pytest.mark.parametrize("op", [post(3), History("hall", -4, 7), Rooms("b")], ids=lambda op: type(op).__name__)
def test_operations_survive_json(op: ChatOp) -> None:
    reader: StructReader[ChatOp] = StructReader(Post, History, Rooms)
    assert reader.read(msgspec.json.encode(to_json(op))) == op


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(b'{"kind": "shout"}', "unknown kind", id="unknown kind"),
        pytest.param(b'{"kind": "history"}', "needs 'room'", id="missing field"),
        pytest.param(b'{"kind": "rooms", "before": ""}', "has no 'before'", id="unknown field"),
        pytest.param(b'{"kind": "post", "room": "a", "id": "xx", "author": "", "body": ""}', "hexadecimal", id="no id"),
        pytest.param(b'{"kind": "history", "room": ""}', "length", id="no name"),
        pytest.param(b"[1]", "object", id="no object"),
    ],
)
def test_what_is_no_operation_is_said_precisely(text: bytes, complaint: str) -> None:
    reader: StructReader[ChatOp] = StructReader(Post, History, Rooms)
    with pytest.raises(msgspec.DecodeError, match=complaint):
        reader.read(text)


@given(seed=st.integers(0, 2**32))
def test_replicas_agree_and_a_snapshot_carries_everything(seed: int) -> None:
    rng = Random(seed)
    one, two = ReplicatedState(Chat(), 10**6), ReplicatedState(Chat(), 10**6)
    commands: list[Command[ChatOp] | None] = [
        Command(ClientId(rng.randrange(3)), -1, number + 1, 1, post(rng.randrange(30), rng.choice("abc")))
        for number in range(60)
    ]
    assert one.apply(0, commands) == [
        result for command in commands for result in two.apply(two.applied + 1, [command])
    ]
    pieces = list(pieces_of(one))
    digest = digest_of(one.applied, pieces)
    assert digest == digest_of(two.applied, list(pieces_of(two)))
    three = ReplicatedState(Chat(), 10**6)
    three.install(one.applied, pieces, digest)
    more: list[Command[ChatOp] | None] = [Command(ClientId(9), -1, 1, 1, post(99, "a"))]
    assert one.apply(60, more) == three.apply(60, more)
    for room in "abc":
        if room in one.application.rooms.shard(room):  # type: ignore[attr-defined]
            check_room(three.application, room)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=60))
def test_a_small_room_keeps_what_the_obvious_code_keeps(said: list[tuple[str, int]]) -> None:
    """With a limit of five messages a room."""
    limit = chat_module.CHAT_ROOM_MESSAGES_MAX
    chat_module.CHAT_ROOM_MESSAGES_MAX = 5  # type: ignore[misc]
    try:
        chat, rooms = Chat(), dict[str, list[int]]()
        first: dict[str, int] = {}
        for room, number in said:
            kept = rooms.setdefault(room, [])
            result = chat.apply(post(number, room), CLIENT)
            if number not in kept:
                kept.append(number)
                if len(kept) > 5:
                    kept.pop(0)
                    first[room] = first.get(room, 0) + 1
            assert result == Posted(first.get(room, 0) + kept.index(number))
        for room, kept in rooms.items():
            found = page(chat, room)
            assert [int.from_bytes(message.id, "big") for message in found.messages] == kept
            assert found.first == found.kept == first.get(room, 0)
    finally:
        chat_module.CHAT_ROOM_MESSAGES_MAX = limit  # type: ignore[misc]
