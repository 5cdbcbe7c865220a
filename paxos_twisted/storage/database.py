"""The SQLite file: its schema, its settings, and how everything in it is read at a start-up."""

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from paxos_twisted.storage.errors import RotError, StorageCorrupt
from paxos_twisted.storage.recovery import Stored, StoredPiece
from paxos_twisted.storage.seal import About, Last, Seal, unseal_about
from paxos_twisted.storage.transaction import Transaction

FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})

WAL_PAGES = 1000
"""Pages in the write-ahead file at which it is copied into the database. At least this size it has from the start."""

PAGE_BYTES = 4096

SCHEMA = {
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID",
    "log": "CREATE TABLE log (seq INTEGER PRIMARY KEY, row BLOB NOT NULL)",
    "pieces": "CREATE TABLE pieces (slot INTEGER NOT NULL, idx INTEGER NOT NULL, data BLOB NOT NULL, "
    "crc INTEGER NOT NULL, PRIMARY KEY (slot, idx))",
    "growth": "CREATE TABLE growth (data BLOB NOT NULL)",
}
"""Table -> its definition. `growth` is empty except while the write-ahead file is being given its size."""

INSERT_ROW = "INSERT INTO log VALUES (?, ?)"
DELETE_ROWS = "DELETE FROM log WHERE seq <= ?"
INSERT_PIECE = "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?)"
DELETE_PIECE = "DELETE FROM pieces WHERE slot = ? AND idx = ?"
READ_PIECE = "SELECT data, crc FROM pieces WHERE slot = ? AND idx = ?"
SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


def create(path: Path, about: bytes, last: bytes) -> None:
    """Make a new database file, durable except for its directory entry.

    Raises:
        sqlite3.Error: the disk failed.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for definition in SCHEMA.values():
            connection.execute(definition)
        connection.execute(SET_META, ("about", about))
        connection.execute(SET_META, ("last", last))
        connection.execute("COMMIT")
    finally:
        connection.close()


def connect(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Open the database for this thread alone, with the settings that durability rests on.

    Raises:
        sqlite3.Error: the disk failed.
    """
    connection = sqlite3.connect(path, isolation_level=None, factory=factory, timeout=0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # before the first access: no shared-memory file
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Checkpoints are our own (`SqliteStore`): those of SQLite would keep a failed sync to themselves.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA secure_delete = OFF")  # on in some builds: would overwrite what truncation deletes
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open the database so that nothing changes on disk, not even on closing, and check its structure.

    SQLite leaves an empty shared-memory file behind, which the caller may remove.

    Raises:
        StorageCorrupt: it is damaged.
        sqlite3.Error: the disk failed.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            raise StorageCorrupt([f"{path.name} is in journal mode {mode!r} instead of 'wal': its header has rotted"])
        _check_structure(connection, path.name)
    except BaseException:
        connection.close()
        raise
    return connection


def judged(error: sqlite3.Error, name: str) -> Exception:
    """Turn SQLite's ways to say "this file is damaged" into StorageCorrupt; return other errors as they are."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY):
        return StorageCorrupt([f"{name} is damaged ({error}): what the node promised or voted is unknown"])
    return error


def _check_structure(connection: sqlite3.Connection, name: str) -> None:
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    if tables != SCHEMA:
        raise StorageCorrupt([f"{name} does not have the tables it should have: it is damaged, or of another program"])
    # Rot inside a row is ours to find. Rot in SQLite's own structure could make later writes destroy good rows.
    problems = [text for (text,) in connection.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        text = "; ".join(problems).replace("\n", " ")
        raise StorageCorrupt([f"{name} is damaged ({text}): what the node promised or voted is unknown"])


def read_about(connection: sqlite3.Connection, name: str) -> About:
    """Return whose database it is.

    Raises:
        StorageCorrupt: that is not readable.
    """
    row = _meta(connection, "about")
    if row is None:
        raise StorageCorrupt([f"{name} does not say whose it is any more: the identity of the node is lost"])
    try:
        return unseal_about(row)
    except RotError as error:
        raise StorageCorrupt([f"the row of {name} that says whose it is {error}"]) from error


def read_all(connection: sqlite3.Connection, seal: Seal, durable: int) -> Stored:
    """Return everything, sealed, for `paxos_twisted.storage.recovery.recover`."""
    taken = _meta(connection, "snapshot")
    return Stored(
        rows=_rows(connection),
        last=_meta(connection, "last"),
        taken=taken,
        pieces=_pieces(connection, taken, seal),
        durable=durable,
        is_atomic=True,
    )


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
    for seq, row in connection.execute("SELECT seq, row FROM log ORDER BY seq"):
        yield seq, row if type(row) is bytes else b""  # rot can change the type of a value, too


def _pieces(connection: sqlite3.Connection, taken: bytes | None, seal: Seal) -> Iterator[StoredPiece]:
    if taken is None:
        return
    try:
        slot = seal.unseal_taken(taken).slot
    except RotError:
        return
    for index, data, crc in connection.execute("SELECT idx, data, crc FROM pieces WHERE slot = ?", (slot,)):
        yield StoredPiece(slot, index, data if type(data) is bytes else b"", crc)


def _meta(connection: sqlite3.Connection, name: str) -> bytes | None:
    found = connection.execute("SELECT row FROM meta WHERE name = ?", (name,)).fetchone()
    if found is None:
        return None
    return found[0] if type(found[0]) is bytes else b""


def tidy(connection: sqlite3.Connection, last: Last) -> list[tuple[int, int]]:
    """Delete what a recovery has judged away: rows that do not count, and pieces of unfinished or replaced snapshots.

    Returns:
        (slot, index) of the pieces that are left.
    """
    rows = f"FROM log WHERE seq < {last.first} OR seq > {last.seq}"
    pieces = f"FROM pieces WHERE slot <> {last.snapshot}"
    for found in (rows, pieces):
        # Usually there is nothing, and then nothing is written: a node can start on a full disk.
        if connection.execute(f"SELECT EXISTS (SELECT 1 {found})").fetchone() != (0,):
            connection.execute(f"DELETE {found}")
    return connection.execute("SELECT slot, idx FROM pieces").fetchall()


def grow_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Give the write-ahead file its full size now. Later commits then overwrite it in place, which makes their sync
    almost twice as fast: the file system has no new length to write down."""
    checkpoint(connection)
    if not path.exists() or path.stat().st_size < WAL_PAGES * PAGE_BYTES:
        connection.execute("INSERT INTO growth VALUES (zeroblob(?))", ((WAL_PAGES + WAL_PAGES // 4) * PAGE_BYTES,))
        connection.execute("DELETE FROM growth")
        checkpoint(connection)


def checkpoint(connection: sqlite3.Connection) -> int:
    """Copy the write-ahead file into the database and sync that; the next commit begins the file anew.

    Returns:
        The pages that were in the file.

    Raises:
        sqlite3.Error: the disk failed or is full. Nothing is lost by that.
    """
    busy, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert not busy and pages == copied, f"checkpoint: busy {busy}, {copied} of {pages} pages"
    return int(pages)


def pages_of(transaction: Transaction) -> int:
    """Roughly how many pages a commit adds to the write-ahead file."""
    deleted = 8 if transaction.delete_rows else 0
    return 3 + transaction.size // 4000 + len(transaction.pieces) + 2 * len(transaction.delete_pieces) + deleted
