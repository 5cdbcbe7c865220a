"""The log: lines for people and machines, safe against hostile text and against floods."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from paxos_twisted.limits import LOG_KEYS_MAX, LOG_TEXT_CHARACTERS_MAX
from paxos_twisted.node.logs import BURST, LEVELS, WINDOW_S, RateLimit, observer

START = 1_800_000_000.0  # 2027-01-15T08:00:00Z


class Log:
    """A logger with its own time, and what it wrote."""

    def __init__(self, node: int | None = 1, level: str = "info", *, as_json: bool = False) -> None:
        self.file = io.StringIO()
        self.now = START
        self.observer = observer(node, level=level, as_json=as_json, file=self.file)
        publisher = LogPublisher(self._at_our_time)
        self.log = Logger(namespace="paxos.test", observer=publisher)

    def _at_our_time(self, event: dict[str, Any]) -> None:
        self.observer({**event, "log_time": self.now})

    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


def test_line_tells_time_node_level_and_message() -> None:
    log = Log()
    log.now += 0.1234
    log.log.info("node {leader} leads in round {rnd}", leader=3, rnd=4003)
    log.log.warn("the disk is slow")
    assert log.lines() == [
        "2027-01-15T08:00:00.123Z node 1 info  node 3 leads in round 4003",
        "2027-01-15T08:00:00.123Z node 1 warn  the disk is slow",
    ]


def test_json_line_tells_the_named_values_too() -> None:
    log = Log(as_json=True)
    log.log.info("node {leader} leads", leader=3, sent=0.5, up=True, who="b\nc", thing=object(), node=9)
    assert log.objects() == [
        {
            "time": "2027-01-15T08:00:00.000000Z", "level": "info", "node": 1, "message": "node 3 leads",
            "source": "paxos.test", "leader": 3, "sent": 0.5, "up": True, "who": "b\nc",
        }
    ]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
def test_level_is_the_lowest_that_is_written(level: str) -> None:
    log = Log(level=level)
    for name in LEVELS:
        getattr(log.log, name)("x")
    assert [line.split()[3] for line in log.lines()] == list(LEVELS[LEVELS.index(level) :])


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match='"loud" is no log level; write one of debug, info, warn, error, critical'):
        observer(1, level="loud")


@pytest.mark.parametrize("as_json", [False, True], ids=["lines", "JSON"])
def test_failure_is_written_with_its_traceback(as_json: bool) -> None:
    log = Log(as_json=as_json)
    try:
        raise ValueError("slot 7 is gone")
    except ValueError:
        log.log.failure("the node must stop", Failure())
    if as_json:
        (entry,) = log.objects()
        assert entry["level"] == "critical"
        text = entry["message"]
    else:
        text = log.file.getvalue()
        assert all(line.startswith("    ") for line in log.lines()[1:])
    assert "the node must stop\n" in text
    assert "ValueError: slot 7 is gone" in text


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    log = Log()
    log.log.warn("peer said {text}", text="\x1b[2Jbye\r\x07\x9b\nforged line")
    assert log.lines() == [
        r"2027-01-15T08:00:00.000Z node 1 warn  peer said \x1b[2Jbye\x0d\x07\x9b",
        "    forged line",
    ]


def test_long_text_is_cut() -> None:
    log = Log()
    log.log.warn("{text}", text="x" * (LOG_TEXT_CHARACTERS_MAX + 5))
    assert log.lines()[0].endswith("xxx … (5 more characters)")


@pytest.mark.parametrize("as_json", [False, True], ids=["lines", "JSON"])
@given(text=st.text(), value=st.text() | st.integers() | st.floats() | st.none() | st.binary())
def test_any_event_is_one_entry(as_json: bool, text: str, value: object) -> None:
    log = Log(as_json=as_json)
    log.log.info("{text} {value}", text=text, value=value, other=value)
    log.log.info(text)
    heads = log.objects() if as_json else [line for line in log.file.getvalue().split("\n") if re.match("20", line)]
    assert len(heads) == 2


def flood(log: Log, count: int, say: Callable[[int], None]) -> None:
    for number in range(count):
        say(number)


def test_repeated_message_is_counted_beyond_a_burst() -> None:
    log = Log()
    flood(log, 1000, lambda number: log.log.warn("frame {number} from a stranger is broken", number=number))
    assert len(log.lines()) == BURST
    log.now += WINDOW_S
    log.log.info("all is well")
    assert log.lines()[BURST:] == [
        "2027-01-15T08:00:00.000Z node 1 warn  990 more like this in 10 s; "
        "the last was: frame 999 from a stranger is broken",
        "2027-01-15T08:00:10.000Z node 1 info  all is well",
    ]
    log.log.warn("frame {number} from a stranger is broken", number=1000)
    assert log.lines()[-1].endswith("frame 1000 from a stranger is broken")


def test_messages_of_other_kinds_are_not_held_back_with_it() -> None:
    log = Log()
    flood(log, 1000, lambda number: log.log.warn("frame {number} is broken", number=number))
    log.log.warn("peer 2 is gone")
    log.log.error("frame {number} is broken", number=1)
    assert len(log.lines()) == BURST + 2


def test_critical_messages_are_never_held_back() -> None:
    log = Log()
    flood(log, 3 * BURST, lambda number: log.log.critical("the disk failed"))
    assert len(log.lines()) == 3 * BURST


def test_messages_that_are_all_different_take_bounded_memory() -> None:
    log = Log()
    flood(log, LOG_KEYS_MAX + 500, lambda number: log.log.info(f"message {number}"))
    limit = log.observer
    assert isinstance(limit, RateLimit)
    assert len(limit.repeats) == LOG_KEYS_MAX
    assert len(log.lines()) == LOG_KEYS_MAX + 500


def test_reader_that_is_gone_stops_nothing() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    broken = observer(1, file=Broken())
    Logger(namespace="x", observer=broken).info("nobody hears this")
    closed = io.StringIO()
    closed.close()
    Logger(namespace="x", observer=observer(1, file=closed)).info("nor this")


def test_log_without_a_node_names_none() -> None:
    log = Log(node=None)
    log.log.info("hello")
    assert log.lines() == ["2027-01-15T08:00:00.000Z info  hello"]
