"""A closed-loop load generator that costs as little as Python allows: one process, epoll, requests encoded by hand.

Each connection is one client session with a fixed number of requests outstanding; each answer releases the next
request. Answers are counted and timed; their bodies are not decoded, beyond checking that they are answers.
"""

import random
import secrets
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from paxos_twisted.apps.bank import DEPOSIT, BankOp
from paxos_twisted.core.command import Command
from paxos_twisted.types import ClientId
from paxos_twisted.wire.frames import frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello

ANSWER_TAG = 2
REQUEST_TIMEOUT_S = 30.0


class LoadError(Exception):
    """The node did not answer, or answered something else than an Answer."""


class Sample(NamedTuple):
    """One measurement."""

    commands: int
    seconds: float
    rtts_s: list[float]
    """Of every request, in the order of the answers."""

    @property
    def throughput(self) -> float:
        """Commands per second."""
        return self.commands / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """The nearest-rank percentile of the round-trip times, in milliseconds."""
        ranked = sorted(self.rtts_s)
        return ranked[min(int(len(ranked) * percent / 100), len(ranked) - 1)] * 1e3


class _Session:
    """One connection and its outstanding requests."""

    __slots__ = ("acked", "client", "rest", "sent_at", "seq", "socket")

    def __init__(self, address: tuple[str, int], cluster: str) -> None:
        self.client = secrets.randbits(62)  # unique for ever, whatever the seed
        self.seq = 0
        self.acked = 1
        self.rest = b""
        self.sent_at: dict[int, float] = {}
        self.socket = socket.create_connection(address, timeout=REQUEST_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = ClientHello(PROTOCOL_VERSION, cluster, "bank", self.client)
        self.socket.sendall(frame(msgspec.msgpack.encode(hello)))
        greeting = msgspec.msgpack.decode(self._read_frame())
        if greeting[0] != 101:
            raise LoadError(f"the node rejects the handshake: {greeting}")

    def _read_frame(self) -> bytes:
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack_from(">I", data)[0]:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise LoadError("the node closed the connection during the handshake")
            data += chunk
        return data[4:]

    def requests(self, count: int, now: float, account: int) -> bytes:
        """The next `count` requests."""
        parts: list[bytes] = []
        for _ in range(count):
            self.seq += 1
            self.sent_at[self.seq] = now
            low = next(iter(self.sent_at))
            op = BankOp(DEPOSIT, account, 1)
            parts.append(frame(_encode(Command(ClientId(self.client), 0, self.seq, low, op))))
        return b"".join(parts)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def run_load(
    address: tuple[str, int],
    cluster: str,
    connections: int,
    outstanding: int,
    seconds: float,
    seed: int = 1,
    at_start: Callable[[], None] | None = None,
    at_end: Callable[[], None] | None = None,
) -> Sample:
    """Load one node (the leader) for about `seconds`; returns when every request is answered.

    Raises:
        LoadError: a request was not answered with an Answer in time.
    """
    rng = random.Random(seed)
    sessions = [_Session(address, cluster) for _ in range(connections)]
    by_fd = {session.socket.fileno(): session for session in sessions}
    poll = select.epoll()
    for fd, session in by_fd.items():
        session.socket.setblocking(False)
        poll.register(fd, select.EPOLLIN)
    rtts: list[float] = []
    if at_start is not None:
        at_start()
    start = time.perf_counter()
    deadline = start + seconds
    for session in sessions:
        session.socket.send(session.requests(outstanding, start, rng.randrange(1001)))
    open_requests = connections * outstanding
    while open_requests:
        events = poll.poll(REQUEST_TIMEOUT_S)
        if not events:
            raise LoadError(f"no answer for {REQUEST_TIMEOUT_S:g} s, {open_requests} requests are open")
        now = time.perf_counter()
        for fd, _ in events:
            session = by_fd[fd]
            answered = _take_answers(session, now, rtts)
            open_requests -= answered
            if now < deadline and answered:
                data = session.requests(answered, now, session.seq % 1001)
                open_requests += answered
                session.socket.setblocking(True)
                session.socket.sendall(data)
                session.socket.setblocking(False)
    elapsed = time.perf_counter() - start
    if at_end is not None:
        at_end()
    for session in sessions:
        session.socket.close()
    return Sample(len(rtts), elapsed, rtts)


def _take_answers(session: _Session, now: float, rtts: list[float]) -> int:
    data = session.rest + session.socket.recv(262144)
    start, end, answered = 0, len(data), 0
    while end - start >= 4:
        (length,) = struct.unpack_from(">I", data, start)
        stop = start + 4 + length
        if stop > end:
            break
        reply = _decode(data[start + 4 : stop])
        if reply[0] != ANSWER_TAG:
            raise LoadError(f"expected an answer, got {reply}")
        rtts.append(now - session.sent_at.pop(reply[2]))
        answered += 1
        start = stop
    session.rest = data[start:]
    return answered
