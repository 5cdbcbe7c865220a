"""Judges a run of failover_test.yml, and writes index.html, report.json and report.md into its folder.

Exit codes: 0 all properties hold, 3 one is violated, 4 a scenario could not be run or judged.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from paxos_twisted.report.folder import Folder, parsed
from paxos_twisted.report.judge import judge
from paxos_twisted.report.markdown import markdown
from paxos_twisted.report.model import MARKS, OK, SKIPPED, UNKNOWN, VIOLATION, Run, Scenario
from paxos_twisted.report.page import page

EXIT_CODES = {VIOLATION: 3, UNKNOWN: 4}


def write(run: Run, folder: Path) -> None:
    """The three forms of a report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(run.as_json(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "report.md").write_text(markdown(run), "utf-8")
    (folder / "index.html").write_text(page(run), "utf-8")


def read(path: Path) -> Run:
    """The run whose scenarios lie in a folder."""
    paths = sorted(path.glob("*/scenario.json"), key=lambda path: path.stat().st_mtime_ns)
    folders = [Folder(path.parent) for path in paths]
    run = Run(path.name, f"Crash tests: {path.name}", [judge(folder) for folder in folders])
    compare(run.scenarios)
    told = parsed((path / "run.json").read_text("utf-8")) if (path / "run.json").exists() else {}
    run.facts = facts(folders, told)
    run.settings = next((text for folder in folders if (text := settings(folder))), "")
    return run


def compare(scenarios: list[Scenario]) -> None:
    """Several clients at once beside one alone, where nothing was broken in either. [L5-113]"""
    quiet = [one for one in scenarios if one.about.get("fault") == "none" and one.clients]
    alone = next((one for one in quiet if len(one.clients) == 1), None)
    for one in quiet:
        if alone is None or len(one.clients) == 1:
            continue
        texts = []
        for key, name in (("mean", "mean"), ("median", "median"), ("p99", "p99")):
            before = alone.clients[0][key]
            now = sum(row[key] for row in one.clients) / len(one.clients)
            texts.append(
                f"{name} {now:.2f} instead of {before:.2f} ms" + (f" (× {now / before:.2f})" if before else "")
            )
        one.compared = (
            f"Beside one client alone ({alone.name}), a client of {len(one.clients)}: " + ", ".join(texts) + "."
        )


def facts(folders: list[Folder], told: dict[str, Any]) -> dict[str, str]:
    """Versions and machines, as far as the files say."""
    found: dict[str, str] = {}
    for name, value in told.items():
        if name == "machines":
            for machine, about in value.items():
                found[machine] = ", ".join(f"{key} {text}" for key, text in about.items())
        else:
            found[name] = str(value)
    for folder in folders:
        about = folder.about
        for name, value in {**about.get("versions", {}), **about.get("release", {})}.items():
            found.setdefault(name, str(value))
        for name in ("cluster", "profile", "detector_delay"):
            if name in about:
                found.setdefault(name.replace("_", " "), str(about[name]))
        for label, value in _build(folder).items():
            found.setdefault(label, value)
    return found


def settings(folder: Folder) -> str:
    """The cluster's configuration, if the load host has left it."""
    return folder.text(folder.about["load_host"], "cluster.yml")


def _build(folder: Folder) -> dict[str, str]:
    """What the nodes' metrics say of their versions."""
    host = folder.about["load_host"]
    for name in folder.hosts.get(host, ()):
        if name.startswith("after/metrics-"):
            for line in folder.text(host, name).splitlines():
                if line.startswith(("paxos_build_info{", "paxos_node_info{")):
                    pairs = line[line.index("{") + 1 : line.rindex("}")].split(",")
                    labels = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
                    wanted = {"version": "paxos-twisted", "python": "Python", "twisted": "Twisted", "engine": "engine",
                              "app": "application", "durability": "durability", "policy": "leader policy"}  # fmt: skip
                    found = {wanted[key]: value.strip('"') for key, value in labels.items() if key in wanted}
                    if "paxos-twisted" in found:
                        return found
    return {}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    run = read(folder)
    write(run, folder)
    for one in run.scenarios:
        print(
            f"{MARKS[one.verdict]} {one.name:<26}{one.verdict:<10}"
            + ("" if one.gap_ms is None else f"{one.gap_ms:6.0f} ms")
            + ("" if not one.timeout_share else f", {one.timeout_share:.0%} of it timeouts")
        )
        for check in one.checks:
            if check.verdict not in (OK, SKIPPED):
                print(f"    {MARKS[check.verdict]} {check.name}: {check.text}")
    print(f"{folder / 'report.md'}")
    print(f"{folder / 'index.html'}")
    return EXIT_CODES.get(run.verdict, 0)
