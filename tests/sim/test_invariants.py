"""Each invariant, woken by evidence made by hand. (That real mistakes wake them is shown by the mutants.)"""

from collections.abc import Callable

import msgspec
import pytest

from paxos_twisted.apps.bank import DEPOSIT, BankOp, BankResult
from paxos_twisted.core.command import NOOP, Command
from paxos_twisted.core.multipaxos.messages import Accept, CatchUpReply, Learn, Prepare, Promise, Vote
from paxos_twisted.core.primary_backup.messages import NewView
from paxos_twisted.core.primary_backup.settings import SAFE
from paxos_twisted.core.primary_backup.view import View
from paxos_twisted.core.records import Entered, Held, Promised, SnapshotTaken, Voted
from paxos_twisted.sim.invariants import Violation
from paxos_twisted.sim.model import Model
from paxos_twisted.sim.subjects.multipaxos import MultiPaxosInvariants as Invariants
from paxos_twisted.sim.subjects.primary_backup import PrimaryBackupInvariants
from paxos_twisted.sim.workloads.bank import BankSpecification
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.client import Answer

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


def command(seq: int, client: int = 7) -> Command[BankOp]:
    return Command(ClientId(client), -1, seq, 1, BankOp(DEPOSIT, 1, 10))


def raw(seq: int, client: int = 7) -> bytes:
    return msgspec.msgpack.encode(command(seq, client))


def fresh() -> Invariants:
    invariants = Invariants((ONE, TWO, THREE), Model(BankSpecification()))
    for node in (ONE, TWO, THREE):
        invariants.on_started(node, 1)
    for seq in range(1, 10):
        invariants.on_request(raw(seq))
        invariants.on_request(raw(seq, client=8))
    return invariants


def choose(invariants: Invariants, slot: int, value: bytes, rnd: int = 1001) -> None:
    """The round's owner and node 2 vote durably for `value`."""
    owner = NodeId(rnd % 1000)
    invariants.on_send(owner, Accept(owner, slot, rnd, value))
    for node in (owner, TWO):
        invariants.on_durable(node, [Voted(rnd, slot, 1, value, -1)])


def decided() -> Invariants:
    """Slot 0 holds request 1, applied by node 1."""
    invariants = fresh()
    choose(invariants, 0, raw(1))
    invariants.on_applied(ONE, 0, [command(1)], [BankResult(1, 10)])
    return invariants


def apply_undecided(i: Invariants) -> None:
    i.on_applied(ONE, 0, [command(1)], [BankResult(1, 10)])


def apply_one_vote(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_durable(ONE, [Voted(1001, 0, 1, raw(1), -1)])
    apply_undecided(i)


def apply_votes_of_two_rounds(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_durable(ONE, [Voted(1001, 0, 1, raw(1), -1)])
    i.on_send(TWO, Accept(TWO, 0, 1002, raw(1)))
    i.on_durable(TWO, [Voted(1002, 0, 1, raw(1), -1)])
    apply_undecided(i)


def apply_another_command(i: Invariants) -> None:
    choose(i, 0, raw(2))
    apply_undecided(i)


def propose_against_chosen(i: Invariants) -> None:
    choose(i, 0, raw(1))
    i.on_send(TWO, Accept(TWO, 0, 1002, raw(2)))


def choose_below_a_proposal(i: Invariants) -> None:
    i.on_send(TWO, Accept(TWO, 0, 1002, raw(2)))
    choose(i, 0, raw(1))


def two_values_in_a_round(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(2)))


def foreign_round(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1002, raw(1)))


