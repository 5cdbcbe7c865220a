"""Auctions: several at a time, each open for a duration or until it is closed by hand. The highest bid wins.

Time comes from the log alone. Every operation carries the wall clock of the node that proposed it (`at`), and an
auction's own clock is the latest of those that it has seen, so it never goes back, whatever node leads and however its
clock is set. From its deadline on an auction is over: the first operation whose time says so closes it, whichever it
is, and usually it is the Close that the leader proposes by itself. So whatever anybody was told of the end stays true:
in the order of the log no bid counts behind it.
"""

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from paxos_twisted.apps.application import Application, Footprint
from paxos_twisted.apps.places import place_of
from paxos_twisted.core.table import Table
from paxos_twisted.limits import (
    AUCTION_BID_MAX,
    AUCTION_BIDDER_CHARACTERS_MAX,
    AUCTION_DURATION_MS_MAX,
    AUCTION_EVENTS_MAX,
    AUCTION_NAME_CHARACTERS_MAX,
    AUCTIONS_LISTED_MAX,
    AUCTIONS_PER_PLACE_MAX,
    DUE_OPERATIONS_MAX,
)

AuctionName = Annotated[str, Meta(min_length=1, max_length=AUCTION_NAME_CHARACTERS_MAX)]
Bidder = Annotated[str, Meta(max_length=AUCTION_BIDDER_CHARACTERS_MAX)]

DURATION_MS = 45_000
"""How long an auction is open when nobody says anything else. [AV-12]"""


class Start(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False, forbid_unknown_fields=True):
    """Open an auction, or open it again after its end: everything starts anew, with the next edition."""

    name: AuctionName
    duration_ms: Annotated[int, Meta(ge=0, le=AUCTION_DURATION_MS_MAX)] = DURATION_MS
    """0: until it is closed by hand."""
    at: int = 0
    """In all operations: when it was proposed, Unix milliseconds. Whatever the client writes here is replaced."""


class Bid(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False, forbid_unknown_fields=True):
    """Offer an amount. Every integer that fits 64 bits is let in; what is no bid is answered as an exception."""

    name: AuctionName
    bidder: Bidder
    amount: int
    at: int = 0


class Status(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False, forbid_unknown_fields=True):
    """Ask how an auction stands, and how `bidder` stands in it."""

    name: AuctionName
    bidder: Bidder = ""
    at: int = 0


class Close(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False, forbid_unknown_fields=True):
    """End an auction: by hand, or because its deadline has come. Closing what is over changes nothing."""

    name: AuctionName
    deadline: int = 0
    """0: by hand. Otherwise the deadline that the proposer saw: only the auction that has this one is closed, so that
    the end of one edition does not end the next."""
    at: int = 0


class Auctions(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False, forbid_unknown_fields=True):
    """List the auctions whose names come behind `after`, in the order of their names."""

    after: Annotated[str, Meta(max_length=AUCTION_NAME_CHARACTERS_MAX)] = ""
    at: int = 0


class Remove(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False, forbid_unknown_fields=True):
    """Forget an auction that is over."""

    name: AuctionName


AuctionOp = Start | Bid | Status | Close | Auctions | Remove

Outcome = Literal["success", "fail", "exception"]


class BidResult(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False):
    """What became of a bid. [AU-28]"""

    outcome: Outcome
    """success: it is the highest bid. fail: it is not above the highest one, or the auction is over. exception: there
    is no such auction, or the amount is none."""
    highest: int
    bidder: str
    """Who offered `highest`; empty before the first bid."""
    is_live: bool
    text: str = ""
    """Why it is no success, for people."""


