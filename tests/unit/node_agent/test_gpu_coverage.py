"""docs/gpu.md says of every counter of dcgm-exporter and component of gpud where it is here, or why it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from node_agent.prometheus.names import FAMILIES
from optiinfra.catalogue import TABLES

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
COUNTERS = ROOT / "tests" / "data" / "dcgm" / "default-counters.csv"
# components/accelerator/nvidia of gpud 0.13.0-alpha.4
COMPONENTS = {
    "clock-speed", "ecc", "fabric-manager", "gpm", "gpu-counts", "hw-slowdown", "infiniband", "memory", "nccl",
    "nvlink", "peermem", "persistence-mode", "power", "processes", "remapped-rows", "sxid", "temperature",
    "utilization", "xid",
}  # fmt: skip
FIELD = re.compile(r"`([a-z_]+)\.([a-z0-9_]+)`")


def rows(title: str) -> dict[str, list[str]]:
    """The rows of the table under a heading: first cell to the others."""
    _, _, section = DOCUMENT.partition(f"\n## {title}\n")
    section, _, _ = section.partition("\n## ")
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {first: others for first, *others in cells[2:]}


def counters() -> set[str]:
    """Every counter that dcgm-exporter can publish, by default or not."""
    return set(re.findall(r"^(?:# )?(DCGM_\w+) *,", COUNTERS.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_counter_of_dcgm_exporter_is_here_or_has_a_reason() -> None:
    assert len(counters()) > 60
    assert rows("From DCGM").keys() == counters()


def test_every_component_of_gpud_is_here_or_has_a_reason() -> None:
    assert rows("From gpud").keys() == COMPONENTS


@pytest.mark.parametrize("title", ["From DCGM", "From gpud"])
def test_what_is_named_is_in_the_catalogue_and_the_rest_is_explained(title: str) -> None:
    for name, (said, *_) in rows(title).items():
        found = FIELD.findall(said)
        for table, field in found:
            assert field in {spec.name for spec in TABLES[table].fields}, f"{name}: {table}.{field}"
        explained = said.startswith(("not ", "attribute ", "table ", "event ", "GPUs that"))
        assert found or explained, f"{name}: neither a field nor a reason"


def test_those_marked_are_on_the_page_for_prometheus_under_their_own_names() -> None:
    tables = [table for table in FAMILIES if table != "gpu_instance"]
    published = {m.name: f"{table}.{field}" for table in tables for field, m in FAMILIES[table].metrics.items()}
    labels = {label for family in FAMILIES.values() for label in family.labels}
    for name, (said, *marks) in rows("From DCGM").items():
        if "●" in marks:
            assert name in labels or f"`{published[name]}`" in said, name
        else:
            assert name not in published
