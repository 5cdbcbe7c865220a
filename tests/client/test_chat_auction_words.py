"""chatclient and auctionclient in words: forms, sentences, spellings of the sources, the countdown, the report."""

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from paxos_twisted_client.auction import AuctionSide, amount, duration_ms, status_sentence
from paxos_twisted_client.auction_screen import Countdown
from paxos_twisted_client.auctionclient import SPELLINGS as AUCTION_SPELLINGS
from paxos_twisted_client.auctionclient import cli as auction_cli
from paxos_twisted_client.bidders import Made, report
from paxos_twisted_client.breaks import Breaks
from paxos_twisted_client.chat import ChatSide, ChatWorkload, message_line, printable, random_body
from paxos_twisted_client.chatclient import SPELLINGS as CHAT_SPELLINGS
from paxos_twisted_client.chatclient import cli as chat_cli
from paxos_twisted_client.client_side import FormError
from paxos_twisted_client.connection import CLOSED, ERROR, REDIRECT
from paxos_twisted_client.endpoints import Address
from paxos_twisted_client.form import Form
from paxos_twisted_client.pool import Move

from paxos_twisted.apps.auction import (
    AuctionError,
    AuctionEvent,
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
from paxos_twisted.apps.chat import (
    ChatError,
    ChatResult,
    History,
    Message,
    Page,
    Post,
    Posted,
    RoomLine,
    RoomList,
    Rooms,
)
from paxos_twisted.check.auction import AuctionModel
from paxos_twisted.check.chat import ChatModel
from paxos_twisted.spellings import Spelling, respell

MESSAGE = Message(bytes(16), 1_700_000_000_000, "ann", "hello")
STATUS = AuctionStatus("vase", 1, True, 120, "ann", True, 3, 1_700_000_000_000, 1_700_000_045_000, 0, 30_500)
OVER = msgspec.structs.replace(STATUS, is_live=False, ended=1_700_000_045_000, remaining_ms=None)


def chat_op(*words: str) -> Any:
    return Form.from_words(ChatSide(), list(words)).op()


def auction_op(*words: str) -> Any:
    side = AuctionSide()
    side.bidder = "ann"
    return Form.from_words(side, list(words)).op()


# --- The chat


def test_a_message_gets_a_random_unique_id() -> None:  # [CH-17]
    ids = {chat_op("post", "hall", "hi").id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 16 for one in ids)


def test_words_become_operations_of_the_chat() -> None:
    post = chat_op("post", "hall", "hello there")
    assert isinstance(post, Post)
    assert (post.room, post.body) == ("hall", "hello there")
    assert chat_op("history", "hall") == History("hall", -50, 50)
    assert chat_op("history", "hall", "10") == History("hall", -10, 10)
    assert chat_op("history", "hall", "10", "700") == History("hall", 700, 10)
    assert chat_op("rooms") == Rooms()
    assert chat_op("rooms", "m") == Rooms("m")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("post", "", "hi"), "room"),
        (("post", "x" * 65, "hi"), "1 to 64"),
        (("post", "hall", "x" * 2001), "1 to 2000 characters, this one has 2001"),
        (("history", "hall", "0"), "number from 1 to 100"),
        (("history", "hall", "5", "-1"), "position"),
        (("history", "a\x1b[2J"), "can be printed"),
    ],
)
def test_what_is_no_operation_of_the_chat_is_said(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(FormError, match=complaint):
        chat_op(*words)


@pytest.mark.parametrize(
    ("result", "said", "done"),
    [
        (Posted(4), "message 4", True),
        (Page(0, (), 0, 0), "nothing was said here", True),
        (RoomList((), True), "there are no rooms", True),
        (ChatError("no place"), "refused: no place", False),
    ],
)
def test_answers_of_the_chat_become_sentences(result: ChatResult, said: str, done: bool) -> None:
    side = ChatSide()
    assert side.say(Rooms(), result) == said
    assert side.did(Rooms(), result) is done


def test_other_peoples_words_cannot_move_our_cursor() -> None:
    nasty = msgspec.structs.replace(MESSAGE, author="ev\x1b[31mil", body="\x1b]0;owned\x07hi\nthere")
    line = message_line(nasty)
    assert "\x1b" not in line and "\n" not in line and "\x07" not in line
    assert printable("naïve 日本") == "naïve 日本"


def test_notes_tell_where_history_goes_on_or_begins() -> None:
    side = ChatSide()
    page = Page(5, (MESSAGE,), 5, 9)
    assert side.note(History("hall"), page) == "there are more: history hall 100 6"
    assert "first 5 messages" in side.note(History("hall"), Page(8, (MESSAGE,), 5, 9))
    assert side.note(Rooms(), RoomList((RoomLine("a", 0, 1, 0),), False)) == "there are more: rooms a"


def test_random_bodies_are_the_same_for_the_same_seed_but_ids_are_not() -> None:  # [CH-18]
    options = {"room": "hall", "rooms": 3, "words": 4}
    one, two = ChatWorkload(1, 0, options), ChatWorkload(1, 0, options)
    drawn = [(one.next(), two.next()) for _ in range(50)]
    assert all((a.room, a.author, a.body) == (b.room, b.author, b.body) for a, b in drawn)
    assert len({op.id for pair in drawn for op in pair}) == 100
    assert {a.room for a, _ in drawn} == {"hall", "hall-1", "hall-2"}
    assert len(random_body(Random(1), 5).split()) == 5


@pytest.mark.parametrize("op", [Post("hall", bytes(16), "ann", "hi"), History("hall"), Rooms("x")], ids=str)
def test_histories_of_the_chat_can_be_read_by_the_checker(op: Any) -> None:
    side, model = ChatSide(), ChatModel()
    assert model.read_op(json.dumps(side.op_json(op)).encode()) == op
    for result in (Posted(4), Page(0, (MESSAGE,), 0, 1), RoomList((RoomLine("a", 0, 1, 5),), True), ChatError("no")):
        assert model.read_result(json.dumps(side.result_json(op, result)).encode()) == result


# --- Auctions


def test_words_become_operations_of_auctions() -> None:
    assert auction_op("bid", "120") == Bid("auction", "ann", 120)
    assert auction_op("bid", "1'000", "vase") == Bid("vase", "ann", 1000)
    assert auction_op("bid", "-5") == Bid("auction", "ann", -5)
    assert auction_op("status") == Status("auction", "ann")
    assert auction_op("start") == Start("auction", 45_000)  # [AV-12]
    assert auction_op("start", "vase", "2m") == Start("vase", 120_000)
    assert auction_op("start", "vase", "open") == Start("vase", 0)
    assert auction_op("close", "vase") == Close("vase")
    assert auction_op("auctions") == Auctions()
    assert auction_op("remove", "vase") == Remove("vase")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("bid", "much"), "whole number"),
        (("bid", "9" * 30), "larger than any bid"),
        (("start", "vase", "45"), "duration"),
        (("start", "x" * 65), "1 to 64"),
    ],
)
def test_what_is_no_operation_of_auctions_is_said(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(FormError, match=complaint):
        auction_op(*words)


@pytest.mark.parametrize(
    ("op", "result", "said", "done"),
    [
        (Bid("a", "ann", 5), BidResult("success", 5, "ann", True), "success: 5 is the highest bid", True),
        (Bid("a", "ann", 5), BidResult("fail", 9, "bob", True, "5 is not above …"), "fail: 5 is not above …", False),
        (Bid("a", "ann", 0), BidResult("exception", 9, "bob", True, "0 is no bid"), "exception: 0 is no bid", False),
        (Status("a"), AuctionError("there is no auction 'a'"), "refused: there is no auction 'a'", False),
        (Auctions(), AuctionList((), True), "there are no auctions", True),
    ],
)
def test_answers_of_auctions_become_sentences(op: AuctionOp, result: AuctionResult, said: str, done: bool) -> None:
    side = AuctionSide()
    assert side.say(op, result) == said
    assert side.did(op, result) is done


def test_a_status_tells_all_that_the_texts_ask_for() -> None:  # [AV-07, AV-14, AV-17, AU-29]
    said = status_sentence(STATUS)
    assert "vase: live, 30.5 s left, highest bid 120 by ann - you lead; started 1700000000" in said
    assert "vase: finished, won by ann with 120 - you have won; started 1700000000" in status_sentence(OVER)
    nobody = msgspec.structs.replace(OVER, highest=0, bidder="", is_yours=False, bids=0)
    assert "finished, nobody has bid; started" in status_sentence(nobody)
    by_hand = msgspec.structs.replace(STATUS, deadline=0, remaining_ms=None, is_yours=False)
    assert "live, until it is closed, highest bid 120 by ann; started" in status_sentence(by_hand)


@pytest.mark.parametrize(
    "op", [Start("a", 0), Bid("a", "b", 3), Status("a"), Close("a", 7), Auctions(), Remove("a")], ids=str
)
def test_histories_of_auctions_can_be_read_by_the_checker(op: AuctionOp) -> None:
    side, model = AuctionSide(), AuctionModel()
    assert model.read_op(json.dumps(side.op_json(op)).encode()) == op
    for result in (
        BidResult("fail", 3, "b", True, "no"),
        STATUS,
        OVER,
        AuctionList((STATUS,), True),
        AuctionError("no"),
    ):
        assert model.read_result(json.dumps(side.result_json(op, result)).encode()) == result


def test_amounts_and_durations_are_read_as_people_write_them() -> None:
    assert amount(" 1_000 ") == 1000
    assert duration_ms("1.5s") == 1500
    with pytest.raises(ValueError, match="too long"):
        duration_ms("99999999m")


class Clock:
    now = 1_700_000_020.0

    def __call__(self) -> float:
        return self.now


def test_the_countdown_follows_the_clusters_clock_and_not_ours() -> None:
    clock = Clock()
    watch = Countdown(clock)
    assert watch.sentence("ann") == "not open yet"
    watch.on_status(STATUS)  # 30.5 s are left there; by our own clock it would be 25
    assert watch.left_s() == pytest.approx(30.5)
    clock.now += 10
    assert watch.sentence("ann") == "open, 120 by you, 00:20.5 left"
    watch.on_event(AuctionEvent("bid", 0, 1, 200, "bob", STATUS.deadline))
    assert watch.sentence("ann") == "open, 200 by bob, 00:20.5 left"
    clock.now += 60
    assert watch.sentence("ann") == "open, 200 by bob, 00:00.0 left", "only the log closes an auction"
    watch.on_event(AuctionEvent("closed", 0, 1, 200, "bob", STATUS.deadline))
    assert watch.sentence("bob") == "over, 200 by you, you have won"


class FakeBidder:
    """What `report` looks at."""

    def __init__(self, name: str, *made: tuple[int, str]) -> None:
        self.name = name
        self.made = [Made(name, amount, outcome) for amount, outcome in made]
        self.pool = type("Pool", (), {"reconnects": {"closed": 1}})()


def findings(final: AuctionStatus, *bidders: FakeBidder) -> list[str]:
    found: list[str] = report(final, bidders)["findings"]  # type: ignore[arg-type]
    return found


def test_the_report_finds_lost_bids_and_false_winners() -> None:  # [AV-23]
    bob = FakeBidder("bob", (50, "success"))
    assert findings(OVER, FakeBidder("ann", (120, "success")), bob) == []
    assert findings(OVER, FakeBidder("ann", (120, "unknown")), bob) == [], "a bid without an answer may count"
    assert findings(OVER, FakeBidder("ann", (120, "fail")), bob) == [
        "ann has won with 120, a bid that was not made or failed"
    ]
    assert findings(OVER, FakeBidder("ann", (120, "success")), FakeBidder("bob", (130, "success"))) == [
        "the acknowledged bid 130 by bob is lost"
    ]
    assert findings(OVER, FakeBidder("ann", (120, "success")), FakeBidder("bob", (120, "success"))) == [
        "120 succeeded more than once: ann, bob"
    ]
    assert findings(STATUS, FakeBidder("ann", (120, "success"))) == ["the auction is not over"]


# --- Spellings of the sources


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        pytest.param("-c a.yml", "--config a.yml", id="configuration"),
        pytest.param("-c=a.yml talk", "--config a.yml talk", id="with an equals sign"),
        pytest.param("talk -loss 0.1 -timeout 0.5", "talk --loss 0.1 --read-timeout 0.5s", id="loss and timeout"),
        pytest.param("talk -timeout 300ms", "talk --read-timeout 300ms", id="a unit stays"),
        pytest.param("-manual -uid 3", "--name 3", id="manual and uid"),
        pytest.param("-client_n 4 --bench", "--clients 4 --bench", id="number of clients"),
        pytest.param("post hall -- -c", "post hall -- -c", id="behind two dashes"),
        pytest.param("-c", "--config", id="a missing value is click's affair"),
    ],
)
def test_options_of_the_chats_text_are_understood(given: str, ours: str) -> None:  # [CV-50, CH-19]
    assert respell(given.split(), CHAT_SPELLINGS) == ours.split()


