"""Multi-Paxos in the simulator: who leads, how long an election may take, and what its messages must not say.

| name | broken when |
|--|--|
| AGR | a slot has two values with a durable quorum of votes in one round each; a replica applies what has none |
| ONE | two values are proposed in one (slot, round); a round is used by another node or incarnation than its own |
| PRO | a durable round falls; a message speaks of a promise or vote that is not durable; a promise hides a vote |
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.core.command import split_run
from paxos_twisted.core.detectors.failure import DELAY_GROWTH_MAX
from paxos_twisted.core.engine import Engine
from paxos_twisted.core.multipaxos.messages import (
    Accept,
    CatchUpReply,
    Decided,
    HeartbeatRequest,
    Learn,
    Prepare,
    Promise,
)
from paxos_twisted.core.multipaxos.replica import MultiPaxos
from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.core.records import Promised, Record, Voted
from paxos_twisted.limits import ROUND_STRIDE
from paxos_twisted.sim.invariants import AnyCommand, LogInvariants, NodeView, Violation, encoded
from paxos_twisted.sim.model import Model
from paxos_twisted.sim.subjects.subject import Subject
from paxos_twisted.types import NO_ROUND, NO_SLOT, NodeId, Round, Slot

if TYPE_CHECKING:
    from paxos_twisted.sim.cluster import Cluster

SETTINGS = Settings(
    alpha=64,
    heartbeat_ms=60,
    delay_ms=300,
    delta_ms=60,
    phase1_ms=100,
    phase2_ms=100,
    catch_up_ms=60,
    disk_slow_ms=300,
)
"""Shorter than the defaults, so that a run of a few virtual seconds holds many time-outs, with the same relations."""


class VoterView(NodeView):
    """What the world knows of an acceptor."""

    def __init__(self) -> None:
        super().__init__()
        self.durable_rnd: Round = NO_ROUND
        self.newest: dict[Slot, Round] = {}
        """Slot -> round of its newest durable vote."""


class MultiPaxosInvariants(LogInvariants):
    """Votes, rounds and promises."""

    def __init__(self, nodes: Sequence[NodeId], model: Model) -> None:
        super().__init__(nodes, model)
        self.voter_views: dict[NodeId, VoterView] = {node: VoterView() for node in nodes}
        self.views.update(self.voter_views)
        self.proposed: dict[tuple[Slot, Round], bytes] = {}
        self.voters: dict[tuple[Slot, Round], int] = {}
        """Bit n: node n has a durable vote."""
        self.chosen: dict[Slot, tuple[Round, bytes]] = {}
        """Slots with a durable quorum of votes in one round: the lowest such round and its value."""
        self.owners: dict[Round, int] = {}
        """Round -> incarnation of its owner that used it."""
        self.leading: set[Round] = set()
        """Rounds in which some node said that it leads: their number tells of leader changes."""
        self.prepare_slots: dict[Round, Slot] = {}
        self._runs: set[tuple[Slot, Round, bytes]] = set()
        self._rounds_by_slot: dict[Slot, list[Round]] = {}
        self._told: Slot = NO_SLOT  # up to here it was said, rightly, that everything is decided

    @property
    def leader_changes(self) -> int:
        """Rounds that were led, less the first."""
        return max(len(self.leading) - 1, 0)

    # ---- messages

    def on_send(self, node: NodeId, message: Any) -> None:
        """ONE, VAL and PRO for what leaves a node."""
        kind = type(message)
        if kind is Accept:
            self._on_accept(node, message)
            self._on_decided(node, message.adu)
        elif kind is Decided:
            self._on_decided(node, message.adu)
        elif kind is Learn:
            self._on_learn(node, message)
        elif kind is Prepare:
            self._on_prepare(node, message)
        elif kind is Promise:
            self._on_promise(node, message)
        elif kind is CatchUpReply:
            self._on_catch_up(node, message)
        elif kind is HeartbeatRequest and message.leading != NO_ROUND:
            self.leading.add(message.leading)

    def _own(self, node: NodeId, rnd: Round) -> None:
        if rnd % ROUND_STRIDE != node:
            raise Violation(f"ONE: node {node} uses round {rnd}, which is not its own")
        incarnation = self.views[node].incarnation
        if self.owners.setdefault(rnd, incarnation) != incarnation:
            raise Violation(f"ONE: node {node} uses round {rnd} again after a restart")

    def _on_prepare(self, node: NodeId, prepare: Prepare) -> None:
        self._own(node, prepare.crnd)
        if self.voter_views[node].durable_rnd < prepare.crnd:
            raise Violation(f"PRO: node {node} prepares round {prepare.crnd}, which is not durable there")
        known = self.prepare_slots.get(prepare.crnd)
        if known is None or prepare.slot > known:
            self.prepare_slots[prepare.crnd] = prepare.slot

    def _on_accept(self, node: NodeId, accept: Accept) -> None:
        self._own(node, accept.rnd)
        self.propose(accept.slot, accept.rnd, accept.values, accept.count)

    def propose(self, slot: Slot, rnd: Round, values: bytes, count: int) -> None:
        """ONE and VAL: the owner of `rnd` proposes these values, in a message or to itself."""
        key = (slot, rnd, values)
        if key in self._runs:
            return
        self._runs.add(key)
        for value in split_run(values, count):
            if self.proposed.setdefault((slot, rnd), value) != value:
                raise Violation(f"ONE: two values proposed in slot {slot}, round {rnd}")
            self.check_sent(value, f"slot {slot}, round {rnd}")
            chosen = self.chosen.get(slot)
            if chosen is not None and chosen[0] < rnd and chosen[1] != value:
                raise Violation(
                    f"AGR: slot {slot} was chosen in round {chosen[0]}, and round {rnd} proposes another value"
                )
            rounds = self._rounds_by_slot.setdefault(slot, [])
            if rnd not in rounds:
                rounds.append(rnd)
            slot += 1

    def _on_decided(self, node: NodeId, adu: Slot) -> None:
        while self._told < adu:
            if self._told + 1 not in self.chosen:
                raise Violation(f"AGR: node {node} tells that slot {self._told + 1} is decided, and it is not")
            self._told += 1

    def _on_learn(self, node: NodeId, learn: Learn) -> None:
        bit, rnd, voters = 1 << node, learn.rnd, self.voters
        for slot in range(learn.slot, learn.slot + learn.count):
            if not voters.get((slot, rnd), 0) & bit:
                raise Violation(f"PRO: node {node} tells of a vote in slot {slot}, round {rnd}, that is not durable")

    def _on_catch_up(self, node: NodeId, reply: CatchUpReply) -> None:
        if reply.count:
            for slot, value in enumerate(split_run(reply.values, reply.count), reply.slot):
                chosen = self.chosen.get(slot)
                if chosen is None or chosen[1] != value:
                    raise Violation(f"AGR: node {node} tells that slot {slot} is decided, and it is not, or not so")

    def _on_promise(self, node: NodeId, promise: Promise) -> None:
        view = self.voter_views[node]
        rnd = promise.rnd
        if view.durable_rnd < rnd:
            raise Violation(f"PRO: node {node} promises round {rnd}, durable is {view.durable_rnd}")
        if promise.first > max(view.snapshot, view.applied) + 1:
            raise Violation(f"PRO: node {node} has truncated below {promise.first} and applied only {view.applied}")
        told: dict[Slot, Round] = {}
        for vote in promise.votes:
            for slot, value in enumerate(split_run(vote.vval, vote.count), vote.slot):
                if slot in told:
                    raise Violation(f"PRO: the promise of node {node} in round {rnd} names slot {slot} twice")
                told[slot] = vote.vrnd
                if not self.voters.get((slot, vote.vrnd), 0) >> node & 1:
                    raise Violation(f"PRO: node {node} promises with a vote of slot {slot} that is not durable")
                if self.proposed.get((slot, vote.vrnd)) != value:
                    raise Violation(f"PRO: node {node} reports a wrong value in slot {slot}, round {vote.vrnd}")
        start = max(self.prepare_slots.get(rnd, 0), promise.first)
        for slot, vrnd in view.newest.items():
            if start <= slot and vrnd < rnd and told.get(slot, NO_ROUND) < vrnd:
                raise Violation(
                    f"PRO: node {node} promises round {rnd} and hides its vote of slot {slot}, round {vrnd}"
                )

    # ---- the disk

    def on_record(self, node: NodeId, record: Record) -> None:
        """AGR and PRO for records that a crash cannot take back any more."""
        view = self.voter_views[node]
        kind = type(record)
        if kind is Voted:
            assert isinstance(record, Voted)
            self._raise_round(node, view, record.rnd)
            self._on_vote(node, view, record)
        elif kind is Promised:
            assert isinstance(record, Promised)
            self._raise_round(node, view, record.rnd)
        else:
            super().on_record(node, record)

    def _raise_round(self, node: NodeId, view: VoterView, rnd: Round) -> None:
        if rnd < view.durable_rnd:
            raise Violation(f"PRO: the durable round of node {node} falls from {view.durable_rnd} to {rnd}")
        view.durable_rnd = rnd

    def _on_vote(self, node: NodeId, view: VoterView, vote: Voted) -> None:
        rnd, slot = vote.rnd, vote.slot
        if rnd % ROUND_STRIDE == node:
            self.propose(slot, rnd, vote.values, vote.count)  # to itself: no message need have left yet
        for value in split_run(vote.values, vote.count):
            key = (slot, rnd)
            if self.proposed.get(key) != value:
                raise Violation(f"VAL: node {node} votes in slot {slot}, round {rnd} for what was not proposed there")
            before = self.voters.get(key, 0)
            after = before | 1 << node
            if after != before:
                self.voters[key] = after
                if after.bit_count() == self.quorum_size:
                    self._choose(slot, rnd, value)
            if view.newest.get(slot, NO_ROUND) < rnd:
                view.newest[slot] = rnd
            slot += 1

    def _choose(self, slot: Slot, rnd: Round, value: bytes) -> None:
        chosen = self.chosen.get(slot)
        if chosen is not None and chosen[1] != value:
            raise Violation(f"AGR: slot {slot} has one value chosen in round {chosen[0]} and another in round {rnd}")
        if chosen is None or rnd < chosen[0]:
            self.chosen[slot] = (rnd, value)
            for other in self._rounds_by_slot[slot]:
                if other > rnd and self.proposed[slot, other] != value:
                    raise Violation(
                        f"AGR: slot {slot} is chosen in round {rnd}, and round {other} has proposed another value"
                    )

    # ---- applying

    def check_first(self, node: NodeId, slot: Slot, command: AnyCommand) -> None:
        """AGR: a quorum has voted for it, in one round."""
        chosen = self.chosen.get(slot)
        if chosen is None:
            raise Violation(
                f"AGR: node {node} applies slot {slot}, for which no quorum has a durable vote in one round"
            )
        if chosen[1] != encoded(command):
            raise Violation(f"AGR: node {node} applies another command in slot {slot} than was chosen")


class MultiPaxosSubject(Subject):
    """See `Subject`."""

    name = "multipaxos"
    settings = SETTINGS
    message_kinds = (("Prepare",), ("Promise",), ("Accept",), ("Learn",), ("HeartbeatRequest",), ("CatchUpReply",))
    proposals = ("Accept",)

    def invariants(
        self, nodes: Sequence[NodeId], model: Model, application: Application, settings: Any
    ) -> MultiPaxosInvariants:
        """Votes and rounds."""
        return MultiPaxosInvariants(nodes, model)

    def leader(self, engines: Mapping[NodeId, Engine]) -> NodeId | None:
        """The node that believes it leads, in the highest round."""
        leaders = [
            (engine.round, node)
            for node, engine in engines.items()
            if isinstance(engine, MultiPaxos) and engine.role == "leader"
        ]
        return max(leaders)[1] if leaders else None

    def term(self, engine: Engine) -> int:
        """The round."""
        assert isinstance(engine, MultiPaxos)
        return engine.round

    def describe(self, engine: Engine) -> str:
        """Role, leader, round."""
        assert isinstance(engine, MultiPaxos)
        return f"{engine.role} follows {engine.leader} round {engine.round} adu {engine.adu}"

    def election_ms(self, settings: Any) -> int:
        """The largest detector delay, a phase 1 that times out at its longest, the longest back-off."""
        assert isinstance(settings, Settings)
        return DELAY_GROWTH_MAX * settings.delay_ms + 10 * settings.phase1_ms + settings.delay_ms

    def draw_settings(self, rand: Callable[[], float]) -> Settings:
        """Windows and both detectors."""
        alpha = (1, 3, 8, 64, 64, 1024)[int(rand() * 6)]
        return msgspec.structs.replace(
            SETTINGS, alpha=alpha, policy="lab" if rand() < 0.12 else "sticky", heartbeat_ms=50 + int(rand() * 50)
        )

    def window(self, settings: Any) -> int:
        """Alpha."""
        assert isinstance(settings, Settings)
        return settings.alpha

    def survives_rot(self, settings: Any) -> bool:
        """Not with the lab's detector, which has no answer to a leader that must keep silent."""
        assert isinstance(settings, Settings)
        return settings.policy != "lab"


def evidence(cluster: "Cluster") -> MultiPaxosInvariants:
    """What is known of a cluster that runs Multi-Paxos."""
    assert isinstance(cluster.invariants, MultiPaxosInvariants)
    return cluster.invariants


def engine_of(cluster: "Cluster", node: NodeId) -> MultiPaxos:
    """The engine of a node that is up."""
    engine = cluster.nodes[node].engine
    assert isinstance(engine, MultiPaxos)
    return engine


def rounds_burnt(cluster: "Cluster") -> int:
    """Counter of the highest round any node has prepared."""
    return max(evidence(cluster).owners, default=0) // ROUND_STRIDE
