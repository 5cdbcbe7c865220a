"""The checker on chats and auctions: true histories pass, false ones do not, and it agrees with the applications."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paxos_twisted.apps.application import Application
from paxos_twisted.apps.auction import (
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
from paxos_twisted.apps.chat import Chat, ChatError, ChatOp, History, Message, Page, Post, Posted, RoomList, Rooms
from paxos_twisted.check.auction import AuctionModel
from paxos_twisted.check.chat import ChatModel
from paxos_twisted.check.command import MODELS, check_recorded
from paxos_twisted.check.explain import explain
from paxos_twisted.check.history import History as Recorder
from paxos_twisted.check.history import read_history, write_history
from paxos_twisted.check.verdict import Outcome

Row = tuple[Any, Any, int, int]
"""Operation, answer (None: unknown), call, end."""


def recorded(rows: list[Row]) -> Recorder[Any, Any]:
    made: Recorder[Any, Any] = Recorder()
    marks = sorted([(row[2], 0, at) for at, row in enumerate(rows)] + [(row[3], 1, at) for at, row in enumerate(rows)])
    for time, is_end, at in marks:
        op, result, _, _ = rows[at]
        if not is_end:
            made.invoke(at, at, 1, op, time)
        elif result is None:
            made.unknown(at, at, 1, "timeout", time)
        else:
            made.ok(at, at, 1, result, time)
    return made


def judged(name: str, rows: list[Row], *, fresh: bool = True) -> Outcome:
    return check_recorded(MODELS[name](fresh), recorded(rows)).outcome


def post(number: int, room: str = "hall") -> Post:
    return Post(room, number.to_bytes(16, "big"), "ann", f"message {number}")


def message(number: int) -> Message:
    return Message(number.to_bytes(16, "big"), 77, "ann", f"message {number}")


def standing(is_live: bool, highest: int, bidder: str = "ann", bids: int = 1, **more: Any) -> AuctionStatus:
    told = {"edition": 1, "started": 100, "deadline": 200, "ended": 0 if is_live else 200}
    told |= {"remaining_ms": 50 if is_live else None, "is_yours": False} | more
    return AuctionStatus(name="vase", is_live=is_live, highest=highest, bidder=bidder, bids=bids, **told)


STARTED: Row = (Start("vase", 100), standing(True, 0, "", 0, remaining_ms=100), 0, 1)
BY_HAND: Row = (Start("vase", 0), standing(True, 0, "", 0, deadline=0, remaining_ms=None), 0, 1)


def won(amount: int, bidder: str = "ann") -> BidResult:
    return BidResult("success", amount, bidder, True)


def lost(highest: int, bidder: str = "ann", is_live: bool = True) -> BidResult:
    return BidResult("fail", highest, bidder, is_live, "…")


TRUE = [
    pytest.param("chat", [(post(1), Posted(0), 0, 1), (post(2), Posted(1), 2, 3)], id="messages one behind the other"),
    pytest.param("chat", [(post(1), Posted(1), 0, 9), (post(2), Posted(0), 0, 9)], id="two at a time, either order"),
    pytest.param(
        "chat",
        [
            (post(1), None, 0, 1),
            (post(2), Posted(1), 2, 3),
            (History("hall", 0), Page(0, (message(1), message(2)), 0, 2), 4, 5),
        ],
        id="a message without an answer may stand in the room",
    ),
    pytest.param("chat", [(post(1), None, 0, 1), (post(2), Posted(0), 2, 3)], id="… or may not"),
    pytest.param("chat", [(post(1), Posted(0), 0, 1), (post(1), Posted(0), 2, 3)], id="the same message again"),
    pytest.param(
        "chat", [(History("hall"), Page(0, (), 0, 0), 0, 1), (Rooms(), RoomList((), True), 0, 1)], id="nothing"
    ),
    pytest.param("auction", [STARTED, (Bid("vase", "ann", 5), won(5), 2, 3)], id="a bid"),
    pytest.param(
        "auction",
        [STARTED, (Bid("vase", "ann", 5), won(5), 2, 9), (Bid("vase", "bob", 5), lost(5), 2, 9)],
        id="of two equal bids one succeeds",
    ),
    pytest.param(
        "auction",
        [STARTED, (Bid("vase", "ann", 5), won(5), 2, 3), (Status("vase"), standing(False, 5), 4, 5)],
        id="an auction with a deadline ends by itself",
    ),
    pytest.param(
        "auction",
        [STARTED, (Bid("vase", "ann", 5), None, 2, 3), (Bid("vase", "bob", 4), lost(5), 4, 5)],
        id="a bid without an answer may count",
    ),
    pytest.param(
        "auction",
        [
            BY_HAND,
            (Close("vase"), None, 2, 3),
            (Status("vase"), standing(False, 0, "", 0, deadline=0, ended=150), 4, 5),
        ],
        id="a close without an answer may count",
    ),
    pytest.param(
        "auction",
        [
            STARTED,
            (
                Start("vase", 100),
                standing(True, 0, "", 0, edition=2, started=300, deadline=400, remaining_ms=100),
                2,
                3,
            ),
        ],
        id="an auction is opened again after its end",
    ),
]

FALSE = [
    pytest.param("chat", [(post(1), Posted(0), 0, 1), (post(2), Posted(0), 2, 3)], id="two messages at one place"),
    pytest.param(
        "chat", [(post(1), Posted(1), 0, 1), (post(2), Posted(0), 2, 3)], id="a later message before an earlier"
    ),
    pytest.param("chat", [(post(1), Posted(0), 0, 1), (History("hall"), Page(0, (), 0, 0), 2, 3)], id="a lost message"),
    pytest.param(
        "chat",
        [(post(1), Posted(0), 0, 1), (History("hall", 0), Page(0, (message(2),), 0, 1), 2, 3)],
        id="a message that nobody wrote",
    ),
    pytest.param(
        "chat", [(post(1), Posted(0), 0, 1), (Rooms(), RoomList((), True), 2, 3)], id="a room that is missing"
    ),
    pytest.param("chat", [(post(1), RoomList((), True), 0, 1)], id="the answer to another request (chat)"),
    pytest.param(
        "chat", [(post(1), Posted(0), 0, 1), (post(2), ChatError("full"), 2, 3)], id="a room is not refused twice"
    ),
    pytest.param(
        "auction",
        [STARTED, (Bid("vase", "ann", 5), won(5), 2, 9), (Bid("vase", "bob", 5), won(5, "bob"), 2, 9)],
        id="two equal bids succeed",
    ),
    pytest.param(
        "auction",
        [STARTED, (Bid("vase", "ann", 5), won(5), 2, 3), (Status("vase"), standing(True, 0, "", 0), 4, 5)],
        id="an acknowledged bid is lost",
    ),
    pytest.param(
        "auction",
        [STARTED, (Status("vase"), standing(False, 0, "", 0), 2, 3), (Bid("vase", "ann", 5), won(5), 4, 5)],
        id="a bid succeeds behind the end",
    ),
    pytest.param(
        "auction",
        [BY_HAND, (Status("vase"), standing(False, 0, "", 0, deadline=0, ended=150), 2, 3)],
        id="an auction without a deadline ends by itself",
    ),
    pytest.param(
        "auction",
        [
            STARTED,
            (Bid("vase", "ann", 5), won(5), 2, 3),
            (Bid("vase", "ann", 5), lost(5), 4, 5),
            (Bid("vase", "bob", 6), lost(5), 6, 7),
        ],
        id="a higher bid fails",
    ),
    pytest.param(
        "auction",
        [STARTED, (Bid("vase", "ann", 5), BidResult("exception", 0, "", False, "there is no auction 'vase'"), 2, 3)],
        id="an auction vanishes",
    ),
    pytest.param(
        "auction",
        [STARTED, (Status("vase", "ann"), standing(True, 0, "", 0, is_yours=True), 2, 3)],
        id="somebody leads who has not bid",
    ),
    pytest.param(
        "auction", [STARTED, (Auctions(), AuctionList((), True), 2, 3)], id="an auction is missing in the list"
    ),
    pytest.param(
        "auction",
        [STARTED, (Status("vase"), standing(True, 0, "", 0, started=101), 2, 3)],
        id="the start time changes: the auction was started again after a failover",  # [AV-22]
    ),
    pytest.param("auction", [(Bid("vase", "ann", 5), AuctionError("no"), 0, 1)], id="the answer to another request"),
]


@pytest.mark.parametrize(("name", "rows"), TRUE)
def test_true_histories_pass(name: str, rows: list[Row]) -> None:
    assert judged(name, rows) is Outcome.OK


@pytest.mark.parametrize(("name", "rows"), FALSE)
def test_false_histories_do_not(name: str, rows: list[Row]) -> None:
    model = MODELS[name](True)
    history = recorded(rows)
    verdict = check_recorded(model, history)
    assert verdict.outcome is Outcome.VIOLATION
    assert explain(verdict, history, model)


@pytest.mark.parametrize(("name", "rows"), TRUE + FALSE)
def test_histories_survive_their_files(name: str, rows: list[Row], tmp_path: Any) -> None:
    model = MODELS[name](True)
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(write_history(recorded(rows), model)))
    again = read_history([path], model)
    assert sorted((str(o.op), str(o.result)) for o in again.operations) == sorted(
        (str(op), str(r)) for op, r, *_ in rows
    )


# --- Histories of true runs


def draw_chat(rng: Random) -> ChatOp:
    room = rng.choice(["hall", "yard"])
    if rng.random() < 0.6:
        return post(rng.randrange(8), room)
    return rng.choice([History(room, rng.randrange(-3, 4), rng.randrange(1, 5)), Rooms(rng.choice(["", "hall"]))])


def draw_auction(rng: Random) -> AuctionOp:
    name = rng.choice(["vase", "lamp"])
    ops: list[AuctionOp] = [
        Start(name, rng.choice([0, 10, 25])), Status(name, "ann"), Close(name), Auctions(), Remove(name),
        *[Bid(name, rng.choice(["ann", "bob"]), rng.randrange(12))] * 4,
    ]  # fmt: skip
    return rng.choice(ops)


def a_run(rng: Random, application: Application, draw: Callable[[Random], Any], before: int = 0) -> list[Row]:
    """What clients see of a run in which each operation takes effect somewhere between its call and its end."""
    rows: list[Row] = []
    for number in range(before + 40):
        op = draw(rng)
        if number < before and isinstance(op, Post):  # the ids of a history are new
            op = msgspec.structs.replace(op, id=(100 + number).to_bytes(16, "big"))
        result = application.apply(application.stamp(op, 1000 + number + rng.randrange(-2, 3)), 0)
        for close in application.due(1000 + number):
            if rng.random() < 0.5:
                application.apply(application.stamp(close, 1000 + number), 0)
        if number >= before:
            at = 100 * number
            seen = None if rng.random() < 0.1 else result
            rows.append((op, seen, at - rng.randrange(250), at + rng.randrange(1, 250)))
    return [(op, result, call + 1000, end + 1000) for op, result, call, end in rows]


@pytest.mark.parametrize("name", ["chat", "auction"])
@pytest.mark.parametrize("before", [0, 10], ids=["from the start", "in use before"])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_true_runs_pass(name: str, before: int, seed: int) -> None:
    rng = Random(seed)
    rows = a_run(rng, Chat(), draw_chat, before) if name == "chat" else a_run(rng, AuctionHouse(), draw_auction, before)
    assert judged(name, rows, fresh=not before) is Outcome.OK


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_bid_that_is_said_to_have_succeeded_and_is_gone_is_found(seed: int) -> None:
    """An acknowledged bid of 100 that nobody sees afterwards, in an otherwise true run."""
    rng = Random(seed)
    rows = [row for row in a_run(rng, AuctionHouse(), draw_auction) if not isinstance(row[0], Auctions)]
    last = max(end for *_, end in rows)
    base: list[Row] = [
        (
            Start("gem", 0),
            msgspec.structs.replace(standing(True, 0, "", 0, deadline=0, remaining_ms=None), name="gem"),
            0,
            1,
        )
    ]
    lost_bid: Row = (Bid("gem", "ann", 100), won(100), 10, 20)
    seen: Row = (Bid("gem", "bob", 50), won(50, "bob"), last + 1, last + 2)
    assert judged("auction", [*base, *rows, seen]) is Outcome.OK
    assert judged("auction", [*base, *rows, lost_bid, seen]) is Outcome.VIOLATION


def test_models_say_things_as_people_do() -> None:
    chat, auction = ChatModel(), AuctionModel()
    assert chat.say_op(post(1)) == "post hall message 1"
    assert chat.say_result(Posted(3)) == "message 3"
    assert chat.say_value("hall", chat.initial("hall")) == "hall does not exist"
    assert auction.say_op(Bid("vase", "ann", 5)) == "bid 5 by ann in vase"
    assert auction.say_result(won(5)) == "success, highest 5 by ann"
    assert auction.say_value("vase", auction.initial("vase")) == "there is no auction vase"
