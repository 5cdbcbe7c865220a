"""Virtual time: a heap of (time, order, action). Nothing here reads a clock, and equal seeds give equal orders."""

import heapq
from collections.abc import Callable

Action = Callable[[], object]


class Timer:
    """A scheduled action that can be taken back."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        """The action will not run. Cancelling twice, or after it ran, changes nothing."""
        self.action = None


class Scheduler:
    """Runs actions in the order of their virtual times; those of the same millisecond in the order of scheduling."""

    __slots__ = ("_heap", "_order", "events", "now_ms")

    def __init__(self) -> None:
        self.now_ms = 0
        self.events = 0
        """Actions run so far: the work of a run is bounded by this number, not by virtual time."""
        self._heap: list[tuple[int, int, Timer | Action]] = []
        self._order = 0

    def at(self, time_ms: int, action: Action) -> None:
        """Run `action` at `time_ms`, or as the last of this millisecond if that is past. It cannot be taken back."""
        self._order += 1
        heapq.heappush(self._heap, (time_ms if time_ms > self.now_ms else self.now_ms, self._order, action))

    def after(self, delay_ms: int, action: Action) -> None:
        """Run `action` `delay_ms` from now."""
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, action))

    def timer(self, delay_ms: int, action: Action) -> Timer:
        """Run `action` `delay_ms` from now unless the returned timer is cancelled before."""
        timer = Timer(action)
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, timer))
        return timer

    def step(self, until_ms: int) -> bool:
        """Run the next action, if it is due at or before `until_ms`; tell whether there was one."""
        heap = self._heap
        if not heap or heap[0][0] > until_ms:
            self.now_ms = max(self.now_ms, until_ms)
            return False
        self.now_ms, _, item = heapq.heappop(heap)
        action = item.action if isinstance(item, Timer) else item
        if action is not None:
            self.events += 1
            action()
        return True

    def run(self, until_ms: int, events_max: int) -> None:
        """Run everything that is due at or before `until_ms`; afterwards it is that time. Stops when `events_max`
        actions have run since the beginning."""
        heap = self._heap
        while heap and heap[0][0] <= until_ms:
            self.now_ms, _, item = heapq.heappop(heap)
            action = item.action if isinstance(item, Timer) else item
            if action is not None:
                if self.events >= events_max:
                    return
                self.events += 1
                action()
        self.now_ms = max(self.now_ms, until_ms)
