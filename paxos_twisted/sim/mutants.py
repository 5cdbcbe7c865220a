"""The shipped code with one safety rule switched off, to see whether the simulator notices.

Each mutant patches a method of the shipped classes in this process, and nothing else. It is caught when some seed, run
under it, breaks an invariant. A checker that no mutant ever wakes is no checker; a rule that can be switched off without
being noticed is not tested.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from paxos_twisted.apps.bank import BankResult
from paxos_twisted.core.command import NOOP
from paxos_twisted.core.engine import Returned
from paxos_twisted.core.multipaxos import replica
from paxos_twisted.core.multipaxos.acceptor import Acceptor
from paxos_twisted.core.multipaxos.learner import Learner, Tally
from paxos_twisted.core.multipaxos.messages import Accept, CatchUpReply, Learn, Prepare, Promise, Vote
from paxos_twisted.core.multipaxos.proposer import Proposer
from paxos_twisted.core.multipaxos.replica import MultiPaxos
from paxos_twisted.core.multipaxos.restore import restore
from paxos_twisted.core.records import Promised, Voted
from paxos_twisted.core.replicated import ReplicatedState
from paxos_twisted.core.sessions import Sessions
from paxos_twisted.limits import ROUND_STRIDE
from paxos_twisted.net.faults import Rule
from paxos_twisted.node.driver import Driver
from paxos_twisted.sim.nemesis import Mix
from paxos_twisted.sim.small import Limits
from paxos_twisted.sim.swarm import Plan, Run, draw_plan, run_seed
from paxos_twisted.types import NO_ROUND, NodeId
from paxos_twisted.wire.client import Answer

Patch = Callable[[Callable[[Any, str, Any], None]], None]


class Mutant(msgspec.Struct, frozen=True):
    """One rule, and how to switch it off."""

    name: str
    rule: str
    """What the shipped code does, in one sentence."""
    patch: Patch
    """Is called with `set(owner, name, value)`."""
    seeds_max: int = 40
    """Seeds after which it must have been caught."""
    stress: str = ""
    """What its runs have more of than others: rot, snapshots, "" for nothing."""


MIX_LIMP = Mix(**{name: 0.0 for name in Mix.__struct_fields__} | {"coups": 5.0, "messages": 1.0})

MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, rule: str, seeds_max: int = 40, stress: str = "") -> Callable[[Patch], Patch]:
    """Register a patch."""

    def register(patch: Patch) -> Patch:
        MUTANTS[name] = Mutant(name, rule, patch, seeds_max, stress)
        return patch

    return register


@contextmanager
def applied(one: Mutant) -> Iterator[None]:
    """The shipped classes with one rule switched off."""
    with ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        one.patch(put)
        yield


def plan_for(one: Mutant, seed: int) -> Plan:
    """The seed's own plan, with more of what this mutant is sensitive to."""
    plan = draw_plan(seed)
    if one.stress == "rot":
        return msgspec.structs.replace(plan, mix=Mix(rot=4.0), pause_ms=120)
    if one.stress == "snapshots":
        limits = Limits(slots_kept=0, slots_behind=30, piece_bytes=100, truncate_rows=4)
        mix = msgspec.structs.replace(plan.mix, kill=3.0, partition=4.0)
        return msgspec.structs.replace(plan, snapshot_every=10, limits=limits, mix=mix, pause_ms=120)
    if one.stress == "late promises":
        rules = (Rule(kinds=("Promise",), reorder=0.5, reorder_ms=250), Rule(kinds=("Promise",), loss=0.3))
        return msgspec.structs.replace(plan_for(msgspec.structs.replace(one, stress="limp"), seed), nodes=3, rules=rules)
    if one.stress == "limp":
        settings = msgspec.structs.replace(plan.settings, alpha=max(8, plan.settings.alpha))
        habits = msgspec.structs.replace(plan.habits, outstanding=4, think_ms=5, requests=2 * plan.habits.requests)
        return msgspec.structs.replace(
            plan,
            nodes=5,
            settings=settings,
            habits=habits,
            mix=MIX_LIMP,
            pause_ms=300,
            limits=Limits(),
        )
    if one.stress == "sessions":
        limits = msgspec.structs.replace(plan.limits, sessions_per_shard=1, shards=2)
        mix = msgspec.structs.replace(plan.mix, messages=8.0, partition=4.0)
        return msgspec.structs.replace(plan, limits=limits, session_expiry=10, clients=6, mix=mix, pause_ms=80)
    if one.stress == "amnesia":
        return msgspec.structs.replace(plan, mix=Mix(amnesia=2.0), pause_ms=150)
    if one.stress == "crashes":
        return msgspec.structs.replace(plan, mix=Mix(kill=4.0, power=4.0, power_all=1.0), pause_ms=100)
    return plan


