"""The conflict index: which known instances a new one depends on, in a time that does not grow with the log.

Per key and column it keeps the newest slot that reads and the newest that writes. As dependencies are vectors ("all of
that column up to here"), no older one is ever needed. Beside them stand the newest *executed* ones: a recovery asks
whether anything that interferes was executed without the instance in question, also when the log no longer holds it.

What may be forgotten, and when? Four vectors, each the least of all replicas' values of the one above it, as heard:

    executed   what a replica has executed                                          (in the log)
    settled    executed at all: what this replica begins depends on it at least     -> a new instance never has less
    promised   settled at all, and below what every open instance here was begun with: this replica votes for nothing
               less unchanged any more; durable before it is told
    floor      promised by all: keys whose newest instances lie below are dropped

1. Say an instance was begun with dependencies below our floor, and took the fast path.
2. Each replica of its fast quorum voted for it unchanged: before its promise, which covers more.
3. At the promise it was executed at all (else the promise would have been lower), so here too.
4. So whoever asks about an instance with less than our floor that is not executed here may be told: it did not take the
   fast path, and something that interferes may have been executed without it.
"""

# ruff: noqa: PLR1730 - the comparisons run once a command: max() would make each several times as slow

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from paxos_twisted.core.epaxos.interference import Access, Key
from paxos_twisted.core.epaxos.messages import Deps
from paxos_twisted.types import NO_SLOT, Slot


