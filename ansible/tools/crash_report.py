"""Judges a run of failover_test.yml, and writes report.json and report.md into its folder.

    python tools/crash_report.py reports/20261120T150000Z-virtual

Exit codes: 0 all properties hold, 3 one is violated, 4 a scenario could not be run or judged. Standard library only.
"""

import argparse
import json
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OK, VIOLATION, UNKNOWN, MISSED, SKIPPED = "ok", "violation", "unknown", "missed", "skipped"
MARKS = {OK: "✓", VIOLATION: "✗", UNKNOWN: "?", MISSED: "!", SKIPPED: "–"}
EXIT_CODES = {VIOLATION: 3, UNKNOWN: 4}
ROUND_STRIDE = 1000
"""A round's number is its leadership's number times this, plus the node's id."""


@dataclass
class Check:
    """One property, and whether it holds."""

    name: str
    verdict: str
    text: str


@dataclass
class Scenario:
    """What one scenario has shown."""

    name: str
    title: str
    verdict: str = OK
    checks: list[Check] = field(default_factory=list)
    clients: list[dict[str, Any]] = field(default_factory=list)
    """The lab's table, a row for each host with load."""
    gap_ms: float | None = None
    timeout_share: float | None = None
    leader_changes: int | None = None
    leaders: list[int | None] = field(default_factory=list)
    """Before and after."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What happened when, by the wall clock: the fault, its healing, and what nodes say about leadership."""
    raw: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


class Folder:
    """The files of one scenario: its own, and those in the archives of the hosts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about: dict[str, Any] = json.loads((path / "scenario.json").read_text())
        self.hosts: dict[str, dict[str, bytes]] = {}
        for archive in sorted(path.glob("*.tar.gz")):
            with tarfile.open(archive) as tar:
                self.hosts[archive.name.removesuffix(".tar.gz")] = {
                    member.name.removeprefix("./"): content.read()
                    for member in tar.getmembers()
                    if member.isfile() and (content := tar.extractfile(member)) is not None
                }

    def text(self, host: str, name: str) -> str:
        """A file of a host; empty when there is none."""
        return self.hosts.get(host, {}).get(name, b"").decode("utf-8", "replace")

    def json(self, host: str, name: str) -> Any:
        """A JSON file of a host; {} when there is none, or it is no JSON."""
        return parsed(self.text(host, name))

    def lines(self, host: str, name: str) -> list[Any]:
        """JSON lines of a host."""
        return [value for line in self.text(host, name).splitlines() if (value := parsed(line))]


def parsed(text: str) -> Any:
    """The value of a JSON text; {} when it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


def judge(folder: Folder) -> Scenario:
    """Judge one scenario."""
    about = folder.about
    found = Scenario(about["name"], about["title"], about=about)
    if about.get("skipped"):
        found.verdict = SKIPPED
        found.checks = [Check("it was run", SKIPPED, about["skipped"])]
        return found
    host = about["load_host"]
    before, after = folder.json(host, "before/verify.json"), folder.json(host, "after/verify.json")
    benches = {name: bench for name in sorted(folder.hosts) if (bench := folder.json(name, "bench.json"))}
    found.clients = [row for name, bench in benches.items() for row in table(name, bench)]
    if benches:
        worst = max((bench["together"]["longest_gap"] for bench in benches.values()), key=lambda gap: gap["ms"])
        found.gap_ms, found.timeout_share = worst["ms"], worst["timeout_share"]
    found.leaders = [leader(before), leader(after)]
    found.events = events(folder)
    found.raw = {name: f"{about['name']}/{name}.tar.gz" for name in folder.hosts}
    found.checks = [
        check_run(folder),
        check_fault(folder),
        check_answers(about, benches),
        *check_slots(about, before, after, benches),
        check_state(after),
        check_history(folder, host),
    ]
    struck = {record.get("argument") or record["host"] for record in records(folder) if "struck_ns" in record}
    changes = check_leaders(about, before, after, struck, found)
    found.checks += [changes, check_gap(about, found.gap_ms)]
    found.checks = [check for check in found.checks if check.verdict != SKIPPED]
    found.verdict = worst_of(check.verdict for check in found.checks)
    if about.get("strict_times") and found.verdict == MISSED:
        found.verdict = VIOLATION
    return found


