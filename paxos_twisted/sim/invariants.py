"""The invariants of docs/simulator.md that hold for every engine, checked from outside after every event.

Nothing here asks an engine what it believes. The evidence is what leaves a node (messages, replies), what is durable
(records, as the disk reports them synced), and which commands a replica applies with which results. What an engine
promises beyond that is checked by its own class, see `paxos_twisted.sim.subjects`.

| name | broken when |
|--|--|
| ADU | a replica skips, repeats or reorders slots |
| VAL | something is applied that no client sent and that is no no-op |
| XO, EQ, BAL | see `paxos_twisted.sim.model` |
| SES | an answer for a request that is not applied, or with another request's result |
| DUR | an answered request is not in the state in the end |
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from paxos_twisted.core.command import NOOP, Command, Series
from paxos_twisted.core.events import Event
from paxos_twisted.core.records import Record, SnapshotTaken
from paxos_twisted.core.table import Table
from paxos_twisted.sim.model import Model, ModelError
from paxos_twisted.types import NO_SLOT, NodeId, Slot
from paxos_twisted.wire.client import Answer, Answers, Reply

AnyCommand = Command[Any] | Series[Any] | None
"""What stands in a slot. A series stands in the first one of as many as it has operations."""


class Violation(AssertionError):
    """An invariant is broken. The text begins with its name."""


class NodeView:
    """What the world knows of one node."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.applied: Slot = NO_SLOT
        self.snapshot: Slot = NO_SLOT
        """Slot of the durable snapshot."""
        self.installs = 0
        """Snapshots that came from a peer."""


class Invariants:
    """The evidence so far, and the checks on each new piece of it. All `on_…` methods raise Violation."""

    def __init__(self, nodes: Sequence[NodeId], model: Model) -> None:
        self.nodes = tuple(nodes)
        self.quorum_size = len(nodes) // 2 + 1
        self.model = model
        self.requests: set[bytes] = {NOOP}
        """Every command that a client has sent, as bytes."""
        self.unstamped: Callable[[bytes], bytes] | None = None
        """Takes the time of its proposer out of a command, where the application has such times."""
        self._muted: dict[NodeId, list[Record]] = {}

    # ---- what the subject's class adds

    def view(self, node: NodeId) -> NodeView:
        """What is known of a node."""
        raise NotImplementedError

    @property
    def leader_changes(self) -> int:
        """How often leadership was won, less the first time; 0 for engines without a leader."""
        return 0

    def on_send(self, node: NodeId, message: Any) -> None:
        """A message leaves `node`."""

    def on_record(self, node: NodeId, record: Record) -> None:
        """A record is durable at `node`."""

    def on_event(self, node: NodeId, event: Event) -> None:
        """An engine tells a past fact. Only for counting: it is what the engine believes."""

    def on_photograph(self, node: NodeId, tables: Sequence[Table[Any, Any]]) -> None:
        """A picture of the replica's state as it is now has been begun."""

    def on_applied(self, node: NodeId, slot: Slot, commands: Sequence[AnyCommand], results: list[Any]) -> None:
        """A replica has applied these commands from `slot` on."""
        raise NotImplementedError

    def on_installed(self, node: NodeId, slot: Slot, digest: str, is_foreign: bool) -> None:
        """A snapshot of `slot` has replaced the state of this replica. `is_foreign`: not its own one."""
        raise NotImplementedError

    def has_executed(self, node: NodeId, client: int, seq: int) -> bool:
        """Whether the replica of `node` has applied the first occurrence of this request."""
        raise NotImplementedError

    def is_level(self, nodes: Iterable[NodeId]) -> bool:
        """Whether these nodes have applied all that anybody has applied."""
        raise NotImplementedError

    # ---- requests and replies

    def on_request(self, raw: bytes) -> None:
        """A client has sent this command."""
        self.requests.add(raw)

    def check_sent(self, raw: bytes, where: str) -> None:
        """VAL: somebody has asked for this."""
        if raw in self.requests:
            return
        if self.unstamped is None or self.unstamped(raw) not in self.requests:
            raise Violation(f"VAL: {where}: no client has sent {raw!r}")

    def on_reply(self, node: NodeId, reply: Reply) -> None:
        """SES: an answer tells the result of that very request, which is applied at this node."""
        if not isinstance(reply, Answer | Answers):
            return
        told = result_of(reply)
        first = self.model.effect(reply.client, reply.seq, told)
        if first is None:
            raise Violation(f"SES: node {node} answers request {reply.client}/{reply.seq}, which is not applied")
        slot, result = first
        if result != told:
            raise Violation(f"SES: node {node} answers {reply.client}/{reply.seq} with {told!r}; it was {result!r}")
        if not self.has_executed(node, reply.client, reply.seq):
            raise Violation(
                f"SES: node {node} answers {reply.client}/{reply.seq} of slot {slot}, "
                f"and has applied {self.view(node).applied}"
            )

    # ---- the disk

    def mute(self, node: NodeId) -> None:
        """The disk of `node` was replaced. What it does means nothing as long as nobody listens to it."""
        self._muted[node] = []

    def is_muted(self, node: NodeId) -> bool:
        """Whether nobody has listened to `node` since its disk was replaced."""
        return node in self._muted

    def unmute(self, node: NodeId) -> None:
        """Somebody listens to it again: now its new disk must fit what the old one promised."""
        self.on_durable(node, self._muted.pop(node))

    def on_durable(self, node: NodeId, records: Sequence[Record]) -> None:
        """Records that a crash cannot take back any more."""
        if node in self._muted:
            self._muted[node].extend(records)
            return
        for record in records:
            self.on_record(node, record)

    # ---- applying

    def on_started(self, node: NodeId, incarnation: int) -> None:
        """The process has started; its state is empty until `on_installed` or `on_applied`."""
        view = self.view(node)
        view.incarnation = incarnation
        view.applied = NO_SLOT

    # ---- the end

    def check_answers(self, answers: Sequence[tuple[int, int, Any]]) -> None:
        """DUR: what a client was told as done is in the state of all, with that result."""
        for client, seq, result in answers:
            first = self.model.effect(client, seq, result)
            if first is None or first[1] != result:
                raise Violation(f"DUR: request {client}/{seq} was answered {result!r} and is now {first!r}")