def round_after_restart(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_started(ONE, 2)
    i.on_send(ONE, Accept(ONE, 1, 1001, raw(2)))


def prepare_not_durable(i: Invariants) -> None:
    i.on_send(ONE, Prepare(ONE, 0, 1001))


def promise_not_durable(i: Invariants) -> None:
    i.on_durable(TWO, [Promised(1001)])
    i.on_send(TWO, Promise(ONE, TWO, 2001, ()))


def promise_hides_a_vote(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_durable(TWO, [Voted(1001, 0, 1, raw(1), -1), Promised(1003)])
    i.on_send(TWO, Promise(THREE, TWO, 1003, ()))


def promise_of_another_value(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_durable(TWO, [Voted(1001, 0, 1, raw(1), -1), Promised(1003)])
    i.on_send(TWO, Promise(THREE, TWO, 1003, (Vote(0, 1001, raw(2)),)))


def promise_looks_truncated(i: Invariants) -> None:
    i.on_durable(TWO, [Promised(1003)])
    i.on_send(TWO, Promise(THREE, TWO, 1003, (), first=5))


def learn_not_durable(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_send(TWO, Learn(TWO, 0, 1001))


def round_falls(i: Invariants) -> None:
    i.on_durable(TWO, [Promised(2001), Promised(1003)])


def vote_below_round(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_durable(TWO, [Promised(1003), Voted(1001, 0, 1, raw(1), -1)])


def skip_a_slot(i: Invariants) -> None:
    choose(i, 1, raw(2))
    i.on_applied(TWO, 1, [command(2)], [BankResult(1, 10)])


def apply_twice(i: Invariants) -> None:
    i.on_applied(ONE, 0, [command(1)], [BankResult(1, 10)])


def catch_up_tells_a_vote(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 0, 1001, raw(1)))
    i.on_durable(ONE, [Voted(1001, 0, 1, raw(1), -1)])
    i.on_send(ONE, CatchUpReply(ONE, 0, 1, raw(1), 0))


def catch_up_tells_another_value(i: Invariants) -> None:
    i.on_send(ONE, CatchUpReply(ONE, 0, 1, raw(2), 0))


def invented_value(i: Invariants) -> None:
    i.on_send(ONE, Accept(ONE, 5, 1001, raw(99)))


def vote_for_nothing_proposed(i: Invariants) -> None:
    i.on_durable(TWO, [Voted(1001, 5, 1, raw(1), -1)])


def executed_twice(i: Invariants) -> None:
    choose(i, 1, raw(1))
    i.on_applied(ONE, 1, [command(1)], [BankResult(1, 20)])


def other_result(i: Invariants) -> None:
    i.on_applied(TWO, 0, [command(1)], [BankResult(1, 11)])


def wrong_balance(i: Invariants) -> None:
    choose(i, 1, raw(2))
    i.on_applied(ONE, 1, [command(2)], [BankResult(1, 30)])


def answer_before_applied(i: Invariants) -> None:
    i.on_reply(ONE, Answer(ClientId(7), 2, BankResult(1, 10)))


def answer_of_another(i: Invariants) -> None:
    i.on_reply(ONE, Answer(ClientId(7), 1, BankResult(1, 99)))


def answer_where_not_applied(i: Invariants) -> None:
    i.on_reply(TWO, Answer(ClientId(7), 1, BankResult(1, 10)))


def two_digests(i: Invariants) -> None:
    i.on_durable(ONE, [SnapshotTaken(0, 0, "a")])
    i.on_durable(TWO, [SnapshotTaken(0, 0, "b")])


def install_backwards(i: Invariants) -> None:
    choose(i, 1, raw(2))
    i.on_applied(ONE, 1, [command(2)], [BankResult(1, 20)])
    i.on_installed(ONE, 0, "a", True)


def install_what_nobody_has(i: Invariants) -> None:
    i.on_installed(TWO, 9, "a", True)


def answer_lost(i: Invariants) -> None:
    i.check_answers([(7, 2, BankResult(1, 10))])


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        pytest.param("AGR", apply_undecided, id="a value without any vote is applied"),
        pytest.param("AGR", apply_one_vote, id="a value with one durable vote is applied"),
        pytest.param("AGR", apply_votes_of_two_rounds, id="votes of two rounds are added up"),
        pytest.param("AGR", apply_another_command, id="another command is applied than was chosen"),
        pytest.param("AGR", propose_against_chosen, id="a higher round proposes another value than was chosen"),
        pytest.param("AGR", choose_below_a_proposal, id="a value is chosen below a higher round's other proposal"),
        pytest.param("AGR", catch_up_tells_a_vote, id="catch-up tells a vote as a decision"),
        pytest.param("ONE", two_values_in_a_round, id="two values in one slot and round"),
        pytest.param("ONE", foreign_round, id="a round is used by another node"),
        pytest.param("ONE", round_after_restart, id="a round is used again after a restart"),
        pytest.param("PRO", prepare_not_durable, id="a prepare of a round that is not durable"),
        pytest.param("PRO", promise_not_durable, id="a promise that is not durable"),
        pytest.param("PRO", promise_hides_a_vote, id="a promise without a vote that was cast"),
        pytest.param("PRO", promise_of_another_value, id="a promise with another value than was voted for"),
        pytest.param("PRO", promise_looks_truncated, id="a promise that claims truncation of undecided slots"),
        pytest.param("PRO", learn_not_durable, id="a learn of a vote that is not durable"),
        pytest.param("PRO", round_falls, id="the durable round falls"),
        pytest.param("PRO", vote_below_round, id="a vote below the durable round"),
        pytest.param("VAL", invented_value, id="a value that no client sent"),
        pytest.param("VAL", vote_for_nothing_proposed, id="a vote for what nobody proposed"),
    ],
)
def test_before_anything_is_decided(name: str, mistake: Callable[[Invariants], None]) -> None:
    with pytest.raises(Violation, match=f"^{name}"):
        mistake(fresh())


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        pytest.param("AGR", catch_up_tells_another_value, id="catch-up tells another value than was chosen"),
        pytest.param("ADU", skip_a_slot, id="a slot is skipped"),
        pytest.param("ADU", apply_twice, id="a slot is applied twice"),
        pytest.param("XO", executed_twice, id="a request is executed in a second slot"),
        pytest.param("EQ", other_result, id="two replicas have different results"),
        pytest.param("XO/BAL", wrong_balance, id="money appears"),
        pytest.param("SES", answer_before_applied, id="an answer to a request that is not applied"),
        pytest.param("SES", answer_of_another, id="an answer with another result"),
        pytest.param("SES", answer_where_not_applied, id="an answer by a node that has not applied it"),
        pytest.param("EQ", two_digests, id="two state hashes after one slot"),
        pytest.param("ADU", install_backwards, id="a snapshot below what is applied"),
        pytest.param("ADU", install_what_nobody_has, id="a snapshot of slots that nobody has applied"),
        pytest.param("DUR", answer_lost, id="an answered request is gone"),
    ],
)
def test_after_the_first_decision(name: str, mistake: Callable[[Invariants], None]) -> None:
    with pytest.raises(Violation, match=f"^{name}"):
        mistake(decided())


