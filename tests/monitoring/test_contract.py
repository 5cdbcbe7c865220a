"""Every expression of every dashboard and rule gives data when a real Prometheus watches a real cluster whose leader is
killed under load. Takes about half a minute, once for all tests of this file.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from expressions import DASHBOARDS, Expression, load, of_dashboards, of_rules
from live_prometheus import Prometheus, running

from paxos_twisted.cluster.bench_run import PROGRAM
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.cluster.ports import free_ports
from prometheus.recording import DEGRADED, HEALTH, HEALTHY, LEADER, NODE_UP
from prometheus.targets import targets
from prometheus.thresholds import JOB

pytestmark = pytest.mark.integration

NAME = "lab"
CLIENTS = 4
RATE = 200
SECONDS = 15
PATIENCE_S = 30.0
"""For what takes a second or two on a machine with nothing else to do."""

MAY_FIRE = {
    "PaxosClientLatencyHigh": "the machine that runs the tests may be busy",
    "PaxosFsyncSlow": "its disk may be, too",
    "PaxosReactorBlocked": "and its processors",
}
"""Alerts whose expressions may give something although the cluster is well."""


class Crash(NamedTuple):
    """What has been watched."""

    prometheus: Prometheus
    start: float
    end: float
    killed: int
    leader: int
    """After the crash."""


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crash]:
    """A cluster under load, its leader killed and started again, and Prometheus, which has seen all of it."""
    cluster = LocalCluster.create(tmp_path_factory.mktemp("cluster"), f=1, name=NAME)
    (port,) = free_ports(1)
    clients = f'- targets: ["127.0.0.1:{port}"]\n  labels: {{cluster: {NAME}}}\n'
    folder = tmp_path_factory.mktemp("prometheus")
    with running(folder, targets(cluster.config), bankclient=clients) as prometheus, cluster:
        cluster.start()
        cluster.wait_ready()
        start = time.time()
        killed = cluster.leader()
        prometheus.wait(f"{HEALTH} == {HEALTHY}", PATIENCE_S)
        command = [sys.executable, "-c", PROGRAM, "--bench", "--no-progress", "--config", str(cluster.config_path)]
        command += ["--clients", str(CLIENTS), "--rate", str(RATE), "-n", str(RATE * SECONDS // CLIENTS)]
        command += ["--metrics-port", str(port)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as bench:
            try:
                prometheus.wait('sum(increase(paxos_client_requests_total{outcome="ok"}[10s])) > 100', PATIENCE_S)
                cluster.kill(killed)
                leader = cluster.leader(other_than=killed)
                prometheus.wait(f"{HEALTH} == {DEGRADED} and {LEADER} == {leader}", PATIENCE_S)
                prometheus.wait('ALERTS{alertname="PaxosNodeDown", alertstate="pending"}', PATIENCE_S)
                cluster.start(killed)
                cluster.wait_ready()
                prometheus.wait(f"{HEALTH} == {HEALTHY}", PATIENCE_S)
                bench.wait(SECONDS + PATIENCE_S)
            finally:
                bench.kill()
        yield Crash(prometheus, start, time.time(), killed, leader)


def filled(expr: str) -> str:
    """An expression as Grafana sends it."""
    values = {"$cluster": NAME, "$node": ".+", "$__rate_interval": "5s"}
    for variable, value in values.items():
        expr = expr.replace(variable, value)
    assert "$_" not in expr
    return expr


ASKED = [*of_dashboards(), *of_rules("record")]


@pytest.mark.parametrize("expression", ASKED, ids=[each.where for each in ASKED])
def test_expression_gives_data(crash: Crash, expression: Expression) -> None:
    numbers = crash.prometheus.numbers(filled(expression.expr), crash.start, crash.end)
    assert numbers or expression.empty_when, f"no data: {filled(expression.expr)}"


@pytest.mark.parametrize("expression", of_rules("alert"), ids=[each.where for each in of_rules("alert")])
def test_alert_is_quiet_when_the_cluster_is_well_again(crash: Crash, expression: Expression) -> None:
    found = crash.prometheus.now(expression.expr)
    assert not found or expression.where in MAY_FIRE


def test_only_what_may_be_empty_is_excused() -> None:
    other = ("no cluster runs this engine", "the cluster runs another application")
    assert [each.where for each in ASKED if each.empty_when and each.empty_when not in other] == [
        "node: Time for a snapshot A",
        "overview: Alerts that fire A",
    ]
    only = r"paxos_(epaxos|view|backup)_|chat_|auction_"
    assert all(re.search(only, each.expr) for each in ASKED if each.empty_when in other)


def test_prometheus_evaluates_every_rule_without_trouble(crash: Crash) -> None:
    groups = crash.prometheus.get("rules")["groups"]
    assert {rule["name"]: rule["health"] for group in groups for rule in group["rules"] if rule["health"] != "ok"} == {}
    assert all(group["evaluationTime"] < group["interval"] for group in groups)


def test_all_nodes_are_scraped_under_their_names(crash: Crash) -> None:
    targets = crash.prometheus.get("targets?state=active")["activeTargets"]
    active = [target for target in targets if target["labels"]["job"] == JOB]
    assert {target["labels"]["node"]: target["health"] for target in active} == {"1": "up", "2": "up", "3": "up"}
    infos = crash.prometheus.now("paxos_node_info")
    assert {labels["node"] for labels, _ in infos} == {"1", "2", "3"}
    assert not any("exported_node" in labels for labels, _ in infos)


def test_the_crash_is_seen(crash: Crash) -> None:
    """The killed leader was down, another node leads, and the time when it took over lies within the test."""
    api, seconds = crash.prometheus, int(crash.end - crash.start)
    assert api.now(f'min_over_time({NODE_UP}{{node="{crash.killed}"}}[{seconds}s]) == 0')
    assert [value for _, value in api.now(LEADER)] == [crash.leader]
    began = 'paxos_failover_phase_start_timestamp_seconds{phase="phase1"}'
    (began_at,) = [value for _, value in api.now(f"{began} and on (node) paxos_is_leader == 1")]
    assert crash.start < began_at < crash.end


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_variables_find_cluster_and_nodes(crash: Crash, path: Path) -> None:
    found = {}
    for variable in load(path)["templating"]["list"]:
        metric, label = variable["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        values = crash.prometheus.get(f"label/{label}/values?match[]={quote(filled(metric))}")
        found[variable["name"]] = values
    assert found == {"cluster": [NAME], "node": ["1", "2", "3"]}
