"""What happened around a kill: answers per moment as a picture in characters, and the steps of the failover."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
BUCKETS_MS: Final = (5, 10, 20, 50, 100, 200, 500, 1000)

ANSWERS_WANTED: Final = 4
"""In one column, on average: with fewer the bars are ragged."""

_SAMPLE = re.compile(r'^(\w+)(?:\{phase="(\w+)"\})? (\S+)$', re.MULTILINE)


class Timeline(msgspec.Struct, frozen=True):
    """Answers per column of `bucket_ms`, around an event in column `event`."""

    bucket_ms: int
    counts: tuple[int, ...]
    event: int
    """Column in which the event was."""
    gap: tuple[int, int]
    """[start, stop): the columns of the silence that the event caused. Answers that were under way when it came still
    arrive, so it begins at the event or later. Empty: there was none to be seen."""


def make_timeline(answers_ns: Sequence[int], event_ns: int, first_ms: float | None, width: int = 72) -> Timeline:
    """Count answers (their times, ascending) per column, so that the silence takes up to a sixth of the width, and a
    column holds a few answers. The event stands in the column after the first third.

    Args:
        first_ms: from the event to the first answer that comes in spite of it; None: there was none.
    """
    third = width // 3
    span_ms = (answers_ns[-1] - answers_ns[0]) / 1e6 if answers_ns else 0.0
    wanted = ((first_ms or 0.0) * 6 / width, span_ms * ANSWERS_WANTED / max(1, len(answers_ns)))
    bucket_ms = next((size for size in BUCKETS_MS if size >= max(wanted)), BUCKETS_MS[-1])
    bucket_ns = bucket_ms * 1_000_000
    start_ns = event_ns - third * bucket_ns
    counts = [0] * width
    for time_ns in answers_ns:
        column = (time_ns - start_ns) // bucket_ns
        if 0 <= column < width:
            counts[column] += 1
    stop = width if first_ms is None else min(width, int((event_ns + first_ms * 1e6 - start_ns) // bucket_ns))
    start = stop
    while start > third and not counts[start - 1]:
        start -= 1
    return Timeline(bucket_ms, tuple(counts), third, (start, stop))


def bars(counts: Sequence[int], rows: int) -> list[str]:
    """The counts as vertical bars of `rows` characters' height, top row first. Nothing but 0 is an empty column."""
    top = max(counts, default=0) or 1
    heights = [0 if not count else max(1, round(count * rows * 8 / top)) for count in counts]
    return ["".join(BLOCKS[min(8, max(0, height - 8 * row))] for height in heights) for row in reversed(range(rows))]


class Step(msgspec.Struct, frozen=True):
    """A step of a failover, in milliseconds after the kill."""

    name: str
    after_ms: float


PHASES: Final = (
    ("detect", "the connection to the leader breaks"),
    ("elect", "it is gone: who would follow me?"),
    ("phase1", "a majority would: phase 1 of a new round"),
    ("fill", "a quorum has promised: there is a leader"),
)
"""Phases of `paxos_failover_phase_start_timestamp_seconds` in their order, and what begins there."""


def failover_steps(metrics: str, kill_s: float) -> list[Step]:
    """Read from the new leader's metrics when each step began. `kill_s`: seconds since 1970.

    Steps that are not of this failover (before the kill) are left out.
    """
    starts: Mapping[str, float] = {
        phase: float(value)
        for name, phase, value in _SAMPLE.findall(metrics)
        if name == "paxos_failover_phase_start_timestamp_seconds" and phase
    }
    steps = [Step(text, (starts.get(phase, 0.0) - kill_s) * 1000) for phase, text in PHASES]
    return [step for step in steps if step.after_ms >= -1]
