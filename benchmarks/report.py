"""Results as tables: in the terminal and as Markdown."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Load, Measurement, Results
from benchmarks.sample import figure, number
from benchmarks.targets import judge

OURS = "ours"
OUR_SYSTEMS = (OURS, "ours-kv")


class Sheet(NamedTuple):
    """A table."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


COLUMNS: dict[str, Callable[[Measurement], float | None]] = {
    "commands/s": lambda m: m.throughput,
    "p50 ms": lambda m: m.p50_ms,
    "p99 ms": lambda m: m.p99_ms,
    "max ms": lambda m: m.max_ms,
    "server µs": lambda m: m.server_us,
    "client µs": lambda m: m.client_us,
    "RSS MB": lambda m: m.rss_mb,
    "disk B": lambda m: m.written_bytes,
}
"""What is shown of a load, median ± half the range."""

LOAD = "load"
CAPTION = "load: connections × outstanding; CPU µs and disk bytes: per command, server µs of all nodes; RSS: all nodes"

RATIOS: dict[str, Callable[[Measurement], float]] = {
    "throughput": lambda m: m.throughput,
    "server CPU": lambda m: m.server_us,
    "p50": lambda m: m.p50_ms,
    "p99": lambda m: m.p99_ms,
}


def sheets(results: Results) -> list[Sheet]:
    """All tables, those without rows left out."""
    found = [
        load_sheet(results),
        value_sheet(results),
        ratio_sheet(results),
        target_sheet(results),
        turn_sheet(results),
    ]
    return [sheet for sheet in found if sheet.rows]


def load_sheet(results: Results) -> Sheet:
    """Every load with the smallest values, system by system."""
    smallest = _smallest(results)
    names = len(results.subjects) > 1  # one system needs no column for its name
    rows = [
        (str(load), *([_title(results, system)] if names else []), *_figures(runs))
        for load, system, runs in _groups(results)
        if load.value_bytes == smallest or system == OURS
    ]
    return Sheet(f"Loads ({CAPTION})", (LOAD, *(["system"] if names else []), *COLUMNS), rows)


def value_sheet(results: Results) -> Sheet:
    """The loads that were run with several sizes of values."""
    groups = _groups(results)
    sizes = {load[:2] for load, _, _ in groups if load.value_bytes != _smallest(results)}
    rows = [
        (str(load), str(load.value_bytes), _title(results, system), *_figures(runs))
        for load, system, runs in sorted(groups, key=lambda group: group[0].value_bytes)
        if load[:2] in sizes and system != OURS
    ]
    if {subject.system for subject in results.subjects} & set(OUR_SYSTEMS) == {OURS}:
        rows += [
            (str(load), "bank", _title(results, OURS), *_figures(runs))
            for load, system, runs in groups
            if system == OURS and load[:2] in sizes
        ]
    return Sheet("Value sizes", (LOAD, "value bytes", "system", *COLUMNS), rows)


def ratio_sheet(results: Results) -> Sheet:
    """Ours divided by each of the others, of the medians: more is better for throughput, less for the rest."""
    smallest = _smallest(results)
    groups = {(load, system): runs for load, system, runs in _groups(results) if load.value_bytes == smallest}
    others = [subject for subject in results.subjects if subject.system not in OUR_SYSTEMS]
    rows: list[tuple[str, ...]] = []
    for load in dict.fromkeys(load for load, system in groups if system == OURS and others):
        cells = []
        for other in others:
            theirs = groups.get((load, other.system))
            cells.append("–" if theirs is None else " · ".join(_ratios(groups[load, OURS], theirs)))
        rows.append((str(load), *cells))
    heads = tuple(f"against {other.title}" for other in others)
    return Sheet(f"Ours divided by theirs: {' · '.join(RATIOS)}", (LOAD, *heads), rows)


def target_sheet(results: Results) -> Sheet:
    """What we want to reach, and whether this run has."""
    rows: list[tuple[str, ...]] = [(*judged[:5], "met" if judged.is_met else "MISSED") for judged in judge(results)]
    met = sum(row[-1] == "met" for row in rows)
    return Sheet(
        f"Targets: {met} of {len(rows)} met (ours divided by theirs)",
        (LOAD, "what", "against", "target", "measured", ""),
        rows,
    )


def turn_sheet(results: Results) -> Sheet:
    """What belongs to a system and not to a load."""
    rows: list[tuple[str, ...]] = []
    for subject in results.subjects:
        turns = [turn for turn in results.turns if turn.system == subject.system]
        gaps = [outage.gap_ms for outage in results.outages if outage.system == subject.system]
        if turns:
            rows.append(
                (
                    subject.title,
                    str(figure(gaps)) if gaps else "–",
                    number(max(gaps)) if gaps else "–",
                    str(len(gaps)),
                    str(figure([turn.start_s for turn in turns])),
                    str(figure([turn.disk_mb for turn in turns])),
                )
            )
    columns = (
        "system",
        "gap ms after kill -9 of the leader",
        "worst gap ms",
        "kills",
        "start s",
        "disk MB after all loads",
    )
    return Sheet("Failover, start and disk", columns, rows)


def show(results: Results, console: Console) -> None:
    """Print everything."""
    for line in _preface(results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for sheet in sheets(results):
        table = Table(*sheet.columns, title=sheet.title, title_justify="left")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)


def markdown(results: Results) -> str:
    """The same as a page."""
    lines = [f"- {line}" for line in _preface(results)]
    for sheet in sheets(results):
        lines += ["", f"## {sheet.title}", "", _row(sheet.columns), "|" + "---|" * len(sheet.columns)]
        lines += [_row(row) for row in sheet.rows]
    return "\n".join(lines) + "\n"


def _preface(results: Results) -> list[str]:
    lines = list(results.setting)
    for subject in results.subjects:
        lines.append(f"{subject.title} {subject.version}: {'; '.join(subject.settings)}")
        lines.append(f"{subject.title}, node 1: {subject.command}")
    return lines + results.notes


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _smallest(results: Results) -> int:
    return min((measurement.load.value_bytes for measurement in results.measurements), default=0)


def _groups(results: Results) -> list[tuple[Load, str, list[Measurement]]]:
    """Measurements of the same thing, in the order in which loads and systems came first."""
    loads = dict.fromkeys(measurement.load for measurement in results.measurements)
    systems = [subject.system for subject in results.subjects]
    groups: dict[tuple[Load, str], list[Measurement]] = {(load, system): [] for load in loads for system in systems}
    for measurement in results.measurements:
        groups[measurement.load, measurement.system].append(measurement)
    return [(load, system, runs) for (load, system), runs in groups.items() if runs]


def _title(results: Results, system: str) -> str:
    return next(subject.title for subject in results.subjects if subject.system == system)


def _figures(runs: Sequence[Measurement]) -> Iterable[str]:
    for value in COLUMNS.values():
        values = [found for found in map(value, runs) if found is not None]
        yield str(figure(values)) if values else "–"


def _ratios(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> Iterable[str]:
    for value in RATIOS.values():
        base = figure([value(run) for run in theirs]).median
        yield f"{number(figure([value(run) for run in ours]).median / base)}×" if base else "–"
