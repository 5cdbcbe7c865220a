"""Is a history linearizable? Yes, no with a reason, or unknown. `docs/checking.md` tells the whole story.

Deciding is NP-complete [Gibbons & Korach 1997], so the search is staged, and each stage says only what it has proved:

1. *lazy*: few unseen operations are tried. Success is a linearization: yes. Failure is a no only where nothing was cut.
2. *parts*: a few keys alone, with the weaker operations of `Model.parts`. Failure is a no, and a short explanation.
3. *wider*, then *complete*: more is tried, then everything.

The budget is counted in steps of the model, so that the verdict is the same on every machine.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic

from paxos_twisted.check.history import History, Operation
from paxos_twisted.check.model import Model, Op, Prepared, Result
from paxos_twisted.check.search import COMPLETE, Budget, BudgetExhausted, Dead, Level, Search, Task
from paxos_twisted.check.verdict import Outcome, Reached, Verdict, Violation

BUDGET_STEPS = 10_000_000
"""Half a minute to a minute of one core. A history without trouble takes a few steps an operation."""

LAZY = Level(slack=0, unseen_max=3, nodes_max=5_000, width=256)
WIDER = Level(slack=1, unseen_max=6, nodes_max=100_000, width=8_192)

SHORTEN_STEPS = 200_000
SHORTEN_KEYS_MAX = 16
"""How hard a shorter explanation is looked for, beside the budget: about a second at the most."""

FAILED_SHOWN = 4
"""Failed operations in an explanation."""


def check_linearizable(
    model: Model[Op, Result], history: History[Op, Result], budget: int = BUDGET_STEPS
) -> Verdict[Op, Result]:
    """Search for a linearization of `history`, in at most `budget` steps of `model`.

    An unknown operation takes effect at any time after its call, or never; a failed one never.
    """
    return _Check(model, history, budget).run()


class _Check(Generic[Op, Result]):
    def __init__(self, model: Model[Op, Result], history: History[Op, Result], budget: int) -> None:
        self.model = model
        self.operations = history.operations
        if isinstance(model, Prepared):
            model.prepare(history.operations)
        self.events = history.events()
        self.budget = budget
        self.spent = 0
        self.dead: _Found[Op, Result] | None = None
        """The way the last unrestricted stage ended, if it ran out of configurations."""
        self._touching: dict[Hashable, list[int]] = {}

    def run(self) -> Verdict[Op, Result]:
        for name, stage, share in (
            ("lazy", self._whole(LAZY), 2),
            ("parts", self._parts, 2),
            ("wider", self._whole(WIDER), 2),
            ("complete", self._whole(COMPLETE), 1),
        ):
            outcome = stage((self.budget - self.spent) // share)
            if outcome is Outcome.VIOLATION:
                return self._violation(name)
            if outcome is Outcome.OK:
                return Verdict(outcome, name, self.spent)
        return Verdict(Outcome.UNKNOWN, name, self.spent, self._describe(self.dead) if self.dead else None)

    def _whole(self, level: Level) -> Callable[[int], Outcome]:
        def stage(allowance: int) -> Outcome:
            tasks = [Task(operation.op, operation.result, i) for i, operation in enumerate(self.operations)]
            try:
                dead = self._search(tasks, self.events, level, allowance)
            except BudgetExhausted:
                return Outcome.UNKNOWN
            if dead is None:
                return Outcome.OK
            self.dead = _Found(dead, tasks, restricted=False)
            return Outcome.UNKNOWN if dead.cut else Outcome.VIOLATION

        return stage

    def _parts(self, allowance: int) -> Outcome:
        """Look for a violation that shows on few keys, first on those on which the lazy search ended."""
        stop = self.spent + allowance
        suspects = self.dead.dead.keys if self.dead is not None else ()
        touching = self._touching_keys()
        others = [key for key in touching if key not in suspects]
        groups: list[Sequence[Hashable]] = [[key] for key in suspects]
        if len(suspects) > 1:
            groups.append(suspects)
        groups.extend([key] for key in others)
        complete = True
        for keys in groups:
            found, proved = self._restricted(keys, (stop - self.spent) // 4)
            if found is not None:
                self.dead = found
                return Outcome.VIOLATION
            complete &= proved
        return Outcome.OK if complete and self._is_by_key() else Outcome.UNKNOWN

    def _violation(self, stage: str) -> Verdict[Op, Result]:
        """The verdict, with the shortest explanation that a small effort finds."""
        assert self.dead is not None
        found = self.dead
        steps = self.spent
        if not found.restricted:
            found = self._restricted(found.dead.keys, SHORTEN_STEPS)[0] or found
        if found.restricted:
            found = self._shorten(found)
        return Verdict(Outcome.VIOLATION, stage, steps, self._describe(found))

    def _shorten(self, found: "_Found[Op, Result]") -> "_Found[Op, Result]":
        """Leave out keys as long as the violation shows without them."""
        for key in found.dead.keys[:SHORTEN_KEYS_MAX]:
            fewer = [other for other in found.dead.keys if other != key]
            if fewer:
                found = self._restricted(fewer, SHORTEN_STEPS)[0] or found
        return found

    def _restricted(self, keys: Sequence[Hashable], allowance: int) -> "tuple[_Found[Op, Result] | None, bool]":
        """Check what the history says of `keys`. Returns the violation if there is one, and whether it was decided."""
        touching = self._touching_keys()
        inside = set(keys)
        tasks: list[Task[Op, Result]] = []
        events: list[int] = []
        tasks_of: dict[int, range] = {}
        for at in sorted({at for key in keys for at in touching[key]}):
            event = self.events[at]
            if event >= 0:
                start = len(tasks)
                seen = self._inside(event, inside)
                if seen is None:
                    return None, False
                tasks.extend(seen)
                tasks_of[event] = range(start, len(tasks))
                events.extend(tasks_of[event])
            else:
                events.extend(~number for number in tasks_of[~event])
        try:
            dead = self._search(tasks, events, COMPLETE, allowance)
        except BudgetExhausted:
            return None, False
        return (None if dead is None else _Found(dead, tasks, restricted=True)), True

    def _inside(self, index: int, inside: set[Hashable]) -> list[Task[Op, Result]] | None:
        """What an operation does to the keys `inside`; None when that cannot be said without the others."""
        op, result = self.operations[index].op, self.operations[index].result
        keys = self.model.keys
        if inside.issuperset(keys(op, result)):
            return [Task(op, result, index)]
        parts = self.model.parts(op, result)
        return None if parts is None else [Task(*part, index) for part in parts if inside.issuperset(keys(*part))]

    def _search(
        self, tasks: Sequence[Task[Op, Result]], events: Sequence[int], level: Level, allowance: int
    ) -> Dead[Op, Result] | None:
        budget = Budget(allowance)
        try:
            return Search(self.model, tasks, budget, level).run(events)
        finally:
            self.spent += allowance - max(budget.left, 0)

    def _touching_keys(self) -> dict[Hashable, list[int]]:
        """For each key, the events of the operations that touch it, as places in `events`."""
        if not self._touching:
            for at, event in enumerate(self.events):
                operation = self.operations[event if event >= 0 else ~event]
                for key in self.model.keys(operation.op, operation.result):
                    self._touching.setdefault(key, []).append(at)
        return self._touching

    def _is_by_key(self) -> bool:
        """Whether every operation touches one key only, so that the keys can be judged alone."""
        return all(len(self.model.keys(operation.op, operation.result)) == 1 for operation in self.operations)

    def _describe(self, found: "_Found[Op, Result]") -> Violation[Op, Result]:
        dead, tasks = found.dead, found.tasks
        target = tasks[dead.number].origin
        return Violation(
            operation=self.operations[target],
            keys=dead.keys,
            reached=[Reached(values, self._origins(tasks, numbers)) for values, numbers in dead.configs],
            open=sorted(self._origins(tasks, dead.open), key=_is_unknown),
            placed=self._origins(tasks, dead.placed),
            failed=self._failed(set(dead.keys), self.operations[target])[-FAILED_SHOWN:],
            restricted=found.restricted,
        )

    def _failed(self, keys: set[Hashable], target: Operation[Op, Result]) -> list[Operation[Op, Result]]:
        end = target.call if target.end is None else target.end
        return [
            operation
            for operation in self.operations
            if operation.outcome == "fail"
            and operation.call <= end
            and not keys.isdisjoint(self.model.keys(operation.op, None))
        ]

    def _origins(self, tasks: Sequence[Task[Op, Result]], numbers: Iterable[int]) -> list[Operation[Op, Result]]:
        return [self.operations[tasks[number].origin] for number in numbers]


class _Found(Generic[Op, Result]):
    """A search that ran out of configurations, and what it searched."""

    def __init__(self, dead: Dead[Op, Result], tasks: Sequence[Task[Op, Result]], *, restricted: bool) -> None:
        self.dead = dead
        self.tasks = tasks
        self.restricted = restricted


def _is_unknown(operation: Operation[Op, Result]) -> bool:
    return operation.result is None
