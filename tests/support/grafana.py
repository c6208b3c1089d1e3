"""What Grafana's Postgres data source makes of a query before it sends it: macros and variables, by its rules.

An unknown macro, or a variable without a value, is an error here; Grafana would send it on and Postgres refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

_MACRO = re.compile(r"\$__(\w+)\(([^)]*)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _stamp(moment: datetime) -> str:
    return f"'{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}'"[:-4] + "Z'"


def _seconds(interval: str) -> int:
    found = re.fullmatch(r"(\d+)([smhd])", interval.strip().strip("'"))
    if found is None:
        raise ValueError(f"{interval!r} is no interval")
    return int(found[1]) * _SECONDS[found[2]]


def expanded(
    query: str, *, since: datetime, until: datetime, interval: str = "1m", variables: Mapping[str, str] | None = None
) -> str:
    """This will give the SQL that is sent. Raises ValueError."""

    def variable(found: re.Match[str]) -> str:
        name, form = found.groups()
        if name not in (variables or {}):
            raise ValueError(f"nothing is chosen for {name}")
        value = (variables or {})[name]
        if form == "sqlstring":
            return "'" + value.replace("'", "''") + "'"
        raise ValueError(f"{name} is put into SQL as it is; write ${{{name}:sqlstring}}")

    def macro(found: re.Match[str]) -> str:
        name, arguments = found[1], [part.strip() for part in found[2].split(",")] if found[2] else []
        if name == "timeFilter":
            return f"{arguments[0]} BETWEEN {_stamp(since)} AND {_stamp(until)}"
        if name == "timeFrom":
            return _stamp(since)
        if name == "timeTo":
            return _stamp(until)
        if name in ("timeGroup", "timeGroupAlias"):
            seconds = _seconds(arguments[1])
            grouped = f"floor(extract(epoch from {arguments[0]})/{seconds})*{seconds}"
            return f'{grouped} AS "time"' if name == "timeGroupAlias" else grouped
        raise ValueError(f"Grafana has no macro {name}, or it is not used here")

    sql = _VARIABLE.sub(variable, query)
    sql = sql.replace("$__interval", interval)
    sql = _MACRO.sub(macro, sql)
    if "$" in sql:
        raise ValueError(f"something is left to expand: {sql}")
    return sql
