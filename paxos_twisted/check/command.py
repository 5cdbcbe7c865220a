"""`paxosctl check-history`: read history files, judge them, say so."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from paxos_twisted.apps.bank import BankOp, BankResult
from paxos_twisted.check.auction import AuctionModel
from paxos_twisted.check.bank import BankModel
from paxos_twisted.check.chat import ChatModel
from paxos_twisted.check.exactly_once import check_answers
from paxos_twisted.check.explain import explain
from paxos_twisted.check.history import LINE_BYTES_MAX, History, HistoryError, read_history
from paxos_twisted.check.kv import KvModel
from paxos_twisted.check.linearizability import BUDGET_STEPS, check_linearizable
from paxos_twisted.check.model import ApplicationModel, Op, Result
from paxos_twisted.check.verdict import Outcome, Verdict

AnyModel = ApplicationModel[Any, Any]

MODELS: dict[str, Callable[[bool], AnyModel]] = {
    "bank": lambda fresh: BankModel(fresh=fresh),
    "kv": lambda fresh: KvModel(fresh=fresh),
    "chat": lambda fresh: ChatModel(fresh=fresh),
    "auction": lambda fresh: AuctionModel(fresh=fresh),
}
"""The applications whose histories can be checked; the argument says whether the cluster was new."""

EXIT_CODES = {Outcome.OK: 0, Outcome.VIOLATION: 3, Outcome.UNKNOWN: 4}

BankHistory = History[BankOp, BankResult]


class CheckedHistory(NamedTuple):
    """A verdict and what it is about."""

    verdict: Verdict[Any, Any]
    history: History[Any, Any]
    model: AnyModel

    def lines(self) -> list[str]:
        """The explanation in words; empty when there is nothing to explain."""
        return explain(self.verdict, self.history, self.model)


def check_history(
    paths: Sequence[Path | str], model_name: str = "bank", budget: int = BUDGET_STEPS, *, fresh: bool = True
) -> Verdict[Any, Any]:
    """Judge the history that these files hold together.

    Raises:
        HistoryError: a file is malformed, or there is no such model.
        OSError: a file cannot be read.
    """
    return check_files(paths, model_name, budget, fresh=fresh).verdict


def check_files(
    paths: Sequence[Path | str], model_name: str = "bank", budget: int = BUDGET_STEPS, *, fresh: bool = True
) -> CheckedHistory:
    """Like `check_history`, with what is needed to explain the verdict."""
    if model_name not in MODELS:
        raise HistoryError(f"there is no model {model_name!r}; there are {', '.join(sorted(MODELS))}")
    model = MODELS[model_name](fresh)
    history = read_history(paths, model)
    return CheckedHistory(check_recorded(model, history, budget), history, model)


def model_of(paths: Sequence[Path | str]) -> str:
    """The application whose clients wrote these files: its first operation is read; "bank" if nobody can read it.

    Raises:
        OSError: a file cannot be read.
    """
    for path in paths:
        with Path(path).open("rb") as file:
            line = file.readline(LINE_BYTES_MAX)
        try:
            op = bytes(_read_first(line).op)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        for name, make in MODELS.items():
            try:
                make(True).read_op(op)
            except msgspec.DecodeError:
                continue
            return name
    return "bank"


class _FirstLine(msgspec.Struct):
    op: msgspec.Raw


_read_first = msgspec.json.Decoder(_FirstLine).decode


def check_recorded(
    model: ApplicationModel[Op, Result], history: History[Op, Result], budget: int = BUDGET_STEPS
) -> Verdict[Op, Result]:
    """Judge a history in memory: linearizability, and whether each answer fits its request."""
    findings = tuple(check_answers(history.operations, model))
    verdict = check_linearizable(model, history, budget)
    if findings:
        verdict = verdict._replace(findings=findings)
        if verdict.outcome is not Outcome.VIOLATION:
            verdict = verdict._replace(outcome=Outcome.VIOLATION, stage="answers")
    return verdict


@click.command("check-history")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--model",
    "model_name",
    type=click.Choice(sorted(MODELS)),
    help="The application that the cluster ran; else the one whose operation stands in the first line.",
)
@click.option(
    "--budget",
    type=click.IntRange(1),
    default=BUDGET_STEPS,
    show_default=True,
    help="Steps of the search before the verdict is unknown.",
)
@click.option(
    "--start",
    type=click.Choice(["empty", "any"]),
    default="empty",
    show_default=True,
    help="What the application held when the history began: nothing, or anything (the cluster was in use before).",
)
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def check_history_command(
    context: click.Context, files: tuple[Path, ...], model_name: str | None, budget: int, start: str, output: str
) -> None:
    """Check that what clients saw is linearizable.

    FILES are histories in JSON lines (<application>client --history), all written on one host: their times must be of
    one clock.

    \b
    Exit codes: 0 ok, 3 violation, 4 unknown (the budget ended), 2 usage or malformed file.
    """
    try:
        checked = check_files(files, model_name or model_of(files), budget, fresh=start == "empty")
    except (HistoryError, OSError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(_json(checked) if output == "json" else _table(checked))
    context.exit(EXIT_CODES[checked.verdict.outcome])


def _table(checked: CheckedHistory) -> str:
    verdict, history = checked.verdict, checked.history
    rows = [
        ("verdict", verdict.outcome.value),
        ("operations", str(len(history.operations))),
        ("answered", str(history.count("ok"))),
        ("failed", str(history.count("fail"))),
        ("unknown", str(history.count("unknown") + history.count("open"))),
        ("clients", str(len({operation.client for operation in history.operations}))),
        ("steps", f"{verdict.steps} ({verdict.stage})"),
        *(("note", note) for note in history.notes),
    ]
    lines = [f"{name:<12}{value}" for name, value in rows]
    explanation = checked.lines()
    return "\n".join([*lines, "", *explanation] if explanation else lines)


def _json(checked: CheckedHistory) -> str:
    verdict, history = checked.verdict, checked.history
    violation = verdict.violation
    report = {
        "verdict": verdict.outcome.value,
        "stage": verdict.stage,
        "steps": verdict.steps,
        "operations": len(history.operations),
        "answered": history.count("ok"),
        "failed": history.count("fail"),
        "unknown": history.count("unknown") + history.count("open"),
        "clients": len({operation.client for operation in history.operations}),
        "findings": list(verdict.findings),
        "notes": history.notes,
        "violation": None
        if violation is None or verdict.outcome is not Outcome.VIOLATION
        else {
            "client": violation.operation.client,
            "seq": violation.operation.seq,
            "keys": list(violation.keys),
            "line": violation.operation.end_line or None,
        },
        "explanation": checked.lines(),
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
