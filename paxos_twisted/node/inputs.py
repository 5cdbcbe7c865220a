"""The driver behind a guard: whatever it raises stops the node.

Twisted logs what a protocol raises and closes that one connection, and a looping call that raises just ends. For the
driver neither will do: after an exception nobody knows what the engine holds, and it must not be asked again.
"""

from collections.abc import Callable
from typing import Any

from paxos_twisted.core.command import Command, Series
from paxos_twisted.core.engine import DiskState, LinkState
from paxos_twisted.node.driver import Driver
from paxos_twisted.types import NodeId


class Inputs:
    """The driver's inputs, as the network, the disk and the clock call them. None of them raises.

    Args:
        on_failure: called once, inside the `except` clause, with what was being done.
    """

    __slots__ = ("_on_failure", "driver", "is_stopped")

    driver: Driver
    """Set once, before any input."""

    def __init__(self, on_failure: Callable[[str], None]) -> None:
        self._on_failure = on_failure
        self.is_stopped = False
        """Inputs are ignored: the node has failed, or has stopped."""

    @property
    def is_congested(self) -> bool:
        """Clients should not be read now."""
        return self.driver.is_congested

    @property
    def leader(self) -> NodeId:
        """The known leader, or NO_NODE."""
        return self.driver.leader

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call something that feeds the driver."""
        if self.is_stopped:
            return
        try:
            function(*arguments)
        except Exception:
            self._fail(f"in {getattr(function, '__qualname__', function)}")

    def on_request(self, raw: bytes, command: Command[Any] | Series[Any]) -> None:
        """Once for each command: spelled out, because a call costs something."""
        if self.is_stopped:
            return
        try:
            self.driver.on_request(raw, command)
        except Exception:
            self._fail("taking a request")

    def on_message(self, src: NodeId, message: Any) -> None:
        """A message from a peer."""
        if self.is_stopped:
            return
        try:
            self.driver.on_message(src, message)
        except Exception:
            self._fail(f"taking a {type(message).__name__} from node {src}")

    def on_persisted(self, write_no: int) -> None:
        """All writes up to `write_no` are durable."""
        self.call(self.driver.on_persisted, write_no)

    def on_tick(self, now_ms: int) -> None:
        """Time."""
        self.call(self.driver.on_tick, now_ms)

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The stream to a peer changed."""
        self.call(self.driver.on_link, node, state)

    def on_disk(self, state: DiskState) -> None:
        """The disk changed."""
        self.call(self.driver.on_disk, state)

    def flush(self) -> None:
        """The end of a turn."""
        self.call(self.driver.flush)

    def peer_guard(self, node: NodeId, identity: str, progress: int) -> str | None:
        """What is wrong with a peer's data directory, or None."""
        if self.is_stopped:
            return "this node is stopping"
        try:
            return self.driver.peer_guard(node, identity, progress)
        except Exception:
            self._fail(f"checking the data directory of node {node}")
            return "this node has failed"

    def check_identity(self, node: NodeId, identity: str) -> str | None:
        """The same for a peer that accepts our stream. It has shown no credential, so nothing is learnt from it."""
        seen = self.driver.peers.get(node)
        return None if seen is None else self.peer_guard(node, identity, seen.progress)

    def _fail(self, doing: str) -> None:
        self.is_stopped = True
        self._on_failure(doing)
