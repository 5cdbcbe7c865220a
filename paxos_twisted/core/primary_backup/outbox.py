"""The output of a turn, and the gate in it: what speaks for something unwritten waits for its write."""

from collections import deque
from typing import Any

from paxos_twisted.core.engine import Output
from paxos_twisted.core.records import Record
from paxos_twisted.types import NodeId


class Outbox:
    """Gathers what the engine wants done. Writes are numbered as in `Output`."""

    def __init__(self) -> None:
        self.out = Output(1)
        self.persisted = 0
        """Writes up to here are durable."""
        self._writing: deque[tuple[int, int]] = deque()  # (write_no, engine time) of writes under way

    @property
    def gate(self) -> int:
        """The write on which everything said now depends: the one being gathered, or the last one handed out."""
        return self.out.write_no if self.out.records else self.out.write_no - 1

    def persist(self, record: Record) -> None:
        """Write this, in the order of the calls."""
        self.out.records.append(record)

    def send(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        """Send at once."""
        if receivers:
            self.out.sends.append((receivers, message))

    def send_after(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        """Send when everything gathered so far is durable."""
        gate = self.gate
        if gate <= self.persisted:
            self.send(receivers, message)
        elif receivers:
            self.out.sends_after.append((gate, receivers, message))

    def on_persisted(self, write_no: int) -> None:
        """Writes up to `write_no` are durable."""
        assert write_no < self.out.write_no
        self.persisted = max(self.persisted, write_no)
        while self._writing and self._writing[0][0] <= write_no:
            self._writing.popleft()

    def lag_ms(self, now_ms: int) -> int:
        """Age of the oldest unfinished write."""
        return now_ms - self._writing[0][1] if self._writing else 0

    def take(self, now_ms: int) -> Output:
        """Drain."""
        out = self.out
        if out.records:
            self._writing.append((out.write_no, now_ms))
            self.out = Output(out.write_no + 1)
        else:
            self.out = Output(out.write_no)
        return out
