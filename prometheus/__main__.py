"""`python -m prometheus` writes prometheus/rules/*.yml and docs/runbooks/README.md."""

from pathlib import Path

from prometheus.alerts import ALERTS, RUNBOOKS
from prometheus.provoke import PROVOCATIONS
from prometheus.recording import RECORDINGS
from prometheus.rules import alerts_yaml, recording_yaml

FOLDER = Path(__file__).parent / "rules"
PAGES = Path(__file__).parent.parent / RUNBOOKS


def generated() -> dict[Path, str]:
    """The generated files and what belongs in them."""
    return {
        FOLDER / "paxos-recording.yml": recording_yaml("paxos-recording", RECORDINGS, "recording.py"),
        FOLDER / "paxos-alerts.yml": alerts_yaml("paxos-alerts", ALERTS, RUNBOOKS, "alerts.py"),
        PAGES / "README.md": index(),
    }


def index() -> str:
    """The list of alerts with their pages."""
    lines = [
        "# Runbooks",
        "",
        "One page for each alert: what it means for clients, what to look at first, what to do. This list is generated",
        "from [prometheus/alerts.py](../../prometheus/alerts.py) by `python -m prometheus`; the pages are not.",
        "",
        "Critical: clients notice. Warning: they may soon. Info: good to know.",
        "",
        "| alert | severity | fires after | meaning | provoked by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for alert in ALERTS:
        page = f"[{alert.name}]({alert.name}.md)"
        hold = "at once" if alert.hold == "0s" else alert.hold
        how = PROVOCATIONS[alert.name].how
        lines.append(f"| {page} | {alert.severity} | {hold} | {alert.description} | {how} |")
    lines += [
        "",
        "`python -m prometheus.provoke` does for each alert what the last column says, to a real cluster that a real",
        "Prometheus watches with these rules, and waits until Alertmanager knows (some minutes; `--hold 2s` shortens",
        "the times in the third column). Tests do the same for some of them.",
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
