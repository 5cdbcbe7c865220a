"""A log for people and tests: every command that this node applies, one JSON object a line, in the order of the log.

    {"slot":17,"client":5,"seq":2,"op":{"kind":"post","room":"hall",…}}
    {"slot":18,"op":null}                                             a no-op

It is no part of the node's memory: it is written without a sync, and a restarted node writes again what it applies
again. So the last line about a slot counts, and the lines of all replicas about a slot are the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from paxos_twisted.apps.struct_json import to_json
from paxos_twisted.core.command import Command, Series
from paxos_twisted.types import Slot

_encode = msgspec.json.Encoder().encode


class AppliedLog:
    """Appends to a file."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be written.
        """
        self._file: IO[bytes] = path.open("ab")
        self._series: Series[Any] | None = None  # the last command, when it was one: its slots hold no-ops
        self._series_slot = 0

    def on_applied(self, slot: Slot, commands: Sequence[Command[Any] | Series[Any] | None]) -> None:
        """Commands of consecutive slots from `slot` on were applied."""
        lines = []
        for number, command in enumerate(commands, slot):
            if command is not None:
                self._series = command if type(command) is Series else None
                self._series_slot = number
            series, place = self._series, number - self._series_slot
            line: dict[str, object]
            if series is not None and place < len(series.ops):
                line = {"slot": number, "client": series.client, "seq": series.seq, "op": to_json(series.ops[place])}
            elif command is None or type(command) is Series:
                line = {"slot": number, "op": None}
            else:
                line = {"slot": number, "client": command.client, "seq": command.seq, "op": to_json(command.op)}
            lines.append(_encode(line) + b"\n")
        self._file.write(b"".join(lines))
        self._file.flush()


def read_applied(path: Path) -> dict[Slot, dict[str, Any]]:
    """What a node has applied, by slot. A last line that is not whole is left out."""
    found: dict[Slot, dict[str, Any]] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:
        entry = msgspec.json.decode(line, type=dict[str, Any])
        found[Slot(entry["slot"])] = entry
    return found
