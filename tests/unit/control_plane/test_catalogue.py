"""The tables that ship with the program say where they are from, and name the GPUs that drivers name."""

from __future__ import annotations

import pytest

from control_plane.catalogue.tables import gpu_spec, gpu_specs, list_prices


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("NVIDIA H200", "H200-SXM"), ("NVIDIA H100 80GB HBM3", "H100-SXM"), ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100-80-SXM"), ("NVIDIA A100-SXM4-40GB", "A100-40-SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80-PCIe"), ("NVIDIA L4", "L4"), ("NVIDIA L40S", "L40S"),
        ("NVIDIA B200", "B200-SXM"), ("NVIDIA GB200", "GB200"), ("AMD Instinct MI300X", "MI300X"),
        ("NVIDIA H100 NVL", None), ("NVIDIA L40", None), ("Tesla T4", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_a_gpu_is_found_by_the_name_that_its_driver_gives(name: str | None, gpu: str | None) -> None:
    found = gpu_spec(name)
    assert (found.gpu if found else None) == gpu


def test_every_row_is_possible_and_has_a_source() -> None:
    for spec in gpu_specs():
        assert spec.source
        assert 1e11 < spec.memory_bandwidth_bytes_per_second < 1e14
        assert 1e13 < spec.bf16_flops < 1e16
        assert spec.fp8_flops is None or spec.fp8_flops == pytest.approx(2 * spec.bf16_flops, rel=0.05)
    for price in list_prices():
        assert price.source
        assert 0.1 < price.usd_per_gpu_hour < 50
    assert len({(p.gpu, p.provider) for p in list_prices()}) == len(list_prices())
