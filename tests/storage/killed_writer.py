"""A process that writes records until it is killed, and says on standard output how far it is durable.

Which record has which number is fixed (`record_of`), so that whoever reads the log later knows what belongs there.
"""

import os
import sys
from itertools import count
from pathlib import Path
from threading import Semaphore

from stores import CLUSTER, NODE, snapshot, voted

from paxos_twisted.core.records import LogRecord, Promised, Record, Truncated
from paxos_twisted.storage.sqlite_store import SqliteStore

SNAPSHOT_EVERY = 300


def record_of(seq: int) -> LogRecord:
    """Record number `seq`."""
    if seq % SNAPSHOT_EVERY == 0:
        return Promised(seq)
    return voted(seq * 10, size=20 + 977 * seq % 9000)


def main() -> None:
    """Never returns."""
    outstanding = Semaphore(16)
    seqs: dict[int, int] = {}  # write number -> number of its last record

    def on_durable(write_no: int) -> None:
        os.write(1, b"%d\n" % seqs[write_no])
        for number in [number for number in seqs if number <= write_no]:
            del seqs[number]
            outstanding.release()

    store = SqliteStore(
        Path(sys.argv[1]),
        CLUSTER,
        NODE,
        call_from_thread=lambda function, *arguments: function(*arguments),
        on_durable=on_durable,
        on_full=print,
        on_failed=print,
        reserve_bytes=0,
    )
    first = store.open().last_seq + 1
    numbers = count(1)

    def submit(seq: int, *records: Record) -> None:
        outstanding.acquire()
        number = next(numbers)
        seqs[number] = seq
        store.submit(number, records)

    for seq in count(first):
        if seq % SNAPSHOT_EVERY == 0:
            end = seq * 10 - 1
            submit(seq - 1, *snapshot(end))
            submit(seq, record_of(seq), Truncated(end))
        else:
            submit(seq, record_of(seq))


if __name__ == "__main__":
    main()
