"""What the writer thread counts: plain integers, written by that thread alone, read by the metrics page."""

from bisect import bisect_left

COMMIT_BUCKETS_S = (
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.01, 0.0256, 0.0512, 0.1, 0.2048, 0.4096, 1.0, 1.6384,
    3.2768,
)  # fmt: skip
"""Upper bounds of the commit-time buckets: factors of two, with the thresholds of alerts (10 ms, 100 ms, 1 s) in place
of the bounds next to them. One more bucket counts what took longer."""


class StoreMetrics:
    """Counters and gauges of one store."""

    __slots__ = (
        "bytes_written",
        "commit_seconds",
        "commit_seconds_sum",
        "commits",
        "errors",
        "free_bytes",
        "rotten_pieces",
        "rows_written",
        "size_bytes",
        "wal_bytes",
    )

    def __init__(self) -> None:
        self.commits = 0
        self.commit_seconds = [0] * (len(COMMIT_BUCKETS_S) + 1)
        """Commits per bucket (not cumulative)."""
        self.commit_seconds_sum = 0.0
        self.rows_written = 0
        self.bytes_written = 0
        """Sealed rows and snapshot pieces."""
        self.wal_bytes = 0
        """Size of the write-ahead file, once a second."""
        self.size_bytes = 0
        """Size of the database file, once a second."""
        self.free_bytes = 0
        """Free space of the file system, once a second."""
        self.errors = 0
        """Attempts that failed, for lack of space or otherwise."""
        self.rotten_pieces = 0
        """Snapshot pieces that a peer asked for and that had rotted."""

    def add_commit(self, seconds: float) -> None:
        """Count one commit."""
        self.commits += 1
        self.commit_seconds_sum += seconds
        self.commit_seconds[bisect_left(COMMIT_BUCKETS_S, seconds)] += 1
