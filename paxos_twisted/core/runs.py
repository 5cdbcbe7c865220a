"""Runs of consecutive slots: the structures in which acceptors, learners and proposers keep their slots.

Paxos decides slot by slot; we pay per run. Nearly always the same run comes back whole (Accept, Learn, decision), which
is one dictionary look-up. When runs overlap (a new leader cuts them elsewhere) they are cut at the borders, so every
piece is treated exactly as the paper treats its slots.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from paxos_twisted.types import Slot


class Sliced(Protocol):
    """Something that covers the slots [slot, slot + count) and can be cut."""

    @property
    def slot(self) -> Slot:
        """First slot."""
        ...

    @property
    def count(self) -> int:
        """Number of slots, at least 1."""
        ...

    def cut(self, at: Slot) -> "tuple[Sliced, Sliced]":
        """The parts below `at` and from `at` on; slot < at < slot + count."""
        ...


R = TypeVar("R", bound=Sliced)


class RunMap(Generic[R]):
    """Disjoint runs by slot."""

    __slots__ = ("_runs", "_starts")

    def __init__(self) -> None:
        self._starts: list[Slot] = []  # sorted
        self._runs: dict[Slot, R] = {}

    def __len__(self) -> int:
        """Number of runs (not of slots)."""
        return len(self._starts)

    def __iter__(self) -> Iterator[R]:
        """All runs by increasing slot."""
        return map(self._runs.__getitem__, list(self._starts))

    def get(self, slot: Slot) -> R | None:
        """The run that starts exactly at `slot`."""
        return self._runs.get(slot)

    def at(self, slot: Slot) -> R | None:
        """The run that covers `slot`."""
        index = bisect_right(self._starts, slot) - 1
        if index < 0:
            return None
        run = self._runs[self._starts[index]]
        return run if slot < run.slot + run.count else None

    @property
    def first(self) -> Slot:
        """The first slot; 0 when empty."""
        return self._starts[0] if self._starts else 0

    @property
    def stop(self) -> Slot:
        """The slot after the last run; 0 when empty."""
        if not self._starts:
            return 0
        last = self._runs[self._starts[-1]]
        return last.slot + last.count

    def put(self, run: R) -> None:
        """Store `run` in place of whatever covered its slots."""
        start = run.slot
        if start not in self._runs or self._runs[start].count != run.count:
            if self._starts and start < self.stop:
                self.remove(start, start + run.count)
                self._starts.insert(bisect_left(self._starts, start), start)
            else:
                self._starts.append(start)
        self._runs[start] = run

    def remove(self, start: Slot, stop: Slot) -> None:
        """Forget the slots [start, stop), cutting runs that reach across the borders."""
        self._cut_at(start)
        self._cut_at(stop)
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, stop)
        for slot in self._starts[first:last]:
            del self._runs[slot]
        del self._starts[first:last]

    def pop(self, run: R) -> None:
        """Forget a run that is stored."""
        start = run.slot
        del self._runs[start]
        if self._starts[0] == start:
            del self._starts[0]
        else:
            del self._starts[bisect_left(self._starts, start)]

    def drop_below(self, slot: Slot) -> None:
        """Forget every slot below `slot`."""
        if self._starts and self._starts[0] < slot:
            self.remove(self._starts[0], slot)

    def clear(self) -> None:
        """Forget everything."""
        self._starts.clear()
        self._runs.clear()

    def within(self, start: Slot, stop: Slot) -> list[R]:
        """The runs in [start, stop), after cutting those that reach across the borders."""
        self._cut_at(start)
        self._cut_at(stop)
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, stop)
        return [self._runs[slot] for slot in self._starts[first:last]]

    def covers(self, start: Slot, stop: Slot) -> bool:
        """Whether every slot of [start, stop) is stored."""
        while start < stop:
            run = self.at(start)
            if run is None:
                return False
            start = run.slot + run.count
        return True

    def holes(self, start: Slot, stop: Slot) -> list[tuple[Slot, Slot]]:
        """The parts [a, b) of [start, stop) that no run covers."""
        found: list[tuple[Slot, Slot]] = []
        index = max(bisect_right(self._starts, start) - 1, 0)
        while start < stop and index < len(self._starts):
            run = self._runs[self._starts[index]]
            index += 1
            if run.slot > start:
                found.append((start, min(run.slot, stop)))
            start = max(start, run.slot + run.count)
        if start < stop:
            found.append((start, stop))
        return found

    def _cut_at(self, slot: Slot) -> None:
        if slot in self._runs:
            return
        index = bisect_right(self._starts, slot) - 1
        if index < 0:
            return
        run = self._runs[self._starts[index]]
        if slot < run.slot + run.count:
            below, above = run.cut(slot)
            self._runs[run.slot] = below  # type: ignore[assignment]  # cut() returns two of the same kind
            self._runs[slot] = above  # type: ignore[assignment]
            self._starts.insert(index + 1, slot)


class Ranges:
    """A set of slots, kept as disjoint ranges [start, stop) that do not touch."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[Slot] = []
        self._stops: list[Slot] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __contains__(self, slot: Slot) -> bool:
        index = bisect_right(self._starts, slot) - 1
        return index >= 0 and slot < self._stops[index]

    def __iter__(self) -> Iterator[tuple[Slot, Slot]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    @property
    def last(self) -> Slot:
        """The highest slot; -1 when empty."""
        return self._stops[-1] - 1 if self._stops else -1

    def add(self, start: Slot, stop: Slot) -> None:
        """Add [start, stop)."""
        if self._stops and start == self._stops[-1]:
            self._stops[-1] = stop
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def remove(self, start: Slot, stop: Slot) -> None:
        """Take [start, stop) out."""
        kept = [part for a, b in self for part in ((a, min(b, start)), (max(a, stop), b)) if part[0] < part[1]]
        self._starts = [a for a, _ in kept]
        self._stops = [b for _, b in kept]

    def overlaps(self, start: Slot, stop: Slot) -> bool:
        """Whether any slot of [start, stop) is in the set."""
        index = bisect_right(self._stops, start)
        return index < len(self._starts) and self._starts[index] < stop

    def missing(self, start: Slot, stop: Slot) -> list[tuple[Slot, Slot]]:
        """The parts of [start, stop) that are not in the set."""
        found: list[tuple[Slot, Slot]] = []
        index = bisect_right(self._stops, start)
        while start < stop and index < len(self._starts) and self._starts[index] < stop:
            if start < self._starts[index]:
                found.append((start, self._starts[index]))
            start = self._stops[index]
            index += 1
        if start < stop:
            found.append((start, stop))
        return found