def test_options_of_the_auctions_text_are_understood() -> None:  # [AU-09]
    assert respell(["-id", "ann", "bid", "5"], AUCTION_SPELLINGS) == ["--id", "ann", "bid", "5"]
    assert respell(["-x", "1"], {"-x": Spelling("--long", has_value=False)}) == ["--long", "1"]


@pytest.mark.parametrize("cli", [chat_cli, auction_cli], ids=["chat", "auction"])
def test_help_explains_every_command(cli: Any) -> None:  # [CH-24]
    runner = CliRunner()
    shown = runner.invoke(cli, ["-h"])
    assert shown.exit_code == 0
    for name in cli.commands:
        assert name in shown.output
        assert runner.invoke(cli, [name, "-h"]).exit_code == 0


def test_a_wrong_name_or_loss_is_told(tmp_path: Path) -> None:
    runner = CliRunner()
    told = runner.invoke(chat_cli, ["--name", "\x1b", "rooms", "--nodes", "127.0.0.1:1"])
    assert told.exit_code == 2
    assert "is no name" in told.output
    told = runner.invoke(chat_cli, ["post", "hall", "hello", "--name", "\x1b"])
    assert "is no name" in told.output
    told = runner.invoke(auction_cli, ["status", "--loss", "2", "--nodes", "127.0.0.1:1"])
    assert told.exit_code == 2


