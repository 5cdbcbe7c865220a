"""Does it stay flat? Full load for millions of commands, then a restart of all nodes.

    python -m benchmarks.sustained [--commands 2000000] [--seconds 3600] [--connections 10] [--outstanding 100]

Prints throughput, p99, memory of each node, disk and changes of leader for each portion of the load, and at the end how
long the nodes take from a cold start of the process until /readyz says yes, with all that history behind them.
"""

import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.load import run_load
from benchmarks.peers.ours import BankSession
from benchmarks.usage import disk_bytes, usage_of
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.ctl.node_api import NodeStatus
from paxos_twisted.types import NodeId

PORTION_S = 10.0
MIB = 2**20


def pids_of(cluster: LocalCluster) -> list[int]:
    """The nodes' processes."""
    processes = [cluster.process(NodeId(node)) for node in cluster.config.members]
    return [process.pid for process in processes if process is not None]


def statuses_of(cluster: LocalCluster) -> list[NodeStatus]:
    """What the nodes that answer say of themselves."""
    return [status for status in cluster.statuses().values() if isinstance(status, NodeStatus)]


@click.command()
@click.option("--commands", default=2_000_000, show_default=True, help="End after so many commands …")
@click.option("--seconds", default=3600.0, show_default=True, help="… or after so long.")
@click.option("--connections", default=10, show_default=True)
@click.option("--outstanding", default=100, show_default=True, help="Requests outstanding on each connection.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the nodes write; default: a new folder here.")
def main(commands: int, seconds: float, connections: int, outstanding: int, directory: Path | None) -> None:
    """Load a cluster of three for long and watch its memory and disk."""
    console = Console()
    with (
        tempfile.TemporaryDirectory(dir=directory or Path.cwd(), prefix=".bench-") as place,
        LocalCluster.create(Path(place) / "cluster") as cluster,
    ):
        cluster.start()
        cluster.wait_ready()
        leader = cluster.leader()
        address = cluster.config.node(leader).address
        where, name = (address.host, address.port), cluster.config.shared.cluster
        table = Table("commands", "commands/s", "p50 ms", "p99 ms", "memory MiB", "disk MiB", "snapshot", "leader")
        done, begin = 0, time.monotonic()
        with console.status("loading …"):
            while done < commands and time.monotonic() - begin < seconds:
                sample = run_load(lambda: BankSession(where, 30.0, name, 0), connections, outstanding, PORTION_S)
                done += sample.commands
                statuses = statuses_of(cluster)
                memory = " ".join(f"{usage_of([pid]).rss_bytes / MIB:.0f}" for pid in pids_of(cluster))
                snapshot = min((s.snapshot.slot if s.snapshot else -1) for s in statuses)
                leaders = sorted({status.leader for status in statuses})
                row = (
                    f"{done:,}",
                    f"{sample.throughput:,.0f}",
                    f"{sample.percentile_ms(50):.1f}",
                    f"{sample.percentile_ms(99):.1f}",
                    memory,
                    f"{disk_bytes(cluster.directory) / MIB:.0f}",
                    f"{snapshot:,}",
                    " ".join(map(str, leaders)),
                )
                table.add_row(*row)
                console.print("  ".join(row))
        changes = max(status.leader_changes for status in statuses_of(cluster))
        console.print(table)
        console.print(
            f"{done:,} commands in {time.monotonic() - begin:,.0f} s; the leader was elected {changes} time(s)"
        )
        cluster.stop(*cluster.config.members)
        begin = time.monotonic()
        cluster.start()
        cluster.wait_ready()
        console.print(
            f"all nodes restarted: ready after {time.monotonic() - begin:.2f} s, start of the processes included"
        )


if __name__ == "__main__":
    main()
