"""Our reactor keeps the promises of Twisted's, and ends its turns where it says. (All of tests/net runs on it, too.)"""

import socket
import threading
from collections.abc import Callable

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher

from paxos_twisted.net.lean_reactor import LeanReactor

pytestmark = pytest.mark.integration

Pump = Callable[[Callable[[], object]], None]


class Notes(Protocol):
    """Notes what it reads; raises at "x"."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def dataReceived(self, data: bytes) -> None:
        self.notes.append(data.decode())
        if data == b"x":
            raise ValueError("not this")

    def connectionLost(self, reason: object = None) -> None:
        self.notes.append("lost")


def connections(reactor: LeanReactor, count: int, notes: list[str]) -> list[socket.socket]:
    factory = Factory.forProtocol(lambda: Notes(notes))
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    made = [socket.create_connection(("127.0.0.1", port.getHost().port)) for _ in range(count)]
    while len(reactor.getReaders()) < count + 2:  # the port and the waker
        reactor.iterate(0.01)
    port.stopListening()
    reactor.iterate(0)
    return made


def test_the_turn_ends_once_after_everything_that_was_ready(reactor: LeanReactor, pump: Pump) -> None:
    notes: list[str] = []
    sockets = connections(reactor, 3, notes)
    ends: list[int] = []
    for sock in sockets:
        sock.sendall(b"a")
    while "a" not in notes:
        reactor.iterate(0.01)
    reactor.callLater(0, reactor.at_end_of_turn, lambda: ends.append(len(notes)))
    reactor.iterate(0)  # timers, end of the turn, then the sockets
    assert ends == [3]
    notes.clear()
    for sock in sockets:
        sock.close()
    pump(lambda: notes == ["lost"] * 3)


def test_what_the_end_of_a_turn_asks_for_comes_at_the_end_of_the_next(reactor: LeanReactor) -> None:
    calls: list[int] = []
    reactor.at_end_of_turn(lambda: (calls.append(1), reactor.at_end_of_turn(lambda: calls.append(2))))
    reactor.iterate(5.0)  # does not wait: there is an end to come
    assert calls == [1]
    reactor.iterate(0)
    assert calls == [1, 2]


def test_an_end_that_raises_is_logged_and_the_others_come(reactor: LeanReactor) -> None:
    calls: list[int] = []
    logged: list[object] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        reactor.at_end_of_turn(lambda: 1 / 0)
        reactor.at_end_of_turn(lambda: calls.append(1))
        reactor.iterate(0)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert calls == [1]
    assert logged


def test_a_timer_that_the_end_of_a_turn_sets_is_not_overslept(reactor: LeanReactor) -> None:
    calls: list[int] = []
    reactor.at_end_of_turn(lambda: reactor.callLater(0.01, calls.append, 1))
    reactor.iterate(30.0)
    reactor.iterate(0)
    assert calls == [1]


def test_no_call_of_a_thread_is_forgotten_whether_the_reactor_sleeps_or_not(reactor: LeanReactor, pump: Pump) -> None:
    calls: list[int] = []
    count = 20_000
    reactor.iterate(0)

    def call_often() -> None:
        for number in range(count):
            reactor.callFromThread(calls.append, number)

    thread = threading.Thread(target=call_often)
    thread.start()
    while True:
        reactor.runUntilCurrent()
        if len(calls) == count:
            break
        reactor.doIteration(20.0)  # nothing but these calls can wake it
    thread.join()
    assert calls == list(range(count))


def test_a_protocol_that_raises_loses_its_connection_and_no_other(reactor: LeanReactor, pump: Pump) -> None:
    notes: list[str] = []
    bad, good = connections(reactor, 2, notes)
    logged: list[object] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        bad.sendall(b"x")
        pump(lambda: notes == ["x", "lost"])
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert logged
    good.sendall(b"a")
    pump(lambda: notes == ["x", "lost", "a"])
    good.close()
    pump(lambda: notes == ["x", "lost", "a", "lost"])
    bad.close()
