"""Where every microsecond of a command goes, on the leader and on a follower.

    python -m benchmarks.profile [--loads 1x1,64x1,256x1] [--seconds 10] [--markdown FILE]

The kernel tells what each thread of a node has used and how often it was switched; py-spy (dependency group bench)
samples what it did. The time in user mode is divided in proportion to the samples, those in which a thread waits left
out. docs/profile.md explains the result. Needs Linux, and the right to look into processes of one's own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import click
from rich.console import Console

from benchmarks.load import run_load
from benchmarks.peers.ours import Ours
from benchmarks.peers.system import TIMEOUT_S
from benchmarks.report import Sheet
from benchmarks.sample import number

RATE_HZ: Final = 500
STARTING_S: Final = 2.0
"""py-spy needs a moment to find its way around in a process."""

REACTOR, STORAGE = "reactor", "disk's thread"
PLACES: Final = (
    ("storage/database.py", "SQLite"),
    ("storage/sqlite_store.py (commit)", "SQLite"),
    ("storage/proof.py", "proof file"),
    ("storage/", "storage: planning, sealing, hand-over"),
    ("apps/", "application"),
    ("core/sessions.py", "sessions"),
    ("core/table.py", "sessions"),
    ("core/replicated.py", "sessions"),
    ("core/", "engine"),
    ("node/families.py", "metrics"),
    ("node/observe.py", "metrics"),
    ("storage/metrics.py", "metrics"),
    ("net/clients.py", "requests and answers: decode, checks, encode"),
    ("net/peers.py", "messages: decode, encode"),
    ("net/link.py", "messages: decode, encode"),
    ("net/held.py", "messages: decode, encode"),
    ("net/transport.py", "send"),
    ("net/framing.py", "frames"),
    ("wire/frames.py", "frames"),
    ("node/driver.py", "driver"),
    ("node/inputs.py", "driver"),
    ("node/service.py", "ticks and hand-overs between threads"),
    ("node/notify.py", "ticks and hand-overs between threads"),
    ("net/lean_reactor.py", "reactor: poll, receive, timers"),
    ("net/turn.py", "reactor: poll, receive, timers"),
    ("twisted/", "reactor: poll, receive, timers"),
)
"""A piece of a file's path -> what its time is called. The innermost frame that fits counts."""

OTHER: Final = "other"


class Thread(NamedTuple):
    """What a thread has used so far."""

    cpu_ns: int
    kernel_ns: float
    """The part of it in the kernel."""
    switches: int


