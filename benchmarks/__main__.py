"""`make bench`: throughput, round-trip times and server CPU per command of a cluster of real processes on this machine.

    python -m benchmarks [--seconds 3] [--repetitions 3] [--markdown FILE]

Every load runs REPETITIONS times, one after the other in turns, so that a slow moment of the machine hits all of them.
The table shows medians and, behind ±, half the distance between the lowest and the highest. The whole is bounded:
loads × repetitions × seconds, and a little more.
"""

import os
import platform
import sqlite3
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import twisted
from rich.console import Console
from rich.table import Table

from benchmarks.load import Sample, run_load
from paxos_twisted import __version__
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.types import NodeId

LOADS = ((1, 1), (8, 1), (64, 1), (256, 1), (8, 32), (10, 100))
"""(connections, requests outstanding on each)."""

COLUMNS = ("connections × outstanding", "commands/s", "p50 ms", "p99 ms", "max ms", "server CPU µs/command")


def cpu_s(cluster: LocalCluster) -> float:
    """CPU time of all nodes so far, user and system, in seconds."""
    ticks = 0
    for node in cluster.config.members:
        process = cluster.process(NodeId(node))
        assert process is not None
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(cluster: LocalCluster, connections: int, outstanding: int, seconds: float) -> tuple[Sample, float]:
    """One load on the leader: the sample, and server CPU seconds per command."""
    leader = cluster.leader()
    address = cluster.config.node(leader).address
    before = cpu_s(cluster)
    sample = run_load((address.host, address.port), cluster.config.shared.cluster, connections, outstanding, seconds)
    return sample, (cpu_s(cluster) - before) / sample.commands


def spread(values: Sequence[float]) -> str:
    """Median ± half the range."""
    median, half = statistics.median(values), (max(values) - min(values)) / 2
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return f"{median:,.{digits}f} ±{half:,.{digits}f}"


def rows_of(results: dict[tuple[int, int], list[tuple[Sample, float]]]) -> list[tuple[str, ...]]:
    """The table's rows."""
    return [
        (
            f"{connections} × {outstanding}",
            spread([sample.throughput for sample, _ in runs]),
            spread([sample.percentile_ms(50) for sample, _ in runs]),
            spread([sample.percentile_ms(99) for sample, _ in runs]),
            spread([max(sample.rtts_s) * 1e3 for sample, _ in runs]),
            spread([cpu * 1e6 for _, cpu in runs]),
        )
        for (connections, outstanding), runs in results.items()
    ]


@click.command()
@click.option("--seconds", default=3.0, show_default=True, help="Length of one measurement.")
@click.option("--repetitions", default=3, show_default=True, help="Measurements of each load.")
@click.option("--nodes", default=3, show_default=True, type=click.Choice([3, 5, 7]), help="Size of the cluster.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the nodes write; default: a new folder here.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write the table to this file.")
def main(seconds: float, repetitions: int, nodes: int, directory: Path | None, markdown: Path | None) -> None:
    """Measure a cluster of real processes with real disks on this machine."""
    console = Console()
    setting = (
        f"Paxos-Twisted {__version__}, {nodes} nodes on {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Twisted {twisted.__version__}, SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL); closed loop, "
        f"deposits of about 30 bytes; {repetitions} × {seconds:g} s each, median ± half the range"
    )
    console.print(setting)
    # Not under /tmp: that may be memory, where a sync costs nothing.
    with (
        tempfile.TemporaryDirectory(dir=directory or Path.cwd(), prefix=".bench-") as place,
        LocalCluster.create(Path(place) / "cluster", f=nodes // 2) as cluster,
    ):
        cluster.start()
        cluster.wait_ready()
        measure(cluster, 64, 1, 1.0)
        results: dict[tuple[int, int], list[tuple[Sample, float]]] = {load: [] for load in LOADS}
        for repetition in range(repetitions):
            with console.status(f"repetition {repetition + 1} of {repetitions}"):
                for load in LOADS:
                    results[load].append(measure(cluster, *load, seconds))
    table = Table(*COLUMNS)
    rows = rows_of(results)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if markdown is not None:
        lines = [setting, "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