def hunt(one: Mutant, first_seed: int = 0, seeds_max: int | None = None) -> tuple[int, Run] | None:
    """Run seeds under a mutant until one notices. Returns how many it took, and that run; None: not caught."""
    with applied(one):
        for count in range(1, (seeds_max or one.seeds_max) + 1):
            seed = first_seed + count - 1
            run = run_seed(seed, plan=plan_for(one, seed))
            if run.error:
                return count, run
    return None


# ---- persist, then promise


@mutant("learn-before-durable", "A Learn leaves only when the vote it tells of is durable.")
def _learn_before_durable(put: Any) -> None:
    send_after = MultiPaxos._send_after

    def mutated(self: MultiPaxos, message: Any, receivers: Any = None) -> None:
        if isinstance(message, Learn):
            self._send(self.others, message)
        else:
            send_after(self, message, receivers)

    put(MultiPaxos, "_send_after", mutated)


@mutant("promise-before-durable", "A Promise leaves only when the promised round is durable.")
def _promise_before_durable(put: Any) -> None:
    send_after = MultiPaxos._send_after

    def mutated(self: MultiPaxos, message: Any, receivers: Any = None) -> None:
        if isinstance(message, Promise):
            self._send(receivers, message)
        else:
            send_after(self, message, receivers)

    put(MultiPaxos, "_send_after", mutated)


@mutant("prepare-before-durable", "A Prepare leaves only when its round is durable at its owner.")
def _prepare_before_durable(put: Any) -> None:
    send_after = MultiPaxos._send_after

    def mutated(self: MultiPaxos, message: Any, receivers: Any = None) -> None:
        if isinstance(message, Prepare):
            self._send(self.others, message)
        else:
            send_after(self, message, receivers)

    put(MultiPaxos, "_send_after", mutated)


@mutant("own-vote-before-durable", "A node's own vote counts only when it is durable.")
def _own_vote_before_durable(put: Any) -> None:
    def mutated(self: MultiPaxos, message: Any) -> None:
        if isinstance(message, Learn):
            self._on_learn(message)
        else:
            self._on_promise(message)

    put(MultiPaxos, "_to_self", mutated)


@mutant("truncate-before-durable", "Log records go only when the snapshot that covers them is durable.", stress="snapshots")
def _truncate_before_durable(put: Any) -> None:
    def mutated(self: Driver, action: Callable[[], None]) -> None:
        action()

    put(Driver, "_once_written", mutated)


# ---- restart


@mutant("round-reused", "After a restart a proposer starts above every round it may have used.", stress="crashes")
def _round_reused(put: Any) -> None:
    increase, prepare = Proposer.increase_crnd, Acceptor.handle_prepare

    def increased(self: Proposer, above: int = NO_ROUND) -> None:
        if self.crnd == self.node and above >= ROUND_STRIDE:  # the first round of this incarnation
            above -= ROUND_STRIDE
        increase(self, above)

    def prepared(self: Acceptor, message: Prepare) -> Promise | None:
        if message.crnd == self.rnd:
            self.rnd -= 1
        return prepare(self, message)

    put(Proposer, "increase_crnd", increased)
    put(Acceptor, "handle_prepare", prepared)


