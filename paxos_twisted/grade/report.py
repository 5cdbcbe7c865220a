"""The evidence as files: a page to look at, the same in Markdown and JSON, and one log for each row."""

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import msgspec

from paxos_twisted import __version__
from paxos_twisted.grade.rows import KINDS
from paxos_twisted.grade.verdict import Graded, Result

COLOURS: Final = {
    Result.PASS: "#1a7f37",
    Result.FAIL: "#cf222e",
    Result.NO_CHECK: "#9a6700",
    Result.DOCUMENT: "#0969da",
}

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem; } p.sum { font-size: 1.1rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .5rem; }
td { vertical-align: top; }
tr { border-bottom: 1px solid var(--line); break-inside: avoid; }
thead { position: sticky; top: 0; background: Canvas; }
td:first-child { white-space: nowrap; font-variant-numeric: tabular-nums; }
.mark { color: #fff; border-radius: .3rem; padding: .05rem .45rem; font-size: .8rem; font-weight: 600; }
.mark { white-space: nowrap; }
.why { color: #cf222e; } .shown { font-size: .85rem; opacity: .8; } code { font-size: .9em; }
@media print { thead { position: static; } a { color: inherit; } }
"""


def logs(graded: Sequence[Graded], out: Path) -> dict[str, Path]:
    """Write a log for each row that was run. Returns row id -> file, relative to `out`."""
    (out / "logs").mkdir(parents=True, exist_ok=True)
    written = {}
    for each in graded:
        if each.outcomes:
            path = Path("logs") / f"{each.row.id}.txt"
            (out / path).write_text(_log(each))
            written[each.row.id] = path
    return written


def _log(graded: Graded) -> str:
    row = graded.row
    lines = [f"{row.id} ({KINDS[row.kind]}): {row.says}", f"{graded.result.value} {graded.why}".rstrip(), ""]
    for outcome in graded.outcomes:
        lines.append(f"{outcome.outcome:8}{outcome.seconds:8.2f} s  {outcome.test}")
        if outcome.text.strip():
            lines += [f"    {line}" for line in outcome.text.strip().splitlines()]
    return "\n".join(lines) + "\n"


def as_json(graded: Sequence[Graded], paths: dict[str, Path], out: Path) -> dict[str, Any]:
    """The verdicts for programs."""
    return {
        "rows": [
            {
                "id": each.row.id,
                "kind": each.row.kind,
                "result": each.result.value,
                "log": str(out / paths[each.row.id]) if each.row.id in paths else None,
                "why": each.why,
                "documents": list(each.row.documents),
            }
            for each in graded
        ]
    }


def summary(graded: Sequence[Graded]) -> str:
    """One line: how many rows of each verdict, and how the mandatory ones stand."""
    counts = Counter(each.result for each in graded)
    needed = [each for each in graded if each.row.is_mandatory]
    bad = sum(each.is_bad for each in graded)
    parts = [f"{counts[result]} {result.value}" for result in Result if counts[result]]
    verdict = "nothing mandatory is missing" if not bad else f"{bad} must be looked at"
    return f"{len(graded)} rows, {len(needed)} of them mandatory or claims: {', '.join(parts)}; {verdict}"


def write(graded: Sequence[Graded], out: Path, root: Path, where: str) -> Path:
    """Write everything below `out` and return the page. `where`: what the tests ran on, for the heading."""
    paths = logs(graded, out)
    up = (
        "../" * len(out.resolve().relative_to(root.resolve()).parts)
        if out.resolve().is_relative_to(root.resolve())
        else ""
    )
    (out / "report.json").write_text(json.dumps(as_json(graded, paths, Path()), indent=2, ensure_ascii=False) + "\n")
    (out / "report.md").write_text(_markdown(graded, paths, up, where))
    page = out / "index.html"
    page.write_text(_html(graded, paths, up, where))
    return page


def _markdown(graded: Sequence[Graded], paths: dict[str, Path], up: str, where: str) -> str:
    lines = [f"# Evidence for Paxos-Twisted {__version__}", "", f"{where}. {summary(graded)}.", ""]
    lines += ["| row | kind | verdict | requirement | shown by |", "|---|---|---|---|---|"]
    for each in graded:
        row = each.row
        log = f"[{each.result.value}]({paths[row.id]})" if row.id in paths else each.result.value
        shown = [f"`{name}`" for name in (*row.tests, *row.lab)] + [f"[{page}]({up}{page})" for page in row.documents]
        says = row.says + (f" **{each.why}**" if each.why else "")
        lines.append(f"| {row.id} | {row.kind} | {log} | {says.replace('|', chr(92) + '|')} | {'<br>'.join(shown)} |")
    return "\n".join(lines) + "\n"


def _html(graded: Sequence[Graded], paths: dict[str, Path], up: str, where: str) -> str:
    rows = []
    for each in graded:
        row, mark = each.row, f'<span class="mark" style="background:{COLOURS[each.result]}">{each.result.value}</span>'
        if row.id in paths:
            mark = f'<a href="{paths[row.id]}">{mark}</a>'
        why = f'<div class="why">{escape(each.why)}</div>' if each.why else ""
        shown = [f"<code>{escape(name)}</code>" for name in (*row.tests, *row.lab)]
        shown += [f'<a href="{up}{escape(page)}">{escape(page)}</a>' for page in row.documents]
        rows.append(
            f'<tr id="{row.id}"><td><b>{row.id}</b><br><small title="{KINDS[row.kind]}">{row.kind}</small></td>'
            f'<td>{mark}</td><td>{escape(row.says)}{why}<div class="shown">{"<br>".join(shown)}</div></td></tr>'
        )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Evidence: Paxos-Twisted {__version__}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>'
        f"<h1>Evidence for Paxos-Twisted {__version__}</h1>"
        f'<p class="sum">{escape(where)}. {escape(summary(graded))}.</p>'
        f"<table><thead><tr><th>row</th><th>verdict</th><th>requirement, and what shows it</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></html>\n"
    )


def encode(graded: Sequence[Graded], paths: dict[str, Path], out: Path) -> str:
    """`as_json` as text."""
    return msgspec.json.format(msgspec.json.encode(as_json(graded, paths, out)), indent=2).decode()
