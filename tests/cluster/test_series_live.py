"""A series is one request also when a node is killed while it is under way: applied once, answered whole."""

import contextlib
import json
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cluster_tools import succeed

from paxos_twisted.apps.bank import DEPOSIT, TRANSFER, BankOp, BankResult
from paxos_twisted.cluster.local import ClusterError, LocalCluster
from paxos_twisted.core.command import Series
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.client import Answers, NoLeader, Redirect, Refused, Unknown
from paxos_twisted.wire.frames import frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome

pytestmark = pytest.mark.integration

WAIT_S = 60.0
PAIRS = 4095
"""Of a deposit and a transfer: together as long as a series may be."""

_frame: Any = msgspec.msgpack.Decoder(
    Answers[BankResult] | Refused | NoLeader | Redirect | Unknown | ClientWelcome
).decode


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster.create(tmp_path / "cluster", name="series") as made:
        made.start()
        made.wait_ready(timeout_s=WAIT_S)
        yield made


class Connection:
    """To one node, blocking."""

    def __init__(self, cluster: LocalCluster, node: int, client: ClientId) -> None:
        address = cluster.config.node(node).address
        self.socket = socket.create_connection((address.host, address.port), timeout=WAIT_S)
        hello = ClientHello(PROTOCOL_VERSION, cluster.config.shared.cluster, "bank", client)
        self.socket.sendall(frame(msgspec.msgpack.encode(hello)))
        assert isinstance(self.next(), ClientWelcome)

    def next(self) -> Any:
        (length,) = struct.unpack(">I", self._read(4))
        return _frame(self._read(length))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data)) or self._lost()
        return data

    def _lost(self) -> bytes:
        raise ConnectionResetError


def answer_to(cluster: LocalCluster, request: bytes, client: ClientId, seq: int) -> list[BankResult]:
    """Repeat a request, wherever it has to go, until it is answered."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ClusterError):
            connection = Connection(cluster, cluster.leader(), client)
            try:
                connection.socket.sendall(request)
                while True:
                    match connection.next():
                        case Answers(seq=answered, result=result) if answered == seq:
                            return list(result)
                        case Answers():
                            pass  # an older one: the new leader decides again what the old one had left open
                        case reply:
                            assert not isinstance(reply, Refused) or reply.reason == "overloaded", reply
                            break
            finally:
                connection.socket.close()
        time.sleep(0.01)
    raise AssertionError("no answer")


def test_a_leader_that_is_killed_amid_a_series_leaves_all_of_it_or_nothing(cluster: LocalCluster) -> None:
    client = ClientId(secrets.randbits(62))
    ops = (BankOp(DEPOSIT, 1, 2), BankOp(TRANSFER, 1, 1, 2)) * PAIRS
    for seq in range(1, 6):
        request = frame(msgspec.msgpack.encode(Series(client, -1, seq, seq, ops)))
        leader = cluster.leader()
        connection = Connection(cluster, leader, client)
        connection.socket.sendall(request)
        time.sleep(0.004 * seq)  # some rounds kill it before it has read, some while it decides, some when it answers
        cluster.kill(leader)
        connection.socket.close()
        results = answer_to(cluster, request, client, seq)
        done = (seq - 1) * PAIRS
        assert [result.balance for result in results[::2]] == [done + 2 + number for number in range(PAIRS)]
        assert [result.to_balance for result in results[1::2]] == [done + 1 + number for number in range(PAIRS)]
        assert answer_to(cluster, request, client, seq) == results
        cluster.start(leader)
        cluster.wait_ready(timeout_s=WAIT_S)


@pytest.mark.parametrize("engine", ["epaxos", "primary-backup"])
def test_batches_of_a_bench_survive_a_kill_on_every_engine(engine: str, tmp_path: Path) -> None:
    """The node at which all clients are is killed; they repeat what they do not know, and each batch counts once."""
    history = tmp_path / "history.jsonl"
    with LocalCluster.create(tmp_path / "cluster", engine=engine, name="batches") as cluster:
        cluster.start()
        cluster.wait_ready(timeout_s=WAIT_S)
        client = ("bankclient", "--config", cluster.config_path, "--output", "json")
        first = cluster.leader() if engine == "primary-backup" else NodeId(1)
        kill = f"kill -9 {cluster.apis[first].status().pid}"
        load = ("-n", 60, "--clients", 3, "--batch", 50, "--rate", 90)  # two seconds: time enough for a kill
        end = ("--history", history, "--at", 60, "--run", kill)
        clients = json.loads(succeed(*client, "--bench", *load, *end))["clients"]
        assert [one["answered"] for one in clients] == [60, 60, 60]
        assert any(one["reconnects"]["closed"] for one in clients)
        assert cluster.state(first) != "running"
        cluster.start(first)
        cluster.wait_ready(timeout_s=WAIT_S)
        verdict = json.loads(succeed("paxosctl", "--config", cluster.config_path, "verify", "--output", "json"))
        assert verdict["verdict"] == "ok"
    assert "answered    9000\n" in succeed("paxosctl", "check-history", history)
