"""Linearizability by witness: the decided log is the order, so only real time is left to check.

The results are checked against the log by `paxos_twisted.sim.model`. What remains is that a request takes effect
between its call and its answer: in a slot above those of all requests that were answered before it was called. This
costs a few microseconds a request; the general search of `paxos_twisted.check` needs no witness and is run on top now
and then.
"""

from typing import Any, cast

import msgspec

from paxos_twisted.check.history import History
from paxos_twisted.check.linearizability import check_linearizable
from paxos_twisted.check.model import Model as CheckModel
from paxos_twisted.check.verdict import Outcome
from paxos_twisted.limits import SERIES_MAX
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


def parts_of_series(history: History[Any, Any], result_type: Any) -> History[Any, Any]:
    """The same history with a request of its own for each operation of a series, as the search takes them.

    They are called together and end together. That nothing comes between them is left to the model.
    """
    parts: History[Any, Any] = History()
    decode = msgspec.msgpack.Decoder(list[result_type]).decode
    for event in history.events():
        operation = history.operations[event if event >= 0 else ~event]
        is_series = type(operation.op) is tuple
        first = operation.seq * SERIES_MAX
        if event >= 0:
            for seq, op in enumerate(operation.op if is_series else (operation.op,), first):
                parts.invoke(operation.process, operation.client, seq, op, operation.call)
        else:
            assert operation.end is not None
            results = decode(cast(bytes, operation.result)) if is_series else [operation.result]
            for seq, result in enumerate(results, first):
                parts.ok(operation.process, operation.client, seq, result, operation.end)
    return parts


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
