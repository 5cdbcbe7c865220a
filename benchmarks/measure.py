"""Measurements of one system, and the record of a whole comparison."""

import contextlib
import gc
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.peers.system import System
from benchmarks.sample import percentile
from benchmarks.usage import Usage, usage_of

SYNC_PROBES = 50


class Load(NamedTuple):
    """What the clients do."""

    connections: int
    outstanding: int
    """Requests on each connection that are not answered yet."""
    value_bytes: int = 16
    batch: int = 1
    """Operations in each request; more than 1: the figures are those of operations, round trips those of requests."""

    def __str__(self) -> str:
        batches = f" batches of {self.batch}" if self.batch > 1 else ""
        return f"{self.connections} × {self.outstanding}{batches}"


class Measurement(msgspec.Struct, frozen=True):
    """One load on one system, once."""

    system: str
    load: Load
    throughput: float
    """Commands a second."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    server_us: float
    """CPU time of all nodes, microseconds a command."""
    client_us: float | None
    """CPU time of the load generator; None: it is in `server_us`, or not known."""
    rss_mb: float
    """Resident memory of all nodes, at the end."""
    written_bytes: float
    """What all nodes sent to the disk, bytes a command."""


class Outage(msgspec.Struct, frozen=True):
    """One death of the leader."""

    system: str
    gap_ms: float


class Turn(msgspec.Struct, frozen=True):
    """One time that a system ran."""

    system: str
    start_s: float
    """Until it served."""
    disk_mb: float
    """On the disk after all loads, all nodes, blocks reserved in advance included."""


class Subject(msgspec.Struct, frozen=True):
    """What was measured."""

    system: str
    title: str
    version: str
    settings: list[str]
    command: str


class Results(msgspec.Struct):
    """Everything, as it goes to a file and into tables and plots."""

    setting: list[str]
    """Machine, method, and the command line; one sentence each."""
    subjects: list[Subject] = []
    measurements: list[Measurement] = []
    outages: list[Outage] = []
    turns: list[Turn] = []
    notes: list[str] = []
    """What was skipped or failed; one sentence each."""


def measure(system: System, load: Load, seconds: float) -> Measurement:
    """Put one load on a system that runs.

    Raises:
        LoadError, PeerError, OSError: it did not work.
    """
    marks: list[tuple[Usage, float | None]] = []

    def mark() -> None:
        marks.append((usage_of(system.pids()), system.client_cpu_s()))

    with _no_collection():
        if load.batch > 1:
            sample = system.load_batches(load.connections, load.outstanding, load.batch, seconds, mark, mark)
        else:
            sample = system.load(load.connections, load.outstanding, load.value_bytes, seconds, mark, mark)
    commands = sample.commands * load.batch
    (before, client_before), (after, client_after) = marks
    client_s = client_after - client_before if client_before is not None and client_after is not None else None
    ranked = sorted(sample.rtts_s)
    return Measurement(
        system=system.name,
        load=load,
        throughput=commands / sample.seconds,
        p50_ms=percentile(ranked, 50) * 1e3,
        p99_ms=percentile(ranked, 99) * 1e3,
        max_ms=ranked[-1] * 1e3,
        server_us=(after.cpu_s - before.cpu_s) / commands * 1e6,
        client_us=None if client_s is None else client_s / commands * 1e6,
        rss_mb=after.rss_bytes / 1e6,
        written_bytes=(after.written_bytes - before.written_bytes) / commands,
    )


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """A collection of our garbage would be seen as their latency; a closed loop makes no cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def machine(directory: Path) -> str:
    """A sentence about this machine, and what a sync of the disk below `directory` takes."""
    model = "processor not named"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}; "
        f"writing and syncing 4 KiB takes {sync_ms(directory):.2f} ms here"
    )


def sync_ms(directory: Path) -> float:
    """The median time that appending 4 KiB to a file takes until they are on the disk."""
    took = []
    path = directory / "probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNC_PROBES):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
    path.unlink()
    return percentile(took, 50) * 1e3
