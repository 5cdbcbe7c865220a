"""A real Prometheus with the project's own configuration, and its HTTP API."""

import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from paxos_twisted.cluster.ports import free_ports
from prometheus.__main__ import FOLDER

READY_S = 20.0
CALL_S = 10.0
POLL_S = 0.2


class Prometheus:
    """Its API."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

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
            AssertionError: it did not in time.
        """
        until(lambda: bool(self.now(expr)), timeout_s, expr)


def until(is_true: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for something that other processes bring about.

    Raises:
        AssertionError: it did not come in time.
    """
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)


@contextmanager
def running(folder: Path, targets: str, **more: str) -> Iterator[Prometheus]:
    """Prometheus, with prometheus/prometheus.yml as it is, scraping these targets (`more`: of other jobs, by the name
    of their file). Skips when it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    shutil.copytree(FOLDER, folder / "rules")
    shutil.copy(FOLDER.parent / "prometheus.yml", folder)
    (folder / "targets").mkdir()
    for name, text in {"paxosnode": targets, **more}.items():
        (folder / "targets" / f"{name}.yml").write_text(text, encoding="utf-8")
    (port,) = free_ports(1)
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            api = Prometheus(port)
            until(lambda: process.poll() is not None or _answers(api), READY_S, "Prometheus answers")
            assert process.poll() is None, (folder / "prometheus.log").read_text(encoding="utf-8")
            yield api
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)


def _answers(api: Prometheus) -> bool:
    try:
        api.get("status/runtimeinfo")
    except (URLError, ConnectionError):
        return False
    return True
