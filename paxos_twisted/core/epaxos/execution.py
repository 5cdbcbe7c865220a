"""In which order committed instances run: strongly connected components of the dependency graph, dependencies first.
[EP 4.3.2; protocol-rules 72, 73]

Inside a component the order is (seq, replica, slot): seq alone has ties. Everything is iterative, because chains of
dependencies grow longer than Python's stack; and incremental, because a log is never scanned: an instance that waits
stands behind the one uncommitted instance that it was found to wait for, and is looked at again when that one commits.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from paxos_twisted.core.epaxos.instance import Grid, Instance, InstanceId
from paxos_twisted.core.epaxos.messages import COMMITTED, EXECUTED
from paxos_twisted.types import Slot


class Executor:
    """Runs what can be run.

    Args:
        grid: the instances.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.waiting: dict[InstanceId, list[Instance]] = {}
        """Uncommitted instance -> committed ones that (indirectly) depend on it."""
        self.since: dict[InstanceId, int] = {}
        """Since when (engine time) somebody waits for an uncommitted instance."""
        self.committed_waiting = 0
        """Committed instances that are not executed."""
        self.sizes: list[int] = []
        """Sizes of the components that were run since somebody emptied this list."""
        self._ready: list[Instance] = []

    def on_committed(self, instance: Instance) -> None:
        """An instance was committed: it, and whoever waited for it, may run."""
        self.committed_waiting += 1
        self._ready.append(instance)
        self._wake(instance.id)

    def _wake(self, blocker: InstanceId) -> None:
        self.since.pop(blocker, None)
        for waiter in self.waiting.pop(blocker, ()):
            waiter.blocked_on = None
            if waiter.status == COMMITTED:
                self._ready.append(waiter)

    def forget_all(self) -> None:
        """A snapshot has replaced the state: whoever waits is looked at again."""
        for blocker in list(self.waiting):
            self._wake(blocker)
        self.since.clear()
        self._ready = [instance for instance in self.grid if instance.status == COMMITTED]
        self.committed_waiting = len(self._ready)

    def run(self, now_ms: int) -> list[Instance]:
        """Return what runs now, in order, marked as executed."""
        done: list[Instance] = []
        ready, self._ready = self._ready, []
        # Of several that are independent: the smallest (seq, replica, slot) first, the same on every replica as far as
        # it sees them together. [rule 73]
        ready.sort(key=_order)
        for root in ready:
            if root.status == COMMITTED and root.blocked_on is None:
                self._explore(root, done, now_ms)
        return done

    def _explore(self, root: Instance, done: list[Instance], now_ms: int) -> None:
        """Tarjan's algorithm from `root`. A component is run as soon as it is found: all it depends on has run. When an
        uncommitted instance comes in sight, everything still on the stack depends on it."""
        index: dict[InstanceId, int] = {root.id: 0}
        low: dict[InstanceId, int] = {root.id: 0}
        stack: list[Instance] = [root]
        on_stack: set[InstanceId] = {root.id}
        path: list[tuple[Instance, Iterator[InstanceId]]] = [(root, self._open_deps(root))]
        while path:
            instance, deps = path[-1]
            here = instance.id
            for there in deps:
                if there in index:
                    if there in on_stack:
                        low[here] = min(low[here], index[there])
                    continue
                if self.grid.is_executed(*there):
                    continue
                other = self.grid.get(*there)
                if other is None or other.status < COMMITTED or other.blocked_on is not None:
                    blocker = there if other is None or other.blocked_on is None else other.blocked_on
                    self._block(stack, blocker, now_ms)
                    return
                index[there] = low[there] = len(index)
                stack.append(other)
                on_stack.add(there)
                path.append((other, self._open_deps(other)))
                break
            else:
                path.pop()
                if path:
                    above = path[-1][0].id
                    low[above] = min(low[above], low[here])
                if low[here] == index[here]:
                    self._run_component(_pop_component(stack, on_stack, instance), done)

    def _open_deps(self, instance: Instance) -> Iterator[InstanceId]:
        """The unexecuted instances among its dependencies, lowest slots first: what blocks is found soonest there."""
        for replica, last in enumerate(instance.deps):
            column = self.grid.columns[replica]
            slot = column.executed + 1
            while slot <= last:
                if slot not in column.above and (slot != instance.slot or replica != instance.replica):
                    yield replica, slot
                slot = max(slot, column.executed) + 1

    def _block(self, stack: list[Instance], blocker: InstanceId, now_ms: int) -> None:
        waiters = self.waiting.setdefault(blocker, [])
        self.since.setdefault(blocker, now_ms)
        for instance in stack:
            instance.blocked_on = blocker
            waiters.append(instance)

    def _run_component(self, component: list[Instance], done: list[Instance]) -> None:
        if len(component) > 1:
            component.sort(key=_order)
        self.sizes.append(len(component))
        self.committed_waiting -= len(component)
        for instance in component:
            instance.status = EXECUTED
            self.grid.columns[instance.replica].mark_executed(instance.slot)
            done.append(instance)


