"""How the soak and the failover measurement look."""

import statistics
import time
from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paxos_twisted.anatomy.split import NAMES, PHASES
from paxos_twisted.cluster import failover, soak
from paxos_twisted.cluster.timeline import BLOCKS
from paxos_twisted.ctl.agreement import Verdict
from paxos_twisted.ctl.screens import MARKS, duration

LINE_EVERY_S: Final = 15.0
"""Where nothing may move, a line this often."""

LINES_SHOWN: Final = 25
"""Of a violation; all of them lie with the evidence."""

MEANINGS: Final[Mapping[str, str]] = {
    "kill leader": "kill -9, start again",
    "kill follower": "kill -9, start again",
    "kill majority": "kill -9 one that serves, then others",
    "kill all": "kill -9, all at once",
    "freeze leader": "SIGSTOP until another one leads",
    "freeze follower": "SIGSTOP for a moment",
    "blink leader": "SIGSTOP for 20 ms to 1 s",
    "restart leader": "SIGTERM, start again",
    "restart follower": "SIGTERM, start again",
    "kill replica": "kill -9, start again",
    "freeze replica": "SIGSTOP until its clients are elsewhere",
    "blink replica": "SIGSTOP for 20 ms to 1 s",
    "restart replica": "SIGTERM, start again",
}


class Progress:
    """What is seen while it runs: a live screen on a terminal, else a line now and then. On stderr."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._line_at = time.monotonic() + LINE_EVERY_S

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, screen: RenderableType, line: str) -> None:
        """Show where it is: `screen` on a terminal, `line` elsewhere."""
        if self._console.is_terminal:
            self._live.update(screen, refresh=True)
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_S
            self._console.print(line, highlight=False, soft_wrap=True)

    def soak(self, report: soak.Report) -> None:
        """A round of the soak has ended."""
        self.show(soak_screen(report), soak_line(report))

    def failover(self, report: failover.Report) -> None:
        """A failover was measured."""
        plan = report.plan
        bar = Table.grid(padding=(0, 1))
        done = len(report.gaps_ms)
        last = f"{report.gaps_ms[-1]:.0f} ms" if report.gaps_ms else ""
        bar.add_row(ProgressBar(plan.times, done, width=40), f"{done}/{plan.times}", Text(f"last gap {last}", "dim"))
        self.show(bar, f"{done}/{plan.times}: last gap {last}")


def soak_line(report: soak.Report) -> str:
    """Where the soak is, in one line."""
    worst = max((kind.worst_ms for kind in report.kinds.values()), default=0.0)
    return (
        f"{report.rounds}/{report.plan.rounds} rounds in {duration(report.seconds)}, "
        f"{'VIOLATED' if report.violation else '0 violations'}, {report.answered:,} answered, "
        f"{report.checked:,} checked, worst gap {worst:,.0f} ms"
    )


def soak_screen(report: soak.Report) -> Group:
    """Where the soak is: a bar, and the gaps so far."""
    plan = report.plan
    bar = Table.grid(padding=(0, 1))
    each = report.seconds / report.rounds if report.rounds else 0.0
    bar.add_row(
        ProgressBar(plan.rounds, report.rounds, width=40),
        Text(f"{report.rounds:,}/{plan.rounds:,} rounds", "bold"),
        Text(f"{duration(report.seconds)}, {each:.2f} s a round", "dim"),
        Text("0 violations", "green") if not report.violation else Text("violated", "bold red"),
    )
    return Group(bar, soak_facts(report), Text(), kinds_table(report))


def soak_facts(report: soak.Report) -> Text:
    """The clients' numbers."""
    text = f"{report.answered:,} requests answered, {report.checked:,} checked in {report.windows:,} windows"
    facts = Text(text, "dim")
    for count, name in ((report.refused, "refused"), (report.unknown, "unknown")):
        facts.append(f", {count:,} {name}")
    if report.undecided:
        facts.append(f", {report.undecided} windows undecided", "yellow")
    return facts


