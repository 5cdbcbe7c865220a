"""What a bench tells Prometheus, while it runs and at its end."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from paxos_twisted.cluster.bench_run import PROGRAM
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.cluster.ports import free_ports

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster.create(tmp_path_factory.mktemp("cluster"), f=1, name="exposed") as made:
        made.start()
        made.wait_ready()
        yield made


def samples(text: str) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def bench(cluster: LocalCluster, *words: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", PROGRAM, "--config", str(cluster.config_path), "--bench", "--no-progress", *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_the_file_holds_the_whole_bench_with_a_failover_in_it(cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "bench.prom"
    process = cluster.process(cluster.leader())
    assert process is not None
    words = ["--clients", "2", "-n", "300", "--metrics-file", str(file)]
    with bench(cluster, *words, "--at", "200", "--run", f"kill -9 {process.pid}") as running:
        assert running.wait(60) == 0
    found = samples(file.read_text())
    assert list(tmp_path.iterdir()) == [file]
    assert found['bankclient_requests_total{app="bank",outcome="unknown"}'] == 0
    requests = [value for name, value in found.items() if name.startswith("bankclient_requests_total{")]
    assert sum(requests) == found['bankclient_request_duration_seconds_count{app="bank"}'] == 600
    assert found['bankclient_gap_seconds_bucket{le="+Inf"}'] == 600
    assert found["bankclient_unanswered_requests"] == 0
    assert sum(value for name, value in found.items() if name.startswith("bankclient_reconnects_total{")) >= 2
    began = found['bankclient_failover_phase_start_timestamp_seconds{phase="first_commit"}']
    assert time.time() - 60 < began < time.time()
    phases = {name: value for name, value in found.items() if name.startswith("bankclient_failover_phase_seconds{")}
    assert 0 < sum(phases.values()) <= found["bankclient_longest_gap_seconds"] + 0.001
    cluster.start()
    cluster.wait_ready()


def test_a_running_bench_answers_scrapes(cluster: LocalCluster) -> None:
    (port,) = free_ports(1)
    with bench(cluster, "--rate", "100", "-n", "100000", "--metrics-port", str(port)) as running:
        try:
            found: dict[str, float] = {}
            deadline = time.monotonic() + 20
            while found.get('bankclient_request_duration_seconds_count{app="bank"}', 0) < 10:
                assert time.monotonic() < deadline
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                        found = samples(answer.read().decode())
                except urllib.error.URLError:
                    time.sleep(0.1)
            assert found["bankclient_clients"] == 1
            with bench(cluster, "-n", "1", "--metrics-port", str(port)) as second:
                _, error = second.communicate(timeout=20)
                assert second.returncode == 2
                assert error.decode().startswith(f"--metrics-port: {port}: ")
        finally:
            running.terminate()
            assert running.wait(20) == 130
