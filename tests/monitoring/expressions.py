"""Every expression of every dashboard and rule, as Prometheus and Grafana get it, and what may be named in it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from paxos_twisted_client.exposition import BenchMetrics
from prometheus_client import CollectorRegistry

from grafana import queries
from grafana.__main__ import HERE
from grafana.layout import FOLDER
from paxos_twisted.node.families import Source
from paxos_twisted.node.metrics import catalogue, new_registry
from prometheus.__main__ import FOLDER as RULES
from prometheus.recording import RECORDINGS

DASHBOARDS = sorted((HERE / "dashboards" / FOLDER).glob("*.json"))

Json = Any


class Expression(NamedTuple):
    """One expression and where it stands."""

    where: str
    expr: str
    empty_when: str = ""
    """Why it may give nothing in a crash test."""


def load(path: Path) -> Json:
    """A dashboard as committed."""
    return json.loads(path.read_text(encoding="utf-8"))


def panels(dashboard: Json) -> list[Json]:
    """Its panels, without headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def of_dashboards() -> list[Expression]:
    """Expressions of panels and annotations."""
    several = (value if isinstance(value, tuple) else (value,) for value in vars(queries).values())
    asked = (query for values in several for query in values if isinstance(query, queries.Query))
    reasons = {query.expr: query.empty_when for query in asked}
    found = []
    for path in DASHBOARDS:
        dashboard = load(path)
        for panel in panels(dashboard):
            for target in panel.get("targets", ()):
                where = f"{path.stem}: {panel['title']} {target['refId']}"
                found.append(Expression(where, target["expr"], reasons.get(target["expr"], "")))
        for annotation in dashboard["annotations"]["list"]:
            found.append(Expression(f"{path.stem}: {annotation['name']}", annotation["expr"]))
    return found


def of_rules(key: str) -> list[Expression]:
    """Expressions of rules; `key` is record or alert."""
    return [
        Expression(rule[key], rule["expr"])
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if key in rule
    ]


TARGET_LABELS = frozenset({"cluster", "node", "instance", "job"})
"""Of everything that is scraped, see prometheus/targets.py."""


def known() -> dict[str, dict[str, tuple[str, ...] | None]]:
    """Every series that there is: name -> label -> its values, None if they are known only at run time."""
    free: dict[str, tuple[str, ...] | None] = dict.fromkeys(TARGET_LABELS)
    series: dict[str, dict[str, tuple[str, ...] | None]] = {
        "up": free,
        "scrape_duration_seconds": free,
        "node_time_seconds": free,  # of node-exporter
        "ALERTS": {**free, "alertname": None, "severity": None, "alertstate": ("pending", "firing")},
        "ALERTS_FOR_STATE": {**free, "alertname": None, "severity": None},
    }
    for family in [*catalogue(), *BenchMetrics.declared]:
        labels = {
            name: None if isinstance(values, Source) or family.type == "info" else values
            for name, values in family.labels.items()
        }
        suffixes = ("_bucket", "_sum", "_count") if family.type == "histogram" else ("",)
        for suffix in suffixes:
            series[family.name + suffix] = {**free, **labels, **({"le": None} if suffix == "_bucket" else {})}
    for metric in of_process(new_registry()):
        series[metric[0]] = {**free, **dict.fromkeys(metric[1])}
    for rule in RECORDINGS:
        series[rule.name] = dict.fromkeys(rule.labels)
    return series


def of_process(registry: CollectorRegistry) -> list[tuple[str, tuple[str, ...]]]:
    """Samples that prometheus_client itself gives: name, labels."""
    return [(sample.name, tuple(sample.labels)) for metric in registry.collect() for sample in metric.samples]
