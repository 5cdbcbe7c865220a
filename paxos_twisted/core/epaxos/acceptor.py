"""The acceptor: joins ballots, pre-accepts, accepts, validates. [EP Fig. 2; EP* Fig. 3; protocol-rules 62-69]

Whoever sends what a handler returns must first make the instances in `changed` durable.
"""

import msgspec

from paxos_twisted.core.command import NOOP
from paxos_twisted.core.epaxos.conflicts import ConflictIndex
from paxos_twisted.core.epaxos.instance import Grid, Instance, covers
from paxos_twisted.core.epaxos.interference import NOTHING, Access, Footprints, joined
from paxos_twisted.core.epaxos.messages import (
    ACCEPTED,
    COMMITTED,
    EXECUTED,
    NONE,
    PREACCEPTED,
    Accept,
    AcceptReply,
    Commit,
    Conflict,
    Deps,
    PreAccept,
    PreAcceptReply,
    Preempted,
    Prepare,
    PrepareReply,
    Validate,
    ValidateReply,
)
from paxos_twisted.types import NodeId

Decided = Commit
"""Who knows the decision answers every other question with it. [rule 64]"""


class Acceptor:
    """One replica's votes.

    Args:
        node: this node, as the sender of what it answers.
        grid, index: shared with the other parts of the replica.
        footprints: what commands touch.
    """

    def __init__(self, node: NodeId, grid: Grid, index: ConflictIndex, footprints: Footprints) -> None:
        self.node = node
        self.grid = grid
        self.index = index
        self.footprints = footprints
        self.changed: dict[Instance, None] = {}
        """Instances whose votes are new since the owner last emptied this: a set that keeps its order."""
        self.now_ms = 0

    def access_of(self, body: bytes, count: int) -> Access | None:
        """What a batch touches; None when it does not decode, and must not be voted for."""
        if body == NOOP:
            return NOTHING
        if count > len(body):
            return None
        try:
            return joined(self.footprints(body, count))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def know_commands(self, instance: Instance, body: bytes | None, count: int) -> bool:
        """Take over the commands of an instance, if they were not known. Returns whether its value is known then."""
        if body is None:
            return bool(instance.body)
        if body == NOOP or instance.body:
            return True
        access = self.access_of(body, count)
        if access is None:
            return False
        instance.body, instance.count, instance.access = body, count, access
        return True

    # Phase 1

    def start(self, replica: int, slot: int, body: bytes, count: int, access: Access) -> Instance:
        """The owner's own copy of its PreAccept: handled in the same step as it is sent. [rules 62, 67]"""
        instance = self.grid.at(replica, slot, self.now_ms)
        assert instance.status == NONE
        assert instance.bal == 0
        instance.body, instance.count, instance.access = body, count, access
        instance.deps, instance.seq = self.index.first_attributes(replica, slot, access)
        instance.init_deps, instance.init_seq = instance.deps, instance.seq
        instance.status = PREACCEPTED
        self._note(instance)
        return instance

    def handle_pre_accept(self, m: PreAccept) -> PreAcceptReply | Preempted | Decided | None:
        """Keep the instance, with what is known here besides. The first answer is final."""
        instance = self.grid.at(m.replica, m.slot, self.now_ms)
        if instance.status >= COMMITTED:
            return self.decision(instance)
        if instance.bal > 0:
            return Preempted(self.node, m.replica, m.slot, 0, instance.bal)
        if instance.status == NONE:
            if not self.know_commands(instance, m.body, m.count):
                return None
            deps, seq = self.index.attributes(m.replica, instance.access, m.deps, m.seq)
            instance.init_deps, instance.init_seq = m.deps, m.seq
            instance.deps, instance.seq = deps, seq
            instance.status = PREACCEPTED
            self._note(instance)
        elif instance.status != PREACCEPTED:
            return None
        assert instance.vbal == 0
        return PreAcceptReply(self.node, m.replica, m.slot, instance.deps, instance.seq)

    # Phase 2

    def handle_accept(self, m: Accept) -> AcceptReply | Preempted | Decided | None:
        """Vote, unless a higher ballot was joined."""
        instance = self.grid.at(m.replica, m.slot, self.now_ms)
        if instance.status >= COMMITTED:
            return self.decision(instance)
        if m.ballot < instance.bal:
            return Preempted(self.node, m.replica, m.slot, m.ballot, instance.bal)
        if instance.is_deciding or not self.know_commands(instance, m.body, m.count):
            return None
        reply = AcceptReply(self.node, m.replica, m.slot, m.ballot)
        if instance.status == ACCEPTED and instance.vbal == m.ballot:
            assert instance.deps == m.deps, f"two values in {instance!r}, ballot {m.ballot}"
            return reply
        instance.bal = instance.vbal = m.ballot
        instance.status = ACCEPTED
        instance.is_noop = m.body == NOOP
        instance.deps, instance.seq = m.deps, m.seq
        self._note(instance)
        return reply

    # Recovery

    def handle_prepare(self, m: Prepare) -> PrepareReply | Preempted | Decided | None:
        """Join a higher ballot, and tell everything."""
        instance = self.grid.at(m.replica, m.slot, self.now_ms)
        if instance.status >= COMMITTED:
            return self.decision(instance)
        if instance.is_deciding:
            return None
        if m.ballot < instance.bal:
            return Preempted(self.node, m.replica, m.slot, m.ballot, instance.bal)
        if m.ballot > instance.bal:
            instance.bal = m.ballot
            self.changed[instance] = None
        body, count = instance.value
        nothing = (-1,) * self.grid.n
        return PrepareReply(
            self.node,
            m.replica,
            m.slot,
            m.ballot,
            instance.status,
            instance.vbal,
            instance.deps or nothing,
            instance.seq,
            body if instance.status else b"",
            count if instance.status else 0,
            instance.init_deps or nothing,
            instance.init_seq,
        )

    def handle_validate(self, m: Validate) -> ValidateReply | Preempted | Decided | None:
        """Keep the value as what the owner began with, and report what speaks against it."""
        instance = self.grid.at(m.replica, m.slot, self.now_ms)
        if instance.status >= COMMITTED:
            return self.decision(instance)
        if m.ballot != instance.bal:
            if m.ballot > instance.bal:
                return None  # we have not joined it: our answer would be worth nothing
            return Preempted(self.node, m.replica, m.slot, m.ballot, instance.bal)
        if instance.is_deciding or not self.know_commands(instance, m.body, m.count):
            return None
        if (instance.init_deps, instance.init_seq) != (m.deps, m.seq):
            instance.init_deps, instance.init_seq = m.deps, m.seq
            self._note(instance)
        conflicts = self.conflicts(instance, m.deps)
        if conflicts is None:
            return None
        return ValidateReply(self.node, m.replica, m.slot, m.ballot, conflicts)

    def conflicts(self, instance: Instance, deps: Deps) -> tuple[Conflict, ...] | None:
        """Every other interfering instance outside `deps` that is committed without this one in its dependencies, or
        not committed and begun without it. None: it cannot be told."""
        if any(have < blind for have, blind in zip(deps, self.index.blind, strict=True)):
            return None
        found: list[Conflict] = []
        access = instance.access
        newest, executed = self.index.newest(access), self.index.newest_executed(access)
        for replica, column in enumerate(self.grid.columns):
            last = deps[replica]
            if last < self.index.floor[replica]:
                # Nothing is known any more of single instances down there; see `conflicts`: this one is not executed
                # here, so it has not taken the fast path, and may be given up.
                found.append(Conflict(replica, self.index.floor[replica], True))
                continue
            if replica == instance.replica:
                continue  # the owner knows all its earlier instances, and its later ones depend on this one
            if executed[replica] > last:
                # What is executed here does not depend on `instance`, which is not.
                found.append(Conflict(replica, executed[replica], True))
            for slot in range(max(last, column.executed) + 1, newest[replica] + 1):
                other = column.cells.get(slot)
                if other is None or other.status == EXECUTED or not other.access.interferes(access):
                    continue
                if self._speaks_against(other, instance):
                    found.append(Conflict(replica, slot, other.status == COMMITTED))
        return tuple(found)

    def _speaks_against(self, other: Instance, instance: Instance) -> bool:
        if other.status == COMMITTED:
            return not other.is_noop and not covers(other.deps, instance.replica, instance.slot)
        if other.init_deps is not None:
            return not covers(other.init_deps, instance.replica, instance.slot)
        return (
            other.status == ACCEPTED and not other.is_noop and not covers(other.deps, instance.replica, instance.slot)
        )

    # Decisions

    def handle_commit(self, m: Commit) -> Instance | None:
        """Take over a decision, in whatever ballot it was made. Returns the instance if that is news, and its commands
        are known. [rule 65]

        Raises:
            Contradiction: another value was committed before.
        """
        instance = self.grid.at(m.replica, m.slot, self.now_ms)
        is_noop = m.body == NOOP
        if instance.status >= COMMITTED:
            if instance.deps and (instance.deps, instance.seq, instance.is_noop) != (m.deps, m.seq, is_noop):
                raise Contradiction(f"{instance!r} is committed a second time, otherwise: {m!r}")
            return None
        if not self.know_commands(instance, m.body, m.count):
            return None
        self.commit(instance, m.deps, m.seq, is_noop)
        return instance

    def commit(self, instance: Instance, deps: Deps, seq: int, is_noop: bool) -> None:
        """The instance is decided."""
        assert instance.status < COMMITTED
        instance.deps, instance.seq, instance.is_noop = deps, seq, is_noop
        instance.status = COMMITTED
        instance.commit_ms = self.now_ms
        instance.is_deciding = False
        for replica, slot in enumerate(deps):
            column = self.grid.columns[replica]
            column.top = max(column.top, slot)
        self._index(instance)
        self.changed.pop(instance, None)

    def decision(self, instance: Instance) -> Commit:
        """What to say of a decided instance."""
        body, count = instance.value
        return Commit(self.node, instance.replica, instance.slot, instance.deps, instance.seq, body, count)

    def _note(self, instance: Instance) -> None:
        self.changed[instance] = None
        for replica, slot in enumerate(instance.deps):
            column = self.grid.columns[replica]
            column.top = max(column.top, slot)
        self._index(instance)

    def _index(self, instance: Instance) -> None:
        self.index.add(instance.replica, instance.slot, max(instance.seq, instance.init_seq), instance.access)


class Contradiction(AssertionError):
    """Two values were committed for one instance: some replica is wrong, and nobody may go on. Invariant EA."""
