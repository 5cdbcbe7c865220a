"""What one node holds of the log: commands in slots, each from the primary of one epoch, and what is committed."""

from collections.abc import Iterator

import msgspec

from paxos_twisted.core.command import cut_run, slice_run
from paxos_twisted.core.engine import DecidedRun
from paxos_twisted.core.primary_backup.view import Epoch
from paxos_twisted.core.runs import Ranges, RunMap
from paxos_twisted.limits import RUN_BYTES_MAX
from paxos_twisted.types import NO_SLOT, Slot


class Entry(msgspec.Struct, frozen=True, gc=False):
    """The commands of the slots `slot` … `slot + count - 1`, as the primary of `epoch` gave them."""

    slot: Slot
    epoch: Epoch
    body: bytes
    count: int

    @property
    def stop(self) -> Slot:
        """The slot after the last one."""
        return self.slot + self.count

    def cut(self, at: Slot) -> "tuple[Entry, Entry]":
        """The parts below slot `at` and from it on."""
        head = at - self.slot
        below, above = cut_run(self.body, self.count, head)
        return Entry(self.slot, self.epoch, below, head), Entry(at, self.epoch, above, self.count - head)


class HeldLog:
    """The slots from `first` on. Holes can be above `adu` only, where updates have been lost or have come early."""

    def __init__(self) -> None:
        self.entries: RunMap[Entry] = RunMap()
        self.first: Slot = 0
        """Slots below are truncated: a durable snapshot covers them."""
        self.adu: Slot = NO_SLOT
        """Every slot <= adu is committed; never goes down."""
        self.damaged = Ranges()
        """Slots above adu that this node held and cannot read any more: no entry stands there, and until one does, or a
        primary says that they are void, this node may not become primary."""
        self._good: tuple[Epoch, Slot] = (-1, NO_SLOT)

    def put(self, entry: Entry) -> bool:
        """Hold what a primary says. Returns False when that is known already.

        Slots at or below `adu` must have been cut off. In one slot a higher epoch replaces a lower one; a lower one
        never comes later, because a node that has entered an epoch refuses the primaries of those before.
        """
        assert entry.slot > self.adu
        known = self.entries.get(entry.slot)
        if known is not None and known.count == entry.count and known.epoch == entry.epoch:
            assert known.body == entry.body, f"two commands in slot {entry.slot}, epoch {entry.epoch}"
            return False
        if self._covers(entry):
            return False
        self.entries.put(entry)
        if self.damaged:
            self.damaged.remove(entry.slot, entry.stop)
        return True

    def _covers(self, entry: Entry) -> bool:
        """Whether all that is known with this epoch, in other runs."""
        slot = entry.slot
        while slot < entry.stop:
            known = self.entries.at(slot)
            if known is None or known.epoch != entry.epoch:
                return False
            slot = known.stop
        return True

    def void_from(self, slot: Slot) -> None:
        """Nothing above `adu` and from `slot` on counts any more."""
        start = max(slot, self.adu + 1)
        if self.entries.stop > start:
            self.entries.remove(start, self.entries.stop)
        if self.damaged:
            self.damaged.remove(start, max(start, self.damaged.last + 1))
        self._good = (-1, NO_SLOT)

    @property
    def end(self) -> Slot:
        """The last slot that is held without a hole before it, whatever its epoch."""
        slot = self.adu
        while (entry := self.entries.at(slot + 1)) is not None:
            slot = entry.stop - 1
        return slot

    def good(self, epoch: Epoch) -> Slot:
        """The last slot such that it and all below are committed or held from the primary of `epoch`."""
        known_epoch, slot = self._good
        if known_epoch != epoch or slot < self.adu:
            slot = self.adu
        while (entry := self.entries.at(slot + 1)) is not None and entry.epoch == epoch:
            slot = entry.stop - 1
        self._good = (epoch, slot)
        return slot

    def commit(self, slot: Slot) -> list[DecidedRun]:
        """The slots up to `slot`, all held, are committed. Returns those that were not known to be."""
        if slot <= self.adu:
            return []
        runs = [
            DecidedRun(entry.slot, entry.count, entry.body) for entry in self.entries.within(self.adu + 1, slot + 1)
        ]
        assert runs
        assert runs[0].slot == self.adu + 1
        assert runs[-1].slot + runs[-1].count == slot + 1
        self.adu = slot
        if self.damaged:
            self.damaged.remove(0, slot + 1)
        return runs

    def learn(self, slot: Slot, count: int, body: bytes) -> DecidedRun | None:
        """A peer says that these commands are committed. Returns the part that follows `adu`, if any."""
        stop = slot + count
        if slot > self.adu + 1 or stop <= self.adu + 1:
            return None
        at = self.adu + 1 - slot
        run = DecidedRun(self.adu + 1, count - at, slice_run(body, count, at, count - at))
        self.entries.put(Entry(run.slot, 0, run.body, run.count))
        self.adu = stop - 1
        if self.damaged:
            self.damaged.remove(0, stop)
        return run

    def skip_to(self, slot: Slot) -> None:
        """A snapshot covers every slot up to `slot`, which is above `adu`. What is held above it stays."""
        assert slot > self.adu
        self.adu = slot
        self.drop_below(slot + 1)

    def drop_below(self, slot: Slot) -> None:
        """Forget the slots below `slot`: a durable snapshot covers them."""
        self.entries.drop_below(slot)
        self.first = max(self.first, slot)
        if self.damaged:
            self.damaged.remove(0, self.first)

    def between(self, start: Slot, stop: Slot, bytes_max: int) -> Iterator[Entry]:
        """The entries of [start, stop), all held, until they have `bytes_max` bytes or more. Cuts copies only."""
        size = 0
        while start < stop and size < bytes_max:
            entry = self.entries.at(start)
            assert entry is not None
            if entry.slot < start:
                entry = entry.cut(start)[1]
            if entry.stop > stop:
                entry = entry.cut(stop)[0]
            yield entry
            size += len(entry.body)
            start = entry.stop

    def joined(self, start: Slot, stop: Slot, epoch: Epoch) -> Iterator[Entry]:
        """The commands of [start, stop), all held, as few entries of `epoch`."""
        bodies: list[bytes] = []
        size, first = 0, start
        for entry in list(self.between(start, stop, 2**62)):
            if bodies and size + len(entry.body) > RUN_BYTES_MAX:
                yield Entry(first, epoch, b"".join(bodies), entry.slot - first)
                bodies, size, first = [], 0, entry.slot
            bodies.append(entry.body)
            size += len(entry.body)
        if bodies:
            yield Entry(first, epoch, b"".join(bodies), stop - first)

    def check_invariants(self) -> None:
        """What must hold between any two inputs."""
        assert self.first <= self.adu + 1
        assert self.entries.covers(self.first, self.adu + 1)
        assert not self.entries or self.entries.first >= self.first
        assert not self.damaged or next(iter(self.damaged))[0] > self.adu
