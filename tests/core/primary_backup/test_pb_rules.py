"""The rules of primary-backup replication, one by one. Numbers in brackets are those of the protocol rules."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.core.command import NOOP
from paxos_twisted.core.engine import Batch
from paxos_twisted.core.primary_backup.held import Entry, HeldLog
from paxos_twisted.core.primary_backup.intake import Intake
from paxos_twisted.core.primary_backup.messages import Message
from paxos_twisted.core.primary_backup.primary import Primary
from paxos_twisted.core.primary_backup.restore import ENDLESS, restore
from paxos_twisted.core.primary_backup.succession import RETURN_MS_MAX, Returns
from paxos_twisted.core.primary_backup.view import View, ViewChange, ViewRegister, encode_change, first_view
from paxos_twisted.core.records import (
    Chosen,
    Entered,
    Header,
    Held,
    LogRecord,
    Promised,
    Reached,
    ViewKept,
    ViewLog,
    Voted,
    is_about_views,
    unview_header,
    view_header,
)
from paxos_twisted.types import NodeId

ONE, TWO, THREE, FOUR = map(NodeId, (1, 2, 3, 4))


def command(number: int) -> bytes:
    """One command of one byte."""
    return bytes([number])


# Views: who is primary, the queue and the epoch are one decision [82]


def decided(*changes: ViewChange) -> ViewRegister:
    register = ViewRegister(first_view([THREE, ONE, TWO]))
    for change in changes:
        register.apply(encode_change(change), 1)
    return register


def test_the_first_view_has_all_members_by_id() -> None:
    view = first_view([THREE, ONE, TWO])
    assert (view.epoch, view.primary, view.queue) == (1, 1, (2, 3))


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        pytest.param(
            [ViewChange(1, (TWO, THREE), 7)], View(2, (TWO, THREE), 7), id="a change of the present epoch counts"
        ),
        pytest.param(
            [ViewChange(1, (TWO, THREE), 7), ViewChange(1, (THREE,), 8)],
            View(2, (TWO, THREE), 7),
            id="of two changes of one epoch the first counts",
        ),
        pytest.param([ViewChange(2, (THREE,), 8)], View(1, (ONE, TWO, THREE)), id="a change of a later epoch does not"),
        pytest.param([ViewChange(1, (), 8)], View(1, (ONE, TWO, THREE)), id="a view without members is none"),
        pytest.param(
            [ViewChange(1, (TWO, TWO), 8)], View(1, (ONE, TWO, THREE)), id="nor is one that names a node twice"
        ),
        pytest.param(
            [ViewChange(1, (ONE, TWO), 7), ViewChange(2, (ONE, TWO), 7)],
            View(3, (ONE, TWO), 7),
            id="the same members again are a new epoch",
        ),
    ],
)
def test_view_register(changes: list[ViewChange], view: View) -> None:
    assert decided(*changes).view == view


@pytest.mark.parametrize("body", [NOOP, b"\x01", b"\x93\x07\x08\x09"], ids=["a no-op", "a number", "something else"])
def test_what_is_no_change_changes_nothing(body: bytes) -> None:
    register = decided()
    assert register.apply(body, 1) == []
    assert register.view == first_view([ONE, TWO, THREE])


# The primary commits what everybody has [80]


def primary(*members: NodeId) -> Primary:
    return Primary(ONE, View(5, (ONE, *members), 1), 10, 14, [TWO, THREE, FOUR], 100)


@pytest.mark.parametrize(
    ("own", "acked", "committed"),
    [
        pytest.param(14, {TWO: 14, THREE: 12}, 12, id="the slowest backup decides"),
        pytest.param(11, {TWO: 14, THREE: 14}, 11, id="the primary's own disk counts like a backup's"),
        pytest.param(14, {TWO: 14, THREE: 14, FOUR: -1}, 14, id="who is in no view does not count"),
        pytest.param(14, {TWO: 14}, -1, id="a backup that has said nothing in this epoch holds all up"),
    ],
)
def test_commitment(own: int, acked: dict[NodeId, int], committed: int) -> None:
    part = primary(TWO, THREE)
    part.acked = own
    for node, slot in acked.items():
        part.followers[node].on_ack(slot, 0, 100)
    assert part.committed() == committed


def test_whoever_is_joining_must_have_it_too() -> None:
    part = primary(TWO)
    part.acked = 14
    part.followers[TWO].on_ack(14, 0, 100)
    part.followers[THREE].on_ack(11, 0, 100)
    assert part.committed() == 14
    part.joining.add(THREE)
    assert part.committed() == 11


def test_who_was_asked_for_as_a_member_cannot_be_let_go_any_more() -> None:
    part = primary(TWO)
    part.joining = {THREE, FOUR}
    part.asked = {THREE}
    part.let_go(THREE)
    part.let_go(FOUR)
    assert part.joining == {THREE}


# What a backup holds


def test_a_higher_epoch_replaces_what_a_lower_one_gave() -> None:
    log = HeldLog()
    assert log.put(Entry(0, 2, command(1) + command(2), 2))
    assert log.put(Entry(1, 3, command(9), 1))
    assert [(entry.slot, entry.epoch, entry.body) for entry in log.entries] == [(0, 2, command(1)), (1, 3, command(9))]


def test_the_same_again_is_no_news() -> None:
    log = HeldLog()
    log.put(Entry(0, 2, command(1) + command(2), 2))
    assert not log.put(Entry(0, 2, command(1) + command(2), 2))
    assert not log.put(Entry(1, 2, command(2), 1))


def test_good_ends_at_a_hole_and_at_another_epoch() -> None:
    log = HeldLog()
    log.put(Entry(0, 2, command(1), 1))
    log.put(Entry(2, 3, command(3), 1))
    assert (log.good(2), log.good(3), log.end) == (0, -1, 0)
    log.put(Entry(0, 3, command(1), 1))
    log.put(Entry(1, 3, command(2), 1))
    assert (log.good(2), log.good(3), log.end) == (-1, 2, 2)


def test_a_new_primary_voids_what_it_does_not_have() -> None:
    log = HeldLog()
    log.put(Entry(0, 2, b"".join(map(command, range(5))), 5))
    log.commit(1)
    log.void_from(3)
    assert log.end == 2
    log.void_from(0)
    assert log.end == 1, "what is committed stays"


def test_what_has_rotted_is_known_again_when_a_primary_gives_it_or_when_it_is_void() -> None:
    log = HeldLog()
    log.damaged.add(3, 6)
    log.put(Entry(3, 2, command(3), 1))
    assert list(log.damaged) == [(4, 6)]
    log.void_from(5)
    assert list(log.damaged) == [(4, 5)]
    log.put(Entry(0, 2, b"".join(map(command, range(3))), 3))
    log.put(Entry(4, 2, command(4), 1))
    log.commit(4)
    assert not log.damaged


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 4), st.integers(1, 5), st.booleans()), min_size=1, max_size=25
    )
)
def test_runs_hold_what_slot_by_slot_would(puts: list[tuple[int, int, int, bool]]) -> None:
    """Against the obvious way: one entry a slot. The epoch of what comes never falls, as at a backup."""
    log, slots = HeldLog(), {}
    epoch = 0
    for slot, count, step, is_new in puts:
        epoch += step if is_new or not epoch else 0
        body = b"".join(command((number * 7 + epoch) % 100) for number in range(slot, slot + count))
        log.put(Entry(slot, epoch, body, count))
        for number in range(slot, slot + count):
            slots[number] = (epoch, command((number * 7 + epoch) % 100))
    end = -1
    while end + 1 in slots:
        end += 1
    assert log.end == end
    good = -1
    while slots.get(good + 1, (None,))[0] == epoch:
        good += 1
    assert log.good(epoch) == good
    for number, (known, value) in slots.items():
        entry = log.entries.at(number)
        assert entry is not None
        assert (entry.epoch, entry.body[number - entry.slot : number - entry.slot + 1]) == (known, value)


# Restart


def held(epoch: int, slot: int, values: str, adu: int) -> Held:
    return Held(epoch, slot, len(values), b"".join(command(ord(value)) for value in values), adu)


def state(entries: list[LogRecord], lost: list[Header] | None = None, snapshot: int = -1, applied: int = -1) -> Any:
    return restore(entries, lost or [], snapshot, applied)


def text(log: HeldLog) -> str:
    """The commands from the first slot to the end."""
    return b"".join(entry.body for entry in log.between(log.first, log.end + 1, 10_000)).decode()


@pytest.mark.parametrize(
    ("entries", "adu", "whole"),
    [
        pytest.param([], -1, "", id="an empty log"),
        pytest.param([held(2, 0, "abc", -1)], -1, "abc", id="what is held is not committed by that"),
        pytest.param([held(2, 0, "abc", -1), held(2, 3, "d", 1)], 1, "abcd", id="a mark says what is"),
        pytest.param([held(2, 0, "abc", -1), held(3, 1, "xy", 0)], 0, "axy", id="a higher epoch replaces"),
        pytest.param(
            [held(2, 0, "abc", -1), Entered(3, (TWO, ONE), 7, 1), held(3, 1, "x", 0)],
            0,
            "ax",
            id="what a new primary does not have is void",
        ),
        pytest.param(
            [held(3, 0, "abc", -1), Entered(3, (TWO, ONE), 7, ENDLESS)], -1, "abc", id="a repeated view voids nothing"
        ),
        pytest.param(
            [held(2, 0, "a", -1), Chosen(1, 2, b"yz"), held(3, 3, "d", 2)], 2, "ayzd", id="fetched runs are committed"
        ),
        pytest.param([Chosen(0, 2, b"yz")], 1, "yz", id="a fetched run is a mark by itself"),
        pytest.param([held(2, 0, "abc", -1), Reached(2)], 2, "abc", id="a plain mark"),
    ],
)
def test_restart(entries: list[LogRecord], adu: int, whole: str) -> None:
    restored = state(entries)
    assert (restored.log.adu, text(restored.log)) == (adu, whole)
    restored.log.check_invariants()


@pytest.mark.parametrize(
    ("entries", "lost", "damaged"),
    [
        pytest.param([held(2, 0, "a", -1)], Header(1, 2, 2), [(1, 3)], id="nothing readable speaks of the slots"),
        pytest.param([held(2, 0, "abc", -1)], Header(1, 2, 3), [(1, 3)], id="what is readable is older"),
        pytest.param([held(3, 0, "abc", -1)], Header(1, 2, 2), [], id="what is readable is newer"),
        pytest.param([held(3, 0, "ab", -1)], Header(1, 2, 2), [(2, 3)], id="what is readable is newer, in part"),
        pytest.param([held(3, 0, "abc", 2)], Header(), [], id="a hint"),
        pytest.param([held(3, 0, "abc", 2)], view_header(Header(0, 9, 5)), [], id="a record about views"),
    ],
)
def test_what_has_rotted(entries: list[LogRecord], lost: Header, damaged: list[tuple[int, int]]) -> None:
    log = state(entries, [lost]).log
    assert list(log.damaged) == damaged
    log.check_invariants()


def test_a_lost_snapshot_is_damage_up_to_its_slot() -> None:
    log = state([held(2, 5, "ab", 4)], snapshot=4, applied=-1).log
    assert list(log.damaged) == [(0, 5)]
    assert log.adu == -1


def test_the_view_log_is_given_to_multi_paxos_as_it_was_written() -> None:
    kept = ViewKept(3, 4, (TWO, ONE), 9, 1001, ((4, 1, 1001, b"v"),))
    records: list[LogRecord] = [ViewLog(Promised(1)), kept, ViewLog(Voted(2001, 5, 1, b"w", 4))]
    restored = state(records, [view_header(Header(7, 2, 3001))])
    assert restored.view_kept == kept
    assert restored.view_records == [
        Promised(1),
        Promised(1001),
        Voted(1001, 4, 1, b"v", 3),
        Voted(2001, 5, 1, b"w", 4),
    ]
    assert restored.view_lost == [Header(7, 2, 3001)]


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(0, 10**9))
def test_headers_about_views_are_no_headers_of_slots(slot: int, count: int, rnd: int) -> None:
    for header in (Header(slot, count, rnd), Header(rnd=rnd)):
        marked = view_header(header)
        assert is_about_views(marked)
        assert marked.slot + marked.count - 1 < 0
        assert unview_header(marked) == header
    assert not is_about_views(Header(slot, count, rnd))


# The small parts


def test_the_intake_gives_runs_that_fit() -> None:
    intake = Intake(4)
    intake.add(Batch(bytes(range(1, 4)), 3))
    intake.add(Batch(bytes(range(4, 11)), 7))
    runs = []
    while (batch := intake.take(4)) is not None:
        runs.append(batch.body)
    assert b"".join(runs) == bytes(range(1, 11))
    assert [len(run) for run in runs] == [4, 4, 2]
    assert intake.count == 0


def test_who_leaves_again_and_again_returns_later_and_later() -> None:
    returns = Returns(100)
    waits = []
    now = 0
    for _ in range(12):
        returns.on_left(TWO, now)
        wait = 0
        while not returns.may_return(TWO, now + wait):
            wait += 50
        waits.append(wait)
        now += wait + 10
    assert waits[:4] == [0, 100, 200, 400]
    assert waits == sorted(waits)
    assert waits[-1] == RETURN_MS_MAX
    returns.on_left(TWO, now + 60_000)
    assert returns.may_return(TWO, now + 60_000)


def test_tags_are_those_of_this_engine_and_different() -> None:
    kinds = msgspec.inspect.type_info(Message).types  # type: ignore[attr-defined]
    tags = [kind.tag for kind in kinds]
    assert len(set(tags)) == len(tags)
    assert all(70 <= tag <= 99 for tag in tags)
