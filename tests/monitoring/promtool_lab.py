"""A made-up cluster as Prometheus would have scraped it, second by second, and what the rules say about it.

A test changes the series of a healthy cluster, and promtool evaluates the real rule files on them.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from prometheus.__main__ import FOLDER
from prometheus.alerts import ALERTS, RUNBOOKS
from prometheus.rules import runbook_url
from prometheus.thresholds import JOB, MACHINES

SLOTS_PER_S = 1000
BUCKETS = ("0.01", "0.1", "1.0", "+Inf")
"""Bounds that these tests need: fast, just fast enough, too slow, hopeless."""

Value = float | None
"""None: no sample, because the scrape failed."""


class Lab:
    """Three nodes (node 1 leads) that serve clients for `seconds`, and their machines."""

    def __init__(self, seconds: int, cluster: str = "lab", nodes: int = 3) -> None:
        self.seconds = seconds
        self.cluster = cluster
        self.nodes = range(1, nodes + 1)
        self.series: dict[str, list[Value]] = {}
        for node in self.nodes:
            self._add_node(node)

    def _add_node(self, node: int) -> None:
        self.set("up", 1, node=node, job=JOB)
        self.set("node_time_seconds", lambda second: second, node=node, job=MACHINES)
        self.set("paxos_node_info", 1, node=node)
        self.set("paxos_is_leader", int(node == 1), node=node)
        self.set("paxos_known_leader_id", 1, node=node)
        self.set("paxos_round", 1001, node=node)
        self.set("paxos_leader_changes_total", 1, node=node, cause="round")
        self.set("paxos_decided_slot", lambda second: SLOTS_PER_S * second, node=node)
        self.set("paxos_applied_slot", lambda second: SLOTS_PER_S * second, node=node)
        self.set("paxos_proposals_open", 10 if node == 1 else 0, node=node)
        self.set("paxos_state_hash_mismatches_total", 0, node=node)
        self.set("paxos_disk_free_bytes", 80e9, node=node)
        for peer in self.nodes:
            if peer != node:
                self.set("paxos_peer_up", 1, node=node, peer=peer)
        self.slow("paxos_client_request_duration_seconds", node, share=0.005)
        self.slow("paxos_wal_fsync_duration_seconds", node, share=0.005)
        self.slow("paxos_reactor_lag_seconds", node, share=0.005)

    def key(self, metric: str, **labels: object) -> str:
        """A series as it is written in PromQL."""
        texts = (f'{name}="{value}"' for name, value in sorted({"cluster": self.cluster, **labels}.items()))
        return f"{metric}{{{', '.join(texts)}}}"

    def set(self, metric: str, value: Any, start: int = 0, stop: int | None = None, **labels: object) -> None:
        """Give a series a value (or what a function of the second says) in the seconds [start, stop)."""
        values = self.series.setdefault(self.key(metric, **labels), [None] * self.seconds)
        for second in range(start, self.seconds if stop is None else stop):
            values[second] = value(second) if callable(value) else value

    def slow(self, histogram: str, node: int, share: float, start: int = 0) -> None:
        """From `start` on this share of 1000 observations a second falls above 0.1 s, the rest below 0.01 s."""
        for bound in BUCKETS:
            per_s = 1000 * (1 if float(bound) > 0.1 else 1 - share)
            key = self.key(f"{histogram}_bucket", node=node, le=bound)
            before = self.series.setdefault(key, [0.0] * self.seconds)[max(start - 1, 0)] or 0.0
            for second in range(start, self.seconds):
                self.series[key][second] = before + per_s * (second - start + 1)

    def down(self, node: int, start: int, stop: int | None = None, *, is_seen: bool = False) -> None:
        """The node answers no scrapes in [start, stop), and unless it `is_seen` the others have no link to it."""
        end = self.seconds if stop is None else stop
        for key, values in self.series.items():
            is_of_node = f'node="{node}"' in key and MACHINES not in key
            if is_of_node:
                values[start:end] = [0.0 if key.startswith("up{") else None] * (end - start)
            elif not is_seen and key.startswith("paxos_peer_up") and f'peer="{node}"' in key:
                values[start:end] = [0.0 if value is not None else None for value in values[start:end]]

    def lead(self, leader: int, start: int) -> None:
        """From `start` on this node leads (0: none does), and the others follow it. Each of them counts a change."""
        for node in self.nodes:
            changes = self.series[self.key("paxos_leader_changes_total", node=node, cause="round")]
            for second in range(start, self.seconds):
                changes[second] = (changes[second] or 0) + (1 if leader else 0)
            if leader:
                self.set("paxos_round", 1000 * (1 + start) + leader, start, node=node)
            self.set("paxos_is_leader", int(node == leader), start, node=node)
            self.set("paxos_known_leader_id", leader or -1, start, node=node)
            self.set("paxos_proposals_open", 10 if node == leader else 0, start, node=node)

    def forget(self, node: int) -> None:
        """The node is no target of Prometheus."""
        self.series = {key: values for key, values in self.series.items() if f'node="{node}"' not in key}


def written(values: Sequence[Value]) -> str:
    """Values as promtool reads them. The first missing one is a stale marker, as after a failed scrape."""
    words = []
    for index, value in enumerate(values):
        is_first = value is None and index > 0 and values[index - 1] is not None
        words.append("stale" if is_first else "_" if value is None else f"{value:.17g}")
    return " ".join(words)


def firing(alert: str, summary: str, **labels: str) -> dict[str, Any]:
    """An alert that is expected to fire."""
    return {"alert": alert, "summary": summary, "labels": labels}


def check_alerts(folder: Path, lab: Lab, seconds: Sequence[int], expected: Sequence[dict[str, Any]]) -> None:
    """Exactly the expected alerts fire at each of the seconds.

    Raises:
        AssertionError: what promtool printed.
    """
    rules = {alert.name: alert for alert in ALERTS}
    samples, alerts = [], []
    for one in expected:
        rule = rules[one["alert"]]
        labels = {**one["labels"], "severity": rule.severity}
        texts = ", ".join(f'{name}="{value}"' for name, value in {**labels, "alertstate": "firing"}.items())
        samples.append({"labels": f'ALERTS{{alertname="{rule.name}", {texts}}}', "value": 1})
        annotations = {"summary": one["summary"], "description": rule.description}
        annotations["runbook_url"] = runbook_url(rule, RUNBOOKS)
        alerts.append((rule.name, {"exp_labels": labels, "exp_annotations": annotations}))
    everything = [
        {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{second}s", "exp_samples": samples} for second in seconds
    ]
    texts_of_each = [
        {
            "alertname": name,
            "eval_time": f"{second}s",
            "exp_alerts": [alert for other, alert in alerts if other == name],
        }
        for second in seconds
        for name in dict(alerts)
    ]
    _promtool(folder, lab, promql_expr_test=everything, alert_rule_test=texts_of_each)


def check_values(folder: Path, lab: Lab, second: int, expected: Mapping[str, float]) -> None:
    """Recorded series of the cluster have these values at that second.

    Raises:
        AssertionError: what promtool printed.
    """
    tests = [
        {"expr": name, "eval_time": f"{second}s", "exp_samples": [{"labels": lab.key(name), "value": value}]}
        for name, value in expected.items()
    ]
    _promtool(folder, lab, promql_expr_test=tests)


def _promtool(folder: Path, lab: Lab, **tests: list[dict[str, Any]]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    series = [{"series": key, "values": written(values)} for key, values in lab.series.items()]
    content = {
        "rule_files": [str(path) for path in sorted(FOLDER.glob("*.yml"))],
        "evaluation_interval": "1s",
        "tests": [{"interval": "1s", "input_series": series, **tests}],
    }
    file = folder / "test.yml"  # JSON is YAML, and written ten times as fast
    file.write_text(json.dumps(content), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
