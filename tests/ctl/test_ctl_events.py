"""Events of several machines on one clock."""

from collections.abc import Iterator

import pytest

from paxos_twisted.ctl import events as module
from paxos_twisted.ctl.events import Clock, Collected, NodeEvents, collect, compare_clocks, merged, sentence
from paxos_twisted.ctl.node_api import Happening, NodeApi, NodeUnreachable
from paxos_twisted.types import NodeId

MS = 1_000_000


class FarNode(NodeApi):
    """A node whose clock is ahead by `offset_ms`; each question takes as long as `trips` say (there, back) in ms."""

    def __init__(self, node: int, time: "Time", offset_ms: int = 0, trips: tuple[tuple[int, int], ...] = ((1, 1),)):
        super().__init__(NodeId(node), None, None)
        self.time = time
        self.offset_ms = offset_ms
        self.trips = iter([*trips] + [trips[-1]] * 20)

    def clock_ns(self) -> int:
        there, back = next(self.trips)
        self.time.ns += there * MS
        told = self.time.ns + self.offset_ms * MS
        self.time.ns += back * MS
        return told

    def events(self) -> list[Happening]:
        return [Happening(1000 * MS + self.offset_ms * MS, "campaign")]


class DeadNode(FarNode):
    def clock_ns(self) -> int:
        raise NodeUnreachable("nobody listens there")


class Time:
    ns = 5_000 * MS

    def time_ns(self) -> int:
        return self.ns

    def monotonic_ns(self) -> int:
        return self.ns + 7


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    made = Time()
    monkeypatch.setattr(module, "time", made)
    yield made


@pytest.mark.parametrize("offset_ms", [-3_600_000, 0, 40])
@pytest.mark.parametrize("trips", [((5, 5),), ((90, 1), (1, 1), (1, 90)), ((2, 0),)])
def test_the_true_offset_lies_within_the_uncertainty(time: Time, offset_ms: int, trips: object) -> None:
    clock = compare_clocks(FarNode(1, time, offset_ms, trips))  # type: ignore[arg-type]
    assert abs(clock.offset_ns - offset_ms * MS) <= clock.uncertainty_ns


def test_the_quickest_answer_counts(time: Time) -> None:
    assert compare_clocks(FarNode(1, time, 40, ((90, 1), (1, 1), (1, 90)))) == Clock(40 * MS, 1 * MS)


def test_events_are_put_in_order_by_our_clock(time: Time) -> None:
    nodes = {NodeId(1): FarNode(1, time, 500), NodeId(2): FarNode(2, time, -500)}
    collected = collect(nodes)
    assert [line.time_ns for line in merged(collected)] == [1000 * MS] * 2
    assert collected.errors == {}


def test_a_node_that_does_not_answer_is_named(time: Time) -> None:
    collected = collect({NodeId(1): FarNode(1, time), NodeId(2): DeadNode(2, time)})
    assert list(collected.nodes) == ["1"]
    assert collected.errors == {"2": "nobody listens there"}


def test_merging_sorts_over_all_nodes() -> None:
    def told(*times: int) -> NodeEvents:
        return NodeEvents(Clock(0, 0), [Happening(time, "campaign") for time in times])

    collected = Collected("here", 0, 0, {"1": told(1, 4), "2": told(2, 3)}, {})
    assert [(line.time_ns, line.node) for line in merged(collected)] == [(1, 1), (2, 2), (3, 2), (4, 1)]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Happening(0, "leader", peer=3, rnd=7), "leads, in round 7"),
        (Happening(0, "leader", peer=1, rnd=7), "follows node 1"),
        (Happening(0, "leader", peer=-1, cause="suspect"), "no leader is known (suspect)"),
        (Happening(0, "link_lost", peer=2), "the link to node 2 is lost"),
        (Happening(0, "eclipse"), "eclipse"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_event_as_a_sentence(event: Happening, text: str) -> None:
    assert sentence(event, 3) == text
