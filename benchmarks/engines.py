"""`make engines`: Multi-Paxos and EPaxos side by side, at conflicts of many kinds and over wide-area delays.

    python -m benchmarks.engines [--quick] [--only conflicts|wide] [--markdown FILE]

*Conflicts*: the same writes on both engines, of which 0 to 100 % go to one key that all clients share; three and five
nodes, EPaxos with and without thrifty sending. The variants take turns.

*Wide*: five nodes at the five sites of the EPaxos paper. The nodes' own message-fault layer delays every message
between two of them by half the sites' round trip. Each site's clients are at the site. One write at a time, on keys of
their own: what is measured is the latency of a commit. A Multi-Paxos client at another site than the leader's also
needs the way to the leader and back; clients are not delayed here, so that round trip is added to what is measured at
the leader.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from benchmarks.report import Sheet
from benchmarks.sample import Figure, figure
from paxos_twisted.cluster.local import LocalCluster
from paxos_twisted.core.epaxos.quorums import fast_quorum, slow_quorum, thrifty_peers
from paxos_twisted.types import NodeId

RATES: Final = (0, 2, 10, 50, 100)
"""Percentages of operations on the shared key. The EPaxos paper shows 0, 2 and 100."""

SITES: Final = ("CA", "VA", "EU", "OR", "JP")
"""California, Virginia, Ireland, Oregon, Japan: the sites of the EPaxos paper, in the order of our nodes."""

ROUND_TRIPS_MS: Final = {
    ("CA", "VA"): 72, ("CA", "EU"): 150, ("CA", "OR"): 22, ("CA", "JP"): 112,
    ("VA", "EU"): 88, ("VA", "OR"): 70, ("VA", "JP"): 168,
    ("EU", "OR"): 144, ("EU", "JP"): 220,
    ("OR", "JP"): 120,
}  # fmt: skip
"""Round trips between these regions of a public cloud, rounded to even numbers: half of each is a delay."""

WIDE_CONFIG: Final = """\
detector:
  heartbeat: 200ms
  delay: 5s
timeouts:
  phase1: 2s
  phase2: 2s
