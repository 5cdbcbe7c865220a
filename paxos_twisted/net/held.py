"""Messages that the fault layer lets wait."""

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from paxos_twisted.limits import FAULT_MESSAGES_HELD_MAX
from paxos_twisted.net.reactor import Clock, DelayedCall

Item = TypeVar("Item")


class HeldMessages(Generic[Item]):
    """Hands each message to `release` when it is due; those due in the same millisecond in the order of sending."""

    def __init__(self, clock: Clock, release: Callable[[Item], None]) -> None:
        self._clock = clock
        self._release = release
        self._heap: list[tuple[int, int, Item]] = []
        self._number = 0
        self._timer: DelayedCall | None = None

    def now_ms(self) -> int:
        """The clock that `hold` means, in milliseconds."""
        return int(self._clock.seconds() * 1000)

    def hold(self, due_ms: int, item: Item) -> bool:
        """Keep a message until `due_ms`. False: too many are waiting already, it is not kept."""
        if len(self._heap) >= FAULT_MESSAGES_HELD_MAX:
            return False
        self._number += 1
        entry = (due_ms, self._number, item)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._set_timer()
        return True

    def release_due(self) -> None:
        """Release what is due. To be called also before a message passes that is not held."""
        if not self._heap:
            return
        now = self.now_ms()
        while self._heap and self._heap[0][0] <= now:
            self._release(heapq.heappop(self._heap)[2])
        self._set_timer()

    def release_all(self) -> None:
        """Release everything: the faults have been taken out."""
        while self._heap:
            self._release(heapq.heappop(self._heap)[2])
        self._set_timer()

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self._set_timer()

    def __len__(self) -> int:
        return len(self._heap)

    def _set_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._heap:
            wait_s = max(0.0, self._heap[0][0] / 1000 - self._clock.seconds())
            self._timer = self._clock.callLater(wait_s, self.release_due)
