"""Auctions: who wins, when they end, that time never goes back. [AU-12 … AU-30, AV-06 … AV-17, TR-11, scenario 74]"""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.apps.auction import (
    DURATION_MS,
    AuctionError,
    AuctionHouse,
    AuctionList,
    AuctionOp,
    Auctions,
    AuctionStatus,
    Bid,
    BidResult,
    Close,
    Remove,
    Start,
    Status,
)
from paxos_twisted.apps.places import place_of
from paxos_twisted.core.command import Command
from paxos_twisted.core.replicated import ReplicatedState, digest_of, pieces_of
from paxos_twisted.limits import AUCTION_BID_MAX, AUCTION_EVENTS_MAX, AUCTIONS_LISTED_MAX, AUCTIONS_PER_PLACE_MAX
from paxos_twisted.types import ClientId

T0 = 1_700_000_000_000
"""Some moment, Unix milliseconds."""


class House:
    """An auction house with a clock, and one auction unless told otherwise."""

    def __init__(self, duration_ms: int | None = DURATION_MS) -> None:
        self.house = AuctionHouse()
        self.now = T0
        if duration_ms is not None:
            assert isinstance(self.do(Start("vase", duration_ms)), AuctionStatus)

    def do(self, op: AuctionOp, client: int = 7) -> object:
        return self.house.apply(self.house.stamp(op, self.now), client)

    def bid(self, amount: int, bidder: str = "ann", at: int | None = None) -> BidResult:
        self.now = self.now if at is None else T0 + at
        result = self.do(Bid("vase", bidder, amount))
        assert isinstance(result, BidResult)
        return result

    def status(self, bidder: str = "", at: int | None = None) -> AuctionStatus:
        self.now = self.now if at is None else T0 + at
        result = self.do(Status("vase", bidder))
        assert isinstance(result, AuctionStatus)
        return result

    def events(self, start: int = 0) -> list[tuple[str, int, str]]:
        return [(event.kind, event.highest, event.bidder) for event in self.house.read_feed("vase", start, 1000)[1]]


# --- Bids


def test_an_auction_begins_with_0_and_its_start_time_is_in_every_status() -> None:  # [AV-13, AV-14]
    house = House()
    assert house.status(at=1_000) == AuctionStatus(
        "vase", 1, True, 0, "", False, 0, T0, T0 + 45_000, 0, remaining_ms=44_000
    )


def test_a_bid_succeeds_exactly_when_it_is_above_the_highest() -> None:  # [AU-12, AU-26, AV-09]
    house = House()
    assert house.bid(10, "ann") == BidResult("success", 10, "ann", True)
    assert house.bid(9, "bob") == BidResult("fail", 10, "ann", True, "9 is not above the highest bid, 10")
    assert house.bid(11, "bob") == BidResult("success", 11, "bob", True)
    assert house.bid(12, "bob").outcome == "success", "one may outbid oneself"
    assert house.house.bids == {"success": 3, "fail": 1, "exception": 0}


def test_of_two_equal_bids_exactly_one_succeeds() -> None:  # [AU-25]
    house = House()
    assert [house.bid(50, "ann").outcome, house.bid(50, "bob").outcome] == ["success", "fail"]
    assert house.status("ann").is_yours
    assert not house.status("bob").is_yours


@pytest.mark.parametrize("amount", [0, -1, AUCTION_BID_MAX + 1, -(2**63)])
def test_what_is_no_bid_is_an_exception(amount: int) -> None:  # [AU-28]
    house = House()
    house.bid(5)
    result = house.bid(amount, "bob")
    assert (result.outcome, result.highest, result.bidder) == ("exception", 5, "ann")
    assert str(amount) in result.text


def test_a_bid_in_no_auction_is_an_exception() -> None:  # [AU-28]
    house = House(None)
    assert house.bid(5) == BidResult("exception", 0, "", False, "there is no auction 'vase'")
    assert house.do(Status("vase")) == AuctionError("there is no auction 'vase'")
    assert house.do(Close("vase")) == AuctionError("there is no auction 'vase'")
    assert house.do(Remove("vase")) == AuctionError("there is no auction 'vase'")


