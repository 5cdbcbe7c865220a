"""The real `bankclient --bench` as a process of its own, and its report."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

PROGRAM: Final = "from paxos_twisted_client.bankclient import main; main()"
"""What the console script does; so it works wherever that was installed to, or was not."""


class BenchError(Exception):
    """The bench did not run to its end. The text says what it printed."""


class Rtt(msgspec.Struct, frozen=True):
    """Round-trip times in milliseconds."""

    count: int
    mean: float
    min: float
    max: float
    median: float
    stdev: float
    p99: float


class ClientReport(msgspec.Struct, frozen=True):
    """One client of the bench."""

    process: int
    answered: int
    rtt_ms: Rtt
    longest_gap_ms: float


class Gap(msgspec.Struct, frozen=True):
    """The longest time in which a client waited for an answer."""

    ms: float
    process: int
    start_ns: int


class Together(msgspec.Struct, frozen=True):
    """All clients of the bench."""

    sent: int
    answered: int
    rejected_by_bank: int
    refused: int
    unknown: int
    rtt_ms: Rtt
    longest_gap: Gap


class MarkReport(msgspec.Struct, frozen=True):
    """A command that the bench has run at a certain answer."""

    at: int
    time_ns: int | None
    """Monotonic clock of this machine."""


class BenchReport(msgspec.Struct, frozen=True):
    """What `bankclient --bench --output json` prints, as far as we use it."""

    seconds: float
    throughput_per_s: float
    started_ns: int
    clients: list[ClientReport]
    together: Together
    reconnects: dict[str, int]
    marks: list[MarkReport]
    exit_code: int


def run_bench(arguments: Sequence[str], errors: Path, timeout_s: float, *, show_progress: bool) -> BenchReport:
    """Run `bankclient --bench --output json` with further arguments, and wait for its end.

    Args:
        errors: file for what it prints on stderr; with `show_progress` that goes to our stderr instead.

    Raises:
        BenchError: it took longer than `timeout_s` (and was killed), or printed no report.
    """
    command = [sys.executable, "-c", PROGRAM, "--bench", "--output", "json"]
    command += ["--progress" if show_progress else "--no-progress", *arguments]
    with errors.open("wb") as file:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if show_progress else file,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"the bench has not ended after {timeout_s:g} s") from error
    try:
        return msgspec.json.decode(done.stdout, type=BenchReport)
    except msgspec.DecodeError as error:
        said = errors.read_text(encoding="utf-8", errors="replace").strip() or str(error)
        raise BenchError(f"the bench ended with exit code {done.returncode} and no report: {said}") from error
