"""A real Prometheus with the project's own configuration; a test is skipped where it is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prometheus.servers import MissingProgram, Prometheus, prometheus, until

__all__ = ["Prometheus", "running", "until"]


@contextmanager
def running(folder: Path, targets: str, **more: str) -> Iterator[Prometheus]:
    """Prometheus, scraping these targets (`more`: of other jobs, by the name of their file)."""
    try:
        with prometheus(folder, {"paxosnode": targets, **more}) as api:
            yield api
    except MissingProgram as missing:
        pytest.skip(str(missing))
