"""Panels of Grafana as dictionaries: what all of them have in common is written once, here.

A query is one SELECT over the names of docs/history.md. NULL is drawn as a gap, or as "unknown", and never as zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SOURCE = {"type": "grafana-postgresql-datasource", "uid": "optiinfra"}
SCHEMA_VERSION = 41
COLUMNS = 24  # of Grafana's grid
# As in the built-in dashboard: red is the classic figure, blue the honest one.
CLASSIC, HONEST = "#c4314b", "#1b6fc0"
UNKNOWN = [
    {"type": "special", "options": {"match": "null", "result": {"text": "unknown", "color": "text", "index": 0}}}
]
# Rollups by minutes are kept for 30 days, and by hours for 400; half a day of minutes is as many points as one sees.
MOST_MINUTES = "interval '12 hours'"


def rolled_up(
    field: str, of: str, *, metric: str, value: str = "mean", ids: str = "NULL::int[]", minutes: str = MOST_MINUTES
) -> str:
    """This will give the query for a field's history: by minutes in short stretches of time, by hours in long ones."""
    span = "$__timeTo()::timestamptz - $__timeFrom()::timestamptz"

    def part(function: str, condition: str) -> str:
        arguments = f"'{field}', $__timeFrom()::timestamptz, $__timeTo()::timestamptz, '{of}', {ids}"
        return (
            f"SELECT start AS time, {metric} AS metric, {value} AS value FROM {function}({arguments}) WHERE {condition}"
        )

    short = part("optiinfra_minutes", f"{span} <= {minutes}")
    return f"{short}\nUNION ALL\n{part('optiinfra_hours', f'{span} > {minutes}')}\nORDER BY 1"


def _target(query: str, ref: str, shape: str) -> dict[str, Any]:
    return {
        "datasource": SOURCE, "refId": ref, "format": shape, "rawQuery": True, "editorMode": "code", "rawSql": query,
    }  # fmt: skip


def _panel(kind: str, title: str, queries: Sequence[str], *, shape: str, unit: str, **of: Any) -> dict[str, Any]:
    defaults = {"unit": unit, "mappings": UNKNOWN, **of.pop("defaults", {})}
    return {
        "type": kind, "title": title, "description": of.pop("description", ""), "datasource": SOURCE,
        "targets": [_target(query, chr(65 + n), shape) for n, query in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": of.pop("overrides", [])},
        **of,
    }  # fmt: skip


def coloured(name: str, colour: str, *, is_dashed: bool = False) -> dict[str, Any]:
    """This will give the override that draws a series in a colour."""
    properties: list[dict[str, Any]] = [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]
    if is_dashed:
        properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}})
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def series(title: str, *queries: str, unit: str, description: str = "", stacked: bool = False, most: float | None = None,
           overrides: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:  # fmt: skip
    """This will make a chart over time. Queries give time, metric, value; gaps stay gaps."""
    custom = {
        "drawStyle": "line", "lineWidth": 1, "fillOpacity": 60 if stacked else 8, "spanNulls": False, "showPoints": "auto",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }  # fmt: skip
    bounds = {"min": 0} | ({} if most is None else {"max": most})
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "mean", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }  # fmt: skip
    return _panel(
        "timeseries", title, queries, shape="time_series", unit=unit, description=description,
        defaults={"custom": custom, **bounds}, overrides=list(overrides), options=options,
    )  # fmt: skip


def number(title: str, query: str, *, unit: str, description: str = "", colour: str = "text") -> dict[str, Any]:
    """This will make one number out of a query that gives one row with `value`."""
    options = {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""}, "colorMode": "value",
        "graphMode": "none", "textMode": "value", "justifyMode": "auto", "orientation": "auto",
    }  # fmt: skip
    defaults = {"color": {"mode": "fixed", "fixedColor": colour}, "noValue": "unknown"}
    return _panel(
        "stat", title, [query], shape="table", unit=unit, description=description, defaults=defaults, options=options
    )


def table(title: str, query: str, *, units: Mapping[str, str] | None = None, description: str = "") -> dict[str, Any]:
    """This will make a table; `units` are of columns."""
    overrides = [
        {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "unit", "value": unit}]}
        for column, unit in (units or {}).items()
    ]
    return _panel(
        "table", title, [query], shape="table", unit="none", description=description, overrides=overrides,
        defaults={"noValue": "unknown", "custom": {"align": "auto", "filterable": True}},
        options={"showHeader": True, "cellHeight": "sm"},
    )  # fmt: skip


def bars(title: str, query: str, *, unit: str, description: str = "") -> dict[str, Any]:
    """This will make a bar for each row: `metric` and `value`."""
    options = {
        "displayMode": "basic", "orientation": "horizontal", "showUnfilled": True, "valueMode": "color",
        "reduceOptions": {"values": True, "calcs": [], "fields": ""}, "minVizHeight": 16, "minVizWidth": 8,
    }  # fmt: skip
    return _panel(
        "bargauge",
        title,
        [query],
        shape="table",
        unit=unit,
        description=description,
        defaults={"min": 0},
        options=options,
    )


def chosen(name: str, label: str, query: str, *, several: bool = False) -> dict[str, Any]:
    """This will make a variable that people choose from what a query gives."""
    return {
        "type": "query", "name": name, "label": label, "datasource": SOURCE, "query": query, "definition": query,
        "refresh": 2, "sort": 7, "multi": several, "includeAll": several, "hide": 0, "options": [], "current": {},
    }  # fmt: skip


def dashboard(uid: str, title: str, description: str, rows: Sequence[Sequence[tuple[int, int, Mapping[str, Any]]]], *,
              variables: Sequence[Mapping[str, Any]] = (), since: str = "now-6h") -> dict[str, Any]:  # fmt: skip
    """This will lay panels out: rows of (width, height, panel). Raises ValueError where a row is too wide."""
    panels, y = [], 0
    for row in rows:
        x = 0
        for width, height, panel in row:
            place = {"x": x, "y": y, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **panel})
            x += width
        if x > COLUMNS:
            raise ValueError(f"a row of {title} is {x} wide")
        y += max(height for _, height, _ in row)
    links = {
        "title": "OptiInfra", "type": "dashboards", "tags": ["optiinfra"], "asDropdown": True, "keepTime": True,
        "includeVars": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
    }  # fmt: skip
    return {
        "uid": uid, "title": title, "description": description, "tags": ["optiinfra"], "schemaVersion": SCHEMA_VERSION,
        "version": 1, "editable": True, "graphTooltip": 1, "timezone": "utc", "refresh": "30s",
        "time": {"from": since, "to": "now"}, "timepicker": {}, "links": [links], "annotations": {"list": []},
        "templating": {"list": list(variables)}, "panels": panels,
    }  # fmt: skip
