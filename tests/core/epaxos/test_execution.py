"""Execution order, quorums and thrifty peers: the pure functions, and the incremental executor against a slow one."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.core.epaxos import execution_order, fast_quorum, slow_quorum, thrifty_peers
from paxos_twisted.core.epaxos.execution import Executor
from paxos_twisted.core.epaxos.instance import Grid
from paxos_twisted.core.epaxos.messages import COMMITTED, EXECUTED
from paxos_twisted.core.epaxos.quorums import accept_peers


@pytest.mark.parametrize(("n", "slow", "fast"), [(1, 1, 1), (3, 2, 2), (5, 3, 3), (7, 4, 5), (9, 5, 6)], ids=str)
def test_quorum_sizes_are_those_of_rule_58(n: int, slow: int, fast: int) -> None:
    assert (slow_quorum(n), fast_quorum(n)) == (slow, fast)


def test_thrifty_peers_are_the_next_replicas_in_the_order_of_ids() -> None:
    assert thrifty_peers(0, 5) == (1, 2)
    assert thrifty_peers(3, 5) == (4, 0)
    assert thrifty_peers(2, 3) == (0,)
    assert thrifty_peers(5, 7) == (6, 0, 1, 2)
    assert thrifty_peers(0, 1) == ()
    assert accept_peers(5, 7) == (6, 0, 1)


@pytest.mark.parametrize(("replica", "n"), [(5, 5), (-1, 3), (0, 4), (0, 0)])
def test_replicas_that_do_not_exist_have_no_peers(replica: int, n: int) -> None:
    with pytest.raises(ValueError, match="replica"):
        thrifty_peers(replica, n)


ORDERS = {
    "dependencies come first": ({(0, 0): (5, (-1, 0, -1)), (1, 0): (9, (-1, -1, -1))}, [(1, 0), (0, 0)]),
    "a component is ordered by seq": ({(0, 0): (2, (-1, 0, -1)), (1, 0): (1, (0, -1, -1))}, [(1, 0), (0, 0)]),
    "equal seq: the lower replica first": ({(0, 0): (3, (-1, 0, -1)), (1, 0): (3, (0, -1, -1))}, [(0, 0), (1, 0)]),
    "equal seq and replica: the lower slot": (
        {(2, 1): (1, (0, -1, 0)), (2, 0): (1, (0, -1, -1)), (0, 0): (1, (-1, -1, 1))},
        [(0, 0), (2, 0), (2, 1)],
    ),
    "a vector means the whole column below": ({(0, 1): (1, (0, -1, -1)), (1, 0): (1, (1, -1, -1))}, []),
    "what waits for an unknown instance stays out": (
        {(0, 0): (1, (-1, 4, -1)), (2, 0): (7, (-1, -1, -1))},
        [(2, 0)],
    ),
    "explicit sets stand for themselves alone": ({(0, 1): (1, set()), (1, 0): (1, {(0, 1)})}, [(0, 1), (1, 0)]),
    "an empty vector list is no dependency": ({(0, 0): (1, [])}, [(0, 0)]),
    "a dependency on itself means nothing": ({(0, 0): (1, {(0, 0)})}, [(0, 0)]),
    "independent ones: the smallest (seq, replica, slot)": (
        {(2, 0): (1, set()), (0, 0): (2, set()), (1, 0): (1, set())},
        [(1, 0), (2, 0), (0, 0)],
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_execution_order(name: str) -> None:
    instances, expected = ORDERS[name]
    assert execution_order(3, instances) == expected


def test_executed_instances_are_not_waited_for() -> None:
    assert execution_order(3, {(0, 1): (1, (0, -1, -1))}, executed=[(0, 0)]) == [(0, 1)]


@pytest.mark.parametrize("deps", [(0, 1), {(3, 0)}, {(0, -2)}])
def test_dependencies_that_cannot_be_are_errors(deps: object) -> None:
    with pytest.raises(ValueError, match="instance"):
        execution_order(3, {(0, 0): (1, deps)})


def test_a_chain_longer_than_the_stack_of_python() -> None:
    instances = {(0, slot): (slot + 1, (slot - 1, -1, -1)) for slot in range(20_000)}
    executor = filled(instances, 3)
    assert [one.slot for one in executor.run(0)] == list(range(20_000))
    explicit = {(0, slot): (1, {(0, slot - 1)} if slot else set()) for slot in range(20_000)}
    assert execution_order(3, explicit) == [(0, slot) for slot in range(20_000)]


def filled(instances: dict, n: int) -> Executor:
    grid = Grid(n)
    executor = Executor(grid)
    for here, value in instances.items():
        commit(grid, executor, here, value)
    return executor


def commit(grid: Grid, executor: Executor, here: tuple[int, int], value: tuple[int, tuple[int, ...]]) -> None:
    instance = grid.at(*here, 0)
    instance.seq, instance.deps = value
    instance.status = COMMITTED
    executor.on_committed(instance)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, dict]:
    n = draw(st.sampled_from([3, 5]))
    sizes = [draw(st.integers(0, 4)) for _ in range(n)]
    instances = {}
    for replica in range(n):
        for slot in range(sizes[replica]):
            deps = [draw(st.integers(-1, max(sizes[other] - 1, -1))) for other in range(n)]
            deps[replica] = draw(st.integers(-1, slot - 1))
            instances[replica, slot] = (draw(st.integers(1, 3)), tuple(deps))
    for here in [here for here in instances if draw(st.integers(0, 9)) == 0]:
        del instances[here]
    return n, instances


def slow_order(n: int, instances: dict) -> set[tuple]:
    """Which pairs (first, second) are fixed by the rules: reachability by brute force."""
    reach = {
        here: {(q, s) for q in range(n) for s in range(deps[q] + 1)} - {here} for here, (_, deps) in instances.items()
    }
    for _ in reach:
        for found in reach.values():
            for there in list(found):
                found.update(reach.get(there, ()))
    runnable = {here for here, found in reach.items() if found <= instances.keys()}
    fixed = set()
    for one in runnable:
        for other in reach[one] & runnable - {one}:
            if one in reach[other]:
                first, second = sorted((one, other), key=lambda here: (instances[here][0], *here))
            else:
                first, second = other, one
            fixed.add((first, second))
    return {("runs", one) for one in runnable} | fixed


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_execution_order_against_reachability_by_brute_force(graph: tuple[int, dict]) -> None:
    n, instances = graph
    order = execution_order(n, instances)
    rules = slow_order(n, instances)
    assert {one for kind, one in rules if kind == "runs"} == set(order)
    place = {here: index for index, here in enumerate(order)}
    assert all(place[one] < place[other] for one, other in rules if one != "runs")


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_the_incremental_executor_runs_the_same_in_whatever_order_commits_come(
    graph: tuple[int, dict], seed: int
) -> None:
    n, instances = graph
    order = list(instances)
    rng = Random(seed)
    rng.shuffle(order)
    grid, executor = Grid(n), Executor(Grid(n))
    executor.grid = grid
    ran = []
    for here in order:
        commit(grid, executor, here, instances[here])
        if rng.random() < 0.6:
            ran += [one.id for one in executor.run(0)]
    ran += [one.id for one in executor.run(0)]
    rules = slow_order(n, instances)
    assert {one for kind, one in rules if kind == "runs"} == set(ran)
    assert len(ran) == len(set(ran))
    place = {here: index for index, here in enumerate(ran)}
    assert all(place[one] < place[other] for one, other in rules if one != "runs")
    assert executor.committed_waiting == len(instances) - len(ran)
    assert all((instance.status == EXECUTED) == (instance.id in place) for instance in grid)


def test_nothing_is_looked_at_again_while_its_blocker_is_missing() -> None:
    """No scan of the log per command: with 1 000 instances behind one that is missing, a commit looks at a few."""
    grid, executor = Grid(3), Executor(Grid(3))
    executor.grid = grid
    looks = 0
    plain = executor._open_deps

    def counting(instance):
        nonlocal looks
        looks += 1
        return plain(instance)

    executor._open_deps = counting  # type: ignore[method-assign]
    for slot in range(1, 1001):
        commit(grid, executor, (0, slot), (slot, (slot - 1, -1, -1)))
        assert executor.run(0) == []
    assert looks == 1000
    commit(grid, executor, (0, 0), (1, (-1, -1, -1)))
    assert len(executor.run(0)) == 1001
    assert looks <= 2002
