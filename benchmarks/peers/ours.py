"""Paxos-Twisted itself: the bank, in the way an operator would start it."""

import itertools
import platform
import secrets
import shlex
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import twisted

from benchmarks.load import KEYS, LoadError, Moved, Session, run_load
from benchmarks.peers.system import TIMEOUT_S, Address, PeerError, WireSystem
from benchmarks.sample import Sample
from paxos_twisted import __version__
from paxos_twisted.apps.bank import DEPOSIT, BankOp
from paxos_twisted.apps.kv import Put
from paxos_twisted.cluster.local import ClusterError, LocalCluster
from paxos_twisted.core.command import Command, Series
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.frames import frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome, Rejected

ANSWER_TAG, REDIRECT_TAG, ANSWERS_TAG = 2, 4, 12
CLUSTER = "bench"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_greeting = msgspec.msgpack.Decoder(ClientWelcome | Rejected)


class BankSession(Session):
    """One client session on one connection: deposits of 1, over the accounts in turn."""

    application = "bank"

    __slots__ = ("_birth", "_client", "_first", "_rest", "_sent_at", "_seq")

    def __init__(self, address: Address, timeout_s: float, cluster: str, first: int) -> None:
        super().__init__(address, timeout_s)
        self._client = ClientId(secrets.randbits(62))  # unique for ever
        self._birth = 0
        self._first = first
        self._seq = 0
        self._rest = b""
        self._sent_at: dict[int, float] = {}
        hello = ClientHello(PROTOCOL_VERSION, cluster, self.application, self._client)
        self.socket.sendall(frame(_encode(hello)))

    def greet(self) -> None:
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack_from(">I", data)[0]:
            data += self.receive()
        (length,) = struct.unpack_from(">I", data)
        greeting = _greeting.decode(data[4 : 4 + length])
        if isinstance(greeting, Rejected):
            raise LoadError(f"the node rejects the handshake: {greeting.text}")
        self._birth = greeting.applied
        self._rest = data[4 + length :]  # a redirect, when it does not lead

    def requests(self, count: int, now: float) -> bytes:
        parts: list[bytes] = []
        for _ in range(count):
            self._seq = seq = self._seq + 1
            self._sent_at[seq] = now
            op = self.operation((self._first + seq) % KEYS)
            # All below the oldest one outstanding are answered.
            parts.append(frame(_encode(Command(self._client, self._birth, seq, next(iter(self._sent_at)), op))))
        return b"".join(parts)

    def operation(self, key: int) -> Any:
        """A write to account or key number `key`."""
        return BankOp(DEPOSIT, key, 1)

    def take(self, data: bytes, now: float, rtts: list[float]) -> int:
        if self._rest:
            data = self._rest + data
        start, end, answered = 0, len(data), 0
        while end - start >= 4:
            (length,) = struct.unpack_from(">I", data, start)
            stop = start + 4 + length
            if stop > end:
                break
            reply = _decode(data[start + 4 : stop])
            if reply[0] == REDIRECT_TAG:
                host, _, port = reply[4].rpartition(":")
                raise Moved((host, int(port)))
            if reply[0] not in (ANSWER_TAG, ANSWERS_TAG):
                raise LoadError(f"expected an answer, got {str(reply)[:200]}")
            rtts.append(self.answered(reply, now))
            answered += 1
            start = stop
        self._rest = data[start:]
        return answered

    def answered(self, reply: Any, now: float) -> float:
        """Take an answer; return the request's round-trip time."""
        return now - self._sent_at.pop(reply[2])


class KvSession(BankSession):
    """The same with the key-value store: values of a chosen size."""

    __slots__ = ("_value",)
    application = "kv"

    def __init__(self, address: Address, timeout_s: float, cluster: str, first: int, value_bytes: int) -> None:
        super().__init__(address, timeout_s, cluster, first)
        self._value = bytes(value_bytes)

    def operation(self, key: int) -> Put:
        return Put(f"k{key}", self._value)


