"""Things that must go on: a lost Accept under steady load, and promises that stay small."""

import random

import pytest

from paxos_twisted.core.engine import Batch, LinkState
from paxos_twisted.core.multipaxos import Accept, Learn, MultiPaxos, Prepare, Promise, Settings, Vote
from paxos_twisted.core.multipaxos import replica as replica_module
from paxos_twisted.core.multipaxos.messages import AskFollow, CatchUpReply, Decided, Reject, WouldFollow
from paxos_twisted.types import NodeId

LEADER, FOLLOWER, THIRD = NodeId(3), NodeId(1), NodeId(2)


def replica(node: NodeId, policy: str = "sticky") -> MultiPaxos:
    engine = MultiPaxos(node, [FOLLOWER, THIRD, LEADER], Settings(policy=policy), random.Random(1))
    for other in engine.others:
        engine.on_link(other, LinkState.UP)
    return engine


def drain(engine: MultiPaxos) -> list[object]:
    sent: list[object] = []
    while True:
        out = engine.take_output()
        sent += [message for _, message in out.sends] + [message for _, _, message in out.sends_after]
        if not out.records:
            return sent
        engine.on_persisted(out.write_no)


def test_a_lost_accept_is_sent_again_although_later_slots_are_decided_all_the_time() -> None:
    engine = replica(LEADER, "lab")
    engine.on_tick(0)
    drain(engine)
    rnd = engine.proposer.crnd
    engine.on_message(FOLLOWER, Promise(LEADER, FOLLOWER, rnd, ()))
    engine.on_propose(Batch(b"\x01", 1))
    drain(engine)  # its Accept is lost everywhere
    again: list[Accept] = []
    for number in range(1, 60):
        engine.on_propose(Batch(b"\x02", 1))
        engine.on_tick(number * 20)
        again += [m for m in drain(engine) if isinstance(m, Accept) and m.slot == 0]
        engine.on_message(FOLLOWER, Learn(FOLLOWER, number, rnd, None))
        drain(engine)
    assert engine.adu == -1
    assert again


def test_a_candidate_that_is_many_bytes_behind_must_catch_up_first() -> None:
    engine = replica(FOLLOWER)
    engine.on_tick(0)
    value = b"\xc5\xff\xff" + bytes(65535)  # one command of 64 KiB
    for slot in range(40):
        engine.on_message(LEADER, CatchUpReply(LEADER, slot, 1, value, slot))
    drain(engine)
    assert engine.adu == 39
    engine.on_message(THIRD, Prepare(THIRD, 0, 2002))
    engine.on_message(THIRD, AskFollow(THIRD, 1, -1))
    sent = drain(engine)
    assert [(m.rnd, m.adu) for m in sent if isinstance(m, Reject)] == [(-1, 39)]
    assert [m.granted for m in sent if isinstance(m, WouldFollow)] == [False]
    engine.on_message(THIRD, Prepare(THIRD, 38, 2002))
    assert [m for m in drain(engine) if isinstance(m, Promise)]


def test_a_leader_that_finds_another_value_decided_in_an_open_slot_hands_its_commands_back() -> None:
    engine = replica(LEADER, "lab")
    engine.on_tick(0)
    drain(engine)
    engine.on_message(FOLLOWER, Promise(LEADER, FOLLOWER, engine.proposer.crnd, ()))
    engine.on_propose(Batch(b"\x01", 1))
    drain(engine)
    engine.on_message(THIRD, CatchUpReply(THIRD, 0, 1, b"\x02", 0))
    returned = engine.take_output().returned
    assert [(r.batch.body, r.proposed) for r in returned] == [(b"\x01", True)]


def test_a_leader_that_hears_votes_of_a_higher_round_stops_at_once() -> None:
    engine = replica(LEADER, "lab")
    engine.on_tick(0)
    drain(engine)
    engine.on_message(FOLLOWER, Promise(LEADER, FOLLOWER, engine.proposer.crnd, ()))
    assert engine.role == "leader"
    engine.on_message(THIRD, Learn(THIRD, 0, engine.proposer.crnd + 1, None))
    assert engine.role == "follower"


def test_a_run_whose_bytes_do_not_hold_its_commands_is_not_voted_for() -> None:
    engine = replica(FOLLOWER)
    engine.on_tick(0)
    drain(engine)
    for values, count in ((b"\x01\x02", 3), (b"\x01\x02\x03", 2), (b"\xc1", 1), (b"", 1)):
        engine.on_message(LEADER, Accept(LEADER, 0, 3003, values, count))
        engine.on_message(LEADER, CatchUpReply(LEADER, 0, count, values, 9))
        assert not [message for message in drain(engine) if isinstance(message, Learn)]
    assert engine.adu == -1
    engine.on_message(LEADER, Accept(LEADER, 0, 3003, b"\x01\x02", 2))
    assert [m.count for m in drain(engine) if isinstance(m, Learn)] == [2]


def test_a_long_batch_is_given_out_slot_by_slot_at_alpha_1_in_order() -> None:
    engine = MultiPaxos(LEADER, [FOLLOWER, THIRD, LEADER], Settings(policy="lab", alpha=1), random.Random(1))
    engine.on_tick(0)
    drain(engine)
    rnd = engine.proposer.crnd
    engine.on_message(FOLLOWER, Promise(LEADER, FOLLOWER, rnd, ()))
    engine.on_propose(Batch(bytes(range(100)), 100))
    values = b""
    for slot in range(100):
        (accept,) = [m for m in drain(engine) if isinstance(m, Accept)]
        assert (accept.slot, accept.count) == (slot, 1)
        values += accept.values
        engine.on_message(FOLLOWER, Learn(FOLLOWER, slot, rnd, None))
    assert values == bytes(range(100))


