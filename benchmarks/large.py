"""A million accounts: does a snapshot disturb, does a node that was away come back, how long does a restart take?

    python -m benchmarks.large [--accounts 1000000] [--away 1000000] [--seconds 10] [--connections 64]

1. The accounts are made with batches. 2. p99 under load, without a snapshot and while every node takes one. 3. A
follower is killed, the others apply many commands; it comes back under load: how long until it has caught up, and what
p99 does meanwhile. 4. All nodes are stopped and started: how long until all are ready. Each is compared with what we
want.
"""

import itertools
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks.load import run_load
from benchmarks.peers.ours import BankSession, SeriesSession
from benchmarks.sample import Sample
from benchmarks.targets import BATCH
from paxos_twisted.apps.bank import DEPOSIT, BankOp
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.core.command import Series
from paxos_twisted.ctl.node_api import NodeStatus
from paxos_twisted.types import ClientId, NodeId
from paxos_twisted.wire.frames import frame

P99_GROWTH_MAX = 3.0
BACK_S_MAX = 60.0
RESTART_S_MAX = 3.0
POLL_S = 0.05


class FillSession(SeriesSession):
    """Deposits into accounts that were never used, one batch after the other."""

    __slots__ = ("_numbers",)

    def __init__(self, address: tuple[str, int], cluster: str, numbers: "itertools.count[int]") -> None:
        super().__init__(address, 30.0, cluster, 0, BATCH)
        self._numbers = numbers

    def requests(self, count: int, now: float) -> bytes:
        parts = []
        for _ in range(count):
            client = self._at.pop() if self._at else secrets.randbits(62)
            seq = self._sessions.get(client, (0, 0.0))[0] + 1
            self._sessions[client] = seq, now
            ops = tuple(BankOp(DEPOSIT, account, 1) for account in itertools.islice(self._numbers, BATCH))
            parts.append(frame(msgspec.msgpack.encode(Series(ClientId(client), self._birth, seq, seq, ops))))
        return b"".join(parts)


class Stage:
    """A cluster and its load."""

    def __init__(self, cluster: LocalCluster, connections: int) -> None:
        self.cluster = cluster
        self.connections = connections
        self.name = cluster.config.shared.cluster

    @property
    def address(self) -> tuple[str, int]:
        """Of the leader."""
        address = self.cluster.config.node(self.cluster.leader()).address
        return address.host, address.port

    def status(self, node: NodeId) -> NodeStatus | None:
        """What a node says of itself, if it does."""
        status = self.cluster.statuses()[node]
        return status if isinstance(status, NodeStatus) else None

    def load(self, seconds: float) -> Sample:
        """Single deposits, one at a time on each connection."""
        where = self.address
        return run_load(lambda: BankSession(where, 30.0, self.name, 0), self.connections, 1, seconds)

    def load_while(self, work: Callable[[], object], seconds_min: float) -> tuple[Sample, float]:
        """Load until `work`, which another thread does, has ended. Returns all samples as one, and how long it took."""
        took: list[float] = []

        def run() -> None:
            began = time.monotonic()
            work()
            took.append(time.monotonic() - began)

        thread = threading.Thread(target=run)
        thread.start()
        samples = [self.load(min(seconds_min, 2.0))]
        while thread.is_alive() or sum(sample.seconds for sample in samples) < seconds_min:
            samples.append(self.load(2.0))
        thread.join()
        rtts = [rtt for sample in samples for rtt in sample.rtts_s]
        return Sample(len(rtts), sum(sample.seconds for sample in samples), rtts), took[0]

    def fill(self, accounts: int) -> None:
        """Make accounts, or at least apply so many transactions."""
        numbers, where = itertools.count(), self.address
        done = 0
        while done < accounts:
            seconds = 0.5 if accounts - done < 4 * BATCH else 2.0
            done += run_load(lambda: FillSession(where, self.name, numbers), 1, 2, seconds).commands * BATCH

    def snapshot(self) -> None:
        """Let every node take a snapshot, and wait until all are durable."""
        slots = {node: self.cluster.apis[node].order("snapshot", {})["slot"] for node in self.cluster.members}
        waiting = dict(slots)
        while waiting:
            time.sleep(POLL_S)
            for node, slot in list(waiting.items()):
                status = self.status(node)
                if status is not None and status.snapshot is not None and status.snapshot.slot >= slot:
                    del waiting[node]

    def catch_up(self, node: NodeId) -> None:
        """Start a node and wait until it has applied what the leader had applied when it was asked last."""
        self.cluster.start(node)
        while True:
            leader = self.status(self.cluster.leader())
            mine = self.status(node)
            if leader is not None and mine is not None and mine.ready and mine.adu >= leader.adu - 1000:
                return
            time.sleep(POLL_S)


def _say(console: Console, what: str, found: str, target: str, is_met: bool) -> None:
    console.print(
        f"{what}: {found} (wanted: {target}) {'met' if is_met else 'MISSED'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@click.command()
@click.option("--accounts", default=1_000_000, show_default=True)
@click.option("--away", default=1_000_000, show_default=True, help="Commands that a follower misses.")
@click.option("--seconds", default=10.0, show_default=True, help="Length of a load, at least.")
@click.option("--connections", default=64, show_default=True)
@click.option("--directory", type=click.Path(path_type=Path), help="Where the nodes write; default: a new folder here.")
def main(accounts: int, away: int, seconds: float, connections: int, directory: Path | None) -> None:
    """Measure a cluster with a large state."""
    console = Console()
    with (
        tempfile.TemporaryDirectory(dir=directory or Path.cwd(), prefix=".bench-") as place,
        LocalCluster.create(Path(place) / "cluster") as cluster,
    ):
        cluster.start()
        cluster.wait_ready()
        stage = Stage(cluster, connections)
        began = time.monotonic()
        stage.fill(accounts)
        console.print(f"{accounts:,} accounts made in {time.monotonic() - began:.0f} s")
        usual = stage.load(seconds).percentile_ms(99)
        console.print(f"p99 under load: {usual:.1f} ms")
        sample, took = stage.load_while(stage.snapshot, seconds)
        growth = sample.percentile_ms(99) / usual
        found = f"p99 {sample.percentile_ms(99):.1f} ms, {growth:.1f} times the usual; done in {took:.1f} s"
        _say(console, "snapshots of all nodes", found, f"at most {P99_GROWTH_MAX:g} times", growth <= P99_GROWTH_MAX)
        _return(console, stage, away, seconds, usual)
        _restart(console, stage)


def _return(console: Console, stage: Stage, away: int, seconds: float, usual: float) -> None:
    cluster = stage.cluster
    follower = next(node for node in cluster.members if node != cluster.leader())
    cluster.kill(follower)
    stage.fill(away)
    sample, took = stage.load_while(lambda: stage.catch_up(follower), seconds)
    found = f"back after {took:.1f} s; p99 meanwhile {sample.percentile_ms(99):.1f} ms, usual {usual:.1f}"
    _say(console, f"a node that missed {away:,} commands", found, f"{BACK_S_MAX:g} s", took <= BACK_S_MAX)


def _restart(console: Console, stage: Stage) -> None:
    cluster = stage.cluster
    cluster.stop(*cluster.members)
    began = time.monotonic()
    cluster.start()
    cluster.wait_ready()
    took = time.monotonic() - began
    _say(console, "restart of all nodes at once", f"{took:.2f} s", f"{RESTART_S_MAX:g} s", took < RESTART_S_MAX)


if __name__ == "__main__":
    main()
