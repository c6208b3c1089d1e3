"""GPUs in MIG mode: every slice is counted once, whoever has it, and what is left over is nobody's."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analysis.utilization.instances import divided_looks, parts_of
from control_plane.analysis.utilization.judging import ACTIVITIES, judge
from control_plane.analysis.utilization.looks import FIELDS, SECOND_US, Looks
from control_plane.model.activity import Activity
from control_plane.model.entity import Entity, EntityKind

NOW = datetime(2026, 3, 4, tzinfo=UTC)


def thing(entity_id: int, kind: EntityKind, key: str, **attributes: object) -> Entity:
    return Entity(
        entity_id=entity_id, node_id=1, node_name="a", kind=kind, key=key, attributes=attributes, first_seen_at=NOW,
        last_seen_at=NOW, state_since=NOW,
    )  # fmt: skip


def gpu(entity_id: int = 1, *, name: str = "NVIDIA H200", mig: bool | None = True) -> Entity:
    return thing(entity_id, EntityKind.GPU, f"GPU-{entity_id}", name=name, mig_enabled=mig)


def instance(entity_id: int, profile: str | None, *, of: int = 1, state: str = "present") -> Entity:
    return thing(entity_id, EntityKind.GPU_INSTANCE, f"MIG-{entity_id}", gpu=f"GPU-{of}", profile=profile, state=state)


def test_instances_have_their_compute_slices_and_the_rest_is_nobody_s() -> None:
    parts = parts_of([gpu(), gpu(2, mig=False)], [instance(11, "3g.71gb"), instance(12, "1g.18gb+me")])
    assert [(p.gpu_id, p.owner_id, round(p.share * 7)) for p in parts] == [
        (1, 11, 3),
        (1, 12, 1),
        (1, None, 3),
        (2, 2, 7),
    ]


def test_a_smaller_gpu_has_fewer_slices() -> None:
    assert [p.share for p in parts_of([gpu(name="NVIDIA A30")], [instance(11, "4g.24gb")])] == [1.0]
    assert [p.share for p in parts_of([gpu(name="NVIDIA A30")], [instance(11, "1g.6gb")])] == [0.25, 0.75]


def test_mig_mode_without_instances_is_a_whole_gpu_that_nobody_has() -> None:
    (part,) = parts_of([gpu()], [instance(11, "7g.141gb", state="gone")])
    assert (part.share, part.owner_id) == (1.0, None)


@pytest.mark.parametrize("profile", [None, "", "odd", "0g.10gb"])
def test_a_gpu_stays_whole_where_an_instance_does_not_say_how_large_it_is(profile: str | None) -> None:
    (part,) = parts_of([gpu()], [instance(11, "1g.18gb"), instance(12, profile)])
    assert (part.share, part.owner_id) == (1.0, 1)


@given(st.lists(st.integers(1, 7), max_size=8))
def test_the_parts_of_a_gpu_add_up_to_it(slices: list[int]) -> None:
    parts = parts_of([gpu()], [instance(10 + n, f"{count}g.9gb") for n, count in enumerate(slices)])
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert all(part.share > 0 for part in parts)


def test_parts_are_judged_by_what_they_measure_and_else_by_what_can_be_told() -> None:
    parts = parts_of([gpu()], [instance(10 + n, "1g.18gb") for n in range(4)])
    at = np.arange(3, dtype=np.int64) * 5 * SECOND_US
    columns = {name: np.full(3, np.nan) for name in FIELDS}
    columns |= {"power_draw_watts": np.full(3, 700.0), "energy_joules_total": np.array([0.0, 3500.0, 7000.0])}
    looks = Looks(gpu_ids=np.full(3, 1), taken_at_us=at, columns=columns)
    memory = np.repeat([15e9, 15e9, 1e7, 15e9], 3)  # the first two have a server; the last holds memory, for whom?
    nothing = np.full(12, np.nan)
    tensor = np.concatenate([np.full(3, 0.9), nothing[3:]])
    of_instances = Looks(
        gpu_ids=np.repeat([10, 11, 12, 13], 3),
        taken_at_us=np.tile(at, 4),
        columns={"memory_used_bytes": memory, "sm_active_ratio": tensor, "tensor_active_ratio": tensor,
                 "graphics_active_ratio": tensor, "fp32_active_ratio": tensor * 0, "dram_active_ratio": tensor * 0.1},
    )  # fmt: skip
    found = divided_looks(looks, of_instances, parts, {0: np.full(3, 2.0), 1: np.array([1.0, 0.0, np.nan])})
    judged = [ACTIVITIES[code] for code in judge(found.judged_by).activity]
    assert judged[:3] == [Activity.COMPUTE_BOUND] * 3
    assert judged[3:6] == [Activity.BUSY_UNSPECIFIED, Activity.IDLE, Activity.UNKNOWN]
    assert judged[6:9] == [Activity.IDLE] * 3  # empty
    assert judged[9:12] == [Activity.UNKNOWN] * 3
    assert judged[12:] == [Activity.IDLE] * 3  # the rest of the GPU
    # Energy is divided; what is measured of the whole GPU is not.
    assert found.judged_by.column("energy_joules_total")[2] == pytest.approx(1000.0)
    assert found.means_of.column("power_draw_watts")[0] == 700.0
    assert found.means_of.column("memory_used_bytes")[0] == pytest.approx(7 * 15e9)
    assert np.isnan(found.means_of.column("gpu_utilization_ratio")).all()  # stood in for, and not measured
