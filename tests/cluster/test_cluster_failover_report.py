"""`paxoscluster failover --report`: real kills, taken apart; the phases make up each wait."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PROGRAM = "from paxos_twisted.cluster.main import main; main()"


def measured(folder: Path, *words: str) -> dict[str, Any]:
    """report.json of a run."""
    command = [sys.executable, "-c", PROGRAM, "failover", "--seed", "5", "--report", str(folder), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 3), done.stderr  # 3: a busy machine was slower than promised
    assert "waits" in (folder / "index.html").read_text("utf-8")
    (scenario,) = json.loads((folder / "report.json").read_text("utf-8"))["scenarios"]
    assert isinstance(scenario, dict)
    return scenario


def test_kills_are_taken_apart(tmp_path: Path) -> None:
    scenario = measured(tmp_path, "--times", "2")
    assert len(scenario["anatomies"]) == 2
    for anatomy in scenario["anatomies"]:
        assert anatomy["is_explained"]
        total = sum(anatomy["phases_ms"].values())
        assert abs(total - anatomy["gap_ms"]) <= max(5.0, 0.02 * anatomy["gap_ms"])
        assert anatomy["old_leader"] != anatomy["new_leader"]
        assert all(anatomy["phases_ms"][phase] > 0 for phase in ("detect", "phase1", "first_commit"))
        assert "failure detector's delay" not in anatomy["timers_ms"]
    for spans in scenario["leader_timeline"].values():
        assert all(span["start_s"] < span["stop_s"] for span in spans)


def test_a_frozen_leader_costs_timeouts(tmp_path: Path) -> None:
    scenario = measured(tmp_path, "--times", "1", "--kind", "freeze")
    (anatomy,) = scenario["anatomies"]
    assert anatomy["is_explained"]
    assert "failure detector's delay" in anatomy["timers_ms"]
    assert anatomy["timer_share"] > 0.5
