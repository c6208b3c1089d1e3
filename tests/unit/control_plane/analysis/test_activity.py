"""Activity, held against an H200 under known loads (tests/data/nvml)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analysis.activity import HONEST_SIGNAL, Activity, GpuParts, classify, honest_signal, time_shares
from optiinfra.catalogue import TABLES

RECORDING = Path(__file__).parents[3] / "data" / "nvml" / "h200-phases.jsonl"
PHASES = {row["phase"]: row for row in map(json.loads, RECORDING.read_text().splitlines())}
MEBIBYTE = 1024 * 1024


def parts_of(row: dict[str, float]) -> GpuParts:
    """The recording's percents and MiB/s, as our fields."""
    links = ("pcie_tx_per_sec", "pcie_rx_per_sec", "nvlink_total_rx_per_sec", "nvlink_total_tx_per_sec")
    return GpuParts(
        gpu_utilization_ratio=row["util_gpu"] / 100,
        sm_active_ratio=row["sm_util"] / 100,
        tensor_active_ratio=row["any_tensor_util"] / 100,
        dram_active_ratio=row["dram_bw_util"] / 100,
        fp32_active_ratio=row["fp32_util"] / 100,
        fp64_active_ratio=row["fp64_util"] / 100,
        transfer_bytes_per_second=sum(row.get(name) or 0.0 for name in links) * MEBIBYTE,
    )


@pytest.mark.parametrize(
    ("phase", "activity"),
    [
        ("idle", Activity.IDLE),
        ("bf16_matmul", Activity.COMPUTE_BOUND),
        ("mem_copy", Activity.MEMORY_BOUND),
        ("small_kernels_host_bound", Activity.IDLE),
        ("pcie_h2d", Activity.COPYING),
        ("decode_like_gemv", Activity.MEMORY_BOUND),
        ("half_duty", Activity.UNDERUSED),
        ("idle_after", Activity.IDLE),
    ],
)
def test_a_recorded_load_is_called_what_it_was(phase: str, activity: Activity) -> None:
    assert classify(parts_of(PHASES[phase])) is activity


def test_every_recorded_load_is_judged_here() -> None:
    assert set(PHASES) == {
        "idle", "bf16_matmul", "mem_copy", "small_kernels_host_bound", "pcie_h2d", "decode_like_gemv", "half_duty",
        "idle_after",
    }  # fmt: skip


def parts(**known: float) -> GpuParts:
    fields: dict[str, float | None] = dict.fromkeys(GpuParts.__slots__)
    return GpuParts(**(fields | known))


def test_full_by_the_classic_figure_while_nothing_is_computed_or_moved_is_stalled() -> None:
    """A hung collective on the second H200: 100 % for minutes, every part at rest."""
    assert (
        classify(
            parts(gpu_utilization_ratio=1.0, sm_active_ratio=0.01, dram_active_ratio=0.0, transfer_bytes_per_second=0.0)
        )
        is Activity.STALLED
    )


def test_without_the_parts_the_classic_figure_is_only_asked_for_idle_or_not() -> None:
    assert classify(parts()) is Activity.UNKNOWN
    assert classify(parts(gpu_utilization_ratio=0.0)) is Activity.IDLE
    assert classify(parts(gpu_utilization_ratio=1.0)) is Activity.BUSY_UNSPECIFIED
    assert classify(parts(dram_active_ratio=0.9)) is Activity.UNKNOWN


_share = st.none() | st.floats(0, 1)


@given(st.builds(GpuParts, **dict.fromkeys(GpuParts.__slots__, _share)))
def test_a_part_that_is_unknown_is_never_taken_for_a_busy_one(some: GpuParts) -> None:
    judged = classify(some)
    if judged is Activity.COMPUTE_BOUND:
        assert max(s or 0.0 for s in (some.tensor_active_ratio, some.fp32_active_ratio, some.fp64_active_ratio)) >= 0.5
    if judged is Activity.MEMORY_BOUND:
        assert some.dram_active_ratio is not None
    if some.sm_active_ratio is None:
        assert judged in (Activity.UNKNOWN, Activity.IDLE, Activity.BUSY_UNSPECIFIED)
    if some.sm_active_ratio is None and some.gpu_utilization_ratio is None:
        assert judged is Activity.UNKNOWN


@given(st.lists(st.sampled_from(list(Activity))))
def test_the_shares_of_time_add_up_to_one(activities: list[Activity]) -> None:
    shares = time_shares(activities)
    assert sum(shares.values()) == pytest.approx(1.0 if activities else 0.0)
    assert set(shares) == set(activities)


def test_every_activity_names_the_field_that_shows_it_and_the_catalogue_has_it() -> None:
    assert set(HONEST_SIGNAL) == set(Activity)
    names = {spec.name for spec in TABLES["gpu"].fields}
    assert {name for name in HONEST_SIGNAL.values() if name is not None} <= names


def test_a_limit_that_was_not_looked_at_is_never_taken_for_far_away() -> None:
    pipes = {"tensor_active_ratio": 0.1, "fp32_active_ratio": 0.0, "fp64_active_ratio": 0.0}
    assert classify(parts(sm_active_ratio=0.9, **pipes)) is Activity.BUSY_UNSPECIFIED
    assert classify(parts(sm_active_ratio=0.9, dram_active_ratio=0.1)) is Activity.BUSY_UNSPECIFIED
    assert classify(parts(sm_active_ratio=0.9, dram_active_ratio=0.1, **pipes)) is Activity.UNDERUSED


def test_without_transfers_known_a_copy_and_a_stall_are_not_told_apart() -> None:
    assert classify(parts(sm_active_ratio=0.0, gpu_utilization_ratio=1.0)) is Activity.BUSY_UNSPECIFIED


def test_the_signal_of_a_copy_is_the_way_the_bytes_went() -> None:
    means = {"pcie_transmit_bytes_per_second": 5e10, "pcie_receive_bytes_per_second": 1e9}
    assert honest_signal(Activity.COPYING, means) == "pcie_transmit_bytes_per_second"