def kinds_table(report: soak.Report) -> Table:
    """Gaps by kind of fault."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("fault", no_wrap=True, min_width=16)
    table.add_column("what is done", style="dim", no_wrap=True)  # the first to give way on a small terminal
    for name in ("rounds", "median gap", "worst", "new leaders"):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(len(name), 8))
    for kind, seen in report.kinds.items():
        changes = f"{seen.leader_changes:,}"
        table.add_row(
            kind,
            MEANINGS.get(kind, ""),
            f"{seen.rounds:,}",
            f"{seen.median_ms:,.0f} ms",
            f"{seen.worst_ms:,.0f} ms",
            Text(changes, "yellow" if seen.leader_changes and kind.endswith("follower") else ""),
        )
    return table


def soak_end(report: soak.Report, *, is_interrupted: bool = False) -> Group:
    """The last word of a soak. What came after the last proof of an interrupted one was not checked."""
    mark, style = MARKS[report.verdict]
    words = {
        Verdict.OK: f"{report.rounds:,} rounds: nothing lost, nothing doubled, nothing out of order",
        Verdict.VIOLATION: f"violated in round {report.rounds + 1:,}",
        Verdict.UNKNOWN: "some windows were too hard to check",
    }
    if is_interrupted:
        mark, style, words[report.verdict] = "!", "yellow", f"interrupted after {report.rounds:,} rounds"
    title = Text.assemble(
        (f"{mark} {words[report.verdict]}", f"bold {style}"),
        (f"  {duration(report.seconds)}, seed {report.plan.seed}", "dim"),
    )
    parts: list[RenderableType] = [kinds_table(report), soak_facts(report), Text()]
    if report.violation:
        parts += [Text(line, "red") for line in report.violation[:LINES_SHOWN]]
        if len(report.violation) > LINES_SHOWN:
            parts.append(Text(f"... and {len(report.violation) - LINES_SHOWN} more lines", "red"))
        parts.append(Text(f"\nEvidence: {report.evidence} (logs and data beside it)"))
    parts.append(Panel(title, box=box.ROUNDED, border_style=style, padding=(0, 2)))
    return Group(*parts)


def failover_end(report: failover.Report) -> Group:
    """What was measured, and whether it is what we promise."""
    plan = report.plan
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("fault", f"{plan.fault}: {MEANINGS[plan.fault]}")
    facts.add_row("load", f"{plan.clients} clients, one transaction at a time each; {report.answered:,} answered")
    facts.add_row("gaps", Text.assemble((spark(report.gaps_ms), "cyan"), ("  one bar a fault", "dim")))
    median = Text.assemble((f"{report.median_ms:.0f} ms", "bold"), _allowed(report.target.median_ms))
    worst = Text.assemble((f"{report.worst_ms:.0f} ms", "bold"), _allowed(report.target.worst_ms))
    facts.add_row("median", median)
    facts.add_row(f"worst of {len(report.gaps_ms)}", worst)
    if report.anatomies:
        facts.add_row("spent on", Text.assemble(_phases(report.anatomies), ("  medians in ms", "dim")))
        share = statistics.median(anatomy["timer_share"] for anatomy in report.anatomies)
        facts.add_row("timeouts", Text.assemble((f"{share:.0%}", "bold"), (" of a wait; see --report", "dim")))
    facts.add_row("leader changes", f"{report.leader_changes}")
    facts.add_row("return of the node", f"worst gap {max(report.repair_gaps_ms, default=0.0):.0f} ms")
    misses = report.misses
    verdict = Text("✗ " + "; ".join(misses), "bold red") if misses else Text("✓ as promised", "bold green")
    return Group(facts, Text(), verdict)


def _phases(anatomies: list[dict[str, Any]]) -> str:
    """What waits consisted of: the phases that occurred in most of them."""
    lengths = {phase: statistics.median(anatomy["phases_ms"][phase] for anatomy in anatomies) for phase in PHASES}
    return " · ".join(f"{NAMES[phase]} {ms:.0f}" for phase, ms in lengths.items() if ms >= 0.5)


def spark(values: list[float]) -> str:
    """A row of bars, the highest for the largest value."""
    top = max(values, default=0.0) or 1.0
    return "".join(BLOCKS[max(1, round(value / top * 8))] for value in values)


def _allowed(limit_ms: float | None) -> tuple[str, str]:
    return (f"  (at most {limit_ms:.0f} ms)" if limit_ms is not None else "", "dim")
