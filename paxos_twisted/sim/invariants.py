"""The invariants of docs/simulator.md, checked from outside after every event.

Nothing here asks an engine what it believes. The evidence is what leaves a node (messages, replies), what is durable
(records, as the disk reports them synced), and which commands a replica applies with which results.

| name | broken when |
|--|--|
| AGR | a slot has two values with a durable quorum of votes in one round each; a replica applies what has none |
| ONE | two values are proposed in one (slot, round); a round is used by another node or incarnation than its own |
| PRO | a durable round falls; a message speaks of a promise or vote that is not durable; a promise hides a vote |
| ADU | a replica skips, repeats or reorders slots |
| VAL | a value is proposed that no client sent and that is no no-op |
| XO, EQ, BAL | see `paxos_twisted.sim.model` |
| SES | an answer for a request that is not applied, or with another request's result |
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from paxos_twisted.core.command import NOOP, Command, split_run
from paxos_twisted.core.multipaxos.messages import (
    Accept,
    CatchUpReply,
    HeartbeatRequest,
    Learn,
    Prepare,
    Promise,
)
from paxos_twisted.core.records import Promised, Record, SnapshotTaken, Voted
from paxos_twisted.limits import ROUND_STRIDE
from paxos_twisted.sim.model import BankModel, ModelError
from paxos_twisted.types import NO_ROUND, NO_SLOT, NodeId, Round, Slot
from paxos_twisted.wire.client import Answer, Reply


class Violation(AssertionError):
    """An invariant is broken. The text begins with its name."""


class NodeView:
    """What the world knows of one node."""

    __slots__ = ("applied", "durable_rnd", "incarnation", "installs", "newest", "snapshot")

    def __init__(self) -> None:
        self.incarnation = 0
        self.applied: Slot = NO_SLOT
        self.durable_rnd: Round = NO_ROUND
        self.newest: dict[Slot, Round] = {}
        """Slot -> round of its newest durable vote."""
        self.snapshot: Slot = NO_SLOT
        """Slot of the durable snapshot."""
        self.installs = 0
        """Snapshots that came from a peer."""


class Invariants:
    """The evidence so far, and the checks on each new piece of it. All `on_…` methods raise Violation."""

    def __init__(self, nodes: Sequence[NodeId], model: BankModel) -> None:
        self.quorum_size = len(nodes) // 2 + 1
        self.model = model
        self.views: dict[NodeId, NodeView] = {node: NodeView() for node in nodes}
        self.requests: set[bytes] = {NOOP}
        """Every command that a client has sent, as bytes."""
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
        self.digests: dict[Slot, str] = {}
        self.commands: list[Command[Any] | None] = []
        """What was applied, by slot."""
        self._muted: dict[NodeId, list[Record]] = {}
        self._runs: set[tuple[Slot, Round, bytes]] = set()
        self._rounds_by_slot: dict[Slot, list[Round]] = {}
        self._decoder: msgspec.msgpack.Decoder[Any] | None = None

    # ---- requests and replies

    def on_request(self, raw: bytes) -> None:
        """A client has sent this command."""
        self.requests.add(raw)

    def on_reply(self, node: NodeId, reply: Reply) -> None:
        """SES: an answer tells the result of that very request, which is applied at this node."""
        if type(reply) is not Answer:
            return
        first = self.model.first.get((reply.client, reply.seq))
        if first is None:
            raise Violation(f"SES: node {node} answers request {reply.client}/{reply.seq}, which is not applied")
        slot, result = first
        if result != reply.result:
            raise Violation(
                f"SES: node {node} answers {reply.client}/{reply.seq} with {reply.result!r}; it was {result!r}"
            )
        if self.views[node].applied < slot:
            raise Violation(
                f"SES: node {node} answers {reply.client}/{reply.seq} of slot {slot}, "
                f"and has applied {self.views[node].applied}"
            )

    # ---- messages

    def on_send(self, node: NodeId, message: Any) -> None:
        """ONE, VAL and PRO for what leaves a node."""
        kind = type(message)
        if kind is Accept:
            self._on_accept(node, message)
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
        if self.views[node].durable_rnd < prepare.crnd:
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
            if value not in self.requests:
                raise Violation(f"VAL: slot {slot}, round {rnd}: no client has sent {value!r}")
            chosen = self.chosen.get(slot)
            if chosen is not None and chosen[0] < rnd and chosen[1] != value:
                raise Violation(
                    f"AGR: slot {slot} was chosen in round {chosen[0]}, and round {rnd} proposes another value"
                )
            rounds = self._rounds_by_slot.setdefault(slot, [])
            if rnd not in rounds:
                rounds.append(rnd)
            slot += 1

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
        view = self.views[node]
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
        """AGR and PRO for records that a crash cannot take back any more."""
        if node in self._muted:
            self._muted[node].extend(records)
            return
        view = self.views[node]
        for record in records:
            kind = type(record)
            if kind is Voted:
                assert isinstance(record, Voted)
                self._raise_round(node, view, record.rnd)
                self._on_vote(node, view, record)
            elif kind is Promised:
                assert isinstance(record, Promised)
                self._raise_round(node, view, record.rnd)
            elif kind is SnapshotTaken:
                assert isinstance(record, SnapshotTaken)
                view.snapshot = max(view.snapshot, record.slot)  # storage keeps no older one than it has
                if self.digests.setdefault(record.slot, record.digest) != record.digest:
                    raise Violation(f"EQ: node {node} has another state hash after slot {record.slot} than others had")

    def _raise_round(self, node: NodeId, view: NodeView, rnd: Round) -> None:
        if rnd < view.durable_rnd:
            raise Violation(f"PRO: the durable round of node {node} falls from {view.durable_rnd} to {rnd}")
        view.durable_rnd = rnd

    def _on_vote(self, node: NodeId, view: NodeView, vote: Voted) -> None:
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

    def on_started(self, node: NodeId, incarnation: int) -> None:
        """The process has started; its state is empty until `on_installed` or `on_applied`."""
        view = self.views[node]
        view.incarnation = incarnation
        view.applied = NO_SLOT

    def on_installed(self, node: NodeId, slot: Slot, digest: str, is_foreign: bool) -> None:
        """ADU and EQ: a snapshot of `slot` has replaced the state of this replica. `is_foreign`: not its own one."""
        view = self.views[node]
        if slot < view.applied:
            raise Violation(f"ADU: node {node} goes back from slot {view.applied} to a snapshot of slot {slot}")
        if slot >= len(self.commands):
            raise Violation(f"ADU: node {node} installs a snapshot of slot {slot}, which nobody has applied")
        if self.digests.setdefault(slot, digest) != digest:
            raise Violation(f"EQ: node {node} installs a snapshot of slot {slot} with another hash than others had")
        view.applied = slot
        if is_foreign:
            view.installs += 1

    def on_applied(self, node: NodeId, slot: Slot, commands: Sequence[Command[Any] | None], results: list[Any]) -> None:
        """AGR, ADU, XO, EQ and BAL: a replica has applied these commands from `slot` on."""
        view = self.views[node]
        if slot != view.applied + 1:
            raise Violation(f"ADU: node {node} applies slot {slot} after {view.applied}")
        known = self.commands
        for command, result in zip(commands, results, strict=True):
            if slot < len(known):
                if known[slot] != command:
                    raise Violation(f"AGR: node {node} applies {command!r} in slot {slot}, others {known[slot]!r}")
            else:
                self._check_chosen(node, slot, command)
                known.append(command)
            try:
                self.model.check(slot, command, result)
            except ModelError as error:
                raise Violation(f"{error} (node {node})") from error
            slot += 1
        view.applied = slot - 1

    def _check_chosen(self, node: NodeId, slot: Slot, command: Command[Any] | None) -> None:
        chosen = self.chosen.get(slot)
        if chosen is None:
            raise Violation(
                f"AGR: node {node} applies slot {slot}, for which no quorum has a durable vote in one round"
            )
        value = NOOP if command is None else msgspec.msgpack.encode(command)
        if chosen[1] != value:
            raise Violation(f"AGR: node {node} applies another command in slot {slot} than was chosen")

    # ---- the end

    def check_digest(self, node: NodeId, slot: Slot, digest: str) -> None:
        """EQ: replicas with equal `adu` have equal state hashes."""
        if self.digests.setdefault(slot, digest) != digest:
            raise Violation(f"EQ: node {node} has another state hash after slot {slot} than others")

    def check_answers(self, answers: Sequence[tuple[int, int, Any]]) -> None:
        """DUR: what a client was told as done is in the state of all, with that result."""
        for client, seq, result in answers:
            first = self.model.first.get((client, seq))
            if first is None or first[1] != result:
                raise Violation(f"DUR: request {client}/{seq} was answered {result!r} and is now {first!r}")
