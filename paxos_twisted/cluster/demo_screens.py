"""How the demo looks on a terminal, in a pipe, and as a picture."""

import contextlib
import shlex
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from paxos_twisted.cluster.bench_run import BenchReport, Rtt
from paxos_twisted.cluster.demo import Plan, Result
from paxos_twisted.cluster.timeline import Timeline, bars
from paxos_twisted.ctl.agreement import Check, Statuses, Verdict
from paxos_twisted.ctl.screens import MARKS, checks_table, cluster_screen

WIDTH: Final = 100
ROWS: Final = 3
"""Height of the bars."""


class Silent:
    """A stage that shows nothing: for programs that want JSON."""

    is_terminal = False

    def opened(self, plan: Plan) -> None:
        """Nothing."""

    def doing(self, what: str) -> contextlib.AbstractContextManager[object]:
        """Nothing."""
        return contextlib.nullcontext()

    def done(self, what: str, seen: str = "") -> None:
        """Nothing."""

    def nodes(self, name: str, statuses: Statuses) -> None:
        """Nothing."""

    def measured(self, result: Result) -> None:
        """Nothing."""

    def checked(self, title: str, checks: list[Check]) -> None:
        """Nothing."""

    def closed(self, result: Result) -> None:
        """Nothing."""


class Screen:
    """The demo for people. What moves is drawn on stderr, so stdout holds the story only."""

    def __init__(self, out: Console, moving: Console) -> None:
        self._out = out
        self._moving = moving

    @property
    def is_terminal(self) -> bool:
        """Whether something may move."""
        return self._moving.is_terminal

    def opened(self, plan: Plan) -> None:
        """The title."""
        title = Text.assemble(
            ("Paxos-Twisted", "bold"),
            "  a bank that survives the death of its leader\n",
            (
                f"{2 * plan.f + 1} replicas agree on every transaction with Multi-Paxos; any "
                f"{'one' if plan.f == 1 else plan.f} of them may die at any moment.",
                "dim",
            ),
        )
        self._out.print(Panel(title, box=box.ROUNDED, border_style="cyan", padding=(0, 2), expand=True))

    def doing(self, what: str) -> contextlib.AbstractContextManager[object]:
        """A spinner."""
        if not self.is_terminal:
            return contextlib.nullcontext()
        return self._moving.status(Text(what), spinner="dots", spinner_style="cyan")

    def done(self, what: str, seen: str = "") -> None:
        """A check mark."""
        self._out.print(Text.assemble(("✓ ", "bold green"), (what, "bold"), ("  " + seen, "dim") if seen else ""))

    def nodes(self, name: str, statuses: Statuses) -> None:
        """The nodes' table."""
        self._out.print(Padding(cluster_screen(name, statuses), (0, 0, 0, 2)))

    def measured(self, result: Result) -> None:
        """Statistics, then the moment of the kill."""
        assert result.bench is not None
        self._out.print(Padding(rtt_table(result.bench), (0, 0, 0, 2)))
        self._out.print()
        self._out.print(Rule(Text(f" The death of node {result.leader} ", "bold"), style="dim", align="left"))
        self._out.print(Padding(kill_screen(result), (0, 0, 0, 2)))
        self._out.print()

    def checked(self, title: str, checks: list[Check]) -> None:
        """Verdicts."""
        self._out.print(Rule(Text(f" {title} ", "bold"), style="dim", align="left"))
        self._out.print(Padding(checks_table(checks), (0, 0, 1, 2)))

    def closed(self, result: Result) -> None:
        """The last word, and where everything is when something went wrong."""
        verdict = result.verdict
        mark, style = MARKS[verdict]
        words = {
            Verdict.OK: "Nothing was lost, nothing was done twice, all replicas are equal.",
            Verdict.VIOLATION: "A guarantee was violated.",
            Verdict.UNKNOWN: result.error or "It could not be told whether all was well.",
        }
        text = Text.assemble((f"{mark} {words[verdict]}", f"bold {style}"), (f"  {result.seconds:.0f} s", "dim"))
        self._out.print(Panel(text, box=box.ROUNDED, border_style=style, padding=(0, 2)))
        if result.directory:
            folder = Path(result.directory)
            kept = f"Logs, history and data are kept in {folder}"
            command = f"paxosctl check-history {shlex.quote(str(folder / 'history.jsonl'))}"
            self._out.print(Text.assemble(kept, "\n", (command, "dim")))


