"""A node's data directory: its files, its lock, and its first start."""

import fcntl
import os
import secrets
import sqlite3
from pathlib import Path

from paxos_twisted.storage import database
from paxos_twisted.storage.errors import StoreLocked, StoreNotEmpty
from paxos_twisted.storage.proof import encode_proof
from paxos_twisted.storage.seal import Last, Seal, seal_about
from paxos_twisted.types import NodeId

DATABASE = "node.db"
WAL = "node.db-wal"
SHARED_MEMORY = "node.db-shm"
PROOF = "durable"
LOCK = "lock"


def create(path: Path, cluster: str, node: NodeId) -> str:
    """Make the data directory of a node that has never run before, and return its new random identity.

    It is durable when this returns. A crash in between leaves a directory that can neither be started nor created
    again: a person has to empty it.

    Raises:
        StoreNotEmpty: there is something in the directory.
        OSError, sqlite3.Error: the disk failed.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = sorted(entry.name for entry in path.iterdir())
    if found:
        raise StoreNotEmpty(
            f"{path} is not empty (it holds {', '.join(found[:5])}): a first start here would make the node forget "
            f"what it has promised. Start it without the first-start option; or, if this node has really never run, "
            f"empty the directory"
        )
    lock = Lock(path)
    try:
        identity = secrets.token_hex(16)
        seal = Seal(cluster, node, identity)
        _write_file(path / PROOF, encode_proof(0, identity))
        unfinished = path / f"{DATABASE}.new"
        database.create(unfinished, seal_about(seal.about), seal.seal_last(Last()))
        unfinished.rename(path / DATABASE)
        sync_directory(path)
        sync_directory(path.parent)
    finally:
        lock.release()
    return identity


class Lock:
    """Keeps other processes out of a data directory until `release`, or until this process ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StoreLocked: another process has it.
            OSError: the lock file cannot be made.
        """
        self._fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _read_owner(self._fd)
            os.close(self._fd)
            raise StoreLocked(f"{path} is in use by process {owner}") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let others in."""
        os.close(self._fd)


def owner_of(path: Path) -> str | None:
    """Return the process id that uses a data directory, or None. Takes no lock."""
    try:
        fd = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_owner(fd)
    else:
        return None
    finally:
        os.close(fd)


def free_bytes_at(path: Path) -> int:
    """Bytes that an unprivileged process may still write to the file system of `path`."""
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize


def size_of(path: Path) -> int:
    """Bytes of a file; 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sync_directory(path: Path) -> None:
    """Make new and renamed entries of a directory durable. [protocol-rules 2.9, rule 49]"""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_full(error: BaseException) -> bool:
    """Whether an error only says that there is no space: everything before it is as it was, and it may be repeated."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in database.FULL_ERRORS


def _read_owner(fd: int) -> str:
    return os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "(unknown)"


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
