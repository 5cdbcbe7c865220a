"""Votes that could not be read back: the acceptor keeps silent about them until they no longer matter. [Rule 52]"""

from paxos_twisted.core.multipaxos import Accept, Acceptor, Prepare
from paxos_twisted.types import NodeId

CANDIDATE, NODE = NodeId(2), NodeId(1)


def forgetful() -> Acceptor:
    """Has promised round 5 and cannot read its vote of slot 27."""
    acceptor = Acceptor(NODE)
    acceptor.handle_accept(Accept(CANDIDATE, 26, 5, b"\x01"))
    acceptor.silent.add(27, 28)
    return acceptor


def test_no_promise_is_given_that_would_have_to_tell_the_unreadable_vote() -> None:
    acceptor = forgetful()
    assert acceptor.handle_prepare(Prepare(CANDIDATE, 20, 6)) is None
    assert acceptor.rnd == 5


def test_a_promise_for_slots_above_is_given() -> None:
    assert forgetful().handle_prepare(Prepare(CANDIDATE, 28, 6)) is not None


def test_a_new_vote_in_the_slot_heals_it_because_it_is_the_newest() -> None:
    acceptor = forgetful()
    assert acceptor.handle_accept(Accept(CANDIDATE, 27, 5, b"\x02")) is not None
    promise = acceptor.handle_prepare(Prepare(CANDIDATE, 26, 6))
    assert promise is not None
    assert [vote.slot for vote in promise.votes] == [26, 27]


def test_a_decision_heals_it_but_the_acceptor_does_not_look_as_if_it_had_not_voted() -> None:
    # 1. Slot 27 was chosen by this node and another one. 2. This node's vote rots; a peer tells it the decision.
    # 3. A candidate that never voted in 27 prepares it. An empty promise would let it choose another value.
    acceptor = forgetful()
    acceptor.forget_loss(0, 28)
    promise = acceptor.handle_prepare(Prepare(CANDIDATE, 27, 6))
    assert promise is not None
    assert promise.first == 28
