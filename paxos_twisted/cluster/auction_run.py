"""Auctions on real processes: the twelve steps of the text, and one whose primary is killed. [AU-31, AV-22, AV-23]

Whether all replicas know the same winner is asked at each replica alone, over its feed: that is its own applied state.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from paxos_twisted.apps.auction import AuctionEvent
from paxos_twisted.cluster.client_runs import ClientRun
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.types import NodeId
from paxos_twisted.wire.client import Events, Follow, NoLeader, Redirect
from paxos_twisted.wire.frames import FrameReader, frame
from paxos_twisted.wire.handshake import PROTOCOL_VERSION, ClientHello, ClientWelcome

ANSWER_S: Final = 20.0
_said = msgspec.msgpack.Decoder(ClientWelcome | Events[AuctionEvent] | Redirect | NoLeader)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the scenario, and what came of it."""

    number: int
    what: str
    said: str
    expected: str
    """Part of what should have been said."""

    @property
    def passed(self) -> bool:
        """It was."""
        return self.expected in self.said


class ReplicaView(msgspec.Struct, frozen=True):
    """What one replica knows of the end of an auction."""

    node: int
    kind: str
    highest: int
    bidder: str
    edition: int


class AuctionOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an auction with killed primaries."""

    findings: list[str]
    killed: list[int]
    report: dict[str, Any]
    """What the bidders tell, see `paxos_twisted_client.bidders.report`."""
    replicas: list[ReplicaView]

    @property
    def passed(self) -> bool:
        """Nothing is wrong."""
        return not self.findings


def run_steps(directory: Path, *, engine: str = "multipaxos", tell: Callable[[Step], None]) -> list[Step]:
    """The twelve-step scenario of the text: start, bids, a crash of the leader, a lower bid, the end, the winner.

    Raises:
        ClusterError: the cluster did not start, or nobody leads.
    """
    cluster = LocalCluster.create(directory, application="auction", engine=engine, name="auction")
    steps: list[Step] = []

    def step(what: str, expected: str, *arguments: str) -> None:
        said = _ask(cluster, *arguments)
        steps.append(Step(number=len(steps) + 1, what=what, said=said, expected=expected))
        tell(steps[-1])

    def act(what: str, done: str) -> None:
        steps.append(Step(number=len(steps) + 1, what=what, said=done, expected=""))
        tell(steps[-1])

    with cluster:
        cluster.start()
        cluster.wait_ready()
        leader = cluster.leader()
        act("the replicas start, and one leads", f"node {leader} leads")
        step("the operator opens an auction", "live", "start", "auction", "open")
        step("ann bids 100", "success", "--id", "ann", "bid", "100")
        step("bob bids 150", "success", "--id", "bob", "bid", "150")
        step("ann asks for the result", "highest bid 150 by bob", "--id", "ann", "status")
        cluster.kill(leader)
        successor = cluster.leader(other_than=leader)
        act("the leader crashes, and another one takes over", f"killed node {leader}; node {successor} leads")
        step("ann bids 120, which is less than the old leader acknowledged", "fail", "--id", "ann", "bid", "120")
        step("ann bids 200", "success", "--id", "ann", "bid", "200")
        step("bob asks for the result", "highest bid 200 by ann", "--id", "bob", "status")
        step("the operator closes the auction", "finished", "close")
        step("bob bids 300, too late", "over", "--id", "bob", "bid", "300")
        step("ann asks for the result", "won by ann with 200 - you have won", "--id", "ann", "status")
    return steps


def run_auction(
    directory: Path,
    *,
    f: int = 1,
    engine: str = "multipaxos",
    bidders: int = 50,
    duration_s: float = 45.0,
    kills: int = 2,
    every_ms: int = 500,
    answer_delay_ms: int = 0,
    restart: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> AuctionOutcome:
    """An auction with many bidders, during which the primary is killed several times.

    Args:
        restart: start each killed node again before the next one dies, so that a majority is always there.

    Raises:
        ClusterError: the cluster did not start, or nobody leads.
    """
    cluster = LocalCluster.create(directory, f, application="auction", engine=engine, name="auction")
    if answer_delay_ms:
        for node in cluster.members:
            cluster.options[node] = ["--answer-delay", f"{answer_delay_ms}ms"]
    killed: list[NodeId] = []
    with cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.leader()
        started = time.monotonic()
        tell(_ask(cluster, "start", "auction", f"{duration_s:g}s"))
        arguments = [
            "bidders",
            "--output",
            "json",
            "--count",
            str(bidders),
            "--every",
            f"{every_ms}ms",
            "--id",
            "bidder",
        ]
        output = cluster.directory / "bidders.json"
        with ClientRun("auctionclient", arguments, cluster.config_path, output) as run:
            for number in range(kills):
                wait_s = started + duration_s * (number + 1) / (kills + 1) - time.monotonic()
                if run.wait(max(wait_s, 0.01)) is not None:
                    break
                killed.append(_kill_primary(cluster, restart, tell))
            code = run.wait(duration_s + 60)
        findings = [] if code == 0 else [f"the bidders ended with {code}: {run.errors.read_text()[-500:]}"]
        report: dict[str, Any] = {}
        if output.stat().st_size:
            report = msgspec.json.decode(output.read_bytes(), type=dict[str, Any])
        cluster.wait_ready(*cluster.alive())
        replicas = [last_event(cluster, node, "auction") for node in cluster.alive()]
    findings += _compare(report, replicas, duration_s)
    if len(killed) < kills:
        findings.append(f"the auction was over before the primary was killed {kills} times")
    return AuctionOutcome(findings=findings, killed=[int(node) for node in killed], report=report, replicas=replicas)


def last_event(cluster: LocalCluster, node: NodeId, auction: str) -> ReplicaView:
    """The newest event that one replica knows: its own state, whoever leads.

    Raises:
        OSError: it does not answer.
    """
    address = cluster.config.node(node).address
    deadline = time.monotonic() + ANSWER_S
    while True:
        event = _ask_replica((address.host, address.port), auction)
        if (event is not None and event.kind == "closed") or time.monotonic() > deadline:
            break
        time.sleep(0.1)  # it is still catching up
    if event is None:
        return ReplicaView(int(node), "unknown", 0, "", 0)
    return ReplicaView(int(node), event.kind, event.highest, event.bidder, event.edition)


# Inside


def _ask_replica(place: tuple[str, int], auction: str) -> AuctionEvent | None:
    hello = ClientHello(PROTOCOL_VERSION, "auction", "auction", Random().randrange(1, 2**62))
    reader = FrameReader(1 << 20)
    with socket.create_connection(place, timeout=ANSWER_S) as connection:
        wishes = (hello, Follow(auction, -1))
        connection.sendall(b"".join(frame(msgspec.msgpack.encode(wish)) for wish in wishes))
        while data := connection.recv(65536):
            for payload in reader.feed(data):
                said = _said.decode(payload)
                if isinstance(said, Events):
                    return said.events[-1] if said.events else None
    return None


def _kill_primary(cluster: LocalCluster, restart: bool, tell: Callable[[str], None]) -> NodeId:
    primary = cluster.leader()
    cluster.kill(primary)
    successor = cluster.leader(other_than=primary)
    tell(f"killed node {primary}, the primary; node {successor} leads")
    if restart:
        cluster.start(primary)
        cluster.wait_ready(primary)
    return primary


def _compare(report: dict[str, Any], replicas: list[ReplicaView], duration_s: float) -> list[str]:
    if not report:
        return ["the bidders told nothing"]
    findings = list(report["findings"])
    for replica in replicas:
        told = (replica.kind, replica.highest, replica.bidder)
        if told != ("closed", report["highest"], report["winner"]):
            findings.append(
                f"node {replica.node} says {told}, the clients were told {report['highest']} by {report['winner']}"
            )
    if report["ended"] - report["started"] != round(duration_s * 1000):
        findings.append(f"the auction was open for {report['ended'] - report['started']} ms")
    return findings


def _ask(cluster: LocalCluster, *arguments: str) -> str:
    """What auctionclient prints, on stdout or stderr."""
    output = cluster.directory / "asked.txt"
    with ClientRun("auctionclient", arguments, cluster.config_path, output) as run:
        run.wait(60)
    text = output.read_text() + run.errors.read_text()
    return " ".join(line for line in text.splitlines() if not line.startswith("("))
