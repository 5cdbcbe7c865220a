"""Answers that leave later: a node may be told to let bidders wait for their acknowledgement. [AV-10]

The command is decided and applied at once; only its answer waits, in a queue with one timer. Nothing else does.
"""

from collections import deque
from collections.abc import Callable, Iterable

from paxos_twisted.limits import ANSWERS_DELAYED_MAX
from paxos_twisted.net.reactor import Clock


class AnswerDelay:
    """Holds answers to some operations back for the same time each.

    Args:
        seconds: how long, above 0.
        operations: names of the operations whose answers wait.
    """

    def __init__(self, clock: Clock, seconds: float, operations: Iterable[str]) -> None:
        assert seconds > 0
        self.seconds = seconds
        self.operations = frozenset(operations)
        self._clock = clock
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()  # (when, send), in the order of their times

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Further answers leave at once."""
        return len(self._waiting) >= ANSWERS_DELAYED_MAX

    def put(self, send: Callable[[], None]) -> None:
        """Call `send` after the delay."""
        self._waiting.append((self._clock.seconds() + self.seconds, send))
        if len(self._waiting) == 1:
            self._clock.callLater(self.seconds, self._send_due)

    def flush(self) -> None:
        """Send everything now: the node stops."""
        while self._waiting:
            self._waiting.popleft()[1]()

    def _send_due(self) -> None:
        now = self._clock.seconds()
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            waiting.popleft()[1]()
        if waiting:
            self._clock.callLater(max(waiting[0][0] - now, 0), self._send_due)