# --- The end


def test_no_bid_counts_from_the_deadline_on_and_the_status_is_served_after_it() -> None:  # [AV-12, AV-16, AV-17, AU-29]
    house = House()
    assert house.bid(10, "ann", at=44_999).outcome == "success"
    late = house.bid(99, "bob", at=45_000)
    assert late == BidResult("fail", 10, "ann", False, "the auction 'vase' is over")
    status = house.status("ann", at=100_000)
    assert (status.is_live, status.highest, status.bidder, status.is_yours) == (False, 10, "ann", True)
    assert (status.ended, status.remaining_ms) == (T0 + 45_000, None)


def test_the_leader_is_told_what_is_due_and_closing_twice_closes_once() -> None:  # [AU-30, TR-11]
    house = House()
    house.bid(10, "ann", at=100)
    assert house.house.due(T0 + 44_999) == []
    due = house.house.due(T0 + 45_000)
    assert due == [Close("vase", T0 + 45_000)]
    house.now = T0 + 45_020
    first, second = house.do(due[0]), house.do(due[0])
    assert first == second
    assert isinstance(first, AuctionStatus) and not first.is_live and first.ended == T0 + 45_000
    assert house.house.due(T0 + 10**9) == []
    assert [kind for kind, _, _ in house.events()] == ["started", "bid", "closed"]


def test_a_close_for_an_earlier_edition_does_not_end_the_next() -> None:
    house = House()
    (due,) = house.house.due(T0 + 45_000)
    house.now = T0 + 45_000
    house.do(due)
    assert isinstance(house.do(Start("vase", 10_000)), AuctionStatus)
    late = house.do(due)
    assert isinstance(late, AuctionStatus) and late.is_live and late.edition == 2


def test_what_was_told_of_the_end_stays_true_when_a_leader_with_a_slow_clock_takes_over() -> None:  # [scenario 74]
    house = House()
    assert house.bid(10, "ann", at=44_000).outcome == "success"
    assert not house.status(at=45_001).is_live  # the old leader's clock is two seconds ahead
    assert house.bid(99, "bob", at=43_500) == BidResult("fail", 10, "ann", False, "the auction 'vase' is over")
    assert not house.status(at=43_600).is_live


def test_the_remaining_time_never_grows() -> None:
    house = House()
    assert house.status(at=30_000).remaining_ms == 15_000
    assert house.status(at=28_000).remaining_ms == 15_000
    assert house.status(at=31_000).remaining_ms == 14_000


def test_an_auction_without_a_deadline_is_closed_by_hand() -> None:
    house = House(0)
    assert house.status(at=10**9).remaining_ms is None
    assert house.house.due(T0 + 10**12) == []
    house.bid(7, "ann")
    closed = house.do(Close("vase"))
    assert isinstance(closed, AuctionStatus)
    assert (closed.is_live, closed.ended, closed.highest) == (False, T0 + 10**9, 7)
    assert house.bid(8, "bob").outcome == "fail"


def test_an_auction_may_be_closed_by_hand_before_its_deadline() -> None:
    house = House()
    house.now = T0 + 5_000
    closed = house.do(Close("vase"))
    assert isinstance(closed, AuctionStatus) and closed.ended == T0 + 5_000
    assert house.house.due(T0 + 10**9) == []


# --- Several auctions


def test_an_open_auction_is_not_opened_again_and_a_finished_one_starts_anew() -> None:
    house = House()
    house.bid(10, "ann")
    assert isinstance(house.do(Start("vase")), AuctionError)
    house.now = T0 + 50_000  # nobody has closed it, but its time is over
    again = house.do(Start("vase", 1_000))
    assert again == AuctionStatus("vase", 2, True, 0, "", False, 0, T0 + 50_000, T0 + 51_000, 0, 1_000)
    assert [kind for kind, _, _ in house.events()] == ["started", "bid", "closed", "started"]


