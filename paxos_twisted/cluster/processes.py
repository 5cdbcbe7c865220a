"""Processes that we have started, and no others: known by process id *and* start time, signalled without a race.

A process id alone is not a name: once its process is gone the system gives it to somebody else. So a process is
remembered with the moment of its start (and the boot of the machine), and signals go through a file descriptor that
stands for that very process. Linux only.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

GONE, RUNNING, FROZEN = "gone", "running", "frozen"

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD: Final = 19
"""Field 22 of /proc/<pid>/stat, counted behind the command's closing parenthesis. [proc(5)]"""


class Process(msgspec.Struct, frozen=True):
    """One process, for ever: no other one is equal to it."""

    pid: int
    started: int
    """Clock ticks between boot and its start."""
    boot: str
    """Which boot."""

    @property
    def state(self) -> str:
        """GONE (also when it has died and nobody has waited for it), FROZEN (stopped by a signal) or RUNNING."""
        found = _look(self.pid)
        if found is None or found[1] != self.started or self.boot != _boot():
            return GONE
        return {"Z": GONE, "X": GONE, "T": FROZEN, "t": FROZEN}.get(found[0], RUNNING)

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to it. Returns whether it was there to take it."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor holds on to whoever has the number now; if that is ours, it stays ours.
            if self.state == GONE:
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended with all its threads, so that its files and ports are free. False: it has not."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            found = _look(self.pid)
            if found is None or found[1] != self.started or self.boot != _boot():
                return True
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(handle)


def identify(pid: int) -> Process | None:
    """The process that has this number now; None: nobody has."""
    found = _look(pid)
    return None if found is None else Process(pid, found[1], _boot())


def spawn(arguments: Sequence[str], output: Path, *, dies_with_us: bool) -> "tuple[subprocess.Popen[bytes], Process]":
    """Start a Python module as a process of its own session: a ctrl-C in our terminal does not reach it.

    Args:
        arguments: what follows `python -m`.
        output: file to which stdout and stderr are appended.
        dies_with_us: the kernel kills it when the thread that called this ends, however that happens.

    Raises:
        OSError: it cannot be started.
    """
    launcher = ["paxos_twisted.cluster.child", str(os.getpid())] if dies_with_us else []
    with output.open("ab") as file:
        started = subprocess.Popen(
            [sys.executable, "-m", *launcher, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = identify(started.pid)
    assert process is not None, "a child stays in the table of processes until somebody waits for it"
    return started, process


def _look(pid: int) -> tuple[str, int] | None:
    """State letter and start time, or None."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text[text.rindex(")") + 2 :].split()  # the command's name may hold anything
        return fields[0], int(fields[_START_FIELD])
    return None


def _boot() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
