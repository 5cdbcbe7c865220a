"""The search for a linearization: configurations, kept apart by key, advanced at each answer.

**Just in time** [Lowe 2017]. An operation need not be placed before its answer arrives: any linearization can be cut
behind each answered operation. So we read calls and answers in the order of time and keep every configuration (which
open operations are placed, and the state) that the answers so far allow. When the answer of X arrives, each
configuration without X is extended by open operations that end in X. No configuration left: not linearizable.

**By key** [after Horn & Kroening 2015]. The set of configurations is kept as a product of factors, each for its own
keys. Only operations that touch keys of several factors join them, and when that is decided they part again. So an
uncertainty about one account is not multiplied by the one about another.

**Only what matters.** Of the sequences that end in X we keep those in which every other operation is followed by one
that shares a key with it, up to X: the others can as well come later. Reads are placed as soon as they fit: whatever
can happen then, can happen after them, too. Operations whose answer nobody saw can always be placed later: of two
configurations with the same state the one that has used fewer of them allows everything that the other allows.

**Lazily.** A `Level` bounds how many unseen operations are tried; a factor from which something was left out is *cut*.
If an uncut factor runs out of configurations the history is not linearizable; if a cut one does, we do not know.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from itertools import count, islice
from typing import Generic, NamedTuple, TypeVar

from paxos_twisted.check.model import Model, Op, Result, State

Config = tuple[State, int]
"""Values of a factor's keys, and which of the open operations are placed, as bits."""


class Task(NamedTuple, Generic[Op, Result]):
    """One operation to place."""

    op: Op
    result: Result | None
    """None: nobody saw the answer."""
    origin: int
    """Number of the operation in the history that it stands for."""


class Level(NamedTuple):
    """How much is tried before something is left out."""

    slack: int
    """Unseen operations placed before an answered one beyond the smallest number that explains its answer."""
    unseen_max: int
    """Unseen operations placed before one answered operation."""
    nodes_max: int
    """Configurations looked at for one answer."""
    width: int
    """Configurations kept in one factor."""


CONFIGS_SHOWN = 4
"""Configurations in an explanation; nobody reads more."""

PLACED_SHOWN = 6
"""Earlier operations in an explanation."""

UNBOUNDED = 2**62
COMPLETE = Level(UNBOUNDED, UNBOUNDED, UNBOUNDED, UNBOUNDED)
"""Nothing is left out."""


class BudgetExhausted(Exception):
    """The steps allowed are used up."""


class Budget:
    """Steps of the search that may still be taken: a measure of time that is the same on every machine."""

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def take(self, steps: int) -> None:
        """Pay for `steps`.

        Raises:
            BudgetExhausted: there are not that many left.
        """
        self.left -= steps
        if self.left < 0:
            raise BudgetExhausted


class Open(Generic[Op, Result]):
    """An operation that was called and is not yet placed in every configuration."""

    __slots__ = ("bit", "closed", "is_read", "keys", "number", "op", "result", "twin")

    def __init__(
        self, number: int, task: Task[Op, Result], keys: tuple[Hashable, ...], bit: int, is_read: bool
    ) -> None:
        self.number = number
        self.op = task.op
        self.result = task.result
        self.keys = keys
        self.bit = bit
        self.is_read = is_read
        self.closed = False
        """Placed in every configuration."""
        self.twin: Open[Op, Result] | None = None
        """The same unseen operation, called earlier. The two cannot be told apart, so that one is placed first."""


class Dead(NamedTuple, Generic[Op, Result]):
    """No configuration can be extended by this operation."""

    number: int
    """Of the task whose answer cannot be explained."""
    cut: bool
    """Something had been left out: a larger level may find a way."""
    keys: tuple[Hashable, ...]
    configs: Sequence[tuple[State, tuple[int, ...]]]
    """The last configurations reached, at most CONFIGS_SHOWN: values of `keys`, and the tasks placed in this
    one but not in all."""
    open: tuple[int, ...]
    """The tasks that were tried before it."""
    placed: tuple[int, ...]
    """The last tasks on `keys` that are placed in every configuration, about in the order of their effects."""


