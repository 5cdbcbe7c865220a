"""Whole nodes in one process, on real sockets and real disks: they start, serve, stop, restart and fail as promised."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from net_support import Pump, client_hello, encode
from twisted.internet.epollreactor import EPollReactor

from paxos_twisted.apps.bank import BALANCE, DEPOSIT, BankOp, BankResult
from paxos_twisted.core.command import Command
from paxos_twisted.core.engine import DiskState
from paxos_twisted.net.faults import FaultError
from paxos_twisted.node.config import Config, parse
from paxos_twisted.node.http import Refusal
from paxos_twisted.node.orders import Orders
from paxos_twisted.node.process import use_monotonic_time
from paxos_twisted.node.service import NodeService, make_node
from paxos_twisted.storage.errors import StoreNotEmpty
from paxos_twisted.types import NO_NODE, ClientId
from paxos_twisted.wire.client import Answer, NoLeader, ProtocolError, Redirect, Refused, Unknown
from paxos_twisted.wire.frames import FrameReader, frame
from paxos_twisted.wire.handshake import ClientWelcome, Rejected

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"

_frame = msgspec.msgpack.Decoder(
    ClientWelcome | Rejected | Answer | Refused | Redirect | NoLeader | Unknown | ProtocolError
)


def configuration(folder: Path, count: int = 3) -> Config:
    servers = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    lines = ["cluster: demo", "engine: multipaxos", "application: bank", "nodes:"]
    lines += [f"  - {{id: {i}, address: '{HOST}:{port}', data_dir: data-{i}}}" for i, port in enumerate(ports, 1)]
    return parse("\n".join(lines) + "\n", str(folder / "cluster.yml"))


class Cluster:
    """Three nodes on one reactor."""

    def __init__(self, reactor: EPollReactor, pump: Pump, folder: Path) -> None:
        self.reactor = reactor
        self.pump = pump
        self.config = configuration(folder)
        self.nodes: dict[int, NodeService] = {}
        self.failures: dict[int, str] = {}
        self.clients: list[Client] = []

    def make(self, node: int, first_start: bool = False, direct: bool = True) -> NodeService:
        self.failures.pop(node, None)
        made = make_node(
            self.config, node, self.reactor, first_start=first_start, direct=direct, tune=False, environ={},
            on_failure=lambda reason: self.failures.update({node: reason}),
        )  # fmt: skip
        self.nodes[node] = made
        return made

    def start(self, *nodes: int, first_start: bool = False, direct: bool = True) -> None:
        for node in nodes:
            self.make(node, first_start, direct).startService()

    def stop(self, *nodes: int) -> None:
        ends: list[object] = []
        for node in nodes:
            self.nodes.pop(node).stopService().addBoth(ends.append)
        self.pump(lambda: len(ends) == len(nodes))
        assert ends == [None] * len(nodes)

    def until_ready(self) -> None:
        """All agree on a leader, and all are linked to all who run."""
        self.pump(
            lambda: (
                self.leader
                and all(node.ready() is None for node in self.nodes.values())
                and all(
                    link.is_up
                    for node in self.nodes.values()
                    for peer, link in (node.parts.links.links if node.parts else {}).items()
                    if peer in self.nodes
                )
            )
        )

    @property
    def leader(self) -> int:
        """The node that all agree on, or 0."""
        leaders = {node.parts.driver.leader if node.parts else NO_NODE for node in self.nodes.values()}
        return leaders.pop() if len(leaders) == 1 and NO_NODE not in leaders else 0


@pytest.fixture
def cluster(reactor: EPollReactor, pump: Pump, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(reactor, pump, tmp_path)
    yield made
    for client in made.clients:
        client.close()
    made.stop(*made.nodes)


class Client:
    """A client with one connection."""

    def __init__(self, cluster: Cluster, node: int, client: int = 7) -> None:
        self.cluster = cluster
        self.client = client
        cluster.clients.append(self)
        self.frames: list[Any] = []
        self.reader = FrameReader(1 << 24)
        address = cluster.config.node(node).address
        self.sock = socket.create_connection((address.host, address.port))
        self.sock.sendall(frame(encode(client_hello(client=client))))
        self.sock.setblocking(False)

    def deposit(self, seq: int, amount: int = 10) -> None:
        self._send(seq, BankOp(DEPOSIT, 3, amount))

    def balance(self, seq: int) -> None:
        self._send(seq, BankOp(BALANCE, 3))

    def _send(self, seq: int, op: BankOp) -> None:
        self.sock.sendall(frame(encode(Command(ClientId(self.client), -1, seq, seq, op))))

    def next(self) -> Any:
        """Wait for the next frame. None: the node has closed the connection."""
        is_closed = False

        def is_there() -> bool:
            nonlocal is_closed
            if not self.frames and not is_closed:
                try:
                    data = self.sock.recv(1 << 16)
                except BlockingIOError:
                    return False
                except ConnectionResetError:
                    data = b""
                is_closed = not data
                self.frames.extend(map(_frame.decode, self.reader.feed(data)))
            return bool(self.frames or is_closed)

        self.cluster.pump(is_there)
        return self.frames.pop(0) if self.frames else None

    def result(self) -> BankResult:
        """Wait for the answer."""
        answer = self.next()
        assert isinstance(answer, Answer), answer
        return msgspec.convert(answer.result, BankResult)

    def close(self) -> None:
        self.sock.close()


def test_a_cluster_serves_survives_a_stop_and_keeps_its_money(cluster: Cluster, direct: bool) -> None:
    cluster.start(1, 2, 3, first_start=True, direct=direct)
    cluster.until_ready()
    leader = cluster.leader
    client = Client(cluster, leader)
    assert isinstance(client.next(), ClientWelcome)
    for seq in range(1, 101):
        client.deposit(seq)
    assert [client.result().balance for _ in range(100)] == [10 * seq for seq in range(1, 101)]
    client.close()

    cluster.stop(leader)
    cluster.until_ready()
    assert cluster.leader not in (0, leader)
    client = Client(cluster, cluster.leader)
    client.next()
    client.deposit(100)  # a repetition: answered as before, done once
    balances = [client.result().balance]
    while balances[-1] < 1000:  # the new leader may have to decide the last runs again, and answers them here then
        balances.append(client.result().balance)
    assert balances[-1] == 1000
    client.balance(101)
    assert client.result().balance == 1000
    client.close()

    cluster.start(leader, direct=direct)
    cluster.until_ready()
    hashes: list[Any] = []

    def are_equal() -> bool:
        hashes.clear()
        for node in cluster.nodes.values():
            assert node.parts is not None
            node.parts.hasher.get().addCallback(hashes.append)
        cluster.pump(lambda: len(hashes) == 3)
        return len(set(hashes)) == 1 and hashes[0].slot >= 100

    cluster.pump(are_equal)
    assert not cluster.failures


def test_a_follower_redirects_on_connecting_and_on_request(cluster: Cluster) -> None:
    cluster.start(1, 2, 3, first_start=True)
    cluster.until_ready()
    follower = next(node for node in cluster.nodes if node != cluster.leader)
    client = Client(cluster, follower)
    assert isinstance(client.next(), ClientWelcome)
    address = cluster.config.addresses[cluster.leader]  # type: ignore[index]
    assert client.next() == Redirect(ClientId(7), 0, cluster.leader, address)  # type: ignore[arg-type]
    client.deposit(1)
    assert client.next() == Redirect(ClientId(7), 1, cluster.leader, address)  # type: ignore[arg-type]
    client.close()


def test_a_node_alone_says_that_there_is_no_leader(cluster: Cluster) -> None:
    cluster.start(1, first_start=True)
    cluster.pump(lambda: cluster.nodes[1].parts)
    client = Client(cluster, 1)
    assert isinstance(client.next(), ClientWelcome)
    assert isinstance(client.next(), NoLeader)
    client.deposit(1)
    assert isinstance(client.next(), NoLeader)
    assert cluster.nodes[1].ready() == "no leader is known"
    client.close()


def test_starting_does_not_block_and_tells_why_it_is_not_ready(cluster: Cluster) -> None:
    cluster.start(1, first_start=True)
    assert cluster.nodes[1].ready() == "the node reads its log"
    assert cluster.nodes[1].port is None
    assert cluster.nodes[1].status()["ready"] is False


def test_a_node_may_be_stopped_while_it_starts(cluster: Cluster) -> None:
    cluster.start(1, first_start=True)
    cluster.stop(1)
    cluster.start(1)
    cluster.pump(lambda: cluster.nodes[1].parts)


def test_a_node_that_was_never_started_can_be_stopped(cluster: Cluster) -> None:
    cluster.make(1, first_start=True)
    cluster.stop(1)


def test_a_first_start_over_data_is_refused(cluster: Cluster) -> None:
    cluster.start(1, first_start=True)
    cluster.stop(1)
    with pytest.raises(StoreNotEmpty):
        cluster.make(1, first_start=True)


def test_a_start_without_data_is_refused(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.pump(lambda: cluster.failures)
    assert "does not exist" in cluster.failures[1]


def test_a_port_in_use_is_named(cluster: Cluster) -> None:
    address = cluster.config.node(1).address
    with socket.create_server((HOST, address.port)):
        cluster.start(1, first_start=True)
        cluster.pump(lambda: cluster.failures)
    assert cluster.failures[1].startswith(f"cannot listen on {address}: ")


def test_a_log_that_cannot_be_applied_stops_the_node_before_it_listens(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paxos_twisted.node.driver.Driver.flush", lambda driver: 1 // 0)
    cluster.start(1, first_start=True)
    cluster.pump(lambda: cluster.failures)
    assert cluster.failures[1].startswith("something is wrong in here: ")
    assert cluster.nodes[1].port is None


def test_a_node_whose_memory_is_lost_is_refused_by_those_who_know_it(cluster: Cluster) -> None:
    cluster.start(1, 2, 3, first_start=True)
    cluster.until_ready()
    victim = next(node for node in cluster.nodes if node != cluster.leader)
    cluster.stop(victim)
    folder = cluster.config.node(victim).data_dir
    folder.rename(folder.with_name("lost"))
    cluster.start(victim, first_start=True)
    cluster.pump(lambda: (cluster.nodes[victim].ready() or "").startswith("no link to node "))
    assert "another data directory than before" in str(cluster.nodes[victim].ready())
    cluster.pump(lambda: all(link.rejection for link in cluster.nodes[victim].parts.links.links.values()))  # type: ignore[union-attr]
    assert cluster.nodes[victim].inputs.driver.engine.leader == NO_NODE
    # They do not talk to it either, whoever dials.
    others = [node.parts.links.links[victim] for number, node in cluster.nodes.items() if number != victim]  # type: ignore[union-attr]
    cluster.pump(lambda: all("another data directory" in link.rejection for link in others))


def break_driver(cluster: Cluster, method: str) -> Callable[..., None]:
    def broken(*arguments: object) -> None:
        raise AssertionError(f"{method} is broken")

    setattr(cluster.nodes[cluster.leader].inputs.driver, method, broken)
    return broken


@pytest.mark.parametrize("method", ["on_message", "on_request", "on_persisted", "on_tick", "on_link", "flush"])
def test_a_driver_that_raises_stops_its_node_and_no_other(cluster: Cluster, method: str) -> None:
    cluster.start(1, 2, 3, first_start=True)
    cluster.until_ready()
    leader = cluster.leader
    client = Client(cluster, leader)
    client.next()
    victim = cluster.nodes[leader]
    driver = victim.inputs.driver
    if method == "on_persisted":  # the store was given this method as it was
        driver.engine.on_persisted = lambda write_no: 1 // 0  # type: ignore[method-assign]
    else:
        break_driver(cluster, method)
    if method == "on_link":
        cluster.stop(next(node for node in cluster.nodes if node != leader))
    elif method != "on_tick":
        client.deposit(1)
    cluster.pump(lambda: leader in cluster.failures)
    assert cluster.failures[leader].startswith("something is wrong in here: ")
    reply = client.next()
    if method == "on_persisted" and reply is not None:  # two other votes decided it before, and that is right
        reply = client.next()
    assert reply is None, "nothing may be said by a node that is wrong"
    assert victim.ready() == cluster.failures[leader]
    assert victim.port is None
    client.close()
    assert set(cluster.failures) == {leader}
    cluster.stop(leader)
    if method != "on_link":
        cluster.until_ready()


def test_a_disk_that_fails_stops_the_node(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.start(1, 2, 3, first_start=True)
    cluster.until_ready()
    leader = cluster.leader

    def fail(transaction: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cluster.nodes[leader].store, "_write", fail)
    client = Client(cluster, leader)
    client.next()
    client.deposit(1)
    cluster.pump(lambda: leader in cluster.failures)
    assert "Input/output error" in cluster.failures[leader]
    assert cluster.nodes[leader].port is None
    client.close()


def test_a_full_disk_is_told_to_the_engine_and_taken_back(cluster: Cluster) -> None:
    cluster.start(1, 2, 3, first_start=True)
    cluster.until_ready()
    leader = cluster.leader
    node = cluster.nodes[leader]
    node._on_full(True)
    cluster.pump(lambda: node.inputs.driver.disk_state is DiskState.FULL)
    cluster.pump(lambda: cluster.leader not in (0, leader))
    node._on_full(False)
    cluster.pump(lambda: node.inputs.driver.disk_state is DiskState.GOOD)


# Orders and status


def orders(cluster: Cluster, node: int) -> Orders:
    return Orders(cluster.nodes[node].inputs, lambda: cluster.nodes[node].parts)


def test_orders_are_obeyed(cluster: Cluster) -> None:
    cluster.start(1, 2, 3, first_start=True)
    cluster.until_ready()
    leader = cluster.leader
    follower = next(node for node in cluster.nodes if node != leader)
    with pytest.raises(Refusal, match=f"node {follower} does not lead; node {leader} does"):
        orders(cluster, follower).handover({})
    assert orders(cluster, leader).handover({}) == {"resigned": leader}
    cluster.pump(lambda: cluster.leader not in (0, leader))

    leader = cluster.leader
    client = Client(cluster, leader)
    client.next()
    client.deposit(1)
    client.result()
    client.close()
    node = cluster.nodes[leader]
    slot = orders(cluster, leader).snapshot({})["slot"]
    cluster.pump(lambda: node.inputs.driver.snapshot and node.inputs.driver.snapshot.slot >= slot)

    with pytest.raises(FaultError, match="there is no node 9"):
        orders(cluster, leader).fault({"rules": ["9->1 loss=1"]})
    with pytest.raises(ValueError, match="takes no 'now'"):
        orders(cluster, leader).snapshot({"now": True})
    isolate = {"seed": 1, "rules": [f"{leader}<->* partition"]}
    assert orders(cluster, leader).fault(isolate) == {"rules": [f"{leader}<->* partition"], "seed": 1}
    others = [other for other in cluster.nodes.values() if other is not node]
    cluster.pump(lambda: all(other.inputs.leader not in (leader, NO_NODE) for other in others))
    orders(cluster, leader).fault({})
    cluster.until_ready()
    assert cluster.leader != leader


def test_status_has_what_tools_read(cluster: Cluster) -> None:
    cluster.start(1, 2, 3, first_start=True)
    cluster.until_ready()
    found: list[dict[str, Any]] = []
    cluster.nodes[1].status().addCallback(found.append)
    cluster.pump(lambda: found)
    (status,) = found
    assert set(status) >= {
        "cluster", "node", "version", "pid", "uptime_s", "engine", "application", "role", "leader", "leader_address",
        "round", "adu", "applied", "promised_round", "ready", "caught_up", "peers", "disk", "snapshot", "log",
        "sessions", "commands", "clients", "leader_changes", "state_hash", "faults", "findings",
    }  # fmt: skip
    assert set(status["peers"]["2"]) >= {"up", "suspected", "rtt_ms", "adu", "dropped"}
    assert status["peers"]["2"]["up"] is True
    assert status["ready"] is True
    assert status["state_hash"]["slot"] == status["applied"]
    assert len(msgspec.json.encode(status)) > 100
    cluster.nodes[1]._refresh()
    assert cluster.nodes[1].metrics.peer_up == {"2": 1, "3": 1}


def test_the_reactor_gets_a_monotonic_clock(reactor: EPollReactor) -> None:
    use_monotonic_time(reactor)
    call = reactor.callLater(1, lambda: None)
    with pytest.raises(AssertionError, match="wall clock"):
        use_monotonic_time(reactor)
    call.cancel()
