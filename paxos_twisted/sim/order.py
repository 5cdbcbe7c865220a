"""Linearizability by witness: the decided log is the order, so only real time is left to check.

The results are checked against the log by `paxos_twisted.sim.model`. What remains is that a request takes effect
between its call and its answer: in a slot above those of all requests that were answered before it was called. This
costs a few microseconds a request; the general search of `paxos_twisted.check` needs no witness and is run on top now
and then.
"""

from typing import Any

from paxos_twisted.check.history import History
from paxos_twisted.check.linearizability import check_linearizable
from paxos_twisted.check.model import Model as CheckModel
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.model import Model
from paxos_twisted.types import NO_SLOT, Slot


def check_order(history: History[Any, Any], model: Model) -> None:
    """LIN: the order of the log respects real time, and what "certainly failed" has no effect.

    Args:
        history: what the clients saw.
        model: which request took effect where, with which result.

    Raises:
        Violation: it does not.
    """
    answered: Slot = NO_SLOT  # the highest slot of a request whose answer has been given
    for event in history.events():
        operation = history.operations[event if event >= 0 else ~event]
        request = f"request {operation.client}/{operation.seq} ({operation.op!r})"
        if event >= 0:
            effect = model.first.get((operation.client, operation.seq))
            if effect is not None and effect[0] <= answered:
                raise Violation(
                    f"LIN: {request} took effect in slot {effect[0]}, below slot {answered}, which had been answered"
                )
            continue
        effect = model.effect(operation.client, operation.seq, operation.result)
        if effect is None:
            raise Violation(f"LIN: {request} was answered and has no effect")
        if effect[1] != operation.result:
            raise Violation(f"LIN: {request} was answered {operation.result!r}; its slot gave {effect[1]!r}")
        answered = max(answered, effect[0])
    for operation in history.operations:
        if operation.outcome == "fail" and (operation.client, operation.seq) in model.first:
            raise Violation(f"LIN: request {operation.client}/{operation.seq} was refused and yet took effect")


SEARCH_STEPS = 100_000
"""A history that needs more is left to the witness: usually a few hundred steps are enough."""


def search_order(history: History[Any, Any], model: CheckModel[Any, Any], steps: int = SEARCH_STEPS) -> None:
    """LIN without a witness: some order explains all answers.

    Raises:
        Violation: there is none. (A search that gives up proves nothing and raises nothing.)
    """
    verdict = check_linearizable(model, history, steps)
    if verdict.outcome is Outcome.VIOLATION:
        raise Violation(f"LIN: no order of the requests explains the answers: {verdict.violation!r}")
