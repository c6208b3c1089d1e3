"""OpenSLO documents (https://github.com/OpenSLO/OpenSLO, v1 and v2alpha) as our definitions.

What cannot be honoured is refused where it stands, with what to do instead: nothing of a document is quietly left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from control_plane.model.slo import HISTOGRAMS, Indicator, SloDefinition, SloScope
from control_plane.slo.definition import Refusal

T = TypeVar("T")
V1, V2 = "openslo/v1", "openslo.com/v2alpha"
SOURCE = "optiinfra"
DEFAULT_DAYS = 30
SCOPES = ("model", "engine", "server", "node", "namespace")
# Of what a metric source says for us.
_SOURCE_FIELDS = ("indicator", "route", *SCOPES, "limits", "floor_tokens_per_second")
_DURATION = re.compile(r"(\d{1,5})([a-zA-Z])")
_DAYS = {"d": 1, "w": 7}
_SPEC = {
    V1: ("description", "service", "indicator", "indicatorRef", "timeWindow", "budgetingMethod", "objectives"),
    V2: ("description", "service", "sli", "sliRef", "timeWindow", "budgetingMethod", "objectives"),
}
_METADATA = ("name", "displayName", "labels", "annotations")
_OBJECTIVE = ("displayName", "op", "value", "target", "targetPercent")


@dataclass(slots=True, kw_only=True)
class Translated:
    """What came of documents."""

    definitions: list[SloDefinition] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


class _Refused(Exception):
    """One place of a document cannot be honoured."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal: Refusal = (pointer, detail)


def is_openslo(document: object) -> bool:
    """This will say whether a document means to be OpenSLO's."""
    return isinstance(document, Mapping) and "apiVersion" in document


def translate(documents: Sequence[Any]) -> Translated:
    """This will translate documents that belong together: indicators are found by name among them."""
    out = Translated()
    indicators = {
        str(_mapping(d.get("metadata")).get("name")): d for d in documents if is_openslo(d) and d.get("kind") == "SLI"
    }
    for number, document in enumerate(documents):
        root = f"/{number}" if len(documents) > 1 else ""
        found = _Collector()
        translated = _document(document, indicators, root, found)
        out.definitions += translated if translated and not found.refusals else []
        out.refusals += found.refusals
    if not out.definitions and not out.refusals:
        out.refusals.append(("", "there is no document of kind SLO"))
    return out


