"""What the checker must know of an application: which part of the state an operation touches, what it does there."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

Op = TypeVar("Op")
Result = TypeVar("Result")

State = tuple[Hashable, ...]
"""The values of some keys, in the order in which `Model.keys` names them."""


class Model(Protocol[Op, Result]):
    """A sequential specification whose state is a map from keys to values.

    An object that cannot be taken apart has one key; a bank has one per account. The more an operation's footprint
    says, the less the search has to try. [Horn & Kroening 2015: P-compositionality]
    """

    name: str

    def keys(self, op: Op, result: Result | None) -> tuple[Hashable, ...]:
        """The keys that `op` reads or writes when it ends with `result` (None: with any result); no key twice."""
        ...

    def initial(self, key: Hashable) -> Hashable:
        """The value of `key` before the first operation."""
        ...

    def step(self, state: State, op: Op, result: Result | None) -> State | None:
        """Execute `op` where its keys have the values `state`. Deterministic.

        Returns:
            The values afterwards, or None when `op` would not have answered `result` there. A `result` of None stands
            for an answer that nobody saw: any answer is right.
        """
        ...

    def is_read(self, op: Op, result: Result | None) -> bool:
        """Whether `op` never changes anything when it ends with `result` (None: with any result), in no state.

        It may still teach something, where a model keeps a value open: `step` then returns another state.
        """
        ...

    def parts(self, op: Op, result: Result | None) -> Sequence[tuple[Op, Result | None]] | None:
        """What `op` looks like to somebody who sees a single key: at most one weaker operation per key, on that key.

        A promise that the checker relies on: wherever `op` answers `result`, each part, executed on its key alone,
        answers its result and changes that key as `op` does; and no other key is changed. So a history of parts that
        is not linearizable proves that the whole is not. None: `op` cannot be taken apart like this.
        """
        ...


@runtime_checkable
class Prepared(Protocol):
    """A model that must see the whole history before it can say which keys an operation touches."""

    def prepare(self, operations: Sequence[Any]) -> None:
        """Look at all operations (`paxos_twisted.check.history.Operation`). Called before a search, each time."""
        ...


class Language(Protocol[Op, Result]):
    """How an application's operations and results look in a history file, and in a sentence."""

    def read_op(self, raw: bytes) -> Op:
        """Decode the JSON of an operation.

        Raises:
            msgspec.DecodeError: it is not one.
        """
        ...

    def read_result(self, raw: bytes) -> Result:
        """Decode the JSON of a result.

        Raises:
            msgspec.DecodeError: it is not one.
        """
        ...

    def write_op(self, op: Op) -> dict[str, object]:
        """The operation as JSON."""
        ...

    def write_result(self, result: Result) -> dict[str, object]:
        """The result as JSON."""
        ...

    def say_op(self, op: Op) -> str:
        """The operation as a person would type it, e.g. "deposit 17 100"."""
        ...

    def say_result(self, result: Result) -> str:
        """The answer in a few words, e.g. "balance 250"."""
        ...

    def say_value(self, key: Hashable, value: Hashable) -> str:
        """What a key holds, e.g. "account 17 holds 250"."""
        ...


class ApplicationModel(Model[Op, Result], Language[Op, Result], Protocol[Op, Result]):
    """All that `paxos_twisted.check.command` needs of an application."""

    def misfit(self, op: Op, result: Result) -> str | None:
        """Why `result` is no answer to `op` in any state, as the end of a sentence; None when there is such a state."""
        ...
