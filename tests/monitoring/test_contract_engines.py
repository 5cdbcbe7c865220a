"""What only one engine or application measures is on the dashboards too, and has data where that one runs: EPaxos with
auctions, primary-backup with the chat. Takes about half a minute, once for all tests of this file.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from expressions import Expression, of_dashboards
from live_prometheus import Prometheus, running

from paxos_twisted.cluster.local import LocalCluster
from prometheus.recording import HEALTH, HEALTHY
from prometheus.targets import targets

pytestmark = pytest.mark.integration

ONLY = ("no cluster runs this engine", "the cluster runs another application")
ASKED = [each for each in of_dashboards() if each.empty_when in ONLY or "group_left (engine)" in each.expr]
PATIENCE_S = 60.0
SECONDS = 8.0

CLUSTERS = {"one": ("epaxos", "auction"), "other": ("primary-backup", "chat")}
OF = {"paxos_epaxos": "one", "auction_": "one", "paxos_view": "other", "paxos_backup": "other", "chat_": "other"}
"""Which cluster has what begins like this."""


class Watched(NamedTuple):
    """What has been scraped."""

    prometheus: Prometheus
    start: float
    end: float


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("clusters")
    with ExitStack() as stack:
        clusters = {
            name: LocalCluster.create(folder / name, f=1, name=name, engine=engine, application=application)
            for name, (engine, application) in CLUSTERS.items()
        }
        texts = {f"paxosnode-{name}": targets(cluster.config) for name, cluster in clusters.items()}
        prometheus = stack.enter_context(running(tmp_path_factory.mktemp("prometheus"), "[]\n", **texts))
        for cluster in clusters.values():
            stack.enter_context(cluster)
            cluster.start()
        start = time.time()
        for name, cluster in clusters.items():
            cluster.wait_ready()
            prometheus.wait(f'{HEALTH}{{cluster="{name}"}} == {HEALTHY}', PATIENCE_S)
            program = f"from paxos_twisted_client.{CLUSTERS[name][1]}client import main; main()"
            client = [sys.executable, "-c", program, "--config", str(cluster.config_path)]
            if name == "one":
                subprocess.run([*client, "start", "auction", "10m"], stdin=subprocess.DEVNULL, check=True)
            command = [*client, "--bench", "--no-progress"]
            command += ["--clients", "3", "--rate", "60", "-n", "100000", "--target", "round-robin"]
            bench = stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            stack.callback(bench.kill)
        for name in CLUSTERS:
            answered = f'sum(increase(paxos_client_requests_total{{cluster="{name}", outcome="ok"}}[5s])) > 50'
            prometheus.wait(answered, PATIENCE_S)
        time.sleep(SECONDS)  # a few scrapes more, so that every rate has a value
        yield Watched(prometheus, start, time.time())


@pytest.mark.parametrize("expression", ASKED, ids=[each.where for each in ASKED])
def test_expression_gives_data(watched: Watched, expression: Expression) -> None:
    names = {cluster for beginning, cluster in OF.items() if beginning in expression.expr} or set(CLUSTERS)
    for name in names:
        expr = expression.expr
        for variable, value in {"$cluster": name, "$node": ".+", "$__rate_interval": "5s"}.items():
            expr = expr.replace(variable, value)
        assert watched.prometheus.numbers(expr, watched.start, watched.end), f"no data: {expr}"


def test_engines_are_told_apart(watched: Watched) -> None:
    (answers,) = [each.expr for each in ASKED if each.where == "engines: Answers A"]
    found = watched.prometheus.now(answers.replace("$__rate_interval", "5s"))
    assert {labels["engine"]: labels["cluster"] for labels, _ in found} == {"epaxos": "one", "primary-backup": "other"}


def test_a_cluster_without_a_leader_is_not_called_leaderless(watched: Watched) -> None:
    """Each replica of EPaxos leads itself: no alert may take that for trouble."""
    firing = watched.prometheus.now('ALERTS{alertname=~"PaxosNoLeader|PaxosLeaderFlapping|PaxosQuorumLost"}')
    assert firing == []
