"""Everything also runs on Twisted's own reactor and transports: three real nodes with --stock."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from paxos_twisted.cluster.local import LocalCluster

pytestmark = pytest.mark.integration

WAIT_S = 60.0
BANKCLIENT = "from paxos_twisted_client.bankclient import main; main()"


def test_a_cluster_on_stock_twisted_serves(tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "cluster", name="stock")
    config = ["--config", str(cluster.config_path)]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "paxos_twisted.node", *config, "--node-id", str(node), "--stock"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for node in cluster.members
    ]
    try:
        until = time.monotonic() + WAIT_S
        while any(api.not_ready() is not None for api in cluster.apis.values()):
            assert time.monotonic() < until, "not ready"
            assert all(node.poll() is None for node in nodes), "a node has ended"
            time.sleep(0.05)
        words = ["--bench", "--no-progress", "--clients", "4", "-n", "50"]
        subprocess.run(
            [sys.executable, "-c", BANKCLIENT, *config, *words], capture_output=True, check=True, timeout=WAIT_S
        )
    finally:
        for process in nodes:
            process.terminate()
        for process in nodes:
            process.wait(WAIT_S)
