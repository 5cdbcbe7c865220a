"""What people see of a cluster: tables of nodes and of checks."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from paxos_twisted.ctl.agreement import Check, Verdict, is_leaderless
from paxos_twisted.ctl.node_api import NodeError, NodeStatus, PeerStatus, who_leads
from paxos_twisted.types import NodeId

HASH_DIGITS: Final = 8
"""Of a state hash, as people compare them by eye."""

MARKS: Final = {Verdict.OK: ("✓", "green"), Verdict.VIOLATION: ("✗", "bold red"), Verdict.UNKNOWN: ("?", "yellow")}

Statuses = Mapping[NodeId, NodeStatus | NodeError]


def cluster_screen(name: str, statuses: Statuses, processes: Mapping[NodeId, str] | None = None) -> RenderableType:
    """All nodes of a cluster, and whatever is remarkable below.

    Args:
        processes: the state of each node's process, when it runs on this machine.
    """
    known = {node: status for node, status in statuses.items() if isinstance(status, NodeStatus)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left", title_style="")
    table.title = _title(name, statuses, known)
    for column, side in (
        ("node", "right"),
        ("role", "left"),
        ("round", "right"),
        ("slots", "right"),
        ("peers", "left"),
        ("disk", "right"),
        ("sessions", "right"),
        ("hash", "left"),
        ("up", "right"),
    ):
        table.add_column(column, justify=side, no_wrap=True)  # type: ignore[arg-type]
    highest = max((status.adu for status in known.values()), default=-1)
    odd = _odd_hashes(known)
    for node, status in statuses.items():
        if isinstance(status, NodeError):
            table.add_row(str(node), _role_of_silent(processes, node), style="red")
        else:
            table.add_row(*_node_row(status, highest, status.state_hash.digest in odd))
    return Group(table, *_remarks(statuses, known))


def checks_table(checks: Sequence[Check]) -> Table:
    """One line a check: a mark, what was looked at, what was seen."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for check in checks:
        mark, style = MARKS[check.verdict]
        seen = Text(check.text, style="" if check.verdict is Verdict.OK else style)
        table.add_row(Text(mark, style=style), Text(check.name), seen)
    return table


def duration(seconds: float) -> str:
    """A time as short as it can be said: 3.2 s, 45 s, 2 min, 3 h, 4 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes with a unit that fits."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _title(name: str, statuses: Statuses, known: Mapping[NodeId, NodeStatus]) -> Text:
    any_status = next(iter(known.values()), None)
    words = [f"{len(statuses)} nodes"]
    if any_status is not None:
        words += [any_status.engine, any_status.application]
    text = Text.assemble((name, "bold"), "  ", (" · ".join(words), "dim"), "  ")
    leader = who_leads(known.values())
    if is_leaderless(known.values()):
        text.append("every node serves", "bold green")
    elif leader is None:
        text.append("no leader", "bold red")
    else:
        text.append(f"★ node {leader} leads", "bold green")
    missing = len(statuses) - len(known)
    if missing:
        text.append(f"  {missing} of {len(statuses)} do not answer", "red")
    return text


def _node_row(status: NodeStatus, highest: int, is_odd: bool) -> list[Text]:
    role = {
        "leader": Text("★ leader", "bold green"),
        "candidate": Text("◌ candidate", "yellow"),
        "follower": Text("  follower"),
        "replica": Text("● replica", "bold green"),
    }.get(status.role, Text(f"◌ {status.role}", "yellow"))
    if not status.ready and status.role != "leader":
        role = Text(f"◌ {status.role}", "yellow")  # it knows no leader, or lacks slots
    disk_style = "" if status.disk.state == "good" else "bold red"
    disk = size(status.disk.bytes) if status.disk.state == "good" else status.disk.state
    digest = status.state_hash.digest[:HASH_DIGITS] or "-"
    return [
        Text(str(status.node)),
        role,
        Text(str(status.round) if status.round >= 0 else "-"),
        _slots(status, highest),
        _peers(status.peers),
        Text(disk, disk_style),
        Text(f"{status.sessions:,}"),
        Text(digest, "bold red" if is_odd else "cyan"),
        Text(duration(status.uptime_s), "dim"),
    ]


def _slots(status: NodeStatus, highest: int) -> Text:
    """How many are decided, as this node knows; and what it lacks."""
    text = Text(f"{status.adu + 1:,}")
    if status.adu < highest:
        text.append(f" -{highest - status.adu:,}", "yellow")
    if status.applied < status.adu:
        text.append(f" ({status.adu - status.applied:,} to apply)", "yellow")
    return text


def _peers(peers: Mapping[str, PeerStatus]) -> Text:
    """Their ids, marked when something is wrong, and the longest round trip."""
    text = Text()
    slowest: float | None = None
    for peer, seen in sorted(peers.items(), key=lambda item: int(item[0])):
        if not seen.up:
            text.append(f"✗{peer} ", "red")
        elif seen.suspected:
            text.append(f"?{peer} ", "yellow")
        else:
            text.append(f"{peer} ", "green")
            if seen.rtt_ms is not None:
                slowest = max(seen.rtt_ms, slowest or 0.0)
    if slowest is not None:
        text.append(f" {slowest:.1f} ms", "dim")
    return text


def _role_of_silent(processes: Mapping[NodeId, str] | None, node: NodeId) -> Text:
    state = (processes or {}).get(node)
    if state == "frozen":
        return Text("❄ frozen", "blue")
    return Text("✗ dead" if state == "gone" else "✗ silent", "red")


def _odd_hashes(known: Mapping[NodeId, NodeStatus]) -> set[str]:
    """Digests that differ from another one of the same slot."""
    digests: dict[int, set[str]] = {}
    for status in known.values():
        digests.setdefault(status.state_hash.slot, set()).add(status.state_hash.digest)
    return {digest for of_slot in digests.values() if len(of_slot) > 1 for digest in of_slot}


def _remarks(statuses: Statuses, known: Mapping[NodeId, NodeStatus]) -> list[Text]:
    remarks: list[Text] = []
    for node, status in statuses.items():
        if isinstance(status, NodeError):
            remarks.append(Text(f" node {node}: {status}", "red"))
    for node, status in known.items():
        remarks += [Text(f" node {node}: {finding}", "yellow") for finding in status.findings]
        if status.faults:
            remarks.append(Text(f" node {node} has message faults: {'; '.join(status.faults)}", "magenta"))
    return remarks