def test_auctions_are_apart_and_listed_in_portions() -> None:
    house = House()
    for number in range(AUCTIONS_LISTED_MAX + 10):
        house.do(Start(f"lot-{number:04}", 0))
    house.do(Bid("lot-0003", "ann", 5))
    first = house.do(Auctions())
    assert isinstance(first, AuctionList) and not first.is_all and len(first.auctions) == AUCTIONS_LISTED_MAX
    assert [status.highest for status in first.auctions[:5]] == [0, 0, 0, 5, 0]
    rest = house.do(Auctions(first.auctions[-1].name))
    assert isinstance(rest, AuctionList) and rest.is_all and len(rest.auctions) == 11


def test_a_full_part_of_the_table_needs_an_operator() -> None:
    house = House()
    place = place_of("vase")
    names = [name for name in (f"lot-{i}" for i in range(40_000)) if place_of(name) == place]
    for name in names[: AUCTIONS_PER_PLACE_MAX - 1]:
        assert isinstance(house.do(Start(name)), AuctionStatus)
    another = names[AUCTIONS_PER_PLACE_MAX]
    assert isinstance(house.do(Start(another)), AuctionError)
    assert house.do(Remove("vase")) == AuctionError("the auction 'vase' is open; close it before you remove it")
    house.do(Close("vase"))
    assert isinstance(house.do(Remove("vase")), AuctionStatus)
    assert isinstance(house.do(Start(another)), AuctionStatus)
    assert not [key for key, _ in house.house.events.items() if key[0] == "vase"]


# --- Feeds


def test_followers_see_every_change_and_positions_are_never_used_twice() -> None:
    house = House()
    house.bid(10, "ann")
    house.bid(10, "bob")
    house.bid(20, "bob")
    house.do(Close("vase"))
    seen = [("started", 0, ""), ("bid", 10, "ann"), ("bid", 20, "bob"), ("closed", 20, "bob")]
    assert house.events() == seen
    house.do(Remove("vase"))
    house.do(Start("vase"))
    assert house.house.read_feed("vase", 4, 10)[0] == 4
    assert house.events(4) == [("started", 0, "")]


def test_an_auction_keeps_a_bounded_number_of_events() -> None:
    house = House()
    for amount in range(1, AUCTION_EVENTS_MAX + 10):
        house.bid(amount)
    first, events = house.house.read_feed("vase", 0, 1000)
    assert (first, len(events)) == (10, AUCTION_EVENTS_MAX)
    assert len(house.house.events) == AUCTION_EVENTS_MAX
    assert house.house.read_feed("vase", -1, 10)[0] == first + AUCTION_EVENTS_MAX - 1


def test_whatever_may_have_changed_an_auction_wakes_its_followers() -> None:
    house = House()
    feed_of = house.house.feed_of
    bid = Bid("vase", "ann", 5)
    for op, at, wakes in (
        (bid, 0, True),
        (bid, 0, False),
        (Status("vase"), 0, False),
        (Auctions(), 0, False),
        (Status("vase"), 45_000, True),
        (Start("vase"), 46_000, True),
        (Bid("vase", "bob", 9), 100_000, True),
        (Remove("lot"), 0, False),
    ):
        house.now = T0 + at
        assert (feed_of(op, house.do(op)) == "vase") is wakes, op


# --- All together


