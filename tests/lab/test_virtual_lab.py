"""The whole of it, for real and shortened: make machines, deploy, deploy again, break the leader twice, remove all.

Needs root, the Debian packages that `paxoslab` asks for, and ansible-playbook on the path (dependency group `lab`).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import host, network
from lab.main import _traces
from lab.plan import Lab, LabError

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"

SUBNET = "10.79.79.0/24"
"""Not the one of the lab that a person may be using."""

pytestmark = pytest.mark.integration

Run = Callable[..., str]


def reason_why_not() -> str | None:
    """What is missing here, in a sentence."""
    try:
        host.demand()
    except LabError as error:
        return "; ".join(str(error).splitlines())
    if shutil.which("ansible-playbook") is None:
        return "ansible-playbook is not on the path; type: pip install --group lab"
    return None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command in the folder ansible, with the lab made before and gone afterwards."""
    why = reason_why_not()
    if why is not None:
        pytest.skip(why)
    sockets = tmp_path_factory.mktemp("ssh")
    environ = {
        **os.environ,
        "PAXOSLAB_SUBNET": SUBNET,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path_factory.mktemp("ansible")),
        "ANSIBLE_NOCOLOR": "1",
    }

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            words,
            cwd=ANSIBLE,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == code, f"{' '.join(words)}: {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr}"
        return done.stdout

    run("./paxoslab", "down")
    try:
        run("./paxoslab", "up")
        yield run
    finally:
        for socket in sockets.iterdir():
            subprocess.run(
                ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], capture_output=True, check=False
            )
        run("./paxoslab", "down")
    assert _traces(Lab.of(SUBNET)) == []


def playbook(name: str, *words: str) -> tuple[str, ...]:
    return ("ansible-playbook", "-i", "inventories/virtual", f"{name}.yml", *words)


def recap(output: str) -> dict[str, dict[str, int]]:
    """The numbers of PLAY RECAP, by host."""
    lines = output.partition("PLAY RECAP")[2].splitlines()
    rows = {line.split(" :")[0].strip(): re.findall(r"(\w+)=(\d+)", line) for line in lines if " : " in line}
    return {name: {key: int(value) for key, value in row} for name, row in rows.items()}


def test_deploy_serves_and_a_second_run_changes_nothing(run: Run) -> None:
    checked = recap(run(*playbook("deploy", "--check", "--diff")))
    assert all(row["failed"] == 0 and row["changed"] > 0 for row in checked.values())
    first = run(*playbook("deploy"))
    assert "all nodes agree" in first
    second = recap(run(*playbook("deploy")))
    assert {name: row["changed"] for name, row in second.items()} == dict.fromkeys(second, 0)


def test_a_wrong_inventory_touches_nothing(run: Run) -> None:
    output = run(*playbook("deploy", "-e", "paxosnode_id=1"), code=2)
    assert "node2: paxosnode_id 1 is the id of node1 too" in output
    assert "Nothing was touched" in output


def test_the_leader_is_killed_and_cut_off(run: Run, tmp_path: Path) -> None:
    scenarios = "crash_test_scenarios=one-client,leader-killed,leader-cut-off"
    output = run(*playbook("failover_test", "-e", scenarios, "-e", f"crash_test_reports={tmp_path}"))
    assert "violation" not in output
    (report,) = tmp_path.glob("*/report.md")
    assert "was VIOLATED" not in report.read_text()


def test_the_lab_does_not_touch_other_networks(run: Run) -> None:
    ours = network.traces(Lab.of(SUBNET))
    assert ours and all("79-79" in trace or "79_79" in trace for trace in ours)
