"""The key-value store: names that hold bytes. Read, write, delete, compare and set, list by prefix.

Keys are text, ordered by their code points (as their UTF-8 bytes are). What a client may not do is answered with a
sentence, like everything else; see limits.py for the sizes. Every operation but `List` touches one key only, so an
engine that knows what interferes has much to do in parallel.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Annotated

import msgspec
from msgspec import Meta

from paxos_twisted.apps.application import Application, Footprint
from paxos_twisted.apps.ordered_keys import OrderedKeys
from paxos_twisted.apps.places import place_of
from paxos_twisted.core.table import Table
from paxos_twisted.limits import KV_KEY_BYTES_MAX, KV_PAGE_BYTES_MAX, KV_PAGE_KEYS_MAX, KV_VALUE_BYTES_MAX


class Get(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False, forbid_unknown_fields=True):
    """Read a key."""

    key: str


class Put(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False, forbid_unknown_fields=True):
    """Let a key hold a value, whatever it holds now."""

    key: str
    value: bytes


class Delete(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False, forbid_unknown_fields=True):
    """Let a key not exist."""

    key: str


class CompareAndSet(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False, forbid_unknown_fields=True):
    """Let a key hold a value if it holds the expected one, byte by byte."""

    key: str
    expected: bytes | None
    """None: if the key does not exist."""
    value: bytes


class List(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False, forbid_unknown_fields=True):
    """Read the keys that begin with a prefix, in order, with their values: one page of them."""

    prefix: str = ""
    after: str = ""
    """Only keys behind this one: the last key of the page before."""
    limit: Annotated[int, Meta(ge=1, le=KV_PAGE_KEYS_MAX)] = KV_PAGE_KEYS_MAX


KvOp = Get | Put | Delete | CompareAndSet | List


class Done(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False):
    """The key holds the value now."""


class Value(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """What the key holds."""

    value: bytes | None
    """None: the key does not exist."""


class Deleted(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """The key does not exist now."""

    was_there: bool


class Different(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Not set: the key does not hold what was expected. What it holds is not said: outcomes of writes are kept for
    repetitions, and must be short."""

    was_there: bool


class Page(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """Keys and what they hold, in the order of the keys."""

    pairs: tuple[tuple[str, bytes], ...]
    more: bool
    """There are further ones; ask again with the last key as `after`. Each page is true for one moment of its own."""


class Denied(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """Nothing was done: the store does not do that."""

    error: str


KvResult = Done | Value | Deleted | Different | Page | Denied

_NAMES = {Get: "get", Put: "put", Delete: "delete", CompareAndSet: "cas", List: "list"}
_DONE = Done()
_WAS_THERE, _WAS_NOT_THERE = Deleted(True), Deleted(False)


class KeyValueStore(Application):
    """Keys and values. Invariant: the order, once there is one, has exactly the keys of the table."""

    name = "kv"
    op_type = KvOp
    result_type = KvResult
    op_names = tuple(_NAMES.values())

    def __init__(self) -> None:
        self.entries: Table[str, bytes] = Table("entries", tuple[str, bytes], place_of)
        self._order: OrderedKeys | None = None  # made by the first List; not part of the state: it follows from it
        self._ordered_shard: dict[str, bytes] | None = None  # tells when a snapshot has replaced the table

    def tables(self) -> Iterable[Table[str, bytes]]:
        """The entries are the whole state."""
        return (self.entries,)

    def op_name(self, op: KvOp) -> str:
        """The word for it."""
        return _NAMES[type(op)]

    def outcome(self, result: KvResult) -> str:
        """A get of nothing is "ok": that is the answer. A comparison that failed is "rejected"."""
        return "rejected" if isinstance(result, Different | Denied) else "ok"

    def is_reread(self, op: KvOp) -> bool:
        """Pages and values are long, and reading twice harms nobody."""
        return isinstance(op, Get | List)

    def footprint(self, op: KvOp) -> Footprint:
        """The key. A list reads everything: which keys there will be is not known before."""
        if isinstance(op, List):
            return Footprint((), writes=False, everything=True)
        return Footprint((op.key,), writes=not isinstance(op, Get))

    def apply(self, op: KvOp, client: int) -> KvResult:
        """Execute one operation. What is denied changes nothing."""
        if isinstance(op, List):
            return self._list(op)
        key = op.key
        wrong = _wrong_key(key)
        if wrong is not None:
            return Denied(wrong)
        match op:
            case Get():
                return Value(self.entries.shard(key).get(key))
            case Put(value=value):
                return self._set(key, value)
            case CompareAndSet(expected=expected, value=value):
                held = self.entries.shard(key).get(key)
                return self._set(key, value) if held == expected else Different(held is not None)
            case Delete():
                return self._delete(key)

    def _set(self, key: str, value: bytes) -> KvResult:
        if len(value) > KV_VALUE_BYTES_MAX:
            return Denied(f"a value of {len(value)} bytes; {KV_VALUE_BYTES_MAX} are allowed")
        shard = self.entries.writable(key)
        if key not in shard and self._is_ordered():
            assert self._order is not None
            self._order.add(key)
        shard[key] = value
        return _DONE

    def _delete(self, key: str) -> Deleted:
        if key not in self.entries.shard(key):
            return _WAS_NOT_THERE
        if self._is_ordered():
            assert self._order is not None
            self._order.remove(key)
        del self.entries.writable(key)[key]
        return _WAS_THERE

    def _list(self, op: List) -> KvResult:
        for name, text in (("prefix", op.prefix), ("key after which to begin", op.after)):
            if text and (wrong := _wrong_key(text, name)) is not None:
                return Denied(wrong)
        if not self._is_ordered():
            self._order = OrderedKeys(chain.from_iterable(self.entries.shards))
            self._ordered_shard = self.entries.shards[0]
        assert self._order is not None
        prefix, entries = op.prefix, self.entries
        is_fresh = op.after < prefix  # the continuation lies before the prefix: nothing is skipped
        pairs: list[tuple[str, bytes]] = []
        size = 0
        for key in self._order.after(prefix if is_fresh else op.after, inclusive=is_fresh):
            if not key.startswith(prefix):
                break
            value = entries.shard(key)[key]
            size += len(key.encode()) + len(value)
            if len(pairs) == op.limit or (pairs and size > KV_PAGE_BYTES_MAX):
                return Page(tuple(pairs), True)
            pairs.append((key, value))
        return Page(tuple(pairs), False)

    def _is_ordered(self) -> bool:
        """Whether the order is that of the table as it is now."""
        return self._ordered_shard is self.entries.shards[0]


def _wrong_key(key: str, name: str = "key") -> str | None:
    """Why `key` cannot be one, as a sentence; None when it can."""
    if not key:
        return f"an empty {name}"
    if len(key) * 4 > KV_KEY_BYTES_MAX and len(key.encode()) > KV_KEY_BYTES_MAX:
        return f"a {name} of {len(key.encode())} bytes; {KV_KEY_BYTES_MAX} are allowed"
    return None
