"""What a node writes to stdout: lines for people, or one JSON object a line for machines.

Both are safe against what peers send (control characters are shown, not obeyed) and against floods: a message that
repeats is written BURST times in WINDOW_S seconds, then counted; the count is written when the window is over.
"""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from paxos_twisted.limits import LOG_KEYS_MAX, LOG_TEXT_CHARACTERS_MAX

BURST: Final = 10
WINDOW_S: Final = 10.0

LEVELS: Final = ("debug", "info", "warn", "error", "critical")

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
"""Characters that could move a terminal's cursor, and how they are shown instead."""


class _Repeats:
    """How often one message came in its window."""

    __slots__ = ("count", "last", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.count = 0
        self.last: LogEvent = {}


@implementer(ILogObserver)
class RateLimit:
    """Hands events from `level` on to `observer`, except the repetitions of a message beyond BURST in WINDOW_S.

    Messages are the same when they come from the same place with the same format, whatever they are filled with.
    Critical ones always pass, and those that are marked `unlimited` (a trace that somebody asked for).
    """

    def __init__(self, observer: Callable[[LogEvent], object], level: str = "debug") -> None:
        self.observer = observer
        self.lowest = LEVELS.index(level)
        self.repeats: dict[object, _Repeats] = {}
        self._next_check = 0.0

    def __call__(self, event: LogEvent) -> None:
        """Take one event. Time is the event's own, so that tests need no clock."""
        if LEVELS.index(_level(event)) < self.lowest:
            return
        now = float(event.get("log_time", 0.0))
        if now >= self._next_check:
            self.report(now)
            self._next_check = now + 1.0
        if event.get("log_level") is LogLevel.critical or event.get("unlimited"):
            self.observer(event)
            return
        key = (event.get("log_namespace"), event.get("log_level"), event.get("log_format") or formatEvent(event))
        repeats = self.repeats.get(key)
        if repeats is None:
            if len(self.repeats) >= LOG_KEYS_MAX:
                self._end(next(iter(self.repeats)))
            repeats = self.repeats[key] = _Repeats(now)
        repeats.count += 1
        repeats.last = event
        if repeats.count <= BURST:
            self.observer(event)

    def report(self, now: float) -> None:
        """End the windows that are over at `now` (seconds since 1970): say how many messages were held back."""
        for key in [key for key, repeats in self.repeats.items() if now - repeats.start >= WINDOW_S]:
            self._end(key)

    def _end(self, key: object) -> None:
        repeats = self.repeats.pop(key)
        held = repeats.count - BURST
        if held > 0:
            # The text is made here: the event's own fields may be anything.
            text = f"{held} more like this in {WINDOW_S:g} s; the last was: {formatEvent(repeats.last)}"
            last = repeats.last
            self.observer({**{name: last[name] for name in _COMMON if name in last}, "log_text": text})


_COMMON: Final = ("log_time", "log_level", "log_namespace")


@implementer(ILogObserver)
class Lines:
    """Writes each event as one line (more for a traceback) and flushes it. Never raises: a node whose log reader is
    gone goes on."""

    def __init__(self, file: TextIO, node: int | None, *, as_json: bool) -> None:
        self.file = file
        self.node = node
        self.format = self._json if as_json else self._human

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        try:
            self.file.write(self.format(event))
            self.file.flush()
        except (OSError, ValueError):  # the reader closed the pipe, or the file is closed
            pass

    def _human(self, event: LogEvent) -> str:
        time = _time(event).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        who = f" node {self.node}" if self.node is not None else ""
        head, *rest = _text(event).translate(_CONTROLS).split("\n")
        lines = [f"{time}{who} {_level(event):<5} {head}", *(f"    {line}" for line in rest if line.strip())]
        return "\n".join(lines) + "\n"

    def _json(self, event: LogEvent) -> str:
        line: dict[str, Any] = {
            "time": _time(event).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": _level(event),
            "node": self.node,
            "message": _text(event),
            "source": str(event.get("log_namespace", "")),
        }
        for name, value in event.items():
            # Only what the programmer named, and only plain values.
            if not name.startswith("log_") and name not in line and isinstance(value, (str, int, float)):
                line[name] = value[:LOG_TEXT_CHARACTERS_MAX] if isinstance(value, str) else value
        for name in ("isError", "system", "format"):  # of the older logging interface
            line.pop(name, None)
        return json.dumps(line) + "\n"


def observer(node: int | None, *, level: str = "info", as_json: bool = False, file: TextIO | None = None) -> RateLimit:
    """The observer of a node's log: from `level` on, rate-limited, to `file` (stdout as it is now).

    Raises:
        ValueError: `level` is not one of LEVELS.
    """
    if level not in LEVELS:
        raise ValueError(f'"{level}" is no log level; write one of {", ".join(LEVELS)}')
    lines = Lines(file or sys.stdout, node, as_json=as_json)
    return RateLimit(lines, level)


def _time(event: LogEvent) -> datetime:
    return datetime.fromtimestamp(float(event.get("log_time", 0.0)), tz=UTC)


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return level.name if level is not None else "info"


def _text(event: LogEvent) -> str:
    text = event.get("log_text") or formatEvent(event)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        trace = failure.getTraceback()
        text = f"{text}\n{trace}" if text else trace
    if len(text) > LOG_TEXT_CHARACTERS_MAX:
        text = text[:LOG_TEXT_CHARACTERS_MAX] + f" … ({len(text) - LOG_TEXT_CHARACTERS_MAX} more characters)"
    return str(text)
