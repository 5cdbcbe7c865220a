"""Who campaigns when: the sticky detector's order, and what does not make a node campaign."""

import random

import pytest

from paxos_twisted.core.multipaxos.messages import WouldFollow
from paxos_twisted.core.multipaxos.sticky import STAGGER_MS, YIELD_MS, Sticky
from paxos_twisted.types import NO_NODE, NodeId

ALL = [NodeId(1), NodeId(2), NodeId(3)]

TURN_CASES = [
    ("the highest connected id goes at once", 2, [1, 2], False, 0),
    ("the next one waits for its turn", 1, [1, 2], False, 1),
    ("the lost leader does not count", 2, [1, 2, 3], False, 0),
    ("a node that is behind lets all others go first", 2, [1, 2], True, 2),
    ("but it goes: it may be the only one that a majority hears", 2, [2], True, 1),
]


@pytest.mark.parametrize(
    ("node", "connected", "is_behind", "turn"), [c[1:] for c in TURN_CASES], ids=[c[0] for c in TURN_CASES]
)
def test_when_the_leader_is_lost(node: int, connected: list[int], is_behind: bool, turn: int) -> None:
    sticky = Sticky(NodeId(node), 3, 250, random.Random(1))
    sticky.follow(NodeId(3), 3003, 1000)
    sticky.lose(1000, [NodeId(other) for other in connected], is_behind)
    assert sticky.leader == NO_NODE
    due = [now for now in range(1000, 1400) if sticky.is_due(now)]
    assert due[0] == 1000 + turn * STAGGER_MS


def test_a_campaign_is_won_once_by_a_majority_of_distinct_nodes_of_this_campaign() -> None:
    sticky = Sticky(NodeId(2), 5, 250, random.Random(1))
    ask = sticky.ask(0, -1)

    def answer(sender: int, campaign: int, granted: bool = True) -> WouldFollow:
        return WouldFollow(NodeId(sender), campaign, granted, NO_NODE, -1, -1)

    assert not sticky.is_won(answer(1, ask.campaign))
    assert not sticky.is_won(answer(1, ask.campaign))
    assert not sticky.is_won(answer(3, ask.campaign - 1))
    assert not sticky.is_won(answer(4, ask.campaign, granted=False))
    assert sticky.is_won(answer(5, ask.campaign))
    assert not sticky.is_won(answer(3, ask.campaign))


def test_a_working_leader_is_one_that_is_heard_over_a_link_that_stands() -> None:
    sticky = Sticky(NodeId(2), 3, 250, random.Random(1))
    assert not sticky.is_working(0, 800)
    sticky.follow(NodeId(3), 3003, 100)
    assert sticky.is_working(900, 800)
    assert not sticky.is_working(901, 800)
    sticky.link_lost = True
    assert not sticky.is_working(200, 800)


def test_who_lets_another_go_first_waits_for_it_but_only_once() -> None:
    """A deaf node asks again and again; it must not keep the others from campaigning."""
    sticky = Sticky(NodeId(2), 3, 250, random.Random(1))
    sticky.follow(NodeId(3), 3003, 1000)
    sticky.lose(1000, ALL[:2])
    for now in range(1000, 1000 + YIELD_MS):
        sticky.make_way(now)
        assert not sticky.is_due(now)
    assert sticky.is_due(1000 + YIELD_MS)
    sticky.lose(2000, ALL[:2])
    sticky.make_way(2010)
    assert not sticky.is_due(2010)
    assert sticky.is_due(2010 + YIELD_MS)


def test_an_older_leader_is_not_followed_any_more() -> None:
    sticky = Sticky(NodeId(2), 3, 250, random.Random(1))
    assert sticky.follow(NodeId(3), 3003, 0)
    assert not sticky.follow(NodeId(1), 2001, 10)
    assert sticky.leader == 3


def test_back_off_grows_and_is_bounded() -> None:
    sticky = Sticky(NodeId(2), 3, 250, random.Random(1))
    waits: list[int] = []
    now = 0
    for _ in range(12):
        sticky.ask(now, -1)
        sticky.fail(now, 800)
        start = now
        while not sticky.is_due(now):
            now += 1
        waits.append(now - start)
    assert max(waits) <= 2 * 800 + STAGGER_MS
    assert sum(waits[-3:]) > sum(waits[:3])
