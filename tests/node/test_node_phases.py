"""The phases of a failover and the events around it, as a node that lives through one reports them."""

import pytest
from prometheus_client import CollectorRegistry

from paxos_twisted.core.engine import LinkState
from paxos_twisted.core.events import (
    CampaignStarted,
    FillEnded,
    LeaderChanged,
    Phase1Ended,
    Phase1Started,
    SteppedDown,
    Suspected,
)
from paxos_twisted.limits import HAPPENINGS_KEPT
from paxos_twisted.node.families import Labels
from paxos_twisted.node.metrics import Metrics
from paxos_twisted.node.observe import Durations, Events
from paxos_twisted.types import NO_NODE, NodeId, Round

UNIX_S = 1_700_000_000
RND = Round(2003)


class Node:
    """Node 3, which follows node 2; `at(ms)` moves its clocks."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.metrics = Metrics(CollectorRegistry(), Labels(peers=("1", "2"), engine="multipaxos", app="bank"))
        self.events = Events(
            NodeId(3), self.metrics, lambda: self.ms / 1000, lambda: UNIX_S * 10**9 + round(self.ms * 1e6)
        )
        self.commit = Durations(self.metrics, self.events).on_commit
        self.events.on_event(LeaderChanged(NodeId(2), Round(1002), "round"))

    def at(self, ms: float) -> "Node":
        self.ms = ms
        return self

    def link(self, state: LinkState, peer: int = 2) -> None:
        self.events.on_link(NodeId(peer), state)

    def loses(self, cause: str = "suspect", silent_ms: int = 0) -> None:
        self.events.on_event(LeaderChanged(NO_NODE, Round(1002), cause, silent_ms))

    def wins(self, start: float) -> None:
        """Campaign at `start`, then 10 ms of pre-vote, 20 ms of phase 1, 30 ms of filling."""
        say = self.events.on_event
        self.at(start)
        say(CampaignStarted())
        self.at(start + 10)
        say(Phase1Started(RND, 7))
        self.at(start + 30)
        say(Phase1Ended(RND, "quorum", 9, 0))
        say(LeaderChanged(NodeId(3), RND, "round"))
        self.at(start + 60)
        say(FillEnded(RND))

    @property
    def took_ms(self) -> dict[str, float]:
        return {phase: round(seconds * 1000, 3) for phase, seconds in self.metrics.failover_phase.items() if seconds}

    @property
    def began_ms(self) -> dict[str, float]:
        starts = self.metrics.failover_phase_start
        return {phase: round((start - UNIX_S) * 1000, 1) for phase, start in starts.items() if start}


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_leader_that_dies(node: Node) -> None:
    """Its sockets tell at once."""
    node.at(100).link(LinkState.LOST)
    node.at(101).link(LinkState.REFUSED)
    node.events.on_event(Suspected(NodeId(2), "link"))
    node.loses()
    node.wins(105)
    node.at(172)
    node.commit(0.005)
    assert node.took_ms == {"detect": 1, "elect": 14, "phase1": 20, "fill": 30, "first_commit": 5}
    assert node.began_ms == {"detect": 100, "elect": 101, "phase1": 115, "fill": 135, "first_commit": 165}


def test_a_leader_that_falls_silent_has_been_so_for_the_detectors_delay(node: Node) -> None:
    node.at(1000).loses(silent_ms=810)
    node.wins(1000)
    assert node.took_ms["detect"] == 810
    assert node.began_ms["detect"] == 190


def test_a_leader_that_hands_over_is_not_waited_for(node: Node) -> None:
    node.at(50).loses("handover")
    node.wins(50)
    node.at(111)
    node.commit(0.001)
    assert node.took_ms == {"elect": 10, "phase1": 20, "fill": 30, "first_commit": 1}


def test_a_new_leader_that_nobody_asks_has_no_long_first_commit(node: Node) -> None:
    node.at(100).link(LinkState.LOST)
    node.at(101).loses()
    node.wins(101)
    node.at(60_000)
    node.commit(0.004)
    assert node.took_ms["first_commit"] == 4


def test_what_an_earlier_failover_left_is_not_added(node: Node) -> None:
    node.at(100).link(LinkState.LOST)
    node.at(101).loses()
    node.wins(101)
    node.at(162)
    node.commit(0.001)
    node.events.on_event(LeaderChanged(NodeId(1), Round(3001), "round"))
    node.at(5000).loses("handover")
    node.wins(5000)
    assert "detect" not in node.took_ms
    assert node.took_ms["phase1"] == 20


def test_times_of_a_repeated_phase_add_up(node: Node) -> None:
    node.at(100).loses("handover")
    say = node.events.on_event
    say(CampaignStarted())
    node.at(110)
    say(Phase1Started(RND, 7))
    node.at(140)
    say(Phase1Ended(RND, "timeout", -1, 0))
    node.wins(160)
    assert node.took_ms["elect"] == 10 + 20 + 10
    assert node.took_ms["phase1"] == 30 + 20
    assert node.began_ms["phase1"] == 110
    assert node.metrics.phase1_attempts == {"timeout": 1, "quorum": 1, "preempted": 0}


def test_a_node_that_is_overtaken_stops_its_clock(node: Node) -> None:
    node.at(100).link(LinkState.LOST)
    node.at(101).loses()
    node.at(120).events.on_event(LeaderChanged(NodeId(1), RND, "round"))
    node.at(9000)
    node.commit(0.001)
    assert node.took_ms == {"detect": 1, "elect": 19}


@pytest.mark.parametrize("peer", [1, 2], ids=["another node's", "the leader's, which comes back"])
def test_a_lost_link_is_no_failover(node: Node, peer: int) -> None:
    node.at(100).link(LinkState.LOST, peer)
    node.at(130).link(LinkState.UP, peer)
    node.at(9000).loses("handover")
    assert node.events.phases.current == "elect"
    assert "detect" not in node.took_ms


def test_lab_policy_goes_straight_to_the_next_node(node: Node) -> None:
    node.at(1000).events.on_event(Suspected(NodeId(2), "timeout", 805))
    node.events.on_event(LeaderChanged(NodeId(3), Round(1002), "suspect"))
    node.events.on_event(Phase1Started(RND, 7))
    node.at(1020).events.on_event(Phase1Ended(RND, "quorum", -1, 0))
    node.events.on_event(FillEnded(RND))
    assert node.took_ms == {"detect": 805, "phase1": 20}


def test_events_keep_their_exact_times(node: Node) -> None:
    node.at(100.123456).link(LinkState.LOST)
    node.at(101).loses(silent_ms=3)
    node.wins(101)
    node.at(162.5)
    node.commit(0.001)
    node.events.on_event(SteppedDown(RND, "asked"))
    told = node.events.happenings.as_json()
    assert [each["event"] for each in told] == [
        "leader", "link_lost", "leader", "campaign", "phase1", "promised", "leader", "filled", "first_commit",
        "stepped_down",
    ]  # fmt: skip
    assert told[1] == {"time_ns": UNIX_S * 10**9 + 100_123_456, "event": "link_lost", "peer": 2}
    assert told[2]["peer"] == NO_NODE
    assert told[-1]["cause"] == "asked"


def test_old_events_are_forgotten(node: Node) -> None:
    for second in range(HAPPENINGS_KEPT + 10):
        node.at(second * 1000.0).link(LinkState.UP, 1)
    told = node.events.happenings.as_json()
    assert len(told) == HAPPENINGS_KEPT
    assert told[-1]["time_ns"] == (UNIX_S + HAPPENINGS_KEPT + 9) * 10**9
