"""Where panels are, and what all dashboards have in common.

A page consists of sections, these of shelves, these of (width, panel). Shelves fill the page's 24 columns
from left to right, so nothing can overlap, and the order in the source is the order on the page.
"""

import copy
import json
from typing import Final, NamedTuple

import msgspec

from grafana.looks import DATA_SOURCE, Panel
from grafana.queries import CLIENT_STARTS, PHASE_STARTS, TAKE_OVERS
from grafana.sdk import JSONEncoder, build, model

COLUMNS: Final = 24
FOLDER: Final = "Paxos"
TAG: Final = "paxos"


class Shelf(NamedTuple):
    """Panels of one height, side by side, each with its width."""

    height: int
    panels: tuple[tuple[int, Panel], ...]


class Section(NamedTuple):
    """A heading and what stands below it."""

    title: str
    shelves: tuple[Shelf, ...]


def shelf(height: int, *panels: tuple[int, Panel]) -> Shelf:
    """Panels side by side: (width, panel) …"""
    return Shelf(height, panels)


def section(title: str, *shelves: Shelf) -> Section:
    """A heading, and shelves one below the other."""
    return Section(title, shelves)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One dashboard."""

    uid: str
    """Fixed for ever: links and bookmarks name it. [conventions CV-23]"""
    title: str
    story: str
    """What it tells, in one or two sentences."""
    sections: tuple[Section, ...]
    all_phases: bool = False
    """Mark the beginning of each phase of a failover, not only that a node takes over."""
    client_phases: bool = False
    """Mark the phases too that only clients see, if a bench shows them."""

    @property
    def name(self) -> str:
        """Of its file."""
        return self.uid.removeprefix("paxos-")


def dashboard(page: Page) -> model.Dashboard:
    """The page as Grafana's model has it.

    Raises:
        ValueError: a shelf is not exactly as wide as the page.
    """
    made = build.Dashboard(page.title).uid(page.uid).description(page.story).tags([TAG])
    made.readonly().tooltip(model.DashboardCursorSync.CROSSHAIR).timezone("browser")
    made.time("now-15m", "now").refresh("5s")
    made.timepicker(build.TimePicker().refresh_intervals(["5s", "30s", "5m"]))
    made.link(
        build.DashboardLink("Paxos")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )
    for variable in _variables():
        made.with_variable(variable)
    made.annotation(_annotation(page.all_phases))
    if page.client_phases:
        made.annotation(_client_annotation())
    result = made.build()
    for link in result.links or ():
        # The SDK puts every link into a menu; these are the way on, and belong where they are seen.
        link.placement = None  # type: ignore[assignment]
    result.panels = _placed(page)
    return result


def written(page: Page) -> str:
    """The JSON of the page, sorted, as it is committed."""
    return json.dumps(dashboard(page), cls=JSONEncoder, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _placed(page: Page) -> list[Panel | model.RowPanel]:
    placed: list[Panel | model.RowPanel] = []
    y = 0
    for section in page.sections:
        where = model.GridPos(h=1, w=COLUMNS, x=0, y=y)
        placed.append(model.RowPanel(title=section.title, id_val=len(placed) + 1, grid_pos=where))
        y += 1
        for shelf in section.shelves:
            if sum(width for width, _ in shelf.panels) != COLUMNS:
                titles = [panel.title for _, panel in shelf.panels]
                raise ValueError(f"{page.title}: the shelf of {titles} is not {COLUMNS} columns wide")
            x = 0
            for width, panel in shelf.panels:
                here = copy.copy(panel)  # the same panel may stand on several pages
                here.id_val = len(placed) + 1
                here.grid_pos = model.GridPos(h=shelf.height, w=width, x=x, y=y)
                placed.append(here)
                x += width
            y += shelf.height
    return placed


def _variables() -> list[build.QueryVariable]:
    cluster = build.QueryVariable("cluster").label("Cluster").query("label_values(paxos_node_info, cluster)")
    node = build.QueryVariable("node").label("Node").query('label_values(paxos_node_info{cluster="$cluster"}, node)')
    node.multi(True).include_all(True).all_value(".+").current(model.VariableOption(text="All", value="$__all"))
    return [
        variable.datasource(DATA_SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NUMERICAL_ASC)
        for variable in (cluster, node)
    ]


def _annotation(all_phases: bool) -> build.AnnotationQuery:
    """Marks at the exact times that nodes report, whenever they were scraped. [conventions CV-11, CV-25]"""
    mark = build.AnnotationQuery().name("Failover phases" if all_phases else "Changes of leader")
    mark.datasource(DATA_SOURCE).enable(True).icon_color("purple").use_value_for_time(True).step("1s")
    mark.expr(PHASE_STARTS if all_phases else TAKE_OVERS).tag_keys("phase")
    if all_phases:
        return mark.title_format("{{phase}}").text_format("Node {{node}} begins this phase.")
    return mark.title_format("Node {{node}} takes over").text_format("It begins phase 1 of its round.")


def _client_annotation() -> build.AnnotationQuery:
    mark = build.AnnotationQuery().name("Phases of clients").datasource(DATA_SOURCE).enable(True)
    mark.icon_color("orange").use_value_for_time(True).step("1s").expr(CLIENT_STARTS).tag_keys("phase")
    return mark.title_format("{{phase}}").text_format("Clients of the bench at {{instance}} begin this phase.")
