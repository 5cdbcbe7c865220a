"""Processes: ours are known by id and start time, and nobody else is ever signalled."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import msgspec
import pytest

from paxos_twisted.cluster.memory import Memory, recall, remembering
from paxos_twisted.cluster.processes import FROZEN, GONE, RUNNING, Process, identify, spawn

pytestmark = pytest.mark.integration

WAIT_S = 30.0


@pytest.fixture
def child() -> "Iterator[subprocess.Popen[bytes]]":
    """A process that waits until its stdin ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as made:
        yield made
        made.kill()


def test_a_process_is_running_then_frozen_then_running_then_gone(child: "subprocess.Popen[bytes]") -> None:
    process = identify(child.pid)
    assert process is not None
    assert process.state == RUNNING
    assert process.send(SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert process.state == FROZEN
    assert process.send(SIGCONT)
    os.waitid(os.P_PID, child.pid, os.WCONTINUED | os.WNOWAIT)
    assert process.state == RUNNING
    assert process.send(SIGKILL)
    assert process.wait(WAIT_S)
    assert process.state == GONE


def test_one_that_died_and_was_not_waited_for_is_gone(child: "subprocess.Popen[bytes]") -> None:
    process = identify(child.pid)
    assert process is not None
    process.send(SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.state == GONE
    assert not process.send(SIGTERM)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"started": 1}, id="the number belongs to a process that started later"),
        pytest.param({"boot": "another"}, id="the machine was rebooted"),
    ],
)
def test_a_process_with_the_same_number_is_another_one(
    child: "subprocess.Popen[bytes]", change: dict[str, int | str]
) -> None:
    now = identify(child.pid)
    assert now is not None
    before = msgspec.structs.replace(now, **change)
    assert before.state == GONE
    assert not before.send(SIGKILL)
    assert before.wait(0)
    assert now.state == RUNNING


def test_a_number_that_nobody_has_is_gone() -> None:
    nobody = Process(2**22 + 1, 1, "boot")
    assert nobody.state == GONE
    assert not nobody.send(SIGKILL)
    assert nobody.wait(0)
    assert identify(nobody.pid) is None


def test_waiting_for_one_that_goes_on_ends_in_time(child: "subprocess.Popen[bytes]") -> None:
    process = identify(child.pid)
    assert process is not None
    assert not process.wait(0.01)


def test_what_a_process_prints_is_added_to_its_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    started, process = spawn(["this"], log, dies_with_us=False)
    assert process.wait(WAIT_S)
    assert started.wait(WAIT_S) == 0
    assert log.read_text().startswith("before\nThe Zen of Python")


@pytest.mark.parametrize(
    "is_frozen", [pytest.param(False, id="a running child"), pytest.param(True, id="a frozen child")]
)
def test_a_child_dies_with_its_parent(tmp_path: Path, is_frozen: bool) -> None:
    (tmp_path / "waiting.py").write_text("import time; print('tied', flush=True); time.sleep(600)")
    parent_program = f"""
        import os, signal, time
        from pathlib import Path
        os.environ["PYTHONPATH"] = {str(tmp_path)!r}
        from paxos_twisted.cluster.processes import spawn
        log = Path({str(tmp_path / "log")!r})
        child, process = spawn(["waiting"], log, dies_with_us=True)
        while "tied" not in log.read_text():
            time.sleep(0.01)
        if {is_frozen}:
            process.send(signal.SIGSTOP)
        print(child.pid, flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(parent_program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        process = identify(int(parent.stdout.readline()))
        assert process is not None
        parent.kill()
    assert process.wait(WAIT_S)


def test_what_is_remembered_is_recalled(tmp_path: Path) -> None:
    ours = identify(os.getpid())
    assert ours is not None
    assert recall(tmp_path) == Memory()
    with remembering(tmp_path) as memory:
        memory.nodes[1] = ours
    with remembering(tmp_path) as memory:
        assert memory.nodes == {1: ours}
        memory.wanted.append(2)
    assert recall(tmp_path) == Memory(nodes={1: ours}, wanted=[2])


def test_a_damaged_file_means_that_nothing_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text('{"nodes": {"1": {"pid": "')
    assert recall(tmp_path) == Memory()
