"""The tables that ship with the program, read once."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from datetime import date
from functools import cache
from importlib.resources import files

from control_plane.model.gpu_spec import GpuSpec
from control_plane.model.price import ListPrice

GIGA, TERA = 1e9, 1e12
GIBI = 2.0**30


@cache
def rows(name: str) -> list[dict[str, str]]:
    """This will read one of the tables beside this file."""
    text = (files("control_plane.catalogue") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def gpu_specs() -> Sequence[GpuSpec]:
    """This will give the GPUs whose peak rates are known."""
    return tuple(
        GpuSpec(
            gpu=row["gpu"],
            system=row["system"],
            architecture_code=int(row["architecture_code"]),
            memory_bytes=float(row["memory_gibibytes"]) * GIBI,
            name_pattern=row["name_pattern"],
            memory_bandwidth_bytes_per_second=float(row["memory_bandwidth_gigabytes_per_second"]) * GIGA,
            bf16_flops=float(row["bf16_teraflops"]) * TERA,
            fp8_flops=_tera(row["fp8_teraflops"]),
            fp4_flops=_tera(row["fp4_teraflops"]),
            int8_flops=_tera(row["int8_teraops"]),
            gpus_per_host=int(row["gpus_per_host"]),
            link_bytes_per_second=float(row["link_gigabytes_per_second"]) * GIGA,
            power_watts=float(row["power_watts"]),
            source=row["source"],
        )
        for row in rows("gpu_specs.csv")
    )


def _tera(text: str) -> float | None:
    return float(text) * TERA if text else None


@cache
def gpu_of_system(system: str) -> GpuSpec | None:
    """This will give the GPU that tables of measurements call so, such as "h100_sxm"; None when it is not listed."""
    word = re.sub(r"[^a-z0-9]", "", system.lower())
    for spec in gpu_specs():
        if word in (re.sub(r"[^a-z0-9]", "", spec.system), re.sub(r"[^a-z0-9]", "", spec.gpu.lower())):
            return spec
    return gpu_spec(system.upper().replace("_", " "))


@cache
def gpu_spec(name: str | None) -> GpuSpec | None:
    """This will give what is known of the GPU that the driver calls so; None when it is not listed."""
    if not name:
        return None
    return next((spec for spec in gpu_specs() if re.search(spec.name_pattern, name)), None)


@cache
def list_prices() -> Sequence[ListPrice]:
    """This will give the list prices that ship with this release."""
    return tuple(
        ListPrice(
            gpu=row["gpu"],
            name_pattern=row["name_pattern"],
            provider=row["provider"],
            usd_per_gpu_hour=float(row["usd_per_gpu_hour"]),
            as_of=date.fromisoformat(row["as_of"]),
            source=row["source"],
        )
        for row in rows("gpu_prices.csv")
    )
