"""Runs the tests of the wanted rows, each once, in one process of pytest."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from paxos_twisted.grade import recorder

POLL_S: Final = 0.2


class Outcome(msgspec.Struct, frozen=True):
    """What became of one test."""

    test: str
    outcome: str
    """passed, failed or skipped."""
    seconds: float
    text: str
    """Why it was skipped, how it failed, what it printed."""


class _Line(msgspec.Struct):
    planned: int | None = None
    test: str = ""
    outcome: str = ""
    seconds: float = 0.0
    text: str = ""


def run_tests(
    root: Path, names: Sequence[str], out: Path, on_progress: Callable[[int, int, str], None]
) -> list[Outcome]:
    """Run the tests called `names` of the repository at `root`.

    Args:
        out: a directory for pytest.log and the recorder's files.
        on_progress: called with the number of finished tests, of all tests, and the last one's name.

    Returns:
        What became of each. A test that is not among them does not exist, or pytest did not get that far.
    """
    files = sorted({name.partition("::")[0] for name in names})
    files = [file for file in files if (root / file).exists()]
    wanted, results, log = out / "wanted.txt", out / "results.jsonl", out / "pytest.log"
    wanted.write_text("".join(f"{name}\n" for name in names))
    results.write_text("")
    if not files:
        return []
    environment = os.environ | {recorder.WANTED: str(wanted.resolve()), recorder.RESULTS: str(results.resolve())}
    command = [sys.executable, "-m", "pytest", "-p", recorder.__name__, "-p", "no:cacheprovider", "-q", *files]
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(POLL_S)
                _tell(results, on_progress)
        except BaseException:
            process.terminate()
            raise
    _tell(results, on_progress)
    return [Outcome(line.test, line.outcome, line.seconds, line.text) for line in _lines(results) if line.test]


def _tell(results: Path, on_progress: Callable[[int, int, str], None]) -> None:
    lines = _lines(results)
    planned = next((line.planned for line in lines if line.planned is not None), None)
    tests = [line.test for line in lines if line.test]
    if planned is not None:
        on_progress(len(tests), planned, tests[-1] if tests else "")


def _lines(results: Path) -> list[_Line]:
    whole = results.read_bytes().rpartition(b"\n")[0]  # the last line may be half written
    return [msgspec.json.decode(line, type=_Line) for line in whole.splitlines() if line]