class _Seen:
    """Configurations that were met, and those that they dominate."""

    __slots__ = ("_budget", "_met", "_unseen")

    def __init__(self, unseen_bits: list[int], budget: Budget) -> None:
        self._unseen = sum(unseen_bits)
        self._met: dict[Config, list[int]] = {}
        self._budget = budget

    def is_new(self, values: State, placed: int) -> bool:
        """Whether none with the same values and answered operations, and as few unseen ones, was asked for before."""
        mine = placed & self._unseen
        kept = self._met.get((values, placed ^ mine))
        if kept is None:
            self._met[values, placed ^ mine] = [mine]
            return True
        self._budget.take(len(kept) >> 4)
        if any(other & mine == other for other in kept):
            return False
        kept.append(mine)
        return True


class _Factor:
    """The configurations over some keys, independent of all other keys."""

    __slots__ = ("configs", "cut", "keys")

    def __init__(self, keys: tuple[Hashable, ...], configs: list[Config], cut: bool) -> None:
        self.keys = keys
        self.configs = configs  # never empty between two events
        self.cut = cut


_Found = TypeVar("_Found")


class _Path(NamedTuple, Generic[_Found]):
    """How a configuration was reached, backwards."""

    before: "_Path[_Found] | None"
    placed: _Found
    changed: bool


