"""Exactly once: the session table against clients that repeat, reorder, acknowledge and die. [rules 22-26, XO]

The slow obvious model is a memory without end: every command that was ever executed, with its result. Against it the
table, which forgets, must never execute a command twice, never answer a repetition with anything but the first result,
and refuse only whom its docstring says it refuses.
"""

from collections import Counter
from random import Random
from typing import Any

import pytest

from paxos_twisted.core import sessions as sessions_module
from paxos_twisted.core import table as table_module
from paxos_twisted.core.command import Command
from paxos_twisted.core.sessions import Refusal, Session, Sessions
from paxos_twisted.limits import SESSION_WINDOW, SESSIONS_PER_SHARD_MAX, SHARDS
from paxos_twisted.types import NO_SLOT, ClientId


def command(client: int, seq: int, ack: int = 1, birth: int = NO_SLOT) -> Command[str]:
    return Command(client=ClientId(client), birth=birth, seq=seq, ack=ack, op="op")


def apply(sessions: Sessions, slot: int, cmd: Command[str]) -> Any:
    """What the replicated state does with a command: the outcome, "executed in slot …" when it is new."""
    outcome = sessions.find(cmd)
    if outcome is None:
        outcome = f"executed in slot {slot}"
        sessions.store(slot, cmd, outcome)
    return outcome


def reason(outcome: Any) -> str:
    """In one word."""
    return outcome.reason if isinstance(outcome, Refusal) else "executed"


# --- One rule at a time


def test_a_repetition_gets_the_first_result_and_is_not_executed() -> None:
    sessions = Sessions(str, 1000)
    first = apply(sessions, 0, command(7, 1))
    assert apply(sessions, 1, command(7, 1)) == first == "executed in slot 0"


def test_the_same_seq_of_another_client_is_another_command() -> None:
    sessions = Sessions(str, 1000)
    apply(sessions, 0, command(7, 1))
    assert apply(sessions, 1, command(8, 1)) == "executed in slot 1"


def test_commands_of_one_client_may_be_decided_in_any_order() -> None:
    sessions = Sessions(str, 1000)
    assert [apply(sessions, slot, command(7, seq)) for slot, seq in enumerate([3, 1, 2, 3, 1, 2])] == [
        "executed in slot 0",
        "executed in slot 1",
        "executed in slot 2",
        "executed in slot 0",
        "executed in slot 1",
        "executed in slot 2",
    ]


def test_an_acknowledged_answer_is_forgotten_and_its_repetition_refused() -> None:
    sessions = Sessions(str, 1000)
    apply(sessions, 0, command(7, 1))
    apply(sessions, 1, command(7, 2, ack=2))
    assert reason(apply(sessions, 2, command(7, 1))) == "stale"
    assert sessions.table.shard(7)[7].answers == {2: "executed in slot 1"}


def test_a_command_that_acknowledges_itself_is_refused_and_leaves_no_trace() -> None:
    sessions = Sessions(str, 1000)
    assert reason(apply(sessions, 0, command(7, 1, ack=2))) == "invalid"
    assert len(sessions) == 0


def test_an_old_copy_with_a_lower_ack_does_not_take_the_acknowledgement_back() -> None:
    sessions = Sessions(str, 1000)
    apply(sessions, 0, command(7, 3, ack=3))
    apply(sessions, 1, command(7, 4, ack=1))
    assert sessions.table.shard(7)[7].low == 3
    assert reason(apply(sessions, 2, command(7, 2, ack=1))) == "stale"


@pytest.mark.parametrize(
    ("seq", "ack", "expected"),
    [
        pytest.param(SESSION_WINDOW, 1, "executed", id="the last of the window is executed"),
        pytest.param(SESSION_WINDOW + 1, 1, "window", id="the first beyond the window is refused"),
        pytest.param(SESSION_WINDOW + 1, 2, "executed", id="an acknowledgement moves the window"),
    ],
)
@pytest.mark.parametrize("opened", [False, True], ids=["opens the session", "in an open session"])
def test_window(seq: int, ack: int, expected: str, opened: bool) -> None:
    sessions = Sessions(str, 1000)
    if opened:
        apply(sessions, 0, command(7, 1))
    assert reason(apply(sessions, 1, command(7, seq, ack))) == expected


def test_a_refused_command_leaves_no_trace() -> None:
    sessions = Sessions(str, 1000)
    apply(sessions, 0, command(7, SESSION_WINDOW + 1))
    assert len(sessions) == 0


