"""Targets are judged by medians of one run."""

import pytest

from benchmarks.measure import Load, Measurement, Outage, Results, Subject
from benchmarks.report import target_sheet
from benchmarks.targets import BATCHED_PER_S, BATCHES, judge


def run(system: str, load: Load, throughput: float = 100.0, server_us: float = 10.0) -> Measurement:
    return Measurement(
        system=system,
        load=load,
        throughput=throughput,
        p50_ms=1.0,
        p99_ms=2.0,
        max_ms=3.0,
        server_us=server_us,
        client_us=None,
        rss_mb=50.0,
        written_bytes=99.0,
    )


def results(*measurements: Measurement, outages: list[Outage] | None = None) -> Results:
    subjects = [Subject(name, name, "1", [], "") for name in ("ours", "zookeeper", "etcd")]
    return Results(setting=[], subjects=subjects, measurements=list(measurements), outages=outages or [])


@pytest.mark.parametrize(("server_us", "is_met"), [(3.3, True), (3.4, False)], ids=["reached", "just missed"])
def test_less_is_better_for_cpu(server_us: float, is_met: bool) -> None:
    load = Load(64, 1)
    judged = judge(results(run("ours", load, server_us=server_us), run("etcd", load)))
    assert [one.is_met for one in judged if one.what == "server CPU"] == [is_met]


@pytest.mark.parametrize(("throughput", "is_met"), [(300, True), (299, False)], ids=["reached", "just missed"])
def test_more_is_better_for_throughput(throughput: float, is_met: bool) -> None:
    load = Load(64, 1)
    judged = judge(results(run("ours", load, throughput), run("etcd", load)))
    assert [one.is_met for one in judged if one.what == "throughput"] == [is_met]


def test_medians_count_and_what_was_not_measured_is_left_out() -> None:
    load = Load(8, 32)
    measured = [run("ours", load, 500), run("ours", load, 510), run("ours", load, 1), run("etcd", load)]
    (judged,) = [one for one in judge(results(*measured)) if one.what == "throughput"]
    assert (judged.against, judged.target, judged.is_met) == ("etcd", "≥ 5 ×", True)


def test_batches_have_a_target_without_a_rival() -> None:
    (judged,) = judge(results(run("ours", BATCHES, BATCHED_PER_S - 1)))
    assert (judged.load, judged.is_met) == ("1 × 4 batches of 8190", False)


def test_gaps_are_compared() -> None:
    outages = [Outage("ours", 30.0), Outage("etcd", 300.0), Outage("zookeeper", 100.0)]
    assert [(one.against, one.is_met) for one in judge(results(outages=outages))] == [
        ("ZooKeeper", False),
        ("etcd", True),
    ]


def test_the_sheet_counts_them() -> None:
    load = Load(64, 1)
    sheet = target_sheet(results(run("ours", load, 300, 3), run("etcd", load)))
    assert sheet.title.startswith("Targets: 2 of 2 met")
    assert {row[-1] for row in sheet.rows} == {"met"}