"""
"""Waits for messages that take a quarter of a second."""

WIDE_EPAXOS: Final = "epaxos:\n  answer: 2s\n  recover: 5s\n  thrifty: {thrifty}\n"


class Variant(NamedTuple):
    """One of the things that are compared."""

    engine: str
    thrifty: bool = True

    def __str__(self) -> str:
        if self.engine == "multipaxos":
            return "Multi-Paxos"
        return "EPaxos, thrifty" if self.thrifty else "EPaxos, to all"

    @property
    def config(self) -> str:
        """Further lines of the configuration."""
        return "" if self.engine == "multipaxos" else f"epaxos:\n  thrifty: {str(self.thrifty).lower()}\n"


VARIANTS: Final = (Variant("multipaxos"), Variant("epaxos"), Variant("epaxos", thrifty=False))


class Run(NamedTuple):
    """What one bench found."""

    throughput: float
    p50_ms: float
    p99_ms: float
    slow_percent: float
    """Instances that needed the second round trip; 0 for Multi-Paxos."""
    messages: float
    """Between nodes, for each command."""


def round_trip_ms(one: str, other: str) -> int:
    """Between two sites; 0 inside one."""
    if one == other:
        return 0
    return ROUND_TRIPS_MS[(one, other) if (one, other) in ROUND_TRIPS_MS else (other, one)]


def expected_ms(site: int, variant: Variant, leader: int) -> float:
    """What theory says a commit at `site` takes: the round trip to its quorum, and to the leader where there is one."""
    trips = [round_trip_ms(SITES[site], other) for other in SITES]
    if variant.engine == "multipaxos":
        quorum = sorted(round_trip_ms(SITES[leader], other) for other in SITES)[slow_quorum(len(SITES)) - 1]
        return trips[leader] + quorum
    if variant.thrifty:
        return max(trips[peer] for peer in thrifty_peers(site, len(SITES)))
    return sorted(trips)[fast_quorum(len(SITES)) - 1]


def bench(cluster: LocalCluster, *options: str) -> dict[str, Any]:
    """Run `kvclient --bench` and return what it says as JSON.

    Raises:
        click.ClickException: it failed.
    """
    program = str(Path(sys.executable).with_name("kvclient"))
    command = [program, "--config", str(cluster.config_path), "--bench", "--no-progress", "--output", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(
            f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"
        )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def counters(cluster: LocalCluster, pattern: str) -> float:
    """The sum of all samples whose name and labels match, over all nodes."""
    lines = "\n".join(cluster.apis[node].metrics() for node in cluster.members)
    return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", lines, re.MULTILINE))


PEER_MESSAGES: Final = r'paxos_messages_sent_total\{[^}]*type="(?!Heartbeat|Progress)[^}]*\}'
SLOW: Final = r'paxos_epaxos_commits_total\{[^}]*path="slow"[^}]*\}'
FAST: Final = r'paxos_epaxos_commits_total\{[^}]*path="fast"[^}]*\}'


def measure_conflicts(cluster: LocalCluster, rate: int, requests: int) -> Run:
    """One bench of writes, `rate` % of them on the shared key."""
    before = [counters(cluster, pattern) for pattern in (PEER_MESSAGES, SLOW, FAST)]
    found = bench(
        cluster, "-n", str(requests), "--clients", "16", "--outstanding", "4", "--target", "round-robin",
        "--reads", "0", "--conflicts", str(rate), "--value-size", "16",
    )  # fmt: skip
    after = [counters(cluster, pattern) for pattern in (PEER_MESSAGES, SLOW, FAST)]
    messages, slow, fast = (end - start for start, end in zip(before, after, strict=True))
    together = found["together"]
    return Run(
        found["throughput_per_s"],
        together["rtt_ms"]["median"],
        together["rtt_ms"]["p99"],
        100 * slow / (slow + fast) if slow + fast else 0.0,
        messages / together["answered"],
    )


def conflicts(directory: Path, nodes: int, rounds: int, requests: int) -> dict[tuple[Variant, int], list[Run]]:
    """All variants at all rates, in turns, each round on fresh clusters."""
    found: dict[tuple[Variant, int], list[Run]] = {}
    for number in range(rounds):
        for variant in VARIANTS:
            folder = directory / f"conflicts-{nodes}-{number}-{VARIANTS.index(variant)}"
            with LocalCluster.create(
                folder, nodes=nodes, engine=variant.engine, application="kv", more=variant.config
            ) as cluster:
                cluster.start()
                cluster.wait_ready()
                measure_conflicts(cluster, 10, max(requests // 4, 10))  # warm
                for rate in RATES:
                    found.setdefault((variant, rate), []).append(measure_conflicts(cluster, rate, requests))
    return found


def conflicts_sheet(found: dict[tuple[Variant, int], list[Run]], nodes: int) -> Sheet:
    """One row for each rate and variant."""
    rows = []
    for rate in RATES:
        for variant in VARIANTS:
            runs = found[variant, rate]
            figures = [figure([getattr(run, name) for run in runs]) for name in Run._fields]
            cells = [str(each) for each in figures]
            if variant.engine == "multipaxos":
                cells[3] = "–"
            rows.append((f"{rate} %", str(variant), *cells))
    return Sheet(
        f"{nodes} nodes, 16 clients × 4 writes under way",
        ("conflicts", "engine", "writes/s", "p50 ms", "p99 ms", "slow path %", "messages per write"),
        rows,
    )


def delay_rules() -> list[str]:
    """Half a round trip in each direction, as rules of the message-fault layer."""
    return [
        f"{one + 1}->{other + 1} delay={round_trip_ms(SITES[one], SITES[other]) // 2}ms"
        for one in range(len(SITES))
        for other in range(len(SITES))
        if one != other
    ]


def wide(directory: Path, variant: Variant, rounds: int, requests: int) -> tuple[int, list[Figure]]:
    """The latency of a commit at each site. Returns the leader's number (0 without one) and a figure for each site."""
    more = WIDE_CONFIG
    if variant.engine != "multipaxos":
        more = more.replace("timeouts:\n  phase1: 2s\n  phase2: 2s\n", "")
        more += WIDE_EPAXOS.format(thrifty=str(variant.thrifty).lower())
    folder = directory / f"wide-{VARIANTS.index(variant)}"
    with LocalCluster.create(folder, nodes=len(SITES), engine=variant.engine, application="kv", more=more) as cluster:
        cluster.start()
        cluster.wait_ready()
        leader = cluster.leader() - 1 if variant.engine == "multipaxos" else 0
        rules = delay_rules()
        for node in cluster.members:
            mine = [rule for rule in rules if rule.startswith(f"{node}->")]
            cluster.apis[node].order("fault", {"rules": mine, "seed": 0})
        medians: list[list[float]] = [[] for _ in SITES]
        for _ in range(rounds):
            for site in range(len(SITES)):
                at = leader if variant.engine == "multipaxos" else site
                address = cluster.config.addresses[NodeId(at + 1)]
                found = bench(
                    cluster, "--nodes", address, "--cluster", "local", "-n", str(requests), "--clients", "1",
                    "--reads", "0", "--conflicts", "0", "--value-size", "16", "--read-timeout", "5s",
                )  # fmt: skip
                way = round_trip_ms(SITES[site], SITES[leader]) if variant.engine == "multipaxos" else 0
                medians[site].append(found["together"]["rtt_ms"]["median"] + way)
    return leader, [figure(each) for each in medians]


