"""Where clients begin: the first node, all in turns, the nearest one; and that a failure moves them on."""

from collections import Counter

import pytest
from client_stage import Stage
from paxos_twisted_client.bench import Bench, BenchPlan
from paxos_twisted_client.endpoints import Address
from paxos_twisted_client.options import Patience
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.report import bench_json
from paxos_twisted_client.target import PROBES, by_distance, starts
from twisted.internet.defer import Deferred

from paxos_twisted.apps.bank import BALANCE, BankOp

A, B, C = (Address("10.0.0.1", 7101 + number) for number in range(3))


@pytest.mark.parametrize(
    ("target", "orders"),
    [
        ("first", [(A, B, C)]),
        ("nearest", [(A, B, C)]),
        ("round-robin", [(A, B, C), (B, C, A), (C, A, B)]),
    ],
)
def test_the_orders_in_which_a_client_tries_the_nodes(target: str, orders: list[tuple[Address, ...]]) -> None:
    assert starts(target, (A, B, C)) == orders


class Leaderless:
    """A stage on which every node answers, and a bench whose clients take the nodes in turns."""

    def __init__(self, plan: BenchPlan) -> None:
        self.stage = Stage()
        now_ns = self.stage.pool.now_ns
        pools = [
            Pool(
                self.stage.clock,
                order,
                cluster="demo",
                application="bank",
                now_ns=now_ns,
                endpoint=self.stage._endpoint,
            )
            for _ in range(plan.clients)
            for order in starts(plan.target, [node.address for node in self.stage.nodes])
        ]
        self.bench = Bench(self.stage.clock, pools, plan)
        self.served: Counter[int] = Counter()
        self.done: list[None] = []
        self.bench.finished.addCallback(self.done.append)


def test_requests_go_to_the_nodes_in_turns_each_in_a_session_of_its_own() -> None:
    played = Leaderless(BenchPlan(requests=30, target="round-robin", spread=3))
    stage, bench = played.stage, played.bench
    bench.start()
    sessions: dict[int, set[int]] = {}
    for _ in range(2000):
        stage.clock.advance(0.001)
        for node in stage.nodes:
            if node.is_dialled:
                node.welcome()
            for command in node.hears_requests() if node.is_connected else ():
                played.served[node.node] += 1
                sessions.setdefault(node.node, set()).add(command.client)
                node.answer(command)
        if played.done:
            break
    assert played.served == {1: 10, 2: 10, 3: 10}
    assert [len(clients) for clients in sessions.values()] == [1, 1, 1]
    report = bench_json(bench)
    assert report["plan"]["target"] == "round-robin"
    assert len(set(report["clients"][0]["sessions"])) == 3
    assert report["together"]["answered"] == 30


def test_a_session_whose_node_fails_moves_on_to_the_next_one() -> None:
    stage = Stage()
    order = starts("round-robin", [node.address for node in stage.nodes])[1]
    pool = Pool(
        stage.clock, order, cluster="demo", application="bank", now_ns=stage.pool.now_ns, endpoint=stage._endpoint
    )
    request = stage.submit(pool.session(), BankOp(BALANCE, 1))
    second, third = stage.nodes[1], stage.nodes[2]
    second.refuse()
    third.welcome()
    (command,) = third.hears_requests()
    third.answer(command)
    assert request.outcome == "ok"
    assert not stage.nodes[0].dialled


def test_the_nearest_node_is_the_one_that_welcomes_soonest() -> None:
    stage = Stage()
    found: list[tuple[Address, ...]] = []
    waits = {1: 0.030, 2: 0.010, 3: 0.020}
    running = Deferred.fromCoroutine(
        by_distance(
            stage.clock,
            [node.address for node in stage.nodes],
            cluster="demo",
            application="bank",
            patience=Patience(),
            now_ns=stage.pool.now_ns,
            endpoint=stage._endpoint,
        )
    )
    running.addCallback(found.append)
    dialled_at: dict[int, float] = {}
    for _ in range(300):
        stage.clock.advance(0.001)
        for node in stage.nodes:
            if node.is_dialled:
                since = dialled_at.setdefault(node.node, stage.clock.seconds())
                if stage.clock.seconds() - since >= waits[node.node]:
                    del dialled_at[node.node]
                    node.welcome()
    assert found == [tuple(stage.nodes[index].address for index in (1, 2, 0))]
    assert [node.dialled for node in stage.nodes] == [PROBES] * 3
    assert not stage.clock.getDelayedCalls()


def test_nodes_that_do_not_come_are_tried_last() -> None:
    stage = Stage()
    found: list[tuple[Address, ...]] = []
    running = Deferred.fromCoroutine(
        by_distance(
            stage.clock,
            [node.address for node in stage.nodes],
            cluster="demo",
            application="bank",
            patience=Patience(),
            now_ns=stage.pool.now_ns,
            endpoint=stage._endpoint,
        )
    )
    running.addCallback(found.append)
    stage.nodes[0].refuse()
    for _ in range(1000):
        stage.clock.advance(0.001)
        if stage.nodes[2].is_dialled:
            stage.nodes[2].welcome()
    assert found == [tuple(stage.nodes[index].address for index in (2, 0, 1))]
