"""Auctions in the simulator."""

from collections.abc import Callable

import msgspec

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.auction import (
    Auction,
    AuctionError,
    AuctionHouse,
    AuctionList,
    AuctionOp,
    AuctionResult,
    Auctions,
    AuctionStatus,
    Bid,
    BidResult,
    Close,
    Remove,
    Start,
    Status,
)
from paxos_twisted.limits import AUCTION_BID_MAX
from paxos_twisted.sim.model import ModelError
from paxos_twisted.sim.workloads.workload import Habits


class Sale(msgspec.Struct):
    """One auction."""

    edition: int
    started: int
    deadline: int
    clock: int
    ended: int = 0
    best: int = 0
    bidder: str = ""
    bids: int = 0


class AuctionSpecification:
    """Auctions by the plainest code. It looks at no clock: all times are in the operations."""

    def __init__(self) -> None:
        self.sales: dict[str, Sale] = {}
        self.winners: dict[tuple[str, int], tuple[int, str]] = {}
        """(auction, edition) -> the bid that had won when it was closed."""

    def execute(self, op: AuctionOp, client: int) -> AuctionResult:
        """Execute one operation."""
        if isinstance(op, Auctions):
            names = sorted(name for name in self.sales if name > op.after)
            return AuctionList(tuple(self._status(name, at=op.at) for name in names), True)
        sale = self.sales.get(op.name)
        if isinstance(op, Bid):
            return self._bid(op, sale)
        if isinstance(op, Start):
            if sale is not None and not self._is_over(op.name, sale, op.at):
                return AuctionError(f"the auction {op.name!r} is open; close it before you open it again")
            edition, now = (1, op.at) if sale is None else (sale.edition + 1, max(op.at, sale.clock))
            self.sales[op.name] = Sale(edition, now, now + op.duration_ms if op.duration_ms else 0, now)
            return self._status(op.name)
        if sale is None:
            return AuctionError(f"there is no auction {op.name!r}")
        match op:
            case Status():
                self._is_over(op.name, sale, op.at)
                return self._status(op.name, op.bidder)
            case Close():
                if (not op.deadline or op.deadline == sale.deadline) and not self._is_over(op.name, sale, op.at):
                    sale.clock = max(sale.clock, op.deadline)
                    self._end(op.name, sale)
                return self._status(op.name)
            case Remove():
                if not sale.ended:
                    return AuctionError(f"the auction {op.name!r} is open; close it before you remove it")
                status = self._status(op.name)
                del self.sales[op.name]
                self.winners = {key: won for key, won in self.winners.items() if key[0] != op.name}
                return status

    def _bid(self, op: Bid, sale: Sale | None) -> BidResult:
        if sale is None:
            return BidResult("exception", 0, "", False, f"there is no auction {op.name!r}")
        is_over = self._is_over(op.name, sale, op.at)
        if not 0 < op.amount <= AUCTION_BID_MAX:
            text = f"{op.amount} is no bid; bids are whole numbers from 1 to {AUCTION_BID_MAX}"
            return BidResult("exception", sale.best, sale.bidder, not is_over, text)
        if is_over:
            return BidResult("fail", sale.best, sale.bidder, False, f"the auction {op.name!r} is over")
        if op.amount <= sale.best:
            text = f"{op.amount} is not above the highest bid, {sale.best}"
            return BidResult("fail", sale.best, sale.bidder, True, text)
        sale.best, sale.bidder = op.amount, op.bidder
        sale.bids += 1
        return BidResult("success", op.amount, op.bidder, True)

    def _is_over(self, name: str, sale: Sale, at: int) -> bool:
        if not sale.ended:
            sale.clock = max(sale.clock, at)
            if sale.deadline and sale.clock >= sale.deadline:
                self._end(name, sale)
        won = self.winners.get((name, sale.edition))
        if won is not None and won != (sale.best, sale.bidder):
            raise ModelError(f"AUCTION: a bid counted after the end of {name!r}: {sale!r}, won by {won!r}")
        return bool(sale.ended)

    def _end(self, name: str, sale: Sale) -> None:
        sale.ended = min(sale.clock, sale.deadline) if sale.deadline else sale.clock
        self.winners[name, sale.edition] = (sale.best, sale.bidder)

    def _status(self, name: str, asker: str = "", at: int = 0) -> AuctionStatus:
        sale = self.sales[name]
        has_time = not sale.ended and sale.deadline
        return AuctionStatus(
            name=name,
            edition=sale.edition,
            is_live=not sale.ended,
            highest=sale.best,
            bidder=sale.bidder,
            is_yours=asker != "" and asker == sale.bidder,
            bids=sale.bids,
            started=sale.started,
            deadline=sale.deadline,
            ended=sale.ended,
            remaining_ms=max(sale.deadline - max(sale.clock, at), 0) if has_time else None,
        )

    def check(self, application: Application) -> None:
        """The same auctions stand the same."""
        assert isinstance(application, AuctionHouse)
        held = {name: _as_sale(auction) for name, auction in application.auctions.items()}
        if held != self.sales:
            raise ModelError(f"EQ: the house holds {sorted(held.items())} instead of {sorted(self.sales.items())}")


def _as_sale(auction: Auction) -> Sale:
    return Sale(
        auction.edition,
        auction.started,
        auction.deadline,
        auction.clock,
        auction.ended,
        auction.highest,
        auction.bidder,
        auction.bids,
    )


class AuctionWorkload:
    """Bidders, and operators who open and close."""

    name = "auction"

    def application(self) -> Application:
        """The shipped house."""
        return AuctionHouse()

    def specification(self) -> AuctionSpecification:
        """The plain one."""
        return AuctionSpecification()

    def checker(self) -> None:
        """The witness of the log has to do: results depend on times that are not in the history."""

    def draw(self, rand: Callable[[], float], habits: Habits, client: int) -> AuctionOp:
        """Mostly bids; auctions last for a part of a run, or until somebody closes them."""
        is_own = rand() < habits.own_share
        name = f"sale of {client}" if is_own else f"sale {int(rand() * habits.accounts)}"
        choice = rand()
        if choice < 0.2:
            return Start(name, int(rand() * 1500) if rand() < 0.7 else 0)
        if choice < 0.7:
            return Bid(name, f"bidder {client}", int(rand() * 1000) - 20)
        if choice < 0.85:
            return Status(name, f"bidder {client}")
        if choice < 0.95 - habits.transfer_share / 2 or is_own:
            return Close(name)
        return Remove(name) if rand() < 0.5 else Auctions()
