"""Statistics against data whose answers are known, and against slow obvious definitions."""

import math
import statistics as reference
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paxos_twisted_client.statistics import GapMeter, Summary, overlap_ns, percentile, summarize

times = st.integers(0, 10**12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], Summary(0, 0.0, 0, 0, 0.0, 0.0, 0), id="nothing was measured"),
        pytest.param([5], Summary(1, 5.0, 5, 5, 5.0, 0.0, 5), id="one value has no deviation"),
        # Wikipedia, "Standard deviation": this population has deviation 2; as a sample sqrt(32/7).
        pytest.param(
            [2, 4, 4, 4, 5, 5, 7, 9], Summary(8, 5.0, 2, 9, 4.5, math.sqrt(32 / 7), 9), id="deviation of a sample"
        ),
        pytest.param([3, 1, 2], Summary(3, 2.0, 1, 3, 2.0, 1.0, 3), id="odd count: the middle value"),
        pytest.param(
            [4, 1, 3, 2], Summary(4, 2.5, 1, 4, 2.5, math.sqrt(5 / 3), 4), id="even count: mean of the middle"
        ),
        pytest.param(
            list(range(1, 101)), Summary(100, 50.5, 1, 100, 50.5, math.sqrt(100 * 101 / 12), 99), id="1 to 100"
        ),
    ],
)
def test_known_data(values: list[int], expected: Summary) -> None:
    assert summarize(values) == expected


# NIST StRD, univariate summary statistics, "NumAcc1" (mean 10000002, deviation exactly 1) and "NumAcc4" scaled by ten
# (mean 100000002, deviation exactly 1): naive sums of squares in floating point fail on the second.
@pytest.mark.parametrize(
    ("values", "mean"),
    [
        pytest.param([10000001, 10000003, 10000002], 10000002.0, id="NIST NumAcc1"),
        pytest.param([100000002, *[100000001, 100000003] * 500], 100000002.0, id="NIST NumAcc4 times ten"),
    ],
)
def test_nist_data(values: list[int], mean: float) -> None:
    summary = summarize(values)
    assert summary.mean == mean
    assert summary.deviation == pytest.approx(1.0, rel=1e-15)


@given(st.lists(times, min_size=2, max_size=200))
def test_against_the_standard_library(values: list[int]) -> None:
    summary = summarize(values)
    assert summary.mean == pytest.approx(reference.fmean(values))
    assert summary.median == reference.median(values)
    assert summary.deviation == pytest.approx(reference.stdev(values))
    assert (summary.minimum, summary.maximum, summary.count) == (min(values), max(values), len(values))


@given(st.lists(times, min_size=1, max_size=300), st.integers(1, 100))
def test_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(values: list[int], percent: int) -> None:
    found = percentile(sorted(values), percent)
    enough = [value for value in values if 100 * sum(other <= value for other in values) >= percent * len(values)]
    assert found == min(enough)


def meter(script: str) -> GapMeter:
    """Each character is one millisecond: i invoke, a answered, f failed, anything else nothing."""
    gap = GapMeter()
    for now, character in enumerate(script):
        {"i": gap.invoked, "a": gap.answered, "f": gap.failed}.get(character, lambda _: None)(now)
    return gap


@pytest.mark.parametrize(
    ("script", "longest", "end"),
    [
        pytest.param("i.a", 2, 2, id="one request: its round trip"),
        pytest.param("ia.....ia", 1, 1, id="time in which nobody waits is no gap"),
        pytest.param("iaia....iaia", 1, 1, id="a steady client has only round trips"),
        pytest.param("ia" + "i....a" + "ia", 5, 7, id="a stall of the service"),
        pytest.param("ii.a...a", 4, 7, id="between answers while another request waits"),
        pytest.param("i...f..i..a", 10, 10, id="a request without an answer does not end the gap"),
        pytest.param("ia" + "i...f", 4, 6, id="a gap may end with a failure, if nothing follows"),
        pytest.param("", 0, 0, id="no request"),
    ],
)
def test_longest_gap(script: str, longest: int, end: int) -> None:
    gap = meter(script)
    assert (gap.longest_ns, gap.longest_end_ns) == (longest, end)


@given(st.lists(st.tuples(times, st.integers(0, 10**9)), min_size=1, max_size=50))
def test_gap_of_a_client_with_one_request_at_a_time_is_its_longest_round_trip(steps: list[tuple[int, int]]) -> None:
    gap, now = GapMeter(), 0
    for idle, rtt in steps:
        now += idle
        gap.invoked(now)
        now += rtt
        gap.answered(now)
    assert gap.longest_ns == max(rtt for _, rtt in steps)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50))
def test_gap_of_a_client_that_always_waits_is_the_longest_time_between_answers(answers: list[int]) -> None:
    gap = GapMeter()
    for _ in answers:
        gap.invoked(0)
    gap.invoked(0)
    for now in sorted(answers):
        gap.answered(now)
    assert gap.longest_ns == max(later - earlier for earlier, later in pairwise([0, *sorted(answers)]))


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


@given(st.integers(0, 60), st.integers(0, 60), spans)
def test_overlap_is_the_number_of_covered_instants(start: int, stop: int, covers: list[tuple[int, int]]) -> None:
    instants = {instant for begin, end in covers for instant in range(max(begin, start), min(end, stop))}
    assert overlap_ns(start, stop, covers) == len(instants)