class ConflictIndex:
    """The newest instances per key and column.

    Args:
        n: number of columns.
    """

    __slots__ = (
        "_all_reads",
        "_all_writes",
        "_keys",
        "_n",
        "_some_writes",
        "_sweep",
        "_top",
        "blind",
        "floor",
        "promised",
        "settled",
    )

    def __init__(self, n: int) -> None:
        self._n = n
        # Four groups of n slots: newest readers, newest writers, newest executed readers, newest executed writers.
        # Behind them the highest seq of readers and of writers.
        self._keys: dict[Key, list[int]] = {}
        # n slots, n executed slots, highest seq; of instances that …
        self._all_reads = _vector(n)  # … read every key
        self._all_writes = _vector(n)  # … interfere with everything
        self._some_writes = _vector(n)  # … write any key
        self._top = _vector(n)  # … do anything
        self._sweep: Iterator[Key] = iter(())
        self.settled: list[int] = [NO_SLOT] * n
        """New instances of this replica depend at least on this, and the seq of these instances no longer counts."""
        self.promised: list[int] = [NO_SLOT] * n
        """This replica votes for nothing with less unchanged."""
        self.floor: list[int] = [NO_SLOT] * n
        """Keys whose instances all lie at or below it are dropped. None of these vectors ever goes down."""
        self.blind: list[int] = [NO_SLOT] * n
        """Up to here keys were dropped because there were too many: about these instances nothing can be told."""

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._keys)

    def add(self, replica: int, slot: Slot, seq: int, access: Access) -> None:
        """An instance is known, or its seq has grown. Adding it again is harmless; nothing is taken back."""
        n = self._n
        for vector in self._vectors_of(access):
            if slot > vector[replica]:
                vector[replica] = slot
            if seq > vector[-1]:
                vector[-1] = seq
        keys = self._keys
        for place, last, touched in ((replica, 4 * n, access.reads), (n + replica, 4 * n + 1, access.writes)):
            for key in touched:
                entry = keys.get(key)
                if entry is None:
                    entry = keys[key] = [NO_SLOT] * (4 * n) + [0, 0]
                if slot > entry[place]:
                    entry[place] = slot
                if seq > entry[last]:
                    entry[last] = seq

    def on_executed(self, replica: int, slot: Slot, access: Access) -> None:
        """An instance that was added is executed here."""
        n, keys = self._n, self._keys
        for vector in self._vectors_of(access):
            if slot > vector[n + replica]:
                vector[n + replica] = slot
        for place, touched in ((2 * n + replica, access.reads), (3 * n + replica, access.writes)):
            for key in touched:
                entry = keys.get(key)
                if entry is not None and slot > entry[place]:
                    entry[place] = slot

    def attributes(self, replica: int, access: Access, deps: Deps, seq: int) -> tuple[Deps, int]:
        """Return the `deps` and `seq` that an owner sent, raised by what interferes with its instance here.

        The own column is left to the owner, who knows all its earlier instances: what it sends covers those, and its
        later instances cover this one.
        """
        if access.is_nothing:
            return deps, seq
        found = list(deps)
        _merge(found, self.promised)
        highest = self._interfering(access, found)
        found[replica] = deps[replica]
        return tuple(found), max(seq, highest + 1)

    def first_attributes(self, replica: int, slot: Slot, access: Access) -> tuple[Deps, int]:
        """Return the deps and seq that the owner gives its new instance (replica, slot)."""
        found = list(self.settled)
        highest = 0 if access.is_nothing else self._interfering(access, found)
        found[replica] = min(found[replica], slot - 1)
        return tuple(found), highest + 1

    def newest(self, access: Access) -> list[int]:
        """Per column the newest slot that is known to interfere."""
        found = [NO_SLOT] * self._n
        self._interfering(access, found)
        return found

    def newest_executed(self, access: Access) -> list[int]:
        """Per column the newest slot that interferes and is executed here."""
        n, keys = self._n, self._keys
        found = [NO_SLOT] * n
        for vector in self._vectors_against(access):
            _merge(found, vector[n : 2 * n])
        for key in access.keys:
            entry = keys.get(key)
            if entry is not None:
                _merge(found, entry[3 * n : 4 * n])
                if key in access.writes:
                    _merge(found, entry[2 * n : 3 * n])
        return found

    def _interfering(self, access: Access, found: list[int]) -> int:
        """Raise `found` by what interferes with `access`; return the highest seq of all that does."""
        n, keys = self._n, self._keys
        highest = 0
        for vector in self._vectors_against(access):
            _merge(found, vector)
            if vector[-1] > highest and self._is_open(vector):
                highest = vector[-1]
        columns = range(n)
        for key in access.reads:
            entry = keys.get(key)
            if entry is not None:
                for column in columns:
                    slot = entry[n + column]
                    if slot > found[column]:
                        found[column] = slot
                if entry[-1] > highest and self._is_open(entry[n:]):
                    highest = entry[-1]
        for key in access.writes:
            entry = keys.get(key)
            if entry is not None:
                for column in columns:
                    slot = entry[n + column]
                    if slot > found[column]:
                        found[column] = slot
                    slot = entry[column]
                    if slot > found[column]:
                        found[column] = slot
                if entry[-1] > highest and self._is_open(entry[n:]):
                    highest = entry[-1]
                if entry[-2] > highest and self._is_open(entry):
                    highest = entry[-2]
        return highest

    def _vectors_of(self, access: Access) -> list[list[int]]:
        """Where an instance counts besides at its keys."""
        if access.is_nothing:
            return []
        vectors = [self._top]
        if access.writes_all:
            vectors.append(self._all_writes)
        if access.reads_all:
            vectors.append(self._all_reads)
        if access.writes_some:
            vectors.append(self._some_writes)
        return vectors

    def _vectors_against(self, access: Access) -> list[list[int]]:
        """What else interferes with it, besides the instances at its keys."""
        if access.is_nothing:
            return []
        if access.writes_all:
            return [self._top]
        vectors = [self._all_writes]
        if access.reads_all:
            vectors.append(self._some_writes)
        if access.writes_some:
            vectors.append(self._all_reads)
        return vectors

    def _is_open(self, slots: Sequence[int]) -> bool:
        """Whether any of these instances can still share a component with a new one: only then its seq counts."""
        return any(slots[column] > settled for column, settled in enumerate(self.settled))

    # What may be forgotten

    def settle(self, settled: Iterable[int]) -> None:
        """All replicas have executed this."""
        _merge(self.settled, settled)

    def promise(self, promised: Iterable[int]) -> None:
        """Vote for nothing with less from now on. It must be durable before anybody is told."""
        _merge(self.promised, promised)
        self.settle(self.promised)

    def lower(self, floor: Iterable[int]) -> None:
        """All replicas have promised this: `sweep` may drop what lies at or below."""
        _merge(self.floor, floor)
        self.promise(self.floor)

    def drop_all(self, executed: Sequence[int]) -> None:
        """There are too many keys: forget those with nothing beyond what is executed, and know that we did."""
        _merge(self.blind, executed)
        self.promise(executed)
        self._drop(list(self._keys), executed)

    def sweep(self, keys_max: int) -> None:
        """Look at up to `keys_max` further keys, and drop those that lie below the floor."""
        looked_at: list[Key] = []
        for key in self._sweep:
            looked_at.append(key)
            if len(looked_at) == keys_max:
                break
        else:
            self._sweep = iter(list(self._keys))
        self._drop(looked_at, self.floor)

    def _drop(self, keys: Iterable[Key], below: Sequence[int]) -> None:
        n = self._n
        for key in keys:
            entry = self._keys.get(key)
            if entry is not None and all(
                entry[column] <= below[column] and entry[n + column] <= below[column] for column in range(n)
            ):
                del self._keys[key]

    # Snapshots

    def saved(self) -> "SavedIndex":
        """Everything, for a snapshot."""
        vectors = (self._all_reads, self._all_writes, self._some_writes, self._top)
        return SavedIndex(
            tuple((key, tuple(self._keys[key])) for key in sorted(self._keys, key=_by_type)),
            tuple(map(tuple, vectors)),
            tuple(self.promised),
            tuple(self.floor),
            tuple(self.blind),
        )

    def merge(self, saved: "SavedIndex") -> None:
        """Take over what a snapshot knew."""
        for vector, old in zip(
            (self._all_reads, self._all_writes, self._some_writes, self._top), saved.vectors, strict=True
        ):
            _merge_all(vector, old)
        for name, old in saved.keys:
            key = tuple(name) if isinstance(name, list) else name  # a client's key is a tuple
            entry = self._keys.get(key)
            if entry is None:
                self._keys[key] = list(old)
            else:
                _merge_all(entry, old)
        _merge(self.blind, saved.blind)
        _merge(self.floor, saved.floor)
        self.promise(saved.promised)
        self.promise(self.blind)


class SavedIndex(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A conflict index, in a snapshot."""

    keys: tuple[tuple[Any, tuple[int, ...]], ...]
    vectors: tuple[tuple[int, ...], ...]
    promised: tuple[int, ...]
    floor: tuple[int, ...]
    blind: tuple[int, ...]


def _by_type(key: Key) -> tuple[str, Key]:
    """An order of all keys, of clients and of applications, that does not depend on how sets of strings are hashed."""
    return type(key).__name__, key


def _vector(n: int) -> list[int]:
    return [NO_SLOT] * (2 * n) + [0]


def _merge(found: list[int], vector: Iterable[int]) -> None:
    """Raise the slots of `found`; `vector` may be longer."""
    for column, slot in zip(range(len(found)), vector, strict=False):
        if slot > found[column]:
            found[column] = slot


def _merge_all(entry: list[int], old: Sequence[int]) -> None:
    for index, value in enumerate(old):
        if value > entry[index]:
            entry[index] = value
