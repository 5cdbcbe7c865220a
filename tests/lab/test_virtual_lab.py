"""The whole of it, for real and shortened: make machines, deploy and deploy again, bad days, break the leader, find a
bug, remove all.

Needs root, the Debian packages that `paxoslab` asks for, and Ansible (dependency group `lab`). The tests of this file
run in their order, on the same machines.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import host, image, network
from lab.main import _traces
from lab.plan import Lab, LabError

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"

SUBNET = "10.79.79.0/24"
"""Not the one of the lab that a person may be using."""

PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

pytestmark = [pytest.mark.integration, pytest.mark.lab]

Run = Callable[..., str]


def reason_why_not() -> str | None:
    """What is missing here, in a sentence."""
    try:
        host.demand()
    except LabError as error:
        return "; ".join(str(error).splitlines())
    if shutil.which("ansible-playbook", path=PROGRAMS) is None:
        return "ansible-playbook is not here; type: pip install --group lab"
    if not image.image_path().is_dir():
        try:
            urllib.request.urlopen(f"{image.MIRROR}/dists/{image.SUITE}/Release", timeout=15).close()
        except (OSError, urllib.error.URLError) as error:
            return f"the Debian mirror that machines are made from cannot be reached: {image.MIRROR}: {error}"
    return None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command in the folder ansible, with the lab made before and gone afterwards."""
    why = reason_why_not()
    if why is not None:
        pytest.skip(why)
    sockets = tmp_path_factory.mktemp("ssh")
    temporary = tmp_path_factory.mktemp("ansible")
    environ = {
        **os.environ,
        "PATH": PROGRAMS,
        "PAXOSLAB_SUBNET": SUBNET,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_LOCAL_TEMP": str(temporary),
        "ANSIBLE_NOCOLOR": "1",
    }

    def run(*words: str, code: int = 0, **environment: str) -> str:
        done = subprocess.run(
            words,
            cwd=ANSIBLE,
            env=environ | environment,
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
        run("./paxoslab", "up", "--data-mb", "300")
        yield run
    finally:
        for socket in sockets.iterdir():
            subprocess.run(
                ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], capture_output=True, check=False
            )
        run("./paxoslab", "down")
        (ANSIBLE / ".secrets" / "virtual-10.79.79").unlink(missing_ok=True)
    assert _traces(Lab.of(SUBNET)) == []


def playbook(name: str, *words: str) -> tuple[str, ...]:
    return ("ansible-playbook", "-i", "inventories/virtual", f"{name}.yml", *words)


def recap(output: str) -> dict[str, dict[str, int]]:
    """The numbers of PLAY RECAP, by host."""
    lines = output.partition("PLAY RECAP")[2].splitlines()
    rows = {line.split(" :")[0].strip(): re.findall(r"(\w+)=(\d+)", line) for line in lines if " : " in line}
    return {name: {key: int(value) for key, value in row} for name, row in rows.items()}


def processes(run: Run) -> dict[str, str]:
    """The node's process on each machine: the same number as before means that nobody has touched it."""
    show = ("sudo", "systemctl", "show", "--property=MainPID", "--value", "paxosnode.service")
    return {name: run("./paxoslab", "ssh", name, *show).strip() for name in ("node1", "node2", "node3")}


OLD_PYTHON = """\
sudo mkdir -p /opt/old/lib
printf '#!/bin/sh\\nexec env PYTHONPATH=/opt/old/lib /usr/bin/python3 "$@"\\n' | sudo tee /opt/old/python >/dev/null
sudo chmod 755 /opt/old/python
sudo tee /opt/old/lib/sitecustomize.py >/dev/null <<'PY'
import collections, sys
sys.version_info = collections.namedtuple("V", "major minor micro releaselevel serial")(3, 10, 12, "final", 0)
PY
"""
"""A Python that takes itself for an older one; Debian 12 has no such."""


def test_everything_that_is_wrong_with_bare_machines_is_told_at_once(run: Run, tmp_path: Path) -> None:
    """A port that is taken, a full disk, a machine that is off, an old Python: a sentence each, and nothing touched."""
    listen = "sudo systemd-run --quiet --unit=squatter /usr/bin/python3 -m http.server 7101"
    run("./paxoslab", "ssh", "node1", listen)
    run("./paxoslab", "ssh", "node2", "sudo fallocate --length 250M /var/lib/paxosnode/photos")
    run("./paxoslab", "power-cut", "node3")
    run("./paxoslab", "ssh", "monitor", OLD_PYTHON)
    (tmp_path / "hosts.yml").write_text("all: {hosts: {monitor: {ansible_python_interpreter: /opt/old/python}}}\n")
    output = run(*playbook("deploy", "-i", str(tmp_path / "hosts.yml"), "-e", "ansible_timeout=3"), code=2)
    text = " ".join(output.split())
    assert "These machines cannot be used as they are. Nothing was touched." in text
    assert "node1: port 7101 is taken by python3 (pid" in text
    assert re.search(r"node2: has \d+ MB left at /var/lib/paxosnode, and a node wants 100 or more", text)
    assert "node3 cannot be reached: it does not answer; is it on, and is its address right?" in text
    assert "monitor: has Python 3.10.12 as /usr/bin/python3, and 3.11 is needed" in text
    assert all(row["changed"] == 0 for row in recap(output).values())
    run("./paxoslab", "ssh", "node1", "sudo systemctl stop squatter.service")
    run("./paxoslab", "ssh", "node2", "sudo rm /var/lib/paxosnode/photos")
    run("./paxoslab", "boot", "node3")


