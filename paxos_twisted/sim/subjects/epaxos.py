"""EPaxos in the simulator: what its replicas have stored and said, instance by instance.

EA is broken by a decision without votes for it (a fast quorum that pre-accepted exactly what the owner had sent, or a
majority that accepted it in one ballot), and by two decisions of one instance.

EV is broken by two decided instances that interfere when neither is among the dependencies of the other.

EX is broken when interfering commands run in different orders, see `paxos_twisted.sim.subjects.order`, or when a
command runs more often than it is decided.

ONE is broken by two proposals in one instance and ballot; by a ballot or an instance that somebody else uses than its
owner, or another incarnation of it.

PRO is broken by an answer that a crash would take back; by a ballot or a vote that falls; by an answer to Prepare that
hides a vote; by a second answer to PreAccept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from paxos_twisted.apps.application import Application, Footprint
from paxos_twisted.core.command import BARRIER, NOOP, Barrier, Command, Series, array_of, split_run
from paxos_twisted.core.detectors.failure import DELAY_GROWTH_MAX
from paxos_twisted.core.engine import Engine
from paxos_twisted.core.epaxos.messages import (
    ACCEPTED,
    PREACCEPTED,
    Accept,
    AcceptReply,
    Commit,
    PreAccept,
    PreAcceptReply,
    Prepare,
    PrepareReply,
    Validate,
)
from paxos_twisted.core.epaxos.quorums import fast_quorum
from paxos_twisted.core.epaxos.replica import EPaxos
from paxos_twisted.core.epaxos.settings import Settings
from paxos_twisted.core.records import Cell, Decisions, Record
from paxos_twisted.limits import ROUND_STRIDE
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.model import Model
from paxos_twisted.sim.subjects.order import PartialOrderInvariants, operations_of
from paxos_twisted.sim.subjects.subject import Subject
from paxos_twisted.types import NodeId, Slot

if TYPE_CHECKING:
    from paxos_twisted.sim.cluster import Cluster

SETTINGS = Settings(
    heartbeat_ms=60,
    delay_ms=300,
    delta_ms=60,
    answer_ms=100,
    recover_ms=300,
    catch_up_ms=60,
    hold_ms=300,
)
"""Shorter than the defaults, in the same relations."""

InstanceId = tuple[int, Slot]


class Value(NamedTuple):
    """What an instance is decided to be. The commands are those that its owner began it with, or none."""

    deps: tuple[int, ...]
    seq: int
    is_noop: bool


class Begun(NamedTuple):
    """What an owner has sent."""

    deps: tuple[int, ...]
    seq: int
    body: bytes
    size: int
    """Number of commands."""


class Touch(NamedTuple):
    """What the commands of an instance touch, worked out from the application's footprints alone."""

    reads: frozenset[Any]
    writes: frozenset[Any]
    reads_all: bool
    writes_all: bool

    def interferes(self, other: "Touch") -> bool:
        """Whether their order can matter."""
        if self.writes_all or other.writes_all:
            return True
        mine = {key for key in self.writes if key[0] == "key"}
        others = {key for key in other.writes if key[0] == "key"}
        if (self.reads_all and others) or (other.reads_all and mine):
            return True
        return bool(self.writes & other.writes or self.writes & other.reads or self.reads & other.writes)