class SeriesSession(BankSession):
    """A client session that sends series: one request, many deposits. `outstanding` requests come from as many sessions
    that share the connection, because a session has one series under way."""

    __slots__ = ("_at", "_body", "_length", "_sessions")

    def __init__(self, address: Address, timeout_s: float, cluster: str, first: int, length: int) -> None:
        super().__init__(address, timeout_s, cluster, first)
        self._length = length
        # The same operations each time: what a client spends on making them up is not ours to measure.
        self._body = tuple(BankOp(DEPOSIT, (first + number) % KEYS, 1) for number in range(length))
        self._sessions: dict[int, tuple[int, float]] = {}
        self._at: list[int] = []

    def requests(self, count: int, now: float) -> bytes:
        parts: list[bytes] = []
        for _ in range(count):
            client = self._at.pop() if self._at else secrets.randbits(62)
            seq = self._sessions.get(client, (0, 0.0))[0] + 1
            self._sessions[client] = seq, now
            parts.append(frame(_encode(Series(ClientId(client), self._birth, seq, seq, self._body))))
        return b"".join(parts)

    def answered(self, reply: Any, now: float) -> float:
        results = reply[3]
        if len(results) != self._length or results[-1][2] is not None:
            raise LoadError(f"a series of {self._length} deposits was answered with {len(results)} results")
        self._at.append(reply[1])
        return now - self._sessions[reply[1]][1]


class Ours(WireSystem):
    """Our nodes with the default profile: all metrics, all checks, every node applies."""

    name = "ours"
    title = "Paxos-Twisted"
    has_values = False
    has_batches = True
    application = "bank"

    def __init__(self, nodes: int = 3) -> None:
        super().__init__(nodes)
        self._cluster: LocalCluster | None = None

    @classmethod
    def missing(cls) -> str | None:
        return None

    def version(self) -> str:
        return (
            f"{__version__}, Python {platform.python_version()}, Twisted {twisted.__version__}, "
            f"SQLite {sqlite3.sqlite_version}"
        )

    def settings(self) -> list[str]:
        return [
            "all defaults: SQLite WAL with synchronous=FULL on every node, synced before it is spoken of",
            "deposits into the bank, about 30 bytes each",
        ]

    def command(self) -> str:
        process = self.cluster.process(NodeId(1))
        if process is None:
            return ""
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        return shlex.join(arguments)

    @property
    def cluster(self) -> LocalCluster:
        """The cluster that runs."""
        assert self._cluster is not None, "start it first"
        return self._cluster

    def start(self, directory: Path) -> None:
        try:
            self._cluster = LocalCluster.create(
                directory, f=self.nodes // 2, name=CLUSTER, application=self.application
            )
            self._cluster.start()
            self._cluster.wait_ready()
        except ClusterError as error:
            raise PeerError(str(error)) from error

    def stop(self) -> None:
        if self._cluster is not None:
            self._cluster.kill_all()
            self._cluster = None

    def restart(self, node: int) -> None:
        try:
            self.cluster.start(NodeId(node))
            self.cluster.wait_ready()
        except ClusterError as error:
            raise PeerError(str(error)) from error

    def leader(self) -> int:
        try:
            return self.cluster.leader()
        except ClusterError as error:
            raise PeerError(str(error)) from error

    def kill(self, node: int) -> None:
        self.cluster.kill(NodeId(node))

    def pids(self) -> list[int]:
        processes = [self.cluster.process(node) for node in self.cluster.alive()]
        return [process.pid for process in processes if process is not None]

    def addresses(self) -> dict[int, Address]:
        return {int(node.id): (node.address.host, node.address.port) for node in self.cluster.config.nodes}

    def dial(self, address: Address, timeout_s: float, value_bytes: int, first: int) -> BankSession:
        return BankSession(address, timeout_s, CLUSTER, first)

    def load_batches(
        self,
        connections: int,
        outstanding: int,
        batch: int,
        seconds: float,
        at_start: Callable[[], None],
        at_end: Callable[[], None],
    ) -> Sample:
        address = self.addresses()[self.leader()]
        firsts = itertools.count(1, 7919)
        return run_load(
            lambda: SeriesSession(address, TIMEOUT_S, CLUSTER, next(firsts), batch),
            connections,
            outstanding,
            seconds,
            at_start,
            at_end,
        )


class OursKv(Ours):
    """The same nodes with the key-value store."""

    name = "ours-kv"
    title = "Paxos-Twisted (kv)"
    has_values = True
    has_batches = False
    application = "kv"

    def settings(self) -> list[str]:
        return [super().settings()[0], "puts into the key-value store, values as the others have them"]

    def dial(self, address: Address, timeout_s: float, value_bytes: int, first: int) -> KvSession:
        return KvSession(address, timeout_s, CLUSTER, first, value_bytes)