def threads_of(pid: int) -> dict[str, Thread]:
    """The reactor's and the disk's thread of a node."""
    found = {}
    for task in (Path("/proc") / str(pid) / "task").iterdir():
        cpu_ns = int((task / "schedstat").read_text().split()[0])
        lines = (task / "status").read_text().splitlines()
        switches = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
        fields = (task / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
        user, system = int(fields[11]), int(fields[12])  # in ticks: good for the share only
        found[REACTOR if task.name == str(pid) else STORAGE] = Thread(
            cpu_ns, system / max(user + system, 1) * cpu_ns, switches
        )
    return found


def part_of(stack: Iterable[str]) -> str:
    """What the time of a sample is called. `stack`: "function (file:line)", outermost first."""
    for frame in reversed(list(stack)):
        for piece, name in PLACES:
            if piece in frame:
                return name
    return OTHER


def shares_of(samples: Path) -> dict[str, Counter[str]]:
    """Thread -> part -> samples, from py-spy's raw format."""
    found: dict[str, Counter[str]] = {REACTOR: Counter(), STORAGE: Counter()}
    for line in samples.read_text(encoding="utf-8").splitlines():
        stack, count = line.rsplit(" ", 1)
        frames = [frame.replace("SqliteStore._write (", "SqliteStore._write (commit) (") for frame in stack.split(";")]
        if any("SqliteStore._write_all" in frame for frame in frames):
            if not frames[-1].startswith("SqliteStore._write_all"):  # else it waits for work
                found[STORAGE][part_of(_told(frames))] += int(count)
        elif "MainThread" in frames[0] and "LeanReactor.doPoll" not in frames[-1]:  # else it waits for events
            found[REACTOR][part_of(frames)] += int(count)
    return found


def _told(frames: list[str]) -> list[str]:
    """SQLite has no frames of its own: what calls it stands for it."""
    if frames[-1].startswith("SqliteStore._write (commit)"):
        return [*frames, "storage/sqlite_store.py (commit)"]
    return frames


class Spy:
    """py-spy at one process, for a while."""

    def __init__(self, program: str, pid: int, seconds: float, file: Path) -> None:
        self.file = file
        arguments = [program, "record", "--threads", "--format", "raw", "--rate", str(RATE_HZ)]
        arguments += ["--duration", str(int(seconds)), "--output", str(file), "--pid", str(pid)]
        self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def shares(self) -> dict[str, Counter[str]]:
        """What it has seen, once it has ended."""
        self._process.wait(60)
        return shares_of(self.file) if self.file.exists() else {REACTOR: Counter(), STORAGE: Counter()}


def profile(system: Ours, connections: int, outstanding: int, seconds: float, spy: str | None, place: Path) -> Sheet:
    """Measure one load on a cluster that runs."""
    leader = system.leader()
    nodes = dict(zip(map(int, system.cluster.alive()), system.pids(), strict=True))
    follower = next(node for node in nodes if node != leader)
    roles = {"leader": nodes[leader], "follower": nodes[follower]}
    marks: list[dict[str, dict[str, Thread]]] = []
    spies: dict[str, Spy] = {}

    def load(length: float, mark: bool) -> int:
        note = (lambda: marks.append({role: threads_of(pid) for role, pid in roles.items()})) if mark else None
        address, first = system.addresses()[leader], iter(range(1, 10**9, 7919))
        return run_load(
            lambda: system.dial(address, TIMEOUT_S, 16, next(first)), connections, outstanding, length, note, note
        ).commands

    commands = load(seconds, True)  # without py-spy, which slows what it looks at
    if spy is not None:
        for role, pid in roles.items():
            spies[role] = Spy(spy, pid, seconds, place / role)
        load(seconds + STARTING_S, False)
    rows: list[tuple[str, ...]] = []
    for role in roles:
        shares = spies[role].shares() if role in spies else {}
        for thread, after in marks[1][role].items():
            before = marks[0][role][thread]
            us = (after.cpu_ns - before.cpu_ns) / 1e3 / commands
            kernel_us = max(after.kernel_ns - before.kernel_ns, 0.0) / 1e3 / commands
            switches = (after.switches - before.switches) / commands
            rows.append((role, thread, "all", number(us), f"{switches:.2f}"))
            rows.append(("", "", "kernel: system calls, waking and switching", number(kernel_us), ""))
            counts = shares.get(thread, Counter())
            for part, count in counts.most_common():
                if count >= counts.total() / 100:
                    rows.append(("", "", part, number((us - kernel_us) * count / counts.total()), ""))
    title = f"{connections} × {outstanding}: {commands / seconds:,.0f} commands/s"
    return Sheet(title, ("node", "thread", "part", "µs a command", "switches a command"), rows)


@click.command()
@click.option("--loads", default="1x1,64x1,256x1", show_default=True, help="Connections x outstanding requests.")
@click.option("--seconds", default=10.0, show_default=True, help="Length of each of the two measurements of a load.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the nodes write; default: a new folder here.")
@click.option("--markdown", "page", type=click.Path(path_type=Path), help="Also write the tables to this file.")
def main(loads: str, seconds: float, directory: Path | None, page: Path | None) -> None:
    """Divide the CPU time of a command among the parts of a node."""
    console = Console()
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if spy is None:
        console.print("py-spy is not installed (dependency group bench): only whole threads are told.")
    system, lines = Ours(3), []
    with tempfile.TemporaryDirectory(dir=directory or Path.cwd(), prefix=".bench-") as place:
        try:
            system.start(Path(place) / "cluster")
            for load in loads.split(","):
                connections, outstanding = map(int, load.split("x"))
                sheet = profile(system, connections, outstanding, seconds, spy, Path(place))
                lines += ["", f"## {sheet.title}", "", *_markdown(sheet)]
                console.print("\n".join(lines[-len(sheet.rows) - 4 :]), markup=False, highlight=False, soft_wrap=True)
        finally:
            system.stop()
    if page is not None:
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _markdown(sheet: Sheet) -> list[str]:
    rows = [sheet.columns, ("---",) * len(sheet.columns), *sheet.rows]
    return ["| " + " | ".join(row) + " |" for row in rows]


if __name__ == "__main__":
    main()
