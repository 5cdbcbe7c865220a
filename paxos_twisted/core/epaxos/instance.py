"""One replica's knowledge of the instances: a grid of columns, one column a replica. [EP 4.1; protocol-rules 57]"""

from collections.abc import Iterator
from typing import Final

from paxos_twisted.core.command import NOOP
from paxos_twisted.core.epaxos.interference import NOTHING, Access
from paxos_twisted.core.epaxos.messages import COMMITTED, NONE, Deps
from paxos_twisted.types import NO_SLOT, Slot

InstanceId = tuple[int, Slot]
"""(replica, slot): a cell of the grid."""

NO_BODY: Final = b""


class Instance:
    """What this replica knows of one instance. The owner starts it in ballot 0."""

    __slots__ = (
        "access",
        "bal",
        "blocked_on",
        "body",
        "commit_ms",
        "count",
        "deps",
        "init_deps",
        "init_seq",
        "is_body_written",
        "is_deciding",
        "is_noop",
        "known_ms",
        "replica",
        "seq",
        "slot",
        "status",
        "vbal",
        "written_at",
    )  # fmt: skip

    def __init__(self, replica: int, slot: Slot) -> None:
        self.replica = replica
        self.slot = slot
        self.status = NONE
        """none < preaccepted < accepted < committed < executed; never falls."""
        self.bal = 0
        """The highest ballot joined; never falls. It says nothing about values …"""
        self.vbal = 0
        """… for this is the ballot in which (body, deps, seq) was accepted. [Sutra 2020; rule 79]"""
        self.body = NO_BODY
        """The commands of the owner, also when a no-op has taken their place; empty: they are not known here."""
        self.count = 0
        self.is_noop = False
        """What was accepted, or is committed, is a no-op in place of the commands."""
        self.deps: Deps = ()
        self.seq = 0
        self.init_deps: Deps | None = None
        """What the owner had sent, or a recovery has validated; None: not known here."""
        self.init_seq = 0
        self.access: Access = NOTHING
        """What the commands touch."""
        self.blocked_on: InstanceId | None = None
        """Committed, but some dependency of a dependency … is this instance, which is not."""
        self.known_ms = 0
        """Engine time at which it was first heard of, also as somebody's dependency."""
        self.commit_ms = 0
        self.is_deciding = False
        """Our own instance has its fast quorum, and the record of that is on its way to the disk. Until it is there we
        say nothing about the instance: a restart must not make us say that it was not committed."""
        self.is_body_written = False
        """The commands stand in a record."""
        self.written_at: Slot | None = None
        """How far this replica had executed when it first wrote of this instance; None: nothing is written."""

    @property
    def id(self) -> InstanceId:
        """Its cell."""
        return self.replica, self.slot

    @property
    def value(self) -> tuple[bytes, int]:
        """What is accepted or committed: body and count."""
        return (NOOP, 1) if self.is_noop else (self.body, self.count)

    @property
    def is_committed(self) -> bool:
        """Committed, or executed already."""
        return self.status >= COMMITTED

    def __repr__(self) -> str:
        return (
            f"<{self.replica}.{self.slot} status {self.status} bal {self.bal} vbal {self.vbal} deps {self.deps} "
            f"seq {self.seq} {self.count} commands>"
        )


class Column:
    """The instances of one owner."""

    __slots__ = ("above", "cells", "executed", "top")

    def __init__(self) -> None:
        self.cells: dict[Slot, Instance] = {}
        """What is known. Of executed instances those that a durable snapshot covers are forgotten some day."""
        self.top: Slot = NO_SLOT
        """The highest slot that anybody here has heard of, also as a dependency."""
        self.executed: Slot = NO_SLOT
        """Every slot up to here is executed; never goes down."""
        self.above: set[Slot] = set()
        """Executed slots above a hole: what interferes with nothing does not wait for it."""

    def is_executed(self, slot: Slot) -> bool:
        """Whether the effect of a slot is in the state."""
        return slot <= self.executed or slot in self.above

    def mark_executed(self, slot: Slot) -> None:
        """The effect of a slot is in the state now."""
        if slot != self.executed + 1:
            self.above.add(slot)
            return
        self.executed = slot
        while self.executed + 1 in self.above:
            self.executed += 1
            self.above.discard(self.executed)

    def is_forgotten(self, slot: Slot) -> bool:
        """Whether all that is known of a slot is that it is executed."""
        return self.is_executed(slot) and slot not in self.cells

    @property
    def highest_executed(self) -> Slot:
        """The highest slot whose effect is in the state, holes below it or not."""
        return max(self.above, default=self.executed)


class Grid:
    """All columns.

    Args:
        n: number of replicas.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.columns = [Column() for _ in range(n)]

    def get(self, replica: int, slot: Slot) -> Instance | None:
        """The instance, if anything is known of it and it is not forgotten."""
        return self.columns[replica].cells.get(slot)

    def at(self, replica: int, slot: Slot, now_ms: int) -> Instance:
        """The instance; a new one when it was not known. The slot must not be a forgotten one."""
        column = self.columns[replica]
        instance = column.cells.get(slot)
        if instance is None:
            assert not column.is_executed(slot), f"instance {replica}.{slot} is forgotten"
            instance = column.cells[slot] = Instance(replica, slot)
            instance.known_ms = now_ms
            column.top = max(column.top, slot)
        return instance

    def is_executed(self, replica: int, slot: Slot) -> bool:
        """Whether the effect of the instance is in the state."""
        return self.columns[replica].is_executed(slot)

    def is_committed(self, replica: int, slot: Slot) -> bool:
        """Whether the instance is decided, as far as this replica knows."""
        column = self.columns[replica]
        if column.is_executed(slot):
            return True
        instance = column.cells.get(slot)
        return instance is not None and instance.status >= COMMITTED

    @property
    def executed(self) -> Deps:
        """Per column: everything up to here is executed."""
        return tuple(column.executed for column in self.columns)

    @property
    def highest(self) -> Deps:
        """Per column: the highest slot heard of."""
        return tuple(column.top for column in self.columns)

    def __iter__(self) -> Iterator[Instance]:
        """All instances that are kept, column by column, by slot."""
        for column in self.columns:
            for slot in sorted(column.cells):
                yield column.cells[slot]

    def __len__(self) -> int:
        """Number of instances that are kept."""
        return sum(len(column.cells) for column in self.columns)


def covers(deps: Deps, replica: int, slot: Slot) -> bool:
    """Whether an instance is among these dependencies: a vector means all slots up to its numbers. [rule 61]"""
    return slot <= deps[replica]