class AuctionStatus(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """How an auction stands."""

    name: str
    edition: int
    """1 for the first auction of this name, 2 after it was opened again …"""
    is_live: bool
    highest: int
    """0 before the first bid."""
    bidder: str
    is_yours: bool
    """The asker leads; when the auction is over: has won."""
    bids: int
    """Bids that were the highest when they came."""
    started: int
    """Unix milliseconds, as all times here."""
    deadline: int
    """0: until it is closed by hand."""
    ended: int
    """0 while it is live."""
    remaining_ms: int | None
    """From the time at which the question was proposed; None when the auction is over or has no deadline."""


class AuctionList(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Some auctions."""

    auctions: tuple[AuctionStatus, ...]
    is_all: bool
    """No more auctions come behind these."""


class AuctionError(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """What was asked cannot be done; nothing was changed."""

    error: str


AuctionResult = BidResult | AuctionStatus | AuctionList | AuctionError


class AuctionEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Something that followers of an auction are told."""

    kind: Literal["started", "bid", "closed"]
    at: int
    """By the auction's clock."""
    edition: int
    highest: int
    bidder: str
    deadline: int


class Auction(msgspec.Struct, array_like=True, gc=False):
    """What the state holds of an auction, beside its events."""

    edition: int
    started: int
    deadline: int
    ended: int
    clock: int
    """The latest time that the auction has seen; never goes down."""
    highest: int
    bidder: str
    bids: int
    kept: int
    """Position of the oldest event that is kept."""
    end: int
    """Position of the next event; at most AUCTION_EVENTS_MAX above `kept`."""

    @property
    def is_live(self) -> bool:
        """Bids are taken."""
        return not self.ended


class AuctionHouse(Application):
    """The auctions. Invariants: while one is live its clock is before its deadline; what is over does not change, but
    for being opened again or removed; `highest` only grows while it is live."""

    name = "auction"
    op_type = AuctionOp
    result_type = AuctionResult
    op_names: tuple[str, ...] = ("start", "bid", "status", "close", "auctions", "remove")
    event_type = AuctionEvent
    stamps = True
    has_deadlines = True
    waiting_operations = ("bid",)

    def __init__(self) -> None:
        self.auctions: Table[str, Auction] = Table("auctions", tuple[str, Auction], place_of)
        # Neighbours lie in different parts, so that a part is small even if there is only one auction.
        self.events: Table[tuple[str, int], AuctionEvent] = Table(
            "events", tuple[tuple[str, int], AuctionEvent], lambda key: place_of(key[0]) + key[1]
        )
        self.horizons: Table[int, int] = Table("horizons", tuple[int, int], int)
        """By place: above all positions of events of auctions that were removed there. An auction that comes back under
        the same name goes on behind them, so that a follower never takes new events for old ones."""
        self.bids: dict[str, int] = {"success": 0, "fail": 0, "exception": 0}
        """Bids that this replica has executed since it started, for the metrics. No part of the state."""

    def tables(self) -> Iterable[Table[Any, Any]]:
        """Auctions, their events, and where the positions of new ones begin."""
        return self.auctions, self.events, self.horizons

    def op_name(self, op: AuctionOp) -> str:
        """The operation's name in lower case."""
        return type(op).__name__.lower()

    def outcome(self, result: AuctionResult) -> str:
        """A bid that is no success is a refusal, and so is an error."""
        if type(result) is BidResult:
            return "ok" if result.outcome == "success" else "rejected"
        return "rejected" if type(result) is AuctionError else "ok"

    def footprint(self, op: AuctionOp) -> Footprint:
        """The auction's place: an auction is made only if there is place. Asking moves an auction's clock, and may end
        it."""
        if isinstance(op, Auctions):
            return Footprint(writes=False, everything=True)
        return Footprint((place_of(op.name),))

    def is_reread(self, op: AuctionOp) -> bool:
        """Lists are long and change nothing."""
        return type(op) is Auctions

    def stamp(self, op: AuctionOp, now_ms: int) -> AuctionOp:
        """All times come from the proposer."""
        return op if type(op) is Remove else msgspec.structs.replace(op, at=now_ms)

    def due(self, now_ms: int) -> Sequence[Close]:
        """Close what has reached its deadline, the longest overdue first."""
        overdue = sorted(
            (auction.deadline, name)
            for shard in self.auctions.shards
            for name, auction in shard.items()
            if auction.is_live and 0 < auction.deadline <= now_ms
        )
        return [Close(name, deadline) for deadline, name in overdue[:DUE_OPERATIONS_MAX]]

    def apply(self, op: AuctionOp, client: int) -> AuctionResult:
        """Execute one operation."""
        match op:
            case Bid():
                result = self._bid(op)
                self.bids[result.outcome] += 1
                return result
            case Status():
                return self._status(op)
            case Start():
                return self._start(op)
            case Close():
                return self._close(op)
            case Auctions():
                return self._list(op)
            case Remove():
                return self._remove(op)

    def feed_of(self, op: AuctionOp, result: AuctionResult) -> str | None:
        """An auction is a topic. Whatever finds that it is over may have closed it."""
        match result:
            case BidResult(outcome=outcome, is_live=is_live):
                assert type(op) is Bid
                return op.name if outcome == "success" or (outcome == "fail" and not is_live) else None
            case AuctionStatus(name=name, is_live=is_live):
                return name if type(op) is Start or not is_live else None
            case _:
                return None

    def read_feed(self, topic: str, start: int, limit: int) -> tuple[int, Sequence[AuctionEvent]]:
        """The auction's events, see `Application.read_feed`."""
        auction = self.auctions.shard(topic).get(topic)
        if auction is None:
            return max(start, 0), ()
        if start < 0:
            start = max(auction.end + start, 0)
        start = max(start, auction.kept)
        events = self.events
        stop = min(start + limit, auction.end)
        return start, [events.shard(key)[key] for key in ((topic, position) for position in range(start, stop))]

    # The operations

    def _start(self, op: Start) -> AuctionStatus | AuctionError:
        name = op.name
        shard = self.auctions.writable(name)
        old = shard.get(name)
        if old is not None and not self._is_over(name, old, op.at):
            return AuctionError(f"the auction {name!r} is open; close it before you open it again")
        if old is not None:
            at, edition, kept, end = max(op.at, old.clock), old.edition + 1, old.kept, old.end
        else:
            if len(shard) >= AUCTIONS_PER_PLACE_MAX:
                return AuctionError(
                    f"there is no place for {name!r}: choose another name, or remove auctions that are over"
                )
            place = place_of(name)
            kept = end = self.horizons.shard(place).get(place, 0)
            at, edition = max(op.at, 1), 1  # 0 says "not over"
        auction = Auction(
            edition=edition,
            started=at,
            deadline=at + op.duration_ms if op.duration_ms else 0,
            ended=0,
            clock=at,
            highest=0,
            bidder="",
            bids=0,
            kept=kept,
            end=end,
        )
        shard[name] = auction
        self._note("started", name, auction)
        return _status(name, auction, "")

    def _bid(self, op: Bid) -> BidResult:
        name, amount = op.name, op.amount
        auction = self.auctions.writable(name).get(name)
        if auction is None:
            return BidResult("exception", 0, "", False, f"there is no auction {name!r}")
        is_over = self._is_over(name, auction, op.at)
        highest = auction.highest
        outcome: Outcome = "fail"
        if not 0 < amount <= AUCTION_BID_MAX:
            outcome, text = "exception", f"{amount} is no bid; bids are whole numbers from 1 to {AUCTION_BID_MAX}"
        elif is_over:
            text = f"the auction {name!r} is over"
        elif amount <= highest:
            text = f"{amount} is not above the highest bid, {highest}"
        else:
            auction.highest, auction.bidder = amount, op.bidder
            auction.bids += 1
            self._note("bid", name, auction)
            return BidResult("success", amount, op.bidder, True)
        return BidResult(outcome, highest, auction.bidder, not is_over, text)

    def _status(self, op: Status) -> AuctionStatus | AuctionError:
        auction = self.auctions.writable(op.name).get(op.name)
        if auction is None:
            return _unknown(op.name)
        self._is_over(op.name, auction, op.at)
        return _status(op.name, auction, op.bidder)

    def _close(self, op: Close) -> AuctionStatus | AuctionError:
        name = op.name
        auction = self.auctions.writable(name).get(name)
        if auction is None:
            return _unknown(name)
        if op.deadline in (0, auction.deadline) and not self._is_over(name, auction, op.at):
            # A deadline has come when it was proposed, also by a clock that is behind this auction's.
            auction.clock = max(auction.clock, op.deadline)
            self._end(name, auction)
        return _status(name, auction, "")

    def _list(self, op: Auctions) -> AuctionList:
        names = (name for shard in self.auctions.shards for name in shard if name > op.after)
        found = nsmallest(AUCTIONS_LISTED_MAX + 1, names)
        lines = []
        for name in found[:AUCTIONS_LISTED_MAX]:
            auction = self.auctions.shard(name)[name]
            lines.append(_status(name, auction, "", op.at))
        return AuctionList(tuple(lines), len(found) <= AUCTIONS_LISTED_MAX)

    def _remove(self, op: Remove) -> AuctionStatus | AuctionError:
        name = op.name
        shard = self.auctions.writable(name)
        auction = shard.get(name)
        if auction is None:
            return _unknown(name)
        if auction.is_live:
            return AuctionError(f"the auction {name!r} is open; close it before you remove it")
        for position in range(auction.kept, auction.end):
            del self.events.writable((name, position))[name, position]
        place = place_of(name)
        horizons = self.horizons.writable(place)
        horizons[place] = max(horizons.get(place, 0), auction.end)
        del shard[name]
        return _status(name, auction, "")

    # Time and events

    def _is_over(self, name: str, auction: Auction, at: int) -> bool:
        """Whether the auction is over at `at`; it is closed now if that was not known before."""
        if auction.is_live:
            auction.clock = max(auction.clock, at)
            if 0 < auction.deadline <= auction.clock:
                self._end(name, auction)
        return not auction.is_live

    def _end(self, name: str, auction: Auction) -> None:
        auction.ended = min(auction.clock, auction.deadline or auction.clock)
        self._note("closed", name, auction)

    def _note(self, kind: Literal["started", "bid", "closed"], name: str, auction: Auction) -> None:
        key = name, auction.end
        self.events.writable(key)[key] = AuctionEvent(
            kind, auction.ended or auction.clock, auction.edition, auction.highest, auction.bidder, auction.deadline
        )
        auction.end += 1
        if auction.end - auction.kept > AUCTION_EVENTS_MAX:
            oldest = name, auction.kept
            del self.events.writable(oldest)[oldest]
            auction.kept += 1


def _status(name: str, auction: Auction, bidder: str, at: int = 0) -> AuctionStatus:
    left = max(auction.deadline - max(auction.clock, at), 0) if auction.is_live and auction.deadline else None
    return AuctionStatus(
        name=name,
        edition=auction.edition,
        is_live=auction.is_live,
        highest=auction.highest,
        bidder=auction.bidder,
        is_yours=bool(bidder) and auction.bidder == bidder,
        bids=auction.bids,
        started=auction.started,
        deadline=auction.deadline,
        ended=auction.ended,
        remaining_ms=left,
    )


def _unknown(name: str) -> AuctionError:
    return AuctionError(f"there is no auction {name!r}")
