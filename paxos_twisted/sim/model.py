"""What the cluster should say, worked out a second time by the plainest possible code.

The commands are executed once, in one order, by whoever executes a command first; the application's part is a
`Specification` of `paxos_twisted.sim.workloads`. Nothing is shared with `apps/` and `core/sessions.py`: whatever breaks
a rule there shows as a difference.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import Barrier, Command, Series
from paxos_twisted.core.replicated import is_refusal
from paxos_twisted.types import Slot


class ModelError(AssertionError):
    """A replica's result differs from what the order of the commands demands."""


class Specification(Protocol):
    """An application, written down a second time."""

    def execute(self, op: Any, client: int) -> Any:
        """Execute an operation and return what the application must answer."""
        ...

    def check(self, application: Application) -> None:
        """Compare a replica that has executed the same operations.

        Raises:
            ModelError: its state is another one.
        """
        ...


class Model:
    """The commands in the order in which they were executed first, and what each was told.

    Args:
        specification: the application.
        is_reread: see `Application.is_reread`.
    """

    def __init__(self, specification: Specification, is_reread: Callable[[Any], bool] | None = None) -> None:
        self.specification = specification
        self.first: dict[tuple[int, int], tuple[Slot, Any]] = {}
        """(client, seq) -> where it changed the state, and what it was told: of a series, the encoded list."""
        self.rereads: dict[tuple[int, int], list[tuple[Slot, Any]]] = {}
        """(client, seq) of reads that were executed again -> where, and with which results."""
        self.results: list[Any] = []
        """What the command of each place was told; None for a no-op."""
        self.refused_reasons: dict[tuple[int, int], str] = {}
        """Requests that the session table refused, at least once, and why."""
        self._is_reread = is_reread

    def check(self, slot: Slot, command: Command[Any] | Series[Any] | Barrier | None, result: Any) -> None:
        """Compare a replica's `result` for `slot` with the model; the first replica there moves the model on.

        Raises:
            ModelError: XO, EQ or an application's own rule is broken; the text says how.
        """
        results = self.results
        if slot < len(results):
            if results[slot] != result:
                raise ModelError(f"EQ: slot {slot} gave {results[slot]!r} on one replica and {result!r} on another")
            return
        assert slot == len(results)
        results.append(result)
        if not isinstance(command, Command | Series):
            if result is not None:
                raise ModelError(f"a no-op in slot {slot} had the result {result!r}")
            return
        key = (command.client, command.seq)
        if is_refusal(result):
            self.refused_reasons[key] = result.reason
            return
        known = self.first.get(key)
        is_again = (
            known is not None
            and self._is_reread is not None
            and isinstance(command, Command)
            and self._is_reread(command.op)
        )
        if known is not None and not is_again:
            if result != known[1]:
                raise ModelError(
                    f"XO: request {key} was answered {known[1]!r} in slot {known[0]} and {result!r} in slot {slot}"
                )
            return
        execute = self.specification.execute
        if isinstance(command, Series):  # all of it here, whatever the slots behind this one hold
            expected = msgspec.msgpack.encode([execute(op, command.client) for op in command.ops])
        else:
            expected = execute(command.op, command.client)
        if result != expected:
            raise ModelError(f"XO/BAL: slot {slot} ({command!r}) gave {result!r}, and the log demands {expected!r}")
        if is_again:
            self.rereads.setdefault(key, []).append((slot, result))
        else:
            self.first[key] = (slot, result)

    def effect(self, client: int, seq: int, result: Any) -> tuple[Slot, Any] | None:
        """Where a request had its effect, and its result: of a read that was executed several times, the first time
        that gave `result`."""
        first = self.first.get((client, seq))
        if first is None or first[1] == result:
            return first
        return next((again for again in self.rereads.get((client, seq), ()) if again[1] == result), first)
