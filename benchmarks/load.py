"""A closed-loop load generator that costs as little as Python allows: one process, epoll, requests encoded by hand.

Each connection keeps a fixed number of requests outstanding; each answer releases the next request. Answers are counted
and timed; their bodies are not decoded, beyond checking that they are answers. The loop is the same for every system
that is measured; what differs is the `Session`, which knows the bytes.
"""

import contextlib
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from benchmarks.sample import Sample

REQUEST_TIMEOUT_S = 30.0
CONNECT_AT_ONCE = 32
"""Fewer than the shortest queue of connections not yet accepted (ZooKeeper's holds 50)."""

FAREWELL_S = 1.0

KEYS = 1001
"""Accounts, or keys, over which the requests go round."""


class LoadError(Exception):
    """The node did not answer, or answered something else than that it did what was asked."""


class Moved(LoadError):
    """The node names another one that can answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(f"the leader is at {address[0]}:{address[1]}")
        self.address = address


class Session(ABC):
    """One connection and its outstanding requests. Made: dialled and introduced; after `greet`: of use."""

    __slots__ = ("owed", "socket")

    def __init__(self, address: tuple[str, int], timeout_s: float) -> None:
        self.socket = socket.create_connection(address, timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.owed = b""
        """What the protocol wants said besides requests; `run_load` sends and clears it."""

    @abstractmethod
    def greet(self) -> None:
        """Wait until the node has taken the introduction.

        Raises:
            LoadError: it has not.
            OSError: the connection failed, or it took longer than the timeout.
        """

    @abstractmethod
    def requests(self, count: int, now: float) -> bytes:
        """The next `count` requests, sent at `now`."""

    @abstractmethod
    def take(self, data: bytes, now: float, rtts: list[float]) -> int:
        """Take what has arrived; add the round-trip time of each answer to `rtts`; return how many there were.

        Raises:
            LoadError: an answer says that the request was not done.
        """

    def farewell(self) -> bytes:
        """What is to be said before the connection is closed."""
        return b""

    def close(self) -> None:
        """Close the connection without a word."""
        self.socket.close()

    def receive(self) -> bytes:
        """Some bytes, at least one. For handshakes.

        Raises:
            LoadError: the node has closed the connection.
            OSError: the connection failed.
        """
        data = self.socket.recv(65536)
        if not data:
            raise LoadError("the node closed the connection")
        return data


Dial = Callable[[], Session]


def connect(dial: Dial, count: int) -> list[Session]:
    """Open connections, some at once so that handshakes which cost a decision do not take one after the other.

    Raises:
        LoadError, OSError: one could not be opened.
    """
    sessions: list[Session] = []
    while len(sessions) < count:
        fresh = [dial() for _ in range(min(CONNECT_AT_ONCE, count - len(sessions)))]
        for session in fresh:
            session.greet()
        sessions += fresh
    return sessions


def disconnect(sessions: Sequence[Session]) -> None:
    """Say farewell where the protocol has one, wait until it is heard, and close."""
    speaking = []
    for session in sessions:
        words = session.farewell()
        # A node that does not hear us notices that we are gone.
        with contextlib.suppress(OSError):
            session.socket.settimeout(FAREWELL_S)
            session.socket.sendall(words)
            if words:
                speaking.append(session)
    for session in speaking:
        with contextlib.suppress(OSError):
            while session.socket.recv(65536):
                pass
    for session in sessions:
        session.close()


def run_load(
    dial: Dial,
    connections: int,
    outstanding: int,
    seconds: float,
    at_start: Callable[[], None] | None = None,
    at_end: Callable[[], None] | None = None,
) -> Sample:
    """Load one node (the leader) for about `seconds`; returns when every request is answered.

    Args:
        dial: opens a connection to it.
        at_start: called when all connections stand, just before the first request.
        at_end: called after the last answer, before the connections are closed.

    Raises:
        LoadError: a request was not answered in time, or not with success.
        OSError: a connection failed.
    """
    sessions = connect(dial, connections)
    try:
        if at_start is not None:
            at_start()
        sample = _run(sessions, outstanding, seconds)
        if at_end is not None:
            at_end()
    finally:
        disconnect(sessions)
    return sample


def _run(sessions: Sequence[Session], outstanding: int, seconds: float) -> Sample:
    by_fd = {session.socket.fileno(): session for session in sessions}
    rtts: list[float] = []
    open_requests = len(sessions) * outstanding
    with select.epoll() as poll:
        for fd, session in by_fd.items():
            session.socket.setblocking(False)
            poll.register(fd, select.EPOLLIN)
        start = time.perf_counter()
        deadline = start + seconds
        for session in sessions:
            _send(session.socket, session.requests(outstanding, time.perf_counter()))
        while open_requests:
            events = poll.poll(REQUEST_TIMEOUT_S)
            if not events:
                raise LoadError(f"no answer for {REQUEST_TIMEOUT_S:g} s, {open_requests} requests are open")
            now = time.perf_counter()
            for fd, _ in events:
                session = by_fd[fd]
                chunk = session.socket.recv(262144)
                if not chunk:
                    raise LoadError(f"the node closed a connection, {open_requests} requests are open")
                answered = session.take(chunk, now, rtts)
                data = session.owed
                if data:
                    session.owed = b""
                open_requests -= answered
                if now < deadline and answered:
                    data += session.requests(answered, now)
                    open_requests += answered
                if data:
                    _send(session.socket, data)
        return Sample(len(rtts), time.perf_counter() - start, rtts)


def _send(to: socket.socket, data: bytes) -> None:
    try:
        sent = to.send(data)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        to.settimeout(REQUEST_TIMEOUT_S)
        to.sendall(data[sent:])
        to.setblocking(False)
