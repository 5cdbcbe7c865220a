"""The picture around a kill, and what is read out of histories and metrics for it. Pure."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos_twisted.cluster.demo import answer_times, first_answer_ms
from paxos_twisted.cluster.timeline import Step, Timeline, bars, failover_steps, make_timeline

MS = 1_000_000


def test_answers_are_counted_around_the_event() -> None:
    answers = [*range(0, 100 * MS, MS), *range(150 * MS, 250 * MS, MS)]
    timeline = make_timeline(answers, 100 * MS, 50.0, width=30)
    assert timeline == Timeline(10, (10,) * 10 + (0,) * 5 + (10,) * 10 + (0,) * 5, 10, (10, 15))


def test_columns_are_so_wide_that_bars_are_not_ragged() -> None:
    seldom = [*range(0, 1000 * MS, 20 * MS), *range(1050 * MS, 2000 * MS, 20 * MS)]
    assert make_timeline(seldom, 1000 * MS, 50.0).bucket_ms == 100


@pytest.mark.parametrize(
    ("late", "first_ms", "gap"),
    [
        pytest.param([], 40.0, (10, 14), id="silence from the event on"),
        pytest.param([105], 40.0, (11, 14), id="an answer that was under way still arrives"),
        pytest.param([], None, (10, 30), id="nobody answers any more"),
        pytest.param([], 4.0, (10, 10), id="a silence too short to be seen"),
    ],
)
def test_the_gap_is_the_silence_that_the_event_caused(
    late: list[int], first_ms: float | None, gap: tuple[int, int]
) -> None:
    answers = [*range(0, 100 * MS, MS), *(ms * MS for ms in late)]
    if first_ms is not None:
        answers += range(int((100 + first_ms) * MS), 200 * MS, MS)
    timeline = make_timeline(answers, 100 * MS, first_ms, width=30)
    assert timeline.gap == gap


def test_bars_show_every_answer_and_nothing_else() -> None:
    assert bars((0, 1, 2, 4), 1) == [" ▂▄█"]
    assert bars((0, 1, 8), 2) == ["  █", " ▂█"]
    assert bars((0, 0), 1) == ["  "]


@given(st.lists(st.integers(0, 10_000), max_size=80), st.integers(1, 5))
def test_a_column_is_empty_only_when_nothing_was_answered(counts: list[int], rows: int) -> None:
    drawn = bars(counts, rows)
    assert len(drawn) == rows
    for column, count in enumerate(counts):
        assert (drawn[-1][column] == " ") == (count == 0)


@given(st.lists(st.integers(0, 10**12), max_size=50), st.integers(0, 10**12), st.none() | st.floats(0, 10**6))
def test_a_timeline_fits_its_width_whatever_happened(answers: list[int], event: int, first_ms: float | None) -> None:
    timeline = make_timeline(sorted(answers), event, first_ms)
    start, stop = timeline.gap
    assert len(timeline.counts) == 72
    assert sum(timeline.counts) <= len(answers)
    assert timeline.event <= start <= stop <= 72
    assert not any(timeline.counts[start:stop])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([90, 150], 50.0, id="the next answer"),
        pytest.param([101, 120, 150, 151], 50.0, id="answers of the old leader do not count"),
        pytest.param([101, 150, 400], 50.0, id="a longer silence later on does not count"),
        pytest.param([90, 101], None, id="no answer ever again"),
        pytest.param([], None, id="no answer at all"),
    ],
)
def test_the_first_answer_is_the_new_leaders(answers: list[int], expected: float | None) -> None:
    assert first_answer_ms([ms * MS for ms in answers], 100 * MS, 45.0) == expected


def test_answer_times_are_those_of_ok_lines(tmp_path: Path) -> None:
    history = tmp_path / "h.jsonl"
    history.write_text(
        '{"type":"invoke","time":1,"process":0}\n{"type":"ok","time":9}\n{"type":"ok","time":5}\n{"type":"fail","time":7}\n'
    )
    assert answer_times(history) == [5, 9]


METRICS = """\
# HELP paxos_failover_phase_start_timestamp_seconds When each phase began.
paxos_failover_phase_start_timestamp_seconds{phase="detect"} 1000.005
paxos_failover_phase_start_timestamp_seconds{phase="elect"} 1000.02
paxos_failover_phase_start_timestamp_seconds{phase="phase1"} 17.5
paxos_failover_phase_start_timestamp_seconds{phase="first_commit"} 0.0
paxos_failover_phase_seconds{phase="detect"} 5.0
"""


def test_the_steps_of_a_failover_are_read_from_metrics_and_old_ones_left_out() -> None:
    steps = failover_steps(METRICS, 1000.0)
    assert [step.name for step in steps] == ["the connection to the leader breaks", "it is gone: who would follow me?"]
    assert [round(step.after_ms, 3) for step in steps] == [5.0, 20.0]
    assert failover_steps("", 1000.0) == []
    assert isinstance(steps[0], Step)