class LogInvariants(Invariants):
    """Of engines with one log: all replicas apply the same commands in the same slots, in order."""

    def __init__(self, nodes: Sequence[NodeId], model: Model) -> None:
        super().__init__(nodes, model)
        self.views: dict[NodeId, NodeView] = {node: NodeView() for node in nodes}
        self.digests: dict[Slot, str] = {}
        self.commands: list[AnyCommand] = []
        """What was applied, by slot."""

    def view(self, node: NodeId) -> NodeView:
        """As in the base class."""
        return self.views[node]

    def has_executed(self, node: NodeId, client: int, seq: int) -> bool:
        """The replica has applied the slot."""
        first = self.model.first.get((client, seq))
        return first is not None and first[0] <= self.view(node).applied

    def is_level(self, nodes: Iterable[NodeId]) -> bool:
        """All have applied the last slot."""
        last = len(self.model.results) - 1
        return all(self.view(node).applied == last for node in nodes)

    def check_first(self, node: NodeId, slot: Slot, command: AnyCommand) -> None:
        """`node` is the first to apply `slot`: may anybody?"""
        raise NotImplementedError

    def on_record(self, node: NodeId, record: Record) -> None:
        """EQ for snapshots."""
        if type(record) is SnapshotTaken:
            view = self.view(node)
            view.snapshot = max(view.snapshot, record.slot)  # storage keeps no older one than it has
            if self.digests.setdefault(record.slot, record.digest) != record.digest:
                raise Violation(f"EQ: node {node} has another state hash after slot {record.slot} than others had")

    def on_installed(self, node: NodeId, slot: Slot, digest: str, is_foreign: bool) -> None:
        """ADU and EQ."""
        view = self.view(node)
        if slot < view.applied:
            raise Violation(f"ADU: node {node} goes back from slot {view.applied} to a snapshot of slot {slot}")
        if slot >= len(self.commands):
            raise Violation(f"ADU: node {node} installs a snapshot of slot {slot}, which nobody has applied")
        if self.digests.setdefault(slot, digest) != digest:
            raise Violation(f"EQ: node {node} installs a snapshot of slot {slot} with another hash than others had")
        view.applied = slot
        if is_foreign:
            view.installs += 1

    def on_applied(self, node: NodeId, slot: Slot, commands: Sequence[AnyCommand], results: list[Any]) -> None:
        """AGR, ADU, XO, EQ and BAL."""
        view = self.view(node)
        if slot != view.applied + 1:
            raise Violation(f"ADU: node {node} applies slot {slot} after {view.applied}")
        known = self.commands
        for command, result in zip(commands, results, strict=True):
            if slot < len(known):
                if known[slot] != command:
                    raise Violation(f"AGR: node {node} applies {command!r} in slot {slot}, others {known[slot]!r}")
            else:
                self.check_first(node, slot, command)
                known.append(command)
            try:
                self.model.check(slot, command, result)
            except ModelError as error:
                raise Violation(f"{error} (node {node})") from error
            slot += 1
        view.applied = slot - 1


def result_of(reply: Answer[Any] | Answers[Any]) -> Any:
    """What the request was told, as the model has it: of a series, the encoded list of its results."""
    return reply.result if isinstance(reply, Answer) else bytes(cast(msgspec.Raw, reply.result))


def encoded(command: AnyCommand) -> bytes:
    """The bytes of a command, as clients and nodes encode it."""
    return NOOP if command is None else msgspec.msgpack.encode(command)
