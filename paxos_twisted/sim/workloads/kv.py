"""The key-value store in the simulator."""

from collections.abc import Callable

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.kv import (
    CompareAndSet,
    Delete,
    Deleted,
    Different,
    Done,
    Get,
    KeyValueStore,
    KvOp,
    KvResult,
    List,
    Page,
    Put,
    Value,
)
from paxos_twisted.check.kv import KvModel
from paxos_twisted.sim.model import ModelError
from paxos_twisted.sim.workloads.workload import Habits


class KvSpecification:
    """A dictionary. Of keys and values that the store does not deny: the workload has no others."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def execute(self, op: KvOp, client: int) -> KvResult:
        """Execute one operation."""
        entries = self.entries
        match op:
            case Get():
                return Value(entries.get(op.key))
            case Put():
                entries[op.key] = op.value
                return Done()
            case Delete():
                return Deleted(entries.pop(op.key, None) is not None)
            case CompareAndSet():
                held = entries.get(op.key)
                if held != op.expected:
                    return Different(held is not None)
                entries[op.key] = op.value
                return Done()
            case List():
                keys = sorted(key for key in entries if key.startswith(op.prefix) and key > op.after)
                pairs = tuple((key, entries[key]) for key in keys[: op.limit])
                return Page(pairs, len(keys) > op.limit)

    def check(self, application: Application) -> None:
        """The same keys hold the same values."""
        assert isinstance(application, KeyValueStore)
        held = dict(application.entries.items())
        if held != self.entries:
            raise ModelError(f"EQ: the store holds {sorted(held.items())} instead of {sorted(self.entries.items())}")


class KvWorkload:
    """Puts, gets, deletes, compare-and-sets, and lists where the bank has transfers."""

    name = "kv"

    def application(self) -> Application:
        """The shipped store."""
        return KeyValueStore()

    def specification(self) -> KvSpecification:
        """A dictionary."""
        return KvSpecification()

    def checker(self) -> KvModel:
        """Each key for itself."""
        return KvModel()

    def draw(self, rand: Callable[[], float], habits: Habits, client: int) -> KvOp:
        """An operation. Few different values, so that some comparisons succeed."""
        is_own = rand() < habits.own_share
        key = f"own/{client}" if is_own else f"key/{int(rand() * habits.accounts)}"
        value, choice = b"%d" % (rand() * 4), rand()
        if choice < habits.transfer_share and not is_own:
            return List("key/" if rand() < 0.5 else "", limit=1 + int(rand() * 5))
        if choice < 0.45:
            return Put(key, value)
        if choice < 0.65:
            return Get(key)
        if choice < 0.75:
            return Delete(key)
        return CompareAndSet(key, None if rand() < 0.3 else b"%d" % (rand() * 4), value)