@mutant("restart-forgets-promise", "A restart reads the promised round back.", stress="crashes")
def _restart_forgets_promise(put: Any) -> None:
    def mutated(node: NodeId, entries: Sequence[Any], *rest: Any) -> Any:
        return restore(node, [entry for entry in entries if not isinstance(entry, Promised)], *rest)

    put(replica, "restore", mutated)


@mutant("restart-forgets-votes", "A restart reads the votes back.", stress="crashes")
def _restart_forgets_votes(put: Any) -> None:
    def mutated(node: NodeId, entries: Sequence[Any], *rest: Any) -> Any:
        kept = [Promised(entry.rnd) if isinstance(entry, Voted) else entry for entry in entries]
        return restore(node, kept, *rest)

    put(replica, "restore", mutated)


@mutant("rotten-vote-is-no-vote", "A vote that cannot be read back is neither none nor a guess: silence.", 200, "rot")
def _rotten_vote_is_no_vote(put: Any) -> None:
    def mutated(node: NodeId, entries: Any, lost: Any, *rest: Any) -> Any:
        return restore(node, entries, [], *rest)

    put(replica, "restore", mutated)


@mutant("another-disk-welcome", "A node that comes back with another or an older data directory is refused.", 60, "amnesia")
def _another_disk_welcome(put: Any) -> None:
    put(Driver, "peer_guard", lambda self, node, identity, progress: None)


# ---- acceptor


@mutant("accept-does-not-raise-round", "An Accept raises the promised round as a Prepare does.")
def _accept_does_not_raise_round(put: Any) -> None:
    handle = Acceptor.handle_accept

    def mutated(self: Acceptor, accept: Accept) -> Learn | None:
        before = self.rnd
        learn = handle(self, accept)
        self.rnd = before
        return learn

    put(Acceptor, "handle_accept", mutated)


@mutant("accept-below-promise", "An acceptor votes for nothing below the round it has promised.")
def _accept_below_promise(put: Any) -> None:
    on_accept = MultiPaxos._on_accept

    def mutated(self: MultiPaxos, accept: Accept) -> None:
        if accept.rnd < self.acceptor.rnd and self.role != "leader":
            self.acceptor.rnd = accept.rnd
        on_accept(self, accept)

    put(MultiPaxos, "_on_accept", mutated)


@mutant("promise-below-promise", "An acceptor promises only rounds higher than the one it has promised.")
def _promise_below_promise(put: Any) -> None:
    on_prepare = MultiPaxos._on_prepare

    def mutated(self: MultiPaxos, prepare: Prepare) -> None:
        if prepare.crnd <= self.acceptor.rnd and self.role == "follower":
            self.acceptor.rnd = prepare.crnd - 1
        on_prepare(self, prepare)

    put(MultiPaxos, "_on_prepare", mutated)


def _filter_promises(put: Any, keep: Callable[[MultiPaxos, Vote], bool]) -> None:
    send_after = MultiPaxos._send_after

    def mutated(self: MultiPaxos, message: Any, receivers: Any = None) -> None:
        if isinstance(message, Promise):
            message = msgspec.structs.replace(message, votes=tuple(v for v in message.votes if keep(self, v)))
        send_after(self, message, receivers)

    put(MultiPaxos, "_send_after", mutated)


@mutant("promise-omits-decided", "A promise lists the votes in decided slots, too.")
def _promise_omits_decided(put: Any) -> None:
    _filter_promises(put, lambda self, vote: vote.slot > self.adu)


@mutant("truncated-looks-empty", "A promise tells from which slot on the acceptor remembers.", 60, "snapshots")
def _truncated_looks_empty(put: Any) -> None:
    send_after = MultiPaxos._send_after

    def mutated(self: MultiPaxos, message: Any, receivers: Any = None) -> None:
        if isinstance(message, Promise):
            message = msgspec.structs.replace(message, first=0)
        send_after(self, message, receivers)

    put(MultiPaxos, "_send_after", mutated)
    put(replica, "PROMISE_SLOTS_BEHIND_MAX", 10**9)