def wide_sheet(found: dict[Variant, tuple[int, list[Figure]]]) -> Sheet:
    """One row for each site: measured and expected."""
    rows = []
    for number, site in enumerate(SITES):
        cells = [f"{site} (node {number + 1})"]
        for variant, (leader, figures) in found.items():
            mark = " (leader)" if variant.engine == "multipaxos" and leader == number else ""
            cells += [f"{figures[number]}{mark}", f"{expected_ms(number, variant, leader):g}"]
        rows.append(tuple(cells))
    columns = ["site"]
    for variant in found:
        columns += [f"{variant}: ms", "theory"]
    return Sheet("Five sites, one write at a time: median latency", tuple(columns), rows)


def markdown_of(sheets: Sequence[Sheet]) -> Iterator[str]:
    """The tables as Markdown."""
    for sheet in sheets:
        yield f"### {sheet.title}\n"
        yield "| " + " | ".join(sheet.columns) + " |"
        yield "|" + "---|" * len(sheet.columns)
        yield from ("| " + " | ".join(row) + " |" for row in sheet.rows)
        yield ""


def _show(sheet: Sheet, console: Console) -> None:
    table = Table(*sheet.columns, title=sheet.title, title_justify="left")
    for row in sheet.rows:
        table.add_row(*row)
    console.print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="One round of short benches: a look, no figures to quote.")
@click.option("--only", type=click.Choice(["conflicts", "wide"]), help="One of the two parts.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables into this file.")
def main(quick: bool, only: str | None, markdown: Path | None) -> None:
    """Compare the engines: conflicts, thrifty sending, and five sites on three continents."""
    rounds, requests, wide_requests = (1, 60, 5) if quick else (3, 500, 15)
    console = Console()
    sheets: list[Sheet] = []
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as name:
        directory = Path(name)
        here = machine(directory)
        console.print(here)
        if only != "wide":
            for nodes in (3, 5):
                sheets.append(conflicts_sheet(conflicts(directory, nodes, rounds, requests), nodes))
                _show(sheets[-1], console)
        if only != "conflicts":
            sheets.append(wide_sheet({v: wide(directory, v, min(rounds, 3), wide_requests) for v in VARIANTS}))
            _show(sheets[-1], console)
    if markdown is not None:
        markdown.write_text("\n".join([f"{here}.", "", *markdown_of(sheets)]) + "\n")


if __name__ == "__main__":
    main()
