"""The record of a run: one line an event, hashed, and kept or printed when somebody reads along."""

import hashlib
from collections import deque
from collections.abc import Callable


class Trace:
    """Takes lines. Two runs of one seed give the same digest, in any process and under any hash seed."""

    def __init__(self, kept_max: int = 200, listener: Callable[[str], None] | None = None) -> None:
        self.tail: deque[str] = deque(maxlen=kept_max)
        """The newest lines, for the report of a failure."""
        self.lines = 0
        self._hash = hashlib.sha256()
        self._listener = listener

    def add(self, now_ms: int, line: str) -> None:
        """Record `line` at virtual time `now_ms`."""
        text = f"{now_ms:>7} {line}"
        self.lines += 1
        self._hash.update(text.encode())
        self._hash.update(b"\n")
        self.tail.append(text)
        if self._listener is not None:
            self._listener(text)

    def digest(self) -> str:
        """SHA-256 over all lines so far."""
        return self._hash.hexdigest()