def _pop_component(stack: list[Instance], on_stack: set[InstanceId], root: Instance) -> list[Instance]:
    component: list[Instance] = []
    while True:
        instance = stack.pop()
        on_stack.discard(instance.id)
        component.append(instance)
        if instance is root:
            return component


def _order(instance: Instance) -> tuple[int, int, Slot]:
    return instance.seq, instance.replica, instance.slot


# The same as a function of plain values


def execution_order(
    n: int, instances: Mapping[InstanceId, tuple[int, Any]], *, executed: Collection[InstanceId] = ()
) -> list[InstanceId]:
    """Return the instances that can be run, in the order in which a replica runs them.

    Args:
        n: number of replicas; columns are 0 … n - 1, slots count from 0.
        instances: committed instances: (replica, slot) -> (seq, deps). `deps` is either a vector of `n` numbers, where
            deps[q] = i stands for all instances (q, 0) … (q, i) and -1 for none; or a set, list or other collection of
            (replica, slot) pairs, which stand for themselves alone.
        executed: instances that have run already; they are not returned, and nobody waits for them.

    An instance runs when everything that it depends on, directly or not, is committed (or executed). What depends on an
    instance that is not known stays out. Of a strongly connected component the lowest (seq, replica, slot) runs first;
    of independent ones, those of the lowest (seq, replica, slot) first as far as dependencies allow.

    Raises:
        ValueError: a dependency names a replica that does not exist, or a vector has not `n` numbers.
    """
    past = set(executed)
    edges = {here: _explicit(n, here, deps) - past for here, (_, deps) in instances.items() if here not in past}
    runnable = _closed(edges)
    order: list[InstanceId] = []
    placed: set[InstanceId] = set()

    def rank(here: InstanceId) -> tuple[int, int, Slot]:
        return instances[here][0], *here

    def place(component: list[InstanceId]) -> None:
        component.sort(key=rank)
        order.extend(component)
        placed.update(component)

    for root in sorted(runnable, key=rank):
        if root not in placed:
            _tarjan(root, lambda here: sorted(edges[here] - placed, key=rank), place)
    return order


def _explicit(n: int, here: InstanceId, deps: Any) -> set[InstanceId]:
    """A dependency vector or collection as a set of instances, without the instance itself."""
    given = list(deps)
    if all(isinstance(dep, int) for dep in given) and (given or n == 0):
        if len(given) != n:
            raise ValueError(f"instance {here}: a vector of {len(given)} numbers; there are {n} replicas")
        found = {(replica, slot) for replica, last in enumerate(given) for slot in range(last + 1)}
    else:
        found = {(int(replica), int(slot)) for replica, slot in given}
    for replica, slot in found:
        if not 0 <= replica < n or slot < 0:
            raise ValueError(f"instance {here}: there is no instance {(replica, slot)} among {n} replicas")
    return found - {here}


def _closed(edges: Mapping[InstanceId, set[InstanceId]]) -> set[InstanceId]:
    """The instances all of whose direct and indirect dependencies are known."""
    users: dict[InstanceId, list[InstanceId]] = {}
    for here, deps in edges.items():
        for there in deps:
            users.setdefault(there, []).append(here)
    stuck = [there for there in users if there not in edges]
    open_ones: set[InstanceId] = set(stuck)
    while stuck:
        for user in users.get(stuck.pop(), ()):
            if user not in open_ones:
                open_ones.add(user)
                stuck.append(user)
    return {here for here in edges if here not in open_ones}


def _tarjan(
    root: InstanceId,
    deps_of: Callable[[InstanceId], list[InstanceId]],
    place: Callable[[list[InstanceId]], None],
) -> None:
    index = {root: 0}
    low = {root: 0}
    stack, on_stack = [root], {root}
    path = [(root, iter(deps_of(root)))]
    while path:
        here, deps = path[-1]
        for there in deps:
            if there not in index:
                index[there] = low[there] = len(index)
                stack.append(there)
                on_stack.add(there)
                path.append((there, iter(deps_of(there))))
                break
            if there in on_stack:
                low[here] = min(low[here], index[there])
        else:
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[here])
            if low[here] == index[here]:
                cut = stack.index(here)
                component = stack[cut:]
                del stack[cut:]
                on_stack.difference_update(component)
                place(component)


__all__ = ["Executor", "execution_order"]
