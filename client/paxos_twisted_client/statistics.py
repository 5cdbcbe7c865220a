"""Round-trip times and gaps, as the lab asks for them. Pure functions; times are integers in nanoseconds."""

import math
from collections.abc import Iterable, Sequence

import msgspec

PERCENTILE_METHOD = "nearest rank: the smallest observed value that at least 99 % of the values do not exceed"
DEVIATION_METHOD = "sample (n-1)"


class Summary(msgspec.Struct, frozen=True):
    """Statistics of round-trip times, in nanoseconds. All zero when `count` is."""

    count: int
    mean: float
    minimum: int
    maximum: int
    median: float
    """The middle value, or the mean of the two middle ones."""
    deviation: float
    """Standard deviation of the sample (divided by n-1); 0 for a single value."""
    percentile_99: int
    """By nearest rank, see PERCENTILE_METHOD."""


def summarize(values: Iterable[int]) -> Summary:
    """Describe the values. Exact but for one rounding: sums are integers."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return Summary(0, 0.0, 0, 0, 0.0, 0.0, 0)
    total = sum(ordered)
    middle = count // 2
    median = float(ordered[middle]) if count % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    deviation = 0.0
    if count > 1:
        # n * sum(x^2) - sum(x)^2 is the n-fold sum of squared distances, without cancellation as it is an integer.
        scaled = count * sum(value * value for value in ordered) - total * total
        deviation = math.sqrt(scaled / (count * (count - 1)))
    return Summary(count, total / count, ordered[0], ordered[-1], median, deviation, percentile(ordered, 99))


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The value of nearest rank ceil(percent/100 * n) of a sorted sequence that is not empty; 0 < percent <= 100."""
    assert ordered
    assert 0 < percent <= 100
    return ordered[-(-percent * len(ordered) // 100) - 1]


class GapMeter:
    """The longest time in which a client got no answer although it was waiting for one.

    A gap begins with an answer, or with a request when none was unanswered before, and ends with the next answer. A
    request that ends without an answer does not end it.
    """

    __slots__ = ("_open", "_since_ns", "_unserved", "last_ns", "longest_end_ns", "longest_ns", "longest_sent_ns")

    def __init__(self) -> None:
        self.longest_ns = 0
        self.last_ns = 0
        """The latest gap, or how far one has grown that goes on."""
        self.longest_end_ns = 0
        """When the longest gap ended, on the clock of the arguments."""
        self.longest_sent_ns = 0
        """When the request left, for the last time, whose answer ended it; 0: it ended without an answer."""
        self._open = 0
        self._since_ns = 0
        self._unserved = False  # the last request ended without an answer: the gap goes on

    def invoked(self, now_ns: int) -> None:
        """A request was made."""
        if not self._open and not self._unserved:
            self._since_ns = now_ns
        self._open += 1

    def answered(self, now_ns: int, sent_ns: int = 0) -> None:
        """A request that was last sent at `sent_ns` was answered."""
        self._measure(now_ns, sent_ns)
        self._open -= 1
        self._since_ns = now_ns
        self._unserved = False

    def failed(self, now_ns: int) -> None:
        """A request ended without an answer."""
        self._measure(now_ns, 0)
        self._open -= 1
        self._unserved = True

    def waiting_ns(self, now_ns: int) -> int:
        """How long it has been waiting by now."""
        return now_ns - self._since_ns if self._open or self._unserved else 0

    def _measure(self, now_ns: int, sent_ns: int) -> None:
        gap_ns = self.last_ns = now_ns - self._since_ns
        if gap_ns > self.longest_ns:
            self.longest_ns = gap_ns
            self.longest_end_ns = now_ns
            self.longest_sent_ns = sent_ns


def overlap_ns(start_ns: int, stop_ns: int, spans: Iterable[tuple[int, int]]) -> int:
    """How much of [start, stop) the union of `spans` (each start, stop) covers."""
    covered = 0
    reached = start_ns
    for begin, end in sorted(spans):
        first, last = max(begin, reached), min(end, stop_ns)
        if first < last:
            covered += last - first
            reached = last
    return covered
