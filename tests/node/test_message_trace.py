"""The message trace: what one line says, and that nothing of it is held back."""

import io

from twisted.logger import LogPublisher

from paxos_twisted.core.epaxos.messages import Commit, PreAccept
from paxos_twisted.core.multipaxos.messages import Accept
from paxos_twisted.node import logs, message_trace
from paxos_twisted.node.message_trace import MessageTrace, describe

PRE_ACCEPT = PreAccept(1, 0, 4, (3, -1, 7), 2, b"abc", 1)


def test_kinds_say_what_and_which_instance() -> None:
    assert describe(PRE_ACCEPT, False) == "PreAccept 0.4"
    assert describe(Accept(1, 7, 1001, b"xy", 2), False) == "Accept slot 7"


def test_attributes_say_dependencies_and_seq_but_not_the_commands() -> None:
    assert describe(PRE_ACCEPT, True) == "PreAccept 0.4 deps (3, -1, 7) seq 2 body 3 bytes (1 command)"
    assert describe(Commit(1, 0, 4, (3, 0, 7), 3), True) == "Commit 0.4 deps (3, 0, 7) seq 3 (1 command)"
    assert describe(Accept(1, 7, 1001, b"xy", 2), True).startswith("Accept slot 7 rnd 1001 values 2 bytes")


def test_a_thousand_equal_lines_are_all_written() -> None:
    file = io.StringIO()
    publisher = LogPublisher(logs.observer(1, file=file))
    trace = MessageTrace("kinds")
    old, message_trace.log.observer = message_trace.log.observer, publisher
    try:
        for _ in range(1000):
            trace.sent((2, 3), PRE_ACCEPT)
        trace.received(2, PRE_ACCEPT)
    finally:
        message_trace.log.observer = old
    lines = file.getvalue().splitlines()
    assert len(lines) == 1001
    assert lines[0].endswith("info  to 2, 3: PreAccept 0.4")
    assert lines[-1].endswith("info  from 2: PreAccept 0.4")