def test_what_phase_1_binds_is_proposed_again_in_few_runs() -> None:
    engine = replica(LEADER, "lab")
    engine.on_tick(0)
    drain(engine)
    votes = tuple(Vote(slot, 1, bytes([slot])) for slot in range(100) if slot != 50)
    engine.on_message(FOLLOWER, Promise(LEADER, FOLLOWER, engine.proposer.crnd, votes))
    (accept,) = [m for m in drain(engine) if isinstance(m, Accept)]
    assert (accept.slot, accept.count) == (0, 100)
    assert accept.values == bytes(range(50)) + b"\xc0" + bytes(range(51, 100))


def test_bound_slots_that_were_decided_meanwhile_are_not_proposed_again() -> None:
    # 1. alpha 1: slot 0 is proposed, 1 and 2 wait. 2. The node knows that 1 and 2 are decided: adu jumps over them.
    # 3. Proposed again they would stay open for ever, and what is really open would wait behind them to be re-sent.
    engine = MultiPaxos(LEADER, [FOLLOWER, THIRD, LEADER], Settings(policy="lab", alpha=1), random.Random(1))
    engine.on_tick(0)
    drain(engine)
    rnd = engine.proposer.crnd
    votes = tuple(Vote(slot, 1, bytes([slot])) for slot in range(3))
    engine.on_message(FOLLOWER, Promise(LEADER, FOLLOWER, rnd, votes))
    assert [m.slot for m in drain(engine) if isinstance(m, Accept)] == [0]
    engine.on_message(FOLLOWER, CatchUpReply(FOLLOWER, 0, 3, b"\x00\x01\x02", 2))
    engine.on_propose(Batch(b"\x07", 1))
    assert [m.slot for m in drain(engine) if isinstance(m, Accept)] == [3]
    assert [accept.slot for accept in engine.proposer.open] == [3]


def test_a_run_longer_than_the_buffer_is_heard_when_it_is_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1. The old leader was ahead of everybody and died: what phase 1 binds is longer than what a learner buffers.
    # 2. It is proposed as one run. 3. Ignoring its Learns for their end would leave it undecided for ever.
    monkeypatch.setattr(replica_module, "DECISIONS_BUFFERED_MAX", 2)
    engine = replica(FOLLOWER)
    engine.on_message(LEADER, Accept(LEADER, 0, 1003, b"\x01\x02\x03\x04\x05\x06", 6))
    drain(engine)
    for sender in (LEADER, THIRD):
        engine.on_message(sender, Learn(sender, 0, 1003, None, 6))
    assert engine.adu == 5


def test_learns_far_above_a_hole_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "DECISIONS_BUFFERED_MAX", 2)
    engine = replica(FOLLOWER)
    for slot in range(2, 40):
        for voter in (THIRD, LEADER):
            engine.on_message(voter, Learn(voter, slot, 1003, b"\x01"))
    assert engine.status()["log"]["buffered_slots"] == 0


def test_a_follower_votes_towards_the_leader_alone_and_hears_from_it_what_is_decided() -> None:
    engine = replica(FOLLOWER)
    engine.on_message(LEADER, Accept(LEADER, 0, 1003, b"\x01\x02", 2))
    out = engine.take_output()
    assert [(to, type(message)) for _, to, message in out.sends_after] == [((LEADER,), Learn)]
    engine.on_persisted(out.write_no)
    assert engine.adu == -1
    engine.on_message(LEADER, Accept(LEADER, 2, 1003, b"\x03", 1, adu=1))
    assert engine.adu == 1
    engine.on_message(LEADER, Decided(LEADER, 1003, 2))
    assert [(run.slot, run.body) for run in engine.take_output().decided] == [(0, b"\x01\x02"), (2, b"\x03")]


@pytest.mark.parametrize("order", ["decided first", "accept first"])
def test_what_the_leader_says_is_decided_counts_whichever_message_is_faster(order: str) -> None:
    engine = replica(FOLLOWER)
    messages = [Decided(LEADER, 1003, 1), Accept(LEADER, 0, 1003, b"\x01\x02", 2)]
    for message in messages if order == "decided first" else reversed(messages):
        engine.on_message(LEADER, message)
    assert engine.adu == 1


def test_an_accept_of_another_round_says_nothing_of_what_is_decided() -> None:
    # 1. The old leader proposes one value and dies. 2. Another one is decided under the new leader, whose Accept is
    # lost on the way here. 3. Its word that the slot is decided may not make the old value the decided one.
    engine = replica(FOLLOWER)
    engine.on_message(LEADER, Accept(LEADER, 0, 1003, b"\x01"))
    engine.on_message(THIRD, Decided(THIRD, 2002, 0))
    assert engine.adu == -1
    engine.on_message(THIRD, Accept(THIRD, 0, 2002, b"\x02"))
    assert [run.body for run in engine.take_output().decided] == [b"\x02"]


def test_a_leader_says_once_at_the_next_tick_what_no_accept_has_said() -> None:
    engine = replica(LEADER, "lab")
    engine.on_tick(0)
    drain(engine)
    rnd = engine.proposer.crnd
    engine.on_message(FOLLOWER, Promise(LEADER, FOLLOWER, rnd, ()))
    engine.on_propose(Batch(b"\x01", 1))
    drain(engine)
    engine.on_message(FOLLOWER, Learn(FOLLOWER, 0, rnd, None))
    assert [m for m in drain(engine) if isinstance(m, Decided)] == []
    engine.on_tick(20)
    assert [m for m in drain(engine) if isinstance(m, Decided)] == [Decided(LEADER, rnd, 0)]
    engine.on_tick(40)
    assert [m for m in drain(engine) if isinstance(m, Decided)] == []
