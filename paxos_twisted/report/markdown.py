"""report.md: the report for people who read text."""

from paxos_twisted.anatomy.split import NAMES, PHASES, Anatomy
from paxos_twisted.report.model import MARKS, WORDS, Run, Scenario


def markdown(run: Run) -> str:
    """The whole report."""
    lines = [f"# {run.title}", "", f"**{WORDS[run.verdict]}**", ""]
    lines += [
        "| scenario | verdict | longest wait | of it timeouts | leader changes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in run.scenarios:
        gap = "" if one.gap_ms is None else f"{one.gap_ms:.0f} ms"
        share = "" if one.timeout_share is None else f"{one.timeout_share:.0%}"
        changes = "" if one.leader_changes is None else one.leader_changes
        lines.append(
            f"| [{one.name}](#{one.name}) | {MARKS[one.verdict]} {one.verdict} | {gap} | {share} | {changes} |"
        )
    for one in run.scenarios:
        lines += _scenario(one)
    if run.facts:
        lines += ["", "## Versions and machines", "", "| | |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in run.facts.items()]
    if run.settings:
        lines += ["", "## Settings", "", "```yaml", run.settings.rstrip("\n"), "```"]
    return "\n".join(lines) + "\n"


def _scenario(one: Scenario) -> list[str]:
    lines = ["", f"## {one.name}", "", f"{one.title}.", ""]
    lines += [
        f"- {MARKS[check.verdict]} {check.name}" + (f": {check.text}" if check.text else "") for check in one.checks
    ]
    if one.anatomies:
        lines += ["", *_phases(one.anatomies)]
    if one.clients:
        lines += ["", "| client | answered | mean | min | max | median | std dev | p99 | longest wait |"]
        lines += ["| --- |" + " --- |" * 8]
        for row in one.clients:
            times = " | ".join(f"{row[key]:.2f}" for key in ("mean", "min", "max", "median", "stdev", "p99", "gap_ms"))
            lines.append(f"| {row['host']}/{row['client']} | {row['count']} | {times} |")
        lines += ["", "Round-trip times in milliseconds; standard deviation of the sample (n-1)."]
        if one.compared:
            lines += ["", one.compared]
    if one.raw:
        lines += ["", "Raw files: " + ", ".join(f"[{name}]({path})" for name, path in one.raw.items())]
    return lines


def _phases(anatomies: list[Anatomy]) -> list[str]:
    """Where the time went, a column for each phase."""
    lines = ["| wait | " + " | ".join(NAMES[phase] for phase in PHASES) + " | rest | of it timeouts |"]
    lines += ["| --- |" + " --- |" * (len(PHASES) + 2)]
    for anatomy in anatomies:
        phases = anatomy.phases_ms
        cells = [f"{anatomy.gap_ms:.1f} ms", *(f"{phases[phase]:.1f}" for phase in PHASES)]
        cells += [f"{anatomy.remainder_ms:.1f}", f"{anatomy.timer_share:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
