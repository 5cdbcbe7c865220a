"""Pictures of a scenario, as SVG that stands inside a page. They need matplotlib, the extra `report`."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from paxos_twisted.anatomy.split import BEFORE, ELECT, NAMES, Anatomy
from paxos_twisted.report.model import COLOURS, DOWN, FROZEN, Answer, Evidence, Scenario

NODES: Final = ("#3b6ea5", "#8e5ea2", "#b8860b", "#2f8f83", "#a0522d", "#5f7f2f", "#5b5ea6", "#a23b72", "#4a6a7a")
CLIENTS: Final = ("#2b5c8a", "#c8553d", "#2f8f83", "#b8860b", "#8e5ea2", "#5f7f2f", "#a23b72", "#4a6a7a")
INK: Final = "#1f2933"
SOFT: Final = "#7b8794"
LINE: Final = "#e4e7eb"
FAULT: Final = "#d64545"

POINTS_MAX: Final = 700
"""Dots of one plot: more cannot be told apart, and make the page heavy."""

STEMS_MAX: Final = 120
"""Waits that are drawn as lines; more are a thicket."""

WIDTH_IN: Final = 9.2
"""As wide as the page's column, so that the text in pictures has the size of the text around them."""

STYLE: Final = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 8.5,
    "svg.fonttype": "none",  # text stays text: it is small, can be searched, and uses the page's font
    "svg.hashsalt": "paxos-twisted",
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
}


def overview(found: Scenario) -> str:
    """Every answer of the run: when it came, and how long its client had waited."""
    evidence = found.evidence
    with _figure(2.2) as (figure, svg):
        axes = figure.add_subplot()
        _answers(axes, evidence.answers)
        _log_ms(axes, evidence.answers)
        axes.set_xlabel("seconds" + (" after the fault" if evidence.marks else ""))
        _marks(axes, evidence)
        axes.margins(x=0.01)
    return svg[0]


def close_up(found: Scenario, index: int) -> str:
    """One failover: answers, what the wait consisted of, and whom each node followed, on one axis of time."""
    anatomy, evidence = found.anatomies[index], found.evidence
    begin_s = evidence.begins_s[index]
    before_s = max(0.15 * anatomy.gap_ms, 8.0) / 1000
    after_s = max(0.35 * anatomy.gap_ms, 15.0) / 1000
    start_s, stop_s = begin_s - before_s, begin_s + anatomy.gap_ms / 1000 + after_s
    zero_s = begin_s + (anatomy.fault_ms or 0.0) / 1000
    lanes = {node: spans for node, spans in evidence.lanes.items() if spans}
    heights = [2.3, 0.55, *([0.3] * len(lanes))]
    with _figure(sum(heights) + 0.75) as (figure, svg):
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights, hspace=0.12)
        top = figure.add_subplot(grid[0])
        shown = [answer for answer in evidence.answers if start_s <= answer.at_s <= stop_s]
        moved = [Answer((answer.at_s - zero_s) * 1000, answer.rtt_ms, answer.client) for answer in shown]
        _answers(top, moved, stems=True)
        _log_ms(top, moved)
        top.axvspan(
            (begin_s - zero_s) * 1000, (begin_s - zero_s) * 1000 + anatomy.gap_ms, color="#fdf3e3", zorder=0, lw=0
        )
        middle_ms = (begin_s - zero_s) * 1000 + anatomy.gap_ms / 2
        top.annotate(
            f"client {anatomy.client} waits {anatomy.gap_ms:.1f} ms",
            (middle_ms, 0.93),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontweight="bold",
        )
        bar = figure.add_subplot(grid[1], sharex=top)
        _parts(bar, anatomy, (begin_s - zero_s) * 1000)
        below: list[Any] = [bar]
        for row, (node, spans) in enumerate(lanes.items()):
            lane = figure.add_subplot(grid[2 + row], sharex=top)
            _lane(lane, node, [(s.start_s - zero_s, s.stop_s - zero_s, s.leader) for s in spans], 1000)
            below.append(lane)
        for axes in (top, *below):
            if anatomy.fault_ms is not None:
                axes.axvline(0, color=FAULT, lw=1.1, zorder=5)
            axes.tick_params(labelbottom=axes is below[-1])
        top.set_xlim((start_s - zero_s) * 1000, (stop_s - zero_s) * 1000)
        below[-1].set_xlabel("milliseconds after the fault" if anatomy.fault_ms is not None else "milliseconds")
    return svg[0]


