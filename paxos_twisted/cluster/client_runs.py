"""Client programs as processes of their own, as people start them, and what they print."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

END_S: Final = 10.0
"""A client that is asked to end gets so long."""


class ClientRun:
    """One running client program. As a context manager it leaves no process behind."""

    def __init__(self, program: str, arguments: Sequence[str], config: Path | None, output: Path) -> None:
        """`program` is chatclient, auctionclient …; what it prints goes to `output` and `output`.err. `config` is None
        when the arguments name the cluster.

        Raises:
            OSError: it cannot be started.
        """
        self.output = output
        self.errors = output.with_name(output.name + ".err")
        start = f"from paxos_twisted_client.{program} import main; main()"
        which = [] if config is None else ["--config", str(config)]
        with output.open("wb") as out, self.errors.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-c", start, *arguments, *which],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def is_running(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end. Returns the exit code, or None when it has not ended in time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._process.terminate()
        if self.wait(END_S) is None:
            self._process.kill()
            self._process.wait()

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines that it has printed so far."""
        whole = self.output.read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in whole if line.strip()]

    def wait_lines(self, count: int, timeout_s: float) -> bool:
        """Wait until it has printed so many lines, or has ended. Returns whether it has printed them."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if len(self.lines()) >= count:
                return True
            if not self.is_running:
                break
            time.sleep(0.02)
        return len(self.lines()) >= count
