"""What holds for every test: those that start processes leave none behind."""

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("local", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "20000")))
settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell starts background jobs with SIGINT ignored, and what we start inherits that: ctrl-C could not be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

MARK = "PAXOS_TEST_RUN"
"""Environment variable that every process started by this one inherits, also when it detaches itself later."""

os.environ[MARK] = uuid.uuid4().hex


def descendants() -> dict[int, str]:
    """Living processes that were started from this one: process id -> command line."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        try:
            if pid != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found[pid] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile, or belongs to someone else
            continue
    return found


@pytest.fixture(autouse=True, scope="module")
def _no_process_is_left() -> Iterator[None]:
    """Fail the last test of a module after which a process started by it still runs, and end that process."""
    before = descendants()
    yield
    left = {pid: command for pid, command in descendants().items() if pid not in before}
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"processes were left behind: {left}"