def many(anatomies: Sequence[Anatomy]) -> str:
    """A bar for each failover: how long clients waited, and what for."""
    with _figure(0.24 * len(anatomies) + 0.9) as (figure, svg):
        axes = figure.add_subplot()
        for row, anatomy in enumerate(anatomies):
            for part in anatomy.parts:
                _bar(axes, row, part.start_ms, part.ms, part.phase, bool(part.timer), height=0.74)
            axes.annotate(
                f" {anatomy.gap_ms:.0f} ms", (anatomy.gap_ms, row), va="center", ha="left", fontsize=7.5, color=SOFT
            )
        axes.set_yticks(range(len(anatomies)), [str(row + 1) for row in range(len(anatomies))])
        axes.invert_yaxis()
        axes.set_ylabel("failover")
        axes.set_xlabel("milliseconds from the last answer to the next one")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.06)
        axes.set_xlim(left=0)
    return svg[0]


def timeline(found: Scenario) -> str:
    """Whom each node followed during the whole run."""
    evidence = found.evidence
    lanes = {node: spans for node, spans in evidence.lanes.items() if spans}
    with _figure(0.34 * len(lanes) + 0.55) as (figure, svg):
        axes = None
        grid = figure.add_gridspec(len(lanes), 1, hspace=0.18)
        for row, (node, spans) in enumerate(lanes.items()):
            axes = figure.add_subplot(grid[row], sharex=axes)
            _lane(axes, node, [(span.start_s, span.stop_s, span.leader) for span in spans], 1)
            axes.tick_params(labelbottom=row == len(lanes) - 1)
            for mark in evidence.marks:
                axes.axvline(mark.at_s, color=FAULT, lw=1.0, ls="-" if mark.text != "mended" else (0, (3, 2)), zorder=5)
            axes.set_xlim(spans[0].start_s, spans[-1].stop_s)
        if axes is not None:
            axes.set_xlabel("seconds" + (" after the fault" if evidence.marks else ""))
    return svg[0]


def thinned(answers: Sequence[Answer], limit: int = POINTS_MAX) -> list[Answer]:
    """The answers that can be seen: the slowest and the fastest of each moment, and enough of the others."""
    if len(answers) <= limit:
        return list(answers)
    per_bin = 4
    size = -(-len(answers) * per_bin // limit)
    kept: list[Answer] = []
    for start in range(0, len(answers), size):
        ordered = sorted(answers[start : start + size], key=lambda answer: answer.rtt_ms)
        chosen = {0, len(ordered) // 2, len(ordered) - 2, len(ordered) - 1}
        kept += [ordered[index] for index in sorted(chosen) if 0 <= index < len(ordered)]
    return sorted(kept, key=lambda answer: answer.at_s)


@contextmanager
def _figure(height_in: float) -> Iterator[tuple[Figure, list[str]]]:
    """A figure in our style. Its SVG stands in the list afterwards."""
    svg: list[str] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        yield figure, svg
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None})
    text = file.getvalue()
    svg.append(text[text.index("<svg") :])


