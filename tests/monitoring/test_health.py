"""What a person sees first: health, who leads, and since when. [issue: at 2 a.m., in five seconds]"""

from collections.abc import Callable
from pathlib import Path

import pytest
from promtool_lab import Lab, check_values

from prometheus.recording import (
    DEGRADED,
    DOWN,
    HEALTH,
    HEALTH_SINCE,
    HEALTHY,
    LEADER,
    LEADER_CHANGES,
    LEADER_SINCE,
    MEMBERS,
    NODES_UP,
)


def healthy(lab: Lab) -> None:
    pass


def follower_down(lab: Lab) -> None:
    lab.down(3, 60)


def follower_back(lab: Lab) -> None:
    lab.down(3, 60, 80)


def failover(lab: Lab) -> None:
    lab.lead(2, 60)


def leader_lost(lab: Lab) -> None:
    lab.lead(0, 60)


def two_leaders_for_a_moment(lab: Lab) -> None:
    """Node 3 led, was frozen, is thawed, and does not know yet that node 2 leads."""
    lab.lead(3, 30)
    old_round = lab.series[lab.key("paxos_round", node=3)][59]
    lab.lead(2, 60)
    lab.set("paxos_is_leader", 1, 60, node=3)
    lab.set("paxos_known_leader_id", 3, 60, node=3)
    lab.set("paxos_round", old_round, 60, node=3)


def majority_down(lab: Lab) -> None:
    lab.down(1, 60)
    lab.down(2, 60)


def all_down(lab: Lab) -> None:
    for node in lab.nodes:
        lab.down(node, 60)


CASES: list[tuple[str, Callable[[Lab], None], dict[str, float]]] = [
    ("all is well", healthy, {HEALTH: HEALTHY, HEALTH_SINCE: 0, LEADER: 1, LEADER_SINCE: 0, MEMBERS: 3, NODES_UP: 3}),
    (
        "a follower is down",
        follower_down,
        {HEALTH: DEGRADED, HEALTH_SINCE: 60, LEADER: 1, LEADER_SINCE: 0, MEMBERS: 3, NODES_UP: 2},
    ),
    ("a follower has come back", follower_back, {HEALTH: HEALTHY, HEALTH_SINCE: 80, LEADER: 1, LEADER_SINCE: 0}),
    (
        "leadership has moved",
        failover,
        {HEALTH: HEALTHY, HEALTH_SINCE: 0, LEADER: 2, LEADER_SINCE: 60, LEADER_CHANGES: 1},
    ),
    ("nobody leads", leader_lost, {HEALTH: DOWN, HEALTH_SINCE: 60, LEADER: -1, LEADER_SINCE: 60}),
    ("two nodes say that they lead", two_leaders_for_a_moment, {HEALTH: HEALTHY, LEADER: 2}),
    ("a majority is down", majority_down, {HEALTH: DOWN, HEALTH_SINCE: 60, LEADER: -1, MEMBERS: 3, NODES_UP: 1}),
    ("all nodes are down", all_down, {HEALTH: DOWN, HEALTH_SINCE: 60, LEADER: -1, MEMBERS: 3, NODES_UP: 0}),
]


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_health(tmp_path: Path, change: Callable[[Lab], None], expected: dict[str, float]) -> None:
    lab = Lab(120)
    change(lab)
    check_values(tmp_path, lab, 110, expected)