# ---- proposer


def _note_with(put: Any, better: Callable[[int, int], bool]) -> None:
    """Patch which of two votes for one slot counts: `better(new, old)`."""

    def mutated(self: Proposer, newest: Any, vote: Vote) -> None:
        for offset, value in enumerate(msgspec.msgpack.Decoder(list[msgspec.Raw]).decode(_array(vote))):
            slot = vote.slot + offset
            known = newest.at(slot)
            if slot > self.adu and (known is None or better(vote.vrnd, known.vrnd)):
                newest.put(Vote(slot, vote.vrnd, bytes(value)))

    put(Proposer, "_note", mutated)


def _array(vote: Vote) -> bytes:
    return b"\xdd" + vote.count.to_bytes(4, "big") + vote.vval


@mutant("any-vrnd", "Phase 1 takes the value of the highest vrnd, not just any.", 80, "limp")
def _any_vrnd(put: Any) -> None:
    _note_with(put, lambda new, old: True)


@mutant("lowest-vrnd", "Phase 1 takes the value of the highest vrnd, not of the lowest.", 80, "limp")
def _lowest_vrnd(put: Any) -> None:
    _note_with(put, lambda new, old: new < old)


@mutant("promise-of-any-round", "Only promises of exactly the current round count.", 120, "late promises")
def _promise_of_any_round(put: Any) -> None:
    handle = Proposer.handle_promise

    def mutated(self: Proposer, promise: Promise) -> list[Accept] | None:
        return handle(self, msgspec.structs.replace(promise, rnd=self.crnd))

    put(Proposer, "handle_promise", mutated)