@pytest.mark.parametrize(
    ("cli", "given", "command"),
    [
        pytest.param(chat_cli, "--name", ["rooms"], id="chat"),
        pytest.param(auction_cli, "--id", ["auctions"], id="auction"),
    ],
)
def test_a_name_typed_goes_before_one_of_the_environment(
    cli: Any, given: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's are bad here, so that reading one shows."""
    monkeypatch.setenv("PAXOS_NAME", "\x1b")
    monkeypatch.setenv("PAXOS_ID", "\x1b")
    runner = CliRunner()
    nowhere = ["--loss", "2"]  # also refused, but behind the names
    assert f"'{given}'" in runner.invoke(cli, [*command, *nowhere]).output
    assert "'--loss'" in runner.invoke(cli, [given, "ann", *command, *nowhere]).output


@pytest.mark.parametrize(
    ("is_brief", "told"),
    [
        pytest.param(
            True, ["(gone; looking for a node that answers)", "(connected again)"], id="a person reads it once"
        ),
        pytest.param(False, ["(elsewhere)", "(gone)", "(refused)", "(elsewhere)"], id="a pipe is told every move"),
    ],
)
def test_a_break_is_told(is_brief: bool, told: list[str]) -> None:
    lines: list[str] = []
    breaks = Breaks(lines.append, is_brief=is_brief)
    for cause, text in ((REDIRECT, "elsewhere"), (CLOSED, "gone"), (ERROR, "refused"), (REDIRECT, "elsewhere")):
        breaks.on_move(Move(0, Address("127.0.0.1", 1), cause, text, 0.0))
    breaks.on_sign()
    breaks.on_sign()
    assert lines == told
