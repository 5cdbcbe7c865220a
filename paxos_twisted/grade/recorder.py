"""A pytest plugin: runs the wanted tests only, and writes down what became of each, one JSON line a test.

It is loaded with `-p`, in the process of pytest, and talks to `paxos_twisted.grade.run` through two files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from paxos_twisted.grade.rows import is_named

if TYPE_CHECKING:  # machines that only run nodes have paxosctl too, but not pytest
    import pytest

WANTED: Final = "PAXOS_GRADE_WANTED"
"""Names a file with the wanted names, one a line."""

RESULTS: Final = "PAXOS_GRADE_RESULTS"
"""Names the file to write."""


class Recorder:
    """Follows one run of pytest."""

    def __init__(self, wanted: list[str], results: Path) -> None:
        self._wanted = wanted
        self._results = results.open("a")
        self._reports: dict[str, dict[str, Any]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what stands in the same files and is not wanted."""
        chosen = [item for item in items if any(is_named(item.nodeid, name) for name in self._wanted)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen
        self._write({"planned": len(chosen)})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported, or is skipped as a whole."""
        if report.outcome != "passed":
            self._write({"test": report.nodeid, "outcome": report.outcome, "seconds": 0.0, "text": _text(report)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One of the three phases of a test: the worst outcome counts."""
        known = self._reports.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0, "text": ""})
        known["seconds"] += report.duration
        if report.outcome != "passed":
            known["outcome"] = "failed" if report.outcome == "failed" else known["outcome"].replace("passed", "skipped")
            known["text"] += _text(report)
        if report.when == "teardown":
            known["text"] += "".join(f"\n---- {title}\n{content}" for title, content in report.sections)
            self._write({"test": report.nodeid, **self._reports.pop(report.nodeid)})

    def _write(self, entry: dict[str, Any]) -> None:
        self._results.write(json.dumps(entry) + "\n")
        self._results.flush()


def _text(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why it was skipped, or how it failed."""
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return report.longreprtext


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    wanted = Path(os.environ[WANTED]).read_text().splitlines()
    config.pluginmanager.register(Recorder(wanted, Path(os.environ[RESULTS])), "grade-recorder")