def test_a_wrong_key_is_told(run: Run, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    (tmp_path / "ssh").mkdir()
    wrong = ("-e", f"ansible_ssh_private_key_file={tmp_path / 'key'}")
    output = run(*playbook("deploy", *wrong), code=2, ANSIBLE_SSH_CONTROL_PATH_DIR=str(tmp_path / "ssh"))
    assert output.count("cannot be reached: it refuses our key; check ansible_user") >= 4


def test_deploy_serves_and_a_second_run_changes_nothing(run: Run) -> None:
    checked = recap(run(*playbook("deploy", "--check", "--diff")))
    assert all(row["failed"] == 0 and row["changed"] > 0 for row in checked.values())
    first = run(*playbook("deploy"))
    assert "all nodes agree" in first
    second = recap(run(*playbook("deploy")))
    assert {name: row["changed"] for name, row in second.items()} == dict.fromkeys(second, 0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param(
            ["cluster_port=7111"],
            "address of node 1: 10.79.79.1:7101 becomes 10.79.79.1:7111",
            id="a port that all nodes would have to change at once",
        ),
        pytest.param(["cluster_name=other"], "the nodes' data belongs to another cluster", id="another cluster"),
    ],
)
def test_a_live_cluster_is_left_as_it_is(run: Run, settings: list[str], sentence: str) -> None:
    before = processes(run)
    output = run(*playbook("deploy", *(word for setting in settings for word in ("-e", setting))), code=2)
    assert sentence in " ".join(output.split())
    assert re.search(r"It was left as it is|Nothing was touched", output)
    assert processes(run) == before


def test_a_node_whose_data_is_gone_or_not_its_own_is_not_started(run: Run) -> None:
    before = processes(run)
    data = "/var/lib/paxosnode"
    run("./paxoslab", "ssh", "node2", f"sudo systemctl stop paxosnode && sudo mv {data}/data {data}/away")
    output = run(*playbook("deploy"), code=2)
    assert "node2 has no data, but node1 and node3 have." in output
    assert "its disk is lost and with it what it promised: do not start it so" in output
    # The data of another node is found by the program itself.
    run("./paxoslab", "ssh", "node1", f"sudo tar -C {data} -cf - data > /tmp/data.tar && sudo chmod 644 /tmp/data.tar")
    key, known = Lab.of(SUBNET).key, Lab.of(SUBNET).known_hosts
    archive = subprocess.run(
        ["ssh", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "lab@10.79.79.1", "cat /tmp/data.tar"],
        capture_output=True,
        check=True,
    ).stdout
    subprocess.run(
        ["ssh", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "lab@10.79.79.2", f"sudo tar -C {data} -xf -"],
        input=archive,
        check=True,
    )
    output = " ".join(run(*playbook("deploy", "--tags", "nodes"), code=2).split())
    assert f"node2: the data directory {data}/data cannot be used by node 2 of cluster virtual" in output
    run("./paxoslab", "ssh", "node2", f"sudo rm -r {data}/data && sudo mv {data}/away {data}/data")
    run("./paxoslab", "ssh", "node2", "sudo systemctl start paxosnode")
    after = processes(run)
    assert (after["node1"], after["node3"]) == (before["node1"], before["node3"])


def test_the_leader_is_killed_and_cut_off(run: Run, tmp_path: Path) -> None:
    scenarios = "crash_test_scenarios=one-client,lossy-clients,leader-killed,leader-cut-off"
    output = run(*playbook("failover_test", "-e", scenarios, "-e", f"crash_test_reports={tmp_path}"))
    assert "violation" not in output
    (report,) = tmp_path.glob("*/report.json")
    judged = {one["name"]: one["verdict"] for one in json.loads(report.read_text())["scenarios"]}
    assert judged.keys() == {"one-client", "lossy-clients", "leader-killed", "leader-cut-off"}
    assert set(judged.values()) <= {"ok", "missed"}


def test_the_lab_does_not_touch_other_networks(run: Run) -> None:
    ours = network.traces(Lab.of(SUBNET))
    assert ours and all("79-79" in trace or "79_79" in trace for trace in ours)


def test_a_program_with_a_bug_is_found_out(run: Run, tmp_path: Path) -> None:
    """One safety rule is switched off: repeated requests are executed again. Clients that lose answers repeat them."""
    broken = tmp_path / "broken"
    run(sys.executable, "tools/seeded_bug.py", "no-session-table", "--out", str(broken))
    source = ("-e", f"cluster_source={broken}", "-e", f"cluster_build_dir={tmp_path / 'build'}")
    run(*playbook("deploy", "--tags", "nodes", *source))
    words = ("-e", "crash_test_scenarios=lossy-clients", "-e", f"crash_test_reports={tmp_path}")
    output = run(*playbook("failover_test", *words), code=2)
    assert "✗ no command took effect twice, none was lost" in output
    assert "A property was violated" in output


def test_destroy_leaves_nothing_of_ours(run: Run) -> None:
    run(*playbook("destroy", "-e", "confirm=yes"))
    places = "/opt/paxos-twisted /etc/paxos* /var/lib/paxosnode/data /usr/local/bin/* /usr/local/lib/paxos*"
    look = f"ls -d {places} 2>/dev/null"
    for name in ("node1", "monitor"):
        assert run("./paxoslab", "ssh", name, f"{look}; systemctl is-active paxosnode || true").strip() == "inactive"
