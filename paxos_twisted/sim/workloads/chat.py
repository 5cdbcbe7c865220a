"""The chat in the simulator."""

from collections.abc import Callable

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.chat import (
    Chat,
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
)
from paxos_twisted.sim.model import ModelError
from paxos_twisted.sim.workloads.workload import Habits


class ChatSpecification:
    """A list of messages for each room. Shorter than what a room forgets, and than a page: the runs are short."""

    def __init__(self) -> None:
        self.rooms: dict[str, list[Message]] = {}

    def execute(self, op: ChatOp, client: int) -> ChatResult:
        """Execute one operation."""
        match op:
            case Post():
                room = self.rooms.setdefault(op.room, [])
                for position, message in enumerate(room):
                    if message.id == op.id:
                        return Posted(position)
                room.append(Message(op.id, op.at, op.author, op.body))
                return Posted(len(room) - 1)
            case History():
                room = self.rooms.get(op.room, [])
                first = op.start if op.start >= 0 else max(len(room) + op.start, 0)
                return Page(first, tuple(room[first : first + op.limit]), 0, len(room))
            case Rooms():
                names = sorted(name for name in self.rooms if name > op.after)
                return RoomList(
                    tuple(RoomLine(name, 0, len(self.rooms[name]), self.rooms[name][-1].at) for name in names), True
                )

    def check(self, application: Application) -> None:
        """The same messages in the same places of the same rooms."""
        assert isinstance(application, Chat)
        held = dict(application.messages.items())
        wanted = {(name, at): message for name, room in self.rooms.items() for at, message in enumerate(room)}
        if held != wanted:
            raise ModelError(f"EQ: the rooms hold {sorted(held.items())} instead of {sorted(wanted.items())}")


class ChatWorkload:
    """People who talk in a few rooms, and read back what was said."""

    name = "chat"

    def application(self) -> Application:
        """The shipped chat."""
        return Chat()

    def specification(self) -> ChatSpecification:
        """Lists."""
        return ChatSpecification()

    def checker(self) -> None:
        """The witness of the log has to do."""

    def draw(self, rand: Callable[[], float], habits: Habits, client: int) -> ChatOp:
        """Mostly messages."""
        is_own = rand() < habits.own_share
        room = f"room of {client}" if is_own else f"room {int(rand() * habits.accounts)}"
        choice = rand()
        if choice < habits.transfer_share and not is_own:
            return Rooms()
        if choice < 0.75:
            number = int(rand() * 2**53)
            return Post(room, number.to_bytes(16, "big"), f"client {client}", f"message {number % 1000}")
        return History(room, int(rand() * 20) - 10, 1 + int(rand() * 10))
