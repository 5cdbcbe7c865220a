"""Judge a data directory without changing it: what a start-up does first, and `paxos_twisted.storage.dump` shows."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from paxos_twisted.storage import database
from paxos_twisted.storage.directory import DATABASE, PROOF, SHARED_MEMORY, WAL
from paxos_twisted.storage.errors import RotError, StorageCorrupt, StoreForeign, StoreMissing
from paxos_twisted.storage.proof import decode_proof
from paxos_twisted.storage.recovery import Recovered, recover
from paxos_twisted.storage.seal import FORMAT, About, Seal
from paxos_twisted.storage.wal import lost_transaction
from paxos_twisted.types import NodeId


class Examined(NamedTuple):
    """A data directory that can be used."""

    seal: Seal
    recovered: Recovered


def examine(path: Path, cluster: str, node: NodeId) -> Examined:
    """Read and judge the data directory of `node`. The caller holds its lock.

    Raises:
        StoreMissing: there is no log in it.
        StoreForeign: it belongs to another cluster or node, or is written in another format.
        StorageCorrupt: it cannot be told what the node has promised and voted.
        OSError, sqlite3.Error: the disk failed.
    """
    connection = open_for_reading(path)
    try:
        about = database.read_about(connection, DATABASE)
        _check_owner(path, about, cluster, node)
        seal = Seal(cluster, node, about.identity)
        durable, findings = _read_proof(path, about.identity)
        recovered = recover(database.read_all(connection, seal, durable), seal)
    except sqlite3.Error as error:
        raise database.judged(error, DATABASE) from error
    finally:
        close_for_reading(path, connection)
    recovered.findings[:0] = findings
    return Examined(seal, recovered)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the database of the data directory `path`, after a look at its write-ahead file.

    Raises:
        StoreMissing: there is no database.
        StorageCorrupt: one of the two files is damaged.
        OSError, sqlite3.Error: the disk failed.
    """
    if not (path / DATABASE).exists():
        raise StoreMissing(
            f"{path} holds no log of a node (there is no {DATABASE} in it). If this node has never run before, start "
            f"it once with the first-start option. If it has, its disk is lost: do not give it an empty one under its "
            f"old identity, for it would forget what it has promised"
        )
    sentence = lost_transaction(path / WAL)
    if sentence is not None:
        raise StorageCorrupt([sentence])
    try:
        return database.connect_for_reading(path / DATABASE)
    except sqlite3.Error as error:
        raise database.judged(error, DATABASE) from error


def close_for_reading(path: Path, connection: sqlite3.Connection) -> None:
    """Close what `open_for_reading` has opened."""
    connection.close()
    (path / SHARED_MEMORY).unlink(missing_ok=True)


def _check_owner(path: Path, about: About, cluster: str, node: NodeId) -> None:
    if about.format != FORMAT:
        raise StoreForeign(f"{path} is written in format {about.format}; this program reads format {FORMAT}")
    if about.cluster != cluster:
        raise StoreForeign(f"{path} belongs to cluster {about.cluster!r}, not to {cluster!r}")
    if about.node != node:
        raise StoreForeign(f"{path} belongs to node {about.node} of cluster {cluster!r}, not to node {node}")


def _read_proof(path: Path, identity: str) -> tuple[int, list[str]]:
    """Return the number of the last record that is known to be durable, and findings."""
    try:
        data = (path / PROOF).read_bytes()
    except FileNotFoundError:
        # Nobody but a person removes or forgets it, e.g. by copying only the database: then the copy may be an old one.
        raise StorageCorrupt(
            [f"the proof file {PROOF!r} is missing: {DATABASE} may be an older copy, from which records are missing"]
        ) from None
    try:
        return decode_proof(data, identity), []
    except RotError as error:
        return 0, [
            f"the proof file {PROOF!r} {error}; the write-ahead file shows no damage, so the log counts as whole"
        ]
