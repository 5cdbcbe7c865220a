"""Ways to break EPaxos, one rule each. Among them are the known defects of the original protocol. [rule 79]"""

from functools import partial
from typing import Any

import msgspec

from paxos_twisted.core.command import split_run
from paxos_twisted.core.engine import Batch
from paxos_twisted.core.epaxos import execution, intake, interference, proposal, replica
from paxos_twisted.core.epaxos.acceptor import Acceptor
from paxos_twisted.core.epaxos.execution import Executor
from paxos_twisted.core.epaxos.instance import Instance
from paxos_twisted.core.epaxos.interference import Access
from paxos_twisted.core.epaxos.messages import (
    ACCEPTED,
    PREACCEPTED,
    Accept,
    AcceptReply,
    PreAccept,
    PreAcceptReply,
    Prepare,
    PrepareReply,
)
from paxos_twisted.core.epaxos.proposal import Proposal, Step
from paxos_twisted.core.epaxos.recovery import Phase, Recovery
from paxos_twisted.core.epaxos.replica import EPaxos
from paxos_twisted.core.records import Cell
from paxos_twisted.sim.mutation import mutant
from paxos_twisted.types import NodeId

epaxos = partial(mutant, engine="epaxos")

# ---- persist, then promise


def _send_early(put: Any, kind: Any) -> None:
    send_after = EPaxos._send_after

    def mutated(self: EPaxos, message: Any, receivers: tuple[NodeId, ...]) -> None:
        if isinstance(message, kind):
            self._send(receivers, message)
        else:
            send_after(self, message, receivers)

    put(EPaxos, "_send_after", mutated)


@epaxos("epaxos-answer-before-durable", "An answer to PreAccept leaves only when it is durable.")
def _answer_before_durable(put: Any) -> None:
    _send_early(put, PreAcceptReply)


@epaxos("epaxos-vote-before-durable", "An answer to Accept leaves only when the vote is durable.")
def _vote_before_durable(put: Any) -> None:
    _send_early(put, AcceptReply)


@epaxos("epaxos-ballot-before-durable", "An answer to Prepare leaves only when the ballot is durable.", stress="limp")
def _ballot_before_durable(put: Any) -> None:
    _send_early(put, PrepareReply)


@epaxos("epaxos-own-vote-before-durable", "A replica counts its own vote only when it is durable.", 80)
def _own_vote_before_durable(put: Any) -> None:
    put(EPaxos, "_when_durable", lambda self, action: self._own.append((0, action)))


@epaxos(
    "epaxos-instance-reused",
    "An instance is durable at its owner before anybody hears of it, so that it is never used twice.",
    5,
    scenario="owner-restart-slot",
)
def _instance_reused(put: Any) -> None:
    _send_early(put, PreAccept)


@epaxos("epaxos-own-accept-late", "A replica handles its own Accept in the step in which it sends it. [rule 67]")
def _own_accept_late(put: Any) -> None:
    handle, on_tick = Acceptor.handle_accept, EPaxos.on_tick
    late: dict[Acceptor, list[Accept]] = {}

    def accepted(self: Acceptor, message: Accept) -> Any:
        if message.sender != self.node:
            return handle(self, message)
        late.setdefault(self, []).append(message)
        return AcceptReply(self.node, message.replica, message.slot, message.ballot)

    def ticked(self: EPaxos, now_ms: int) -> None:
        for message in late.pop(self.acceptor, []):
            handle(self.acceptor, message)
        on_tick(self, now_ms)

    put(Acceptor, "handle_accept", accepted)
    put(EPaxos, "on_tick", ticked)


# ---- fast and slow path