def test_what_is_right_wakes_nothing() -> None:
    invariants = decided()
    invariants.on_reply(ONE, Answer(ClientId(7), 1, BankResult(1, 10)))
    invariants.on_durable(THREE, [Promised(2003)])
    invariants.on_send(THREE, Prepare(THREE, 0, 2003))
    invariants.on_durable(TWO, [Promised(2003)])
    invariants.on_send(TWO, Promise(THREE, TWO, 2003, (Vote(0, 1001, raw(1)),)))
    choose(invariants, 1, NOOP, 2003)
    invariants.on_applied(ONE, 1, [None], [None])
    choose(invariants, 2, raw(1), 2003)  # the same command once more: answered from the table
    invariants.on_applied(ONE, 2, [command(1)], [BankResult(1, 10)])
    invariants.on_applied(TWO, 0, [command(1), None], [BankResult(1, 10), None])
    invariants.check_answers([(7, 1, BankResult(1, 10))])


def given_in(invariants: PrimaryBackupInvariants, epoch: int, stop: int) -> None:
    """Node 2 alone opens this view with `stop` slots, and then holds request 1 in slot 0."""
    view = View(epoch, (TWO,))
    invariants.on_send(TWO, NewView(TWO, view, 0, stop))
    invariants.on_durable(TWO, [Entered(epoch, (TWO,), 0, stop), Held(epoch, 0, 1, raw(1), -1)])


def test_an_epoch_that_is_heard_of_late_moves_a_commit_to_a_later_one() -> None:
    """In views 2 and 4 node 2 held slot 0. That primary 3 began without it shows that it was not committed in view 2,
    to which another node was just being added."""
    invariants = PrimaryBackupInvariants((ONE, TWO, THREE), Model(BankSpecification()), SAFE)
    for node in (ONE, TWO, THREE):
        invariants.on_started(node, 1)
    invariants.on_request(raw(1))
    given_in(invariants, 2, 0)
    given_in(invariants, 4, 1)
    invariants.on_applied(TWO, 0, [command(1)], [BankResult(1, 10)])
    assert invariants.committed_in == [2]
    invariants.on_send(ONE, NewView(ONE, View(3, (ONE, TWO)), 0, 0))
    assert invariants.committed_in == [4]
    with pytest.raises(Violation, match="AGR: the primary of epoch 5 begins without slot 0"):
        invariants.on_send(THREE, NewView(THREE, View(5, (THREE,)), 0, 0))
