"""Recovery, rule by rule, and the published defect of the original protocol. [EP* Fig. 3; Sutra 2020; rules 69, 79]"""

from random import Random

import msgspec
import pytest

from paxos_twisted.apps.bank import Bank, BankOp
from paxos_twisted.core.command import NOOP, Command
from paxos_twisted.core.epaxos.acceptor import Acceptor, Contradiction
from paxos_twisted.core.epaxos.conflicts import ConflictIndex
from paxos_twisted.core.epaxos.instance import Grid, Instance
from paxos_twisted.core.epaxos.interference import footprints_of
from paxos_twisted.core.epaxos.messages import (
    ACCEPTED,
    COMMITTED,
    NONE,
    PREACCEPTED,
    Accept,
    AcceptReply,
    Commit,
    Conflict,
    PreAccept,
    PreAcceptReply,
    Preempted,
    Prepare,
    PrepareReply,
    Validate,
    ValidateReply,
)
from paxos_twisted.core.epaxos.recovery import Phase, Recovery, Value

NODES = (1, 2, 3, 4, 5)
NO_DEPS = (-1,) * 5
NO_VALUE = Value(NOOP, 1, NO_DEPS, 0)


def body(account: int = 1, client: int = 1) -> bytes:
    return msgspec.msgpack.encode(Command(client, 0, 1, 1, BankOp(1, account, 5)))


def acceptor(node: int = 2) -> Acceptor:
    grid = Grid(5)
    return Acceptor(node, grid, ConflictIndex(5), footprints_of(Bank()))


def reply(
    sender: int,
    status: int = PREACCEPTED,
    *,
    ballot: int = 1002,
    vbal: int = 0,
    deps: tuple = NO_DEPS,
    seq: int = 1,
    init_deps: tuple = NO_DEPS,
    init_seq: int = 1,
    value: bytes | None = None,
) -> PrepareReply:
    value = (b"" if status == NONE else body()) if value is None else value
    return PrepareReply(sender, 0, 0, ballot, status, vbal, deps, seq, value, int(bool(value)), init_deps, init_seq)


def recovery(ballot: int = 1002) -> Recovery:
    instance = Instance(0, 0)
    instance.bal = ballot
    return Recovery(instance, 1, ballot, NODES, NO_VALUE, 0, 100, 0)


def told(one: Recovery, *replies: PrepareReply) -> Recovery:
    for each in replies:
        one.on_prepare_reply(each)
    return one


# Rule 69, a majority of answers

