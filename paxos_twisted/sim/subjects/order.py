"""Replicas that execute in different orders: what must be the same all the same. [rules 60, 73]

Two commands interfere when the order in which they run can matter. Interfering commands must run in the same order
everywhere; then the order in which commands were executed *first*, by whichever replica, is an order that explains all
results: whoever executes y as the first of all has executed whatever interferes with y and runs before it. So the model
takes the commands in that order, and every replica's results are compared with it.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from paxos_twisted.apps.application import Footprint
from paxos_twisted.core.command import Barrier, Command, Series
from paxos_twisted.core.records import Record, SnapshotTaken
from paxos_twisted.core.table import Table
from paxos_twisted.sim.invariants import Invariants, NodeView, Violation
from paxos_twisted.sim.model import Model, ModelError
from paxos_twisted.types import NodeId, Slot

Ident = tuple[int, int, int]
"""(client, seq, how often this replica had executed that request before): a request may be committed twice."""

BARRIER_CLIENT = -1
"""Stands for the client of a barrier, which has none; barriers are counted by their seq."""


class ReplicaView(NodeView):
    """What a replica has executed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[int, int], int] = {}
        """(client, seq) -> how often."""
        self.writes: dict[Any, int] = {}
        """Key -> how many of the executed commands write it."""
        self.all_sum = 0
        """Names the set of executed commands: a sum over them."""
        self.write_sum = 0
        """The same for those that write some key of the application."""
        self.count = 0
        self.barriers = 0

    def copy_from(self, other: "ReplicaView") -> None:
        """Have executed what `other` has."""
        self.applied = other.applied
        self.seen = dict(other.seen)
        self.writes = dict(other.writes)
        self.all_sum = other.all_sum
        self.write_sum = other.write_sum
        self.count = other.count
        self.barriers = other.barriers


def operations_of(command: Command[Any] | Series[Any]) -> tuple[Any, ...]:
    """What a client asks for in one request."""
    return command.ops if isinstance(command, Series) else (command.op,)


