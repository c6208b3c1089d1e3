"""OpenSLO documents: what can be honoured is, and what cannot be is refused where it stands."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from control_plane.model.slo import Indicator
from control_plane.slo.openslo import translate

V1: dict[str, Any] = {
    "apiVersion": "openslo/v1",
    "kind": "SLO",
    "metadata": {"name": "chat-ttft", "displayName": "Chat", "labels": {"team": "chat"}},
    "spec": {
        "description": "first tokens come soon",
        "service": "llama",
        "indicator": {
            "metadata": {"name": "ttft"},
            "spec": {"thresholdMetric": {"metricSource": {"type": "OptiInfra", "spec": {"indicator": "ttft"}}}},
        },
        "timeWindow": [{"duration": "4w", "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"op": "lte", "value": 0.5, "targetPercent": 95}],
    },
}
V2: dict[str, Any] = {
    "apiVersion": "openslo.com/v2alpha",
    "kind": "SLO",
    "metadata": {"name": "errors"},
    "spec": {
        "service": "llama",
        "sliRef": "errors",
        "timeWindow": [{"duration": "28d", "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"target": 0.99}, {"target": 0.999}],
    },
}
SLI: dict[str, Any] = {
    "apiVersion": "openslo.com/v2alpha",
    "kind": "SLI",
    "metadata": {"name": "errors"},
    "spec": {
        "ratioMetric": {
            "counter": True,
            "good": {"dataSourceRef": "optiinfra", "spec": {"indicator": "error_rate", "engine": "vllm"}},
            "total": {"dataSourceRef": "optiinfra", "spec": {"indicator": "error_rate", "engine": "vllm"}},
        }
    },
}


def changed(path: str, value: Any, of: dict[str, Any] = V1) -> dict[str, Any]:
    document = copy.deepcopy(of)
    *parts, last = path.split("/")
    place: Any = document
    for part in parts:
        place = place[int(part) if part.isdecimal() else part]
    place[last] = value
    return document


def test_a_threshold_of_version_1_becomes_a_latency_objective() -> None:
    (found,) = translate([V1]).definitions
    assert (found.name, found.indicator, found.threshold_seconds) == ("chat-ttft", Indicator.TTFT, 0.5)
    assert (found.target_ratio, found.window_days) == (0.95, 28)
    assert (found.scope.model, found.labels) == ("llama", {"team": "chat"})


def test_a_ratio_of_version_2_finds_its_indicator_by_name_and_each_objective_is_one() -> None:
    found = translate([SLI, V2]).definitions
    assert [(d.name, d.target_ratio) for d in found] == [("errors-1", 0.99), ("errors-2", 0.999)]
    assert {d.indicator for d in found} == {Indicator.ERROR_RATE}
    assert {d.scope.engine for d in found} == {"vllm"}
    assert {d.scope.model for d in found} == {None}, "named servers take the place of the service's"


@pytest.mark.parametrize(
    ("path", "value", "pointer", "says"),
    [
        ("apiVersion", "openslo/v2", "/apiVersion", "openslo/v1"),
        ("kind", "AlertPolicy", "/kind", "PUT /alerts/rules"),
        ("spec/budgetingMethod", "Timeslices", "/spec/budgetingMethod", "Occurrences"),
        ("spec/timeWindow", [{"duration": "1M", "isRolling": True}], "/spec/timeWindow/0/duration", "days or weeks"),
        ("spec/timeWindow", [{"duration": "4w", "calendar": {}}], "/spec/timeWindow/0", "rolling"),
        ("spec/alertPolicies", [{"alertPolicyRef": "x"}], "/spec/alertPolicies", "/alerts/rules"),
        ("spec/objectives/0/compositeWeight", 2, "/spec/objectives/0/compositeWeight", "one SLO for each"),
        ("spec/objectives/0/op", "gte", "/spec/objectives/0/op", "lte"),
        ("spec/objectives/0/target", 0.9, "/spec/objectives/0", "either target or targetPercent"),
        ("spec/objectives", [], "/spec/objectives", "at least one"),
        ("spec/colour", "red", "/spec/colour", "no such field"),
        ("metadata/colour", "red", "/metadata/colour", "no such field"),
        ("spec/indicator/spec/thresholdMetric/metricSource/type", "Prometheus",
         "/spec/indicator/spec/thresholdMetric/metricSource", "queries of other systems are not run"),
        ("spec/indicator/spec/thresholdMetric/metricSource/spec/indicator", "cpu",
         "/spec/indicator/spec/thresholdMetric/metricSource/spec/indicator", "ttft"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_at_its_place(path: str, value: Any, pointer: str, says: str) -> None:
    out = translate([changed(path, value)])
    assert out.definitions == []
    assert [place for place, _ in out.refusals] == [pointer]
    assert says in out.refusals[0][1]


def test_all_that_is_wrong_is_said_at_once() -> None:
    document = changed("spec/budgetingMethod", "Timeslices", changed("spec/alertPolicies", [1], changed("spec/x", 1)))
    assert len(translate([document]).refusals) == 3


def test_documents_without_an_objective_and_things_that_are_none_are_refused() -> None:
    assert translate([SLI]).refusals == [("", "there is no document of kind SLO")]
    assert translate([V1, 7]).refusals == [("/1", "not an OpenSLO document: it has no apiVersion")]
    assert translate([V2]).refusals[0][0] == "/spec/sliRef"