class EPaxosInvariants(PartialOrderInvariants):
    """Votes, ballots and dependencies."""

    def __init__(self, nodes: Sequence[NodeId], model: Model, application: Application) -> None:
        super().__init__(nodes, model, application.footprint)
        self.fast_size = fast_quorum(len(nodes))
        self.begun: dict[InstanceId, Begun] = {}
        self.owners: dict[tuple[int, Slot, int], int] = {}
        """(replica, slot, ballot) -> incarnation of the node that used it."""
        self.proposed: dict[InstanceId, dict[int, Value]] = {}
        """What was to be accepted, by ballot."""
        self.pre_accepts: dict[InstanceId, dict[NodeId, tuple[tuple[int, ...], int]]] = {}
        """What each replica has durably pre-accepted."""
        self.accepts: dict[InstanceId, dict[NodeId, dict[int, Value]]] = {}
        """What each replica has durably accepted, by ballot."""
        self.ballots: dict[tuple[NodeId, InstanceId], int] = {}
        """The ballot that a replica has durably joined."""
        self.decided: dict[InstanceId, Value] = {}
        self.decided_in: dict[InstanceId, int] = {}
        """In which ballot; 0 for a fast quorum, too."""
        self.fast = 0
        """Decisions that had a fast quorum and nothing else."""
        self.decided_times: dict[tuple[int, int], int] = {}
        """(client, seq) -> in how many decided instances the request stands."""
        self._touches: dict[InstanceId, Touch] = {}
        self._by_key: dict[Any, list[InstanceId]] = {}
        op_type = application.op_type
        self._decode: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(
            list[Command[op_type] | Series[op_type] | Barrier | None]  # type: ignore[valid-type]
        ).decode

    def owner(self, replica: int) -> NodeId:
        """The node with this number."""
        return self.nodes[replica]

    # ---- messages

    def on_send(self, node: NodeId, message: Any) -> None:
        """ONE, VAL, PRO and EA for what leaves a node."""
        match message:
            case PreAccept():
                self._on_pre_accept(node, message)
            case PreAcceptReply():
                said = self.pre_accepts.get((message.replica, message.slot), {}).get(node)
                if said != (message.deps, message.seq):
                    raise Violation(f"PRO: node {node} answers {message!r}; durable is {said!r}")
            case Accept():
                self._on_accept(node, message)
            case AcceptReply():
                votes = self.accepts.get((message.replica, message.slot), {}).get(node, {})
                if message.ballot not in votes:
                    raise Violation(f"PRO: node {node} tells of a vote that is not durable: {message!r}")
            case Commit():
                where = (message.replica, message.slot)
                value = Value(message.deps, message.seq, message.body == NOOP)
                if not value.is_noop and message.body not in (None, self._as_begun(where).body):
                    raise Violation(f"EA: node {node} tells of other commands than the owner's: {message!r}")
                self.decide(node, where, value)
            case Prepare():
                self._own(node, message.replica, message.slot, message.ballot)
            case PrepareReply():
                self._on_prepare_reply(node, message)
            case Validate():
                self._own(node, message.replica, message.slot, message.ballot)
                begun = self._as_begun((message.replica, message.slot))
                if (message.deps, message.seq, message.body) != begun[:3]:
                    raise Violation(f"EA: node {node} validates something else than the owner sent: {message!r}")

    def _as_begun(self, where: InstanceId) -> Begun:
        begun = self.begun.get(where)
        if begun is None:
            raise Violation(f"VAL: instance {where} has commands, and its owner has never sent any")
        return begun

    def _own(self, node: NodeId, replica: int, slot: Slot, ballot: int) -> None:
        owner = self.owner(replica) if ballot == 0 else ballot % ROUND_STRIDE
        if owner != node:
            raise Violation(
                f"ONE: node {node} uses ballot {ballot} of instance {(replica, slot)}, which is not its own"
            )
        incarnation = self.views[node].incarnation
        if self.owners.setdefault((replica, slot, ballot), incarnation) != incarnation:
            raise Violation(
                f"ONE: node {node} uses ballot {ballot} of instance {(replica, slot)} again after a restart"
            )

    def _on_pre_accept(self, node: NodeId, message: PreAccept) -> None:
        where = (message.replica, message.slot)
        self._own(node, *where, 0)
        self.begin(node, where, Begun(message.deps, message.seq, message.body, message.count))

    def begin(self, node: NodeId, where: InstanceId, begun: Begun) -> None:
        """ONE and VAL: the owner begins an instance, in a message or for itself."""
        known = self.begun.get(where)
        if known is None:
            for raw in split_run(begun.body, begun.size):
                if raw != BARRIER:
                    self.check_sent(raw, f"instance {where}")
            self.begun[where] = begun
        elif known != begun:
            raise Violation(f"ONE: node {node} uses instance {where} twice: {known!r} and {begun!r}")

    def _on_accept(self, node: NodeId, message: Accept) -> None:
        where = (message.replica, message.slot)
        self._own(node, *where, message.ballot)
        self._propose(node, where, message.ballot, Value(message.deps, message.seq, message.body == NOOP))
        if message.body not in (None, NOOP) and message.body != self._as_begun(where).body:
            raise Violation(f"EA: node {node} proposes other commands than the owner's: {message!r}")

    def _propose(self, node: NodeId, where: InstanceId, ballot: int, value: Value) -> None:
        proposed = self.proposed.setdefault(where, {})
        if proposed.setdefault(ballot, value) != value:
            raise Violation(f"ONE: node {node} proposes {value!r} in {where}, ballot {ballot}, after {proposed!r}")
        decided = self.decided.get(where)
        if decided is not None and decided != value and self.decided_in[where] < ballot:
            raise Violation(f"EA: instance {where} is decided as {decided!r}; ballot {ballot} proposes {value!r}")

    def _on_prepare_reply(self, node: NodeId, reply: PrepareReply) -> None:
        where = (reply.replica, reply.slot)
        if self.ballots.get((node, where), 0) < reply.ballot:
            raise Violation(f"PRO: node {node} has not durably joined the ballot of {reply!r}")
        votes = self.accepts.get(where, {}).get(node, {})
        earlier = [ballot for ballot in votes if ballot < reply.ballot]
        pre_accepted = self.pre_accepts.get(where, {}).get(node)
        if reply.status == ACCEPTED:
            vote = Value(reply.deps, reply.seq, reply.body == NOOP)
            if votes.get(reply.vbal) != vote or (earlier and max(earlier) > reply.vbal):
                raise Violation(f"PRO: node {node} answers {reply!r}; its durable votes are {votes!r}")
        elif earlier:
            raise Violation(f"PRO: node {node} hides its votes {votes!r} in {reply!r}")
        elif reply.status == PREACCEPTED:
            if pre_accepted != (reply.deps, reply.seq):
                raise Violation(f"PRO: node {node} answers {reply!r}; pre-accepted durably is {pre_accepted!r}")
        elif pre_accepted is not None:
            raise Violation(f"PRO: node {node} hides that it has pre-accepted {pre_accepted!r}, in {reply!r}")

    # ---- the disk

    def on_record(self, node: NodeId, record: Record) -> None:
        """PRO for what is durable."""
        match record:
            case Cell():
                self._on_cell(node, record)
            case Decisions():
                for replica, slot, seq, is_noop, deps in record.cells:
                    self.decide(node, (replica, slot), Value(deps, seq, is_noop))
            case _:
                super().on_record(node, record)

    def _on_cell(self, node: NodeId, cell: Cell) -> None:
        where = (cell.replica, cell.slot)
        if cell.bal < self.ballots.get((node, where), 0):
            raise Violation(f"PRO: the durable ballot of node {node} in instance {where} falls to {cell.bal}")
        self.ballots[node, where] = cell.bal
        value = Value(cell.deps, cell.seq, cell.is_noop)
        if cell.status == PREACCEPTED:
            if self.owner(cell.replica) == node and cell.values is not None and cell.vbal == 0:
                self.begin(node, where, Begun(cell.deps, cell.seq, cell.values, cell.count))
            pre_accepts = self.pre_accepts.setdefault(where, {})
            if pre_accepts.setdefault(node, value[:2]) != value[:2]:
                raise Violation(f"PRO: node {node} pre-accepts {where} again, otherwise: {cell!r}")
            if self.accepts.get(where, {}).get(node):
                raise Violation(f"PRO: node {node} has accepted {where}, and falls back to pre-accepted")
        elif cell.status == ACCEPTED:
            votes = self.accepts.setdefault(where, {}).setdefault(node, {})
            if votes and max(votes) > cell.vbal:
                raise Violation(f"PRO: the vote of node {node} in {where} falls to ballot {cell.vbal}")
            if cell.vbal % ROUND_STRIDE == node or (cell.vbal == 0 and self.owner(cell.replica) == node):
                self._propose(node, where, cell.vbal, value)  # to itself: no message need have left yet
            elif self.proposed.get(where, {}).get(cell.vbal) != value:
                raise Violation(f"VAL: node {node} accepts in {where} what nobody has proposed: {cell!r}")
            votes[cell.vbal] = value
        elif cell.status > ACCEPTED:
            self.decide(node, where, value)

    # ---- decisions

    def decide(self, node: NodeId, where: InstanceId, value: Value) -> None:
        """EA and EV: somebody says, or writes, that an instance is decided."""
        known = self.decided.get(where)
        if known is not None:
            if known != value:
                raise Violation(f"EA: instance {where} is decided as {known!r}, says one; node {node}: {value!r}")
            return
        ballot = self._deciding_ballot(where, value)
        if ballot is None:
            raise Violation(
                f"EA: node {node} says that {where} is decided as {value!r}; pre-accepted durably: "
                f"{self.pre_accepts.get(where)!r}, accepted: {self.accepts.get(where)!r}, "
                f"begun: {self.begun.get(where)!r}"
            )
        self.decided[where] = value
        self.decided_in[where] = ballot
        for later, proposed in self.proposed.get(where, {}).items():
            if later > ballot and proposed != value:
                raise Violation(f"EA: {where} is decided as {value!r} in ballot {ballot}; {later} had {proposed!r}")
        if value.is_noop:
            return
        begun = self._as_begun(where)
        touch = self._touches[where] = self._touch(begun)
        for other in self._neighbours(touch):
            if other != where and self._touches[other].interferes(touch):
                theirs = self.decided[other].deps
                if other[1] > value.deps[other[0]] and where[1] > theirs[where[0]]:
                    raise Violation(
                        f"EV: instances {where} ({value!r}) and {other} ({self.decided[other]!r}) interfere, "
                        f"and neither depends on the other"
                    )
        for key in touch.reads | touch.writes:
            self._by_key.setdefault(key, []).append(where)

    def _deciding_ballot(self, where: InstanceId, value: Value) -> int | None:
        """The lowest ballot in which this value has a quorum of durable votes; None when it has nowhere."""
        voters: dict[int, int] = {}
        for votes in self.accepts.get(where, {}).values():
            for ballot, vote in votes.items():
                if vote == value:
                    voters[ballot] = voters.get(ballot, 0) + 1
        accepted = [ballot for ballot, count in voters.items() if count >= self.quorum_size]
        if accepted:
            return min(accepted)
        # Only the owner makes a fast quorum a decision. While it has not, others may still decide otherwise.
        begun = self.begun.get(where)
        pre_accepts = self.pre_accepts.get(where, {})
        if begun is None or value != Value(begun.deps, begun.seq, False) or self.owner(where[0]) not in pre_accepts:
            return None
        if sum(vote == begun[:2] for vote in pre_accepts.values()) < self.fast_size:
            return None
        self.fast += 1
        return 0

    def _touch(self, begun: Begun) -> Touch:
        reads: set[Any] = set()
        writes: set[Any] = set()
        reads_all = writes_all = False
        for command in self._decode(array_of(begun.body, begun.size)):
            if not isinstance(command, Command | Series):
                writes_all = writes_all or command is not None
                continue
            where = (command.client, command.seq)
            self.decided_times[where] = self.decided_times.get(where, 0) + 1
            writes.add(("client", command.client))
            for op in operations_of(command):
                footprint: Footprint = self._footprint(op)
                (writes if footprint.writes else reads).update(("key", key) for key in footprint.keys)
                if footprint.everything:
                    writes_all, reads_all = writes_all or footprint.writes, reads_all or not footprint.writes
        return Touch(frozenset(reads), frozenset(writes), reads_all, writes_all)

    def _neighbours(self, touch: Touch) -> set[InstanceId]:
        """Decided instances that may interfere."""
        if touch.reads_all or touch.writes_all:
            return set(self._touches)
        found = {where for key in touch.reads | touch.writes for where in self._by_key.get(key, ())}
        found.update(where for where, other in self._touches.items() if other.reads_all or other.writes_all)
        return found

    def on_command(self, node: NodeId, command: Command[Any] | Series[Any], times: int) -> None:
        """EX: a command runs only where it is decided."""
        decided = self.decided_times.get((command.client, command.seq), 0)
        if times > decided:
            raise Violation(f"EX: node {node} executes {command!r} {times} times; it is decided {decided} times")