def table(host: str, bench: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The lab's statistics, a row for each client."""
    for client in bench["clients"]:
        yield {"host": host, "client": client["process"] + 1, "gap_ms": client["longest_gap_ms"], **client["rtt_ms"]}


def check_run(folder: Folder) -> Check:
    """Whether the playbook came to the end of the scenario."""
    failures = [parsed(path.read_text()) for path in sorted(folder.path.glob("failed-*.json"))]
    if failures:
        text = "; ".join(f"{one['host']}: {one['task']}: {' '.join(one['text'].split())[:300]}" for one in failures)
        return Check("it was run to its end", UNKNOWN, text)
    return Check("it was run to its end", OK, "")


def check_fault(folder: Folder) -> Check:
    """Whether the fault came, and was mended."""
    name, about = "the fault came, and was mended", folder.about
    if about["fault"] == "none":
        return Check(name, SKIPPED, "")
    calls = folder.lines(about["load_host"], "trigger.jsonl")
    wanted = about.get("repeat", 1)
    if len(calls) != wanted or not all(call["heard"] for call in calls):
        said = folder.text(about["load_host"], "bench.err").strip().replace("\n", " ")[-300:]
        return Check(name, UNKNOWN, f"{len(calls)} of {wanted} faults were called for; {said}")
    struck = {record["host"]: record for record in records(folder) if "struck_ns" in record}
    if not struck:
        return Check(name, UNKNOWN, "no agent has struck")
    failed = {host: record for host, record in struck.items() if record.get("state") != "healed"}
    if failed:
        text = "; ".join(f"{host}: {record.get('error', record.get('state'))}" for host, record in failed.items())
        return Check(name, UNKNOWN, text)
    took = max((record["struck_ns"] - record["striking_ns"]) / 1e6 for record in struck.values())
    nodes = ", ".join(node for call in calls for node in call["nodes"])
    return Check(name, OK, f"{about['fault']}: {nodes} ({took:.0f} ms to strike)")


def check_answers(about: Mapping[str, Any], benches: Mapping[str, Any]) -> Check:
    """Whether every command was answered."""
    name = "every command was answered"
    if not benches:
        return Check(name, UNKNOWN, "the load has left no report")
    sums = {
        key: sum(bench["together"][key] for bench in benches.values()) for key in ("answered", "refused", "unknown")
    }
    wanted = about["load"]["clients"] * about["load"]["requests"] * len(benches)
    text = f"{sums['answered']:,} of {wanted:,} answered, {sums['refused']:,} refused, {sums['unknown']:,} unknown"
    return Check(name, OK if sums["answered"] == wanted else VIOLATION, text)


def check_slots(
    about: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], benches: Mapping[str, Any]
) -> list[Check]:
    """Whether the log grew by exactly what the clients sent, and nothing took effect twice."""
    once, exact = "no command took effect twice, none was lost", "slots = commands + no-ops + duplicates"
    grown = growth(before, after)
    if not grown or not benches:
        return [Check(once, UNKNOWN, "no node can be compared with itself"), Check(exact, SKIPPED, "")]
    answered = sum(bench["together"]["answered"] for bench in benches.values())
    unknown = sum(bench["together"]["unknown"] for bench in benches.values())
    first, second = OK, OK
    for delta in grown.values():
        if not answered <= delta["applied"] <= answered + unknown:
            first = VIOLATION
        adds_up = delta["slots"] == delta["applied"] + delta["noops"] + delta["duplicates"]
        if not adds_up or (about["fault"] == "none" and delta["slots"] != answered):
            second = VIOLATION
    effects = {node: f"{delta['applied']:,}" for node, delta in grown.items()}
    sums = {
        node: f"{delta['slots']:,} = {delta['applied']:,} + {delta['noops']:,} + {delta['duplicates']:,}"
        for node, delta in grown.items()
    }
    return [
        Check(once, first, f"{answered:,} answered, took effect: {by_node(effects)}"),
        Check(exact, second, by_node(sums)),
    ]