class PartialOrderInvariants(Invariants):
    """EX, XO and EQ of replicas that agree on the order of interfering commands only."""

    def __init__(self, nodes: Sequence[NodeId], model: Model, footprint: Callable[[Any], Footprint]) -> None:
        super().__init__(nodes, model)
        self.views: dict[NodeId, ReplicaView] = {node: ReplicaView() for node in nodes}
        self.outcomes: dict[Ident, Any] = {}
        """What each execution of each request gave: the same on every replica."""
        self.writers: dict[Any, list[Ident]] = {}
        """Key -> the commands that write it, in their one order."""
        self._footprint = footprint
        self._places: dict[Ident, dict[Any, int]] = {}
        self._sums: dict[Ident, int] = {}
        self._begun: dict[tuple[NodeId, Slot], ReplicaView] = {}
        self._pictures: dict[tuple[Slot, str], ReplicaView] = {}
        self._contents: dict[int, str] = {}

    def view(self, node: NodeId) -> ReplicaView:
        """As in the base class."""
        return self.views[node]

    def has_executed(self, node: NodeId, client: int, seq: int) -> bool:
        """At least once."""
        return (client, seq) in self.views[node].seen

    def is_level(self, nodes: Iterable[NodeId]) -> bool:
        """All have executed everything that anybody has."""
        total = len(self.outcomes)
        return all(self.views[node].count == total for node in nodes)

    def on_started(self, node: NodeId, incarnation: int) -> None:
        """The state is empty, or will be that of the snapshot."""
        self.views[node].copy_from(ReplicaView())
        super().on_started(node, incarnation)

    # ---- executing

    def on_applied(
        self,
        node: NodeId,
        slot: Slot,
        commands: Sequence[Command[Any] | Series[Any] | Barrier | None],
        results: list[Any],
    ) -> None:
        """EX, XO, EQ and BAL; ADU for the local positions."""
        view = self.views[node]
        if slot != view.applied + 1:
            raise Violation(f"ADU: node {node} applies position {slot} after {view.applied}")
        for command, result in zip(commands, results, strict=True):
            if command is not None:
                self._on_command(node, view, command, result)
        view.applied += len(commands)

    def _on_command(
        self, node: NodeId, view: ReplicaView, command: Command[Any] | Series[Any] | Barrier, result: Any
    ) -> None:
        if isinstance(command, Barrier):
            key: tuple[int, int] = (BARRIER_CLIENT, view.barriers)
            view.barriers += 1
            footprints = [Footprint(everything=True)]
        else:
            key = (command.client, command.seq)
            footprints = [self._footprint(op) for op in operations_of(command)]
        again = view.seen.get(key, 0)
        view.seen[key] = again + 1
        if not isinstance(command, Barrier):
            self.on_command(node, command, again + 1)
        ident = (*key, again)
        self._check_place(node, view, ident, footprints)
        if ident in self.outcomes:
            if self.outcomes[ident] != result:
                raise Violation(
                    f"EQ: {command!r} gave {result!r} at node {node} and {self.outcomes[ident]!r} at another"
                )
            return
        self.outcomes[ident] = result
        try:
            self.model.check(len(self.model.results), command, result)
        except ModelError as error:
            raise Violation(f"{error} (node {node})") from error

    def on_command(self, node: NodeId, command: Command[Any] | Series[Any], times: int) -> None:
        """A replica executes this command for the `times`-th time: may it?"""

    def _check_place(self, node: NodeId, view: ReplicaView, ident: Ident, footprints: Sequence[Footprint]) -> None:
        """EX: as many writers of each key before it as everywhere, and the same ones. `footprints`: of a series, those
        of all its operations, which are one place in the order together."""
        everything = any(footprint.everything for footprint in footprints)
        writes = any(footprint.writes for footprint in footprints)
        mine = ("client", ident[0])
        written: set[Any] = {mine}
        keys: dict[Any, None] = {mine: None}
        for footprint in footprints:
            if not footprint.everything:
                keys.update(dict.fromkeys(footprint.keys))
                if footprint.writes:
                    written.update(footprint.keys)
        places: dict[Any, int] = {}
        for key in keys:
            place = places[key] = view.writes.get(key, 0)
            if key not in written:
                continue
            writers = self.writers.setdefault(key, [])
            if place == len(writers):
                writers.append(ident)
            elif writers[place] != ident:
                raise Violation(
                    f"EX: node {node} executes {ident} as writer number {place} of {key!r}; at another replica that "
                    f"was {writers[place]}"
                )
            view.writes[key] = place + 1
        if self._places.setdefault(ident, places) != places:
            raise Violation(
                f"EX: node {node} executes {ident} behind {places} writers of its keys, others behind "
                f"{self._places[ident]}"
            )
        if everything:
            before = view.all_sum if writes else view.write_sum
            if self._sums.setdefault(ident, before) != before:
                raise Violation(f"EX: node {node} executes {ident}, which interferes with all, behind other commands")
        name = int.from_bytes(blake2b(repr(ident).encode(), digest_size=12).digest(), "big")
        view.all_sum += name
        if writes:
            view.write_sum += name
        view.count += 1

    # ---- snapshots

    def on_photograph(self, node: NodeId, tables: Sequence[Table[Any, Any]]) -> None:
        """EQ: replicas that have executed the same commands have the same state. And note what this picture shows."""
        view = self.views[node]
        contents = blake2b(msgspec.msgpack.encode([[*table.items()] for table in tables])).hexdigest()
        if self._contents.setdefault(view.all_sum, contents) != contents:
            raise Violation(
                f"EQ: node {node} has another state than others that have executed the same {view.count} commands"
            )
        picture = ReplicaView()
        picture.copy_from(view)
        self._begun[node, view.applied] = picture

    def on_record(self, node: NodeId, record: Record) -> None:
        """A snapshot is durable."""
        if type(record) is not SnapshotTaken:
            return
        view = self.views[node]
        view.snapshot = max(view.snapshot, record.slot)
        picture = self._begun.get((node, record.slot))
        if picture is None:
            return  # it came from a peer
        self._pictures[record.slot, record.digest] = picture

    def on_installed(self, node: NodeId, slot: Slot, digest: str, is_foreign: bool) -> None:
        """The replica has executed now what the picture shows. Nothing that it had executed before may be missing."""
        view = self.views[node]
        picture = self._pictures.get((slot, digest))
        if picture is None:
            raise Violation(f"ADU: node {node} installs a snapshot of position {slot} that nobody has taken")
        missing = [key for key, times in view.seen.items() if picture.seen.get(key, 0) < times]
        if missing:
            raise Violation(f"ADU: node {node} installs a snapshot without {missing[:3]}, which it has executed")
        view.copy_from(picture)
        if is_foreign:
            view.installs += 1
