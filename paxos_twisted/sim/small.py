"""Small limits: so that runs of a few hundred commands reach the code that real nodes reach after millions.

The limits are module constants of the shipped code. They are set in this process for the time of one run.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from paxos_twisted.check import bank as check_bank
from paxos_twisted.core import replicated, sessions, table
from paxos_twisted.core.epaxos import replica as epaxos_replica
from paxos_twisted.core.multipaxos import proposer, replica
from paxos_twisted.node import driver
from paxos_twisted.storage import truncation


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one run. The defaults are small, but bite seldom; see the shipped constants for what they mean."""

    shards: int = 8
    sessions_per_shard: int = 64
    session_window: int = 256
    slots_kept: int = 40
    run_bytes: int = 1024 * 1024
    catch_up_bytes: int = 1024 * 1024
    slots_behind: int = 10_000
    decisions_buffered: int = 100_000
    piece_bytes: int = 400
    truncate_rows: int = 16
    proposals: int = 100_000
    writes_queued_bytes: int = 128 * 1024 * 1024
    progress_step: int = 50


PLACES = {
    "shards": [(table, "SHARDS"), (sessions, "SHARDS"), (replicated, "SHARDS"), (check_bank, "SHARDS")],
    "sessions_per_shard": [(sessions, "SESSIONS_PER_SHARD_MAX")],
    "session_window": [(sessions, "SESSION_WINDOW")],
    "slots_kept": [(replica, "SLOTS_KEPT"), (epaxos_replica, "CELLS_KEPT")],
    "run_bytes": [(proposer, "RUN_BYTES_MAX"), (driver, "RUN_BYTES_MAX")],
    "catch_up_bytes": [(replica, "CATCH_UP_BYTES_MAX")],
    "slots_behind": [(replica, "PROMISE_SLOTS_BEHIND_MAX")],
    "decisions_buffered": [(replica, "DECISIONS_BUFFERED_MAX")],
    "piece_bytes": [(replicated, "PIECE_BYTES_TARGET")],
    "truncate_rows": [(truncation, "TRUNCATE_ROWS")],
    "proposals": [(driver, "PROPOSALS_MAX"), (replica, "PROPOSALS_MAX")],
    "writes_queued_bytes": [(driver, "WRITES_QUEUED_BYTES_MAX")],
    "progress_step": [(driver, "PROGRESS_STEP")],
}


@contextmanager
def small_limits(limits: Limits) -> Iterator[None]:
    """Set the limits, and put the old ones back at the end."""
    old = [(module, name, getattr(module, name)) for places in PLACES.values() for module, name in places]
    try:
        for field, places in PLACES.items():
            for module, name in places:
                setattr(module, name, getattr(limits, field))
        yield
    finally:
        for module, name, value in old:
            setattr(module, name, value)
