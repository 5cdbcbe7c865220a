"""The commands that wait at a primary until the window has room for them."""

from collections import deque

from paxos_twisted.core.command import split_run
from paxos_twisted.core.engine import Batch
from paxos_twisted.limits import RUN_BYTES_MAX


class Intake:
    """A queue of batches that gives out runs of the size that fits.

    Args:
        alpha: the most slots a run may have.
    """

    def __init__(self, alpha: int) -> None:
        self.alpha = alpha
        self.count = 0
        """Commands that wait."""
        self._queue: deque[Batch] = deque()

    def add(self, batch: Batch) -> None:
        """Queue client commands."""
        self._queue.append(batch)
        self.count += batch.count

    def take(self, room: int) -> Batch | None:
        """The next run of at most `room` commands: queued batches joined while they fit, the last one cut."""
        bodies: list[bytes] = []
        size = slots = 0
        while self._queue and slots < room:
            batch = self._queue[0]
            if bodies and size + len(batch.body) > RUN_BYTES_MAX:
                break
            self._queue.popleft()
            if batch.count > room - slots:
                self._put_back_in_parts(batch, room - slots)
                batch = self._queue.popleft()
            bodies.append(batch.body)
            size += len(batch.body)
            slots += batch.count
        self.count -= slots
        if not bodies:
            return None
        return Batch(bodies[0] if len(bodies) == 1 else b"".join(bodies), slots)

    def _put_back_in_parts(self, batch: Batch, first: int) -> None:
        """Put a batch back as parts of `first`, alpha, alpha … commands: each then fits the window whole."""
        commands = split_run(batch.body, batch.count)
        starts = [0, *range(first, batch.count, self.alpha)]
        stops = [*starts[1:], batch.count]
        for start, stop in zip(reversed(starts), reversed(stops), strict=True):
            self._queue.appendleft(Batch(b"".join(commands[start:stop]), stop - start))

    def drain(self) -> list[Batch]:
        """Everything, unsent."""
        batches = list(self._queue)
        self._queue.clear()
        self.count = 0
        return batches
