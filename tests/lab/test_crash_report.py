"""The verdict on a crash test: a run that is well, and every way in which it can be not."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paxos_twisted.report.folder import Folder
from paxos_twisted.report.judge import judge
from paxos_twisted.report.main import compare
from paxos_twisted.report.markdown import markdown
from paxos_twisted.report.model import Run, Scenario

ABOUT = {
    "name": "leader-killed",
    "title": "The leader's process is killed",
    "fault": "kill",
    "target": "leader",
    "changes": [1, 1],
    "gap_ms": 150,
    "load": {"clients": 2, "requests": 50},
    "profile": "default",
    "load_host": "monitor",
    "detector_delay": "800ms",
    "nodes": [{"host": "node1", "id": 1}, {"host": "node2", "id": 2}],
}


def status(node: int, *, slots: int, commands: int, noops: int = 0, changes: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "node": node,
        "pid": 10 + node,
        "uptime_s": float(slots),
        "role": "leader" if more.pop("leads", False) else "follower",
        "round": 1000 + node,
        "applied": slots - 1,
        "leader_changes": changes,
        "commands": {"applied": commands, "noops": noops, "duplicates": 0, "from_snapshot": 0},
        **more,
    }


def verify(*nodes: dict[str, Any], verdict: str = "ok", checks: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    same = {"name": "same state", "verdict": "ok", "text": "hash abc after slot 110"}
    return {
        "verdict": verdict,
        "checks": list(checks) or [same],
        "nodes": {str(node["node"]): node for node in nodes},
    }


def bench(answered: int = 100, refused: int = 0, unknown: int = 0, gap_ms: float = 80.0) -> dict[str, Any]:
    rtt = {"count": 50, "mean": 1.0, "min": 0.5, "max": 80.0, "median": 0.9, "stdev": 2.0, "p99": 3.0}
    client = {"process": 0, "longest_gap_ms": gap_ms, "rtt_ms": rtt}
    gap = {"ms": gap_ms, "process": 0, "start_ns": 1, "timeout_share": 0.25}
    together = {"answered": answered, "refused": refused, "unknown": unknown, "longest_gap": gap}
    return {"clients": [client, client], "together": together}


def files() -> dict[str, dict[str, Any]]:
    """A run in which all is well."""
    struck = {"host": "node2", "state": "healed", "striking_ns": 1_000_000, "struck_ns": 9_000_000}
    return {
        "monitor": {
            "bench.json": bench(),
            "trigger.jsonl": {"nodes": ["node2"], "heard": True},
            "before/verify.json": verify(
                status(1, slots=10, commands=10), status(2, slots=10, commands=10, leads=True)
            ),
            "after/verify.json": verify(
                status(1, slots=111, commands=110, noops=1, changes=2, leads=True),
                status(2, slots=111, commands=110, noops=1, pid=99),
            ),
            "after/check.json": {"verdict": "ok", "operations": 100, "clients": 2, "explanation": []},
        },
        "node1": {"fault.json": {"host": "node1", "state": "never"}},
        "node2": {"fault.json": struck},
    }


def judged(folder: Path, hosts: dict[str, dict[str, Any]], about: dict[str, Any] | None = None) -> Scenario:
    folder.mkdir(exist_ok=True)
    (folder / "scenario.json").write_text(json.dumps(about or ABOUT))
    for host, contents in hosts.items():
        with tarfile.open(folder / f"{host}.tar.gz", "w:gz") as tar:
            for name, value in contents.items():
                data = json.dumps(value).encode()
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return judge(Folder(folder))


def test_a_run_in_which_all_is_well(tmp_path: Path) -> None:
    found = judged(tmp_path, files())
    assert {check.verdict for check in found.checks} == {"ok"}, found.checks
    assert (found.verdict, found.gap_ms, found.leader_changes, found.leaders) == ("ok", 80.0, 1, [2, 1])


def change_after(node: str, **changes: Any) -> Callable[[dict[str, dict[str, Any]]], None]:
    def change(hosts: dict[str, dict[str, Any]]) -> None:
        hosts["monitor"]["after/verify.json"]["nodes"][node].update(changes)

    return change


def change_file(name: str, value: Any) -> Callable[[dict[str, dict[str, Any]]], None]:
    def change(hosts: dict[str, dict[str, Any]]) -> None:
        if value is None:
            hosts["monitor"].pop(name)
        else:
            hosts["monitor"][name] = value

    return change


COUNTS = {"noops": 1, "duplicates": 0, "from_snapshot": 0}
DIFFERENT = {"name": "same state", "verdict": "violation", "text": "after slot 9: nodes 1 hold a; nodes 2 hold b"}


@pytest.mark.parametrize(
    ("change", "verdict", "name"),
    [
        pytest.param(
            change_after("1", commands={**COUNTS, "applied": 111}, applied=111),
            "violation",
            "no command took effect twice, none was lost",
            id="a command took effect twice",
        ),
        pytest.param(
            change_after("1", commands={**COUNTS, "applied": 109}, applied=109),
            "violation",
            "no command took effect twice, none was lost",
            id="an answered command is lost",
        ),
        pytest.param(
            change_after("1", applied=120),
            "violation",
            "slots = commands + no-ops + duplicates",
            id="slots nobody wrote",
        ),
        pytest.param(
            change_file(
                "after/verify.json",
                verify(
                    status(1, slots=111, commands=110, noops=1, changes=2), verdict="violation", checks=(DIFFERENT,)
                ),
            ),
            "violation",
            "the same state on every node",
            id="replicas differ",
        ),
        pytest.param(
            change_file(
                "after/check.json", {"verdict": "violation", "operations": 100, "clients": 2, "explanation": ["no"]}
            ),
            "violation",
            "what clients saw is linearizable",
            id="a history that is not linearizable",
        ),
        pytest.param(
            change_file("bench.json", bench(answered=99, refused=1)),
            "violation",
            "every command was answered",
            id="a command was refused",
        ),
        pytest.param(
            change_after("1", leader_changes=5), "violation", "leadership moved as expected", id="leadership flaps"
        ),
        pytest.param(
            change_after("1", leader_changes=1), "violation", "leadership moved as expected", id="nobody took over"
        ),
        pytest.param(
            change_file("bench.json", bench(gap_ms=400.0)),
            "missed",
            "clients waited no longer than promised",
            id="a long outage is a missed target",
        ),
        pytest.param(
            change_file("trigger.jsonl", None), "unknown", "the fault came, and was mended", id="the fault never came"
        ),
        pytest.param(
            change_file("bench.json", None), "unknown", "every command was answered", id="no report of the load"
        ),
        pytest.param(
            change_file("after/check.json", None), "unknown", "what clients saw is linearizable", id="no history"
        ),
    ],
)
def test_what_is_not_well_is_named(
    tmp_path: Path, change: Callable[[dict[str, dict[str, Any]]], None], verdict: str, name: str
) -> None:
    hosts = files()
    change(hosts)
    found = judged(tmp_path, hosts)
    assert found.verdict == verdict
    assert name in [check.name for check in found.checks if check.verdict == verdict]


def test_a_task_that_failed_is_not_taken_for_success(tmp_path: Path) -> None:
    (tmp_path / "failed-node1.json").write_text('{"host": "node1", "task": "Place an agent", "text": "no"}')
    found = judged(tmp_path, files())
    assert found.verdict == "unknown"
    assert found.checks[0].text == "node1: Place an agent: no"


def test_strict_times_make_a_missed_target_a_violation(tmp_path: Path) -> None:
    hosts = files()
    hosts["monitor"]["bench.json"] = bench(gap_ms=400.0)
    assert judged(tmp_path, hosts, {**ABOUT, "strict_times": True}).verdict == "violation"


def test_silence_allows_the_detector_its_delay(tmp_path: Path) -> None:
    hosts = files()
    hosts["monitor"]["bench.json"] = bench(gap_ms=1050.0)
    assert judged(tmp_path, hosts, {**ABOUT, "gap_ms": "silence"}).verdict == "ok"


def test_a_skipped_scenario_says_why(tmp_path: Path) -> None:
    found = judged(tmp_path, {}, {**ABOUT, "skipped": "the inventory has 3 nodes, and it needs 5"})
    assert (found.verdict, found.checks[0].text) == ("skipped", "the inventory has 3 nodes, and it needs 5")


def test_the_report_has_a_table_and_a_section_for_each_scenario(tmp_path: Path) -> None:
    text = markdown(Run("run", "Crash tests: run", [judged(tmp_path, files())]))
    assert "**All properties hold.**" in text
    assert "| [leader-killed](#leader-killed) | ✓ ok | 80 ms | 25% | 1 |" in text
    assert "| monitor/1 | 50 | 1.00 |" in text


def test_clients_at_once_are_compared_with_one_alone() -> None:
    """[L5-113]"""
    row = {"host": "monitor", "client": 1, "count": 500, "mean": 2.0, "median": 2.0, "p99": 4.0}
    alone = Scenario("one-client", "", about={"fault": "none"}, clients=[row])
    three = Scenario(
        "three-clients", "", about={"fault": "none"}, clients=[{**row, "mean": mean} for mean in (2, 3, 4)]
    )
    broken = Scenario("leader-killed", "", about={"fault": "kill"}, clients=[row, row])
    compare([alone, three, broken])
    assert three.compared.startswith(
        "Beside one client alone (one-client), a client of 3: mean 3.00 instead of 2.00 ms"
    )
    assert alone.compared == broken.compared == ""
