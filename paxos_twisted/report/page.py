"""index.html: one file that opens from disk, needs no network, and reads well on paper."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from paxos_twisted.anatomy.split import NAMES, PHASES, Anatomy
from paxos_twisted.report.model import COLOURS, MARKS, MISSED, OK, SKIPPED, UNKNOWN, VIOLATION, WORDS, Run, Scenario

STYLE: Final = (Path(__file__).parent / "page.css").read_text("utf-8")

TONES: Final = {OK: "good", VIOLATION: "bad", UNKNOWN: "odd", MISSED: "late", SKIPPED: "none"}

OTHERS_NAMED: Final = 6
"""Clients whose waits are listed one by one."""

NO_PLOTS: Final = (
    "There are no plots: matplotlib is not installed here (<code>pip install 'paxos-twisted[report]'</code>)."
)


def page(run: Run) -> str:
    """The whole page."""
    has_plots = _plots() is not None
    body = [
        _head(run),
        _summary(run),
        "" if has_plots else f'<p class="note">{NO_PLOTS}</p>',
        *(_scenario(one) for one in run.scenarios),
        _facts(run),
        _how_to_read(),
    ]
    title = escape(run.title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<title>{title}</title>\n<meta name="viewport" content="width=device-width">\n'
        f"<style>\n{STYLE}{_colours()}</style></head>\n<body><main>\n" + "\n".join(body) + "\n</main></body></html>\n"
    )


def _plots() -> Any:
    """The module that draws, or None."""
    try:
        from paxos_twisted.report import plots  # noqa: PLC0415 - an optional extra
    except ImportError:
        return None
    return plots


def _colours() -> str:
    return "".join(f".{phase}{{--c:{colour}}}\n" for phase, colour in COLOURS.items())


def _head(run: Run) -> str:
    count = len(run.scenarios)
    held = sum(one.verdict in (OK, MISSED) for one in run.scenarios)
    skipped = sum(one.verdict == SKIPPED for one in run.scenarios)
    said = f"{held} of {count - skipped} scenarios kept every promise about the data"
    if skipped:
        said += f"; {skipped} could not be run here"
    said = f"<p>{said}.</p>" if count > 1 else ""
    return (
        f'<header class="{TONES[run.verdict]}"><p class="kind">Paxos-Twisted</p><h1>{escape(run.title)}</h1>'
        f'<p class="verdict"><b>{MARKS[run.verdict]}</b> {WORDS[run.verdict]}</p>{said}</header>'
    )


def _summary(run: Run) -> str:
    rows = "".join(_summary_row(one) for one in run.scenarios)
    head = "<th>scenario</th><th></th><th class=n>longest wait</th><th class=wide>what it consisted of</th>"
    head += "<th class=n>timeouts</th><th class=n>leader changes</th>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<section class="summary">{table}{_legend()}</section>'


def _summary_row(one: Scenario) -> str:
    bar = ""
    if one.anatomies:
        longest = max(one.anatomies, key=lambda anatomy: anatomy.gap_ms)
        bar = _bar(longest)
    gap = "" if one.gap_ms is None else f"{one.gap_ms:,.0f} ms"
    share = f"{one.timeout_share:.0%}" if one.timeout_share is not None and one.anatomies else ""
    changes = "" if one.leader_changes is None else str(one.leader_changes)
    return (
        f'<tr class="{TONES[one.verdict]}"><td><a href="#{escape(one.name)}">{escape(one.name)}</a></td>'
        f'<td class="mark" title="{one.verdict}">{MARKS[one.verdict]}</td><td class=n>{gap}</td>'
        f"<td class=wide>{bar}</td><td class=n>{share}</td><td class=n>{changes}</td></tr>"
    )


def _bar(anatomy: Anatomy) -> str:
    """The wait as a strip; what is only waiting for a timer is hatched."""
    pieces = "".join(
        f'<i class="{part.phase}{" timer" if part.timer else ""}" style="flex-grow:{part.ms:.4f}" '
        f'title="{escape(NAMES[part.phase])}: {part.ms:.1f} ms – {escape(part.text)}"></i>'
        for part in anatomy.parts
    )
    return f'<span class="strip">{pieces}</span>'


def _legend() -> str:
    known = "".join(f'<span><i class="{phase}"></i>{NAMES[phase]}</span>' for phase in PHASES)
    return f'<p class="legend">{known}<span><i class="hatched"></i>waiting for a timer</span></p>'


def _scenario(one: Scenario) -> str:
    parts = [
        f'<section class="scenario" id="{escape(one.name)}"><h2><span class="mark {TONES[one.verdict]}">'
        f"{MARKS[one.verdict]}</span>{escape(one.title)}</h2>",
        _checks(one),
        _pictures(one),
        _anatomy(one),
        _clients(one),
        _raw(one),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _checks(one: Scenario) -> str:
    items = "".join(
        f'<li class="{TONES[check.verdict]}"><b>{MARKS[check.verdict]}</b><span>{escape(check.name)}'
        + (f"<small>{escape(check.text)}</small>" if check.text else "")
        + "</span></li>"
        for check in one.checks
    )
    return f'<ul class="checks">{items}</ul>'


def _pictures(one: Scenario) -> str:
    plots = _plots()
    if plots is None or not one.evidence.answers:
        return ""
    found = []
    if len(one.anatomies) > 3:
        found.append(_figure(plots.many(one.anatomies), "Each failover: the client that waited longest, and for what."))
        order = sorted(range(len(one.anatomies)), key=lambda index: one.anatomies[index].gap_ms)
        chosen = [(order[len(order) // 2], "The median failover"), (order[-1], "The worst failover")]
    else:
        chosen = [(index, "The failover") for index in range(len(one.anatomies))]
    for index, name in chosen:
        anatomy = one.anatomies[index]
        text = f"{name}: every answer around it (the line before a dot is how long its client waited), what the "
        text += "longest wait consisted of, and whom each node followed (a thick lane leads, a thin one follows)."
        if anatomy.notes:
            text += " Note: " + "; ".join(anatomy.notes) + "."
        found.append(_figure(plots.close_up(one, index), text))
    if len(one.anatomies) <= 3:
        found.append(_figure(plots.overview(one), "The whole run: every answer, and how long its client had waited."))
        if any(one.evidence.lanes.values()):
            found.append(
                _figure(plots.timeline(one), "Whom each node followed; black: it was not there, hatched: frozen.")
            )
    return "\n".join(found)


def _figure(svg: str, text: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>"


def _anatomy(one: Scenario) -> str:
    if not one.anatomies:
        reason = f" ({escape(one.why_no_anatomy)})" if one.why_no_anatomy else ""
        if one.about.get("fault", "none") == "none" or one.verdict == SKIPPED:
            return ""
        return f'<p class="note">There is no failover to take apart{reason}.</p>'
    if len(one.anatomies) > 3:
        return _phase_table(one.anatomies)
    return "\n".join(
        _parts_table(anatomy, others)
        for anatomy, others in zip(one.anatomies, one.anatomies_of_clients or [[]] * len(one.anatomies), strict=True)
    )


def _parts_table(anatomy: Anatomy, others: Sequence[Anatomy]) -> str:
    rows = "".join(
        f'<tr><td><i class="dot {part.phase}"></i>{NAMES[part.phase]}</td><td>{escape(part.text)}</td>'
        f"<td class=n>{part.start_ms:,.1f}</td><td class=n>{part.ms:,.1f}</td><td>{escape(part.timer)}</td></tr>"
        for part in anatomy.parts
        if part.ms >= 0.05
    )
    timers = "; ".join(f"{escape(timer)} {ms:,.0f} ms" for timer, ms in anatomy.timers_ms.items())
    answer = f"<b>{anatomy.timer_share:.0%}</b> of the wait is timeouts" + (f": {timers}." if timers else ".")
    moved = f"Node {anatomy.new_leader} took over"
    if anatomy.old_leader is not None and anatomy.old_leader != anatomy.new_leader:
        moved += f" from node {anatomy.old_leader}"
    tries = f"{anatomy.attempts} campaign{'s' * (anatomy.attempts != 1)}"
    total = f"<tr class=total><td>together</td><td></td><td></td><td class=n>{anatomy.gap_ms:,.1f}</td><td></td></tr>"
    text = f"{moved} in round {anatomy.rnd} after {tries}. {answer}"
    if anatomy.rnd is None:
        text = answer  # nobody leads, and nobody was elected
    if anatomy.uncertainty_ms >= 0.1:
        text += f" Times of different machines are known to ± {anatomy.uncertainty_ms:.1f} ms."
    if len(others) > OTHERS_NAMED:
        text += f" {len(others)} clients waited {others[-1].gap_ms:,.1f} to {others[0].gap_ms:,.1f} ms."
    elif len(others) > 1:
        waits = ", ".join(f"client {each.client} {each.gap_ms:,.1f} ms" for each in others)
        text += f" All clients: {escape(waits)}."
    head = "<th>phase</th><th>what happens</th><th class=n>from, ms</th><th class=n>takes, ms</th><th>timer</th>"
    return f"<p>{text}</p><table class=parts><thead><tr>{head}</tr></thead><tbody>{rows}{total}</tbody></table>"


def _phase_table(anatomies: Sequence[Anatomy]) -> str:
    """Medians over many failovers."""
    head = "".join(f'<th class=n><i class="dot {phase}"></i>{NAMES[phase]}</th>' for phase in PHASES)
    rows = []
    for name, rank in (("smallest", 0.0), ("median", 0.5), ("largest", 1.0)):
        cells = "".join(
            f"<td class=n>{_at(sorted(each.phases_ms[phase] for each in anatomies), rank):,.1f}</td>"
            for phase in PHASES
        )
        gap = _at(sorted(each.gap_ms for each in anatomies), rank)
        share = _at(sorted(each.timer_share for each in anatomies), rank)
        rows.append(f"<tr><td>{name}</td>{cells}<td class=n><b>{gap:,.1f}</b></td><td class=n>{share:.0%}</td></tr>")
    return (
        f"<p>{len(anatomies)} failovers. Each column is ranked by itself, so a row is not one failover.</p>"
        f"<table class=parts><thead><tr><th>ms</th>{head}<th class=n>wait</th><th class=n>timeouts</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _at(ordered: Sequence[float], rank: float) -> float:
    return ordered[round(rank * (len(ordered) - 1))]


def _clients(one: Scenario) -> str:
    if not one.clients:
        return ""
    columns = ("mean", "min", "max", "median", "stdev", "p99", "gap_ms")
    names = ("mean", "min", "max", "median", "std dev", "p99", "longest wait")
    head = "<th>client</th><th class=n>answered</th>" + "".join(f"<th class=n>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{escape(str(row['host']))}/{row['client']}</td><td class=n>{row['count']:,}</td>"
        + "".join(f"<td class=n>{row[key]:,.2f}</td>" for key in columns)
        + "</tr>"
        for row in one.clients
    )
    note = "Round-trip times in milliseconds, retries included; standard deviation of the sample (n-1)."
    table = f"<table class=clients><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    compared = f"<p>{escape(one.compared)}</p>" if one.compared else ""
    return f"{table}{compared}<p class=small>{note}</p>"


def _raw(one: Scenario) -> str:
    if not one.raw:
        return ""
    links = ", ".join(f'<a href="{escape(path)}">{escape(name)}</a>' for name, path in one.raw.items())
    return f'<p class="small">Raw files: {links}</p>'


def _facts(run: Run) -> str:
    parts = []
    if run.facts:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in run.facts.items())
        parts.append(f"<h2>Versions and machines</h2><table class=facts>{rows}</table>")
    if run.settings:
        parts.append(f"<h2>Settings</h2><pre>{escape(run.settings)}</pre>")
    return f"<section>{''.join(parts)}</section>" if parts else ""


def _how_to_read() -> str:
    meanings: Iterable[tuple[str, str]] = (
        ("detect", "until a node gives the old leader up: its connections break, or it has been silent for too long"),
        ("elect", "until a node asks for promises: waiting for its turn, and asking who would follow it"),
        ("phase1", "until a majority has promised the new round, durably, and told its votes"),
        ("fill", "until what those votes bind is decided again"),
        ("client_timeout", "the new leader is ready, but the client waits for a timer of its own"),
        ("reconnect", "the new leader is ready, and the client asks its way to it"),
        ("first_commit", "the client's request is decided and answered like any other"),
    )
    rows = "".join(f'<dt><i class="dot {phase}"></i>{NAMES[phase]}</dt><dd>{text}</dd>' for phase, text in meanings)
    return (
        "<section class=how><h2>How to read this</h2><p>A wait is the time from a client's last answer before a fault "
        "to its next one. At each moment one thing keeps it from its answer, so the phases follow each other without "
        "gap or overlap and add up to the wait. What a client does while nobody could have answered it is not counted: "
        "it would have had to wait anyway. Hatched pieces are waiting for a timer to run out.</p>"
        f"<dl>{rows}</dl></section>"
    )