class _Collector:
    """Goes on after a refusal, so that all of them are said at once."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []

    def tried(self, work: Callable[..., T], *arguments: Any) -> T | None:
        """This will do a piece of work; None when it was refused."""
        try:
            return work(*arguments)
        except _Refused as refused:
            self.refusals.append(refused.refusal)
            return None


def _document(document: Any, indicators: Mapping[str, Any], root: str, found: _Collector) -> list[SloDefinition] | None:
    version = found.tried(_version, document, root)
    if version is None:
        return None  # refused, or of a kind that is only used by others
    found.tried(_only, document, ("apiVersion", "kind", "metadata", "spec"), root)
    spec = _mapping(document.get("spec"))
    found.tried(_only, _mapping(document.get("metadata")), _METADATA, f"{root}/metadata")
    found.tried(_only, spec, (*_SPEC[version], "alertPolicies"), f"{root}/spec")
    found.tried(_alerts, spec, root)
    found.tried(_budgeting, spec, root)
    days = found.tried(_window, spec.get("timeWindow"), f"{root}/spec/timeWindow")
    metric = found.tried(_metric, spec, version, indicators, root)
    if days is None or metric is None:
        return None
    return found.tried(lambda: list(_objectives(document, spec, metric[0], days, root, metric[1])))


def _version(document: Any, root: str) -> str | None:
    """This will give the version of a document of kind SLO; None for kinds that others use, or nobody."""
    if not is_openslo(document):
        raise _Refused(root, "not an OpenSLO document: it has no apiVersion")
    version, kind = document["apiVersion"], document.get("kind")
    if version not in (V1, V2):
        raise _Refused(f"{root}/apiVersion", f"apiVersion is {V1} or {V2}")
    if kind in ("SLI", "Service", "DataSource"):
        return None
    if kind != "SLO":
        raise _Refused(f"{root}/kind", f"kind {kind!s:.40}: alerts and their receivers are set with PUT /alerts/rules")
    return str(version)


def _alerts(spec: Mapping[str, Any], root: str) -> None:
    if spec.get("alertPolicies"):
        raise _Refused(
            f"{root}/spec/alertPolicies",
            "remove it: every SLO is watched for burn rates and sudden violations; /alerts/rules says who is told",
        )


def _budgeting(spec: Mapping[str, Any], root: str) -> None:
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise _Refused(
            f"{root}/spec/budgetingMethod", "only Occurrences: events are counted, seconds of availability too"
        )


def _objectives(
    document: Any, spec: Mapping[str, Any], metric: Mapping[str, Any], days: int, root: str, pointer: str
) -> Iterator[SloDefinition]:
    objectives = spec.get("objectives")
    if not isinstance(objectives, list) or not objectives:
        raise _Refused(f"{root}/spec/objectives", "at least one objective is needed")
    metadata = _mapping(document.get("metadata"))
    name = str(metadata.get("name", ""))
    for number, given in enumerate(objectives):
        here, objective = f"{root}/spec/objectives/{number}", _mapping(given)
        for part in ("indicator", "indicatorRef", "sli", "sliRef", "compositeWeight"):
            if part in objective:
                raise _Refused(f"{here}/{part}", "composite objectives are not kept count of; write one SLO for each")
        _only(objective, (*_OBJECTIVE, "labels"), here)
        indicator = _indicator(metric, f"{pointer}/indicator")
        route = metric.get("route")
        yield SloDefinition(
            name=name if len(objectives) == 1 else f"{name}-{number + 1}",
            indicator=indicator,
            target_ratio=_target(objective, here),
            threshold_seconds=_threshold(objective, indicator, here),
            window_days=days,
            scope=_scope(metric, spec),
            limits={str(k): _number(v, f"{pointer}/limits/{k}") for k, v in _mapping(metric.get("limits")).items()},
            floor_tokens_per_second=_maybe_number(metric, "floor_tokens_per_second", pointer),
            route=None if route is None else str(route),
            labels={str(k): str(v) for k, v in _mapping(metadata.get("labels")).items()},
            description=str(spec.get("description") or objective.get("displayName") or ""),
        )


def _metric(
    spec: Mapping[str, Any], version: str, indicators: Mapping[str, Any], root: str
) -> tuple[Mapping[str, Any], str]:
    """This will give what the indicator's metric source says for us, and where that stands."""
    inline, by_name = ("indicator", "indicatorRef") if version == V1 else ("sli", "sliRef")
    pointer = f"{root}/spec/{inline}"
    found = spec.get(inline)
    if found is None and by_name in spec:
        pointer = f"{root}/spec/{by_name}"
        found = indicators.get(str(spec[by_name]))
        if found is None:
            raise _Refused(pointer, "no document of kind SLI has that name; send it along")
    said = _mapping(_mapping(found).get("spec"))
    threshold, ratio = said.get("thresholdMetric"), said.get("ratioMetric")
    if (threshold is None) == (ratio is None):
        raise _Refused(f"{pointer}/spec", "either thresholdMetric or ratioMetric is needed")
    if threshold is not None:
        return _source(threshold, version, f"{pointer}/spec/thresholdMetric")
    parts = _mapping(ratio)
    for name in ("raw", "rawType"):
        if name in parts:
            raise _Refused(
                f"{pointer}/spec/ratioMetric/{name}", "a ratio that was made elsewhere has no events to count"
            )
    sides = [name for name in ("good", "bad", "total") if name in parts]
    if not sides:
        raise _Refused(f"{pointer}/spec/ratioMetric", "name good (or bad) and total, each with the same metric source")
    sources = [_source(parts[name], version, f"{pointer}/spec/ratioMetric/{name}") for name in sides]
    if any(source != sources[0][0] for source, _ in sources):
        raise _Refused(f"{pointer}/spec/ratioMetric", "good, bad and total name the same indicator and servers")
    return sources[0]


