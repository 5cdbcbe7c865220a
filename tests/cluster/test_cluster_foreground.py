"""`paxoscluster up` on a terminal: a live table, orders from elsewhere, an end that leaves nothing behind."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pexpect
import pytest
from cluster_tools import MODULES, succeed

from paxos_twisted.cluster.local import GONE, LocalCluster
from paxos_twisted.cluster.processes import Process

pytestmark = pytest.mark.integration

WAIT_S = 60.0


class Terminal:
    """The program on a pseudo-terminal. What it prints is read all the time, or it would have to wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = f"from {MODULES['paxoscluster']} import main; main()"
        self.child = pexpect.spawn(
            sys.executable,
            ["-c", program, "up", "--dir", str(folder)],
            dimensions=(40, 100),
            encoding="utf-8",
            timeout=WAIT_S,
        )
        self.child.expect("leads")
        self.rest = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.cluster = LocalCluster(folder, dies_with_us=False)

    def _read(self) -> None:
        self.child.expect(pexpect.EOF, timeout=4 * WAIT_S)
        self.rest = str(self.child.before)

    def processes(self) -> list[Process]:
        """Of all nodes."""
        found = [self.cluster.process(node) for node in self.cluster.members]
        return [process for process in found if process is not None]

    def end(self, number: Signals) -> int | None:
        """Send a signal and wait. Returns the exit code; None: it was killed."""
        self.child.kill(number)
        self._reader.join(4 * WAIT_S)
        self.child.close()
        code: int | None = self.child.exitstatus
        return code


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A running cluster in the foreground."""
    made = Terminal(tmp_path / "cluster")
    yield made
    made.end(SIGKILL)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_it_stops_all_nodes_in_order(terminal: Terminal, number: Signals) -> None:
    processes = terminal.processes()
    assert len(processes) == 3
    assert terminal.end(number) == 0
    assert "all nodes have stopped" in terminal.rest
    assert [process.state for process in processes] == [GONE] * 3


def test_its_nodes_end_even_when_it_is_killed_itself(terminal: Terminal) -> None:
    processes = terminal.processes()
    terminal.end(SIGKILL)
    assert all(process.wait(WAIT_S) for process in processes)


def test_nodes_that_another_command_restarts_are_its_children_too(terminal: Terminal) -> None:
    before = terminal.processes()
    succeed("paxoscluster", "kill", 1, "--dir", terminal.folder)
    assert "node 1 runs again" in succeed("paxoscluster", "restart", 1, "--dir", terminal.folder)
    after = terminal.processes()
    assert after[0] != before[0]
    terminal.end(SIGKILL)
    assert all(process.wait(WAIT_S) for process in after)


def test_a_soak_that_is_interrupted_says_how_far_it_came(tmp_path: Path) -> None:
    program = f"from {MODULES['paxoscluster']} import main; main()"
    words = ["-c", program, "soak", "--rounds", "500", "--seed", "1", "--kind", "kill follower"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    child = pexpect.spawn(sys.executable, words, dimensions=(40, 100), encoding="utf-8", timeout=WAIT_S, env=env)
    child.expect("2/500 rounds")
    child.sendintr()
    child.expect(r"interrupted after \d+ rounds")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert list(tmp_path.iterdir()) == []
