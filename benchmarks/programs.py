"""The clients that people really use, each against its own cluster: bankclient, kazoo (ZooKeeper), etcd3 (etcd).

    python -m benchmarks.programs [--seconds 5] [--markdown FILE]

One client process each, on one connection unless said otherwise, a fixed number of requests under way. The table shows
what the client itself costs beside the servers: ours has to stay below what its leader spends. A client library that is
not installed (dependency group bench) is skipped with a sentence.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Semaphore
from typing import Any, Final

import click
from rich.console import Console

from benchmarks.load import KEYS
from benchmarks.measure import Load
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.ours import Ours
from benchmarks.peers.system import PeerError, WireSystem
from benchmarks.peers.zookeeper import ZooKeeper
from benchmarks.profile import threads_of
from benchmarks.report import Sheet
from benchmarks.sample import number, percentile
from benchmarks.usage import usage_of

BANKCLIENT: Final = "from paxos_twisted_client.bankclient import main; main()"
OURS: Final = [
    ("1 × 1", 1.0, ["--clients", "1"]),
    ("1 × 32", 8.0, ["--clients", "1", "--outstanding", "32"]),
    ("64 × 1, own connections", 8.0, ["--clients", "64"]),
    ("64 × 1, sharing one connection", 8.0, ["--clients", "64", "--share"]),
    ("1000 × 1, sharing one connection", 8.0, ["--clients", "1000", "--share"]),
    ("8 × 32", 16.0, ["--clients", "8", "--outstanding", "32"]),
    ("1 × 4 batches of 8190", 200.0, ["--batch", "8190", "--outstanding", "4"]),
]
"""What is shown, thousands of transactions for a second of load, and the words of the bench."""
OTHERS: Final = [Load(1, 1), Load(1, 32)]
COLUMNS: Final = ("client", "load", "commands/s", "p50 ms", "p99 ms", "client µs", "leader µs", "all servers µs")


def cpu_us(pid: int) -> float:
    """CPU time of a process so far."""
    return sum(thread.cpu_ns for thread in threads_of(pid).values()) / 1e3


def ours(place: Path, seconds: float) -> list[tuple[str, ...]]:
    """`bankclient --bench`."""
    system = Ours(3)
    rows: list[tuple[str, ...]] = []
    try:
        system.start(place / "ours")
        for shown, thousands, words in OURS:
            leader = dict(zip(map(int, system.cluster.alive()), system.pids(), strict=True))[system.leader()]
            clients = int(words[words.index("--clients") + 1]) if "--clients" in words else 1
            batch = int(words[words.index("--batch") + 1]) if "--batch" in words else 1
            requests = max(int(thousands * 1000 * seconds / clients / batch), 1)
            before, all_before = cpu_us(leader), usage_of(system.pids()).cpu_s
            config = ["--config", str(system.cluster.config_path), "--bench", "--no-progress", "--output", "json"]
            command = [sys.executable, "-c", BANKCLIENT, *config, "-n", str(requests), *words]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=600)
            report = json.loads(done.stdout)
            count = report["together"]["answered"] * batch
            rtt = report["together"]["rtt_ms"]
            rows.append(
                (
                    "bankclient",
                    shown,
                    number(report["throughput_per_s"]),
                    number(rtt["median"]),
                    number(rtt["p99"]),
                    number(report["cpu_s"] / count * 1e6),
                    number((cpu_us(leader) - before) / count),
                    number((usage_of(system.pids()).cpu_s - all_before) / count * 1e6),
                )
            )
    finally:
        system.stop()
    return rows


Writer = Callable[[str, bytes, Callable[[], object]], object]
"""Writes a value and calls back when that is done."""


def other(
    system: WireSystem, name: str, connect: Callable[[str, int], tuple[Writer, Callable[[], object]]], place: Path,
    seconds: float,
) -> list[tuple[str, ...]]:  # fmt: skip
    """The same loop around another system's own library, which runs threads of its own."""
    rows: list[tuple[str, ...]] = []
    try:
        home = place / system.name
        home.mkdir()
        system.start(home)
        for load in OTHERS:
            host, port = system.addresses()[system.leader()]
            write, close = connect(host, port)
            servers, client, began = usage_of(system.pids()).cpu_s, time.process_time(), time.perf_counter()
            rtts = _loop(write, load.outstanding, seconds)
            took, client = time.perf_counter() - began, time.process_time() - client
            servers = usage_of(system.pids()).cpu_s - servers
            close()
            ranked = sorted(rtts)
            rows.append(
                (
                    name,
                    str(load),
                    number(len(rtts) / took),
                    number(percentile(ranked, 50) * 1e3),
                    number(percentile(ranked, 99) * 1e3),
                    number(client / len(rtts) * 1e6),
                    "–",
                    number(servers / len(rtts) * 1e6),
                )
            )
    finally:
        system.stop()
    return rows


