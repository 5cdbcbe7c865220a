"""The catalogue: every name keeps to the conventions, every label set is there from the start, the page is current."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from paxos_twisted.core.events import LeaderChanged
from paxos_twisted.node.families import Family, Group, Histogram, Labels, counter, histogram
from paxos_twisted.node.metrics import LEADER_CAUSES, THRESHOLDS, Metrics, catalogue, document, new_registry

ROOT = Path(__file__).resolve().parents[2]

LABELS = Labels(
    peers=("2", "3"),
    engine="multipaxos",
    app="bank",
    ops=("balance", "deposit", "withdraw", "transfer", "unknown"),
    messages=("Prepare", "Promise", "Accept", "Learn"),
)

# Names that dashboards and alerts rely on. [conventions 5.1, "First catalogue"; engines and parts to come are left out]
FIRST_CATALOGUE = """
paxos_build_info paxos_node_info paxos_is_leader paxos_known_leader_id paxos_round paxos_leader_changes_total
paxos_suspicions_total paxos_restorations_total paxos_phase1_attempts_total paxos_phase1_duration_seconds
paxos_decided_slot paxos_applied_slot paxos_buffered_decisions paxos_slots_decided_total paxos_commit_duration_seconds
paxos_apply_duration_seconds paxos_client_requests_total paxos_client_request_duration_seconds
paxos_client_redirects_total paxos_client_connections paxos_messages_sent_total paxos_messages_received_total
paxos_network_bytes_total paxos_messages_dropped_total paxos_peer_up paxos_peer_reconnects_total paxos_peer_rtt_seconds
paxos_wal_fsync_duration_seconds paxos_wal_size_bytes paxos_wal_errors_total paxos_snapshot_duration_seconds
paxos_disk_free_bytes paxos_reactor_lag_seconds paxos_heartbeat_lateness_seconds paxos_state_hash_mismatches_total
paxos_failover_phase_seconds paxos_failover_phase_start_timestamp_seconds
"""


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(CollectorRegistry(), LABELS)
    made.node.update(node="1", engine="multipaxos", app="bank", durability="fsync", policy="sticky")
    return made


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample as a scrape sees it: "name{label=value,…}" -> number."""
    registry = CollectorRegistry()
    registry.register(metrics.collector)
    text = generate_latest(registry).decode()
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name + "{" + ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items())) + "}"
            assert key not in samples
            samples[key] = sample.value
    return samples


def test_catalogue_holds_the_promised_names() -> None:
    assert set(FIRST_CATALOGUE.split()) - {family.name for family in catalogue()} == set()


@pytest.mark.parametrize("family", catalogue(), ids=lambda family: family.name)
def test_family_keeps_to_the_conventions(family: Family) -> None:
    assert re.fullmatch(r"(paxos|chat|auction)_[a-z0-9]+(_[a-z0-9]+)*", family.name)  # CV-01
    assert family.name.endswith("_total") == (family.type == "counter")  # CV-02
    assert family.name.endswith("_info") == (family.type == "info")
    assert not re.search(r"(milliseconds|_ms|minutes|kilobytes)", family.name)
    assert family.type != "histogram" or family.name.endswith(("_seconds", "_size"))  # a size counts things
    assert set(family.labels) <= {
        "engine", "app", "op", "outcome", "peer", "type", "phase", "cause", "kind", "reason", "direction", "when",
        "side", "version", "revision", "python", "twisted", "node", "durability", "policy", "path", "state",
    }  # fmt: skip  # CV-03
    assert family.help.endswith(".")
    assert "|" not in family.help


