"""Primary-backup replication on real processes: crashes, returns, two nodes, and the mode without partitions."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_tools import run, succeed

from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.types import NodeId

pytestmark = pytest.mark.integration

WAIT_S = 60.0


def status(cluster: LocalCluster, node: int) -> dict[str, Any]:
    """Everything that a node says of itself; nothing when it does not answer."""
    address = cluster.config.node(node).http
    assert address is not None
    try:
        with urllib.request.urlopen(f"http://{address}/status", timeout=2) as answer:
            return dict(json.load(answer))
    except OSError:
        return {}


def until(is_done: Callable[[], bool], what: str) -> None:
    """Poll."""
    deadline = time.monotonic() + WAIT_S
    while not is_done():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def members(cluster: LocalCluster, node: int) -> list[int]:
    """The view as a node knows it, the primary first."""
    view = status(cluster, node).get("view", {"primary": -1, "queue": []})
    return [view["primary"], *view["queue"]]


def bank(cluster: LocalCluster, *words: object) -> str:
    """bankclient, with success."""
    return succeed("bankclient", "--config", cluster.config_path, *words)


def agree(cluster: LocalCluster) -> None:
    """paxosctl verify finds nothing wrong."""
    report = json.loads(succeed("paxosctl", "--config", cluster.config_path, "verify", "--output", "json"))
    assert report["verdict"] == "ok"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes for the tests of this module that need no other number. Each leaves all of them in the view."""
    directory = tmp_path_factory.mktemp("primary-backup") / "cluster"
    with LocalCluster.create(directory, engine="primary-backup", name="pb") as made:
        made.start()
        made.wait_ready(timeout_s=WAIT_S)
        until(lambda: len(members(made, 1)) == 3, "all three are in the view")
        yield made


def test_a_killed_primary_is_succeeded_by_the_head_of_its_queue_and_comes_back_at_the_end(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    first, head, last = members(cluster, 1)
    history = tmp_path / "history.jsonl"
    kill = f"kill -9 {cluster.apis[NodeId(first)].status().pid}"
    words = ["--bench", "-n", 300, "--clients", 4, "--history", history, "--at", 400, "--run", kill]
    bank(cluster, *words)
    assert members(cluster, head) == [head, last]
    cluster.start(NodeId(first))
    cluster.wait_ready(timeout_s=WAIT_S)
    until(lambda: members(cluster, head) == [head, last, first], "the node is back in the view")
    succeed("paxosctl", "check-history", history)
    agree(cluster)


def test_a_killed_backup_holds_nothing_up_for_long(cluster: LocalCluster) -> None:
    primary, *queue = members(cluster, 1)
    cluster.kill(NodeId(queue[0]))
    bank(cluster, "deposit", 5, 50)
    assert members(cluster, primary) == [primary, queue[1]]
    cluster.start(NodeId(queue[0]))
    cluster.wait_ready(timeout_s=WAIT_S)
    until(lambda: members(cluster, primary) == [primary, queue[1], queue[0]], "the node is back in the view")
    agree(cluster)


def test_everything_dies_at_once_and_nothing_is_forgotten(cluster: LocalCluster) -> None:
    bank(cluster, "deposit", 77, 700)
    before = json.loads(bank(cluster, "--output", "json", "balance", 77))
    cluster.kill_all()
    cluster.start()
    cluster.wait_ready(timeout_s=WAIT_S)
    assert json.loads(bank(cluster, "--output", "json", "balance", 77))["result"] == before["result"]
    until(lambda: len(members(cluster, cluster.leader())) == 3, "all are in the view")
    agree(cluster)


def test_the_primary_hands_over_when_asked(cluster: LocalCluster) -> None:
    primary, head, last = members(cluster, cluster.leader())
    succeed("paxosctl", "--config", cluster.config_path, "leader", "--move")
    assert cluster.leader(other_than=NodeId(primary)) == head
    until(lambda: set(members(cluster, head)) == {head, last, primary}, "nobody is left out")


def test_metrics_tell_of_views(cluster: LocalCluster) -> None:
    address = cluster.config.node(cluster.leader()).http
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "\npaxos_view_backups 2.0\n" in text
    assert "\npaxos_view_member 1.0\n" in text
    assert 'paxos_backup_lag_slots{peer="' in text


def test_two_nodes_of_which_one_suffices_when_the_network_is_trusted(tmp_path: Path) -> None:
    more = "primary_backup: {mode: no-partitions}\n"
    with LocalCluster.create(tmp_path / "two", engine="primary-backup", nodes=2, more=more) as cluster:
        cluster.start()
        cluster.wait_ready(timeout_s=WAIT_S)
        until(lambda: members(cluster, 1) == [1, 2], "node 2 has joined")
        bank(cluster, "deposit", 1, 10)
        cluster.kill(NodeId(1))
        bank(cluster, "deposit", 1, 5)
        assert members(cluster, 2) == [2]
        assert "no majority is asked who is primary" in cluster.log(NodeId(2)).read_text()
        cluster.start(NodeId(1))
        until(lambda: members(cluster, 2) == [2, 1], "node 1 has joined")
        cluster.kill(NodeId(2))
        assert "15" in bank(cluster, "balance", 1)


def test_two_nodes_of_which_a_majority_is_both(tmp_path: Path) -> None:
    with LocalCluster.create(tmp_path / "two", engine="primary-backup", nodes=2) as cluster:
        cluster.start()
        cluster.wait_ready(timeout_s=WAIT_S)
        bank(cluster, "deposit", 1, 10)
        cluster.kill(NodeId(2))
        done = run("bankclient", "--config", cluster.config_path, "--timeout", "2s", "deposit", 1, 5)
        assert done.returncode == 4, "the outcome is unknown: nobody may go on alone"
        cluster.start(NodeId(2))
        cluster.wait_ready(timeout_s=WAIT_S)
        bank(cluster, "deposit", 1, 5)
        agree(cluster)
