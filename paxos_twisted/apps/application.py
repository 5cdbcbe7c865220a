"""The contract between the replicated state and the application that it runs."""

from collections.abc import Iterable
from typing import Any, Protocol

from paxos_twisted.core.table import Table


class Application(Protocol):
    """A deterministic state machine: the same operations in the same order give the same state and results.

    `apply` looks at nothing but the operation and the tables: no clock, no randomness, no iteration over sets, no
    floating point. It never raises for an operation that the codec let in; what cannot be done is a result.
    """

    name: str
    """One word, as in the cluster configuration: bank, kv, chat, auction."""

    op_type: Any
    """The type (a msgspec struct or a union of tagged ones) of `Command.op`."""

    result_type: Any
    """The type of what `apply` returns."""

    op_names: tuple[str, ...]
    """Everything that `op_name` may return."""

    def apply(self, op: Any, client: int) -> Any:
        """Execute one operation of `client` and return its result, which is never None."""
        ...

    def tables(self) -> Iterable[Table[Any, Any]]:
        """All replicated tables, always in the same order. Their contents are the whole state."""
        ...

    def op_name(self, op: Any) -> str:
        """The operation's name as metrics and histories write it, e.g. "deposit"."""
        ...

    def outcome(self, result: Any) -> str:
        """ "ok" when the operation did what was asked, "rejected" when the result is a refusal of the application."""
        ...