def _loop(write: Writer, outstanding: int, seconds: float) -> list[float]:
    rtts: list[float] = []
    free = Semaphore(outstanding)
    end = time.perf_counter() + seconds
    number_ = 0
    while (now := time.perf_counter()) < end:
        free.acquire()
        number_ += 1

        def done(sent: float = now) -> None:
            rtts.append(time.perf_counter() - sent)
            free.release()

        write(f"k{number_ % KEYS:04d}", b"v" * 16, done)
    for _ in range(outstanding):
        free.acquire()
    return rtts


def _kazoo(host: str, port: int) -> tuple[Writer, Callable[[], object]]:
    client = importlib.import_module("kazoo.client").KazooClient(hosts=f"{host}:{port}")
    client.start(timeout=20)
    for key in range(KEYS):
        client.ensure_path(f"/k{key:04d}")

    def write(key: str, value: bytes, done: Callable[[], object]) -> None:
        client.set_async(f"/{key}", value).rawlink(lambda _: done())

    return write, client.stop


def _etcd3(host: str, port: int) -> tuple[Writer, Callable[[], object]]:
    client = importlib.import_module("etcd3").client(host=host, port=port)
    threads = ThreadPoolExecutor(32)  # its calls block

    def put(key: str, value: bytes, done: Callable[[], object]) -> None:
        client.put(key, value)
        done()

    def write(key: str, value: bytes, done: Callable[[], object]) -> None:
        threads.submit(put, key, value, done)

    return write, threads.shutdown


LIBRARIES: Final[list[tuple[str, type[WireSystem], Any]]] = [
    ("kazoo", ZooKeeper, _kazoo),
    ("etcd3", Etcd, _etcd3),
]


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="Length of one measurement, roughly.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where the nodes write; default: a new folder here.")
@click.option("--markdown", "page", type=click.Path(path_type=Path), help="Also write the table to this file.")
def main(seconds: float, directory: Path | None, page: Path | None) -> None:
    """Measure the client programs that people use."""
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")  # etcd3's messages are old
    console = Console()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(dir=directory or Path.cwd(), prefix=".bench-") as place:
        rows += ours(Path(place), seconds)
        for name, kind, connect in LIBRARIES:
            reason = kind.missing()
            with suppress(ImportError):
                importlib.import_module(name)
            if reason is None and name not in sys.modules:
                reason = f"{name} is not installed (dependency group bench)."
            if reason is not None:
                console.print(f"Skipped: {reason}", markup=False)
                continue
            try:
                rows += other(kind(3), name, connect, Path(place), seconds)
            except PeerError as error:
                console.print(f"{name}: {error}", markup=False)
    sheet = Sheet("Client programs", COLUMNS, rows)
    lines = ["| " + " | ".join(row) + " |" for row in (sheet.columns, ("---",) * len(COLUMNS), *sheet.rows)]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    if page is not None:
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
