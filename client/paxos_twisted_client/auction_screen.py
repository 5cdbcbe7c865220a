"""The bidder's screen: an integer is a bid, anything else asks for the result; the bottom line counts down."""

import json
from collections.abc import Callable, Sequence
from time import time

from rich.console import Console
from rich.text import Text

from paxos_twisted.apps.auction import AuctionError, AuctionEvent, Auctions, AuctionStatus, Bid
from paxos_twisted_client.auction import COMMANDS, AuctionSide, amount, auction_name, duration_ms, status_sentence
from paxos_twisted_client.breaks import Breaks
from paxos_twisted_client.chat import clock_time, printable
from paxos_twisted_client.feed import Feed
from paxos_twisted_client.pool import Move, Pool
from paxos_twisted_client.session import OK, UNKNOWN, Request
from paxos_twisted_client.teller import EXIT_OK, EXIT_USAGE, Teller, as_json, exit_code, sentence
from paxos_twisted_client.terminal import Cancelled, Terminal


class AuctionScreen:
    """One bidder in one auction. Through a pipe: each line is a bid or a question, and each answer is printed."""

    def __init__(
        self, side: AuctionSide, pool: Pool, terminal: Terminal, out: Console, err: Console, *, is_json: bool = False
    ) -> None:
        self._side = side
        self._pool = pool
        self._teller = Teller(pool)
        self._terminal = terminal
        self._out = out
        self._err = err
        self._is_json = is_json
        self._breaks = Breaks(self._tell, is_brief=terminal.is_interactive)
        self._feed: Feed | None = None
        self._bids: set[int] = set()  # what we have offered in this auction: the answer tells what became of it
        self._watch: Countdown = Countdown(time)
        self._code = EXIT_OK

    async def run(self) -> int:
        """Bid until the end. Returns the exit code: 0 for a person, the worst one of a list of lines."""
        terminal = self._terminal
        if terminal.is_interactive:
            self._tell("An integer is a bid; anything else, or just Enter, asks for the result. /help, /quit.")
            self._join(self._side.auction)
        while True:
            try:
                line = await terminal.command()
            except Cancelled:
                continue
            if line is None or line.split()[:1] in (["/quit"], ["/exit"]):
                break
            await self._perform(line.strip())
        if self._feed is not None:
            self._feed.close()
        return EXIT_OK if terminal.is_interactive else self._code

    def on_move(self, move: Move) -> None:
        """Tell the person that we change nodes."""
        self._breaks.on_move(move)

    # Lines

    async def _perform(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        side = self._side
        try:
            if word == "/help":
                for command, meaning in COMMANDS.items():
                    self._show(Text.assemble("  ", (f"{command:<10}", "bold"), meaning))
            elif word == "/join":
                self._join(auction_name(rest))
            elif word == "/start":
                await self._ask(side.start(None, duration_ms(rest)) if rest.strip() else side.start())
            elif word == "/close":
                await self._ask(side.close())
            elif word == "/auctions":
                await self._ask(Auctions())
            else:
                await self._ask(self._bid_or_question(line))
        except ValueError as error:
            self._complain(str(error))

    def _bid_or_question(self, line: str) -> object:
        """[AU-08]"""
        try:
            return self._side.bid(amount(line))
        except ValueError:
            return self._side.status()

    async def _ask(self, op: object) -> None:
        if isinstance(op, Bid):
            self._bids.add(op.amount)
        request = await self._teller.execute(op)
        if request.outcome == OK:
            self._breaks.on_sign()
        elif isinstance(op, Bid):
            self._bids.discard(op.amount)  # no answer: whether it counts is seen when it comes in as an event
        self._code = max(self._code, exit_code(self._side, request))
        if isinstance(request.result, AuctionStatus) and request.result.name == self._side.auction:
            self._watch.on_status(request.result)
        if self._is_json:
            self._out.file.write(json.dumps(as_json(self._side, request, self._pool.leader)) + "\n")
            self._out.file.flush()
            return
        self._out.print(Text(sentence(self._side, request), style=self._style(request)), soft_wrap=True)

    def _style(self, request: Request) -> str:
        if request.outcome == UNKNOWN:
            return "magenta"
        if request.outcome != OK:
            return "red"
        if isinstance(request.op, Bid):
            return "green" if self._side.did(request.op, request.result) else "yellow"
        return "" if self._side.did(request.op, request.result) else "red"

    # The auction

    def _join(self, auction: str) -> None:
        if self._feed is not None:
            self._feed.close()
        self._side.auction = auction
        self._watch = Countdown(time)
        self._bids.clear()
        self._teller.execute_soon(self._side.status(), self._on_status)
        self._feed = self._pool.follow(auction, -1, self._on_events)
        side, watch = self._side, self._watch

        side.line = lambda: f"{side.bidder} in {printable(side.auction)}: {watch.sentence(side.bidder)}"

    def _on_status(self, request: Request) -> None:
        if isinstance(request.result, AuctionStatus):
            self._watch.on_status(request.result)
            self._tell(status_sentence(request.result))
        elif isinstance(request.result, AuctionError):
            self._tell(f"{request.result.error}; /start opens one")
        else:
            self._tell(sentence(self._side, request))

    def _on_events(self, first: int, events: Sequence[AuctionEvent]) -> None:
        self._breaks.on_sign()
        is_news = self._watch.has_begun
        for event in events:
            self._watch.on_event(event)
            if is_news and not self._is_answered(event):
                self._show(self._event_line(event))
        self._watch.has_begun = True

    def _is_answered(self, event: AuctionEvent) -> bool:
        """A bid that was made here: "success" says the same."""
        return event.kind == "bid" and event.bidder == self._side.bidder and event.highest in self._bids

    def _event_line(self, event: AuctionEvent) -> Text:
        is_ours = event.bidder == self._side.bidder
        style = "bold"
        match event.kind:
            case "started":
                text = "the auction is open"
            case "bid":
                text, style = f"{event.highest} by {'you' if is_ours else printable(event.bidder)}", "cyan"
            case _ if not event.highest:
                text = "the auction is over: no bids"
            case _ if is_ours:
                text, style = f"the auction is over: you have won with {event.highest}", "bold green"
            case _:
                text = f"the auction is over: {printable(event.bidder)} has won with {event.highest}"
        return Text(f"{clock_time(event.at)} {text}", style=style)

    # Printing

    def _tell(self, text: str) -> None:
        self._show(Text(text, style="dim"))

    def _complain(self, text: str) -> None:
        self._code = max(self._code, EXIT_USAGE)
        self._show(Text(text, style="red"))

    def _show(self, line: Text) -> None:
        console = self._out if self._terminal.is_interactive else self._err
        self._terminal.aside(lambda: console.print(line, soft_wrap=True))


class Countdown:
    """How an auction stands between two answers. Only for showing: what counts is in the log."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.has_begun = False
        self._is_live: bool | None = None
        self._highest = 0
        self._bidder = ""
        self._deadline = 0
        self._skew_ms = 0.0  # the cluster's clock minus ours, as the last status showed it

    def on_status(self, status: AuctionStatus) -> None:
        """An answer from the cluster: it tells its time, too."""
        self._is_live, self._highest, self._bidder = status.is_live, status.highest, status.bidder
        self._deadline = status.deadline
        if status.remaining_ms is not None:
            self._skew_ms = status.deadline - status.remaining_ms - self._now() * 1000

    def on_event(self, event: AuctionEvent) -> None:
        """Something has happened."""
        self._is_live = event.kind != "closed"
        self._highest, self._bidder, self._deadline = event.highest, event.bidder, event.deadline

    def left_s(self) -> float | None:
        """Seconds until the end; None when there is no deadline."""
        if not self._deadline:
            return None
        return max(self._deadline - self._now() * 1000 - self._skew_ms, 0) / 1000

    def sentence(self, bidder: str) -> str:
        """The bottom line."""
        if self._is_live is None:
            return "not open yet"
        mine = self._bidder == bidder
        highest = f"{self._highest} by {'you' if mine else printable(self._bidder)}" if self._highest else "no bids"
        if not self._is_live:
            return f"over, {highest}" + (", you have won" if mine and self._highest else "")
        left = self.left_s()
        return f"open, {highest}" + ("" if left is None else f", {int(left // 60):02}:{left % 60:04.1f} left")