def test_names_are_unique() -> None:
    names = [family.name for family in catalogue()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("family", [family for family in catalogue() if family.bounds], ids=lambda family: family.name)
def test_thresholds_of_alerts_are_bounds(family: Family) -> None:
    assert list(family.bounds) == sorted(set(family.bounds))
    covered = [threshold for threshold in THRESHOLDS if family.bounds[0] <= threshold <= family.bounds[-1]]
    assert set(covered) <= set(family.bounds)  # CV-07
    assert len(family.bounds) <= 16


def test_every_label_set_is_there_from_the_start(metrics: Metrics) -> None:
    samples = values(metrics)
    for family in Metrics.declared:
        assert any(key.startswith(family.name) for key in samples), family.name
    assert len([key for key in samples if key.startswith("paxos_client_requests_total")]) == 5 * 10
    assert len([key for key in samples if key.startswith("paxos_messages_sent_total")]) == 2 * 4
    assert samples["paxos_client_requests_total{app=bank,op=deposit,outcome=ok}"] == 0
    assert samples["paxos_peer_rtt_seconds_count{peer=3}"] == 0
    assert samples["paxos_node_info{app=bank,durability=fsync,engine=multipaxos,node=1,policy=sticky}"] == 1
    assert samples["paxos_decided_slot{}"] == -1
    assert not [key for key in samples if "_created" in key]  # CV-08


def test_numbers_of_hot_paths_arrive(metrics: Metrics) -> None:
    before = values(metrics)
    metrics.leader_changes["suspect"] += 1
    metrics.messages_sent["2", "Accept"] += 3
    metrics.client_requests["deposit", "ok"] += 5
    metrics.wal_errors += 1
    metrics.is_leader = 1
    metrics.failover_phase["detect"] = 0.25
    metrics.commit_duration.observe(0.0100, 2)
    metrics.peer_rtt["3"].observe(99.0)
    after = values(metrics)
    changed = {key: value for key, value in after.items() if value != before[key]}
    assert set(after) == set(before)
    assert {key: value for key, value in changed.items() if "_bucket" not in key} == {
        "paxos_leader_changes_total{cause=suspect}": 1,
        "paxos_messages_sent_total{peer=2,type=Accept}": 3,
        "paxos_client_requests_total{app=bank,op=deposit,outcome=ok}": 5,
        "paxos_wal_errors_total{}": 1,
        "paxos_is_leader{engine=multipaxos}": 1,
        "paxos_failover_phase_seconds{phase=detect}": 0.25,
        "paxos_commit_duration_seconds_count{app=bank}": 2,
        "paxos_commit_duration_seconds_sum{app=bank}": 0.02,
        "paxos_peer_rtt_seconds_count{peer=3}": 1,
        "paxos_peer_rtt_seconds_sum{peer=3}": 99,
    }
    assert "paxos_commit_duration_seconds_bucket{app=bank,le=0.004}" not in changed
    assert changed["paxos_commit_duration_seconds_bucket{app=bank,le=0.01}"] == 2  # bounds are inclusive
    assert changed["paxos_commit_duration_seconds_bucket{app=bank,le=+Inf}"] == 2
    assert changed["paxos_peer_rtt_seconds_bucket{le=+Inf,peer=3}"] == 1


def test_value_that_was_not_declared_is_counted_and_stops_nothing(metrics: Metrics) -> None:
    metrics.leader_changes["eclipse"] += 1
    assert values(metrics)["paxos_leader_changes_total{cause=eclipse}"] == 1


def test_gauges_are_refreshed_before_a_scrape(metrics: Metrics) -> None:
    def refresh() -> None:
        metrics.client_connections = 7

    metrics.collector.before.append(refresh)
    assert values(metrics)["paxos_client_connections{}"] == 7


def test_causes_of_the_engine_are_declared() -> None:
    doc = LeaderChanged.__doc__ or ""
    assert doc
    assert {"start", "suspect", "restore", "handover", "round", "quorum"} == set(LEADER_CAUSES)


def test_an_engine_or_application_adds_its_own_families(metrics: Metrics) -> None:
    class AuctionMetrics(Group):
        """An auction."""

        bids: dict[str, int] = counter("auction_bids_total", "Bids.", outcome=("ok", "fail"))
        lead: Histogram = histogram("auction_lead_seconds", "Time in the lead.", (1.0, 2.0))

    auction = AuctionMetrics(LABELS)
    metrics.collector.groups.append(auction)
    auction.bids["ok"] += 1
    auction.lead.observe(1.5)
    samples = values(metrics)
    assert samples["auction_bids_total{outcome=ok}"] == 1
    assert samples["auction_bids_total{outcome=fail}"] == 0
    assert samples["auction_lead_seconds_bucket{le=2.0}"] == 1


def test_two_nodes_in_one_process_share_nothing(metrics: Metrics) -> None:
    other = Metrics(CollectorRegistry(), LABELS)
    metrics.leader_changes["start"] += 1
    metrics.wal_errors += 1
    assert other.leader_changes["start"] == 0
    assert other.wal_errors == 0


def test_same_metrics_twice_in_a_registry_are_an_error() -> None:
    registry = CollectorRegistry()
    Metrics(registry, LABELS)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Metrics(registry, LABELS)


@given(st.lists(st.tuples(st.floats(-1, 20), st.integers(1, 5))))
def test_histogram_counts_like_a_slow_obvious_one(observations: list[tuple[float, int]]) -> None:
    bounds = (0.001, 0.01, 0.1, 1.0, 10.0)
    fast = Histogram(bounds)
    for value, count in observations:
        fast.observe(value, count)
    for text, total in fast.accumulated():
        assert total == sum(count for value, count in observations if max(value, 0.0) <= float(text))
    assert fast.sum == pytest.approx(sum(max(value, 0.0) * count for value, count in observations))


def test_page_is_current() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert page == document(), "type: python -m paxos_twisted.node.metrics > docs/metrics.md"


def test_promtool_finds_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus): the names are not linted by it")
    registry = new_registry()
    Metrics(registry, LABELS).fsync_duration.observe(0.001)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(registry), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
