"""The alert rules for Prometheus name what the control plane really exposes."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.support.rest import Api

RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "alerts.yaml"


async def test_every_rule_is_over_a_metric_that_is_there_and_says_what_to_do(empty_api: Api) -> None:
    page = (await empty_api.client.get("/metrics")).text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        for name in re.findall(r"optiinfra_\w+", rule["expr"]):
            assert name in kinds, f"{rule['alert']}: {name} is not exposed"
            grows = f"increase({name}[" in rule["expr"]
            assert grows == (kinds[name] == "counter"), f"{rule['alert']}: {name} is a {kinds[name]}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} == rule["annotations"].keys()
