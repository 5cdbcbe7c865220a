"""`paxosctl grade`: every requirement with its verdict and its evidence."""

import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from paxos_twisted.ctl.command_line import EXIT_OK, EXIT_USAGE, EXIT_VIOLATION, fail
from paxos_twisted.grade import report
from paxos_twisted.grade.rows import KINDS, TableError, choose, load
from paxos_twisted.grade.run import run_tests
from paxos_twisted.grade.verdict import Graded, Result, grade

STYLES: Final = {
    Result.PASS: "green",
    Result.FAIL: "bold red",
    Result.NO_CHECK: "yellow",
    Result.DOCUMENT: "blue",
}

EPILOG: Final = """\b
Verdicts:
  PASS      every test of the row passed
  FAIL      one failed or does not exist, or a page is missing
  NO-CHECK  nothing was run: there is no test, or all were skipped
  DOCUMENT  a page shows it
\b
Exit codes:
  0  no row failed, and every mandatory row and claim has its evidence
  2  wrong arguments, or no table of requirements here
  3  a row failed, or a mandatory one has no evidence
"""


@click.command("grade", epilog=EPILOG)
@click.argument("patterns", nargs=-1, metavar="[ROW]...")
@click.option("--lab", is_flag=True, help="Also what needs the virtual lab (root; makes and removes its machines).")
@click.option(
    "--checkout",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The repository whose tests are run; else this folder.",
)
@click.option(
    "--reports",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where report and logs go; else reports/grade in the checkout.",
)
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def grade_command(patterns: tuple[str, ...], lab: bool, checkout: Path, reports: Path | None, output: str) -> None:
    """Run what shows that each requirement holds, and print the verdicts.

    ROW is a row's name or a pattern (L5-25, 'CH-*'); else all. The rows stand in tests/requirements.yaml. Beside the
    table a page is written (index.html), the same as Markdown and JSON, and one log for each row.
    """
    try:
        rows = choose(load(checkout), patterns)
    except TableError as error:
        fail(str(error), EXIT_USAGE)
    out = reports or checkout / "reports" / "grade"
    out.mkdir(parents=True, exist_ok=True)
    names = sorted({name for row in rows for name in row.names(lab)})
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        task = progress.add_task("tests", total=None)

        def on_progress(done: int, planned: int, last: str) -> None:
            progress.update(task, completed=done, total=planned, description=last.rpartition("/")[2][:60] or "tests")

        outcomes = run_tests(checkout, names, out, on_progress)
    graded = grade(checkout, rows, outcomes, lab)
    where = "On this machine and on the virtual lab" if lab else "On this machine"
    page = report.write(graded, out, checkout, where)
    if output == "json":
        click.echo(report.encode(graded, report.logs(graded, out), out))
    else:
        console = Console(highlight=False)
        console.print(_table(graded))
        console.print(f"{report.summary(graded)}.")
        console.print(f"The evidence: {page}", soft_wrap=True)
    raise SystemExit(EXIT_VIOLATION if any(each.is_bad for each in graded) else EXIT_OK)


def _table(graded: list[Graded]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in graded:
        text = Text(each.row.says if len(each.row.says) <= 100 else f"{each.row.says[:99]}…")
        if each.why:
            text.append(f"\n{each.why}", style=STYLES[each.result])
        mark = Text(each.result.value, style=STYLES[each.result])
        table.add_row(each.row.id, each.row.kind, mark, text)
    assert all(each.row.kind in KINDS for each in graded)
    return table