def _source(metric: Any, version: str, pointer: str) -> tuple[Mapping[str, Any], str]:
    given = _mapping(metric)
    if version == V1:
        given, pointer = _mapping(given.get("metricSource")), f"{pointer}/metricSource"
        kind = given.get("type") or given.get("metricSourceRef")
    else:
        kind = given.get("dataSourceRef") or _mapping(given.get("dataSourceSpec")).get("type")
    if str(kind).lower() != SOURCE:
        raise _Refused(
            pointer,
            f"{kind!s:.40} is not asked from here: queries of other systems are not run. Name the source {SOURCE}, and "
            f"in its spec the indicator: {', '.join(Indicator)}",
        )
    said = _mapping(given.get("spec"))
    _only(said, _SOURCE_FIELDS, f"{pointer}/spec")
    return said, f"{pointer}/spec"


def _indicator(metric: Mapping[str, Any], pointer: str) -> Indicator:
    try:
        return Indicator(str(metric.get("indicator")))
    except ValueError:
        raise _Refused(pointer, f"indicators are {', '.join(Indicator)}") from None


def _scope(metric: Mapping[str, Any], spec: Mapping[str, Any]) -> SloScope:
    """This will give the servers: those that the metric source names, else those of the service's model."""
    named = {name: str(metric[name]) for name in SCOPES if metric.get(name) is not None}
    if not named and spec.get("service"):
        named = {"model": str(spec["service"])}
    return SloScope(**named)


def _target(objective: Mapping[str, Any], pointer: str) -> float:
    if ("target" in objective) == ("targetPercent" in objective):
        raise _Refused(pointer, "either target or targetPercent is needed")
    if "target" in objective:
        return _number(objective["target"], f"{pointer}/target")
    return round(_number(objective["targetPercent"], f"{pointer}/targetPercent") / 100, 12)


def _threshold(objective: Mapping[str, Any], indicator: Indicator, pointer: str) -> float | None:
    if indicator not in HISTOGRAMS:
        for part in ("op", "value"):
            if part in objective:
                raise _Refused(f"{pointer}/{part}", f"{indicator} is a ratio: it has no {part}")
        return None
    if objective.get("op") not in ("lte", "lt"):
        raise _Refused(f"{pointer}/op", "a latency is good up to its limit: op is lte or lt")
    if "value" not in objective:
        raise _Refused(f"{pointer}/value", "the limit in seconds is needed")
    return _number(objective["value"], f"{pointer}/value")


def _window(given: Any, pointer: str) -> int:
    """This will give the days of a rolling window. It is optional in OpenSLO."""
    if given is None:
        return DEFAULT_DAYS
    if not isinstance(given, list) or len(given) != 1:
        raise _Refused(pointer, "exactly one time window")
    window = _mapping(given[0])
    if "calendar" in window or window.get("isRolling") is not True:
        raise _Refused(f"{pointer}/0", "only rolling windows: write isRolling: true, and no calendar")
    _only(window, ("duration", "isRolling"), f"{pointer}/0")
    found = _DURATION.fullmatch(str(window.get("duration")))
    if found is None or found[2] not in _DAYS:
        raise _Refused(f"{pointer}/0/duration", "a window is of whole days or weeks, such as 28d or 4w")
    return int(found[1]) * _DAYS[found[2]]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _only(given: Mapping[str, Any], known: Sequence[str], pointer: str) -> None:
    for name in given:
        if name not in known:
            raise _Refused(f"{pointer}/{str(name)[:64]}", f"there is no such field here; known: {', '.join(known)}")


def _number(value: Any, pointer: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _Refused(pointer, "a number is needed")


def _maybe_number(given: Mapping[str, Any], name: str, pointer: str) -> float | None:
    return None if given.get(name) is None else _number(given[name], f"{pointer}/{name}")
