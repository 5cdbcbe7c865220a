"""Golden bytes: what primary-backup writes and sends today can be read by what is written tomorrow.

A change here is a change of the log format or of the protocol: it needs a new number there.
"""

from typing import Any, get_args

import msgspec
import pytest

from paxos_twisted.core.multipaxos.messages import Prepare
from paxos_twisted.core.primary_backup.messages import (
    Ack,
    Canvass,
    Commit,
    Deposed,
    Fetch,
    Fetched,
    Message,
    NewView,
    Resign,
    Standing,
    Support,
    Update,
    ViewDecided,
    ViewPart,
    ViewTold,
    ViewWanted,
)
from paxos_twisted.core.primary_backup.view import View, ViewChange
from paxos_twisted.core.records import Entered, Held, LogRecord, Promised, ViewKept, ViewLog
from paxos_twisted.types import NodeId

ONE, TWO, THREE = map(NodeId, (1, 2, 3))
VIEW = View(7, (TWO, THREE, ONE), 9)

RECORDS = [
    pytest.param(Held(7, 40, 2, b"\x01\x02", 39), "96 14 07 28 02 c4 02 01 02 27", id="Held"),
    pytest.param(Entered(7, (TWO, THREE, ONE), 9, 40), "95 15 07 93 02 03 01 09 28", id="Entered"),
    pytest.param(ViewLog(Promised(1001)), "92 16 92 01 cd 03 e9", id="ViewLog"),
    pytest.param(
        ViewKept(3, 7, (TWO, THREE, ONE), 9, 1001, ((4, 1, 1001, b"v"),)),
        "97 17 03 07 93 02 03 01 09 cd 03 e9 91 94 04 01 cd 03 e9 c4 01 76",
        id="ViewKept",
    ),
]

MESSAGES = [
    pytest.param(ViewPart(TWO, Prepare(TWO, 5, 1002)), "93 46 02 94 01 02 05 cd 03 ea", id="ViewPart"),
    pytest.param(Canvass(TWO, 1, 7, True), "95 47 02 01 07 c3", id="Canvass"),
    pytest.param(Support(THREE, 1, True), "94 48 03 01 c3", id="Support"),
    pytest.param(ViewWanted(TWO, b"c"), "93 49 02 c4 01 63", id="ViewWanted"),
    pytest.param(ViewTold(THREE, 4, VIEW), "94 4a 03 04 93 07 93 02 03 01 09", id="ViewTold"),
    pytest.param(ViewDecided(THREE, VIEW), "93 54 03 93 07 93 02 03 01 09", id="ViewDecided"),
    pytest.param(
        NewView(TWO, VIEW, 40, 42, ((7, 42),)), "96 4b 02 93 07 93 02 03 01 09 28 2a 91 92 07 2a", id="NewView"
    ),
    pytest.param(Update(TWO, 7, 40, b"\x01\x02", 39, 2), "97 4c 02 07 28 c4 02 01 02 27 02", id="Update"),
    pytest.param(Ack(THREE, 7, 41), "94 4d 03 07 29", id="Ack"),
    pytest.param(Deposed(THREE, VIEW), "93 4e 03 93 07 93 02 03 01 09", id="Deposed"),
    pytest.param(Commit(TWO, 7, 41), "94 4f 02 07 29", id="Commit"),
    pytest.param(Standing(TWO, False, 7, 7, True, True, 41, 0, 0), "9a 50 02 c2 07 07 c3 c3 29 00 00", id="Standing"),
    pytest.param(Resign(TWO, 7, True), "94 51 02 07 c3", id="Resign"),
    pytest.param(Fetch(THREE, 40), "93 52 03 28", id="Fetch"),
    pytest.param(Fetched(TWO, 40, 1, b"\x01", 40), "96 53 02 28 01 c4 01 01 28", id="Fetched"),
]


@pytest.mark.parametrize(("record", "golden"), RECORDS)
def test_record(record: Any, golden: str) -> None:
    assert msgspec.msgpack.encode(record).hex(" ") == golden
    assert msgspec.msgpack.decode(bytes.fromhex(golden), type=LogRecord) == record


@pytest.mark.parametrize(("message", "golden"), MESSAGES)
def test_message(message: Any, golden: str) -> None:
    assert msgspec.msgpack.encode(message).hex(" ") == golden
    assert msgspec.msgpack.decode(bytes.fromhex(golden), type=Message) == message


def test_change_of_the_view() -> None:
    assert msgspec.msgpack.encode(ViewChange(6, (TWO, THREE, ONE), 9)).hex(" ") == "94 01 06 93 02 03 01 09"


def test_no_message_is_missing_here() -> None:
    assert {type(parameters.values[0]) for parameters in MESSAGES} == set(get_args(Message))
