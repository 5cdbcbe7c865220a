"""One real cluster: its processes, paxosctl against it, and what people see when nodes die. In this order."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cluster_tools import run, succeed

from paxos_twisted.cluster.local import FROZEN, GONE, RUNNING, ClusterError, LocalCluster
from paxos_twisted.cluster.memory import remembering
from paxos_twisted.cluster.processes import identify
from paxos_twisted.ctl.agreement import Verdict, judge, verdict_of, wait_until_quiet
from paxos_twisted.ctl.node_api import NodeUnreachable
from paxos_twisted.types import NodeId

pytestmark = pytest.mark.integration

WAIT_S = 60.0
THREE = [NodeId(1), NodeId(2), NodeId(3)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes for all tests of this module. Each leaves them running."""
    with LocalCluster.create(tmp_path_factory.mktemp("live") / "cluster", name="live") as made:
        made.start()
        made.wait_ready(timeout_s=WAIT_S)
        yield made


@pytest.fixture
def healed(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The cluster for a test that breaks it."""
    yield cluster
    cluster.thaw(*cluster.members)
    cluster.start()
    cluster.wait_ready(timeout_s=WAIT_S)


def ctl(cluster: LocalCluster, *words: object) -> str:
    """paxosctl, with success."""
    return succeed("paxosctl", "--config", cluster.config_path, *words)


def local(cluster: LocalCluster, *words: object) -> str:
    """paxoscluster, with success."""
    return succeed("paxoscluster", *words, "--dir", cluster.directory)


def test_a_new_cluster_has_everything_in_its_directory(cluster: LocalCluster) -> None:
    assert cluster.members == (1, 2, 3)
    assert cluster.alive() == THREE
    for node in cluster.members:
        process = cluster.process(node)
        assert process is not None
        assert cluster.log(node).stat().st_size
        status = cluster.apis[node].status()
        assert (status.pid, status.node, status.cluster) == (process.pid, node, "live")
    with pytest.raises(ClusterError, match="already"):
        LocalCluster.create(cluster.directory)


def test_its_ports_are_none_that_outgoing_connections_are_given(cluster: LocalCluster) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for node in cluster.config.nodes:
        assert node.http is not None
        assert node.address.port < first
        assert node.http.port < first


def test_status_shows_all_nodes_and_the_leader(cluster: LocalCluster) -> None:
    leader = cluster.leader()
    text = ctl(cluster, "status")
    assert f"★ node {leader} leads" in text
    report = json.loads(ctl(cluster, "status", "--output", "json"))
    assert report["leader"] == leader
    assert [report["nodes"][str(node)]["role"] for node in cluster.members].count("leader") == 1


def test_transactions_are_counted_and_all_nodes_agree(cluster: LocalCluster) -> None:
    before = json.loads(ctl(cluster, "verify", "--output", "json"))
    assert before["verdict"] == "ok"
    said = succeed("bankclient", "--config", cluster.config_path, "deposit", 17, 100)
    assert "account 17" in said
    after = json.loads(ctl(cluster, "verify", "--output", "json"))
    for node in map(str, cluster.members):
        slots = after["nodes"][node]["adu"] - before["nodes"][node]["adu"]
        assert slots == 1
        commands = after["nodes"][node]["commands"]
        assert sum(commands.values()) == after["nodes"][node]["applied"] + 1
    assert "all nodes agree" in ctl(cluster, "verify")


def test_the_leader_hands_over_when_asked(cluster: LocalCluster) -> None:
    before = cluster.leader()
    text = ctl(cluster, "leader", "--move")
    assert f"(it was node {before})" in text
    after = cluster.leader(other_than=before)
    assert f"node {after} at " in ctl(cluster, "leader")


def test_snapshots_are_taken_on_demand(cluster: LocalCluster) -> None:
    succeed("bankclient", "--config", cluster.config_path, "deposit", 3, 7)
    text = ctl(cluster, "snapshot", "all")
    assert len(re.findall(r"✓ node \d: snapshot after slot \d+", text)) == 3
    assert cluster.apis[NodeId(1)].status().snapshot is not None


def test_metrics_are_printed_and_searched(cluster: LocalCluster) -> None:
    text = ctl(cluster, "metrics", 1, "--match", "paxos_decided_slot")
    assert re.search(r"^paxos_decided_slot\S* \d+", text, re.MULTILINE)
    nothing = run("paxosctl", "--config", cluster.config_path, "metrics", 1, "--match", "no such metric")
    assert nothing.returncode == 1


def test_message_faults_are_set_shown_and_cleared(cluster: LocalCluster) -> None:
    assert "no message faults" in ctl(cluster, "fault", 1, "show")
    ctl(cluster, "fault", 1, "set", "1->2 loss=0.5", "1->3 delay=20ms jitter=5ms", "--seed", 7)
    assert "1->3 delay=20ms jitter=5ms" in ctl(cluster, "fault", 1, "show")
    assert "node 1 has message faults: 1->2 loss=0.5" in ctl(cluster, "status")
    assert ctl(cluster, "fault", "all", "clear").count("no message faults") == 3
    refused = run("paxosctl", "--config", cluster.config_path, "fault", 1, "set", "1->9 partition")
    assert refused.returncode == 1
    assert "there is no node 9" in refused.stdout


def test_a_node_that_is_cut_off_by_a_fault_comes_back_when_it_is_cleared(cluster: LocalCluster) -> None:
    leader = cluster.leader()
    follower = next(node for node in cluster.members if node != leader)
    ctl(cluster, "fault", follower, "set", f"{follower}<->* partition")
    succeed("bankclient", "--config", cluster.config_path, "deposit", 5, 5)
    ctl(cluster, "fault", follower, "clear")
    assert "all nodes agree" in ctl(cluster, "verify", "--wait", "60s")


def test_a_dead_node_is_shown_as_such_and_the_others_go_on(healed: LocalCluster) -> None:
    leader = healed.leader()
    others = [node for node in healed.members if node != leader]
    assert f"killed: node {leader}" in local(healed, "kill", "leader")
    assert healed.state(leader) == GONE
    healed.leader(WAIT_S, other_than=leader)
    assert "balance 5" in succeed("bankclient", "--config", healed.config_path, "balance", 5)
    shown = run("paxosctl", "--config", healed.config_path, "status")
    assert shown.returncode == 4
    assert "✗ silent" in shown.stdout
    assert "nobody listens there" in shown.stdout
    judged = run("paxosctl", "--config", healed.config_path, "verify", "--wait", "500ms")
    assert judged.returncode == 4
    assert "cannot be told: not all nodes answer" in judged.stdout
    assert "✗ dead" in local(healed, "status")
    assert healed.alive() == others
    ordered = run("paxosctl", "--config", healed.config_path, "snapshot", leader)
    assert ordered.returncode == 1


def test_a_frozen_node_is_dead_to_others_and_thaws(healed: LocalCluster) -> None:
    leader = healed.leader()
    local(healed, "freeze", leader)
    assert healed.state(leader) == FROZEN
    assert isinstance(healed.statuses()[leader], NodeUnreachable)
    healed.leader(WAIT_S, other_than=leader)
    assert "❄ frozen" in local(healed, "status")
    local(healed, "thaw")
    assert healed.state(leader) == RUNNING
    healed.wait_ready(timeout_s=WAIT_S)
    statuses, quiet = wait_until_quiet(healed.apis, WAIT_S)
    assert quiet
    assert verdict_of(judge(statuses)) is Verdict.OK


def test_a_follower_that_is_stopped_in_order_and_started_again_deposes_nobody(healed: LocalCluster) -> None:
    leader = healed.leader()
    rnd = healed.apis[leader].status().round
    follower = next(node for node in healed.members if node != leader)
    assert healed.stop(follower) == []
    assert healed.state(follower) == GONE
    healed.start(follower)
    healed.wait_ready(timeout_s=WAIT_S)
    statuses, quiet = wait_until_quiet(healed.apis, WAIT_S)
    assert quiet
    assert verdict_of(judge(statuses)) is Verdict.OK
    status = healed.apis[leader].status()
    assert (status.role, status.round) == ("leader", rnd)


def test_starting_what_runs_does_nothing(cluster: LocalCluster) -> None:
    before = [cluster.process(node) for node in cluster.members]
    cluster.start()
    assert [cluster.process(node) for node in cluster.members] == before


def test_everything_survives_the_death_of_all(healed: LocalCluster) -> None:
    healed.kill_all()
    assert healed.alive() == []
    healed.start()
    healed.wait_ready(timeout_s=WAIT_S)
    assert "balance 100" in succeed("bankclient", "--config", healed.config_path, "balance", 17)
    statuses, quiet = wait_until_quiet(healed.apis, WAIT_S)
    assert quiet
    assert verdict_of(judge(statuses)) is Verdict.OK


def test_a_node_that_cannot_start_is_reported_with_the_end_of_its_log(healed: LocalCluster) -> None:
    healed.kill(NodeId(3))
    data = healed.config.node(3).data_dir
    aside = data.with_name("aside")
    data.rename(aside)
    try:
        healed.start(NodeId(3))
        with pytest.raises(ClusterError, match=r"node 3 has ended:(.|\n)*no data in"):
            healed.wait_ready(NodeId(3), timeout_s=WAIT_S)
    finally:
        aside.rename(data)


def test_a_detached_cluster_runs_by_itself_until_it_is_taken_down(tmp_path: Path) -> None:
    folder = tmp_path / "detached"
    up = succeed("paxoscluster", "up", "--detach", "--profile", "lab", "--dir", folder)
    try:
        cluster = LocalCluster(folder, dies_with_us=False)
        assert "leads" in up
        assert cluster.config.settings.alpha == 1
        again = run("paxoscluster", "up", "--detach", "--dir", folder)
        assert again.returncode == 1
        assert "run already" in again.stderr
        other = run("paxoscluster", "up", "--detach", "-f", 2, "--dir", folder)
        assert other.returncode == 1
        assert "a cluster of 3 nodes" in other.stderr
        before = cluster.process(NodeId(2))
        assert "node 2 runs again" in succeed("paxoscluster", "restart", 2, "--dir", folder)
        assert cluster.process(NodeId(2)) != before
        unknown = run("paxoscluster", "kill", 9, "--dir", folder)
        assert unknown.returncode == 2
        assert "There is no node '9'" in unknown.stderr
    finally:
        down = succeed("paxoscluster", "down", "--dir", folder)
    assert "stopped: nodes 1, 2, 3" in down
    assert cluster.alive() == []
    assert "no node runs" in succeed("paxoscluster", "down", "--dir", folder)


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """The file of processes names a process that was started later under the same number: it must survive."""

    with LocalCluster.create(tmp_path / "c") as cluster:
        us = identify(os.getpid())
        assert us is not None
        with remembering(cluster.directory) as memory:
            memory.nodes[1] = msgspec.structs.replace(us, started=us.started - 1)
        assert cluster.alive() == []
        assert cluster.kill(NodeId(1)) == []
