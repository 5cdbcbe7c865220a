"""The three verdicts, and what a violation consists of."""

from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Generic, NamedTuple

from paxos_twisted.check.history import Operation
from paxos_twisted.check.model import Op, Result, State


class Outcome(Enum):
    """What the checker says of a history."""

    OK = "ok"
    """There is a linearization: one was found."""
    VIOLATION = "violation"
    """There is none."""
    UNKNOWN = "unknown"
    """The budget did not suffice to tell."""


class Reached(NamedTuple, Generic[Op, Result]):
    """A configuration: one of the situations in which the system can have been, after all that was answered before."""

    values: State
    """Of `Violation.keys`."""
    placed: Sequence[Operation[Op, Result]]
    """Operations that have taken effect in this situation, but not in every other."""


class Violation(NamedTuple, Generic[Op, Result]):
    """Why a history is not linearizable."""

    operation: Operation[Op, Result]
    """Its answer is the first that no order of the operations explains, looking at `keys` only."""
    keys: tuple[Hashable, ...]
    reached: Sequence[Reached[Op, Result]]
    """The last configurations before its answer, the simplest ones."""
    open: Sequence[Operation[Op, Result]]
    """Operations under way, then unknown ones, that could have come before it. They do not help."""
    placed: Sequence[Operation[Op, Result]]
    """The last operations on these keys that have taken effect in all of them."""
    failed: Sequence[Operation[Op, Result]]
    """Operations on these keys that were reported as certainly not applied, the last ones called before the answer."""
    restricted: bool
    """The rest of the history was not needed; of operations that touch other keys too, only the effect here was."""


class Verdict(NamedTuple, Generic[Op, Result]):
    """The checker's answer."""

    outcome: Outcome
    stage: str
    """What decided, or where the budget ended: lazy, parts, wider, complete; answers (a result that fits no state)."""
    steps: int
    """Steps of the model taken."""
    violation: Violation[Op, Result] | None = None
    findings: tuple[str, ...] = ()
    """Sentences of the cheap checks, see `paxos_twisted.check.exactly_once`."""
