"""Automatic bidders: each looks at the highest bid, thinks, and bids a little more, until the auction is over."""

from collections.abc import Iterable
from random import Random
from typing import Any, NamedTuple

from twisted.internet.task import deferLater

from paxos_twisted.apps.auction import AuctionStatus, Bid, BidResult, Status
from paxos_twisted_client.pool import Pool
from paxos_twisted_client.session import Request

RAISE_MAX = 10
"""A bidder goes above the highest bid by 1 … this."""

PATIENCE = 10
"""Requests in a row without an answer after which a bidder gives up."""


class Made(NamedTuple):
    """One bid and what became of it."""

    bidder: str
    amount: int
    outcome: str
    """success, fail, exception; or unknown, refused: it has no answer."""


class Bidder:
    """One bidder, with a session and connections of its own."""

    def __init__(self, reactor: Any, pool: Pool, auction: str, name: str, pause_s: float, rng: Random) -> None:
        self.name = name
        self.pool = pool
        self.made: list[Made] = []
        self._reactor = reactor
        self._auction = auction
        self._pause_s = pause_s
        self._rng = rng

    async def run(self) -> None:
        """Bid until the auction is over, is not there, or nobody answers any more."""
        session = self.pool.session()
        in_vain = 0
        while in_vain < PATIENCE:
            asked = await session.call(Status(self._auction, self.name))
            highest = self._highest(asked)
            if asked.result is None:
                in_vain += 1
                continue
            if highest is None:
                return
            bid = Bid(self._auction, self.name, highest + self._rng.randrange(1, RAISE_MAX + 1))
            answered = await session.call(bid)
            result = answered.result
            known = isinstance(result, BidResult)
            self.made.append(Made(self.name, bid.amount, result.outcome if known else str(answered.outcome)))
            in_vain = 0 if known else in_vain + 1
            if known and not result.is_live:
                return
            await deferLater(self._reactor, self._pause_s * self._rng.uniform(0.5, 1.5))

    def _highest(self, asked: Request) -> int | None:
        """None: there is nothing to bid for."""
        status = asked.result
        return status.highest if isinstance(status, AuctionStatus) and status.is_live else None


def report(final: AuctionStatus, bidders: Iterable[Bidder]) -> dict[str, Any]:
    """What happened, and whether it fits together: no acknowledged bid is lost, and there is one winner."""
    bidding = list(bidders)
    made = [bid for bidder in bidding for bid in bidder.made]
    won = [bid for bid in made if bid.outcome == "success"]
    findings = []
    if final.is_live:
        findings.append("the auction is not over")
    for amount in sorted({bid.amount for bid in won}):
        twice = [bid.bidder for bid in won if bid.amount == amount]
        if len(twice) > 1:
            findings.append(f"{amount} succeeded more than once: {', '.join(twice)}")
    lost = [bid for bid in won if bid.amount > final.highest]
    findings += [f"the acknowledged bid {bid.amount} by {bid.bidder} is lost" for bid in lost]
    same = [bid for bid in made if bid.amount == final.highest and bid.bidder == final.bidder]
    if any(bidder.name == final.bidder for bidder in bidding) and not any(
        bid.outcome not in {"fail", "exception"} for bid in same
    ):
        findings.append(f"{final.bidder} has won with {final.highest}, a bid that was not made or failed")
    return {
        "auction": final.name,
        "edition": final.edition,
        "is_live": final.is_live,
        "highest": final.highest,
        "winner": final.bidder,
        "started": final.started,
        "ended": final.ended,
        "bidders": len(bidding),
        "bids": len(made),
        **{word: sum(bid.outcome == word for bid in made) for word in ("success", "fail", "exception")},
        "unknown": sum(bid.outcome in {"unknown", "refused"} for bid in made),
        "reconnects": sum(sum(bidder.pool.reconnects.values()) for bidder in bidding),
        "findings": findings,
        "acknowledged": [[bid.amount, bid.bidder] for bid in won],
    }
