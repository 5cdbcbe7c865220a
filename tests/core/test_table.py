"""Tables that are photographed while they change."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paxos_twisted.core import table as table_module
from paxos_twisted.core.table import Photograph, Table

SHARDS = 4
"""Few parts, so that random keys meet in them and pictures end soon."""

keys = st.integers(0, 11)


class Shot:
    """A picture being taken, and what it must show."""

    def __init__(self, photograph: Photograph[int, list[int]], shows: dict[int, list[int]]) -> None:
        self.photograph = photograph
        self.shows = shows
        self.taken: list[bytes] = []


class PhotographedTable(RuleBasedStateMachine):
    """Writes of every kind between the pieces of several pictures: each picture shows the contents at its `freeze`."""

    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(table_module, "SHARDS", SHARDS)
        self.table: Table[int, list[int]] = Table("rows", tuple[int, list[int]], int)
        self.expected: dict[int, list[int]] = {}
        self.shots: list[Shot] = []

    def teardown(self) -> None:
        while self.shots:
            self.take(0, SHARDS + 1)
        assert not self.table._photographs, "a finished picture still costs writes"
        self.patch.undo()

    @rule(key=keys, value=st.integers(0, 99))
    def put(self, key: int, value: int) -> None:
        self.table.writable(key)[key] = [value]
        self.expected[key] = [value]

    @rule(key=keys, value=st.integers(0, 99))
    def change_a_row_in_place(self, key: int, value: int) -> None:
        if key in self.expected:
            self.table.writable(key)[key].append(value)
            self.expected[key] = [*self.expected[key], value]

    @rule(key=keys)
    def delete(self, key: int) -> None:
        self.table.writable(key).pop(key, None)
        self.expected.pop(key, None)

    @rule(contents=st.dictionaries(keys, st.lists(st.integers(0, 99), max_size=2)))
    def replace(self, contents: dict[int, list[int]]) -> None:
        shards: list[dict[int, list[int]]] = [{} for _ in range(SHARDS)]
        for key, row in contents.items():
            shards[key % SHARDS][key] = list(row)
        self.table.replace(shards)
        self.expected = dict(contents)

    @rule()
    @precondition(lambda self: len(self.shots) < 3)
    def freeze(self) -> None:
        self.shots.append(Shot(self.table.freeze(), dict(self.expected)))

    @rule(which=st.integers(0, 2), pieces=st.integers(1, SHARDS + 1))
    @precondition(lambda self: self.shots)
    def take(self, which: int, pieces: int) -> None:
        shot = self.shots[which % len(self.shots)]
        for _ in range(pieces):
            piece = shot.photograph.next_piece()
            if piece is None:
                self.develop(shot)
                self.shots.remove(shot)
                return
            shot.taken.append(piece)

    @rule(which=st.integers(0, 2))
    @precondition(lambda self: self.shots)
    def give_up(self, which: int) -> None:
        shot = self.shots.pop(which % len(self.shots))
        self.table.release(shot.photograph)
        self.table.release(shot.photograph)  # a second time changes nothing

    def develop(self, shot: Shot) -> None:
        assert len(shot.taken) == SHARDS
        rows: list[tuple[int, list[int]]] = []
        for index, piece in enumerate(shot.taken):
            part = msgspec.msgpack.decode(piece, type=list[tuple[int, list[int]]])
            assert part == sorted(part), "a piece is not canonical"
            assert all(key % SHARDS == index for key, _ in part)
            rows += part
        assert dict(rows) == shot.shows
        copy: Table[int, list[int]] = Table("copy", tuple[int, list[int]], int)
        for piece in shot.taken:
            copy.load(piece)
        assert dict(copy.items()) == shot.shows

    @invariant()
    def the_table_itself_holds_what_was_written(self) -> None:
        assert dict(self.table.items()) == self.expected
        assert len(self.table) == len(self.expected)
        assert all(self.table.shard(key)[key] == row for key, row in self.expected.items())


PhotographedTable.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPhotographedTable = PhotographedTable.TestCase


def test_items_come_part_by_part_and_sorted_inside_a_part() -> None:
    table: Table[int, int] = Table("rows", tuple[int, int], int)
    for key in (2049, 5, 1025, 1, 1024):
        table.writable(key)[key] = 0
    assert [key for key, _ in table.items()] == [1024, 1, 1025, 2049, 5]


def test_a_finished_picture_stays_finished() -> None:
    table: Table[int, int] = Table("rows", tuple[int, int], int)
    photograph = table.freeze()
    while photograph.next_piece() is not None:
        pass
    assert photograph.next_piece() is None


def test_a_write_encodes_a_part_for_a_picture_only_once() -> None:
    table: Table[int, int] = Table("rows", tuple[int, int], int)
    table.writable(1)[1] = 10
    photograph = table.freeze()
    table.writable(1)[1] = 20
    kept = photograph._kept[1]
    table.writable(1)[1] = 30
    assert photograph._kept == {1: kept}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([["one", 2]], id="a key of another type"),
        pytest.param([[1, None]], id="a row of another type"),
        pytest.param([[1, 2, 3]], id="one field too many"),
        pytest.param({"1": 2}, id="a map"),
    ],
)
def test_a_piece_with_other_rows_is_not_loaded(rows: Any) -> None:
    table: Table[int, int] = Table("rows", tuple[int, int], int)
    with pytest.raises(msgspec.ValidationError):
        table.load(msgspec.msgpack.encode(rows))
    assert len(table) == 0
