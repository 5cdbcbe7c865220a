"""The driver with an instant world: its order of doing things, its replies, its guard, its snapshots."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from paxos_twisted.apps.bank import DEPOSIT, Bank, BankOp, BankResult
from paxos_twisted.core.command import Command, Series
from paxos_twisted.core.engine import DiskState, LinkState
from paxos_twisted.core.events import Event
from paxos_twisted.core.multipaxos import MultiPaxos, Settings, replica
from paxos_twisted.core.multipaxos.messages import Accept, Learn, Promise
from paxos_twisted.core.records import PeerSeen, Record, SnapshotPiece, SnapshotTaken, Truncated, Voted
from paxos_twisted.core.replicated import ReplicatedState
from paxos_twisted.core.transfer import Progress
from paxos_twisted.node.driver import TICK_MS, Driver
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.client import Answer, Answers, NoLeader, Redirect, Refused, Reply, Unknown

MEMBERS = (NodeId(1), NodeId(2), NodeId(3))
CLIENT = ClientId(77)


class World:
    """Disk, network, clients and shell of one node, all remembering what they were asked."""

    def __init__(self, cluster: "Instant", node: NodeId) -> None:
        self.cluster = cluster
        self.node = node
        self.connected: set[int] = {CLIENT}
        self.replies: list[Reply] = []
        self.records: list[Record] = []
        self.pending: list[int] = []
        self.is_stuck = False
        self.is_rotten = False
        self.wants_flush = False
        self.stopped = ""

    def submit(self, write_no: int, records: Sequence[Record]) -> None:
        self.records += records
        self.pending.append(write_no)

    def read_piece(self, slot: int, index: int, then: Callable[[bytes | None], None]) -> None:
        pieces = [r.data for r in self.records if isinstance(r, SnapshotPiece) and (r.slot, r.index) == (slot, index)]
        then(pieces[-1] if pieces and not self.is_rotten else None)

    def send(self, receivers: tuple[NodeId, ...], message: Any) -> None:
        for receiver in receivers:
            self.cluster.messages.append((self.node, receiver, message))

    def reply(self, client: int, reply: Reply) -> None:
        if client in self.connected:
            self.replies.append(reply)

    def flush_soon(self) -> None:
        self.wants_flush = True

    def stop(self, reason: str) -> None:
        self.stopped = reason

    def on_event(self, event: Event) -> None:
        pass


class Instant:
    """Three nodes whose disks and links take no time."""

    def __init__(self, snapshot_every: int = 10**9, **settings: Any) -> None:
        self.messages: list[tuple[NodeId, NodeId, Any]] = []
        self.worlds: dict[NodeId, World] = {}
        self.drivers: dict[NodeId, Driver] = {}
        self.away: set[NodeId] = set()
        self.now_ms = 0
        for node in MEMBERS:
            world = self.worlds[node] = World(self, node)
            self.drivers[node] = Driver(
                node=node,
                engine=MultiPaxos(node, MEMBERS, Settings(**settings), random.Random(node)),
                state=ReplicatedState(Bank(), 10**6),
                disk=world,
                network=world,
                clients=world,
                shell=world,
                addresses={other: f"host{other}:1" for other in MEMBERS},
                snapshot_every=snapshot_every,
            )
        for node in MEMBERS:
            for other in MEMBERS:
                if other != node:
                    self.drivers[node].on_link(other, LinkState.UP)

    def settle(self) -> None:
        for _ in range(10_000):
            moved = False
            for node, driver in self.drivers.items():
                world = self.worlds[node]
                if world.wants_flush:
                    world.wants_flush, moved = False, True
                    driver.flush()
                if world.pending and not world.is_stuck:
                    write_no, moved = world.pending[-1], True
                    world.pending.clear()
                    driver.on_persisted(write_no)
            messages, self.messages[:] = self.messages[:], []
            for src, dst, message in messages:
                if not {src, dst} & self.away:
                    moved = True
                    self.drivers[dst].on_message(src, message)
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def run(self, ms: int) -> None:
        for _ in range(ms // TICK_MS):
            self.now_ms += TICK_MS
            for driver in self.drivers.values():
                driver.on_tick(self.now_ms)
            self.settle()

    @property
    def leader(self) -> NodeId:
        (leader,) = {d.leader for node, d in self.drivers.items() if node not in self.away}
        return leader


def command(seq: int, account: int = 1) -> tuple[bytes, Command[BankOp]]:
    request = Command(CLIENT, 0, seq, 1, BankOp(DEPOSIT, account, 10))
    return msgspec.msgpack.encode(request), request


def lead(**settings: Any) -> tuple[Instant, Driver, World]:
    cluster = Instant(**settings)
    cluster.run(1000)
    leader = cluster.leader
    return cluster, cluster.drivers[leader], cluster.worlds[leader]


def test_the_commands_of_one_turn_make_one_run_one_record_and_one_accept_per_peer() -> None:
    cluster, driver, world = lead()
    world.records.clear()
    for seq in range(1, 6):
        driver.on_request(*command(seq))
    driver.flush()
    assert [(type(r), r.count) for r in world.records if isinstance(r, Voted)] == [(Voted, 5)]
    accepts = [(dst, m.count) for _, dst, m in cluster.messages if isinstance(m, Accept)]
    assert sorted(accepts) == [(node, 5) for node in MEMBERS if node != driver.node]
    cluster.settle()
    assert [reply.result.balance for reply in world.replies if isinstance(reply, Answer)] == [10, 20, 30, 40, 50]


def test_a_learn_leaves_only_when_the_vote_is_durable() -> None:
    cluster, driver, _ = lead()
    follower = next(node for node in MEMBERS if node != driver.node)
    cluster.worlds[follower].is_stuck = True
    driver.on_request(*command(1))
    driver.flush()
    (accept,) = [m for _, dst, m in cluster.messages if isinstance(m, Accept) and dst == follower]
    cluster.drivers[follower].on_message(driver.node, accept)
    cluster.drivers[follower].flush()
    assert not [m for src, _, m in cluster.messages if isinstance(m, Learn) and src == follower]
    cluster.worlds[follower].is_stuck = False
    cluster.settle()
    assert driver.state.applied == 0
    cluster.run(TICK_MS)  # with which the leader tells it
    assert cluster.drivers[follower].state.applied == 0


def test_a_promise_leaves_only_when_it_is_durable() -> None:
    cluster = Instant()
    for world in cluster.worlds.values():
        world.is_stuck = True
    sent: list[Any] = []
    for _ in range(20):
        cluster.now_ms += TICK_MS
        for driver in cluster.drivers.values():
            driver.on_tick(cluster.now_ms)
        sent += [m for _, _, m in cluster.messages]
        cluster.settle()
    assert not [m for m in sent if isinstance(m, Promise)]


def test_a_follower_directs_clients_to_the_leader() -> None:
    cluster, driver, _ = lead()
    follower = next(node for node in MEMBERS if node != driver.node)
    cluster.drivers[follower].on_request(*command(1))
    assert cluster.worlds[follower].replies == [Redirect(CLIENT, 1, driver.node, f"host{driver.node}:1")]


def test_without_a_leader_clients_are_told_so() -> None:
    cluster = Instant()
    driver = cluster.drivers[NodeId(1)]
    driver.on_request(*command(1))
    (reply,) = cluster.worlds[NodeId(1)].replies
    assert isinstance(reply, NoLeader)
    assert reply.retry_after_ms > 0


def test_a_deposed_leader_tells_each_client_once_that_the_outcome_is_unknown() -> None:
    cluster, driver, world = lead()
    cluster.away.add(driver.node)  # cut off: nothing it proposes can be decided
    for seq in range(1, 4):
        driver.on_request(*command(seq))
    cluster.run(3000)
    assert [(type(reply), reply.seq) for reply in world.replies if reply.seq] == [(Unknown, seq) for seq in (1, 2, 3)]


@pytest.mark.parametrize("policy", ["sticky", "lab"])
def test_a_repeated_request_gets_its_first_answer_at_the_next_leader(policy: str) -> None:
    cluster, driver, world = lead(policy=policy)
    driver.on_request(*command(1))
    cluster.settle()
    cluster.away.add(driver.node)
    for node in MEMBERS:
        if node != driver.node:
            cluster.drivers[node].on_link(driver.node, LinkState.LOST)
            cluster.drivers[node].on_link(driver.node, LinkState.REFUSED)
    cluster.run(1000)
    successor = cluster.leader
    assert successor != driver.node
    cluster.drivers[successor].on_request(*command(1))
    cluster.settle()
    assert cluster.worlds[successor].replies[-1] == world.replies[-1]
    assert cluster.drivers[successor].state.duplicates == 1


def test_a_full_disk_refuses_moves_leadership_and_recovers() -> None:
    cluster, driver, _ = lead()
    driver.on_disk(DiskState.FULL)
    cluster.run(500)
    assert cluster.leader != driver.node
    driver.on_disk(DiskState.GOOD)
    cluster.drivers[cluster.leader].on_request(*command(1))
    cluster.run(500)
    assert {d.state.applied for d in cluster.drivers.values()} == {0}


def test_all_disks_full_is_said_in_words() -> None:
    cluster, _, _ = lead()
    for driver in cluster.drivers.values():
        driver.on_disk(DiskState.FULL)
    cluster.run(200)
    cluster.drivers[NodeId(1)].on_request(*command(1))
    reply = cluster.worlds[NodeId(1)].replies[-1]
    assert isinstance(reply, Refused)
    assert reply.reason == "disk-full"


GUARD_CASES = [
    ("the same directory", "id-a", 100, None),
    ("the same directory, further on", "id-a", 200, None),
    ("an older copy of it", "id-a", 99, "older data directory"),
    ("another one", "id-b", 100, "another data directory"),
]


@pytest.mark.parametrize(
    ("identity", "progress", "wrong"), [c[1:] for c in GUARD_CASES], ids=[c[0] for c in GUARD_CASES]
)
def test_a_peer_comes_back_with(identity: str, progress: int, wrong: str | None) -> None:
    _, driver, _ = lead()
    peer = next(node for node in MEMBERS if node != driver.node)
    assert driver.peer_guard(peer, "id-a", 60) is None
    driver.on_message(peer, Progress(peer, 100))
    verdict = driver.peer_guard(peer, identity, progress)
    assert verdict is None if wrong is None else wrong in str(verdict)


def test_peers_are_remembered_across_truncation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "SLOTS_KEPT", 0)
    cluster, driver, world = lead(snapshot_every=5)
    peer = next(node for node in MEMBERS if node != driver.node)
    driver.peer_guard(peer, "id-a", 60)
    for seq in range(1, 21):
        driver.on_request(*command(seq, account=seq))
        cluster.settle()
    cluster.run(2000)
    truncated = max(i for i, r in enumerate(world.records) if isinstance(r, Truncated))
    taken = max(i for i, r in enumerate(world.records) if isinstance(r, SnapshotTaken))
    between = world.records[taken:truncated]
    assert [r.identity for r in between if isinstance(r, PeerSeen)] == ["id-a"]


def test_a_node_that_was_away_past_truncation_gets_the_snapshot() -> None:
    cluster, driver, _ = lead(snapshot_every=20)
    late = next(node for node in MEMBERS if node != driver.node)
    cluster.away.add(late)
    for seq in range(1, 12_001):
        request = Command(CLIENT, 0, seq, max(1, seq - 5), BankOp(DEPOSIT, seq % 50, 10))
        driver.on_request(msgspec.msgpack.encode(request), request)
        if not seq % 100:
            cluster.settle()
            cluster.run(TICK_MS)
    cluster.run(2000)
    assert driver.engine.status()["log"]["first_slot"] > 0
    cluster.away.clear()
    cluster.run(4000)
    digests = set()
    for other in cluster.drivers.values():
        assert other.state.applied == 11_999
        picture = other.state.photograph()
        while picture.next_piece() is not None:
            pass
        digests.add(picture.digest())
    assert len(digests) == 1
    installed = [r for r in cluster.worlds[late].records if isinstance(r, SnapshotTaken)]
    assert installed


def test_a_snapshot_that_cannot_be_read_is_fetched_from_another_node_and_replaced() -> None:
    cluster, driver, _ = lead(snapshot_every=20)
    late, other = (node for node in MEMBERS if node != driver.node)
    cluster.away.add(late)
    for seq in range(1, 12_001):
        request = Command(CLIENT, 0, seq, max(1, seq - 5), BankOp(DEPOSIT, seq % 50, 10))
        driver.on_request(msgspec.msgpack.encode(request), request)
        if not seq % 100:
            cluster.settle()
            cluster.run(TICK_MS)
    cluster.run(2000)
    taken = driver.snapshot
    assert taken is not None
    cluster.worlds[driver.node].is_rotten = True
    cluster.away = {other}
    cluster.run(2000)
    assert cluster.drivers[late].state.applied < 11_999
    cluster.away.clear()
    cluster.run(4000)
    assert cluster.drivers[late].state.applied == 11_999
    assert cluster.drivers[other].snapshot is not None

    cluster.worlds[driver.node].is_rotten = False
    request = Command(CLIENT, 0, 12_001, 12_000, BankOp(DEPOSIT, 1, 10))
    driver.on_request(msgspec.msgpack.encode(request), request)
    cluster.run(2000)
    assert driver.snapshot.slot > taken.slot, "the unreadable one was kept"


def series(seq: int, count: int) -> tuple[bytes, Series[BankOp]]:
    request = Series(CLIENT, 0, seq, seq, tuple(BankOp(DEPOSIT, 1, 10) for _ in range(count)))
    return msgspec.msgpack.encode(request), request


def test_a_series_is_one_run_of_its_own_one_slot_each_and_one_answer() -> None:
    _, driver, world = lead()
    before = driver.state.applied
    driver.on_request(*command(1))
    driver.on_request(*series(2, 100))
    driver.on_request(*command(3))
    driver.flush()
    driver_slots = [(r.slot - before - 1, r.count) for r in world.records if isinstance(r, Voted) and r.slot > before]
    assert driver_slots == [(0, 1), (1, 100), (101, 1)]
    driver_cluster = world.cluster
    driver_cluster.settle()
    assert driver.state.applied == before + 102
    first, many, last = [reply for reply in world.replies if isinstance(reply, Answer | Answers)]
    assert isinstance(first, Answer)
    assert isinstance(many, Answers)
    assert isinstance(last, Answer)
    results = msgspec.msgpack.decode(msgspec.msgpack.encode(many), type=Answers[BankResult]).result
    assert [result.balance for result in results] == [10 * number for number in range(2, 102)]
    assert (first.result.balance, last.result.balance) == (10, 1020)


def test_a_series_survives_its_leader_and_is_applied_once() -> None:
    cluster, driver, world = lead()
    driver.on_request(*series(1, 1000))
    driver.flush()
    for src, dst, message in [m for m in cluster.messages if isinstance(m[2], Accept)]:
        cluster.drivers[dst].on_message(src, message)  # both have it; nobody says so before the leader is gone
    cluster.messages.clear()
    cluster.away.add(driver.node)
    for node, other in cluster.drivers.items():
        if node != driver.node:
            other.on_link(driver.node, LinkState.LOST)
            other.on_link(driver.node, LinkState.REFUSED)
    cluster.run(2000)
    heir = cluster.drivers[cluster.leader]
    assert heir.node != driver.node
    world = cluster.worlds[heir.node]
    world.replies.clear()
    heir.on_request(*series(1, 1000))
    cluster.settle()
    answer = [reply for reply in world.replies if isinstance(reply, Answers)][-1]
    results = msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=Answers[BankResult]).result
    assert [result.balance for result in results] == [10 * number for number in range(1, 1001)]
    assert heir.state.application.accounts.shard(1)[1] == 10_000  # type: ignore[attr-defined]