class EPaxosSubject(Subject):
    """See `Subject`."""

    name = "epaxos"
    settings = SETTINGS
    message_kinds = (
        ("PreAccept",),
        ("PreAcceptReply",),
        ("Accept",),
        ("AcceptReply",),
        ("Commit",),
        ("Prepare", "PrepareReply"),
        ("Validate", "ValidateReply", "Waiting"),
        ("Heartbeat",),
    )
    proposals = ("PreAccept", "Accept", "Commit")
    has_leader = False

    def invariants(
        self, nodes: Sequence[NodeId], model: Model, application: Application, settings: Any
    ) -> EPaxosInvariants:
        """Votes, ballots and dependencies."""
        return EPaxosInvariants(nodes, model, application)

    def leader(self, engines: Mapping[NodeId, Engine]) -> NodeId | None:
        """There is none."""
        return None

    def describe(self, engine: Engine) -> str:
        """How far it is."""
        assert isinstance(engine, EPaxos)
        return f"ready {engine.is_ready} waiting {engine.waiting} executed {engine.adu}"

    def election_ms(self, settings: Any) -> int:
        """An owner that is gone must be missed; then its instances are recovered, and those that wait for them."""
        assert isinstance(settings, Settings)
        delay = DELAY_GROWTH_MAX * settings.delay_ms + settings.delay_ms
        return delay + 4 * settings.recover_ms + 20 * settings.answer_ms

    def draw_settings(self, rand: Callable[[], float]) -> Settings:
        """Thrifty or not."""
        return msgspec.structs.replace(
            SETTINGS, thrifty=rand() < 0.6, heartbeat_ms=50 + int(rand() * 50), answer_ms=60 + int(rand() * 100)
        )


def evidence(cluster: "Cluster") -> EPaxosInvariants:
    """What is known of a cluster that runs EPaxos."""
    assert isinstance(cluster.invariants, EPaxosInvariants)
    return cluster.invariants


def engine_of(cluster: "Cluster", node: NodeId) -> EPaxos:
    """The engine of a node that is up."""
    engine = cluster.nodes[node].engine
    assert isinstance(engine, EPaxos)
    return engine
