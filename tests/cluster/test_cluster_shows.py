"""Demo, soak and failover on real processes, smaller than people run them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_tools import run, succeed

pytestmark = pytest.mark.integration


def test_the_demo_proves_its_point(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    words = ("--clients", 3, "-n", 100, "--seed", 3, "--dir", tmp_path / "demo", "--svg", picture)
    text = succeed("paxoscluster", "demo", *words)
    assert "exactly 300 took effect, none of them twice" in text
    assert "what the clients saw is linearizable" in text
    assert "Nothing was lost, nothing was done twice, all replicas are equal." in text
    assert "kill -9" in text
    assert "✗" not in text
    drawn = picture.read_text()
    assert drawn.startswith("<svg")
    assert "url(http" not in drawn


def test_the_demo_for_programs(tmp_path: Path) -> None:
    report = json.loads(
        succeed("paxoscluster", "demo", "-n", 60, "--clients", 2, "--profile", "lab", "--output", "json")
    )
    assert report["verdict"] == "ok"
    assert report["commands"] == 120
    assert report["slots"] == report["commands"] + report["noops"] + report["duplicates"]
    assert report["successor"] != report["leader"]
    assert report["bench"]["together"]["answered"] == 120
    assert report["directory"] == ""


@pytest.mark.parametrize("seed", [11])
def test_a_short_soak_finds_nothing(tmp_path: Path, seed: int) -> None:
    words = ("--rounds", 20, "--seed", seed, "--dir", tmp_path / "soak", "--output", "json")
    report = json.loads(succeed("paxoscluster", "soak", *words))
    assert report["verdict"] == "ok"
    assert report["rounds"] == 20
    assert sum(kind["rounds"] for kind in report["kinds"].values()) == 20
    assert report["windows"] == 6
    assert report["checked"] == report["answered"] + report["refused"] + report["unknown"]
    assert report["violation"] == []


def test_what_a_soak_finds_is_told_and_kept(tmp_path: Path) -> None:
    """A node that loses its disk behind our back cannot come back: the soak must say so, not hang or hide it."""
    folder = tmp_path / "soak"
    sabotage = (
        "import shutil, sys\n"
        "from paxos_twisted.cluster import local, nemesis\n"
        "nemesis.READY_S = 3.0\n"
        "start = local.LocalCluster.start\n"
        "def robbed(self, *nodes):\n"
        "    if self.process(2) is not None and self.state(2) == 'gone':\n"
        "        shutil.rmtree(self.config.node(2).data_dir, ignore_errors=True)\n"
        "    start(self, *nodes)\n"
        "local.LocalCluster.start = robbed\n"
        "from paxos_twisted.cluster.main import main\n"
        "main()\n"
    )
    words = ["soak", "--rounds", "30", "--seed", "2", "--kind", "kill all", "--dir", str(folder), "--output", "json"]
    done = subprocess.run(
        [sys.executable, "-c", sabotage, *words], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 3, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "violation"
    assert any("node 2" in line for line in report["violation"])
    evidence = Path(report["evidence"])
    assert {entry.name for entry in evidence.iterdir()} >= {"why.txt", "plan.json", "history.jsonl"}
    assert "node 2" in (evidence / "why.txt").read_text()


@pytest.mark.parametrize("kind", ["kill", "restart"])
def test_failover_is_measured(tmp_path: Path, kind: str) -> None:
    done = run("paxoscluster", "failover", "--times", 3, "--kind", kind, "--seed", 1, "--output", "json")
    assert done.returncode in {0, 3}, done.stderr  # how long it takes is not for a busy test machine to say
    report = json.loads(done.stdout)
    assert report["trouble"] is None
    assert len(report["gaps_ms"]) == 3
    if kind == "restart":
        assert report["leader_changes"] == 0
