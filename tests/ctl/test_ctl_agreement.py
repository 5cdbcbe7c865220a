"""Do all replicas hold the same? The judgement, without any node."""

from collections.abc import Mapping

import pytest
from statuses import DEAD, Statuses, cluster, status

from paxos_twisted.ctl.agreement import Check, Verdict, is_quiet, judge, verdict_of, wait_until_quiet
from paxos_twisted.ctl.node_api import Commands, NodeApi, NodeStatus, StateHash
from paxos_twisted.types import NO_NODE, NodeId


def found(statuses: Statuses, name: str) -> Check:
    (check,) = [check for check in judge(statuses) if check.name == name]
    return check


def test_three_equal_nodes_agree() -> None:
    checks = judge(cluster())
    assert verdict_of(checks) is Verdict.OK
    assert [check.name for check in checks] == [
        "all nodes answer",
        "one leader",
        "same slots decided and applied",
        "same state",
        "slots = commands + no-ops + duplicates",
    ]


@pytest.mark.parametrize(
    ("statuses", "name", "verdict", "text"),
    [
        pytest.param(
            cluster(n3=DEAD), "all nodes answer", Verdict.UNKNOWN, "nobody listens", id="a dead node cannot be judged"
        ),
        pytest.param(
            cluster(n2=status(2, digest="0000")),
            "same state",
            Verdict.VIOLATION,
            "after slot 9: nodes 1, 3 hold abcdef012345; nodes 2 hold 0000",
            id="two states after the same slot",
        ),
        pytest.param(
            cluster(n2=status(2, slots=9, digest="0000")),
            "same state",
            Verdict.UNKNOWN,
            "different slots",
            id="states after different slots may differ",
        ),
        pytest.param(
            cluster(n2=status(2, slots=9)),
            "same slots decided and applied",
            Verdict.UNKNOWN,
            "node 2: 9 of 9",
            id="a node that lags",
        ),
        pytest.param(
            cluster(n2=status(2, commands=Commands(applied=9))),
            "slots = commands + no-ops + duplicates",
            Verdict.VIOLATION,
            "node 2 applied 10 slots but counts 9",
            id="a slot that is not accounted for",
        ),
        pytest.param(
            cluster(n2=status(2, commands=Commands(applied=9, noops=1))),
            "same commands in effect",
            Verdict.VIOLATION,
            "nodes 2 count (9, 1, 0)",
            id="the same slots with other commands in effect",
        ),
        pytest.param(
            cluster(n2=status(2, role="leader")),
            "one leader",
            Verdict.VIOLATION,
            "both lead round 1001",
            id="two leaders of one round",
        ),
        pytest.param(
            cluster(n2=status(2, role="leader", round=2002)),
            "one leader",
            Verdict.UNKNOWN,
            "do not agree",
            id="two that believe in themselves, in different rounds",
        ),
        pytest.param(
            cluster(n1=status(1, role="follower", leader=NO_NODE)),
            "one leader",
            Verdict.UNKNOWN,
            "election",
            id="nobody leads",
        ),
        pytest.param(
            cluster(n2=status(2, commands=Commands(applied=4, from_snapshot=6))),
            "slots = commands + no-ops + duplicates",
            Verdict.OK,
            "10 = 10 + 0 + 0",
            id="a node that began with a snapshot is compared by its sum",
        ),
    ],
)
def test_each_difference_is_named(statuses: Statuses, name: str, verdict: Verdict, text: str) -> None:
    check = found(statuses, name)
    assert check.verdict is verdict
    assert text in check.text


def test_a_violation_outweighs_what_cannot_be_told() -> None:
    checks = judge(cluster(n2=status(2, digest="0000"), n3=DEAD))
    assert verdict_of(checks) is Verdict.VIOLATION
    assert verdict_of(judge(cluster(n3=DEAD))) is Verdict.UNKNOWN
    assert verdict_of([]) is Verdict.OK


