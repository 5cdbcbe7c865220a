"""`make alone`: throughput, round-trip times and server CPU per command of a cluster of real processes on this machine.

    python -m benchmarks [--seconds 3] [--repetitions 3] [--nodes 3] [--markdown FILE]

Every load runs REPETITIONS times, one after the other in turns, so that a slow moment of the machine hits all of them.
The table shows medians and, behind ±, half the distance between the lowest and the highest. The whole is bounded:
loads × repetitions × seconds, and a little more. `benchmarks.versus` puts other systems beside it.
"""

import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks.measure import Load, Results, Subject, Turn, machine, measure
from benchmarks.peers.ours import Ours
from benchmarks.report import markdown, show
from benchmarks.usage import disk_bytes

LOADS = [Load(*shape) for shape in ((1, 1), (8, 1), (64, 1), (256, 1), (8, 32), (10, 100))]


@click.command()
@click.option("--seconds", default=3.0, show_default=True, help="Length of one measurement.")
@click.option("--repetitions", default=3, show_default=True, help="Measurements of each load.")
@click.option("--nodes", default=3, show_default=True, type=click.Choice([3, 5, 7]), help="Size of the cluster.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the nodes write; default: a new folder here.")
@click.option("--markdown", "page", type=click.Path(path_type=Path), help="Also write the table to this file.")
def main(seconds: float, repetitions: int, nodes: int, directory: Path | None, page: Path | None) -> None:
    """Measure a cluster of real processes with real disks on this machine."""
    console = Console()
    system = Ours(nodes)
    # Not under /tmp: that may be memory, where a sync costs nothing.
    with tempfile.TemporaryDirectory(dir=directory or Path.cwd(), prefix=".bench-") as place:
        method = f"{nodes} nodes; closed loop, median ± half the range of {repetitions} × {seconds:g} s each"
        results = Results([machine(Path(place)), method])
        try:
            began = time.monotonic()
            cluster = Path(place) / "cluster"
            system.start(cluster)
            start_s = time.monotonic() - began
            results.subjects = [Subject(system.name, system.title, system.version(), system.settings(), "make alone")]
            measure(system, Load(64, 1), 1.0)
            for repetition in range(repetitions):
                with console.status(f"repetition {repetition + 1} of {repetitions}"):
                    results.measurements += [measure(system, load, seconds) for load in LOADS]
            results.turns.append(Turn(system.name, start_s, disk_bytes(cluster) / 1e6))
        finally:
            system.stop()
    show(results, console)
    if page is not None:
        page.write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