DECISIONS = {
    "b: an accepted value is proposed again": (
        [reply(2), reply(3, ACCEPTED, vbal=0, deps=(-1, 3, -1, -1, -1), seq=4), reply(4)],
        (body(), (-1, 3, -1, -1, -1), 4),
    ),
    "b: of accepted values the one of the highest vbal": (
        [reply(2, ACCEPTED, vbal=1005, value=NOOP, seq=0), reply(3, ACCEPTED, vbal=0, seq=4), reply(4)],
        (NOOP, NO_DEPS, 0),
    ),
    "b comes before c: the owner has answered, but somebody has accepted": (
        [reply(1), reply(3, ACCEPTED, vbal=0, seq=4), reply(4)],
        (body(), NO_DEPS, 4),
    ),
    "c: the owner has answered, so it has not committed": ([reply(1), reply(2), reply(3)], (NOOP, NO_DEPS, 0)),
    "d: nobody has seen it": ([reply(2, NONE), reply(3, NONE), reply(4, NONE)], (NOOP, NO_DEPS, 0)),
    "d: too few voted for just what the owner had sent": (
        [reply(2, NONE), reply(3, NONE), reply(4, deps=(-1, 0, -1, -1, -1), seq=2)],
        (NOOP, NO_DEPS, 0),
    ),
    "d: another seq is another vote": (
        [reply(2, NONE), reply(3, NONE), reply(4, seq=2)],
        (NOOP, NO_DEPS, 0),
    ),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_what_a_quorum_of_answers_decides(name: str) -> None:
    replies, (value, deps, seq) = DECISIONS[name]
    done = told(recovery(), *replies)
    assert done.phase is Phase.ACCEPT
    assert done.value is not None
    assert (done.value.body, done.value.deps, done.value.seq) == (value, deps, seq)


def test_e_what_may_have_been_committed_fast_is_validated() -> None:
    one = told(recovery(), reply(2), reply(3, NONE), reply(4, NONE))
    assert (one.phase, one.votes, one.quorum) == (Phase.VALIDATE, 1, (2, 3, 4))


def test_answers_of_another_ballot_and_second_answers_do_not_count() -> None:
    one = told(recovery(), reply(2), reply(2, ACCEPTED), reply(3, ballot=2002), reply(4))
    assert one.phase is Phase.PREPARE


def validated(*conflicts: Conflict, votes: int = 1) -> Recovery:
    one = told(recovery(), *(reply(node, PREACCEPTED if node - 1 <= votes else NONE) for node in (2, 3, 4)))
    for node in (2, 3):
        assert not one.on_validate_reply(ValidateReply(node, 0, 0, 1002, ()))
    one.on_validate_reply(ValidateReply(4, 0, 0, 1002, conflicts))
    return one


def test_e_nothing_speaks_against_it() -> None:
    one = validated()
    assert one.value is not None
    assert (one.value.body, one.value.deps, one.value.seq) == (body(), NO_DEPS, 1)


def test_e_something_committed_speaks_against_it() -> None:
    assert validated(Conflict(1, 0, True)).value is NO_VALUE


def test_e_an_owner_outside_the_quorum_would_have_had_to_vote() -> None:
    assert validated(Conflict(4, 0, False), votes=1).value is NO_VALUE  # |R| = |Q| - e, and replica 4 is node 5
    assert validated(Conflict(4, 0, False), votes=2).phase is Phase.WAIT
    assert validated(Conflict(1, 0, False), votes=1).phase is Phase.WAIT


def test_waiting_ends_when_something_is_committed_without_it() -> None:
    one = validated(Conflict(1, 0, False))
    assert one.on_blocker_committed(False, False)
    assert one.value is NO_VALUE


def test_waiting_ends_when_all_are_committed_with_it() -> None:
    one = validated(Conflict(1, 0, False), Conflict(2, 0, False))
    assert not one.on_blocker_committed(True, False)
    assert one.on_blocker_committed(True, True)
    assert one.value is not None
    assert one.value.body == body()


def test_waiting_ends_when_another_waiter_had_too_many_votes() -> None:
    one = validated(Conflict(1, 0, False))
    assert not one.on_waiting((1, 0), 1)  # N - F - e = 1
    assert not one.on_waiting((2, 0), 5)  # not one that speaks against it
    assert one.on_waiting((1, 0), 2)
    assert one.value is NO_VALUE


@pytest.mark.parametrize(
    ("late", "expected"), [(reply(5, ACCEPTED, seq=7), body()), (reply(1), NOOP)], ids=["accepted", "the owner"]
)
def test_waiting_ends_with_a_late_answer(late: PrepareReply, expected: bytes) -> None:
    one = validated(Conflict(1, 0, False))
    assert not one.on_prepare_reply(reply(5, NONE)) or late.sender != 5
    one = validated(Conflict(1, 0, False))
    assert one.on_prepare_reply(late)
    assert one.value is not None
    assert one.value.body == expected


def test_all_of_the_quorum_must_have_validated() -> None:
    one = told(recovery(), reply(2), reply(3), reply(4))
    for node in (2, 5, 2, 3):
        assert not one.on_validate_reply(ValidateReply(node, 0, 0, 1002, ()))
    assert one.silent() == (4,)
    assert one.on_validate_reply(ValidateReply(4, 0, 0, 1002, ()))


# The acceptor, rules 62 to 67


def test_the_first_answer_is_final() -> None:
    one = acceptor()
    first = one.handle_pre_accept(PreAccept(1, 0, 0, NO_DEPS, 1, body()))
    assert first == PreAcceptReply(2, 0, 0, NO_DEPS, 1)
    one.handle_pre_accept(PreAccept(3, 2, 0, NO_DEPS, 1, body(client=2)))
    assert one.handle_pre_accept(PreAccept(1, 0, 0, NO_DEPS, 1, body())) == first


def test_what_interferes_here_is_added_with_a_higher_seq() -> None:
    one = acceptor()
    one.handle_pre_accept(PreAccept(3, 2, 4, NO_DEPS, 6, body(client=2)))
    assert one.handle_pre_accept(PreAccept(1, 0, 0, NO_DEPS, 1, body())) == PreAcceptReply(
        2, 0, 0, (-1, -1, 4, -1, -1), 7
    )


def test_nothing_is_preaccepted_once_a_ballot_was_joined() -> None:
    one = acceptor()
    assert one.handle_prepare(Prepare(3, 0, 0, 1003)) == PrepareReply(
        2, 0, 0, 1003, NONE, 0, NO_DEPS, 0, b"", 0, NO_DEPS, 0
    )
    assert one.handle_pre_accept(PreAccept(1, 0, 0, NO_DEPS, 1, body())) == Preempted(2, 0, 0, 0, 1003)


def test_accept_is_taken_from_the_joined_ballot_on_and_raises_it() -> None:
    one = acceptor()
    one.handle_prepare(Prepare(3, 0, 0, 1003))
    assert one.handle_accept(Accept(4, 0, 0, 1002, NO_DEPS, 1, body())) == Preempted(2, 0, 0, 1002, 1003)
    assert one.handle_accept(Accept(3, 0, 0, 1003, NO_DEPS, 1, body())) == AcceptReply(2, 0, 0, 1003)
    assert one.handle_accept(Accept(4, 0, 0, 1004, NO_DEPS, 0, NOOP)) == AcceptReply(2, 0, 0, 1004)
    assert one.handle_prepare(Prepare(3, 0, 0, 1004)).vbal == 1004  # type: ignore[union-attr]
    assert one.handle_prepare(Prepare(3, 0, 0, 1003)) == Preempted(2, 0, 0, 1003, 1004)


def test_an_accept_without_commands_needs_those_of_the_preaccept() -> None:
    one = acceptor()
    assert one.handle_accept(Accept(1, 0, 0, 0, NO_DEPS, 1, None)) is None
    one.handle_pre_accept(PreAccept(1, 0, 0, NO_DEPS, 1, body()))
    assert one.handle_accept(Accept(1, 0, 0, 0, NO_DEPS, 1, None)) == AcceptReply(2, 0, 0, 0)


def test_who_knows_the_decision_answers_with_it() -> None:
    one = acceptor()
    commit = Commit(2, 0, 0, NO_DEPS, 3, body(), 1)
    assert one.handle_commit(commit) is not None
    for question in (
        one.handle_pre_accept(PreAccept(1, 0, 0, NO_DEPS, 1, body())),
        one.handle_accept(Accept(3, 0, 0, 5005, NO_DEPS, 0, NOOP)),
        one.handle_prepare(Prepare(3, 0, 0, 5005)),
        one.handle_validate(Validate(3, 0, 0, 5005, NO_DEPS, 1, body())),
    ):
        assert question == commit
    assert one.handle_commit(commit) is None


def test_two_decisions_stop_the_node() -> None:
    one = acceptor()
    one.handle_commit(Commit(1, 0, 0, NO_DEPS, 3, body(), 1))
    with pytest.raises(Contradiction):
        one.handle_commit(Commit(1, 0, 0, NO_DEPS, 0, NOOP, 1))


def test_commands_that_do_not_decode_are_not_voted_for() -> None:
    one = acceptor()
    assert one.handle_pre_accept(PreAccept(1, 0, 0, NO_DEPS, 1, b"\xc1")) is None
    assert one.handle_accept(Accept(1, 0, 1, 0, NO_DEPS, 1, b"\x01", 1)) is None
    assert one.handle_commit(Commit(1, 0, 2, NO_DEPS, 1, body(), 2)) is None
    assert not one.changed


WITH_IT = (0, -1, -1, -1, -1)


def begin(one: Acceptor, deps: tuple = NO_DEPS, account: int = 1) -> None:
    """Instance 1.0 is pre-accepted."""
    one.handle_pre_accept(PreAccept(2, 1, 0, deps, 1, body(account, client=2)))


def commit(one: Acceptor, deps: tuple = NO_DEPS, value: bytes | None = None) -> None:
    """Instance 1.0 is committed."""
    one.handle_commit(Commit(2, 1, 0, deps, 1, body(client=2) if value is None else value))


REPORTS = {
    "begun without it": (begin, (Conflict(1, 0, False),)),
    "begun with it": (lambda one: begin(one, WITH_IT), ()),
    "committed without it": (commit, (Conflict(1, 0, True),)),
    "committed with it": (lambda one: commit(one, WITH_IT), ()),
    "begun without it, committed with it": (lambda one: (begin(one), commit(one, WITH_IT)), ()),
    "committed as a no-op": (lambda one: (begin(one), commit(one, NO_DEPS, NOOP)), ()),
    "of other accounts and clients": (lambda one: begin(one, account=7), ()),
}


@pytest.mark.parametrize("name", REPORTS)
def test_validate_reports_what_speaks_against_it(name: str) -> None:
    prepare, expected = REPORTS[name]
    one = acceptor(3)
    prepare(one)
    one.handle_prepare(Prepare(4, 0, 0, 1004))
    assert one.handle_validate(Validate(4, 0, 0, 1004, NO_DEPS, 1, body())) == ValidateReply(3, 0, 0, 1004, expected)


def test_what_was_validated_counts_as_begun() -> None:
    """1. Replica 3 validates 0.0. 2. It validates 1.0, which interferes: now 0.0 speaks against it."""
    one = acceptor(3)
    one.handle_prepare(Prepare(4, 0, 0, 1004))
    one.handle_validate(Validate(4, 0, 0, 1004, NO_DEPS, 1, body()))
    one.handle_prepare(Prepare(4, 1, 0, 1004))
    answer = one.handle_validate(Validate(4, 1, 0, 1004, NO_DEPS, 1, body(client=2)))
    assert answer == ValidateReply(3, 1, 0, 1004, (Conflict(0, 0, False),))


def test_an_executed_instance_that_is_forgotten_still_speaks_against_it() -> None:
    one = acceptor(3)
    instance = one.handle_commit(Commit(2, 1, 0, NO_DEPS, 1, body(client=2)))
    assert instance is not None
    one.index.on_executed(1, 0, instance.access)
    one.grid.columns[1].mark_executed(0)
    del one.grid.columns[1].cells[0]
    one.handle_prepare(Prepare(4, 0, 0, 1004))
    answer = one.handle_validate(Validate(4, 0, 0, 1004, NO_DEPS, 1, body()))
    assert answer == ValidateReply(3, 0, 0, 1004, (Conflict(1, 0, True),))


def test_below_a_blind_spot_nothing_is_said() -> None:
    one = acceptor(3)
    one.index.drop_all((5, 5, 5, 5, 5))
    one.handle_prepare(Prepare(4, 0, 9, 1004))
    assert one.handle_validate(Validate(4, 0, 9, 1004, NO_DEPS, 1, body())) is None


# The published counter-example [Sutra 2020]


def recover(acceptors: dict[int, Acceptor], by: int, ballot: int, reached: tuple[int, ...]) -> Recovery:
    """Node `by` prepares at `reached`, and decides what to propose."""
    one = Recovery(acceptors[by].grid.at(0, 0, 0), 1, ballot, NODES, NO_VALUE, 0, 100, 0)
    for node in reached:
        answer = acceptors[node].handle_prepare(Prepare(by, 0, 0, ballot))
        assert isinstance(answer, PrepareReply)
        one.on_prepare_reply(answer)
    if one.phase is Phase.VALIDATE:
        vote = one.candidate
        assert vote is not None
        for node in one.quorum:
            validate = Validate(by, 0, 0, ballot, vote.init_deps, vote.init_seq, vote.body, vote.count)
            answer = acceptors[node].handle_validate(validate)
            assert isinstance(answer, ValidateReply)
            one.on_validate_reply(answer)
    return one


def propose(acceptors: dict[int, Acceptor], one: Recovery, by: int, reached: tuple[int, ...]) -> set[int]:
    """The Accepts of a recovery come to `reached`; returns who has voted."""
    value = one.value
    assert value is not None
    votes = set()
    for node in reached:
        accept = Accept(by, 0, 0, one.ballot, value.deps, value.seq, value.body, value.count)
        if isinstance(acceptors[node].handle_accept(accept), AcceptReply):
            votes.add(node)
    return votes


def play_counter_example() -> None:
    """One instance, no interfering commands, N = 5.

    1. Owner 1 pre-accepts at 2 and 3, then falls silent.
    2. Node 2 recovers with 2, 3, 4: it validates the commands, accepts them in ballot 1002, and nobody else hears.
    3. Node 5 recovers with 1, 4, 5: the owner is there, so a no-op; 1, 4 and 5 accept it in ballot 1005: decided.
    4. Node 3 recovers in ballot 2003 and reaches only node 2, which joins, and gives up.
    5. Node 3 recovers in ballot 3003 with 2, 3, 4. Node 2 voted in 1002 and has joined 2003 since, node 4 in 1005.
    """
    acceptors = {node: acceptor(node) for node in NODES}
    owner = acceptors[1]
    access = owner.access_of(body(), 1)
    assert access is not None
    instance = owner.start(0, 0, body(), 1, access)
    for node in (2, 3):
        acceptors[node].handle_pre_accept(PreAccept(1, 0, 0, instance.deps, instance.seq, body()))
    first = recover(acceptors, 2, 1002, (2, 3, 4))
    assert first.value is not None
    assert first.value.body == body()
    assert propose(acceptors, first, 2, (2,)) == {2}
    second = recover(acceptors, 5, 1005, (1, 4, 5))
    assert propose(acceptors, second, 5, (1, 4, 5)) == {1, 4, 5}
    recover(acceptors, 3, 2003, (2,))
    third = recover(acceptors, 3, 3003, (2, 3, 4))
    votes = propose(acceptors, third, 3, NODES)
    assert second.value is not None
    assert third.value is not None
    if len(votes) >= 3 and third.value.body != second.value.body:
        raise Contradiction("two values are decided")


def test_an_old_vote_does_not_win_because_its_voter_has_joined_a_newer_ballot() -> None:
    play_counter_example()


def test_with_one_ballot_variable_the_counter_example_decides_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect of the original: the ballot that was joined takes the place of the ballot of the vote."""
    shipped = Acceptor.handle_prepare

    def with_one_variable(self: Acceptor, m: Prepare) -> object:
        joined_before = self.grid.at(m.replica, m.slot, 0).bal
        answer = shipped(self, m)
        if isinstance(answer, PrepareReply):
            return msgspec.structs.replace(answer, vbal=joined_before)
        return answer

    monkeypatch.setattr(Acceptor, "handle_prepare", with_one_variable)
    with pytest.raises(Contradiction):
        play_counter_example()


def test_statuses_never_fall_under_random_questions() -> None:
    rng = Random(5)
    one = acceptor(3)
    status, ballot = {}, {}
    for _ in range(3000):
        slot, replica = rng.randrange(4), rng.randrange(2)
        kind = rng.randrange(5)
        number = rng.choice((0, 1001, 1002, 2001))
        if kind == 0:
            one.handle_pre_accept(PreAccept(replica + 1, replica, slot, NO_DEPS, 1, body()))
        elif kind == 1:
            one.handle_prepare(Prepare(1, replica, slot, number + 1))
        elif kind == 2 and slot:
            one.handle_accept(Accept(1, replica, slot, number, NO_DEPS, 1, body()))
        elif kind == 3:
            one.handle_validate(Validate(1, replica, slot, number + 1, NO_DEPS, 1, body()))
        elif kind == 4 and rng.random() < 0.02:
            one.handle_commit(Commit(1, replica, slot, NO_DEPS, 1, body()))
        for instance in one.grid:
            assert instance.status >= status.get(instance.id, NONE)
            assert instance.bal >= ballot.get(instance.id, 0) or instance.status >= COMMITTED
            status[instance.id], ballot[instance.id] = instance.status, instance.bal
