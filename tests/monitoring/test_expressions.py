"""Whatever dashboards and rules ask for exists: metric, labels and, where they are declared, values of labels."""

import pytest
import yaml
from expressions import Expression, known, of_dashboards, of_rules
from promql_names import Selector, named

from prometheus.__main__ import FOLDER

KNOWN = known()

SELECTORS = [
    ("up", [Selector("up", ())]),
    ('up{job="a", node=~"$node"} == 1', [Selector("up", (("job", "=", "a"), ("node", "=~", "$node")))]),
    ("sum by (x, le) (rate(a_total[1m])) / b", [Selector("a_total", ()), Selector("b", ())]),
    ("a:b:c < bool 2 or vector(0)", [Selector("a:b:c", ())]),
    ("x != x offset 1s", [Selector("x", ()), Selector("x", ())]),
    ('label_replace(a, "node", "$1", "peer", "(.+)")', [Selector("a", ())]),
    ("a - on (cluster) group_right () max by (n) (b)", [Selector("a", ()), Selector("b", ())]),
]


@pytest.mark.parametrize(("expr", "selectors"), SELECTORS, ids=[case[0] for case in SELECTORS])
def test_names_are_found(expr: str, selectors: list[Selector]) -> None:
    assert named(expr).selectors == selectors


def test_labels_of_groupings_are_found() -> None:
    assert named("sum by (a, b) (x) and on (c) y * on (d) group_left (e) z").labels == set("abcde")


ALL = [*of_dashboards(), *of_rules("record"), *of_rules("alert")]


@pytest.mark.parametrize("expression", ALL, ids=[each.where for each in ALL])
def test_what_is_asked_for_exists(expression: Expression) -> None:
    found = named(expression.expr)
    assert found.selectors
    labels = {"peer"} if "label_replace" in expression.expr else set()
    for metric, matchers in found.selectors:
        assert metric in KNOWN, f"there is no metric {metric}"
        labels |= set(KNOWN[metric])
        for label, sign, value in matchers:
            assert label in KNOWN[metric], f"{metric} has no label {label}"
            values = KNOWN[metric][label]
            if values is not None:
                wanted = value.split("|") if sign in ("=~", "!~") else [value]
                assert set(wanted) <= set(values), f"{metric}: {label} is one of {values}"
    assert found.labels <= labels


@pytest.mark.parametrize("expression", ALL, ids=[each.where for each in ALL])
def test_only_jobs_are_named_that_are_scraped(expression: Expression) -> None:
    configuration = yaml.safe_load((FOLDER.parent / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"] for job in configuration["scrape_configs"]}
    for _, matchers in named(expression.expr).selectors:
        assert {value for label, _, value in matchers if label == "job"} <= jobs


@pytest.mark.parametrize("expression", of_dashboards(), ids=[each.where for each in of_dashboards()])
def test_panels_keep_to_the_chosen_cluster(expression: Expression) -> None:
    """… except those that compare engines: they are of different clusters."""
    if "group_left (engine)" in expression.expr:
        return
    for metric, matchers in named(expression.expr).selectors:
        assert ("cluster", "=", "$cluster") in matchers, metric


def test_slots_and_leaders_of_nodes_are_never_added_up() -> None:
    """[conventions CV-04]"""
    for each in ALL:
        for metric in ("paxos_decided_slot", "paxos_applied_slot", "paxos_known_leader_id", "paxos_round"):
            assert f"({metric}" not in each.expr or "sum" not in each.expr.partition(metric)[0][-20:], each.where