def by_node(texts: Mapping[str, str]) -> str:
    """One text if all nodes say the same, else one for each."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"node {node}: {text}" for node, text in texts.items())


def growth(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """By how much each node's counts have grown, if none of it came with a snapshot."""
    grown = {}
    for node, then in answered_nodes(before).items():
        now = answered_nodes(after).get(node)
        if now is not None and now["commands"]["from_snapshot"] == then["commands"]["from_snapshot"]:
            delta = {key: now["commands"][key] - then["commands"][key] for key in ("applied", "noops", "duplicates")}
            grown[node] = {**delta, "slots": now["applied"] - then["applied"]}
    return grown


def check_state(after: Mapping[str, Any]) -> Check:
    """Whether all nodes hold the same, in the end."""
    name = "the same state on every node"
    if not after:
        return Check(name, UNKNOWN, "paxosctl verify has left nothing")
    bad = [check for check in after["checks"] if check["verdict"] != OK] or [
        check for check in after["checks"] if check["name"] == "same state"
    ]
    return Check(name, after["verdict"], "; ".join(f"{check['name']}: {check['text']}" for check in bad))


def check_history(folder: Folder, host: str) -> Check:
    """Whether what clients saw is linearizable."""
    name = "what clients saw is linearizable"
    report = folder.json(host, "after/check.json")
    if not report:
        if folder.about["load"].get("everywhere"):
            return Check(name, SKIPPED, "the histories were written with different clocks")
        return Check(name, UNKNOWN, folder.text(host, "after/check.json.err").strip()[-300:] or "there is no history")
    text = f"{report['operations']:,} operations of {report['clients']} clients"
    if report["explanation"]:
        text += ": " + " ".join(report["explanation"])[:500]
    return Check(name, report["verdict"], text)


def check_leaders(
    about: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], struck: set[str], found: Scenario
) -> Check:
    """Whether leadership moved as often as expected: by the word of nodes that ran all the time and were left alone
    (one that is cut off loses sight of its leader, and finds it again)."""
    name = "leadership moved as expected"
    least, most = about["changes"]
    if about["profile"] == "lab":
        most += 1
    then, now = answered_nodes(before), answered_nodes(after)
    hurt = {str(node["id"]) for node in about["nodes"] if node["host"] in struck}
    if len(hurt) < len(about["nodes"]):
        now = {node: status for node, status in now.items() if node not in hurt}
    seen = [
        now[node]["leader_changes"] - then[node]["leader_changes"]
        for node in now
        if node in then and now[node]["pid"] == then[node]["pid"] and now[node]["uptime_s"] >= then[node]["uptime_s"]
    ]
    if not seen:
        return Check(name, OK, "all nodes were restarted: nobody can tell") if most > 1 else Check(name, UNKNOWN, "")
    found.leader_changes = max(seen)
    was, now_leads = found.leaders
    text = f"{found.leader_changes} time{'s' * (found.leader_changes != 1)}, from node {was} to node {now_leads}"
    if not least <= found.leader_changes <= most:
        return Check(name, VIOLATION, f"{text}; expected {least}" + (f" to {most}" if most != least else ""))
    return Check(name, OK, text)


def check_gap(about: Mapping[str, Any], gap_ms: float | None) -> Check:
    """Whether clients waited no longer than promised."""
    name, target = "clients waited no longer than promised", about.get("gap_ms")
    if target is None or gap_ms is None:
        return Check(name, SKIPPED, "")
    limit = milliseconds(about["detector_delay"]) + 300 if target == "silence" else target
    return Check(name, OK if gap_ms <= limit else MISSED, f"{gap_ms:.0f} ms, {limit:.0f} ms are promised")


