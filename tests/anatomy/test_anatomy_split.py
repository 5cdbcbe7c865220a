"""A wait of a client is cut into phases that follow each other without gap or overlap."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.anatomy.facts import NOBODY, Event, Facts, Fault, Step, Wait
from paxos_twisted.anatomy.split import (
    CLIENT_TIMEOUT,
    DETECT,
    DETECTOR,
    DOWN,
    ELECT,
    FILL,
    FIRST_COMMIT,
    PHASE1,
    PHASES,
    RECONNECT,
    NoFailover,
    split,
)

MS = 1_000_000
ADDRESSES = {"a:1": 1, "a:2": 2, "a:3": 3}


def ns(ms: float) -> int:
    return round(ms * MS)


def event(ms: float, node: int, name: str, peer: int | None = None, **more: Any) -> Event:
    return Event(ns(ms), node, name, peer, more.get("rnd"), more.get("cause", ""))


def elected(start: float, winner: int = 2) -> list[Event]:
    """3 ms of pre-vote, 10 ms of phase 1, 5 ms of filling."""
    return [
        event(start, winner, "campaign"),
        event(start + 3, winner, "phase1", rnd=2002),
        event(start + 13, winner, "promised", rnd=2002),
        event(start + 13, winner, "leader", winner, rnd=2002, cause="round"),
        event(start + 18, winner, "filled", rnd=2002),
    ]


BEFORE_IT = [event(-5000, node, "leader", 3, rnd=1003, cause="round") for node in (1, 2, 3)]
"""Node 3 leads."""

KILLED = [
    *BEFORE_IT,
    event(11, 1, "link_lost", 3),
    event(12, 2, "link_lost", 3),
    event(14, 2, "link_refused", 3),
    event(14, 2, "leader", NOBODY, cause="suspect"),
    *elected(14),
]
SILENT = [
    *BEFORE_IT,
    event(800, 1, "leader", NOBODY, cause="suspect"),
    event(805, 2, "leader", NOBODY, cause="suspect"),
    *elected(805),
]


def facts(
    events: list[Event], end: float, sent: float, *steps: Step, start: float = 0, fault: Fault | None = None
) -> Facts:
    wait = Wait("1", ns(start), ns(end), ns(sent), steps)
    return Facts(wait, tuple(events), fault or Fault(ns(1), ns(1.5), frozenset({3})), 0, ADDRESSES)


def step(ms: float, what: str, address: str = "", cause: str = "") -> Step:
    return Step(ns(ms), what, address, cause)


FOUND = (step(2, "left", "a:3", "closed"), step(2, "dial", "a:2"), step(4, "welcome", "a:2"))


def test_a_killed_leader() -> None:
    anatomy = split(facts(KILLED, 36, 4, *FOUND))
    assert anatomy.phases_ms == {
        DETECT: 13, ELECT: 3, PHASE1: 10, FILL: 5, CLIENT_TIMEOUT: 0, RECONNECT: 0, FIRST_COMMIT: 4,
    }  # fmt: skip
    assert (anatomy.old_leader, anatomy.new_leader, anatomy.rnd, anatomy.attempts) == (3, 2, 2002, 1)
    assert anatomy.timer_share == 0
    assert anatomy.remainder_ms == 1  # the request that was under way when the fault came
    assert anatomy.is_explained


def test_a_silent_leader_costs_the_detectors_delay_and_the_clients_patience() -> None:
    steps = (
        step(1000, "left", "a:3", "timeout_read"),
        step(1000, "dial", "a:1"),
        step(1002, "welcome", "a:1"),
        step(1003, "left", "a:1", "redirect"),
        step(1003, "dial", "a:2"),
        step(1005, "welcome", "a:2"),
    )
    anatomy = split(facts(SILENT, 1010, 1005, *steps))
    assert anatomy.phases_ms == {
        DETECT: 799, ELECT: 8, PHASE1: 10, FILL: 5, CLIENT_TIMEOUT: 177, RECONNECT: 5, FIRST_COMMIT: 5,
    }  # fmt: skip
    assert anatomy.timers_ms == {DETECTOR: 799 + 5, "client's read timeout": 177}
    assert [part.text for part in anatomy.parts if part.phase == RECONNECT] == [
        "the client connects to node 1",
        "the client asks node 1 and is redirected",
        "the client connects to node 2",
    ]


def test_what_the_client_does_while_nobody_leads_costs_nothing() -> None:
    """It pauses and asks around, but is at the new leader before that one is ready."""
    steps = (*FOUND, step(5, "left", "a:2", "no_leader"), step(5, "pause"), step(20, "resume"), step(20, "use", "a:2"))
    anatomy = split(facts(KILLED, 36, 20, *steps))
    assert anatomy.phases_ms[CLIENT_TIMEOUT] == anatomy.phases_ms[RECONNECT] == 0


def test_a_pause_that_outlasts_the_election_is_a_timer() -> None:
    steps = (*FOUND, step(5, "left", "a:2", "no_leader"), step(5, "pause"), step(50, "resume"), step(51, "use", "a:2"))
    anatomy = split(facts(KILLED, 55, 51, *steps))
    assert anatomy.phases_ms[CLIENT_TIMEOUT] == 50 - 32
    assert anatomy.timers_ms == {"client's pause": 18}


def test_waiting_for_ones_turn_is_a_timer() -> None:
    events = [*KILLED[:7], event(14, 1, "leader", NOBODY, cause="suspect"), *elected(55)]
    anatomy = split(facts(events, 80, 4, *FOUND))
    assert anatomy.timers_ms == {"turn to campaign": 41}


def test_a_campaign_that_came_to_nothing_belongs_to_the_election() -> None:
    lost = [event(15, 1, "campaign"), event(17, 1, "phase1", rnd=2001), event(25, 1, "phase1_failed", rnd=2001)]
    anatomy = split(facts([*KILLED[:7], *lost, *elected(40)], 70, 4, *FOUND))
    assert anatomy.attempts == 2
    assert anatomy.phases_ms[ELECT] == 43 - 14


def test_a_leader_that_hands_over_is_no_timeout() -> None:
    events = [*BEFORE_IT, event(3, 2, "leader", NOBODY, cause="handover"), *elected(3)]
    anatomy = split(facts(events, 30, 4, *FOUND))
    assert anatomy.phases_ms[DETECT] == 2
    assert anatomy.timer_share == 0


def test_policy_lab_has_no_pre_vote() -> None:
    events = [*BEFORE_IT, event(800, 2, "leader", 2, cause="suspect"), *elected(797)[1:]]
    anatomy = split(facts(events, 820, 4, *FOUND))
    assert anatomy.phases_ms[DETECT] == 799
    assert anatomy.phases_ms[ELECT] == 0


def test_time_in_which_the_nodes_are_not_there_is_told_apart() -> None:
    events = [*BEFORE_IT, event(2000, 2, "started"), *elected(2100)]
    anatomy = split(facts(events, 2130, 2125))
    assert sum(part.ms for part in anatomy.parts if part.phase == DOWN) == 1999
    assert anatomy.is_explained


@pytest.mark.parametrize(
    ("events", "words"),
    [
        pytest.param(BEFORE_IT, "did not move", id="nobody was elected"),
        pytest.param([], "no events were collected", id="nothing is known"),
        pytest.param([*BEFORE_IT, *elected(500)], "did not move", id="later"),
    ],
)
def test_without_a_change_of_leader_there_is_nothing_to_split(events: list[Event], words: str) -> None:
    with pytest.raises(NoFailover, match=words):
        split(facts(events, 30, 4))


def test_a_wait_that_ended_before_the_fault_is_not_its_effect() -> None:
    with pytest.raises(NoFailover, match="before the fault"):
        split(facts(KILLED, 30, 4, fault=Fault(ns(40), ns(41))))


@pytest.mark.parametrize(
    ("begun", "done", "expected"),
    [
        pytest.param(2, 3, 2, id="known exactly"),
        pytest.param(-100, 3, 0, id="a slow command: answers had stopped"),
        pytest.param(-100, 60, 0, id="a slower one"),
        pytest.param(5, 60, 5, id="not before it was ordered"),
        pytest.param(13, 60, 13, id="nor"),
    ],
)
def test_when_the_fault_struck(begun: float, done: float, expected: float) -> None:
    anatomy = split(facts(KILLED, 36, 4, *FOUND, fault=Fault(ns(begun), ns(done), frozenset({3}))))
    assert anatomy.fault_ms == expected


def test_clocks_of_other_machines_are_known_to_a_few_milliseconds() -> None:
    """Node 2 seems to be elected before the fault, by its clock: parts are cut short, none is negative."""
    shifted = [Event(each.time_ns - ns(20), each.node, each.event, each.peer, each.rnd, each.cause) for each in KILLED]
    given = facts(shifted, 36, 4, *FOUND)
    anatomy = split(Facts(given.wait, given.events, given.fault, ns(25), ADDRESSES))
    assert anatomy.uncertainty_ms == 25
    assert all(part.ms > 0 for part in anatomy.parts)
    assert any("clocks" in note for note in anatomy.notes)


times = st.integers(-50, 1200).map(float)
names = st.sampled_from(
    ["link_lost", "link_refused", "campaign", "phase1", "promised", "filled", "started", "phase1_failed", "leader"]
)
some_events = st.lists(st.builds(event, times, st.integers(1, 3), names, st.integers(1, 3)))
some_steps = st.lists(
    st.builds(
        step,
        times,
        st.sampled_from(["dial", "welcome", "use", "left", "pause", "resume"]),
        st.sampled_from(["a:1", "a:2", ""]),
        st.sampled_from(["", "redirect", "timeout_read", "timeout_dial", "closed", "no_leader"]),
    )
)


@given(some_events, some_steps, times, times, st.floats(1, 1200), st.floats(-50, 1200))
def test_parts_follow_each_other_and_make_up_the_wait(
    events: list[Event], steps: list[Step], begun: float, done: float, end: float, sent: float
) -> None:
    """Whatever nodes and clients say, in whatever order."""
    given_steps = sorted(steps, key=lambda each: each.time_ns)
    given_events = sorted([*events, *elected(100)], key=lambda each: each.time_ns)
    try:
        anatomy = split(
            facts(given_events, end, sent, *given_steps, fault=Fault(ns(begun), ns(begun + abs(done)), frozenset({3})))
        )
    except NoFailover:
        return
    assert anatomy.parts[0].start_ms == 0
    assert anatomy.parts[-1].stop_ms == anatomy.gap_ms
    assert all(before.stop_ms == after.start_ms for before, after in pairwise(anatomy.parts))
    assert all(part.ms > 0 for part in anatomy.parts)
    assert sum(part.ms for part in anatomy.parts) == pytest.approx(anatomy.gap_ms)
    assert set(anatomy.phases_ms) == set(PHASES)
    assert 0 <= anatomy.timer_share <= 1 + 1e-9


def test_primary_backup_has_a_view_instead_of_a_round() -> None:
    events = [
        *BEFORE_IT[:2],
        event(14, 2, "link_lost", 3),
        event(16, 2, "link_refused", 3),
        event(16, 2, "leader", NOBODY, cause="suspect"),
        event(17, 2, "view_asked", rnd=7),
        event(30, 2, "view", 2, rnd=7),
        event(30, 2, "leader", 2, rnd=7, cause="view"),
        event(33, 2, "filled", rnd=7),
    ]
    anatomy = split(facts(events, 36, 4, *FOUND))
    assert [anatomy.phases_ms[phase] for phase in (DETECT, ELECT, PHASE1, FILL, FIRST_COMMIT)] == [15, 1, 13, 3, 3]


def test_without_a_leader_the_client_finds_another_replica() -> None:
    """EPaxos: nobody is elected."""
    events = [event(2, 1, "link_lost", 3), event(3, 2, "suspected", 3, cause="link")]
    anatomy = split(facts(events, 40, 4, *FOUND))
    assert anatomy.phases_ms[RECONNECT] == 3
    assert anatomy.phases_ms[FIRST_COMMIT] == 36
    assert anatomy.new_leader == 2
    assert anatomy.is_explained
    assert split(facts(events, 40, 4)).phases_ms[FILL] == 39, "a client of another replica waits for conflicts"
