"""The processes of a program that is not ours, which die with us."""

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import TypeVar

from benchmarks.peers.system import READY_S, PeerError
from benchmarks.usage import usage_of
from paxos_twisted.cluster.processes import GONE, Process, spawn

GONE_S = 10.0
"""A killed process takes a moment to let go of its memory."""
POLL_S = 0.05
LOG_LINES_SHOWN = 8

Value = TypeVar("Value")


class Daemons:
    """Processes by the number of their node. Started by the main thread, they end when it does."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: dict[int, tuple[subprocess.Popen[bytes], Process]] = {}
        self.command = ""
        """Of the node that was started first, as one would type it."""

    def start(self, node: int, command: Sequence[str]) -> None:
        """Start a node.

        Raises:
            PeerError: there is no such program.
        """
        self.command = self.command or shlex.join(command)
        try:
            started = spawn(["benchmarks.execute", *command], self._log(node), dies_with_us=True)
        except OSError as error:
            raise PeerError(f"cannot start {command[0]}: {error}") from error
        self._children[node] = started

    def is_alive(self, node: int) -> bool:
        """Whether the node's process is there."""
        return node in self._children and self._children[node][1].state != GONE

    def pids(self, besides: int | None = None) -> list[int]:
        """Of those that live, without one node."""
        return [self._children[node][1].pid for node in self._children if node != besides and self.is_alive(node)]

    def cpu_s(self, node: int) -> float:
        """CPU time of a node that lives."""
        return usage_of([self._children[node][1].pid]).cpu_s

    def kill(self, *nodes: int) -> None:
        """kill -9, all at once; wait until they are gone."""
        ended = [self._children.pop(node) for node in nodes]
        for _, process in ended:
            process.send(SIGKILL)
        for child, process in ended:
            process.wait(GONE_S)
            child.wait(GONE_S)

    def stop(self) -> None:
        """End all. Their data is thrown away with them, so nobody is asked politely."""
        self.kill(*self._children)
        self.command = ""

    def until(self, question: Callable[[], Value | None], trouble: str, seconds: float = READY_S) -> Value:
        """Ask again and again, until the answer is not None.

        Raises:
            PeerError: it is None for too long, or a process has ended meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            answer = question()
            if answer is not None:
                return answer
            for node, (_, process) in self._children.items():
                if process.state == GONE:
                    raise PeerError(f"node {node} has ended:\n{self._log_end(node)}")
            if time.monotonic() >= deadline:
                node = min(self._children)
                raise PeerError(f"{trouble} after {seconds:g} s; node {node} says:\n{self._log_end(node)}")
            time.sleep(POLL_S)

    def _log(self, node: int) -> Path:
        return self._logs / f"node-{node}.log"

    def _log_end(self, node: int) -> str:
        lines = self._log(node).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_LINES_SHOWN:])


def place(ports: Mapping[int, int], node: int) -> str:
    """host:port of a node."""
    return f"127.0.0.1:{ports[node]}"