ops = st.one_of(
    st.builds(Start, st.sampled_from(["a", "b"]), st.sampled_from([0, 50, 100])),
    st.builds(Bid, st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"]), st.integers(-1, 20)),
    st.builds(Status, st.sampled_from(["a", "b"]), st.sampled_from(["x", ""])),
    st.builds(Close, st.sampled_from(["a", "b"])),
    st.builds(Remove, st.sampled_from(["a", "b"])),
    st.builds(Auctions),
)


@given(st.lists(st.tuples(ops, st.integers(-30, 60)), max_size=60))
def test_whatever_the_clocks_do_an_end_is_final_and_the_highest_bid_only_grows(
    said: list[tuple[AuctionOp, int]],
) -> None:
    house = AuctionHouse()
    now = T0
    ended: dict[tuple[str, int], tuple[int, str]] = {}
    highest: dict[tuple[str, int], int] = {}
    for op, step in said:
        now += step  # also backwards: another node's clock
        result = house.apply(house.stamp(op, now), 1)
        for close in house.due(now):
            house.apply(house.stamp(close, now), 1)
        for name, auction in house.auctions.items():
            key = name, auction.edition
            assert auction.highest >= highest.get(key, 0)
            highest[key] = auction.highest
            assert (auction.highest > 0) == (auction.bids > 0) == bool(auction.bidder)
            if key in ended:
                assert (auction.highest, auction.bidder) == ended[key]
                assert not auction.is_live
            elif not auction.is_live:
                ended[key] = auction.highest, auction.bidder
            assert not auction.deadline or auction.started < auction.deadline
            assert auction.ended == 0 or auction.started <= auction.ended
        if isinstance(op, Remove) and isinstance(result, AuctionStatus):
            for dead in [key for key in ended if key[0] == op.name]:
                del ended[dead]
            highest = {key: value for key, value in highest.items() if key[0] != op.name}


@given(seed=st.integers(0, 2**32))
def test_replicas_agree_and_a_snapshot_carries_everything(seed: int) -> None:
    rng = Random(seed)
    commands: list[Command[AuctionOp] | None] = []
    for number in range(60):
        name = rng.choice("ab")
        op: AuctionOp = rng.choice(
            [
                Start(name, 40),
                Bid(name, rng.choice("xy"), rng.randrange(30)),
                Status(name, "x"),
                Close(name),
                Remove(name),
            ]
        )
        commands.append(Command(ClientId(rng.randrange(3)), -1, number + 1, 1, AuctionHouse().stamp(op, T0 + number)))
    one, two = ReplicatedState(AuctionHouse(), 10**6), ReplicatedState(AuctionHouse(), 10**6)
    assert one.apply(0, commands) == [
        result for command in commands for result in two.apply(two.applied + 1, [command])
    ]
    pieces = list(pieces_of(one))
    digest = digest_of(one.applied, pieces)
    assert digest == digest_of(two.applied, list(pieces_of(two)))
    three = ReplicatedState(AuctionHouse(), 10**6)
    three.install(one.applied, pieces, digest)
    bid: Command[AuctionOp] = Command(ClientId(9), -1, 1, 1, Bid("a", "z", 50, T0 + 70))
    assert one.apply(60, [bid]) == three.apply(60, [bid])


def test_a_repeated_bid_gets_its_first_answer_not_too_low() -> None:  # [TR-09, rule 83, scenario 73]
    state = ReplicatedState(AuctionHouse(), 10**6)
    bid = Bid("vase", "ann", 10, T0)
    state.apply(0, [Command(ClientId(1), -1, 1, 1, Start("vase", 0, T0))])
    repeated = msgspec.structs.replace(bid, at=T0 + 5_000)  # stamped anew by another leader
    first, second = state.apply(1, [Command(ClientId(2), -1, 1, 1, bid), Command(ClientId(2), -1, 1, 1, repeated)])
    assert first == second == BidResult("success", 10, "ann", True)


def test_operations_are_named_and_stamped_as_the_contract_says() -> None:
    house = AuctionHouse()
    every: list[AuctionOp] = [Start("a"), Bid("a", "b", 1), Status("a"), Close("a"), Auctions(), Remove("a")]
    assert tuple(house.op_name(op) for op in every) == house.op_names
    assert [getattr(house.stamp(op, 5), "at", None) for op in every] == [5, 5, 5, 5, 5, None]
    assert [house.is_reread(op) for op in every] == [False, False, False, False, True, False]
