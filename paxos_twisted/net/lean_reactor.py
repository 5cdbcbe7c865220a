"""Twisted's epoll reactor with a shorter way from a ready socket to `dataReceived`, and with an end of the turn.

A node at one command at a time is woken a dozen times for it, so what the reactor does per turn is most of what the
command costs. Stock Twisted sets up a logging context around each event, makes a timer object for "at the end of this
turn", and writes into its own pipe for each call from a thread. This reactor leaves these three out and inherits the
rest: timers, signals, half-close, resolver, ordering of events, and what happens to a protocol that raises.

Everything also runs on stock reactors: `paxosnode --stock`, or any reactor that twistd is told to use.
"""

import errno
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger

_IN: Final = 1
"""EPOLLIN of epoll(7), alone: there is something to read, and nothing else to say."""

_log = Logger()


class LeanReactor(EPollReactor):
    """An `EPollReactor`. `at_end_of_turn` is its only new method."""

    def __init__(self) -> None:
        self._ends: list[Callable[[], object]] = []
        self._is_asleep = False  # waiting in epoll, or about to
        super().__init__()  # type: ignore[no-untyped-call]

    def at_end_of_turn(self, call: Callable[[], object]) -> None:
        """Call once, when every socket that was ready has been read and every timer and thread has been served."""
        self._ends.append(call)

    def callFromThread(self, f: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """As the stock method, without a write into the waker's pipe while the reactor is awake anyway.

        No call is forgotten: 1. The thread appends, then looks whether the reactor is asleep. 2. The reactor says that
        it is asleep, then looks whether something was appended. Whichever comes first, one of the two sees the other.
        """
        self.threadCallQueue.append((f, args, kwargs))
        if self._is_asleep:
            self.wakeUp()

    def doPoll(self, timeout: float | None) -> None:
        """End the turn, then wait for the next one's events and read."""
        if self._ends:
            timeout = self._end_turn(timeout)
        self._is_asleep = True
        if self.threadCallQueue or self._ends:
            timeout = 0
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        finally:
            self._is_asleep = False
        find = self._selectables.get
        for fd, event in events:
            selectable = find(fd)
            if selectable is None:
                continue  # closed by what another event has led to
            if event != _IN:
                self._doReadOrWrite(selectable, fd, event)  # type: ignore[no-untyped-call]
                continue
            try:
                why = selectable.doRead()
            except BaseException as raised:  # as stock Twisted: it is logged, and ends this connection alone
                _log.failure("reading from {selectable} failed", selectable=selectable)
                why = raised
            if why:
                self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]

    doIteration = doPoll

    def _end_turn(self, timeout: float | None) -> float | None:
        ends, self._ends = self._ends, []
        for end in ends:
            try:
                end()
            except Exception:
                _log.failure("{end} failed", end=end)
        until_timer = self.timeout()  # it may have set timers
        return until_timer if timeout is None or (until_timer is not None and until_timer < timeout) else timeout


def install() -> None:
    """Make it the reactor of this process, which must not have one."""
    installReactor(LeanReactor())  # type: ignore[no-untyped-call]
