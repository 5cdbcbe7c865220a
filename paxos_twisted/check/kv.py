"""The key-value store as the checker sees it: each key is a part of the state of its own.

A page of a list reads, at one moment, all keys that lie in its range: those that it shows, and all others that occur in
the history, which must be absent then. So it is exact that a list is one operation and not many.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Sequence
from types import UnionType
from typing import Final

from paxos_twisted.apps.kv import (
    CompareAndSet,
    Delete,
    Deleted,
    Denied,
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
from paxos_twisted.apps.kv_json import op_json, read_op, read_result, result_json, show
from paxos_twisted.check.history import Operation
from paxos_twisted.check.model import State

ABSENT: Final = None
"""What a key holds that does not exist."""

ANY: Final = "any"
"""What a key holds at which nobody has looked since the history began, when the store was in use before. No bytes."""

NOWHERE: Final = ""
"""The key of a list that can see none of the keys of the history. Nobody can use it: the store denies it."""

Part = tuple[KvOp, KvResult | None]

_ANSWERS: Final[dict[type, type | UnionType]] = {
    Get: Value,
    Put: Done,
    Delete: Deleted,
    CompareAndSet: Done | Different,
    List: Page,
}

_SHOWN_BYTES: Final = 40
"""Of a value in an explanation."""


class KvModel:
    """`paxos_twisted.apps.kv.KeyValueStore`, one key at a time: a step lays the value into a scratch store."""

    name = "kv"

    def __init__(self, *, fresh: bool = True) -> None:
        """`fresh`: the store was empty when the history began. Otherwise the first look at a key is believed."""
        self.fresh = fresh
        self._store = KeyValueStore()
        self._shard = self._store.entries.shard
        self._known: list[str] = []  # every key of the history, in order

    def prepare(self, operations: Sequence[Operation[KvOp, KvResult]]) -> None:
        """Learn all keys of a history: those that a list does not show are absent."""
        known: set[str] = set()
        for operation in operations:
            if not isinstance(operation.op, List):
                known.add(operation.op.key)
            if isinstance(operation.result, Page):
                known.update(key for key, _ in operation.result.pairs)
        self._known = sorted(known)

    def keys(self, op: KvOp, result: KvResult | None) -> tuple[Hashable, ...]:
        """The key; for a list all keys of the history in its range, which ends with its last key if there is more."""
        if not isinstance(op, List):
            return (op.key,)
        known = self._known
        if isinstance(result, Page) and result.more and result.pairs:
            stop = bisect_right(known, result.pairs[-1][0])
        else:
            stop = len(known)
        start = max(bisect_left(known, op.prefix), bisect_right(known, op.after) if op.after else 0)
        found: list[str] = []
        for key in known[start:stop]:
            if not key.startswith(op.prefix):
                break
            found.append(key)
        return tuple(found) or (NOWHERE,)

    def initial(self, key: Hashable) -> Hashable:
        """Nothing, or anything."""
        return ABSENT if self.fresh or key == NOWHERE else ANY

    def step(self, state: State, op: KvOp, result: KvResult | None) -> State | None:
        """Execute `op` where its keys hold this, see `Model.step`."""
        if isinstance(op, List):
            return self._step_list(state, op, result)
        held = state[0]
        if held is ANY:
            return self._step_from_any(state, op, result)
        key = op.key
        shard = self._shard(key)
        if held is ABSENT:
            shard.pop(key, None)
        else:
            shard[key] = held  # type: ignore[assignment]
        got = self._store.apply(op, 0)
        if result is not None and got != result:
            return None
        return (shard.get(key),)

    def is_read(self, op: KvOp, result: KvResult | None) -> bool:
        """What only looks, and what changed nothing or must be denied."""
        if isinstance(op, Get | List) or isinstance(result, Different | Denied):
            return True
        if isinstance(result, Deleted):
            return not result.was_there
        return result is None and isinstance(KeyValueStore().apply(op, 0), Denied)

    def parts(self, op: KvOp, result: KvResult | None) -> Sequence[Part]:
        """A page is a get of each key in its range to who sees one key only."""
        if not isinstance(op, List):
            return ((op, result),)
        if not isinstance(result, Page):
            return ()
        shown = dict(result.pairs)
        return [(Get(str(key)), Value(shown.get(str(key)))) for key in self.keys(op, result) if key != NOWHERE]

    def misfit(self, op: KvOp, result: KvResult) -> str | None:
        """Why no store answers like that, whatever it holds."""
        wrong = _misfit(op, result)
        return wrong and f"was answered {self.say_result(result)}: {wrong}"

    def _step_list(self, state: State, op: List, result: KvResult | None) -> State | None:
        if not isinstance(result, Page):
            return state if result is None or _misfit(op, result) is None else None
        shown = dict(result.pairs)
        after = []
        for key, held in zip(self.keys(op, result), state, strict=True):
            seen = shown.get(str(key))
            if held is not ANY and held != seen:
                return None
            after.append(seen)
        return tuple(after)

    def _step_from_any(self, state: State, op: KvOp, result: KvResult | None) -> State | None:
        """Where anything may be held. What was not said stays unknown."""
        if result is not None and _misfit(op, result) is not None:
            return None
        if self.is_read(op, result):
            if isinstance(result, Value):
                return (result.value,)
            missing = isinstance(result, Deleted | Different) and not result.was_there
            return (ABSENT,) if missing else state
        if isinstance(op, Put) or isinstance(result, Done):
            assert isinstance(op, Put | CompareAndSet)
            return (op.value,)
        return (ABSENT,) if isinstance(op, Delete) else state

    # The language of history files and of explanations, see `Language`.

    def read_op(self, raw: bytes) -> KvOp:
        """See `paxos_twisted.apps.kv_json`."""
        return read_op(raw)

    def read_result(self, raw: bytes) -> KvResult:
        """See `paxos_twisted.apps.kv_json`."""
        return read_result(raw)

    def write_op(self, op: KvOp) -> dict[str, object]:
        """The inverse of `read_op`."""
        return op_json(op)

    def write_result(self, result: KvResult) -> dict[str, object]:
        """The inverse of `read_result`."""
        return result_json(result)

    def say_op(self, op: KvOp) -> str:
        """As `kvclient` takes it, e.g. "put a 1"."""
        match op:
            case Get(key):
                return f"get {key}"
            case Put(key, value):
                return f"put {key} {_short(value)}"
            case Delete(key):
                return f"delete {key}"
            case CompareAndSet(key, None, value):
                return f"create {key} {_short(value)}"
            case CompareAndSet(key, expected, value):
                assert expected is not None
                return f"cas {key} {_short(expected)} {_short(value)}"
            case List(prefix, after, _):
                return " ".join(word for word in ("list", prefix, after) if word)

    def say_result(self, result: KvResult) -> str:
        """The answer in a few words."""
        match result:
            case Done():
                return "done"
            case Value(None):
                return "nothing"
            case Value(value):
                assert value is not None
                return _short(value)
            case Deleted(was_there):
                return "deleted" if was_there else "was not there"
            case Different(was_there):
                return "not set: it held something else" if was_there else "not set: it was not there"
            case Page(pairs, more):
                return f"{_listed(f'{key}={_short(value)}' for key, value in pairs)}{' and more' if more else ''}"
            case Denied(error):
                return f"denied: {error}"

    def say_value(self, key: Hashable, value: Hashable) -> str:
        """What the key holds."""
        if value is ANY:
            return f"{key} holds anything or nothing"
        return f"{key} does not exist" if value is ABSENT else f"{key} holds {_short(value)}"  # type: ignore[arg-type]


def _misfit(op: KvOp, result: KvResult) -> str | None:
    denied = KeyValueStore().apply(op, 0)
    if isinstance(denied, Denied):
        return None if result == denied else f"a store denies that: {denied.error}"
    if isinstance(result, Denied):
        return "a store does not deny that"
    if not isinstance(result, _ANSWERS[type(op)]):
        return "that is the answer to another request"
    if isinstance(op, List) and isinstance(result, Page):
        keys = [key for key, _ in result.pairs]
        if keys != sorted(set(keys)) or not all(key.startswith(op.prefix) and key > op.after for key in keys):
            return "its keys are not in order, or not those asked for"
        if len(keys) > op.limit or (result.more and not keys):
            return "no page has that length"
    if isinstance(op, CompareAndSet) and isinstance(result, Different) and op.expected is None and not result.was_there:
        return "that was expected"
    return None


def _short(value: bytes) -> str:
    shown = show(value[:_SHOWN_BYTES])
    return shown if len(value) <= _SHOWN_BYTES else f"{shown}… ({len(value)} bytes)"


def _listed(words: Iterable[str]) -> str:
    shown = list(words)
    if not shown:
        return "nothing"
    return ", ".join(shown[:8]) + (f" … ({len(shown)} keys)" if len(shown) > 8 else "")
