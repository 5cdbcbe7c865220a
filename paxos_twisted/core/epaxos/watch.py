"""Which uncommitted instances are overdue, and what to do about each: ask for it, or recover it.
[protocol-rules 69, 72, 76]

Every uncommitted instance that was heard of, also as somebody's dependency or as a hole in a column, keeps others from
running. What some replica has executed is asked for there. What an owner that works is driving is left to it for a
while, then asked for, then recovered. What an owner that is suspected has left is recovered: by the next replica first,
the others a step apart, with jitter, so that they seldom meet.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from paxos_twisted.core.epaxos.gossip import Gossip
from paxos_twisted.core.epaxos.instance import Grid, Instance, InstanceId
from paxos_twisted.core.epaxos.messages import COMMITTED
from paxos_twisted.core.epaxos.settings import Settings
from paxos_twisted.limits import EPAXOS_ASK_RANGES_MAX, EPAXOS_LOOK_AT_MAX
from paxos_twisted.types import NodeId, Slot

STEP_MS = 40
"""Recoveries of one instance by different replicas begin this far apart."""

LOOK_FURTHER = 8
"""In a column, at most this many times EPAXOS_LOOK_AT_MAX slots are looked over."""

PATIENCE_DOUBLED = 3
"""An unanswered question is repeated after the patience, then twice, four and eight times that."""

RECOVER_MAX = 64
"""Recoveries that one look begins."""


class Todo(NamedTuple):
    """What one look at the grid has found."""

    ask: dict[NodeId, list[tuple[int, Slot, Slot]]]
    """node -> ranges (replica, start, stop)."""
    recover: list[Instance]


class Watch:
    """Remembers since when what is overdue.

    Args:
        members: the node of each replica number.
        me: this replica's number.
    """

    def __init__(
        self, grid: Grid, gossip: Gossip, members: tuple[NodeId, ...], me: int, settings: Settings, rng: Random
    ) -> None:
        self.grid = grid
        self.gossip = gossip
        self.members = members
        self.me = me
        self.settings = settings
        self._rng = rng
        self._not_before: dict[InstanceId, int] = {}
        self._suspected_ms: dict[NodeId, int] = {}
        self._asked: dict[InstanceId, tuple[int, int]] = {}  # when it was asked for, and how often

    def on_suspected(self, node: NodeId, now_ms: int) -> None:
        """What `node` has left open is to be recovered."""
        self._suspected_ms[node] = now_ms

    def on_restored(self, node: NodeId) -> None:
        """It is heard again: what is open may only have been slow."""
        self._suspected_ms.pop(node, None)

    def postpone(self, instance: InstanceId, until_ms: int) -> None:
        """Somebody else recovers it, or a recovery of ours has failed: leave it alone until then."""
        self._not_before[instance] = max(self._not_before.get(instance, 0), until_ms)

    def forget(self, instance: InstanceId) -> None:
        """It is committed."""
        self._not_before.pop(instance, None)
        self._asked.pop(instance, None)

    def look(self, now_ms: int, connected: frozenset[NodeId], is_driven: Callable[[InstanceId], bool]) -> Todo:
        """Look at what is not committed. `is_driven`: this replica proposes or recovers the instance already."""
        todo = Todo({}, [])
        for replica, column in enumerate(self.grid.columns):
            looked_at = 0
            stop = min(column.top + 1, column.executed + 1 + LOOK_FURTHER * EPAXOS_LOOK_AT_MAX)
            for slot in range(column.executed + 1, stop):
                instance = column.cells.get(slot)
                if slot in column.above or (instance is not None and instance.status >= COMMITTED):
                    continue
                looked_at += 1
                if looked_at > EPAXOS_LOOK_AT_MAX or len(todo.recover) >= RECOVER_MAX:
                    break
                if instance is None:
                    instance = self.grid.at(replica, slot, now_ms)
                if not is_driven(instance.id):
                    self._judge(instance, now_ms, connected, todo)
        return todo

    def _judge(self, instance: Instance, now_ms: int, connected: frozenset[NodeId], todo: Todo) -> None:
        replica, slot = instance.id
        age = now_ms - instance.known_ms
        knowing = self.gossip.who_has(replica, slot, connected)
        if knowing is not None and age >= self.settings.catch_up_ms:
            self._ask(knowing, instance, now_ms, self.settings.catch_up_ms, todo)
            return
        owner = self.members[replica]
        if now_ms < self._not_before.get(instance.id, 0):
            return
        if replica == self.me:
            todo.recover.append(instance)  # begun before a restart: nobody drives it
        elif owner in self._suspected_ms:
            due = max(instance.known_ms, self._suspected_ms[owner]) + self._rank(replica, connected) * STEP_MS
            if now_ms >= due + self._rng.randrange(STEP_MS // 2):
                todo.recover.append(instance)
        elif age >= 2 * self.settings.recover_ms + self._rank(replica, connected) * STEP_MS:
            todo.recover.append(instance)
        elif age >= self.settings.recover_ms:
            self._ask(owner, instance, now_ms, self.settings.recover_ms // 2, todo)

    def _ask(self, node: NodeId, instance: Instance, now_ms: int, patience_ms: int, todo: Todo) -> None:
        asked_ms, times = self._asked.get(instance.id, (0, 0))
        if times and now_ms - asked_ms < patience_ms << min(times - 1, PATIENCE_DOUBLED):
            return
        ranges = todo.ask.setdefault(node, [])
        replica, slot = instance.id
        if ranges and ranges[-1][0] == replica and ranges[-1][2] == slot:
            ranges[-1] = (replica, ranges[-1][1], slot + 1)
        elif len(ranges) < EPAXOS_ASK_RANGES_MAX:
            ranges.append((replica, slot, slot + 1))
        else:
            return
        self._asked[instance.id] = (now_ms, times + 1)

    def _rank(self, owner: int, connected: frozenset[NodeId]) -> int:
        """How many connected replicas come before this one, counted from the owner on."""
        n = len(self.members)
        between = range(1, (self.me - owner) % n)
        return sum(self.members[(owner + step) % n] in connected for step in between)
