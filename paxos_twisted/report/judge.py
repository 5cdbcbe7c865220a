"""The properties that a crash test must show, each with its verdict."""

from collections.abc import Iterable, Mapping
from typing import Any

from paxos_twisted.report.evidence import gather
from paxos_twisted.report.folder import Folder, answered_nodes, milliseconds, parsed
from paxos_twisted.report.model import MISSED, OK, SKIPPED, UNKNOWN, VIOLATION, Check, Scenario, worst_of


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
    benches = folder.benches()
    found.clients = [row for name, bench in benches.items() for row in table(name, bench)]
    if benches:
        worst = max((bench["together"]["longest_gap"] for bench in benches.values()), key=lambda gap: gap["ms"])
        found.gap_ms, found.timeout_share = worst["ms"], worst["timeout_share"]
    found.leaders = [leader(before), leader(after)]
    found.events = events(folder)
    found.raw = {name: f"{about['name']}/{name}.tar.gz" for name in folder.hosts}
    gather(folder, found)
    if found.anatomies:
        longest = max(found.anatomies, key=lambda anatomy: anatomy.gap_ms)
        found.timeout_share = round(longest.timer_share, 4)
    found.checks = [
        check_run(folder),
        check_fault(folder),
        check_answers(about, benches),
        *check_slots(about, before, after, benches),
        check_state(after),
        check_history(folder, host),
    ]
    struck = {record.get("argument") or record["host"] for record in folder.faults() if "struck_ns" in record}
    changes = check_leaders(about, before, after, struck, found)
    found.checks += [changes, check_gap(about, found.gap_ms), check_anatomy(found)]
    found.checks = [check for check in found.checks if check.verdict != SKIPPED]
    found.verdict = worst_of(check.verdict for check in found.checks)
    if about.get("strict_times") and found.verdict == MISSED:
        found.verdict = VIOLATION
    return found


def check_anatomy(found: Scenario) -> Check:
    """Whether the phases of each failover make up the wait that it caused."""
    name = "the phases make up the wait"
    if not found.anatomies:
        return Check(name, SKIPPED, "")
    text = "; ".join(
        f"{anatomy.gap_ms:.1f} ms, of which {abs(anatomy.remainder_ms):.1f} ms belong to no phase"
        for anatomy in found.anatomies
    )
    return Check(name, OK if all(anatomy.is_explained for anatomy in found.anatomies) else MISSED, text)


def table(host: str, bench: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The lab's statistics, a row for each client."""
    for client in bench["clients"]:
        yield {"host": host, "client": client["process"] + 1, "gap_ms": client["longest_gap_ms"], **client["rtt_ms"]}


def check_run(folder: Folder) -> Check:
    """Whether the playbook came to the end of the scenario."""
    failures = folder.failures()
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
    struck = {record["host"]: record for record in folder.faults() if "struck_ns" in record}
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
    load = about["load"]  # what was given on the command line of ansible-playbook is a text
    wanted = int(load["clients"]) * int(load["requests"]) * len(benches)
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
    # Clients that lose messages repeat requests, and a repeat may take a slot.
    is_undisturbed = about["fault"] == "none" and not about["load"].get("loss")
    first, second = OK, OK
    for delta in grown.values():
        if not answered <= delta["applied"] <= answered + unknown:
            first = VIOLATION
        adds_up = delta["slots"] == delta["applied"] + delta["noops"] + delta["duplicates"]
        if not adds_up or (is_undisturbed and delta["slots"] != answered):
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


def events(folder: Folder) -> list[dict[str, Any]]:
    """The fault and its healing, and every warning and word about leadership from the nodes' logs, in order."""
    found = []
    for record in folder.faults():
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


def leader(verify: Mapping[str, Any]) -> int | None:
    """Who leads by its own word."""
    leading = [status for status in answered_nodes(verify).values() if status["role"] == "leader"]
    return max(leading, key=lambda status: status["round"])["node"] if leading else None
