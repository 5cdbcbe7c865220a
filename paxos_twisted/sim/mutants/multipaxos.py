"""The mutants: thirty ways to break Multi-Paxos, one rule each. How they are run: `paxos_twisted.sim.mutation`."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from paxos_twisted.apps.bank import BankResult
from paxos_twisted.core.command import NOOP, Command, Series, array_of, split_run
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
from paxos_twisted.node.driver import Driver
from paxos_twisted.sim.mutation import mutant
from paxos_twisted.types import NO_ROUND, NodeId, Slot
from paxos_twisted.wire.client import Answer

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


# ---- restart


@mutant("round-reused", "After a restart a proposer starts above every round it may have used.", stress="crashes")
def _round_reused(put: Any) -> None:
    increase, prepare = Proposer.increase_crnd, Acceptor.handle_prepare

    def increased(self: Proposer, above: int = NO_ROUND) -> None:
        is_first = self.crnd == self.node  # of this incarnation
        increase(self, above)
        if is_first and above % ROUND_STRIDE == self.node:
            self.crnd = above

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


@mutant(
    "another-disk-welcome", "A node that comes back with another or an older data directory is refused.", 60, "amnesia"
)
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


@mutant("truncated-looks-empty", "A promise tells from which slot on the acceptor remembers.", 60, "snapshots", nodes=5)
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
        for slot, value in enumerate(split_run(vote.vval, vote.count), vote.slot):
            known = newest.at(slot)
            if slot > self.adu and (known is None or better(vote.vrnd, known.vrnd)):
                newest.put(Vote(slot, vote.vrnd, value))

    put(Proposer, "_note", mutated)


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


@mutant("no-noops", "Holes below the highest bound slot are filled with no-ops.", 5, scenario="pipelined-hole")
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


@mutant("learner-mixes-rounds", "Votes of different rounds never add up.", 5, scenario="mixed-round-learns")
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
    on_request = MultiPaxos._on_catch_up_request

    def mutated(self: MultiPaxos, request: Any) -> None:
        if request.slot < self.log_first or self.acceptor.votes.get(request.slot) is None:
            on_request(self, request)
            return
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


@mutant(
    "expired-session-forgotten",
    "A late request of an expired session is refused, not executed as a new one.",
    200,
    "sessions",
)
def _expired_session_forgotten(put: Any) -> None:
    find = Sessions.find

    def mutated(self: Sessions, command: Any) -> Any:
        return find(self, msgspec.structs.replace(command, birth=2**62))

    put(Sessions, "find", mutated)


@mutant("snapshot-without-sessions", "The session table is in the snapshot.", 60, "snapshots")
def _snapshot_without_sessions(put: Any) -> None:
    put(ReplicatedState, "tables", lambda self: list(self.application.tables()))


@mutant("series-forgotten", "What a series was told is kept, as of every request.", 80, "series")
def _series_forgotten(put: Any) -> None:
    put(Sessions, "find_series", lambda self, series: None)


@mutant("series-in-halves", "A series is applied as a whole.", 40, "series")
def _series_in_halves(put: Any) -> None:
    apply_series = ReplicatedState._apply_series

    def mutated(self: ReplicatedState, slot: Slot, series: Series[Any]) -> Any:
        return apply_series(self, slot, msgspec.structs.replace(series, ops=series.ops[: -(-len(series.ops) // 2)]))

    put(ReplicatedState, "_apply_series", mutated)


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
        commands = self.state.decoder.decode(array_of(returned.batch.body, returned.batch.count))
        for command in commands:
            if isinstance(command, Command):
                result = BankResult(command.op.account, 0)
                self.clients.reply(command.client, Answer(command.client, command.seq, result))

    put(Driver, "_hand_back", mutated)


@mutant("proposed-called-refused", "Commands that stood in an Accept are handed back as unknown, not as refused.")
def _proposed_called_refused(put: Any) -> None:
    hand_back = Driver._hand_back

    def mutated(self: Driver, returned: Returned) -> None:
        hand_back(self, msgspec.structs.replace(returned, proposed=False))

    put(Driver, "_hand_back", mutated)
