"""Random key-value operations for the bench, the same for the same seed: which kinds, which keys, which values."""

from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Any, Final

from paxos_twisted.apps.kv import CompareAndSet, Delete, Get, KvOp, List, Put

KINDS: Final = ("get", "put", "delete", "cas", "list")
UNIFORM: Final = "uniform"
ZIPF: Final = "zipf"
DISTRIBUTIONS: Final = (UNIFORM, ZIPF)

LIST_LIMIT: Final = 10
"""Keys that a list of the bench asks for."""

HOT_KEY: Final = "hot"
"""The key that all clients share when the plan gives a rate of conflicts."""


class KvWorkload:
    """An endless sequence of operations.

    With `conflicts` a given share of the operations is on one key that all clients use, and the others are on keys of
    the client's own: the measure of the EPaxos paper. Otherwise all clients draw from the same keys. Each value tells
    who wrote it and is written once (unless the plan wants values shorter than that), so that histories are worth
    checking.
    """

    def __init__(self, seed: int, process: int, options: Mapping[str, Any]) -> None:
        """`options` are those of `paxos_twisted_client.kvclient`, as `KvSide.workload_of` returns them."""
        self._rng = Random(f"kv/{seed}/{process}")
        self._process = process
        self._kinds, self._shares = zip(*options["mix"].items(), strict=True)
        self._value_size: int = options["value_size"]
        self._keys: int = options["keys"]
        self._conflicts: float | None = options.get("conflicts")
        is_zipf = options.get("distribution") == ZIPF
        self._ranks = zipf_ranks(self._keys, options["skew"]) if is_zipf else None
        self._written = 0
        self._last: tuple[str, bytes] | None = None

    def next(self) -> KvOp:
        """Draw one operation."""
        (kind,) = self._rng.choices(self._kinds, self._shares)
        match kind:
            case "get":
                return Get(self._key())
            case "put":
                key = self._key()
                self._last = key, self._value()
                return Put(*self._last)
            case "delete":
                return Delete(self._key())
            case "list":
                key = self._key()
                return List(key[:-1] or key, limit=LIST_LIMIT)
        # Half of the comparisons expect what this client wrote last: they succeed if nobody was faster.
        if self._last is not None and self._rng.random() < 0.5:
            key, expected = self._last
            self._last = key, self._value()
            return CompareAndSet(key, expected, self._last[1])
        return CompareAndSet(self._key(), None, self._value())

    def _key(self) -> str:
        rng = self._rng
        if self._conflicts is not None:
            if rng.random() * 100 < self._conflicts:
                return HOT_KEY
            return f"c{self._process}/{rng.randrange(self._keys)}"
        if self._ranks is None:
            return f"k{rng.randrange(self._keys)}"
        return f"k{bisect_right(self._ranks, rng.randrange(self._ranks[-1]))}"

    def _value(self) -> bytes:
        self._written += 1
        return f"{self._process}.{self._written} ".ljust(self._value_size, ".")[: self._value_size].encode()


@lru_cache(maxsize=4)
def zipf_ranks(keys: int, skew: float) -> tuple[int, ...]:
    """Cumulated weights of keys 0 … keys-1, where key i is drawn in proportion to 1 / (i + 1) ** skew.

    Integers, so that the same seed draws the same keys on machines that round differently.
    """
    return tuple(accumulate(max(1, round(2**32 / rank**skew)) for rank in range(1, keys + 1)))
