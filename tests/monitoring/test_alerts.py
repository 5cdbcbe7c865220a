"""Each alert fires when it should, says what it should, and keeps quiet otherwise. [conventions CV-13, CV-14, CV-15]"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from promtool_lab import Lab, check_alerts, firing

from prometheus.alerts import ALERTS
from prometheus.thresholds import LAG_SLOTS, MACHINES

NODE_2 = {"cluster": "lab", "node": "2"}

NODE_2_DOWN = firing("PaxosNodeDown", "Node 2 of cluster lab is down or cut off", **NODE_2)


def no_leader(lab: Lab) -> None:
    lab.lead(0, 60)


def no_leader_and_then_one(lab: Lab) -> None:
    lab.lead(0, 60)
    lab.lead(2, 64)


def majority_down(lab: Lab) -> None:
    lab.down(1, 60)
    lab.down(2, 60)
    lab.lead(0, 61)
    for node in (1, 2):
        lab.down(node, 60)


def majority_cut_off(lab: Lab) -> None:
    """All answer scrapes, but no node has a link to another."""
    for node in lab.nodes:
        for peer in lab.nodes:
            if peer != node:
                lab.set("paxos_peer_up", 0, 60, node=node, peer=peer)


def node_down(lab: Lab) -> None:
    lab.down(2, 60)


def node_frozen(lab: Lab) -> None:
    lab.down(2, 60, is_seen=True)


def node_cut_off(lab: Lab) -> None:
    for node in (1, 3):
        lab.set("paxos_peer_up", 0, 60, node=node, peer=2)


def node_forgotten_and_down(lab: Lab) -> None:
    lab.down(2, 60)
    lab.forget(2)


def node_forgotten(lab: Lab) -> None:
    lab.forget(2)


def five_changes(lab: Lab) -> None:
    for index, start in enumerate(range(20, 70, 10)):
        lab.lead(2 + index % 2, start)


def four_changes(lab: Lab) -> None:
    for index, start in enumerate(range(20, 60, 10)):
        lab.lead(2 + index % 2, start)


def stalled(lab: Lab) -> None:
    for node in lab.nodes:
        for metric in ("paxos_decided_slot", "paxos_applied_slot"):
            lab.set(metric, 60_000, 60, node=node)


def idle(lab: Lab) -> None:
    stalled(lab)
    lab.set("paxos_proposals_open", 0, 58, node=1)


def slow(histogram: str, share: float) -> Callable[[Lab], None]:
    """From second 30 on this share of the observations at node 2 takes more than 0.1 s."""
    return lambda lab: lab.slow(histogram, 2, share, 30)


def slow_everywhere(share: float) -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        for node in lab.nodes:
            lab.slow("paxos_client_request_duration_seconds", node, share, 30)

    return change


def lag(slots: int) -> Callable[[Lab], None]:
    return lambda lab: lab.set("paxos_applied_slot", lambda second: 1000 * second - slots, 60, node=2)


def lag_for_a_while(lab: Lab) -> None:
    lab.set("paxos_applied_slot", lambda second: 1000 * second - 2 * LAG_SLOTS, 60, 85, node=2)


def diverged(lab: Lab) -> None:
    lab.set("paxos_state_hash_mismatches_total", 1, 60, node=2)


def disk(free: float) -> Callable[[Lab], None]:
    return lambda lab: lab.set("paxos_disk_free_bytes", free, 60, node=2)


def skew(seconds: float) -> Callable[[Lab], None]:
    return lambda lab: lab.set("node_time_seconds", lambda second: second + seconds, 30, node=2, job=MACHINES)


def nothing_scraped(lab: Lab) -> None:
    lab.series.clear()


def no_families(lab: Lab) -> None:
    """Something else answers on the port of node 2."""
    lab.series = {key: row for key, row in lab.series.items() if 'node="2"' not in key or key.startswith("up{")}


def healthy(lab: Lab) -> None:
    pass


FIRES: Sequence[tuple[str, Callable[[Lab], None], int, list[dict[str, Any]]]] = [
    (
        "no leader for more than five seconds",
        no_leader,
        67,
        [firing("PaxosNoLeader", "Cluster lab has no leader", cluster="lab")],
    ),
    (
        "two of three nodes down",
        majority_down,
        70,
        [
            firing("PaxosNoLeader", "Cluster lab has no leader", cluster="lab"),
            firing("PaxosQuorumLost", "Cluster lab has lost its quorum: 1 node(s) are up", cluster="lab"),
        ],
    ),
    (
        "all links down while all nodes answer scrapes",
        majority_cut_off,
        70,
        [firing("PaxosQuorumLost", "Cluster lab has lost its quorum: 0 node(s) are up", cluster="lab")],
    ),
    ("a node down for more than half a minute", node_down, 95, [NODE_2_DOWN]),
    ("a frozen node, to which links are still open", node_frozen, 95, [NODE_2_DOWN]),
    ("a node that answers scrapes and has no link", node_cut_off, 95, [NODE_2_DOWN]),
    (
        "a dead node that is no target any more",
        node_forgotten_and_down,
        95,
        [NODE_2_DOWN, firing("PaxosMetricsMissing", "Node 2 of cluster lab is not watched", **NODE_2)],
    ),
    (
        "five leader changes in ten minutes",
        five_changes,
        75,
        [firing("PaxosLeaderFlapping", "Cluster lab has changed its leader 5 times in ten minutes", cluster="lab")],
    ),
    (
        "commands wait and nothing is decided",
        stalled,
        77,
        [firing("PaxosCommitStalled", "Cluster lab decides nothing while 10 command(s) wait", cluster="lab")],
    ),
    (
        "two in a hundred requests take long",
        slow_everywhere(0.02),
        170,
        [
            firing(
                "PaxosClientLatencyHigh",
                "Clients of cluster lab wait 550ms for an answer (99th percentile)",
                cluster="lab",
            )
        ],
    ),
    (
        "two in a hundred commits of one node take long",
        slow("paxos_wal_fsync_duration_seconds", 0.02),
        170,
        [firing("PaxosFsyncSlow", "Node 2 of cluster lab waits 550ms for its disk (99th percentile)", **NODE_2)],
    ),
    (
        "two in a hundred timers of one node are late",
        slow("paxos_reactor_lag_seconds", 0.02),
        170,
        [firing("PaxosReactorBlocked", "Node 2 of cluster lab runs its timers 550ms late (99th percentile)", **NODE_2)],
    ),
    (
        "a node stays behind",
        lag(LAG_SLOTS + 1),
        95,
        [firing("PaxosReplicaLagging", f"Node 2 of cluster lab is {LAG_SLOTS + 1} slots behind", **NODE_2)],
    ),
    (
        "a peer had another state",
        diverged,
        62,
        [firing("PaxosStateDiverged", "Node 2 of cluster lab has another state than a peer", **NODE_2)],
    ),
    (
        "half a gibibyte left",
        disk(2.0**29),
        95,
        [firing("PaxosDiskNearlyFull", "Node 2 of cluster lab has 512MiB left for its log", **NODE_2)],
    ),
    (
        "one clock ahead of two others",
        skew(0.75),
        100,
        [firing("PaxosClockSkew", "The clock of node 2 of cluster lab is off by 750ms", **NODE_2)],
    ),
    (
        "a living node that is no target",
        node_forgotten,
        40,
        [firing("PaxosMetricsMissing", "Node 2 of cluster lab is not watched", **NODE_2)],
    ),
    (
        "a target without metrics of a node",
        no_families,
        40,
        [firing("PaxosMetricsMissing", "Node 2 of cluster lab is not watched", **NODE_2)],
    ),
    (
        "no target at all",
        nothing_scraped,
        40,
        [firing("PaxosMetricsMissing", "No node is watched", job="paxosnode")],
    ),
]

SILENT: Sequence[tuple[str, tuple[str, ...], Callable[[Lab], None], Sequence[int]]] = [
    ("a healthy cluster", (), healthy, range(0, 180, 20)),
    ("a failover of four seconds", ("PaxosNoLeader",), no_leader_and_then_one, range(58, 100, 2)),
    ("one of three nodes down", ("PaxosQuorumLost",), node_down, range(60, 90, 5)),
    ("a node down for less than half a minute", ("PaxosNodeDown",), lambda lab: lab.down(2, 60, 85), range(60, 120, 5)),
    ("four leader changes in ten minutes", ("PaxosLeaderFlapping",), four_changes, range(20, 180, 20)),
    ("nothing is decided because nobody asks", ("PaxosCommitStalled",), idle, range(60, 120, 10)),
    ("half a request in a hundred takes long", ("PaxosClientLatencyHigh",), slow_everywhere(0.005), (100, 170)),
    (
        "half a commit in a hundred takes long",
        ("PaxosFsyncSlow",),
        slow("paxos_wal_fsync_duration_seconds", 0.005),
        (100, 170),
    ),
    (
        "half a timer in a hundred is late",
        ("PaxosReactorBlocked",),
        slow("paxos_reactor_lag_seconds", 0.005),
        (100, 170),
    ),
    ("a lag of just what is allowed", ("PaxosReplicaLagging",), lag(LAG_SLOTS), range(60, 180, 20)),
    ("a node catches up within half a minute", ("PaxosReplicaLagging",), lag_for_a_while, range(60, 180, 5)),
    ("states were compared and equal", ("PaxosStateDiverged",), healthy, (170,)),
    ("two gibibytes left", ("PaxosDiskNearlyFull",), disk(2.0**31), (95, 170)),
    ("clocks a tenth of a second apart", ("PaxosClockSkew",), skew(0.1), (100, 170)),
    ("a node that is down, and known to be", ("PaxosMetricsMissing",), node_down, (70, 89)),
]


@pytest.mark.parametrize(
    ("change", "second", "expected"), [case[1:] for case in FIRES], ids=[case[0] for case in FIRES]
)
def test_fires(tmp_path: Path, change: Callable[[Lab], None], second: int, expected: list[dict[str, Any]]) -> None:
    lab = Lab(second + 1)
    change(lab)
    check_alerts(tmp_path, lab, [second], expected)


@pytest.mark.parametrize(("change", "seconds"), [case[2:] for case in SILENT], ids=[case[0] for case in SILENT])
def test_keeps_quiet(tmp_path: Path, change: Callable[[Lab], None], seconds: Sequence[int]) -> None:
    lab = Lab(max(seconds) + 1)
    change(lab)
    check_alerts(tmp_path, lab, seconds, [])


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_rolling_restart_keeps_quiet(tmp_path: Path, nodes: int) -> None:
    """One node after the other, each down for twelve seconds; leadership moves at every one of them, which is more
    than should happen."""
    lab = Lab(60 + 30 * nodes + 60, nodes=nodes)
    for node in lab.nodes:
        start = 30 + 30 * node
        lab.lead(node % nodes + 1, start - 1)
        lab.down(node, start, start + 12)
        changes = lab.series[lab.key("paxos_leader_changes_total", node=node, cause="round")]
        for second in range(start + 12, lab.seconds):  # counts from 0, and finds the leader
            changes[second] = 1.0
    check_alerts(tmp_path, lab, range(30, lab.seconds, 3), [])


def test_a_failover_by_crash_keeps_quiet_until_the_node_has_been_away_for_long(tmp_path: Path) -> None:
    lab = Lab(100)
    lab.lead(0, 50)
    lab.lead(2, 51)
    lab.down(1, 50, 75)
    check_alerts(tmp_path, lab, range(40, 100, 2), [])


def test_every_alert_has_a_case_that_fires_and_one_that_keeps_quiet() -> None:
    names = {alert.name for alert in ALERTS}
    assert {one["alert"] for case in FIRES for one in case[3]} == names
    assert {name for case in SILENT for name in case[1]} == names