@pytest.mark.parametrize(
    ("silent_slots", "is_open"),
    [
        pytest.param(1000, True, id="a session that was silent for exactly the expiry stays"),
        pytest.param(1001, False, id="a session that was silent for longer goes"),
    ],
)
def test_expiry(silent_slots: int, is_open: bool) -> None:
    sessions = Sessions(str, 1000)
    slot = 5 * SHARDS  # the visit to part 5
    apply(sessions, slot - silent_slots, command(5, 1, birth=3))
    sessions.expire(slot)
    assert len(sessions) == is_open


def test_expiry_visits_one_part_after_the_other() -> None:
    sessions = Sessions(str, 1000)
    for client in range(SHARDS):
        apply(sessions, 0, command(client, 1))
    for turn in range(1, SHARDS):
        sessions.expire((SHARDS + turn) * SHARDS)
        assert len(sessions) == SHARDS - turn


class TestAfterExpiry:
    """Client 5 was active last in slot 100 and has expired."""

    @pytest.fixture
    def sessions(self) -> Sessions:
        sessions = Sessions(str, 1000)
        apply(sessions, 100, command(5, 1, birth=99))
        sessions.expire((SHARDS + 5) * SHARDS)
        assert len(sessions) == 0
        return sessions

    def test_its_late_repetition_is_refused_for_ever(self, sessions: Sessions) -> None:  # [scenario 26 expired-session]
        slot = 2 * SHARDS * SHARDS
        for _ in range(3):
            assert reason(apply(sessions, slot, command(5, 1, birth=99))) == "expired"
            slot += 1
            apply(sessions, slot, command(5 + SHARDS, 1, birth=slot))
            slot += 1

    def test_a_new_client_that_knows_a_later_slot_is_let_in(self, sessions: Sessions) -> None:
        assert reason(apply(sessions, 2_000_000, command(5 + SHARDS, 1, birth=100))) == "executed"

    def test_a_client_of_another_part_is_not_concerned(self, sessions: Sessions) -> None:
        assert reason(apply(sessions, 2_000_000, command(6, 1, birth=0))) == "executed"


def test_the_session_that_was_silent_for_longest_makes_room_in_a_full_part() -> None:
    sessions = Sessions(str, 10**9)
    clients = [5 + SHARDS * number for number in range(SESSIONS_PER_SHARD_MAX)]
    for slot, client in enumerate(clients):
        apply(sessions, slot, command(client, 1))
    apply(sessions, 1000, command(clients[0], 2))  # not silent any more
    newcomer = 5 + SHARDS * SESSIONS_PER_SHARD_MAX
    assert reason(apply(sessions, 1001, command(newcomer, 1, birth=1000))) == "executed"
    assert len(sessions) == SESSIONS_PER_SHARD_MAX
    assert reason(apply(sessions, 1002, command(clients[1], 1))) == "expired"
    assert apply(sessions, 1003, command(clients[0], 1)) == "executed in slot 0"
    assert apply(sessions, 1004, command(newcomer, 1, birth=1000)) == "executed in slot 1001"


# --- All rules together


class Client:
    """A client as ours is: it acknowledges only what it was told, keeps to its window, and gives up when expired."""

    def __init__(self, number: int, birth: int) -> None:
        self.number = number
        self.birth = birth
        self.next_seq = 1
        self.unanswered: set[int] = set()

    @property
    def ack(self) -> int:
        return min(self.unanswered, default=self.next_seq)


