"""What we want to reach beside the others, and whether a comparison has reached it.

Each target compares medians of one run, so that the machine and its moods are the same for both sides.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from benchmarks.measure import Load, Measurement, Results
from benchmarks.sample import figure, number

OURS: Final = "ours"
ETCD, ZOOKEEPER, PYSYNCOBJ, PYSYNCOBJ_MEMORY = "etcd", "zookeeper", "pysyncobj", "pysyncobj-memory"
NAMES: Final = {ETCD: "etcd", ZOOKEEPER: "ZooKeeper", PYSYNCOBJ: "PySyncObj", PYSYNCOBJ_MEMORY: "PySyncObj (in memory)"}

CPU, THROUGHPUT, P50, P99 = "server CPU", "throughput", "p50", "p99"
VALUES: Final[dict[str, Callable[[Measurement], float]]] = {
    CPU: lambda m: m.server_us,
    THROUGHPUT: lambda m: m.throughput,
    P50: lambda m: m.p50_ms,
    P99: lambda m: m.p99_ms,
}

BATCH: Final = 8190
BATCHES: Final = Load(1, 4, batch=BATCH)
BATCHED_PER_S: Final = 300_000


class Target(NamedTuple):
    """Ours divided by theirs; at most `bound`, for throughput at least."""

    load: Load
    what: str
    other: str
    bound: float

    def is_met(self, ratio: float) -> bool:
        """Whether this ratio reaches it."""
        return ratio >= self.bound if self.what == THROUGHPUT else ratio <= self.bound


TARGETS: Final = [
    Target(Load(1, 1), CPU, ZOOKEEPER, 1.0),
    Target(Load(1, 1), CPU, ETCD, 0.7),
    Target(Load(1, 1), P50, ZOOKEEPER, 0.85),
    Target(Load(1, 1), P50, ETCD, 0.65),
    Target(Load(8, 1), CPU, ZOOKEEPER, 0.85),
    Target(Load(8, 1), THROUGHPUT, ZOOKEEPER, 1.2),
    Target(Load(8, 1), P99, ZOOKEEPER, 0.9),
    Target(Load(64, 1), CPU, ZOOKEEPER, 0.5),
    Target(Load(64, 1), CPU, ETCD, 0.33),
    Target(Load(64, 1), THROUGHPUT, ZOOKEEPER, 1.6),
    Target(Load(64, 1), THROUGHPUT, ETCD, 3),
    Target(Load(64, 1), P99, ZOOKEEPER, 0.8),
    Target(Load(256, 1), CPU, ZOOKEEPER, 0.42),
    Target(Load(256, 1), CPU, ETCD, 0.25),
    Target(Load(256, 1), THROUGHPUT, ZOOKEEPER, 1.8),
    Target(Load(256, 1), THROUGHPUT, ETCD, 3.5),
    Target(Load(256, 1), P99, ZOOKEEPER, 0.8),
    Target(Load(8, 32), CPU, ZOOKEEPER, 0.2),
    Target(Load(8, 32), CPU, ETCD, 0.15),
    Target(Load(8, 32), THROUGHPUT, ZOOKEEPER, 3.5),
    Target(Load(8, 32), THROUGHPUT, ETCD, 5),
    Target(Load(8, 32), P99, ZOOKEEPER, 0.5),
    Target(Load(10, 100), CPU, ZOOKEEPER, 0.2),
    Target(Load(10, 100), THROUGHPUT, ZOOKEEPER, 4),
    Target(Load(10, 100), P99, ZOOKEEPER, 0.5),
    *(
        Target(Load(*shape), THROUGHPUT, other, 1.0)
        for other in (PYSYNCOBJ, PYSYNCOBJ_MEMORY)
        for shape in ((1, 1), (8, 1), (64, 1), (256, 1), (8, 32), (10, 100))
    ),
]

GAPS: Final = {ZOOKEEPER: 0.2, ETCD: 0.1}
"""Client-visible gap after kill -9 of the leader, ours divided by theirs, at most."""


class Judged(NamedTuple):
    """One target beside what was measured."""

    load: str
    what: str
    against: str
    target: str
    measured: str
    is_met: bool


def judge(results: Results) -> list[Judged]:
    """Every target for which both sides were measured."""
    found = [judged for target in TARGETS if (judged := _ratio(results, target)) is not None]
    batches = _runs(results, OURS, BATCHES)
    if batches:
        per_s = figure([run.throughput for run in batches]).median
        found.append(
            Judged(str(BATCHES), "transactions/s", "", f"≥ {BATCHED_PER_S:,}", number(per_s), per_s >= BATCHED_PER_S)
        )
    ours = [outage.gap_ms for outage in results.outages if outage.system == OURS]
    for other, bound in GAPS.items():
        theirs = [outage.gap_ms for outage in results.outages if outage.system == other]
        if ours and theirs:
            ratio = figure(ours).median / figure(theirs).median
            against = NAMES[other]
            found.append(Judged("kill -9", "gap", against, f"≤ {bound:g} ×", f"{number(ratio)} ×", ratio <= bound))
    return found


def _ratio(results: Results, target: Target) -> Judged | None:
    value = VALUES[target.what]
    ours, theirs = _runs(results, OURS, target.load), _runs(results, target.other, target.load)
    if not ours or not theirs:
        return None
    ratio = figure([value(run) for run in ours]).median / figure([value(run) for run in theirs]).median
    sign = "≥" if target.what == THROUGHPUT else "≤"
    return Judged(
        str(target.load),
        target.what,
        NAMES[target.other],
        f"{sign} {target.bound:g} ×",
        f"{number(ratio)} ×",
        target.is_met(ratio),
    )


def _runs(results: Results, system: str, load: Load) -> Sequence[Measurement]:
    return [run for run in results.measurements if run.system == system and run.load == load]
