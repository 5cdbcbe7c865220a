"""What the metrics tell of chat and auctions."""

from prometheus_client import CollectorRegistry, generate_latest

from paxos_twisted.apps.auction import AuctionHouse, Bid, Close, Start
from paxos_twisted.apps.bank import Bank
from paxos_twisted.apps.chat import Chat, Post
from paxos_twisted.node.application_metrics import application_group
from paxos_twisted.node.families import Collector, Labels


def scrape(application: Chat | AuctionHouse) -> dict[str, float]:
    group = application_group(application, Labels())
    assert group is not None
    registry = CollectorRegistry()
    collector = Collector(group)
    collector.before.append(group.refresh)
    registry.register(collector)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_bank_has_none_of_its_own() -> None:
    assert application_group(Bank(), Labels()) is None


def test_rooms_and_messages() -> None:
    chat = Chat()
    assert scrape(chat) == {"chat_rooms": 0, "chat_messages": 0, "chat_messages_posted_total": 0}
    for number in range(3):
        chat.apply(Post("hall" if number else "yard", number.to_bytes(16, "big"), "ann", "hi"), 1)
    assert scrape(chat) == {"chat_rooms": 2, "chat_messages": 3, "chat_messages_posted_total": 3}


def test_auctions_and_bids() -> None:
    house = AuctionHouse()
    assert scrape(house) == {
        "auction_live": 0, "auction_known": 0, "auction_highest_bid": 0, "auction_end_timestamp_seconds": 0,
        'auction_bids_total{outcome="success"}': 0, 'auction_bids_total{outcome="fail"}': 0,
        'auction_bids_total{outcome="exception"}': 0,
    }  # fmt: skip
    for name, duration in (("vase", 5000), ("lamp", 0), ("gem", 9000)):
        house.apply(Start(name, duration, 1_000_000), 1)
    for amount in (10, 5, 20, -1):
        house.apply(Bid("lamp", "ann", amount, 1_000_100), 1)
    house.apply(Close("vase", 0, 1_000_200), 1)
    told = scrape(house)
    assert (told["auction_live"], told["auction_known"], told["auction_highest_bid"]) == (2, 3, 20)
    assert told["auction_end_timestamp_seconds"] == 1009.0
    assert told['auction_bids_total{outcome="success"}'] == 2
    assert told['auction_bids_total{outcome="fail"}'] == 1
    assert told['auction_bids_total{outcome="exception"}'] == 1
