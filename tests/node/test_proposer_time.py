"""Stamps and deadlines: the proposer's clock goes into the log; what is due is proposed until it has its effect."""

from random import Random

import msgspec

from paxos_twisted.apps.auction import AuctionHouse, AuctionOp, Bid, Close, Remove, Start
from paxos_twisted.apps.bank import Bank
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import ReplicatedState
from paxos_twisted.node.proposer_time import DUE_AGAIN_MS, DUE_EVERY_MS, ProposerTime
from paxos_twisted.types import ClientId

_decode = msgspec.msgpack.Decoder(Command[AuctionOp]).decode


class Proposer:
    """A node whose wall clock a test moves."""

    def __init__(self) -> None:
        self.state = ReplicatedState(AuctionHouse(), 10**6)
        self.wall_ms = 1_000_000
        self.time = ProposerTime(self.state.application, lambda: self.wall_ms, Random(1))
        self.do(Command(ClientId(1), -1, 1, 1, Start("vase", 1000)))

    def do(self, command: Command[AuctionOp]) -> object:
        raw, stamped = self.time.stamp(command)
        assert _decode(raw) == stamped
        (result,) = self.state.apply(self.state.applied + 1, [stamped])
        return result

    def due(self, now_ms: int) -> list[Command[AuctionOp]]:
        proposals = self.time.due(now_ms, self.state.applied)
        assert all(_decode(raw) == command for raw, command in proposals)
        return [command for _, command in proposals]


def test_a_stamp_replaces_whatever_the_client_wrote() -> None:
    proposer = Proposer()
    _, stamped = proposer.time.stamp(Command(ClientId(7), 3, 2, 1, Bid("vase", "ann", 5, at=99)))
    assert stamped == Command(ClientId(7), 3, 2, 1, Bid("vase", "ann", 5, at=1_000_000))
    _, stamped = proposer.time.stamp(Command(ClientId(7), 3, 2, 1, Remove("vase")))
    assert stamped.op == Remove("vase")


def test_the_bank_has_no_time() -> None:
    time = ProposerTime(Bank(), lambda: 0, Random(1))
    assert not time.stamps
    assert not time.has_deadlines


def test_what_is_due_is_proposed_once_and_closes_the_auction() -> None:
    proposer = Proposer()
    assert proposer.due(0) == []
    proposer.wall_ms += 1000
    assert proposer.due(DUE_EVERY_MS - 1) == [], "not asked so often"
    (command,) = proposer.due(DUE_EVERY_MS)
    assert command.op == Close("vase", 1_001_000)
    assert proposer.due(2 * DUE_EVERY_MS) == [], "it is under way"
    proposer.do(command)
    assert proposer.due(3 * DUE_EVERY_MS) == []
    assert proposer.due(30 * DUE_EVERY_MS) == []
    assert proposer.time.proposed == 1


def test_what_has_no_effect_is_proposed_again_under_another_session() -> None:
    proposer = Proposer()
    proposer.wall_ms += 1000
    (first,) = proposer.due(0)
    assert proposer.due(DUE_AGAIN_MS - 1) == []
    (second,) = proposer.due(DUE_AGAIN_MS + DUE_EVERY_MS)
    assert second.op == first.op
    assert second.client != first.client
    assert (second.seq, second.ack) == (1, 1)


def test_several_auctions_that_end_share_a_session_and_both_proposals_count() -> None:
    proposer = Proposer()
    proposer.do(Command(ClientId(1), -1, 2, 1, Start("lamp", 1000)))
    proposer.wall_ms += 1000
    one, two = proposer.due(0)
    assert one.client == two.client
    assert (two.seq, two.ack) == (2, 2)
    proposer.do(one)
    proposer.do(two)
    assert proposer.due(DUE_EVERY_MS) == []
    assert proposer.state.sessions.table.shard(one.client)[one.client].answers.keys() == {2}


def test_two_nodes_that_both_propose_a_close_end_it_once() -> None:
    proposer = Proposer()
    other = ProposerTime(proposer.state.application, lambda: 1_002_000, Random(2))
    proposer.wall_ms += 1000
    (mine,) = proposer.due(0)
    ((_, theirs),) = other.due(0, proposer.state.applied)
    assert mine.client != theirs.client
    first = proposer.do(mine)
    (second,) = proposer.state.apply(proposer.state.applied + 1, [other.stamp(theirs)[1]])
    assert first == second
