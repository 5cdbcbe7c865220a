"""The dashboards: current, readable by the SDK's model, laid out without overlaps, one story from top to bottom."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from expressions import DASHBOARDS, Json, load, panels

from grafana.__main__ import HERE, generated
from grafana.layout import COLUMNS, FOLDER, Page, dashboard, section, shelf
from grafana.pages import PAGES
from grafana.panels import CPU
from grafana.sdk import JSONEncoder, model, register_default_plugins

ROOT = HERE.parent

PANELS: list[tuple[str, Json]] = [
    (f"{path.stem}: {panel['title']}", panel) for path in DASHBOARDS for panel in panels(load(path))
]
PLOTS = [(where, panel) for where, panel in PANELS if panel["type"] != "text"]
UNITS = {
    "none", "short", "s", "bytes", "binBps", "reqps", "ops", "percentunit", "dateTimeFromNow",
}  # fmt: skip


@pytest.mark.parametrize(("path", "text"), generated().items(), ids=[path.name for path in generated()])
def test_generated_file_is_current(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run: python -m grafana"


def test_there_is_no_dashboard_that_nobody_generates() -> None:
    assert set(DASHBOARDS) <= set(generated())
    assert len(DASHBOARDS) == len(PAGES)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_the_sdk_reads_what_it_wrote(path: Path) -> None:
    """Each field is one that Grafana's model knows, of the type that it knows."""
    register_default_plugins()
    committed = load(path)
    read = json.loads(json.dumps(model.Dashboard.from_json(committed), cls=JSONEncoder))
    for link in read["links"]:
        assert link.pop("placement") == "inControlsMenu"  # what the model puts in when it is left out, see layout.py
    assert read == committed


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_keeps_to_the_conventions(path: Path) -> None:
    """[conventions CV-23, CV-24]"""
    committed = load(path)
    assert committed["uid"] == f"paxos-{path.stem}"
    assert "id" not in committed
    assert "__inputs" not in committed
    assert [variable["name"] for variable in committed["templating"]["list"]] == ["cluster", "node"]
    sources = set(re.findall(r'"uid": "([^"]*)"', path.read_text(encoding="utf-8"))) - {committed["uid"]}
    assert sources == {"paxos-prometheus"}


def test_uids_and_titles_are_unique() -> None:
    for field in ("uid", "title"):
        assert len({load(path)[field] for path in DASHBOARDS}) == len(DASHBOARDS)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_titles_and_ids_of_panels_are_unique(path: Path) -> None:
    committed = load(path)
    ids = [panel["id"] for panel in committed["panels"]]
    titles = [panel["title"] for panel in committed["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)


def cells(panel: Json) -> set[tuple[int, int]]:
    """Cells of the grid that a panel covers."""
    where = panel["gridPos"]
    columns, rows = range(where["x"], where["x"] + where["w"]), range(where["y"], where["y"] + where["h"])
    return {(x, y) for x in columns for y in rows}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_cover_the_page_without_overlap_or_hole(path: Path) -> None:
    covered: set[tuple[int, int]] = set()
    for panel in load(path)["panels"]:
        assert not covered & cells(panel), f"{panel['title']} overlaps another panel"
        covered |= cells(panel)
    height = 1 + max(y for _, y in covered)
    assert covered == {(x, y) for x in range(COLUMNS) for y in range(height)}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_come_in_the_order_in_which_they_are_read(path: Path) -> None:
    places = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in load(path)["panels"]]
    assert all(before < after for before, after in pairwise(places))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_page_begins_with_a_heading_and_ends_with_the_health_of_scrapes(path: Path) -> None:
    committed = load(path)["panels"]
    assert committed[0]["type"] == "row"
    assert [panel["title"] for panel in committed[-3:]] == [
        "Can these numbers be believed?",
        "Scrapes",
        "Time to scrape",
    ]


def test_the_first_screen_of_the_overview_says_who_leads_whether_all_is_well_and_since_when() -> None:
    """A screen of 1080 pixels shows about 24 rows of the grid; the answers stand in the first six."""
    overview = load(HERE / "dashboards" / FOLDER / "overview.json")
    first = [panel["title"] for panel in panels(overview) if panel["gridPos"]["y"] < 6]
    assert first == ["Health", "In this state since", "Leader", "Leads since", "Nodes missing", "Alerts"]


@pytest.mark.parametrize("panel", [each for _, each in PANELS], ids=[where for where, _ in PANELS])
def test_panel_has_one_sentence(panel: Json) -> None:
    assert re.fullmatch(r"[A-Z][^.!?]*\.", panel["description"])
    assert len(panel["title"]) <= 32


@pytest.mark.parametrize("panel", [each for _, each in PLOTS], ids=[where for where, _ in PLOTS])
def test_panel_has_a_unit_thresholds_and_legends(panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    steps = defaults["thresholds"]["steps"]
    assert steps[0]["value"] is None
    values = [step["value"] for step in steps[1:]]
    assert values == sorted(values)
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["datasource"]["uid"] == "paxos-prometheus"
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]
        style = defaults["custom"]["thresholdsStyle"]["mode"]
        assert style == ("dashed" if values else "off")
    if panel["type"] == "stat":  # a colour says whether it is good, unless it only names a time or a rate
        is_neutral = defaults["unit"] in ("dateTimeFromNow", "reqps")
        assert is_neutral or values or defaults["mappings"]


@pytest.mark.parametrize("panel", [each for _, each in PLOTS], ids=[where for where, _ in PLOTS])
def test_queries_of_a_panel_are_told_apart(panel: Json) -> None:
    refs = [target["refId"] for target in panel["targets"]]
    assert refs == sorted(set(refs))
    for target in panel["targets"]:
        assert target["instant"] != target["range"]


def test_marks_are_drawn_where_nodes_say() -> None:
    """[conventions CV-25] The unit of "series value as timestamp" is milliseconds."""
    for path in DASHBOARDS:
        for mark in load(path)["annotations"]["list"]:
            assert mark["useValueForTime"] is True
            assert "* 1000" in mark["expr"]


def test_a_shelf_that_is_not_as_wide_as_the_page_is_refused() -> None:
    page = Page(uid="paxos-x", title="X", story="", sections=(section("one", shelf(8, (12, CPU), (13, CPU))),))
    with pytest.raises(ValueError, match="24 columns"):
        dashboard(page)


def provisioning(kind: str) -> Any:
    return yaml.safe_load((HERE / "provisioning" / kind / "paxos.yml").read_text(encoding="utf-8"))


def test_the_data_source_is_provisioned_as_the_panels_name_it() -> None:
    """[conventions CV-24]"""
    assert provisioning("datasources")["apiVersion"] == 1
    (source,) = provisioning("datasources")["datasources"]
    assert (source["uid"], source["type"], source["access"]) == ("paxos-prometheus", "prometheus", "proxy")
    assert source["jsonData"] == {"timeInterval": "1s", "httpMethod": "POST"}


def test_the_dashboards_are_provisioned_from_files() -> None:
    """[conventions CV-24]"""
    assert provisioning("dashboards")["apiVersion"] == 1
    (provider,) = provisioning("dashboards")["providers"]
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert provider["disableDeletion"] is True
    assert provider["options"]["foldersFromFilesStructure"] is True
    assert "folder" not in provider


def test_the_sdk_is_pinned_exactly() -> None:
    """[conventions CV-21] An unpinned install resolves to models of an old Grafana."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r'"grafana-foundation-sdk([^"]*)"', text) == ["==0.0.21"]
