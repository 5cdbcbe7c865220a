"""The wall clock of the node that proposes: stamps on clients' operations, and operations whose time has come.

It is the only clock that applications ever see, and they see it through the log alone. [design, decision 8; TR-11]
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import CLIENT_ID_MAX, Command
from paxos_twisted.types import ClientId, Slot

DUE_EVERY_MS: Final = 100
"""Time between two questions for what is due. An auction ends so late at most, while a leader is there."""

DUE_AGAIN_MS: Final = 1000
"""What was proposed and is still due after this is proposed again: it was lost with a leader, or the session table has
forgotten whoever proposed it."""

_encode = msgspec.msgpack.Encoder().encode

Proposal = tuple[bytes, Command[Any]]
"""A command, as bytes and decoded."""


class ProposerTime:
    """One application's view of the time at one node.

    Args:
        wall_ms: the wall clock, Unix milliseconds.
        rng: draws the client ids under which the node proposes what is due.
    """

    def __init__(self, application: Application, wall_ms: Callable[[], int], rng: Random) -> None:
        self.stamps = application.stamps
        self.has_deadlines = application.has_deadlines
        self.proposed = 0
        """Operations proposed because they were due."""
        self._application = application
        self._wall_ms = wall_ms
        self._rng = rng
        self._client = ClientId(0)
        self._birth = -1
        self._seq = 0
        self._next_ms = 0
        self._under_way: dict[Any, int] = {}  # operation -> when it was proposed; all of them are due

    def stamp(self, command: Command[Any]) -> Proposal:
        """The command with the time of now in its operation."""
        op = self._application.stamp(command.op, self._wall_ms())
        stamped: Command[Any] = Command(command.client, command.birth, command.seq, command.ack, op)
        return _encode(stamped), stamped

    def due(self, now_ms: int, applied: Slot) -> list[Proposal]:
        """What this node should propose now, not stamped. `now_ms` is a monotonic clock, `applied` the last slot."""
        if now_ms < self._next_ms:
            return []
        self._next_ms = now_ms + DUE_EVERY_MS
        ops = self._application.due(self._wall_ms())
        if not ops and not self._under_way:
            return []
        proposed = {op: since_ms for op, since_ms in self._under_way.items() if op in ops}
        wanted = [op for op in ops if now_ms - proposed.get(op, now_ms - DUE_AGAIN_MS) >= DUE_AGAIN_MS]
        if any(op in proposed for op in wanted) or not self._seq:
            self._client = ClientId(self._rng.randint(1, CLIENT_ID_MAX))
            self._birth, self._seq = applied, 0
        self._under_way = proposed | dict.fromkeys(wanted, now_ms)
        return [self._proposal(op) for op in wanted]

    def _proposal(self, op: Any) -> Proposal:
        self._seq += 1
        self.proposed += 1
        # Nobody waits for the answer: each command acknowledges all before it, so none is kept.
        command: Command[Any] = Command(self._client, self._birth, self._seq, self._seq, op)
        return _encode(command), command
