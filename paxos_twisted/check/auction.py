"""Auctions as the checker sees them: each auction is a part of the state of its own.

Times are the proposers' and not known to clients, and an auction with a deadline ends by itself. So in this model an
auction that has a deadline may be over from any moment on; the first answer that says so is that moment, and behind it
no bid may succeed. What must hold whatever the clocks do is checked; that clocks are right is not.
"""

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

from paxos_twisted.apps.auction import (
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
from paxos_twisted.apps.struct_json import StructReader, to_json
from paxos_twisted.check.history import Operation
from paxos_twisted.check.model import State
from paxos_twisted.limits import AUCTION_BID_MAX, AUCTIONS_LISTED_MAX

NOWHERE: Final = ""
"""The key of a list that can see none of the auctions of the history. No auction has this name."""

Part = tuple[AuctionOp, AuctionResult | None]

_ops: StructReader[AuctionOp] = StructReader(Start, Bid, Status, Close, Auctions, Remove)
_results: StructReader[AuctionResult] = StructReader(BidResult, AuctionStatus, AuctionList, AuctionError)

ABSENT: Final = None
"""There is no such auction."""

ANY: Final = "any"
"""Nobody has looked at it since the history began, when the auctions were in use before."""


class Row(NamedTuple):
    """What is known of an auction; None where nobody has told."""

    is_live: bool
    highest: int | None = None
    bidder: str | None = None
    bids: int | None = None
    edition: int | None = None
    started: int | None = None
    deadline: int | None = None
    ended: int | None = None
    """0 while it is live."""

    @property
    def may_end(self) -> bool:
        """It ends by itself some day."""
        return self.is_live and self.deadline != 0


Value = Row | str | None
"""A Row, ABSENT or ANY."""


class AuctionModel:
    """The rules of `paxos_twisted.apps.auction.AuctionHouse` once more, without clocks, one auction at a time."""

    name = "auction"

    def __init__(self, *, fresh: bool = True) -> None:
        """`fresh`: there were no auctions when the history began. Otherwise the first look at one is believed."""
        self.fresh = fresh
        self._known: list[str] = []  # every auction of the history, in order

    def prepare(self, operations: Sequence[Operation[AuctionOp, AuctionResult]]) -> None:
        """Learn all auctions of a history: those that a list does not show do not exist."""
        known: set[str] = set()
        for operation in operations:
            if not isinstance(operation.op, Auctions):
                known.add(operation.op.name)
            if isinstance(operation.result, AuctionList):
                known.update(status.name for status in operation.result.auctions)
        self._known = sorted(known)

    def keys(self, op: AuctionOp, result: AuctionResult | None) -> tuple[Hashable, ...]:
        """The auction; for a list all auctions of the history in its range."""
        if not isinstance(op, Auctions):
            return (op.name,)
        last = None
        if isinstance(result, AuctionList) and not result.is_all and result.auctions:
            last = result.auctions[-1].name
        found = tuple(name for name in self._known if name > op.after and (last is None or name <= last))
        return found or (NOWHERE,)

    def initial(self, key: Hashable) -> Hashable:
        """Nothing, or anything."""
        return ABSENT if self.fresh or key == NOWHERE else ANY

    def step(self, state: State, op: AuctionOp, result: AuctionResult | None) -> State | None:
        """Execute `op` where its auctions are like this, see `Model.step`."""
        if isinstance(op, Auctions):
            return self._list(state, op, result)
        value: Value = state[0]  # type: ignore[assignment]
        if result is None:
            return (_unseen(value, op),)
        if _misfit(op, result) is not None:
            return None
        match result:
            case AuctionError(error):
                after = _refused(value, op, error)
            case BidResult():
                assert isinstance(op, Bid)
                after = _bid(value, op, result)
            case AuctionStatus():
                after = _told(value, op, result)
            case _:
                return None
        return None if after is _WRONG else (after,)

    def is_read(self, op: AuctionOp, result: AuctionResult | None) -> bool:
        """What shows an auction that is open and did not open it; refusals. To see that it is over may be its end."""
        match result:
            case AuctionError():
                return True
            case BidResult(outcome=outcome, is_live=is_live):
                return outcome != "success" and is_live
            case AuctionStatus(is_live=is_live):
                return isinstance(op, Status | Close) and is_live
            case AuctionList(auctions=auctions):
                return all(status.is_live for status in auctions)
            case _:
                return isinstance(op, Status | Auctions)

    def parts(self, op: AuctionOp, result: AuctionResult | None) -> Sequence[Part] | None:
        """A list cannot be taken apart: that an auction is missing in it is no other operation's answer."""
        return None if isinstance(op, Auctions) else ((op, result),)

    def misfit(self, op: AuctionOp, result: AuctionResult) -> str | None:
        """Why no auction house answers like that, however its auctions stand."""
        wrong = _misfit(op, result)
        return wrong and f"was answered {self.say_result(result)}: {wrong}"

    def _list(self, state: State, op: Auctions, result: AuctionResult | None) -> State | None:
        if result is None:
            return state
        if not isinstance(result, AuctionList) or _misfit(op, result) is not None:
            return None
        shown = {status.name: status for status in result.auctions}
        after: list[Value] = []
        for key, value in zip(self.keys(op, result), state, strict=True):
            status = shown.get(str(key))
            known: Value = value  # type: ignore[assignment]
            seen = ABSENT if status is None else _told(known, op, status)
            if isinstance(seen, _Wrong) or (status is None and isinstance(known, Row)):
                return None
            after.append(seen)
        return tuple(after)

    # The language of history files and of explanations, see `Language`.

    def read_op(self, raw: bytes) -> AuctionOp:
        """See `paxos_twisted.apps.struct_json`."""
        return _ops.read(raw)

    def read_result(self, raw: bytes) -> AuctionResult:
        """See `paxos_twisted.apps.struct_json`."""
        return _results.read(raw)

    def write_op(self, op: AuctionOp) -> dict[str, object]:
        """The inverse of `read_op`."""
        return to_json(op)

    def write_result(self, result: AuctionResult) -> dict[str, object]:
        """The inverse of `read_result`."""
        return to_json(result)

    def say_op(self, op: AuctionOp) -> str:
        """As `auctionclient` takes it."""
        match op:
            case Start(name=name, duration_ms=duration):
                return f"start {name}" + (f" for {duration / 1000:g} s" if duration else "")
            case Bid(name=name, bidder=bidder, amount=amount):
                return f"bid {amount} by {bidder or 'somebody'} in {name}"
            case Status(name=name):
                return f"status {name}"
            case Close(name=name):
                return f"close {name}"
            case Auctions(after=after):
                return f"auctions {after}".rstrip()
            case Remove(name=name):
                return f"remove {name}"

    def say_result(self, result: AuctionResult) -> str:
        """The answer in a few words."""
        match result:
            case BidResult(outcome=outcome, highest=highest, bidder=bidder):
                return f"{outcome}, highest {highest} by {bidder or 'nobody'}"
            case AuctionStatus():
                word = "open" if result.is_live else "over"
                return f"{word}, highest {result.highest} by {result.bidder or 'nobody'}, edition {result.edition}"
            case AuctionList(auctions=auctions):
                return f"{len(auctions)} auctions"
            case AuctionError(error):
                return f"refused: {error}"

    def say_value(self, key: Hashable, value: Hashable) -> str:
        """How the auction stands."""
        if not isinstance(value, Row):
            return f"there is no auction {key}" if value is ABSENT else f"{key} may be anything"
        highest = "unknown" if value.highest is None else value.highest
        return f"{key} is {'open' if value.is_live else 'over'}, highest {highest} by {value.bidder or 'nobody'}"


class _Wrong:
    """The answer cannot have been given there."""


_WRONG: Final = _Wrong()


def _merge(row: Row, **told: object) -> Row | _Wrong:
    """The row with what was told; wrong when it contradicts what is known."""
    for name, value in told.items():
        known = getattr(row, name)
        if known is not None and known != value:
            return _WRONG
    return row._replace(**told)  # type: ignore[arg-type]


def _as_row(value: Value, is_live: bool) -> Row | _Wrong:
    """The auction as it must be to be seen open, or over: it may just have ended."""
    if value is ABSENT:
        return _WRONG
    if not isinstance(value, Row):
        return Row(is_live)
    if value.is_live == is_live:
        return value
    if is_live or not value.may_end:
        return _WRONG
    # It ended by itself, at its deadline.
    return value._replace(is_live=False, ended=value.deadline)


def _bid(value: Value, op: Bid, result: BidResult) -> Value | _Wrong:
    if result.outcome == "exception" and _is_absent(result):
        return ABSENT if value in (ABSENT, ANY) else _WRONG
    row = _as_row(value, result.is_live)
    if isinstance(row, _Wrong) or result.outcome != "success":
        return row if isinstance(row, _Wrong) else _merge(row, highest=result.highest, bidder=result.bidder)
    if row.highest is not None and row.highest >= op.amount:
        return _WRONG
    bids = None if row.bids is None else row.bids + 1
    return row._replace(highest=op.amount, bidder=op.bidder, bids=bids)


def _told(value: Value, op: AuctionOp, status: AuctionStatus) -> Value | _Wrong:
    if isinstance(op, Start):
        return _started(value, op, status)
    if isinstance(op, Close) and isinstance(value, Row) and value.is_live and not status.is_live and not value.deadline:
        if op.deadline not in (0, value.deadline):
            return _WRONG
        value = value._replace(is_live=False, ended=None)
    elif isinstance(op, Close) and not op.deadline and isinstance(value, Row) and value.is_live and not status.is_live:
        value = value._replace(is_live=False, ended=None)  # by hand, before the deadline or at it
    row = _as_row(value, status.is_live)
    if isinstance(row, _Wrong):
        return row
    row = _merge(
        row,
        highest=status.highest,
        bidder=status.bidder,
        bids=status.bids,
        edition=status.edition,
        started=status.started,
        deadline=status.deadline,
        ended=status.ended,
    )
    return ABSENT if isinstance(op, Remove) and isinstance(row, Row) else row


def _started(value: Value, op: Start, status: AuctionStatus) -> Value | _Wrong:
    edition: int | None = 1
    if isinstance(value, Row):
        if value.is_live and not value.may_end:
            return _WRONG
        edition = None if value.edition is None else value.edition + 1
        if value.started is not None and status.started < value.started:
            return _WRONG
    elif value is ANY:
        edition = None
    if edition is not None and status.edition != edition:
        return _WRONG
    return Row(True, 0, "", 0, status.edition, status.started, status.deadline, 0)


def _refused(value: Value, op: AuctionOp, error: str) -> Value | _Wrong:
    if isinstance(op, Start):
        if error.startswith("there is no place"):
            return value if value in (ABSENT, ANY) else _WRONG
        return _as_row(value, True)
    if error.startswith("there is no auction"):
        return ABSENT if value in (ABSENT, ANY) else _WRONG
    return _as_row(value, True)  # Remove: it is open


def _unseen(value: Value, op: AuctionOp) -> Value:
    """The effect of an operation whose answer nobody saw, if it has one: the search tries to leave it out as well."""
    if not isinstance(value, Row):
        return Row(True, 0, "", 0, 1, None, _deadline(op), 0) if isinstance(op, Start) and value is ABSENT else value
    match op:
        case Start() if not value.is_live or value.may_end:
            edition = None if value.edition is None else value.edition + 1
            return Row(True, 0, "", 0, edition, None, _deadline(op), 0)
        case Bid() if value.is_live and value.highest is not None and value.highest < op.amount <= AUCTION_BID_MAX:
            bids = None if value.bids is None else value.bids + 1
            return value._replace(highest=op.amount, bidder=op.bidder, bids=bids)
        case Close() if value.is_live and op.deadline in (0, value.deadline):
            return value._replace(is_live=False, ended=None)
        case Remove() if not value.is_live or value.may_end:
            return ABSENT
    return value


def _deadline(op: Start) -> int | None:
    return None if op.duration_ms else 0


def _is_absent(result: BidResult) -> bool:
    return result.text.startswith("there is no auction")


def _misfit(op: AuctionOp, result: AuctionResult) -> str | None:
    match op, result:
        case (Bid(), BidResult()):
            return _bid_misfit(op, result)
        case (Start() | Status() | Close() | Remove(), AuctionError()):
            return None
        case (Start() | Status() | Close() | Remove(), AuctionStatus()):
            return _status_misfit(op, result)
        case (Auctions(), AuctionList(auctions=auctions)):
            names = [status.name for status in auctions]
            if names != sorted(set(names)) or any(name <= op.after for name in names):
                return "its auctions are not in order, or not those asked for"
            if len(names) > AUCTIONS_LISTED_MAX:
                return "no list is as long as that"
            return next((wrong for status in auctions if (wrong := _status_misfit(op, status)) is not None), None)
        case _:
            return "that is the answer to another request"


def _bid_misfit(op: Bid, result: BidResult) -> str | None:
    is_bid = 0 < op.amount <= AUCTION_BID_MAX
    if result.outcome == "success":
        if not is_bid or not result.is_live or (result.highest, result.bidder) != (op.amount, op.bidder):
            return "no bid succeeds like that"
    elif result.outcome == "fail":
        if not is_bid or (result.is_live and result.highest < op.amount):
            return "no bid fails like that"
    elif is_bid and not _is_absent(result):
        return "that is no exception"
    return None


def _status_misfit(op: Start | Status | Close | Remove | Auctions, status: AuctionStatus) -> str | None:
    if not isinstance(op, Auctions) and status.name != op.name:
        return "that is the answer to another request"
    asker = op.bidder if isinstance(op, Status) else ""
    if status.is_yours != (bool(asker) and asker == status.bidder):
        return "whether the asker leads is told wrongly"
    is_timed = status.is_live and status.deadline > 0
    if status.is_live != (not status.ended) or is_timed != (status.remaining_ms is not None):
        return "its times contradict each other"
    if status.edition < 1 or status.highest < 0 or (status.highest > 0) != (status.bids > 0):
        return "no auction looks like that"
    left = status.remaining_ms or 0
    if status.deadline and (status.ended > status.deadline or left > status.deadline - status.started):
        return "its times contradict its deadline"
    if isinstance(op, Start):
        fresh = status.is_live and not status.highest
        length = status.deadline - status.started if status.deadline else 0
        return None if fresh and length == op.duration_ms else "that is not the beginning that was asked for"
    if isinstance(op, Remove) and status.is_live:
        return "it cannot be removed while it is open"
    return None
