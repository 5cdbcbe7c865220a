"""Tables from results, and which systems are taken."""

import click
import msgspec
import pytest

from benchmarks.measure import Load, Measurement, Outage, Results, Subject, Turn
from benchmarks.peers.etcd import Etcd
from benchmarks.report import load_sheet, markdown, ratio_sheet, sheets, turn_sheet, value_sheet
from benchmarks.versus import chosen


def run(system: str, load: Load, throughput: float, server_us: float = 10.0) -> Measurement:
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


@pytest.fixture
def results() -> Results:
    """Two systems, two loads, two sizes of values for the one that has them."""
    small, many, large = Load(64, 1), Load(8, 32), Load(64, 1, 4096)
    return Results(
        setting=["a machine"],
        subjects=[
            Subject("ours", "Paxos-Twisted", "1", ["default"], "paxosnode"),
            Subject("etcd", "etcd", "3", ["default"], "etcd --name n1"),
        ],
        measurements=[
            *(run("ours", small, 300, 20), run("ours", small, 100, 40), run("ours", small, 200, 30)),
            *(run("etcd", small, 50, 60), run("etcd", small, 50, 60)),
            run("ours", many, 1000),
            run("etcd", large, 7),
        ],
        outages=[Outage("etcd", 1300), Outage("etcd", 1500)],
        turns=[Turn("ours", 1.0, 30.0), Turn("etcd", 2.0, 400.0)],
        notes=["Skipped: ZooKeeper is not here."],
    )


def test_loads_are_medians_with_spread_and_leave_large_values_out(results: Results) -> None:
    rows = [row[:3] for row in load_sheet(results).rows]
    assert rows == [
        ("64 × 1", "Paxos-Twisted", "200 ±100"),
        ("64 × 1", "etcd", "50.0"),
        ("8 × 32", "Paxos-Twisted", "1,000"),
    ]


def test_value_sizes_stand_beside_the_bank_which_has_none(results: Results) -> None:
    rows = [row[:4] for row in value_sheet(results).rows]
    assert rows == [
        ("64 × 1", "16", "etcd", "50.0"),
        ("64 × 1", "4096", "etcd", "7.00"),
        ("64 × 1", "bank", "Paxos-Twisted", "200 ±100"),
    ]


def test_ratios_are_ours_by_theirs_and_missing_where_they_were_not_measured(results: Results) -> None:
    assert ratio_sheet(results).rows == [("64 × 1", "4.00× · 0.50× · 1.00× · 1.00×"), ("8 × 32", "–")]


def test_gaps_show_the_worst_and_their_number(results: Results) -> None:
    assert turn_sheet(results).rows == [
        ("Paxos-Twisted", "–", "–", "0", "1.00", "30.0"),
        ("etcd", "1,400 ±100", "1,500", "2", "2.00", "400"),
    ]


def test_the_page_says_versions_settings_commands_and_what_is_missing(results: Results) -> None:
    page = markdown(results)
    for sentence in ("a machine", "etcd 3: default", "etcd, node 1: etcd --name n1", "ZooKeeper is not here."):
        assert sentence in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == len({len(sheet.columns) for sheet in sheets(results)})


def test_no_results_are_no_tables() -> None:
    assert sheets(Results(setting=[])) == []


def test_results_come_back_from_a_file(results: Results) -> None:
    assert msgspec.json.decode(msgspec.json.encode(results), type=Results) == results


def test_a_system_that_is_not_installed_is_skipped_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Etcd, "missing", classmethod(lambda cls: "etcd is not here"))
    systems, notes = chosen("ours,etcd")
    assert [system.name for system in systems] == ["ours"]
    assert notes == ["Skipped: etcd is not here"]


def test_an_unknown_system_is_a_mistake_in_the_command() -> None:
    with pytest.raises(click.BadParameter, match="raft"):
        chosen("ours,raft")