@pytest.mark.parametrize(
    ("before", "now", "quiet"),
    [
        pytest.param(cluster(), cluster(), True, id="nothing moves"),
        pytest.param(cluster(n2=status(2, slots=9)), cluster(), False, id="a node has just moved"),
        pytest.param(cluster(), cluster(n2=status(2, adu=11)), False, id="something is decided but not applied"),
        pytest.param(
            cluster(), cluster(n2=status(2, state_hash=StateHash(8, "old"))), False, id="the hash is of an earlier slot"
        ),
        pytest.param(cluster(n3=DEAD), cluster(), False, id="a node has just come back"),
        pytest.param(cluster(), cluster(n3=DEAD), False, id="a node is dead"),
        pytest.param(cluster(), cluster(n3=status(3, leader=NO_NODE)), False, id="a node knows no leader"),
        pytest.param(cluster(), cluster(n1=status(1, role="candidate")), False, id="the leader is not elected yet"),
    ],
)
def test_a_cluster_is_quiet_when_two_looks_see_the_same(before: Statuses, now: Statuses, quiet: bool) -> None:
    assert is_quiet(before, now) is quiet


class Looks:
    """Answers of the nodes, one look after the other, with a clock that each pause moves."""

    def __init__(self, *looks: Statuses) -> None:
        self.looks = list(looks)
        self.count = 0
        self.now = 0.0

    def ask(self, _apis: Mapping[NodeId, NodeApi]) -> Statuses:
        self.count += 1
        return self.looks[min(self.count, len(self.looks)) - 1]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, timeout_s: float) -> tuple[Mapping[NodeId, object], bool]:
        return wait_until_quiet({}, timeout_s, clock=lambda: self.now, sleep=self.sleep, ask=self.ask)


def test_waiting_ends_when_nothing_moves_any_more() -> None:
    looks = Looks(cluster(n1=status(1, slots=8)), cluster(n1=status(1, slots=9)), cluster())
    statuses, quiet = looks.wait(10.0)
    assert quiet
    assert looks.count == 4
    assert isinstance(statuses[NodeId(1)], NodeStatus)


def test_waiting_ends_in_time_when_clients_never_rest() -> None:
    looks = Looks(cluster(n1=status(1, slots=8)))
    looks.looks += [cluster(n1=status(1, slots=slots)) for slots in range(20, 200)]
    _, quiet = looks.wait(1.0)
    assert not quiet
    assert looks.now == pytest.approx(1.0, abs=0.1)


def test_a_violation_is_not_waited_out() -> None:
    looks = Looks(cluster(), cluster(n2=status(2, digest="0000"), n3=status(3, slots=11)))
    _, quiet = looks.wait(10.0)
    assert not quiet
    assert looks.count == 2


# Without leaders


def replica(node: int, slots: int = 10, **more: object) -> NodeStatus:
    return status(node, slots, **({"engine": "epaxos", "role": "replica", "leader": node, "round": -1} | more))


def replicas(**changed: NodeStatus) -> Statuses:
    return {NodeId(node): changed.get(f"n{node}", replica(node)) for node in (1, 2, 3)}


def test_replicas_without_a_leader_agree_at_rest() -> None:
    checks = judge(replicas())
    assert verdict_of(checks) is Verdict.OK
    assert "one leader" not in {check.name for check in checks}
    assert is_quiet(replicas(), replicas())


def test_replicas_that_execute_in_orders_of_their_own_are_compared_at_rest_only() -> None:
    busy = replicas(n2=replica(2, digest="0000", adu=12))
    assert found(busy, "same state").verdict is Verdict.UNKNOWN
    assert verdict_of(judge(busy)) is Verdict.UNKNOWN
    assert not is_quiet(busy, busy)


def test_replicas_at_rest_with_different_states_are_a_violation() -> None:
    assert found(replicas(n2=replica(2, digest="0000")), "same state").verdict is Verdict.VIOLATION


def test_replicas_may_count_repetitions_differently_while_they_work() -> None:
    """Which copy of a repeated command is the first one depends on the order of execution."""
    counts = Commands(applied=9, duplicates=1)
    assert verdict_of(judge(replicas(n2=replica(2, commands=counts)))) is Verdict.OK