@mutant("phase1-minority", "Phase 1 needs a majority.", 60, "limp")
def _phase1_minority(put: Any) -> None:
    init = Proposer.__init__

    def mutated(self: Proposer, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.quorum_size -= 1

    put(Proposer, "__init__", mutated)


@mutant("phase1-binds-nothing", "What phase 1 finds voted for is proposed again.")
def _phase1_binds_nothing(put: Any) -> None:
    put(Proposer, "_bind", lambda self: [])


@mutant("no-noops", "Holes below the highest bound slot are filled with no-ops.", 60, "limp")
def _no_noops(put: Any) -> None:
    bind = Proposer._bind
    put(Proposer, "_bind", lambda self: [a for a in bind(self) if a.values != NOOP * a.count])


@mutant("new-commands-too-low", "New commands begin above every slot that phase 1 has bound.")
def _new_commands_too_low(put: Any) -> None:
    handle = Proposer.handle_promise

    def mutated(self: Proposer, promise: Promise) -> list[Accept] | None:
        accepts = handle(self, promise)
        if accepts is not None:
            self._next = self.adu + 1
        return accepts

    put(Proposer, "handle_promise", mutated)


# ---- learner


@mutant("learner-minority", "A decision needs the votes of a majority.")
def _learner_minority(put: Any) -> None:
    init = Learner.__init__

    def mutated(self: Learner, node: NodeId, nodes: int) -> None:
        init(self, node, nodes)
        self.quorum_size -= 1

    put(Learner, "__init__", mutated)


@mutant("learner-mixes-rounds", "Votes of different rounds never add up.", 60, "limp")
def _learner_mixes_rounds(put: Any) -> None:
    def mutated(self: Learner, slot: int, count: int, rnd: int, values: bytes | None, sender: NodeId | None) -> Any:
        tally = self.tallies.at(slot)
        return merge(self, slot, count, rnd if tally is None or tally.values is None else tally.rnd, None, sender)

    merge = Learner._merge
    handle_accept = Learner.handle_accept

    def merged(self: Learner, slot: int, count: int, rnd: int, values: bytes | None, sender: NodeId | None) -> Any:
        if sender is None:
            return merge(self, slot, count, rnd, values, sender)
        return mutated(self, slot, count, rnd, values, sender)

    put(Learner, "_merge", merged)
    put(Learner, "handle_accept", handle_accept)


@mutant("learner-counts-twice", "A node's vote counts once, however often it is heard.", 60)
def _learner_counts_twice(put: Any) -> None:
    class Bag(list[NodeId]):
        def add(self, node: NodeId) -> None:
            self.append(node)

    init = Tally.__init__

    def mutated(self: Tally, slot: int, count: int, rnd: int, values: bytes | None, voters: Any) -> None:
        init(self, slot, count, rnd, values, Bag(voters))  # type: ignore[arg-type]

    put(Tally, "__init__", mutated)


@mutant("catch-up-tells-votes", "Catch-up tells decided values only, never votes.", 60)
def _catch_up_tells_votes(put: Any) -> None:
    def mutated(self: MultiPaxos, request: Any) -> None:
        bodies, count = [], 0
        while (vote := self.acceptor.votes.get(request.slot + count)) is not None:
            bodies.append(vote.vval)
            count += vote.count
        reply = CatchUpReply(self.node, request.slot, count, b"".join(bodies), self.adu)
        self._send((request.sender,), reply)

    put(MultiPaxos, "_on_catch_up_request", mutated)


@mutant("apply-over-holes", "Slots are applied in order, without holes.")
def _apply_over_holes(put: Any) -> None:
    def mutated(self: MultiPaxos, decisions: Any) -> None:
        for decision in decisions:
            self._apply(decision)
        self.proposer.advance(self.adu)

    put(MultiPaxos, "_decided", mutated)


# ---- sessions, snapshots, answers


@mutant("no-session-table", "A repeated request is answered from the session table and not executed again.")
def _no_session_table(put: Any) -> None:
    put(Sessions, "find", lambda self, command: None)


@mutant("expired-session-forgotten", "A late request of an expired session is refused, not executed as a new one.", 200, "sessions")
def _expired_session_forgotten(put: Any) -> None:
    find = Sessions.find

    def mutated(self: Sessions, command: Any) -> Any:
        return find(self, msgspec.structs.replace(command, birth=2**62))

    put(Sessions, "find", mutated)


@mutant("snapshot-without-sessions", "The session table is in the snapshot.", 60, "snapshots")
def _snapshot_without_sessions(put: Any) -> None:
    put(ReplicatedState, "tables", lambda self: list(self.application.tables()))


@mutant("install-lowers-round", "Installing a snapshot keeps the promised round.", 60, "snapshots")
def _install_lowers_round(put: Any) -> None:
    on_installed = MultiPaxos.on_installed

    def mutated(self: MultiPaxos, slot: int) -> None:
        self.acceptor.rnd = NO_ROUND
        on_installed(self, slot)

    put(MultiPaxos, "on_installed", mutated)


@mutant("deposed-answers-from-queue", "Clients are answered from applied slots only, never from a queue.")
def _deposed_answers_from_queue(put: Any) -> None:
    def mutated(self: Driver, returned: Returned) -> None:
        commands = self.state.decoder.decode(b"\xdd" + returned.batch.count.to_bytes(4, "big") + returned.batch.body)
        for command in commands:
            if command is not None:
                result = BankResult(command.op.account, 0)
                self.clients.reply(command.client, Answer(command.client, command.seq, result))

    put(Driver, "_hand_back", mutated)


@mutant("proposed-called-refused", "Commands that stood in an Accept are handed back as unknown, not as refused.")
def _proposed_called_refused(put: Any) -> None:
    hand_back = Driver._hand_back

    def mutated(self: Driver, returned: Returned) -> None:
        hand_back(self, msgspec.structs.replace(returned, proposed=False))

    put(Driver, "_hand_back", mutated)
