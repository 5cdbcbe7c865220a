"""Demo, soak and failover on real processes, smaller than people run them."""

import json
import textwrap
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
    words = ("-n", 60, "--clients", 2, "--profile", "lab", "--output", "json")
    report = json.loads(succeed("paxoscluster", "demo", *words, env={"TMPDIR": str(tmp_path)}))
    assert report["verdict"] == "ok"
    assert report["commands"] == 120
    assert report["slots"] == report["commands"] + report["noops"] + report["duplicates"]
    assert report["successor"] != report["leader"]
    assert report["bench"]["together"]["answered"] == 120
    assert report["directory"] == ""
    assert list(tmp_path.iterdir()) == []


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


SABOTAGE = [
    pytest.param(
        """
        import sys
        if "paxos_twisted.node" in sys.orig_argv:
            from paxos_twisted.core.sessions import Sessions
            Sessions.find = lambda self, command: None
        """,
        "kill leader",
        id="nodes that execute a repeated transaction again",
    ),
    pytest.param(
        """
        import sys
        if "paxos_twisted.node" in sys.orig_argv:
            from paxos_twisted.apps.bank import Bank
            apply = Bank.apply
            def wrong(self, op, client):
                if sys.orig_argv[-1] == "2" and op.amount == 7:
                    self.accounts.writable(23)[23] = 1
                return apply(self, op, client)
            Bank.apply = wrong
        """,
        "kill follower",
        id="a node that computes something else than the others",
    ),
]


@pytest.mark.parametrize(("patch", "kind"), SABOTAGE)
def test_a_soak_finds_what_is_wrong_and_keeps_the_evidence(tmp_path: Path, patch: str, kind: str) -> None:
    """The nodes are sabotaged through a module that Python imports before anything else."""
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(patch))
    words = ("--rounds", 60, "--seed", 2, "--kind", kind, "--dir", tmp_path / "soak", "--output", "json")
    done = run("paxoscluster", "soak", *words, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 3, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "violation"
    assert report["violation"]
    evidence = Path(report["evidence"])
    assert {entry.name for entry in evidence.iterdir()} == {
        "why.txt",
        "plan.json",
        "balances-before.json",
        "history.jsonl",
    }
    assert (evidence / "why.txt").read_text().splitlines() == report["violation"]


def test_a_node_that_does_not_come_back_ends_the_soak(tmp_path: Path) -> None:
    """Its disk was taken away: it must not start, and the soak must neither hang nor hide that."""
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import os, sys
            if "paxos_twisted.node" in sys.orig_argv and sys.orig_argv[-1] == "2":
                if os.path.exists("/proc/self/stat"):
                    marker = os.path.join(os.path.dirname(__file__), "started")
                    if os.path.exists(marker):
                        raise SystemExit("no disk")
                    open(marker, "w").close()
            """
        )
    )
    words = ["soak", "--rounds", "3", "--seed", "2", "--kind", "kill all", "--dir", str(tmp_path / "soak")]
    done = run("paxoscluster", *words, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 3, done.stdout + done.stderr
    assert "node 2 has ended by itself" in done.stdout
    assert "Evidence" in done.stdout


@pytest.mark.parametrize("kind", ["kill", "restart"])
def test_failover_is_measured(tmp_path: Path, kind: str) -> None:
    words = ("--times", 3, "--kind", kind, "--seed", 1, "--output", "json")
    done = run("paxoscluster", "failover", *words, env={"TMPDIR": str(tmp_path)})
    assert done.returncode in {0, 3}, done.stderr  # how long it takes is not for a busy test machine to say
    report = json.loads(done.stdout)
    assert report["trouble"] is None
    assert len(report["gaps_ms"]) == 3
    if kind == "restart":
        assert report["leader_changes"] == 0
