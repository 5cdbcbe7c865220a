"""The contract of all engines: a value that is fed and drained, and never calls out.

    inputs                                       output (`take_output`)
    on_message(src, message)                     records     to be written as one numbered write
    on_propose(batch)                            sends       messages that speak for nothing unwritten
    on_persisted(write_no)          engine       sends_after messages that wait for a write
    on_tick(now_ms)                              decided     runs of commands, in log order
    on_link(node, state)                         returned    batches that will not be proposed, or whose fate is open
    on_disk(state)                               events      past facts, for logs and metrics

"Persist, then promise": whatever speaks for state (promise, learn …) stands in `sends_after` with the number of the
write that it depends on. A node's own vote passes the same gate: the engine counts it in `on_persisted`.
"""

from enum import Enum
from typing import Any, Protocol

import msgspec

from paxos_twisted.core.command import cut_run
from paxos_twisted.core.events import Event
from paxos_twisted.core.records import Record
from paxos_twisted.types import NodeId, Slot


class LinkState(Enum):
    """What the transport saw of the connection to a peer."""

    UP = "up"
    LOST = "lost"
    REFUSED = "refused"
    """Lost, and nobody listens there any more: the process is dead."""


class DiskState(Enum):
    """What the storage says of itself."""

    GOOD = "good"
    FULL = "full"


class LogDamaged(Exception):
    """An engine cannot go on from what was recovered of its log: the node must not start. The text is a sentence."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Commands that came in one reactor turn, as the bytes that came."""

    body: bytes
    count: int
    is_whole: bool = False
    """Better not cut: it waits until the window has room for all of it, unless the window never has."""


class DecidedRun(msgspec.Struct, frozen=True, gc=False):
    """Commands decided for the slots `slot` … `slot + count - 1`."""

    slot: Slot
    count: int
    body: bytes

    def cut(self, at: Slot) -> "tuple[DecidedRun, DecidedRun]":
        """The runs below slot `at` and from it on."""
        head = at - self.slot
        below, above = cut_run(self.body, self.count, head)
        return DecidedRun(self.slot, head, below), DecidedRun(at, self.count - head, above)


class Returned(msgspec.Struct, frozen=True, gc=False):
    """A batch that this node no longer drives."""

    batch: Batch
    proposed: bool
    """True: it stood in an Accept, so it may still be decided (outcome unknown). False: it was never sent."""
    reason: str
    """not-leader, overloaded, disk-full."""


class Output:
    """What the engine wants done since the last `take_output`."""

    __slots__ = (
        "decided",
        "events",
        "is_snapshot_stale",
        "records",
        "returned",
        "sends",
        "sends_after",
        "snapshot_wanted_by",
        "write_no",
    )

    def __init__(self, write_no: int) -> None:
        self.write_no = write_no
        """The number that `records` get as one write. Writes are numbered from 1, without gaps."""
        self.records: list[Record] = []
        self.sends: list[tuple[tuple[NodeId, ...], Any]] = []
        """(receivers, message); never to the node itself."""
        self.sends_after: list[tuple[int, tuple[NodeId, ...], Any]] = []
        """(write_no, receivers, message), in the order of their write numbers; 0 < write_no <= self.write_no."""
        self.decided: list[DecidedRun] = []
        self.returned: list[Returned] = []
        self.events: list[Event] = []
        self.snapshot_wanted_by: list[NodeId] = []
        """Peers that asked for slots that are truncated here: they need the snapshot."""
        self.is_snapshot_stale = False
        """The newest snapshot would not help one of them: a new one should be taken soon."""

    def is_empty(self) -> bool:
        """Nothing to do."""
        return not (
            self.records
            or self.sends
            or self.sends_after
            or self.decided
            or self.returned
            or self.events
            or self.snapshot_wanted_by
        )


class OwnPart(Protocol):
    """What an engine offers, besides, if all replicas need not apply all commands in one order: positions then say how
    much was applied, and not what."""

    def snapshot_part(self) -> bytes:
        """What belongs into a snapshot of the state after the last `take_output`. Carried with its pieces."""
        ...

    def accepts_snapshot(self, part: bytes) -> bool:
        """Whether a peer's snapshot with this part covers everything that was given out here."""
        ...

    def on_installed(self, slot: Slot, part: bytes) -> None:
        """As in `Engine`."""
        ...

    def coverage(self) -> str:
        """Names the set of commands that were given out: equal on two nodes exactly when the sets are."""
        ...


class Engine(Protocol):
    """An engine. All methods run to the end; none blocks, calls back or raises for anything a peer could send."""

    name: str
    message_type: Any
    """Union of the engine's messages, for the codec."""

    def on_message(self, src: NodeId, message: Any) -> None:
        """Take a message from peer `src` (authenticated by the connection)."""
        ...

    def on_propose(self, batch: Batch) -> None:
        """Take client commands. They come back in `decided` (anywhere), or in `returned`."""
        ...

    def on_persisted(self, write_no: int) -> None:
        """All writes up to `write_no` are durable."""
        ...

    def on_tick(self, now_ms: int) -> None:
        """The time, in milliseconds of a monotonic clock. Called every few milliseconds; the only clock there is."""
        ...

    def on_link(self, node: NodeId, state: LinkState) -> None:
        """The connection to `node` changed."""
        ...

    def on_disk(self, state: DiskState) -> None:
        """The disk changed."""
        ...

    @property
    def leader(self) -> NodeId:
        """The node that takes commands, as far as this one knows; NO_NODE when none does."""
        ...

    @property
    def takes_commands(self) -> bool:
        """`on_propose` makes sense at this node, now."""
        ...

    @property
    def waiting(self) -> int:
        """Commands that were proposed here and are not decided."""
        ...

    @property
    def adu(self) -> Slot:
        """Every log position up to here is decided and was given out in `decided`."""
        ...

    @property
    def is_ready(self) -> bool:
        """Clients can be served here or be sent to whoever serves them, and this node has caught up."""
        ...

    def resign(self, cause: str) -> None:
        """Give up leadership, if held, and do not seek it for a while: "asked" or "stopping"."""
        ...

    def on_snapshot(self, slot: Slot) -> None:
        """The node's own snapshot of `slot` is durable: the log may be truncated."""
        ...

    def on_installed(self, slot: Slot) -> None:
        """A snapshot from a peer was installed and is durable: every slot up to `slot` is applied.

        An engine with a part of its own (see `OwnPart`) also gets that part.
        """
        ...

    def take_output(self) -> Output:
        """Drain."""
        ...

    def status(self) -> dict[str, Any]:
        """What the engine says of itself, for /status: plain JSON values; "role", "round" and "log" at least."""
        ...

    def check_invariants(self) -> None:
        """Assert what must hold between any two inputs (the simulator calls it after each)."""
        ...
