"""Kinds of panels. Each has a title, one sentence that says what it shows, a unit, and thresholds if any are known."""

from collections.abc import Sequence
from typing import Any, Final, Protocol, Self, TypeVar

from grafana.queries import NODES, Query
from grafana.sdk import (
    bargauge,
    build,
    build_common,
    common,
    heatmap,
    heatmap_model,
    model,
    prometheus,
    prometheus_model,
    stat,
    statetimeline,
    table,
    timeseries,
)
from prometheus.recording import DEGRADED, DOWN, HEALTHY

Panel = model.Panel
Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on (None: from the lowest) this colour."""
Names = dict[int, tuple[str, str]]
"""Text and colour of a value."""

DATA_SOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="paxos-prometheus")
"""The uid is fixed for ever: every panel names it. [conventions CV-24]"""

GOOD, WARN, BAD, PLAIN = "green", "orange", "red", "text"

HEALTH_NAMES: Final[Names] = {DOWN: ("DOWN", BAD), DEGRADED: ("DEGRADED", WARN), HEALTHY: ("HEALTHY", GOOD)}
UP_NAMES: Final[Names] = {0: ("down", BAD), 1: ("up", GOOD)}
ROLE_NAMES: Final[Names] = {0: ("", PLAIN), 1: ("leads", "blue")}
NODE_COLOURS: Final = (
    "blue", "purple", "yellow", "light-blue", "light-purple", "dark-yellow", "dark-blue", "dark-purple", "light-yellow",
)  # fmt: skip
"""Of the nodes, none of them a colour that means good or bad. Larger ids are shown as numbers."""
NODE_NAMES: Final[Names] = {
    -1: ("nobody", BAD),
    **{node: (f"node {node}", colour) for node, colour in enumerate(NODE_COLOURS, 1)},
}


class _Look(Protocol):
    """What the builders of all kinds of panels can do."""

    def title(self, title: str, /) -> Self: ...
    def description(self, description: str, /) -> Self: ...
    def datasource(self, datasource: common.DataSourceRef, /) -> Self: ...
    def unit(self, unit: str, /) -> Self: ...
    def thresholds(self, thresholds: Any, /) -> Self: ...
    def mappings(self, mappings: list[Any], /) -> Self: ...
    def with_target(self, target: Any, /) -> Self: ...
    def build(self) -> Panel: ...


L = TypeVar("L", bound=_Look)


def number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "none",
    steps: Steps = ((None, PLAIN),),
    names: Names | None = None,
    decimals: int | None = None,
) -> Panel:
    """One value, large, on the colour that says how good it is."""
    plain = len(steps) == 1 and not names
    look = _dress(stat.Panel(), title, description, (query,), unit, steps, names)
    look.color_mode(common.BigValueColorMode.NONE if plain else common.BigValueColorMode.BACKGROUND)
    look.graph_mode(common.BigValueGraphMode.NONE).justify_mode(common.BigValueJustifyMode.CENTER)
    look.text_mode(common.BigValueTextMode.VALUE).orientation(common.VizOrientation.AUTO)
    look.reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"])).no_value("no data")
    if decimals is not None:
        look.decimals(decimals)
    return look.build()


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = (),
    stacked: bool = False,
    bars: bool = False,
    steady: bool = False,
) -> Panel:
    """Values over time. Thresholds are dashed lines; `bars` is for events, `steady` for what changes in steps."""
    look = _dress(timeseries.Panel(), title, description, queries, unit, steps or ((None, GOOD),), None)
    look.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    mode = common.GraphThresholdsStyleMode.DASHED if steps else common.GraphThresholdsStyleMode.OFF
    look.thresholds_style(build_common.GraphThresholdsStyleConfig().mode(mode))
    look.draw_style(common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE)
    if steady:
        look.line_interpolation(common.LineInterpolation.STEP_AFTER)
    look.line_width(1).fill_opacity(60 if bars else 25 if stacked else 8)
    look.show_points(common.VisibilityMode.NEVER).axis_soft_min(0)
    # A gap of a few scrapes is what a crash looks like: it is not bridged.
    look.span_nulls(False)
    if stacked or bars:
        look.stacking(build_common.StackingConfig().mode(common.StackingMode.NORMAL))
    legend = build_common.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
    look.legend(legend.placement(common.LegendPlacement.BOTTOM).calcs([]))
    look.tooltip(_tooltip())
    return look.build()


def lanes(title: str, description: str, *queries: Query, names: Names, legend: bool = False) -> Panel:
    """A lane for each series; its colour is the state."""
    look = _dress(statetimeline.Panel(), title, description, queries, "none", ((None, PLAIN),), names)
    look.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    look.show_value(common.VisibilityMode.AUTO).merge_values(True).row_height(0.85).fill_opacity(80).line_width(0)
    look.legend(
        build_common.VizLegendOptions()
        .show_legend(legend)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs([])
    )
    look.tooltip(_tooltip())
    return look.build()


def parts(title: str, description: str, *queries: Query, unit: str, steps: Steps) -> Panel:
    """A few values of one whole next to each other, as bars."""
    look = _dress(bargauge.Panel(), title, description, queries, unit, steps, None)
    look.orientation(common.VizOrientation.HORIZONTAL).display_mode(common.BarGaugeDisplayMode.BASIC)
    look.show_unfilled(False).value_mode(common.BarGaugeValueMode.COLOR).min(0)
    look.reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"])).no_value("not measured")
    return look.build()


def heat(title: str, description: str, query: Query, *, unit: str) -> Panel:
    """How often values fell into each bucket of a histogram, over time."""
    look = _dress(heatmap.Panel(), title, description, (query,), unit, ((None, GOOD),), None)
    look.calculate(False).cell_gap(1).show_legend()
    look.y_axis(heatmap.YAxisConfig().unit(unit))
    look.color(heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Blues"))
    return look.build()


def nodes(title: str, description: str) -> Panel:
    """A row for each node, a column for each of `queries.NODES`."""
    look = _dress(table.Panel(), title, description, [query for _, _, query in NODES], "none", ((None, PLAIN),), None)
    look.show_header(True).cell_height(common.TableCellHeight.SM)
    names = {f"Value #{chr(ord('A') + index)}": column for index, (column, _, _) in enumerate(NODES)}
    look.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    look.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True, "cluster": True},
                "indexByName": {"node": 0, **{value: index for index, value in enumerate(names, 1)}},
                "renameByName": names,
            },
        )
    )
    for column, unit, _ in NODES:
        if unit == "bool":
            _colour_cells(look, column, UP_NAMES if column == "up" else ROLE_NAMES)
        else:
            look.override_by_name(column, [model.DynamicConfigValue("unit", unit)])
    return look.build()


def alerts(title: str, description: str, query: Query) -> Panel:
    """The alerts that fire, and since when."""
    look = _dress(table.Panel(), title, description, (query,), "none", ((None, PLAIN),), None)
    look.show_header(True).cell_height(common.TableCellHeight.SM).no_value("no alert fires")
    look.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {"severity": 0, "alertname": 1, "node": 2, "Value": 3},
                "renameByName": {"alertname": "alert", "Value": "since"},
            },
        )
    )
    look.override_by_name("since", [model.DynamicConfigValue("unit", "dateTimeFromNow")])
    colours = {"critical": BAD, "warning": WARN, "info": "blue"}
    values = {name: model.ValueMappingResult(color=colour, text=name) for name, colour in colours.items()}
    look.override_by_name(
        "severity",
        [
            model.DynamicConfigValue("mappings", [model.ValueMap(options=values)]),
            model.DynamicConfigValue("custom.cellOptions", {"type": "color-background"}),
        ],
    )
    return look.build()


def mapping(names: Names) -> list[Any]:
    """Values shown as words."""
    return [
        model.ValueMap(
            options={
                str(value): model.ValueMappingResult(text=word, color=colour, index=index)
                for index, (value, (word, colour)) in enumerate(names.items())
            }
        )
    ]


def _dress(
    look: L, title: str, description: str, queries: Sequence[Query], unit: str, steps: Steps, names: Names | None
) -> L:
    """What all kinds of panels have."""
    look.title(title).description(description).datasource(DATA_SOURCE).unit(unit)
    thresholds = [model.Threshold(value=value, color=colour) for value, colour in steps]
    look.thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds))
    if names is not None:
        look.mappings(mapping(names))
    for index, query in enumerate(queries):
        look.with_target(_target(query, chr(ord("A") + index), is_heat=isinstance(look, heatmap.Panel)))
    return look


def _target(query: Query, ref: str, *, is_heat: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).datasource(DATA_SOURCE)
    target.editor_mode(prometheus_model.QueryEditorMode.CODE)
    kinds = prometheus_model.PromQueryFormat
    target.format(kinds.TABLE if query.rows else kinds.HEATMAP if is_heat else kinds.TIME_SERIES)
    return target.instant() if query.now else target.range()


def _colour_cells(look: table.Panel, column: str, names: Names) -> None:
    look.override_by_name(
        column,
        [
            model.DynamicConfigValue("mappings", mapping(names)),
            model.DynamicConfigValue("custom.cellOptions", {"type": "color-background"}),
        ],
    )


def _tooltip() -> build_common.VizTooltipOptions:
    tooltip = build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return tooltip.sort(common.SortOrder.DESCENDING)