def _answers(axes: Any, answers: Sequence[Answer], stems: bool = False) -> None:
    clients = sorted({answer.client for answer in answers}, key=lambda client: (len(client), client))
    visible = thinned(answers)
    for index, client in enumerate(clients):
        shown = [answer for answer in visible if answer.client == client]
        colour = CLIENTS[index % len(CLIENTS)]
        if stems and len(answers) <= STEMS_MAX:  # the line is the time for which the client had waited
            for answer in shown:
                axes.plot(
                    [answer.at_s - answer.rtt_ms, answer.at_s], [answer.rtt_ms] * 2, color=colour, lw=0.9, alpha=0.5
                )
        axes.scatter(
            [answer.at_s for answer in shown],
            [answer.rtt_ms for answer in shown],
            s=14 if stems else 5,
            color=colour,
            alpha=0.9 if stems else 0.55,
            linewidths=0,
            label=f"client {client}",
            zorder=3,
        )
    if 1 < len(clients) <= len(CLIENTS):
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(clients), fontsize=7.5, handletextpad=0.1, borderpad=0
        )


def _log_ms(axes: Any, answers: Sequence[Answer]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("answer after … ms")
    if answers:
        top = max(answer.rtt_ms for answer in answers)
        bottom = min(answer.rtt_ms for answer in answers)
        axes.set_ylim(bottom / 1.6, top * (top / bottom) ** 0.3)  # room for words above the slowest


def _marks(axes: Any, evidence: Evidence) -> None:
    for mark in evidence.marks:
        is_end = mark.text == "mended"
        axes.axvline(mark.at_s, color=SOFT if is_end else FAULT, lw=1.1, ls=(0, (3, 2)) if is_end else "-", zorder=4)
        axes.annotate(
            f" {mark.text}",
            (mark.at_s, 0.97),
            xycoords=("data", "axes fraction"),
            va="top",
            fontsize=7.5,
            color=SOFT if is_end else FAULT,
        )


def _parts(axes: Any, anatomy: Anatomy, start_ms: float) -> None:
    whole = anatomy.gap_ms
    for part in anatomy.parts:
        _bar(axes, 0, start_ms + part.start_ms, part.ms, part.phase, bool(part.timer), height=0.9)
    for phase in dict.fromkeys(part.phase for part in anatomy.parts):
        mine = [part for part in anatomy.parts if part.phase == phase]
        length = sum(part.ms for part in mine)
        if length < 0.045 * whole:
            continue
        axes.annotate(
            f"{NAMES[phase]}\n{length:.1f} ms" if length > 0.15 * whole else f"{length:.0f}",
            (start_ms + (mine[0].start_ms + mine[-1].stop_ms) / 2, 0),
            ha="center",
            va="center",
            fontsize=7.5,
            color=INK if phase in (BEFORE, ELECT) else "white",
            bbox={"facecolor": COLOURS[phase], "edgecolor": "none", "pad": 1.2},
            zorder=6,
        )
    axes.set_yticks([0], ["the wait"])
    axes.set_ylim(-0.55, 0.55)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _bar(axes: Any, row: int, left: float, width: float, phase: str, is_timer: bool, height: float) -> None:
    axes.barh(
        row,
        width,
        left=left,
        height=height,
        color=COLOURS[phase],
        edgecolor="white",
        linewidth=0.6,
        hatch="////" if is_timer else None,
        zorder=3,
    )


def _lane(axes: Any, node: str, spans: Sequence[tuple[float, float, int]], scale: float) -> None:
    for start_s, stop_s, leader in spans:
        leads = str(leader) == node
        colour = {DOWN: INK, FROZEN: "#9fb3c8", -1: "white"}.get(leader) or NODES[(leader - 1) % len(NODES)]
        axes.barh(
            0,
            (stop_s - start_s) * scale,
            left=start_s * scale,
            height=0.86 if leads or leader in (DOWN, FROZEN) else 0.34,
            color=colour,
            alpha=1.0 if leads or leader in (DOWN, FROZEN) else 0.75,
            edgecolor=FAULT if leader == -1 else "none",
            linewidth=0.8 if leader == -1 else 0,
            hatch="\\\\\\" if leader == FROZEN else None,
            zorder=3,
        )
    axes.set_yticks([0], [f"node {node}"])
    axes.set_ylim(-0.55, 0.55)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
