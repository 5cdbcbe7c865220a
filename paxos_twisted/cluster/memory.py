"""What a cluster remembers of its processes: a file in its directory, so that another command can stop them too."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from paxos_twisted.cluster.processes import Process

FILE: Final = "processes.json"
LOCK: Final = "processes.lock"


class Memory(msgspec.Struct):
    """The file's content."""

    runner: Process | None = None
    """The program in the foreground to which the nodes belong; None: they run by themselves."""
    nodes: dict[int, Process] = {}
    """The newest process of each node that was started."""
    wanted: list[int] = []
    """Nodes that another command asks the runner to start: they must be its children."""


def recall(directory: Path) -> Memory:
    """What is remembered. A missing or damaged file means that nothing is: then nothing will be stopped either."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Memory)
    except (FileNotFoundError, msgspec.DecodeError):
        return Memory()


@contextmanager
def remembering(directory: Path) -> Iterator[Memory]:
    """Change what is remembered; other commands wait meanwhile. Written at the end, all or nothing."""
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory = recall(directory)
        yield memory
        unfinished = directory / f"{FILE}.new"
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(memory), indent=2) + b"\n")
        unfinished.replace(directory / FILE)
    finally:
        os.close(lock)
