"""Facts from files: histories of clients, what `paxosctl events` prints, and nodes' logs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from paxos_twisted.anatomy.facts import Event, Step, Wait

NS = 1_000_000_000


class Clocks:
    """Turns times of nodes into times of the client's monotonic clock."""

    def __init__(self, unix_ns: int, monotonic_ns: int, offsets_ns: Mapping[int, int] | None = None) -> None:
        """`unix_ns` and `monotonic_ns` are one moment on the client's machine; offsets: what nodes show more."""
        self._behind_ns = unix_ns - monotonic_ns
        self.offsets_ns = dict(offsets_ns or {})

    def monotonic_ns(self, unix_ns: int, node: int | None = None) -> int:
        """A time of a node (None: of the client's own machine)."""
        offset_ns = 0 if node is None else self.offsets_ns.get(node, 0)
        return unix_ns - offset_ns - self._behind_ns


def events_of_collected(collected: Mapping[str, Any], clocks: Clocks) -> list[Event]:
    """From the JSON of `paxosctl events`."""
    return [
        _event(event, int(node), clocks)
        for node, told in collected.get("nodes", {}).items()
        for event in told.get("events", ())
    ]


def events_of_log(lines: Iterable[Mapping[str, Any]], node: int, clocks: Clocks) -> list[Event]:
    """From the JSON lines that a node logs: it remembers only what happened since it was started."""
    found = []
    for line in lines:
        if "event" in line and isinstance(line.get("time"), str):
            time_ns = _unix_ns(line["time"])
            peer = line.get("leader") if line["event"] == "leader" else line.get("peer")
            told = {**line, "time_ns": time_ns, "peer": peer}
            found.append(_event(told, node, clocks))
    return found


def merged(*lists: Sequence[Event]) -> tuple[Event, ...]:
    """The events of several sources in the order of time. The same one from two sources (a log writes microseconds)
    counts once: the first source that has it wins."""
    seen: dict[tuple[object, ...], list[int]] = {}
    found: list[Event] = []
    for events in lists:
        for event in events:
            key = (event.node, event.event, event.peer, event.rnd)
            times = seen.setdefault(key, [])
            if not any(abs(event.time_ns - time_ns) < 1_000_000 for time_ns in times):
                times.append(event.time_ns)
                found.append(event)
    return tuple(sorted(found, key=lambda event: (event.time_ns, event.node)))


def offsets(collected: Mapping[str, Any]) -> tuple[dict[int, int], int]:
    """What nodes' clocks show more than the client's, and by how much that may be wrong, from `paxosctl events`."""
    clocks = {int(node): told["clock"] for node, told in collected.get("nodes", {}).items()}
    uncertainty_ns = max((clock["uncertainty_ns"] for clock in clocks.values()), default=0)
    return {node: clock["offset_ns"] for node, clock in clocks.items()}, uncertainty_ns


class Calls:
    """The requests of one client in a history: when it waited, and what it did meanwhile."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.answers: list[tuple[int, int]] = []
        """(time of the answer, time since the call), in the order of the answers."""
        self._calls: dict[tuple[int, int], int] = {}
        self._waits: list[Wait] = []
        self._open = 0
        self._since_ns = 0
        self._is_unserved = False
        self._steps: dict[tuple[Any, ...], Step] = {}

    def take(self, line: Mapping[str, Any]) -> None:
        """The next line of this client."""
        time_ns, key = line["time"], (line["client"], line["seq"])
        if line["type"] == "invoke":
            if not self._open and not self._is_unserved:
                self._since_ns = time_ns
            self._open += 1
            self._calls[key] = time_ns
            return
        for step in line.get("steps", ()):
            self._steps.setdefault(tuple(step), Step(*step))
        called_ns = self._calls.pop(key, time_ns)
        self._open -= 1
        self._is_unserved = line["type"] != "ok"
        if not self._is_unserved:
            self.answers.append((time_ns, time_ns - called_ns))
            self._waits.append(Wait(self.client, self._since_ns, time_ns, line.get("sent") or called_ns))
            self._since_ns = time_ns

    def longest_wait(self, from_ns: int, until_ns: int) -> Wait | None:
        """The longest of those that reach into [from, until)."""
        found = [wait for wait in self._waits if wait.end_ns > from_ns and wait.start_ns < until_ns]
        wait = max(found, key=lambda wait: wait.length_ns, default=None)
        if wait is None:
            return None
        steps = sorted(self._steps.values(), key=lambda step: step.time_ns)
        inside = tuple(step for step in steps if wait.start_ns <= step.time_ns <= wait.end_ns)
        return Wait(wait.client, wait.start_ns, wait.end_ns, wait.sent_ns, inside)


def calls_of_history(lines: Iterable[bytes | str], prefix: str = "") -> list[Calls]:
    """The clients of a history. A line that was cut off at the end of the file is left out."""
    clients: dict[int, Calls] = {}
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        process = line["process"]
        if process not in clients:
            clients[process] = Calls(f"{prefix}{process + 1}")
        clients[process].take(line)
    return [clients[process] for process in sorted(clients)]


def _event(told: Mapping[str, Any], node: int, clocks: Clocks) -> Event:
    return Event(
        clocks.monotonic_ns(told["time_ns"], node),
        node,
        told["event"],
        told.get("peer"),
        told.get("rnd"),
        told.get("cause", ""),
    )


def _unix_ns(text: str) -> int:
    """Of the time in a log, exact to the microsecond."""
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * NS + moment.microsecond * 1000