@epaxos("epaxos-fast-quorum-too-small", "A fast quorum of seven is five: a majority is too few.", nodes=7)
def _fast_quorum_too_small(put: Any) -> None:
    put(proposal, "fast_quorum", lambda n: n // 2 + 1)


@epaxos("epaxos-any-answers", "The fast path needs answers that are equal to what the owner had sent.")
def _any_answers(put: Any) -> None:
    next_step = Proposal.next_step

    def mutated(self: Proposal, now_ms: int) -> Step:
        if not self.is_accepting and self._own_answer and len(self._answers) + 1 >= self._fast:
            return Step.COMMIT_FAST
        return next_step(self, now_ms)

    put(Proposal, "next_step", mutated)


@epaxos("epaxos-deps-not-merged", "The slow path takes the union of what was answered.")
def _deps_not_merged(put: Any) -> None:
    put(Proposal, "union", lambda self: (self.instance.deps, self.instance.seq))


@epaxos("epaxos-minority-accepts", "The slow path needs the votes of a majority.")
def _minority_accepts(put: Any) -> None:
    next_step = Proposal.next_step

    def mutated(self: Proposal, now_ms: int) -> Step:
        if self.is_accepting and self._own_accept:
            return Step.COMMIT_SLOW
        return next_step(self, now_ms)

    put(Proposal, "next_step", mutated)


@epaxos("epaxos-preaccept-recomputed", "The first answer to a PreAccept is final: a repeated one gets the same.", 80)
def _preaccept_recomputed(put: Any) -> None:
    handle = Acceptor.handle_pre_accept

    def mutated(self: Acceptor, message: PreAccept) -> Any:
        instance = self.grid.at(message.replica, message.slot, self.now_ms)
        if instance.status == PREACCEPTED and instance.bal == 0:
            instance.deps, instance.seq = self.index.attributes(
                message.replica, instance.access, message.deps, message.seq
            )
            self._note(instance)
        return handle(self, message)

    put(Acceptor, "handle_pre_accept", mutated)


@epaxos("epaxos-preaccept-after-ballot", "Who has joined a ballot pre-accepts no more.", 80, "limp")
def _preaccept_after_ballot(put: Any) -> None:
    handle = Acceptor.handle_pre_accept

    def mutated(self: Acceptor, message: PreAccept) -> Any:
        instance = self.grid.at(message.replica, message.slot, self.now_ms)
        ballot, instance.bal = instance.bal, 0
        answer = handle(self, message)
        instance.bal = ballot
        return answer

    put(Acceptor, "handle_pre_accept", mutated)


@epaxos("epaxos-accept-below-ballot", "An acceptor votes for nothing below the ballot that it has joined.", 80, "limp")
def _accept_below_ballot(put: Any) -> None:
    handle = Acceptor.handle_accept

    def mutated(self: Acceptor, message: Accept) -> Any:
        instance = self.grid.at(message.replica, message.slot, self.now_ms)
        instance.bal = min(instance.bal, message.ballot)
        return handle(self, message)

    put(Acceptor, "handle_accept", mutated)


@epaxos(
    "epaxos-silent-peer-blocks",
    "When a chosen replica is silent, the others are asked.",
    5,
    scenario="thrifty-peer-down",
)
def _silent_peer_blocks(put: Any) -> None:
    put(EPaxos, "_press_on", lambda self: None)
    put(Proposal, "next_step", _patient(Proposal.next_step))


def _patient(next_step: Any) -> Any:
    """Wait for all that were asked, however long."""

    def mutated(self: Proposal, now_ms: int) -> Step:
        if not self.is_accepting and any(not self.has_answered(node) for node in self.asked):
            return Step.WAIT
        step: Step = next_step(self, now_ms)
        return step

    return mutated


# ---- recovery


@epaxos(
    "epaxos-one-ballot-variable",
    "A vote is reported with the ballot in which it was cast, not with the one that was joined since. [Sutra 2020]",
    2,
    scenario="sutra",
)
def _one_ballot_variable(put: Any) -> None:
    handle = Acceptor.handle_prepare

    def mutated(self: Acceptor, message: Prepare) -> Any:
        joined = self.grid.at(message.replica, message.slot, self.now_ms).bal
        reply = handle(self, message)
        if isinstance(reply, PrepareReply) and reply.status == ACCEPTED:
            reply = msgspec.structs.replace(reply, vbal=joined)
        return reply

    put(Acceptor, "handle_prepare", mutated)


@epaxos(
    "epaxos-initial-deps-forgotten", "Recovery counts only those who pre-accepted exactly what was sent.", 200, "limp"
)
def _initial_deps_forgotten(put: Any) -> None:
    handle = Acceptor.handle_prepare

    def mutated(self: Acceptor, message: Prepare) -> Any:
        reply = handle(self, message)
        if isinstance(reply, PrepareReply) and reply.status == PREACCEPTED:
            reply = msgspec.structs.replace(reply, init_deps=reply.deps, init_seq=reply.seq)
        return reply

    put(Acceptor, "handle_prepare", mutated)


@epaxos(
    "epaxos-nothing-validated", "What may have been decided fast is validated against what interferes.", 200, "limp"
)
def _nothing_validated(put: Any) -> None:
    on_reply = Recovery.on_validate_reply

    def mutated(self: Recovery, reply: Any) -> bool:
        return on_reply(self, msgspec.structs.replace(reply, conflicts=()))

    put(Recovery, "on_validate_reply", mutated)


@epaxos(
    "epaxos-waiting-skipped", "A recovery waits for what speaks against it to be decided.", 300, "limp", is_rare=True
)
def _waiting_skipped(put: Any) -> None:
    on_reply = Recovery.on_validate_reply

    def mutated(self: Recovery, reply: Any) -> bool:
        changed = on_reply(self, reply)
        return self._accept_candidate() if self.phase is Phase.WAIT else changed

    put(Recovery, "on_validate_reply", mutated)


@epaxos("epaxos-noop-whenever-possible", "What may have been decided on the fast path is not given up.", stress="limp")
def _noop_whenever_possible(put: Any) -> None:
    judge = Recovery._judge

    def mutated(self: Recovery) -> None:
        judge(self)
        if self.phase is Phase.VALIDATE:
            self._accept(self.noop)

    put(Recovery, "_judge", mutated)


@epaxos("epaxos-any-vote-recovered", "Recovery takes the vote of the highest ballot, not just any.", stress="limp")
def _any_vote_recovered(put: Any) -> None:
    handle = Acceptor.handle_prepare

    def mutated(self: Acceptor, message: Prepare) -> Any:
        reply = handle(self, message)
        return msgspec.structs.replace(reply, vbal=0) if isinstance(reply, PrepareReply) else reply

    put(Acceptor, "handle_prepare", mutated)


@epaxos(
    "epaxos-noop-loses-commands",
    "Whose instance became a no-op proposes the commands again.",
    3,
    scenario="recovered-as-noop",
)
def _noop_loses_commands(put: Any) -> None:
    put(EPaxos, "_propose_again", lambda self, instance: None)


@epaxos("epaxos-restart-forgets", "A restart reads back what was pre-accepted and accepted.", stress="crashes")
def _restart_forgets(put: Any) -> None:
    restore = replica.restore  # type: ignore[attr-defined]

    def mutated(acceptor: Any, entries: Any, part: Any) -> Any:
        return restore(
            acceptor, [entry for entry in entries if not isinstance(entry, Cell) or entry.status > ACCEPTED], part
        )

    put(replica, "restore", mutated)


# ---- interference and execution


@epaxos("epaxos-clients-unordered", "The commands of one client interfere, whatever they touch. [rule 71]")
def _clients_unordered(put: Any) -> None:
    access = interference._access

    def mutated(client: int, footprint: Any) -> Access:
        made = access(client, footprint)
        return Access(made.reads, made.writes - {(client,)}, made.reads_all, made.writes_all, made.writes_some)

    put(interference, "_access", mutated)


@epaxos("epaxos-reads-alone", "A read interferes with the writes of its keys.")
def _reads_alone(put: Any) -> None:
    access = interference._access

    def mutated(client: int, footprint: Any) -> Access:
        return access(client, footprint._replace(keys=()) if not footprint.writes else footprint)

    put(interference, "_access", mutated)


@epaxos(
    "epaxos-seq-only",
    "Equal seq numbers in a component are told apart by replica and slot.",
    10,
    scenario="tie-in-component",
)
def _seq_only(put: Any) -> None:
    put(execution, "_order", lambda instance: instance.seq)


@epaxos("epaxos-closure-ignored", "An instance runs when all that it depends on is committed.")
def _closure_ignored(put: Any) -> None:
    open_deps = Executor._open_deps

    def mutated(self: Executor, instance: Instance) -> Any:
        return iter([there for there in open_deps(self, instance) if self.grid.is_committed(*there)])

    put(Executor, "_open_deps", mutated)


@epaxos("epaxos-components-unsorted", "Instances of one component run by seq.", 10, scenario="tie-in-component")
def _components_unsorted(put: Any) -> None:
    put(execution, "_order", lambda instance: 0)


@epaxos("epaxos-series-apart", "A series and the slots behind it stay in one instance.", 40, "series")
def _series_apart(put: Any) -> None:
    def mutated(batch: Batch, accesses: list[Access]) -> list[intake.Entry]:
        return [intake.Entry(*pair) for pair in zip(split_run(batch.body, batch.count), accesses, strict=True)]

    put(intake, "_entries", mutated)
