"""Auctions as their clients see them: bids in words, states in sentences, the bench."""

import os
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import click

from paxos_twisted.apps.auction import (
    DURATION_MS,
    AuctionError,
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
from paxos_twisted.apps.struct_json import Json, to_json
from paxos_twisted.limits import (
    AUCTION_BIDDER_CHARACTERS_MAX,
    AUCTION_DURATION_MS_MAX,
    AUCTION_NAME_CHARACTERS_MAX,
)
from paxos_twisted_client.chat import printable
from paxos_twisted_client.client_side import ClientSide, Field, Function, Verb, is_of_program
from paxos_twisted_client.settings import DurationType

AUCTION: Final = "auction"
"""The auction that is meant when none is named: the systems of our sources have one only."""

INTEGER_MAX: Final = 2**63 - 1
"""Larger numbers do not fit the wire. What the auction refuses below that, the auction itself refuses."""

COMMANDS: Final = {
    "/start": "open the auction: /start 45s, or /start open (until it is closed by hand)",
    "/close": "close the auction",
    "/auctions": "all auctions",
    "/join": "go to another auction",
    "/help": "this list",
    "/quit": "leave (also Ctrl-D)",
}
"""What the screen understands besides bids and questions."""


def auction_name(text: str) -> str:
    """Read the name of an auction.

    Raises:
        ValueError: it is none.
    """
    name = text.strip()
    if not 0 < len(name) <= AUCTION_NAME_CHARACTERS_MAX or not name.isprintable():
        raise ValueError(f"{text!r} is no name of an auction: 1 to {AUCTION_NAME_CHARACTERS_MAX} printable characters")
    return name


def amount(text: str) -> int:
    """Read an amount.

    Raises:
        ValueError: it is none.
    """
    try:
        number = int(text.strip().replace("_", "").replace("'", ""))
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a whole number") from None
    if abs(number) > INTEGER_MAX:
        raise ValueError(f"{text.strip()} is larger than any bid can be")
    return number


def duration_ms(text: str) -> int:
    """Read how long an auction is open.

    Raises:
        ValueError: it is no duration.
    """
    if text.strip() == "open":
        return 0
    try:
        seconds = DurationType().convert(text, None, None)
    except click.BadParameter as error:
        raise ValueError(f"{error.message}; or open, until it is closed by hand") from None
    if seconds * 1000 > AUCTION_DURATION_MS_MAX:
        raise ValueError(f"{text} is too long")
    return int(seconds * 1000)


def _bidder(text: str) -> str:
    if not 0 < len(text) <= AUCTION_BIDDER_CHARACTERS_MAX or not text.isprintable():
        raise ValueError(f"{text!r} is no id: 1 to {AUCTION_BIDDER_CHARACTERS_MAX} printable characters")
    return text


NAME: Final = Field("auction", "auction", auction_name)


class AuctionSide(ClientSide):
    """The client side of `paxos_twisted.apps.auction`."""

    application = "auction"
    unit = "operation"
    server = "the auction"
    intro = "Bid in auctions that survive machines."
    examples = (
        ("--id ann", "an integer is a bid, anything else asks for the result"),
        ("start", "open the auction for 45 seconds"),
        ("bid 120", "one bid"),
        ("status", "how it stands, and whether you lead or have won"),
        ("bidders --count 50", "the automatic mode: bidders who outbid each other until the end"),
    )
    example = "bid 120"
    rejected_key = "rejected_by_auction"
    verbs: tuple[Verb, ...]

    def __init__(self) -> None:
        self.auction = AUCTION
        self.bidder = f"{os.environ.get('USER') or 'bidder'}-{os.getpid()}"
        self.line: Callable[[], str] = str
        """What the screen shows of its auction in the bottom line."""
        self.verbs = (
            Verb(
                "bid", (Field("amount", "amount", amount),), self.bid, "Bid AMOUNT in AUCTION.", "bid",
                optional=(NAME,),
            ),
            Verb(
                "status", (), self.status, "Print how AUCTION stands, and whether you lead or have won.",
                "how it stands", optional=(NAME,),
            ),
            Verb(
                "start", (), self.start,
                f"Open AUCTION for DURATION. Else for {DURATION_MS // 1000}s; open: until it is closed by hand.",
                "open an auction", optional=(NAME, Field("duration", "duration", duration_ms)),
            ),
            Verb("close", (), self.close, "Close AUCTION by hand.", "close an auction", optional=(NAME,)),
            Verb(
                "auctions", (), Auctions, "List the auctions, or those behind AFTER.", "all auctions",
                optional=(Field("after", "auction after which to begin", str),),
            ),
            Verb("remove", (NAME,), _remove, "Forget AUCTION, which is over.", "forget an auction that is over"),
        )  # fmt: skip

    @property
    def words(self) -> dict[str, str]:
        """What the screen completes."""
        return dict(COMMANDS)

    def toolbar(self) -> str:
        """Who we are, and how the auction stands."""
        return self.line()

    # Operations

    def bid(self, amount: int, auction: str | None = None) -> Bid:
        """A bid of ours."""
        return Bid(auction or self.auction, self.bidder, amount)

    def status(self, auction: str | None = None) -> Status:
        """How it stands, for us."""
        return Status(auction or self.auction, self.bidder)

    def start(self, auction: str | None = None, duration: int = DURATION_MS) -> Start:
        """Open it."""
        return Start(auction or self.auction, duration)

    def close(self, auction: str | None = None) -> Close:
        """Close it by hand."""
        return Close(auction or self.auction)

    # Answers

    def did(self, op: AuctionOp, result: AuctionResult) -> bool:
        """A bid succeeded; anything else was not refused."""
        return result.outcome == "success" if isinstance(result, BidResult) else not isinstance(result, AuctionError)

    def say(self, op: AuctionOp, result: AuctionResult) -> str:
        """How it stands."""
        match result:
            case BidResult(outcome="success"):
                return f"success: {result.highest} is the highest bid"
            case BidResult():
                return f"{result.outcome}: {result.text}"
            case AuctionStatus():
                return status_sentence(result)
            case AuctionList(auctions=auctions):
                return "\n".join(status_sentence(status) for status in auctions) or "there are no auctions"
            case AuctionError(error):
                return f"refused: {error}"

    def note(self, op: AuctionOp, result: AuctionResult) -> str:
        """Where a list goes on."""
        if isinstance(result, AuctionList) and not result.is_all:
            return f"there are more: auctions {result.auctions[-1].name}"
        return ""

    def op_json(self, op: AuctionOp) -> Json:
        """See docs/history.md."""
        return to_json(op)

    def result_json(self, op: AuctionOp, result: AuctionResult) -> Json:
        """See docs/history.md."""
        return to_json(result)

    # Options

    def verb_options(self, command: Function) -> Function:
        """Who; the auction is an argument."""
        text = "Under which name to bid; else that of the user and the process.  [env: PAXOS_ID]"
        return click.option("--id", "own_id", callback=self._keep, expose_value=False, envvar="PAXOS_ID", help=text)(
            command
        )

    def identity_options(self, command: Function) -> Function:
        """Who bids, and where, for the other commands."""
        text = f"The auction to be in.  [default: {AUCTION}]"
        option = click.option("--auction", "own_auction", callback=self._keep, expose_value=False, help=text)
        return option(self.verb_options(command))

    def _keep(self, context: click.Context, option: click.Parameter, value: str | None) -> None:
        if value is None or is_of_program(context, option):
            return
        try:
            if option.name == "own_auction":
                self.auction = auction_name(value)
            else:
                self.bidder = _bidder(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    def bench_options(self, command: Function) -> Function:
        """Who and where; and what is asked."""
        share = click.option(
            "--status-share",
            type=click.FloatRange(0, 100),
            default=20,
            show_default=True,
            help="Bench: percentage of questions for the status; the rest are bids.",
        )
        return self.identity_options(share(command))

    def workload_of(self, given: dict[str, Any]) -> Mapping[str, Any]:
        """The auction and the share of questions."""
        return {"auction": self.auction, "status_share": given.pop("status_share")}

    def workload(self, seed: int, process: int, options: Mapping[str, Any]) -> "AuctionWorkload":
        """Random bids."""
        return AuctionWorkload(seed, process, options)


class AuctionWorkload:
    """Bids that rise about as fast for all clients, so that many succeed and many fail; and questions."""

    def __init__(self, seed: int, process: int, options: Mapping[str, Any]) -> None:
        self._rng = Random(f"{seed}/{process}")
        self._bidder = f"client-{process + 1}"
        self._auction, self._share = options["auction"], options["status_share"] / 100
        self._amount = 0

    def next(self) -> AuctionOp:
        """Draw one operation."""
        if self._rng.random() < self._share:
            return Status(self._auction, self._bidder)
        self._amount += self._rng.randrange(1, 20)
        return Bid(self._auction, self._bidder, self._amount)


def status_sentence(status: AuctionStatus) -> str:
    """How an auction stands, in one line."""
    name = printable(status.name)
    who = printable(status.bidder)
    highest = f"highest bid {status.highest} by {who}" if status.highest else "no bids"
    started = f"started {status.started // 1000} ({time.strftime('%H:%M:%S', time.localtime(status.started / 1000))})"
    if not status.is_live:
        won = " - you have won" if status.is_yours else ""
        result = f"won by {who} with {status.highest}" if status.highest else "nobody has bid"
        return f"{name}: finished, {result}{won}; {started}"
    left = f"{status.remaining_ms / 1000:.1f} s left" if status.remaining_ms is not None else "until it is closed"
    lead = " - you lead" if status.is_yours else ""
    return f"{name}: live, {left}, {highest}{lead}; {started}"


def _remove(auction: str) -> Remove:
    return Remove(auction)
