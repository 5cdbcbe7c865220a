"""What one measurement found, and how several become one figure."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `percent` of all values do not exceed."""
    ranked = sorted(values)
    rank = -(-len(ranked) * percent // 100)  # rounded up
    return ranked[max(int(rank) - 1, 0)]


class Sample(NamedTuple):
    """One closed loop, seen by its clients."""

    commands: int
    seconds: float
    rtts_s: Sequence[float]
    """Of every request, in the order of the answers."""

    @property
    def throughput(self) -> float:
        """Commands per second."""
        return self.commands / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the round-trip times, in milliseconds."""
        return percentile(self.rtts_s, percent) * 1e3


class Figure(NamedTuple):
    """A median and its spread."""

    median: float
    half: float
    """Half the distance between the lowest and the highest."""

    def __str__(self) -> str:
        if not self.half:
            return number(self.median)
        return f"{number(self.median)} ±{number(self.half, like=self.median)}"


def figure(values: Sequence[float]) -> Figure:
    """The median of several measurements of the same thing, and half their range."""
    return Figure(statistics.median(values), (max(values) - min(values)) / 2)


def number(value: float, like: float | None = None) -> str:
    """Three digits that matter; with as many decimals as `like` has."""
    size = abs(value if like is None else like)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"
