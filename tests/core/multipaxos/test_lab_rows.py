"""Rows L5-25 … L5-62 of the requirements, one by one: the lab's own cases, with its numbers.

The roles are used alone here, as a student would. Values are plain bytes: a role never looks inside them.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.core.command import NOOP
from paxos_twisted.core.detectors.failure import FailureDetector
from paxos_twisted.core.detectors.monarchical import MonarchicalDetector
from paxos_twisted.core.engine import Batch, LinkState
from paxos_twisted.core.multipaxos import (
    Accept,
    Acceptor,
    Decision,
    Learn,
    Learner,
    MultiPaxos,
    Prepare,
    Promise,
    Proposer,
    Settings,
    Vote,
)
from paxos_twisted.types import NO_NODE, NO_ROUND, NodeId

V1, V2, V3 = b"\x01", b"\x02", b"\x03"


def n(node: int) -> NodeId:
    return NodeId(node)


def promise(sender: int, rnd: int, *votes: tuple[int, int, bytes], to: int = 2) -> Promise:
    return Promise(n(to), n(sender), rnd, tuple(Vote(slot, vrnd, vval) for slot, vrnd, vval in votes))


def accepts(crnd: int, *values: tuple[int, bytes], node: int = 2) -> list[Accept]:
    return [Accept(n(node), slot, crnd, value) for slot, value in values]


# ---- The proposer and promises


def test_l5_25_a_promise_of_another_round_is_ignored() -> None:
    proposer = Proposer(n(2), 3)
    assert proposer.handle_promise(promise(0, 1)) is None
    assert proposer.handle_promise(promise(1, 3)) is None
    assert proposer.handle_promise(promise(0, 2)) is None
    assert proposer.handle_promise(promise(1, 2)) == []


def test_l5_26_a_second_promise_of_the_same_node_is_ignored() -> None:
    proposer = Proposer(n(2), 3)
    assert proposer.handle_promise(promise(1, 2)) is None
    assert proposer.handle_promise(promise(1, 2)) is None


def test_l5_27_no_quorum_gives_none_and_a_quorum_bound_to_nothing_an_empty_list() -> None:
    proposer = Proposer(n(2), 3)
    assert proposer.handle_promise(promise(0, 2)) is None
    assert proposer.handle_promise(promise(1, 2)) == []


PROMISE_CASES = [
    # (id, adu, promises, expected accepts)
    ("l5-31 bound to the one value reported", 1, [[], [(2, 1, V1)]], [(2, V1)]),
    ("l5-32 the higher vrnd wins", 1, [[(2, 0, V1)], [(2, 1, V2)]], [(2, V2)]),
    ("l5-33 slot = adu is dropped", 1, [[(1, 1, V1), (2, 0, V1)], [(1, 1, V1), (2, 1, V2)]], [(2, V2)]),
    (
        "l5-34 a hole gets a no-op",
        1,
        [[(2, 1, V1), (4, 1, V3)], [(2, 1, V1), (4, 1, V3)]],
        [(2, V1), (3, NOOP), (4, V3)],
    ),
    (
        "l5-35 mixed vrnds over slots 2, 4, 5",
        1,
        [[(2, 1, V1), (4, 1, V1)], [(2, 1, V1), (4, 1, V1)], [(4, 2, V2), (5, 1, V3)]],
        [(2, V1), (3, NOOP), (4, V2), (5, V3)],
    ),
    ("l5-30 slots below adu are ignored", 5, [[(1, 1, V1)], [(5, 1, V2)]], []),
    ("l5-29 a hole right above adu is filled too", 1, [[(4, 1, V1)], []], [(2, NOOP), (3, NOOP), (4, V1)]),
]


@pytest.mark.parametrize("nodes", [3, 5], ids=["three nodes", "l5-36 five nodes"])
@pytest.mark.parametrize(
    ("adu", "reported", "expected"), [case[1:] for case in PROMISE_CASES], ids=[c[0] for c in PROMISE_CASES]
)
def test_l5_28_to_36_what_phase_1_binds(
    nodes: int, adu: int, reported: list[list[tuple[int, int, bytes]]], expected: list[tuple[int, bytes]]
) -> None:
    """The accepts are in increasing, consecutive slot order (L5-28), no-ops one run a hole."""
    proposer = Proposer(n(2), nodes, adu)
    proposer.increase_crnd(above=5)
    outputs = []
    lists = [[] for _ in range(nodes // 2 + 1 - len(reported))] + reported
    quorum = lists[-(nodes // 2 + 1) :]
    for sender, votes in enumerate(quorum):
        outputs.append(proposer.handle_promise(promise(sender, proposer.crnd, *votes)))
        # L5-35 (first half): the same promise once more changes nothing
        assert proposer.handle_promise(promise(sender, proposer.crnd, *votes)) is None
    assert outputs[:-1] == [None] * (len(quorum) - 1)
    got = outputs[-1]
    assert got is not None
    single = [Accept(a.sender, a.slot + i, a.rnd, a.values[i : i + 1]) for a in got for i in range(a.count)]
    assert single == accepts(proposer.crnd, *expected)


def test_l5_37_crnd_starts_at_the_node_id_and_grows_by_the_number_of_nodes() -> None:
    proposer = Proposer(n(2), 3)
    seen = [proposer.crnd]
    for _ in range(3):
        proposer.increase_crnd()
        seen.append(proposer.crnd)
    assert seen == [2, 5, 8, 11]
    proposer.increase_crnd(above=100)
    assert proposer.crnd == 101


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-1, 10**6), st.integers(-1, 10**6))
def test_l5_37_rounds_of_different_nodes_never_meet(a: int, b: int, above_a: int, above_b: int) -> None:
    first, second = Proposer(n(a), 3, stride=1000), Proposer(n(b), 5, stride=1000)
    first.increase_crnd(above_a)
    second.increase_crnd(above_b)
    assert first.crnd > above_a
    assert second.crnd > above_b
    assert (first.crnd == second.crnd) <= (a == b)


def test_l5_38_a_promise_after_the_quorum_gives_no_second_output() -> None:
    proposer = Proposer(n(2), 3)
    proposer.handle_promise(promise(0, 2))
    assert proposer.handle_promise(promise(1, 2)) == []
    assert proposer.handle_promise(promise(2, 2, (0, 1, V1))) is None


# ---- The proposer's event loop


def leading_proposer(alpha: int = 1, *votes: tuple[int, int, bytes]) -> Proposer:
    proposer = Proposer(n(2), 3, alpha=alpha)
    proposer.prepare()
    proposer.handle_promise(promise(0, 2, *votes))
    proposer.handle_promise(promise(1, 2))
    return proposer


def test_l5_39_and_48_a_quorum_stores_the_accepts_and_they_go_before_client_requests() -> None:
    proposer = Proposer(n(2), 3)
    proposer.propose(Batch(V3, 1))
    assert proposer.take_accepts() == []
    proposer.handle_promise(promise(0, 2, (0, 1, V1)))
    proposer.handle_promise(promise(1, 2))
    assert proposer.take_accepts() == accepts(2, (0, V1))
    proposer.advance(0)
    assert proposer.take_accepts() == accepts(2, (1, V3))


def engine(node: int = 3, policy: str = "lab", alpha: int = 1) -> MultiPaxos:
    replica = MultiPaxos(n(node), [n(1), n(2), n(3)], Settings(policy=policy, alpha=alpha), random.Random(1))
    for other in replica.others:
        replica.on_link(other, LinkState.UP)
    return replica


def drain(replica: MultiPaxos) -> list[object]:
    """Run one turn with a disk that is done at once; return what was sent."""
    sent: list[object] = []
    while True:
        out = replica.take_output()
        sent += [message for _, message in out.sends] + [message for _, _, message in out.sends_after]
        if not out.records:
            return sent
        replica.on_persisted(out.write_no)


def test_l5_40_a_request_is_dropped_by_a_follower_and_queued_by_the_leader_until_phase_1_is_done() -> None:
    follower = engine(1)
    follower.on_tick(0)
    follower.on_propose(Batch(V1, 1))
    assert [returned.reason for returned in follower.take_output().returned] == ["not-leader"]
    leader = engine(3)
    leader.on_tick(0)
    leader.on_propose(Batch(V1, 1))
    assert not any(isinstance(message, Accept) for message in drain(leader))
    leader.on_message(n(1), Promise(n(3), n(1), leader.proposer.crnd, ()))
    assert [m.values for m in drain(leader) if isinstance(m, Accept)] == [V1]


def test_l5_41_an_adu_increment_sends_nothing_without_phase_1() -> None:
    proposer = Proposer(n(2), 3)
    proposer.propose(Batch(V1, 1))
    proposer.advance(4)
    assert proposer.adu == 4
    assert proposer.take_accepts() == []


def test_l5_42_phase_1_without_a_quorum_is_repeated_in_a_higher_round() -> None:
    replica = engine(3)
    rounds: list[int] = []
    for now in range(0, 3000, 20):
        replica.on_tick(now)
        rounds += [m.crnd for m in drain(replica) if isinstance(m, Prepare)]
    assert len(rounds) >= 3
    assert rounds == sorted(set(rounds))


def test_l5_43_acceptors_are_silent_about_lower_rounds_so_the_new_leader_must_climb() -> None:
    acceptor = Acceptor(n(1))
    acceptor.handle_prepare(Prepare(n(3), 0, 3003))
    proposer = Proposer(n(2), 3, stride=1000)
    tried = 0
    while acceptor.handle_prepare(proposer.prepare()) is None:
        proposer.increase_crnd()
        tried += 1
    assert (tried, proposer.crnd) == (4, 4002)


def test_l5_44_trust_starts_phase_1_only_at_the_trusted_node() -> None:
    replica = engine(2)
    replica.on_tick(0)
    assert not any(isinstance(message, Prepare) for message in drain(replica))
    replica.on_link(n(3), LinkState.REFUSED)
    assert replica.leader == 2
    assert any(isinstance(message, Prepare) for message in drain(replica))


def test_l5_45_an_accept_that_is_not_decided_is_sent_again_unchanged() -> None:
    replica = engine(3)
    replica.on_tick(0)
    drain(replica)
    replica.on_message(n(1), Promise(n(3), n(1), replica.proposer.crnd, ()))
    replica.on_propose(Batch(V1, 1))
    first = [m for m in drain(replica) if isinstance(m, Accept)]
    again: list[Accept] = []
    for now in range(20, 600, 20):
        replica.on_tick(now)
        again += [m for m in drain(replica) if isinstance(m, Accept)]
    assert again
    assert all(accept == first[0] for accept in again)


def test_l5_46_alpha_1_sends_a_slot_when_the_one_before_is_decided() -> None:
    proposer = leading_proposer()
    proposer.propose(Batch(V1, 1))
    proposer.propose(Batch(V2, 1))
    assert proposer.take_accepts() == accepts(2, (0, V1))
    assert proposer.take_accepts() == []
    proposer.advance(0)
    assert proposer.take_accepts() == accepts(2, (1, V2))


@pytest.mark.parametrize("alpha", [1, 8, 64])
def test_l5_47_alpha_slots_may_be_open(alpha: int) -> None:
    proposer = leading_proposer(alpha)
    proposer.propose(Batch(V1 * 100, 100))
    assert sum(accept.count for accept in proposer.take_accepts()) == alpha
    proposer.advance(0)
    assert sum(accept.count for accept in proposer.take_accepts()) == 1


def test_l5_49_nothing_queued_nothing_sent() -> None:
    proposer = leading_proposer()
    assert proposer.take_accepts() == []


def test_l5_50_and_51_adu_stands_in_the_next_prepare() -> None:
    proposer = Proposer(n(2), 3)
    assert proposer.prepare() == Prepare(n(2), 0, 2)
    proposer.advance(7)
    proposer.advance(5)  # never goes down
    assert proposer.prepare() == Prepare(n(2), 8, 2)


def test_l5_53_a_decision_holds_value_and_slot() -> None:
    learner = Learner(n(0), 3)
    learner.handle_learn(Learn(n(0), 4, 1, V1))
    assert learner.handle_learn(Learn(n(1), 4, 1, V1)) == [Decision(V1, 4, 1, 1)]


# ---- The acceptor


def test_l5_05_and_55_a_prepare_below_what_a_prepare_or_accept_has_shown_is_ignored() -> None:
    acceptor = Acceptor(n(1))
    assert acceptor.handle_prepare(Prepare(n(2), 0, 5)) == Promise(n(2), n(1), 5, ())
    assert acceptor.handle_prepare(Prepare(n(0), 0, 4)) is None
    assert acceptor.handle_prepare(Prepare(n(2), 0, 5)) is None
    assert acceptor.handle_accept(Accept(n(0), 0, 9, V1)) is not None
    assert acceptor.handle_prepare(Prepare(n(2), 0, 8)) is None


def test_l5_56_accepts_lower_equal_higher_and_without_a_prepare() -> None:
    acceptor = Acceptor(n(1))
    assert acceptor.handle_accept(Accept(n(2), 0, 5, V1)) == Learn(n(1), 0, 5, V1)
    assert acceptor.rnd == 5
    assert acceptor.handle_accept(Accept(n(2), 1, 5, V2)) == Learn(n(1), 1, 5, V2)
    assert acceptor.handle_accept(Accept(n(0), 2, 4, V3)) is None
    assert acceptor.handle_accept(Accept(n(0), 2, 8, V3)) == Learn(n(1), 2, 8, V3)
    assert acceptor.rnd == 8


def test_l5_57_accepting_again_in_a_higher_round_overwrites_and_is_reported() -> None:
    acceptor = Acceptor(n(1))
    acceptor.handle_accept(Accept(n(2), 0, 5, V1))
    acceptor.handle_accept(Accept(n(0), 0, 6, V2))
    assert acceptor.handle_prepare(Prepare(n(2), 0, 8)) == Promise(n(2), n(1), 8, (Vote(0, 6, V2),))


def test_l5_06_18_19_and_58_the_promise_lists_votes_from_the_slot_on_sorted_holes_left_out() -> None:
    acceptor = Acceptor(n(1))
    for slot in (6, 1, 4, 3):
        acceptor.handle_accept(Accept(n(2), slot, 2, V1))
    answer = acceptor.handle_prepare(Prepare(n(2), 3, 5))
    assert answer == Promise(n(2), n(1), 5, (Vote(3, 2, V1), Vote(4, 2, V1), Vote(6, 2, V1)))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8), st.integers(1, 4)), max_size=30), st.integers(0, 20))
def test_l5_18_promises_are_sorted_and_tell_the_newest_vote_of_every_slot(
    sequence: list[tuple[int, int, int]], start: int
) -> None:
    acceptor = Acceptor(n(1))
    newest: dict[int, tuple[int, bytes]] = {}
    for slot, rnd, count in sequence:
        values = bytes((rnd * 20 + slot + i) % 128 for i in range(count))
        if acceptor.handle_accept(Accept(n(2), slot, rnd, values, count)) is not None:
            newest.update({slot + i: (rnd, values[i : i + 1]) for i in range(count)})
    answer = acceptor.handle_prepare(Prepare(n(2), start, 99))
    assert answer is not None
    told = [(v.slot + i, (v.vrnd, v.vval[i : i + 1])) for v in answer.votes for i in range(v.count)]
    assert told == sorted((slot, vote) for slot, vote in newest.items() if slot >= start)


# ---- The learner


@pytest.mark.parametrize(("nodes", "quorum"), [(3, 2), (5, 3)])
def test_l5_59_a_quorum_of_distinct_senders_is_needed(nodes: int, quorum: int) -> None:
    learner = Learner(n(0), nodes)
    for _ in range(5):
        assert learner.handle_learn(Learn(n(0), 0, 1, V1)) is None
    for sender in range(1, quorum - 1):
        assert learner.handle_learn(Learn(n(sender), 0, 1, V1)) is None
    assert learner.handle_learn(Learn(n(quorum), 0, 1, V1)) == [Decision(V1, 0, 1, 1)]


def test_l5_60_older_rounds_are_ignored_and_a_higher_one_resets_the_count() -> None:
    learner = Learner(n(0), 3)
    assert learner.handle_learn(Learn(n(0), 0, 2, V1)) is None
    assert learner.handle_learn(Learn(n(1), 0, 1, V2)) is None
    assert learner.handle_learn(Learn(n(1), 0, 3, V3)) is None
    assert learner.handle_learn(Learn(n(2), 0, 2, V1)) is None
    assert learner.handle_learn(Learn(n(2), 0, 3, V3)) == [Decision(V3, 0, 1, 3)]


def test_l5_61_learns_after_the_decision_give_no_second_output() -> None:
    learner = Learner(n(0), 3)
    learner.handle_learn(Learn(n(0), 0, 1, V1))
    assert learner.handle_learn(Learn(n(1), 0, 1, V1)) is not None
    assert learner.handle_learn(Learn(n(2), 0, 1, V1)) is None
    assert learner.handle_learn(Learn(n(2), 0, 7, V1)) is None


@pytest.mark.parametrize("nodes", [3, 5])
@given(data=st.data())
def test_l5_62_learns_in_any_order_decide_each_slot_exactly_once(nodes: int, data: st.DataObject) -> None:
    learns = [Learn(n(sender), slot, 1, bytes([slot])) for sender in range(nodes) for slot in range(6)]
    learner = Learner(n(0), nodes)
    decided: list[int] = []
    for learn in data.draw(st.permutations(learns)):
        for decision in learner.handle_learn(learn) or []:
            assert decision.value == bytes([decision.slot])
            decided.append(decision.slot)
    assert sorted(decided) == list(range(6))


# ---- Server-side rows that concern the engine


def test_l5_13_to_16_and_52_a_conversation_of_the_three_roles_alone() -> None:
    """Two message delays a value in the steady state (L5-03): accept, learn."""
    proposer = Proposer(n(2), 3)
    acceptors = [Acceptor(n(node)) for node in range(3)]
    learner = Learner(n(0), 3)
    prepare = proposer.prepare()
    for acceptor in acceptors:
        answer = acceptor.handle_prepare(prepare)
        assert answer is not None
        proposer.handle_promise(answer)
    decided: list[Decision] = []
    for value in (V1, V2, V3):
        proposer.propose(Batch(value, 1))
        (accept,) = proposer.take_accepts()
        for acceptor in acceptors:
            learn = acceptor.handle_accept(accept)
            assert learn is not None
            decided += learner.handle_learn(learn) or []
        proposer.advance(decided[-1].slot)
    assert [(d.slot, d.value) for d in decided] == [(0, V1), (1, V2), (2, V3)]


def test_l5_12_and_75_no_round_is_minus_one_and_adu_starts_at_minus_one() -> None:
    assert NO_ROUND == -1
    assert Acceptor(n(1)).rnd == -1
    assert Proposer(n(1), 3).adu == -1
    assert engine().adu == -1


def test_l5_76_and_77_decisions_above_a_hole_wait_and_follow_at_once_without_recursion() -> None:
    replica = engine(1)
    replica.on_tick(0)
    count = 100_000
    for slot in range(1, count):
        for sender in (2, 3):
            replica.on_message(n(sender), Learn(n(sender), slot, 3, b"\xc0"))
    assert replica.adu == -1
    for sender in (2, 3):
        replica.on_message(n(sender), Learn(n(sender), 0, 3, b"\xc0"))
    assert replica.adu == count - 1
    runs = replica.take_output().decided
    assert [run.slot for run in runs] == list(range(count))


# ---- Detectors


def test_l5_66_the_failure_detector_suspects_restores_and_lengthens_its_delay() -> None:
    detector = FailureDetector(n(1), [n(1), n(2), n(3)], 100, 50)
    detector.start(0)
    detector.on_reply(n(2), 90)
    assert [s.node for s in detector.check(150)] == [3]
    assert detector.check(160) == []  # said once
    restored = detector.on_reply(n(3), 200)
    assert restored is not None
    assert (restored.node, restored.delay_ms) == (3, 150)
    assert detector.check(230) == []
    assert [s.node for s in detector.check(250)] == [2]
    assert n(1) in detector.connected()


def test_l5_66_a_crashed_process_is_suspected_at_once_and_its_return_does_not_lengthen_the_delay() -> None:
    detector = FailureDetector(n(1), [n(1), n(2), n(3)], 100, 50)
    detector.start(0)
    suspicion = detector.on_refused(n(2))
    assert suspicion is not None
    assert suspicion.cause == "link"
    assert detector.on_refused(n(2)) is None
    restored = detector.on_reply(n(2), 50)
    assert restored is not None
    assert restored.delay_ms == 100


def test_l5_67_the_highest_unsuspected_id_leads() -> None:
    detector = MonarchicalDetector([n(1), n(2), n(3), n(-4)])
    trusted: list[int] = []
    detector.subscribe(trusted.append)
    assert detector.leader == 3
    detector.suspect(n(3))
    detector.suspect(n(1))
    detector.suspect(n(2))
    detector.restore(n(1))
    detector.restore(n(3))
    detector.restore(n(2))
    assert trusted == [2, NO_NODE, 1, 3]
