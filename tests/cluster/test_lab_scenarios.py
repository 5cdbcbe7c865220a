"""The lab's three scenarios, on real processes. [Lab 5: test scenarios 1 to 3, L5-112 to L5-114]"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_tools import start, succeed

from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.ctl.agreement import Verdict, judge, verdict_of, wait_until_quiet
from paxos_twisted.ctl.node_api import NodeStatus
from paxos_twisted.types import NodeId

pytestmark = pytest.mark.integration

WAIT_S = 60.0


@pytest.fixture(params=["lab", "default"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    """Three fresh nodes: as the lab wants them (one slot at a time, the highest id leads), and as we do."""
    with LocalCluster.create(tmp_path / "cluster", name="lab5", profile=request.param) as made:
        made.start()
        made.wait_ready(timeout_s=WAIT_S)
        made.leader(WAIT_S)
        yield made


def quiet_statuses(cluster: LocalCluster, *dead: NodeId) -> list[NodeStatus]:
    """What the living nodes say once nothing moves any more. They must agree."""
    apis = {node: api for node, api in cluster.apis.items() if node not in dead}
    statuses, quiet = wait_until_quiet(apis, WAIT_S)
    checks = judge(statuses)
    assert quiet, checks
    assert verdict_of(checks) is Verdict.OK, checks
    return [status for status in statuses.values() if isinstance(status, NodeStatus)]


def bench(cluster: LocalCluster, *words: object) -> dict[str, Any]:
    """Run the bench, which must have every transaction answered, and return its report."""
    history = cluster.directory / "history.jsonl"
    words = ("--seed", 5, "--history", history, "--no-progress", "--output", "json", *words)
    report: dict[str, Any] = json.loads(succeed("bankclient", "--config", cluster.config_path, "--bench", *words))
    assert "ok" in succeed("paxosctl", "check-history", history)
    return report


def test_1_two_clients_by_hand_one_of_them_redirected(cluster: LocalCluster) -> None:
    """Two people type transactions; both were given the address of a node that does not lead."""
    leader = cluster.leader()
    follower = next(node for node in cluster.members if node != leader)
    address = cluster.config.addresses[follower]
    first = start("bankclient", "--nodes", address, "--cluster", "lab5")
    second = start("bankclient", "--nodes", address, "--cluster", "lab5")
    try:
        out_first, err_first = first.communicate("deposit 17 100\nbalance 17\nwithdraw 17 500\n", timeout=WAIT_S)
        out_second, err_second = second.communicate("transfer 17 18 30\nbalance 17\nbalance 18\n", timeout=WAIT_S)
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert re.search(r"account 17: balance 100", out_first), out_first + err_first
    assert re.search(r"not enough funds: account 17 holds 100, 500 was requested", out_first + err_first)
    assert re.search(r"account 17: balance 70", out_second), out_second + err_second
    assert re.search(r"account 18: balance 30", out_second), out_second + err_second
    assert f"node {leader}" in err_first
    for status in quiet_statuses(cluster):
        assert status.adu + 1 == 6


def test_2_five_hundred_transactions_and_the_leader_crashes(cluster: LocalCluster) -> None:
    leader = cluster.leader()
    process = cluster.process(leader)
    assert process is not None
    report = bench(cluster, "-n", 500, "--at", 250, "--run", f"kill -9 {process.pid}")
    assert report["together"]["answered"] == 500
    assert report["marks"][0]["time_ns"]
    assert cluster.leader(WAIT_S, other_than=leader)
    for status in quiet_statuses(cluster, leader):
        assert status.commands.applied == 500
        assert status.adu + 1 == 500 + status.commands.noops + status.commands.duplicates
    cluster.start(leader)
    cluster.wait_ready(timeout_s=WAIT_S)
    assert len({status.state_hash for status in quiet_statuses(cluster)}) == 1


def test_3_three_clients_five_hundred_each_are_exactly_1500_slots_on_every_replica(cluster: LocalCluster) -> None:
    report = bench(cluster, "-n", 500, "--clients", 3)
    assert report["together"]["answered"] == 1500
    for status in quiet_statuses(cluster):
        assert status.adu + 1 == 1500
        assert status.commands.applied == 1500
