"""What applications tell of their live state. Rooms, auctions and bidders are never labels: anybody may name new ones.

What is counted is counted by each replica as it executes the log, so every node shows the same, a moment apart.
"""

from typing import Any

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.auction import AuctionHouse
from paxos_twisted.apps.chat import Chat
from paxos_twisted.node.families import Group, Labels, counter, gauge


class ApplicationGroup(Group):
    """Metrics of one application."""

    def __init__(self, labels: Labels, application: Any) -> None:
        super().__init__(labels)
        self.application = application

    def refresh(self) -> None:
        """Take the numbers from the application; called before each scrape."""
        raise NotImplementedError


class ChatState(ApplicationGroup):
    """The chat. Only nodes that run it have these."""

    rooms: int = gauge("chat_rooms", "Rooms.")
    messages: int = gauge("chat_messages", "Messages that the rooms keep.")
    posted: int = counter("chat_messages_posted_total", "Messages put into rooms since this node started.")

    def refresh(self) -> None:
        """See `ApplicationGroup.refresh`."""
        chat: Chat = self.application
        self.rooms, self.messages, self.posted = len(chat.rooms), len(chat.messages), chat.posted


class AuctionState(ApplicationGroup):
    """The auctions. Only nodes that run them have these."""

    live: int = gauge("auction_live", "Auctions that are open.")
    known: int = gauge("auction_known", "Auctions, open or over.")
    highest_bid: int = gauge("auction_highest_bid", "The highest bid of all open auctions; 0 if there is none.")
    end: float = gauge(
        "auction_end_timestamp_seconds",
        "When the open auction that ends first reaches its deadline; 0 if none has one.",
    )
    bids: dict[str, int] = counter(
        "auction_bids_total",
        "Bids executed since this node started, by what became of them.",
        outcome=("success", "fail", "exception"),
    )

    def refresh(self) -> None:
        """See `ApplicationGroup.refresh`."""
        house: AuctionHouse = self.application
        live = [row for shard in house.auctions.shards for row in shard.values() if row.is_live]
        self.live, self.known = len(live), len(house.auctions)
        self.highest_bid = max((auction.highest for auction in live), default=0)
        self.end = min((auction.deadline for auction in live if auction.deadline), default=0) / 1000
        self.bids.update(house.bids)


APPLICATION_GROUPS: dict[str, type[ApplicationGroup]] = {"chat": ChatState, "auction": AuctionState}
"""By the name of the application."""


def application_group(application: Application, labels: Labels) -> ApplicationGroup | None:
    """The metrics of this application, if it has any of its own."""
    kind = APPLICATION_GROUPS.get(application.name)
    return None if kind is None else kind(labels, application)
