"""NVML's units and ours, as data: each value is converted here, once."""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.host.nvml_facts import Reading
from node_agent.host.nvml_fields import GpmMetric, GpuField

MILLI = 1000  # NVML speaks mW and mJ
NANO = 1_000_000_000  # and ns of throttling
PERCENT = 100
MEBIBYTE = 1024 * 1024  # GPM's traffic rates are in MiB/s (nvml.h, NVML_GPM_METRIC_PCIE_TX_PER_SEC)

GPM_SCALE: Mapping[GpmMetric, float] = {
    metric: MEBIBYTE if metric.name.endswith("_BYTES_PER_SECOND") else 1 / PERCENT for metric in GpmMetric
}

# The scope that adds up all links: nvml.h says so of NVML_FI_DEV_NVLINK_THROUGHPUT_*; of the counters of NVLink 5
# DCGM does (DcgmCMUtils.cpp, NvmlFieldRequiresNvLinkAggregate). Older counters have a field of their own for the sum.
_ALL_LINKS = 0xFFFFFFFF
_WITH_SCOPE = range(GpuField.NVLINK5_TRANSMIT_BYTES.value, GpuField.NVLINK_SYMBOL_BIT_ERROR_RATIO.value + 1)
SCOPES: Mapping[GpuField, int] = {
    field: _ALL_LINKS
    for field in GpuField
    if field.value in _WITH_SCOPE or field in (GpuField.NVLINK_TRANSMIT_BYTES, GpuField.NVLINK_RECEIVE_BYTES)
}

_BIT_ERROR_RATIOS = (GpuField.NVLINK_EFFECTIVE_BIT_ERROR_RATIO, GpuField.NVLINK_SYMBOL_BIT_ERROR_RATIO)


def in_our_unit(field: GpuField, value: float) -> Reading:
    """This will convert a field value."""
    if field in _BIT_ERROR_RATIOS:
        return bit_error_ratio(int(value))
    if field.name.endswith("_SECONDS"):
        return value / NANO
    if field.name.endswith("_WATTS"):
        return value / MILLI
    if field in (GpuField.NVLINK_TRANSMIT_BYTES, GpuField.NVLINK_RECEIVE_BYTES):
        return value * 1024  # they count KiB
    return value


def bit_error_ratio(packed: int) -> float:
    """This will unpack nvml.h's NVML_NVLINK_ERROR_COUNTER_BER: a mantissa, and below it a negative exponent of ten.

    The largest of both stand for none at all (DCGM, DcgmUtilities.h, IsEffectiveBerThresholdExceeded).
    """
    mantissa, exponent = packed >> 8 & 0xF, packed & 0xFF
    return 0.0 if (mantissa, exponent) == (0xF, 0xFF) else float(mantissa * 10.0**-exponent)
