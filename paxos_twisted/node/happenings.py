"""The last leadership events of a node with their exact times: /events shows them, reports are made from them."""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from paxos_twisted.limits import HAPPENINGS_KEPT


class Happening(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened at this node. `docs/failover.md` lists the words."""

    time_ns: int
    """Since 1970, by this machine's clock."""
    event: str
    peer: int | None = None
    """The other node that it is about; -1: none."""
    rnd: int | None = None
    cause: str = ""


class Happenings:
    """A bounded list: old events are forgotten first.

    Args:
        now_ns: nanoseconds since 1970.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._kept: deque[Happening] = deque(maxlen=HAPPENINGS_KEPT)

    def note(self, event: str, *, peer: int | None = None, rnd: int | None = None, cause: str = "") -> None:
        """Something happens now."""
        self._kept.append(Happening(self._now_ns(), event, peer, rnd, cause))

    def as_json(self) -> list[Any]:
        """Oldest first."""
        return [msgspec.to_builtins(happening) for happening in self._kept]
