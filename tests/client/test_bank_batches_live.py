"""`bankclient --bench --batch`: whole batches against a real cluster, one of whose leaders is killed amid them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paxos_twisted.check.command import check_files
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.cluster.bench_run import PROGRAM
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.limits import SERIES_MAX

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster.create(tmp_path_factory.mktemp("cluster"), f=1, name="batches") as made:
        made.start()
        made.wait_ready()
        yield made


def bench(cluster: LocalCluster, *words: str) -> dict[str, object]:
    command = [sys.executable, "-c", PROGRAM, "--config", str(cluster.config_path), "--bench", "--no-progress"]
    done = subprocess.run(
        [*command, "--output", "json", *words], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_what_clients_saw_of_batches_over_a_failover_is_linearizable(cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    process = cluster.process(cluster.leader())
    assert process is not None
    words = ["--batch", "4", "--clients", "2", "--outstanding", "2", "-n", "60", "--history", str(file), "--seed", "1"]
    report = bench(cluster, *words, "--at", "30", "--run", f"kill -9 {process.pid}")
    assert report["together"]["answered"] == 120  # type: ignore[index]
    checked = check_files([file], "bank", 10**7, fresh=True)
    assert checked.verdict.outcome is Outcome.OK
    assert checked.history.count("ok") == 480
    cluster.start()
    cluster.wait_ready()


def test_the_longest_batches_take_a_slot_for_each_transaction(cluster: LocalCluster) -> None:
    before = cluster.statuses()[cluster.leader()].applied  # type: ignore[union-attr]
    report = bench(cluster, "--batch", str(SERIES_MAX), "-n", "5", "--outstanding", "2")
    assert report["plan"]["batch"] == SERIES_MAX  # type: ignore[index]
    assert report["together"]["answered"] == 5  # type: ignore[index]
    after = cluster.statuses()[cluster.leader()].applied  # type: ignore[union-attr]
    assert after - before == 5 * SERIES_MAX
