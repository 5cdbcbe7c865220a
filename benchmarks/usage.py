"""What processes have cost so far, as Linux counts it."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Sums over processes; all but `rss_bytes` only grow."""

    cpu_s: float
    """User and system time of all threads, in steps of 10 ms."""
    written_bytes: int
    """What went to the storage layer (whole pages, the file system's own writes not included); 0: not told."""
    rss_bytes: int
    """Resident memory; pages that processes share count once for each."""


def usage_of(pids: Iterable[int]) -> Usage:
    """Of processes that live now.

    Raises:
        OSError: one of them does not.
    """
    cpu, written, rss = 0, 0, 0
    for pid in pids:
        place = Path("/proc") / str(pid)
        fields = (place / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
        cpu += int(fields[11]) + int(fields[12])
        rss += int(fields[21]) * _PAGE
        # Some containers keep this file to themselves.
        with contextlib.suppress(PermissionError):
            lines = (place / "io").read_text(encoding="ascii").splitlines()
            written += next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
    return Usage(cpu / _TICKS, written, rss)


def disk_bytes(directory: Path) -> int:
    """What the files below a directory take on the disk, blocks reserved in advance included."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # logs are rotated, snapshots replaced
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