def rtt_table(bench: BenchReport) -> Group:
    """The lab's statistics: each client, and all together."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("client", no_wrap=True)
    for name in ("answered", "mean", "min", "max", "median", "std dev", "p99", "longest gap"):
        table.add_column(name, justify="right", no_wrap=True)
    for client in bench.clients:
        _rtt_row(table, str(client.process + 1), client.rtt_ms, client.longest_gap_ms)
    table.add_section()
    _rtt_row(table, "together", bench.together.rtt_ms, bench.together.longest_gap.ms, "bold")
    causes = ", ".join(f"{count} × {cause.replace('_', ' ')}" for cause, count in bench.reconnects.items() if count)
    facts = f"round-trip times in ms · {bench.throughput_per_s:,.0f} transactions per second in {bench.seconds:.1f} s"
    return Group(table, Text(facts, "dim"), Text(f"reconnections: {causes or 'none'}", "dim"))


def _rtt_row(table: Table, name: str, rtt: Rtt, gap_ms: float, style: str = "") -> None:
    times = (rtt.mean, rtt.min, rtt.max, rtt.median, rtt.stdev, rtt.p99)
    table.add_row(name, f"{rtt.count:,}", *(f"{time:.2f}" for time in times), f"{gap_ms:.1f}", style=style)


def kill_screen(result: Result) -> Group:
    """Answers around the kill as bars, and the steps of the failover."""
    assert result.bench is not None
    parts: list[Text | Table] = []
    if result.timeline is not None:
        parts += timeline_lines(result.timeline, result.first_answer_ms)
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="bold", no_wrap=True, min_width=9)
    table.add_column()
    table.add_row("0.0 ms", Text.assemble(("kill -9 ", "bold red"), f"node {result.leader}, which leads"))
    for step in result.steps:
        table.add_row(f"+{step.after_ms:.1f} ms", f"node {result.successor}: {step.name}")
    if result.first_answer_ms is not None:
        table.add_row(f"+{result.first_answer_ms:.1f} ms", Text("the next transaction is answered", "bold green"))
    parts.append(table)
    gap = result.bench.together.longest_gap.ms
    parts.append(
        Text.assemble(
            "\n",
            (f"node {result.successor}", "bold"),
            " took over in round ",
            f"{result.successor_round}",
            ". ",
            "The longest time that any client waited for an answer: ",
            (f"{gap:.0f} ms", "bold"),
            ".",
        )
    )
    return Group(*parts)


def timeline_lines(timeline: Timeline, first_answer_ms: float | None) -> list[Text | Table]:
    """The bars, with the gap in red and marks below."""
    gap = range(*timeline.gap)
    lines: list[Text | Table] = [Text(f"answers per {timeline.bucket_ms} ms", "dim")]
    for row in bars(timeline.counts, ROWS):
        line = Text(row, "cyan")
        lines.append(line)
    lines.append(
        Text.assemble(
            ("─" * gap.start, "dim"), ("━" * len(gap), "bold red"), ("─" * (len(timeline.counts) - gap.stop), "dim")
        )
    )
    kill = "kill -9 ▲"
    marks = Text(kill.rjust(timeline.event + 1), "bold red")
    if first_answer_ms is not None and gap and gap.stop < len(timeline.counts):
        marks.append(" " * (gap.stop - len(marks.plain)) + f"▲ +{first_answer_ms:.0f} ms", "bold green")
    lines += [marks, Text()]
    return lines
