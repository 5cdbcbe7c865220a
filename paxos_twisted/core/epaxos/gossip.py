"""What the replicas tell each other in heartbeats, and what follows for the conflict index.
[protocol-rules 76; `paxos_twisted.core.epaxos.conflicts` has the argument]"""

from collections.abc import Mapping, Sequence

from paxos_twisted.core.epaxos.conflicts import ConflictIndex
from paxos_twisted.core.epaxos.instance import Grid
from paxos_twisted.core.epaxos.messages import Deps, Heartbeat
from paxos_twisted.types import NO_SLOT, NodeId


class Gossip:
    """The newest vectors of all replicas.

    Args:
        others: all other nodes.
        grid, index: those of this replica.
    """

    def __init__(self, others: Sequence[NodeId], grid: Grid, index: ConflictIndex) -> None:
        self.grid = grid
        self.index = index
        nothing: Deps = (NO_SLOT,) * grid.n
        self.executed: dict[NodeId, Deps] = dict.fromkeys(others, nothing)
        """What each other replica has executed, durably; never goes down."""
        self._settled: dict[NodeId, Deps] = dict.fromkeys(others, nothing)
        self._promised: dict[NodeId, Deps] = dict.fromkeys(others, nothing)
        self.own_executed: Deps = grid.executed
        """What this replica may say that it has executed: the decisions that led to it are on its disk, so a restart
        executes them again before it answers anybody."""
        self.own_promised: Deps = tuple(index.promised)
        """The promise that is durable."""
        self._pending_executed: tuple[int, Deps] | None = None
        self._pending_promised: tuple[int, Deps] | None = None

    def hear(self, heartbeat: Heartbeat) -> None:
        """Another replica has spoken."""
        for known, heard in (
            (self.executed, heartbeat.executed),
            (self._settled, heartbeat.settled),
            (self._promised, heartbeat.promised),
        ):
            known[heartbeat.sender] = tuple(map(max, known[heartbeat.sender], heard))
        for column, highest in zip(self.grid.columns, heartbeat.highest, strict=True):
            column.top = max(column.top, highest)

    def note_durable(self, persisted: int, gate: int) -> None:
        """What has reached the disk may be told. `gate`: the write that holds what there is now."""
        if self._pending_promised is not None and self._pending_promised[0] <= persisted:
            self.own_promised = self._pending_promised[1]
            self._pending_promised = None
        if self._pending_executed is not None and self._pending_executed[0] <= persisted:
            self.own_executed = self._pending_executed[1]
            self._pending_executed = None
        if self._pending_executed is None and self.grid.executed != self.own_executed:
            self._pending_executed = gate, self.grid.executed

    def next_promise(self) -> Deps | None:
        """Settle what all have executed. Returns what this replica may promise beyond what it has; None: nothing."""
        index = self.index
        index.settle(_least(self.executed, self.own_executed))
        goal = _least(self._settled, tuple(index.settled))
        if self._pending_promised is not None or all(
            wanted <= promised for wanted, promised in zip(goal, index.promised, strict=True)
        ):
            return None
        # Instances that may not be executed everywhere: whoever votes for them unchanged must not have promised more.
        limit = list(goal)
        for column, settled in zip(self.grid.columns, _least(self.executed, self.own_executed), strict=True):
            for slot in range(settled + 1, column.top + 1):
                instance = column.cells.get(slot)
                if instance is not None and instance.init_deps is not None:
                    limit = list(map(min, limit, instance.init_deps))
        promise = tuple(map(max, limit, index.promised))
        return None if promise == tuple(index.promised) else promise

    def vow(self, promise: Deps, gate: int) -> None:
        """The promise counts from now on, and may be told once write `gate` is durable."""
        self.index.promise(promise)
        self._pending_promised = gate, promise

    def lower(self) -> None:
        """Let the index forget what all have promised, as far as it is executed here for good."""
        least = _least(self._promised, self.own_promised)
        self.index.lower(map(min, least, self.own_executed))

    def lag(self, connected: frozenset[NodeId]) -> int:
        """How many instances this replica is behind the connected ones."""
        highest = list(self.grid.executed)
        for node in sorted(connected & self.executed.keys()):
            highest = list(map(max, highest, self.executed[node]))
        return sum(highest) - sum(self.grid.executed)

    def who_has(self, replica: int, slot: int, connected: frozenset[NodeId]) -> NodeId | None:
        """A connected replica that has executed an instance; the one that is furthest in its column."""
        able = [node for node, executed in self.executed.items() if node in connected and executed[replica] >= slot]
        return max(able, key=lambda node: (self.executed[node][replica], node), default=None)


def _least(heard: Mapping[NodeId, Deps], own: Deps) -> Deps:
    least = own
    for vector in heard.values():
        least = tuple(map(min, least, vector))
    return least