class Search(Generic[Op, Result]):
    """One pass over a history. Feed it with `call` and `answer`, in the order of time."""

    def __init__(
        self, model: Model[Op, Result], tasks: Sequence[Task[Op, Result]], budget: Budget, level: Level
    ) -> None:
        self._model = model
        self._tasks = tasks
        self._budget = budget
        self._level = level
        self._factors: dict[Hashable, _Factor] = {}
        self._open_at: dict[Hashable, list[Open[Op, Result]]] = {}
        self._open: dict[int, Open[Op, Result]] = {}
        self._by_bit: dict[int, Open[Op, Result]] = {}
        self._free_bits: list[int] = []
        self._placed: list[int] = []

    def run(self, events: Sequence[int]) -> Dead[Op, Result] | None:
        """Take all events (i: call of task i, ~i: its answer). Returns None when there is a linearization.

        Raises:
            BudgetExhausted: the answer was not found in the steps allowed.
        """
        for event in events:
            if event >= 0:
                self.call(event)
            elif (dead := self.answer(~event)) is not None:
                return dead
        return None

    def call(self, number: int) -> None:
        """Task `number` may take effect from now on."""
        task = self._tasks[number]
        unseen = task.result is None
        is_read = self._model.is_read(task.op, task.result)
        if unseen and is_read:
            return
        keys = self._model.keys(task.op, task.result)
        bit = self._free_bits.pop() if self._free_bits else 1 << len(self._by_bit)
        opened = Open(number, task, keys, bit, is_read)
        self._by_bit[bit] = opened
        if unseen:
            for other in self._open_at.get(keys[0], ()):
                if other.result is None and other.op == task.op:
                    opened.twin = other
        else:
            self._open[number] = opened
        for key in keys:
            self._open_at.setdefault(key, []).append(opened)

    def answer(self, number: int) -> Dead[Op, Result] | None:
        """Task `number` has taken effect. Returns why it cannot have, or None."""
        target = self._open.pop(number)
        if target.closed:
            return None
        if self._answer_alone(target):
            return None
        return self._answer_among(target)

    def _answer_alone(self, target: Open[Op, Result]) -> bool:
        """The usual case: nothing else is open on these keys and each has one value. True: done."""
        factors = []
        state = []
        for key in target.keys:
            factor = self._factor(key)
            if len(self._open_at[key]) > 1 or len(factor.keys) > 1 or len(factor.configs) > 1:
                return False
            factors.append(factor)
            state.append(factor.configs[0][0][0])
        self._budget.take(1)
        after = self._model.step(tuple(state), target.op, target.result)
        if after is None:
            return False
        for factor, value in zip(factors, after, strict=True):
            factor.configs[0] = ((value,), 0)
        self._close(target)
        return True

    def _answer_among(self, target: Open[Op, Result]) -> Dead[Op, Result] | None:
        level = self._level
        first: int | None = None
        for unseen in [UNBOUNDED] if level.slack == UNBOUNDED else count():
            relevant, keys, cut = self._relevant(target, unseen)
            factor = self._join(keys)
            done = [config for config in factor.configs if config[1] & target.bit]
            todo = [config for config in factor.configs if not config[1] & target.bit]
            found, more = self._extend(factor, todo, relevant, target, unseen)
            cut |= more
            if first is None and (done or found):
                first = unseen
            if not cut or unseen >= level.unseen_max or (first is not None and unseen >= first + level.slack):
                break
        factor.cut |= cut
        configs = self._fewest_unseen([*done, *found])
        if not configs:
            tried = tuple(opened.number for opened in relevant if opened is not target)
            last = self._last_placed(set(factor.keys))
            return Dead(target.number, factor.cut, factor.keys, self._shown(factor.configs), tried, last)
        if len(configs) > level.width:
            configs = sorted(configs, key=_placed_count)[: level.width]
            factor.cut = True
        factor.configs = configs
        self._settle(factor, target)
        return None

    def _relevant(
        self, target: Open[Op, Result], unseen: int
    ) -> tuple[list[Open[Op, Result]], dict[Hashable, None], bool]:
        """The open operations that share keys with `target`, directly or through others.

        Returns:
            The operations by age; all their keys (a dict is a set in a known order); whether some were left out because
            more than `unseen` unseen operations would be needed to get to them.
        """
        keys = dict.fromkeys(target.keys)
        found = {target.number: target}
        edge = list(target.keys)
        hops = 0
        beyond: dict[int, Open[Op, Result]] = {}
        while True:
            while edge:
                for opened in self._open_at[edge.pop()]:
                    if opened.number in found:
                        continue
                    if opened.result is None:
                        beyond[opened.number] = opened
                        continue
                    found[opened.number] = opened
                    edge += [key for key in opened.keys if key not in keys]
                    keys |= dict.fromkeys(opened.keys)
            for number in found:
                beyond.pop(number, None)
            if not beyond or hops >= unseen:
                break
            hops += 1
            found |= beyond
            for opened in beyond.values():
                edge += [key for key in opened.keys if key not in keys]
                keys |= dict.fromkeys(opened.keys)
            beyond = {}
        return [found[number] for number in sorted(found)], keys, bool(beyond)

    def _extend(
        self,
        factor: _Factor,
        configs: list[Config],
        relevant: list[Open[Op, Result]],
        target: Open[Op, Result],
        unseen_max: int,
    ) -> tuple[list[Config], bool]:
        """Place open operations up to and with `target`. Returns the configurations, and whether any were left out."""
        step, budget, nodes_max = self._model.step, self._budget, self._level.nodes_max
        index = {key: at for at, key in enumerate(factor.keys)}
        moves = [(opened, tuple(index[key] for key in opened.keys)) for opened in relevant]
        queue: deque[tuple[State, int, int, _Path[Open[Op, Result]] | None]] = deque(
            (values, placed, 0, None) for values, placed in configs
        )
        found: dict[Config, None] = {}
        seen = _Seen([opened.bit for opened in relevant if opened.result is None], budget)
        for values, placed in configs:
            seen.is_new(values, placed)
        cut = False
        nodes = 0
        while queue:
            nodes += 1
            if nodes > nodes_max:
                return list(found), True
            values, placed, unseen, path = queue.popleft()
            budget.take(len(moves))
            changes = []
            at_first = placed
            for opened, places in moves:
                if placed & opened.bit:
                    continue
                before = tuple([values[place] for place in places])
                after = step(before, opened.op, opened.result)
                if after is None:
                    continue
                if opened.is_read and after == before:
                    placed |= opened.bit
                    path = _Path(path, opened, False)
                elif opened.result is not None or after != before:
                    changes.append((opened, places, after))
            if placed & target.bit:
                if _leads_to(path, target):
                    found[values, placed] = None
                continue
            if placed != at_first and not seen.is_new(values, placed):
                continue
            for opened, places, after in changes:
                if opened is target:
                    if _leads_to(path, target):
                        found[_changed(values, places, after), placed | target.bit] = None
                    continue
                more = unseen
                if opened.result is None:
                    twin = opened.twin
                    if twin is not None and not twin.closed and not placed & twin.bit:
                        continue
                    more += 1
                    if more > unseen_max:
                        cut = True
                        continue
                new = _changed(values, places, after)
                if seen.is_new(new, placed | opened.bit):
                    queue.append((new, placed | opened.bit, more, _Path(path, opened, True)))
        return list(found), cut

    def _shown(self, configs: list[Config]) -> list[tuple[State, tuple[int, ...]]]:
        """The simplest configurations, for people."""
        simplest = sorted(configs, key=_placed_count)[:CONFIGS_SHOWN]
        return [(values, tuple(self._by_bit[bit].number for bit in _bits(placed))) for values, placed in simplest]

    def _last_placed(self, keys: set[Hashable]) -> tuple[int, ...]:
        tasks, model = self._tasks, self._model
        touching = (
            number
            for number in reversed(self._placed)
            if not keys.isdisjoint(model.keys(tasks[number].op, tasks[number].result))
        )
        return tuple(reversed([*islice(touching, PLACED_SHOWN)]))

    def _fewest_unseen(self, configs: list[Config]) -> list[Config]:
        """Drop configurations that another one dominates: same state, same answered ones, fewer unseen ones placed."""
        if len(configs) < 2:
            return configs
        used = 0
        for _, placed in configs:
            used |= placed
        seen = _Seen([bit for bit in _bits(used) if self._by_bit[bit].result is None], self._budget)
        return [config for config in sorted(configs, key=_placed_count) if seen.is_new(*config)]

    def _factor(self, key: Hashable) -> _Factor:
        factor = self._factors.get(key)
        if factor is None:
            factor = self._factors[key] = _Factor((key,), [((self._model.initial(key),), 0)], False)
        return factor

    def _join(self, keys: Iterable[Hashable]) -> _Factor:
        """The one factor that holds all these keys: the product of theirs."""
        factors = list({id(factor): factor for factor in map(self._factor, keys)}.values())
        if len(factors) == 1:
            return factors[0]
        factors.sort(key=_size)
        joined: list[Config] = [((), 0)]
        cut = False
        for factor in factors:
            cut |= factor.cut
            self._budget.take(len(joined) * len(factor.configs))
            joined = [(values + more, placed | also) for values, placed in joined for more, also in factor.configs]
            if len(joined) > self._level.width:
                joined = sorted(joined, key=_placed_count)[: self._level.width]
                cut = True
        whole = _Factor(tuple(key for factor in factors for key in factor.keys), joined, cut)
        for key in whole.keys:
            self._factors[key] = whole
        return whole

    def _settle(self, factor: _Factor, target: Open[Op, Result]) -> None:
        """Forget operations that are placed in every configuration, and let go of keys that are certain."""
        always = -1
        ever = 0
        for _, placed in factor.configs:
            always &= placed
            ever |= placed
        for bit in _bits(always & ~target.bit):
            self._close(self._by_bit[bit])
        self._close(target)  # every configuration has it, and it is the last that they have in common
        factor.configs = [(values, placed & ~always) for values, placed in factor.configs]
        if len(factor.keys) == 1:
            return
        tied = {key for bit in _bits(ever & ~always) for key in self._by_bit[bit].keys}
        first = factor.configs[0][0]
        stay = []
        for at, key in enumerate(factor.keys):
            if key in tied or any(values[at] != first[at] for values, _ in factor.configs):
                stay.append(at)
            else:
                self._factors[key] = _Factor((key,), [((first[at],), 0)], factor.cut)
        if len(stay) < len(factor.keys):
            factor.configs = [(tuple([values[at] for at in stay]), placed) for values, placed in factor.configs]
            factor.keys = tuple(factor.keys[at] for at in stay)

    def _close(self, opened: Open[Op, Result]) -> None:
        opened.closed = True
        self._placed.append(opened.number)
        self._free_bits.append(opened.bit)
        for key in opened.keys:
            self._open_at[key].remove(opened)


def _leads_to(path: "_Path[Open[Op, Result]] | None", target: Open[Op, Result]) -> bool:
    """Whether every change on the way shares keys, through those behind it, with `target`: none could come later."""
    keys = set(target.keys)
    while path is not None:
        opened = path.placed
        if opened is not target:
            if not keys.isdisjoint(opened.keys):
                keys.update(opened.keys)
            elif path.changed:
                return False
        path = path.before
    return True


def _changed(values: State, places: tuple[int, ...], after: State) -> State:
    if len(values) == len(places) == 1:
        return after
    new = list(values)
    for place, value in zip(places, after, strict=True):
        new[place] = value
    return tuple(new)


def _bits(mask: int) -> list[int]:
    """The bits of a mask of 0 or more, lowest first."""
    bits = []
    while mask:
        low = mask & -mask
        bits.append(low)
        mask ^= low
    return bits


def _placed_count(config: Config) -> int:
    return config[1].bit_count()


def _size(factor: _Factor) -> int:
    return len(factor.configs)