def milliseconds(text: str) -> float:
    """A duration of cluster.yml."""
    for unit, factor in (("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"{text!r} has no unit")


def records(folder: Folder) -> list[dict[str, Any]]:
    """What agents have written."""
    found = [record for host in folder.hosts if (record := folder.json(host, "fault.json"))]
    found += [parsed(path.read_text()) for path in folder.path.glob("fault-controller.json")]
    return found


def events(folder: Folder) -> list[dict[str, Any]]:
    """The fault and its healing, and every warning and word about leadership from the nodes' logs, in order."""
    found = []
    for record in records(folder):
        where = record.get("argument") or record["host"]
        for name in ("striking", "struck", "healing", "healed"):
            if f"{name}_ns" in record:
                found.append({"time_ns": record[f"{name}_ns"], "host": where, "what": f"fault {name}"})
    ids = {node["host"] for node in folder.about["nodes"]}
    for host in ids & folder.hosts.keys():
        for line in folder.lines(host, "journal.jsonl"):
            message = line.get("MESSAGE")
            text = parsed(message) if isinstance(message, str) and message.startswith("{") else {}
            if text:
                when = int(line["__REALTIME_TIMESTAMP"]) * 1000
                found.append(
                    {"time_ns": when, "host": host, "what": text.get("message", text.get("text", "")), "log": text}
                )
    return sorted(found, key=lambda event: event["time_ns"])


def answered_nodes(verify: Mapping[str, Any]) -> dict[str, Any]:
    """The statuses of the nodes that answered."""
    return {node: status for node, status in verify.get("nodes", {}).items() if "error" not in status}


def leader(verify: Mapping[str, Any]) -> int | None:
    """Who leads by its own word."""
    leading = [status for status in answered_nodes(verify).values() if status["role"] == "leader"]
    return max(leading, key=lambda status: status["round"])["node"] if leading else None


def worst_of(verdicts: Iterable[str]) -> str:
    """A violation wins over what could not be told, that over a missed target."""
    found = set(verdicts)
    return next((verdict for verdict in (VIOLATION, UNKNOWN, MISSED) if verdict in found), OK)


def markdown(name: str, found: list[Scenario]) -> str:
    """The report for people."""
    lines = [f"# Crash tests: {name}", ""]
    words = {
        OK: "All properties hold.",
        VIOLATION: "A property was VIOLATED.",
        UNKNOWN: "Not everything could be judged.",
        MISSED: "All properties hold; clients waited longer than promised.",
    }
    lines += [f"**{words[worst_of(one.verdict for one in found)]}**", ""]
    lines += [
        "| scenario | verdict | longest wait | of it timeouts | leader changes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in found:
        gap = "" if one.gap_ms is None else f"{one.gap_ms:.0f} ms"
        share = "" if one.timeout_share is None else f"{one.timeout_share:.0%}"
        changes = "" if one.leader_changes is None else one.leader_changes
        lines.append(
            f"| [{one.name}](#{one.name}) | {MARKS[one.verdict]} {one.verdict} | {gap} | {share} | {changes} |"
        )
    for one in found:
        lines += ["", f"## {one.name}", "", f"{one.title}.", ""]
        lines += [
            f"- {MARKS[check.verdict]} {check.name}" + (f": {check.text}" if check.text else "") for check in one.checks
        ]
        if one.clients:
            lines += ["", "| client | answered | mean | min | max | median | std dev | p99 | longest wait |"]
            lines += ["| --- |" + " --- |" * 8]
            for row in one.clients:
                times = " | ".join(
                    f"{row[key]:.2f}" for key in ("mean", "min", "max", "median", "stdev", "p99", "gap_ms")
                )
                lines.append(f"| {row['host']}/{row['client']} | {row['count']} | {times} |")
            lines += ["", "Round-trip times in milliseconds; standard deviation of the sample (n-1)."]
        if one.raw:
            lines += ["", "Raw files: " + ", ".join(f"[{host}]({path})" for host, path in one.raw.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    paths = sorted(folder.glob("*/scenario.json"), key=lambda path: path.stat().st_mtime_ns)
    found = [judge(Folder(path.parent)) for path in paths]
    verdict = worst_of(one.verdict for one in found) if found else UNKNOWN
    report = {"run": folder.name, "verdict": verdict, "scenarios": [asdict(one) for one in found]}
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "report.md").write_text(markdown(folder.name, found))
    for one in found:
        print(
            f"{MARKS[one.verdict]} {one.name:<26}{one.verdict:<10}"
            + ("" if one.gap_ms is None else f"{one.gap_ms:6.0f} ms")
        )
        for check in one.checks:
            if check.verdict not in (OK, SKIPPED):
                print(f"    {MARKS[check.verdict]} {check.name}: {check.text}")
    print(f"{folder / 'report.md'}")
    return EXIT_CODES.get(verdict, 0)


if __name__ == "__main__":
    sys.exit(main())
