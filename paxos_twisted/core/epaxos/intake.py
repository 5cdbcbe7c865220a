"""Which commands begin now, and which wait: the bounds on open instances. [protocol-rules 75]

With steady load on one key, instances depend on each other in ever longer chains and components, and nothing ever runs
(EPaxos Revisited, section 4). So a replica has at most a few open instances of its own that write a key: what comes
meanwhile waits and goes together in the next one. A chain then holds at most that many instances of each replica,
however high the load, and batches grow instead.

    add ──> ready ──> take ──> an instance                       on_executed
                        │  a key is full                             │
                        └──────────> waits at that key <─────────────┘ back to ready, in the order in which they came
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from paxos_twisted.core.command import NOOP, split_run
from paxos_twisted.core.engine import Batch
from paxos_twisted.core.epaxos.interference import NOTHING, Access, Footprints, Key, joined
from paxos_twisted.limits import EPAXOS_OPEN_MAX, EPAXOS_OPEN_PER_KEY, RUN_BYTES_MAX, WINDOW_BYTES_MAX

_ALL: Key = ()
"""Stands for the key of commands that touch everything."""


class Entry(NamedTuple):
    """One command that waits, with the no-ops behind it: a series and its slots stay together. An instance of nothing
    but no-ops would look like what a recovery decides when it finds no commands."""

    raw: bytes
    access: Access
    slots: int = 1
    """The command and its no-ops."""


class Intake:
    """Commands on their way into instances of this replica."""

    def __init__(self, footprints: Footprints) -> None:
        self._footprints = footprints
        self._ready: deque[tuple[Batch, list[Access]]] = deque()
        self._parked: dict[Key, list[Entry]] = {}
        # A client's later commands do not overtake its earlier ones: key of the client -> (where they wait, how many).
        self._clients: dict[Key, tuple[Key, int]] = {}
        self._open: dict[Key, int] = {}
        self._open_instances = 0
        self._open_bytes = 0
        self.waiting = 0
        """Commands that are ready or parked."""
        self.is_strict = False
        """Something has waited for long to be executed: begin nothing that meets an open instance of ours."""

    @property
    def parked(self) -> int:
        """Commands that wait at a key."""
        return sum(entry.slots for entries in self._parked.values() for entry in entries)

    def add(self, batch: Batch) -> None:
        """Take commands.

        Raises:
            msgspec.DecodeError: they are no commands of the application.
        """
        self._ready.append((batch, self._footprints(batch.body, batch.count)))
        self.waiting += batch.count

    def add_first(self, batch: Batch) -> None:
        """The same, before all that waits: these commands have been proposed once already."""
        self._ready.appendleft((batch, self._footprints(batch.body, batch.count)))
        self.waiting += batch.count

    def take(self) -> tuple[Batch, Access] | None:
        """The commands of the next instance, and what they touch; None when there are none, or must not be more."""
        while self._ready and self._open_instances < EPAXOS_OPEN_MAX and self._open_bytes < WINDOW_BYTES_MAX:
            batches, accesses = self._next_batches()
            batch = batches[0] if len(batches) == 1 else _concatenated(batches)
            access = joined(accesses)
            if not self._clients and not self._is_full(access):
                self.waiting -= batch.count
                return batch, access
            taken = self._without_the_held(batch, accesses)
            if taken is not None:
                self.waiting -= taken[0].count
                return taken
        return None

    def begun(self, batch: Batch, access: Access) -> None:
        """An instance was begun."""
        for key in _keys_of(access):
            self._open[key] = self._open.get(key, 0) + 1
        self._open_instances += 1
        self._open_bytes += len(batch.body)

    def on_executed(self, body: bytes, access: Access) -> None:
        """An instance that was begun is executed, or has become a no-op: there is room at its keys."""
        limit = self._limit
        freed: list[Key] = []
        for key in _keys_of(access):
            left = self._open[key] - 1
            if left:
                self._open[key] = left
            else:
                del self._open[key]
            if left < limit and key in self._parked:
                freed.append(key)
        self._open_instances -= 1
        self._open_bytes -= len(body)
        for key in sorted(freed, key=str):
            self._release(key)

    def set_strict(self, is_strict: bool) -> None:
        """Begin less, or as usual."""
        if is_strict == self.is_strict:
            return
        self.is_strict = is_strict
        if not is_strict:
            for key in list(self._parked):
                self._release(key)

    def return_all(self) -> list[Batch]:
        """Hand back everything that was not begun."""
        batches = [batch for batch, _ in self._ready]
        batches += [_batch(entries) for entries in self._parked.values()]
        self._ready.clear()
        self._parked.clear()
        self._clients.clear()
        self.waiting = 0
        return batches

    @property
    def _limit(self) -> int:
        return 1 if self.is_strict else EPAXOS_OPEN_PER_KEY

    def _is_full(self, access: Access) -> bool:
        limit, opened = self._limit, self._open
        return any(opened.get(key, 0) >= limit for key in _keys_of(access))

    def _next_batches(self) -> tuple[list[Batch], list[Access]]:
        """What is ready, as much as one instance may hold."""
        batches: list[Batch] = []
        accesses: list[Access] = []
        size = 0
        while self._ready and (not batches or size + len(self._ready[0][0].body) <= RUN_BYTES_MAX):
            batch, touched = self._ready.popleft()
            batches.append(batch)
            accesses += touched
            size += len(batch.body)
        return batches, accesses

    def _without_the_held(self, batch: Batch, accesses: list[Access]) -> tuple[Batch, Access] | None:
        """Park the commands that must wait; return the others, if any."""
        limit, opened = self._limit, self._open
        free: list[Entry] = []
        for entry in _entries(batch, accesses):
            access = entry.access
            place = next((self._clients[key][0] for key in access.writes if key in self._clients), None)
            if place is None:
                full = (key for key in _keys_of(access) if opened.get(key, 0) >= limit)
                place = min(full, key=str, default=None)  # not the first: sets of strings have no order of their own
            if place is None:
                free.append(entry)
            else:
                self._park(place, entry)
        if not free:
            return None
        return _batch(free), joined([entry.access for entry in free])

    def _park(self, place: Key, entry: Entry) -> None:
        self._parked.setdefault(place, []).append(entry)
        for key in entry.access.writes:
            if isinstance(key, tuple):
                where, count = self._clients.get(key, (place, 0))
                self._clients[key] = (where, count + 1)

    def _release(self, place: Key) -> None:
        entries = self._parked.pop(place)
        for entry in entries:
            for key in entry.access.writes:
                if isinstance(key, tuple):
                    where, count = self._clients[key]
                    if count == 1:
                        del self._clients[key]
                    else:
                        self._clients[key] = (where, count - 1)
        accesses = [access for entry in entries for access in (entry.access, *[NOTHING] * (entry.slots - 1))]
        self._ready.appendleft((_batch(entries), accesses))


def _keys_of(access: Access) -> list[Key]:
    """The keys at which an instance is counted: those that it writes. Reads depend on nothing but writes, and the order
    of one client binds one column only, so neither makes a chain longer than the writes in it."""
    keys = [key for key in access.writes if not isinstance(key, tuple)]
    if access.writes_all:
        keys.append(_ALL)
    return keys


def _entries(batch: Batch, accesses: list[Access]) -> Iterator[Entry]:
    commands = split_run(batch.body, batch.count)
    first = 0
    for end in range(1, batch.count + 1):
        if end == batch.count or commands[end] != NOOP:
            yield Entry(b"".join(commands[first:end]), accesses[first], end - first)
            first = end


def _batch(entries: list[Entry]) -> Batch:
    return Batch(b"".join(entry.raw for entry in entries), sum(entry.slots for entry in entries))


def _concatenated(batches: list[Batch]) -> Batch:
    return Batch(b"".join(batch.body for batch in batches), sum(batch.count for batch in batches))
