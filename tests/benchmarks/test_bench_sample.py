"""Percentiles, medians with their spread, and how they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sample import Figure, Sample, figure, number, percentile

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        pytest.param([7.0], 50, 7.0, id="one value is every percentile"),
        pytest.param([4.0, 1.0, 3.0, 2.0], 50, 2.0, id="the median of an even number is the lower of the middle ones"),
        pytest.param([3.0, 1.0, 2.0], 50, 2.0, id="the median of an odd number is the middle one"),
        pytest.param(list(map(float, range(1, 101))), 99, 99.0, id="of a hundred values the 99th"),
        pytest.param(list(map(float, range(1, 11))), 99, 10.0, id="of ten values the highest is the 99th percentile"),
        pytest.param([1.0, 2.0], 0, 1.0, id="percentile 0 is the lowest"),
        pytest.param([1.0, 2.0], 100, 2.0, id="percentile 100 is the highest"),
    ],
)
def test_nearest_rank(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


def test_a_sample_tells_commands_a_second_and_milliseconds() -> None:
    sample = Sample(300, 1.5, [0.001, 0.002, 0.003])
    assert sample.throughput == 200
    assert sample.percentile_ms(50) == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([5.0], "5.00", id="one measurement has no spread to show"),
        pytest.param([1.0, 2.0, 4.0], "2.00 ±1.50", id="the spread is half the range"),
        pytest.param([99.0, 101.0, 12345.6], "101 ±6,123", id="large numbers are whole and have commas"),
        pytest.param([12.34, 12.34, 12.5], "12.3 ±0.1", id="the spread has as many decimals as the median"),
    ],
)
def test_figures_as_they_are_shown(values: list[float], expected: str) -> None:
    assert str(figure(values)) == expected


def test_a_figure_is_the_median_and_half_the_range() -> None:
    assert figure([10, 30, 11]) == Figure(11, 10)


def test_a_number_keeps_three_digits() -> None:
    assert [number(value) for value in (0.1234, 1.234, 12.34, 123.4, 1234.5)] == [
        "0.12",
        "1.23",
        "12.3",
        "123",
        "1,234",
    ]