class World:
    """Honest clients; a network that keeps every command and delivers it late, twice, in any order; and one replica.

    Everything is small, so that sessions expire, parts are full and windows end all the time.
    """

    WINDOW, ROOM, PARTS, EXPIRY = 4, 3, 2, 60

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.sessions = Sessions(str, self.EXPIRY)
        self.slot = NO_SLOT
        self.clients: list[Client] = []
        self.sent: list[Command[str]] = []
        self.executed: dict[tuple[int, int], str] = {}  # the memory without end
        self.expired: set[int] = set()  # clients that were refused as expired
        self.acknowledged: dict[int, int] = {}  # client -> highest ack among its executed commands
        self.forgotten: dict[int, int] = {}  # part -> newest activity among the sessions that went
        self.active: dict[int, int] = {}  # open client -> its newest slot
        self.seen: Counter[str] = Counter()

    def run(self, steps: int) -> None:
        actions = [self.new_client, self.send, self.decide, self.others_write, self.take_over_the_snapshot]
        for action in self.random.choices(actions, weights=[5, 40, 60, 1, 2], k=steps):
            action()
            self.check()

    def new_client(self) -> None:
        """It was told `birth` by a node that may be behind."""
        self.clients.append(Client(len(self.clients), max(self.slot - self.random.choice([0, 0, 5]), NO_SLOT)))

    def send(self) -> None:
        if self.clients:
            client = self.random.choice(self.clients[-7:])
            if client.next_seq < client.ack + self.WINDOW and client.number not in self.expired:
                client.unanswered.add(client.next_seq)
                self.sent.append(command(client.number, client.next_seq, client.ack, client.birth))
                client.next_seq += 1

    def decide(self) -> None:
        """Some copy of some command is decided; its client may or may not get the answer."""
        if self.sent:
            cmd = self.random.choice(self.sent[-self.random.choice([3, 10, 10, 30, len(self.sent)]) :])
            self.next_slot()
            outcome = apply(self.sessions, self.slot, cmd)
            self.judge(cmd, outcome)
            self.look_for_gone_sessions(newcomer=cmd.client)
            if self.random.random() < 0.7:
                self.clients[cmd.client].unanswered.discard(cmd.seq)

    def judge(self, cmd: Command[str], outcome: Any) -> None:
        key = (int(cmd.client), cmd.seq)
        match reason(outcome):
            case "executed":
                assert outcome == self.executed.setdefault(key, outcome), "executed twice, or another answer"
                assert cmd.client not in self.expired, "executed after it was refused as expired"
                is_new = outcome == f"executed in slot {self.slot}"
                self.seen["new" if is_new else "repeated"] += 1
                if is_new:
                    self.active[cmd.client] = self.slot
                    self.acknowledged[cmd.client] = max(self.acknowledged.get(cmd.client, 1), cmd.ack)
            case "expired":
                assert cmd.client not in self.active, "refused although its session is open"
                assert cmd.birth < self.forgotten[cmd.client % self.PARTS], "refused although it cannot have been here"
                self.expired.add(cmd.client)
                self.seen["expired"] += 1
            case "stale":
                assert cmd.seq < self.acknowledged[cmd.client], "refused although its answer was never acknowledged"
                assert key in self.executed
                self.seen["stale"] += 1
            case other:
                raise AssertionError(f"an honest client was refused: {other}")

    def others_write(self) -> None:
        for _ in range(self.random.randint(1, 2 * self.EXPIRY)):
            self.next_slot()

    def take_over_the_snapshot(self) -> None:  # [scenario 25 session-in-snapshot]
        """Another replica goes on, which knows only the picture of this one."""
        photograph = self.sessions.table.freeze()
        self.sessions = Sessions(str, self.EXPIRY)
        while (piece := photograph.next_piece()) is not None:
            self.sessions.table.load(piece)

    def next_slot(self) -> None:
        self.slot += 1
        if self.slot % self.PARTS == 0:
            self.sessions.expire(self.slot)
            self.look_for_gone_sessions(newcomer=None)

    def open_clients(self) -> dict[int, Session[str]]:
        return {key: row for key, row in self.sessions.table.items() if key >= 0}

    def look_for_gone_sessions(self, newcomer: int | None) -> None:
        """A session goes only when it was silent for too long, or for a newcomer as the most silent one of its part."""
        still = self.open_clients()
        for client in [client for client in self.active if client not in still]:
            active = self.active.pop(client)
            part = client % self.PARTS
            if newcomer is None:
                assert active < self.slot - self.EXPIRY
            else:
                assert part == newcomer % self.PARTS
                rest = [slot for other, slot in self.active.items() if other % self.PARTS == part]
                assert active < min(rest)
                assert len(rest) >= self.ROOM, "it went although there was room"
                self.seen["made room"] += 1
            self.forgotten[part] = max(self.forgotten.get(part, NO_SLOT), active)

    def check(self) -> None:
        """The table is what its fields say, and bounded."""
        still = self.open_clients()
        assert {client: row.active for client, row in still.items()} == self.active
        assert len(self.sessions) == len(still)
        for part in range(self.PARTS):
            assert sum(client % self.PARTS == part for client in still) <= self.ROOM
        for client, row in still.items():
            assert row.low == self.acknowledged[client]
            assert all(row.low <= seq < row.low + self.WINDOW for seq in row.answers)
            assert all(self.executed[client, seq] == answer for seq, answer in row.answers.items())


@pytest.fixture
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "SESSION_WINDOW", World.WINDOW)
    monkeypatch.setattr(sessions_module, "SESSIONS_PER_SHARD_MAX", World.ROOM)
    monkeypatch.setattr(sessions_module, "SHARDS", World.PARTS)
    monkeypatch.setattr(table_module, "SHARDS", World.PARTS)


@pytest.mark.usefixtures("_small_limits")
@pytest.mark.parametrize("seed", range(40))
def test_against_a_memory_without_end(seed: int) -> None:
    world = World(seed)
    world.run(steps=4000)
    assert min(world.seen[what] for what in ("new", "repeated", "stale", "expired", "made room")) > 10, world.seen
