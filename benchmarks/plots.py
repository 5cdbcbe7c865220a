"""Results as plots: `python -m benchmarks.plots RESULTS.json DIRECTORY`, or `benchmarks.versus --plots DIRECTORY`."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from benchmarks.measure import Measurement, Results
from benchmarks.sample import figure

COLOURS = {
    "ours": "#0072b2",
    "etcd": "#d55e00",
    "zookeeper": "#009e73",
    "pysyncobj": "#cc79a7",
    "pysyncobj-memory": "#e69f00",
    "pysyncobj-journal": "#56b4e9",
    "pysyncobj-inside": "#999999",
    "pysyncobj-memory-inside": "#000000",
}
"""Okabe and Ito's, which people who see colours differently can tell apart."""

Value = Callable[[Measurement], float]

CURVES: dict[str, tuple[str, Value]] = {
    "throughput": ("commands/s", lambda m: m.throughput),
    "cpu": ("CPU of all nodes, µs a command", lambda m: m.server_us),
    "p50": ("median round trip, ms", lambda m: m.p50_ms),
    "p99": ("99th percentile of the round trips, ms", lambda m: m.p99_ms),
}


def draw(results: Results, directory: Path) -> str:
    """Write the plots as SVG files; return a sentence about it. Without matplotlib there are none."""
    if importlib.util.find_spec("matplotlib") is None:
        return "No plots: matplotlib is not here; pip install matplotlib (or: pip install --group bench)"
    import matplotlib as mpl  # noqa: PLC0415 - it is only needed, and may only be there, for this

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "paxos-twisted"  # the same figures give the same file
    import matplotlib.pyplot as plt  # noqa: PLC0415 - see above

    directory.mkdir(parents=True, exist_ok=True)
    names = []
    for name, (label, value) in CURVES.items():
        fill = partial(_curves, results=results, value=value, label=label)
        names.append(_save(plt, directory / f"{name}.svg", fill))
    if results.outages:
        names.append(_save(plt, directory / "failover.svg", partial(_gaps, results=results)))
    return f"Plots: {', '.join(names)} in {directory}"


def _save(plt: Any, path: Path, fill: Callable[[Any], None]) -> str:
    drawing, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    fill(axes)
    drawing.savefig(path, metadata={"Date": None})
    plt.close(drawing)
    return path.name


def _curves(axes: Any, results: Results, value: Value, label: str) -> None:
    """A line for each system over the number of connections, one request outstanding on each."""
    smallest = min(measurement.load.value_bytes for measurement in results.measurements)
    ticks: set[int] = set()
    for subject in results.subjects:
        found: dict[int, list[float]] = {}
        for measurement in results.measurements:
            load = measurement.load
            if measurement.system == subject.system and load.outstanding == 1 and load.value_bytes == smallest:
                found.setdefault(load.connections, []).append(value(measurement))
        figures = {connections: figure(values) for connections, values in sorted(found.items())}
        ticks.update(figures)
        axes.errorbar(
            list(figures),
            [one.median for one in figures.values()],
            yerr=[one.half for one in figures.values()],
            label=subject.title,
            color=COLOURS.get(subject.system),
            marker="o",
            markersize=4,
            capsize=3,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
    axes.minorticks_off()
    axes.set_xlabel("connections, one request outstanding on each")
    axes.set_ylabel(label)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()


def _gaps(axes: Any, results: Results) -> None:
    """Every death of a leader is a point."""
    subjects = [subject for subject in results.subjects if any(o.system == subject.system for o in results.outages)]
    for row, subject in enumerate(subjects):
        gaps = [outage.gap_ms for outage in results.outages if outage.system == subject.system]
        axes.scatter(gaps, [row] * len(gaps), color=COLOURS.get(subject.system), alpha=0.7)
    axes.set_yticks(range(len(subjects)), [subject.title for subject in subjects])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("longest time without an answer after kill -9 of the leader, ms")
    axes.grid(True, axis="x", alpha=0.3)


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("directory", type=click.Path(path_type=Path))
def main(data: Path, directory: Path) -> None:
    """Draw the plots of a comparison that was written with --json."""
    click.echo(draw(msgspec.json.decode(data.read_bytes(), type=Results), directory))


if __name__ == "__main__":
    main()
