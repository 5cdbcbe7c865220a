"""`python -m paxos_twisted.storage.dump DIR`: show what a data directory holds, and what a start-up would say of it.

Changes nothing: it works on a copy in a temporary directory. The node must be stopped.
Exit code: 0 all is well, 1 there are findings, 2 the node could not start with it.
"""

import argparse
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from paxos_twisted.core.records import (
    Cell,
    Chosen,
    Decisions,
    Entered,
    Header,
    Held,
    LogRecord,
    PeerSeen,
    Promised,
    Reached,
    ViewKept,
    ViewLog,
    Voted,
    Vowed,
)
from paxos_twisted.storage import database
from paxos_twisted.storage.directory import DATABASE, PROOF, WAL, owner_of
from paxos_twisted.storage.errors import RotError, StorageCorrupt, StoreError
from paxos_twisted.storage.examine import close_for_reading, examine, open_for_reading
from paxos_twisted.storage.recovery import slots_of
from paxos_twisted.storage.seal import Seal


def main(arguments: Sequence[str] | None = None) -> int:
    """Print to standard output and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m paxos_twisted.storage.dump", description="Show what the data directory of a stopped node holds."
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--tail", type=int, default=0, metavar="N", help="only the last N rows (default: all)")
    options = parser.parse_args(arguments)
    owner = owner_of(options.directory)
    if owner is not None:
        print(f"{options.directory} is in use by process {owner}: stop the node first", file=sys.stderr)
        return 2
    with TemporaryDirectory(prefix="paxos-dump-") as name:
        copy = Path(name)
        for file in (DATABASE, WAL, PROOF):
            if (options.directory / file).exists():
                shutil.copyfile(options.directory / file, copy / file)
        return _show(options.directory, copy, options.tail)


def _show(directory: Path, copy: Path, tail: int) -> int:
    try:
        connection = open_for_reading(copy)
    except (StoreError, sqlite3.Error, OSError) as error:
        return _refused(str(error).replace(str(copy), str(directory)))
    try:
        try:
            about = database.read_about(connection, DATABASE)
        except StorageCorrupt as error:
            return _refused(str(error))
        print(f"cluster    {about.cluster}\nnode       {about.node}")
        print(f"identity   {about.identity}\nformat     {about.format}")
        seal = Seal(about.cluster, about.node, about.identity)
        code = _judge(copy, seal)
        rows = list(_lines(connection, seal))
        print(f"rows       {len(rows)}")
        for line in rows[-tail:]:
            print(line)
    except sqlite3.Error as error:
        return _refused(str(error))
    finally:
        close_for_reading(copy, connection)
    return code


def _judge(copy: Path, seal: Seal) -> int:
    try:
        recovered = examine(copy, seal.about.cluster, seal.about.node).recovered
    except StoreError as error:
        findings = error.findings if isinstance(error, StorageCorrupt) else (str(error),)
        for finding in findings:
            print(f"refused    {finding}")
        return 2
    last, snapshot = recovered.last, recovered.snapshot
    print(f"log        {last.count} records are kept: {last.first} to {last.seq}" if last.count else "log        empty")
    if snapshot is not None:
        size = sum(map(len, recovered.pieces))
        print(f"snapshot   of slot {snapshot.slot}, {snapshot.pieces} pieces, {size} bytes, digest {snapshot.digest}")
    for finding in recovered.findings:
        print(f"finding    {finding}")
    if not recovered.findings:
        print("finding    none: all is well")
    return 1 if recovered.findings else 0


def _refused(text: str) -> int:
    print(f"refused    {text}")
    return 2


def _lines(connection: sqlite3.Connection, seal: Seal) -> Iterator[str]:
    for seq, row in database.read_all(connection, seal, 0).rows:
        try:
            _, record = seal.unseal(row, seq)
        except RotError as error:
            yield f"{seq:>10} UNREADABLE: it {error}"
        else:
            yield f"{seq:>10} {type(record).__name__.lower():<9} {_describe(record)}"


def _describe(record: LogRecord) -> str:
    match record:
        case Promised(rnd=rnd):
            return f"round {rnd}"
        case Voted(rnd=rnd, values=values, adu=adu):
            return f"round {rnd}, {slots_of(record.header)}, {len(values)} bytes, decided up to {adu}"
        case Chosen(values=values):
            return f"{slots_of(record.header)}, {len(values)} bytes"
        case Reached(adu=adu):
            return f"decided up to {adu}"
        case PeerSeen(node=node, identity=identity, progress=progress):
            return f"node {node}, identity {identity}, had written record {progress}"
        case Held(epoch=epoch, slot=slot, count=count, values=values, adu=adu):
            slots = slots_of(Header(slot, count))
            return f"epoch {epoch}, {slots}, {len(values)} bytes, committed up to {adu}"
        case Entered(epoch=epoch, members=members):
            return f"epoch {epoch}, primary {members[0]}, backups {', '.join(map(str, members[1:])) or 'none'}"
        case ViewLog(record=inner):
            return f"{type(inner).__name__.lower()} {_describe(inner)}"
        case ViewKept(slot=slot, epoch=epoch):
            return f"view changes up to {slot}: epoch {epoch}"
        case Cell(replica=replica, slot=slot, status=status, bal=bal, vbal=vbal, deps=deps, seq=seq):
            name = ("joined", "pre-accepted", "accepted", "committed")[status]
            return f"instance {replica}.{slot}, {name}, ballot {bal}, vote of ballot {vbal}, deps {deps}, seq {seq}"
        case Decisions(cells=cells):
            return f"committed: {', '.join(f'{replica}.{slot}' for replica, slot, *_ in cells)}"
        case Vowed(deps=deps):
            return f"votes for nothing that depends on less than {deps}"


if __name__ == "__main__":
    sys.exit(main())
