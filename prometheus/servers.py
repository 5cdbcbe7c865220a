"""A real Prometheus and a real Alertmanager with the project's own configuration, for tests and for `provoke`."""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from paxos_twisted.cluster.ports import free_ports

HERE: Final = Path(__file__).parent

READY_S: Final = 20.0
CALL_S: Final = 10.0
POLL_S: Final = 0.2

PROGRAMS: Final = {
    "prometheus": ("prometheus",),
    "prometheus-alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
"""Debian package, and the names under which its program may be installed."""


class MissingProgram(Exception):
    """A program is not installed. The text says what to do."""


class NotInTime(AssertionError):
    """What was waited for did not come."""


def program(package: str) -> str:
    """Where the program of a Debian package is.

    Raises:
        MissingProgram: nowhere.
    """
    for name in PROGRAMS[package]:
        if found := shutil.which(name):
            return found
    raise MissingProgram(f"{PROGRAMS[package][-1]} is not installed (Debian: apt-get install {package})")


def until(is_true: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for something that other processes bring about.

    Raises:
        NotInTime: it did not come.
    """
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() >= deadline:
            raise NotInTime(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


class Prometheus:
    """Its API, and the folder of its targets."""

    def __init__(self, port: int, folder: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._targets = folder / "targets"

    def set_targets(self, name: str, text: str | None) -> None:
        """Scrape what a file of targets names, or no longer. Prometheus notices by itself."""
        path = self._targets / f"{name}.yml"
        if text is None:
            path.unlink(missing_ok=True)
            return
        unfinished = path.with_suffix(".new")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)

    def get(self, path: str, **parameters: object) -> Any:
        """The `data` of an answer.

        Raises:
            URLError: it does not answer, or does not accept the question.
        """
        body = urlencode(parameters, doseq=True).encode()
        request = Request(f"{self.address}/api/v1/{path}", data=body if parameters else None)
        with urlopen(request, timeout=CALL_S) as answer:
            return json.load(answer)["data"]

    def now(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an expression."""
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=expr)["result"]]

    def numbers(self, expr: str, start: float, end: float) -> int:
        """How many numbers an expression gives between two times, second by second. NaN is none."""
        found = self.get("query_range", query=expr, start=start, end=end, step=1)["result"]
        return sum(not math.isnan(float(value)) for one in found for _, value in one["values"])

    def wait(self, expr: str, timeout_s: float) -> None:
        """Wait until an expression gives something.

        Raises:
            NotInTime: it did not.
        """
        until(lambda: bool(self.now(expr)), timeout_s, expr)


class Alertmanager:
    """Its API."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def alerts(self) -> list[dict[str, Any]]:
        """What it knows to be firing: labels, annotations, and `status.state`, active or suppressed.

        Raises:
            URLError: it does not answer.
        """
        with urlopen(f"{self.address}/api/v2/alerts", timeout=CALL_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str], hold: str | None = None) -> Iterator[Prometheus]:
    """Prometheus, with prometheus/prometheus.yml as it is, scraping these targets (file name -> text).

    Args:
        hold: let alerts fire after so long at the latest, e.g. "2s". None: as the rules say.

    Raises:
        MissingProgram: it is not installed.
    """
    command = [program("prometheus")]
    shutil.copytree(HERE / "rules", folder / "rules")
    shutil.copy(HERE / "prometheus.yml", folder)
    if hold is not None:
        for path in (folder / "rules").glob("*.yml"):
            path.write_text(re.sub(r"\bfor: \d+\w+", f"for: {hold}", path.read_text("utf-8")), encoding="utf-8")
    (folder / "targets").mkdir()
    (port,) = free_ports(1)
    api = Prometheus(port, folder)
    for name, text in targets.items():
        api.set_targets(name, text)
    command += [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with _running(command, folder / "prometheus.log", lambda: api.get("status/runtimeinfo")):
        yield api


@contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Alertmanager, with prometheus/alertmanager.yml as it is.

    Raises:
        MissingProgram: it is not installed.
    """
    (port,) = free_ports(1)
    api = Alertmanager(port)
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={HERE / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with _running(command, folder / "alertmanager.log", api.alerts):
        yield api


@contextmanager
def _running(command: list[str], log: Path, ask: Callable[[], object]) -> Iterator[None]:
    def answers() -> bool:
        try:
            ask()
        except (URLError, ConnectionError, TimeoutError):
            return False
        return True

    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        try:
            until(lambda: process.poll() is not None or answers(), READY_S, f"{command[0]} answers")
            if process.poll() is not None:
                raise NotInTime(f"{command[0]} has ended: {log.read_text(encoding='utf-8')}")
            yield
        finally:
            process.kill()
