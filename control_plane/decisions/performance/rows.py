"""Many cases at once: tables of configurations with the columns of public measurements, predicted together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from control_plane.decisions.performance.constants import Constants
from control_plane.decisions.performance.formats import Formats, formats_of
from control_plane.decisions.performance.memory import MemoryUse
from control_plane.decisions.performance.releases import age_years
from control_plane.decisions.performance.serving import Served, serve
from control_plane.decisions.performance.setup import CHUNK_TOKENS, Load, Setup
from control_plane.model.architecture import Architecture
from control_plane.model.machine import Machine

FindModel = Callable[[str], Architecture | None]
FindMachine = Callable[[str, str], Machine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a table, understood."""

    model: Architecture
    machine: Machine
    engine: str
    version: str
    formats: Formats
    input_tokens: float
    output_tokens: float
    concurrency: float
    tensor_parallel: float
    pipeline_parallel: float
    data_parallel: float
    expert_parallel: float

    @property
    def sweep(self) -> str:
        """This will name what is the same in all rows that were measured together."""
        feed_forward = self.formats.feed_forward.value
        return "|".join((self.model.name, self.engine, self.version, self.machine.name, feed_forward))


@dataclass(slots=True)
class Block:
    """Cases that differ in numbers only, computed at once."""

    cases: list[Case] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # in the table

    def column(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """This will give one number of each case."""
        return np.array([getattr(case, name) for case in self.cases], dtype=np.float64)

    def load(self) -> Load:
        """This will give the loads of all cases."""
        return Load(
            input_tokens=self.column("input_tokens"),
            output_tokens=self.column("output_tokens"),
            concurrency=self.column("concurrency"),
        )

    def setup(self) -> Setup:
        """This will give the configurations of all cases."""
        first = self.cases[0]
        return Setup(
            engine=first.engine,
            age_years=age_years(first.engine, first.version),
            attention_format=first.formats.attention,
            feed_forward_format=first.formats.feed_forward,
            kv_format=first.formats.kv,
            tensor_parallel=self.column("tensor_parallel"),
            pipeline_parallel=self.column("pipeline_parallel"),
            data_parallel=self.column("data_parallel"),
            expert_parallel=self.column("expert_parallel"),
            chunk_tokens=CHUNK_TOKENS,
        )

    def serve(self, constants: Constants) -> Served:
        """This will predict all cases."""
        first = self.cases[0]
        return serve(first.model, first.machine, self.setup(), self.load(), constants)


def blocks(cases: Sequence[Case]) -> list[Block]:
    """This will gather cases that can be computed together."""
    found: dict[tuple[object, ...], Block] = {}
    for place, case in enumerate(cases):
        key = (case.model.name, case.machine.name, case.engine, case.version, case.formats)
        block = found.setdefault(key, Block())
        block.cases.append(case)
        block.places.append(place)
    return list(found.values())


def log_tpots(
    groups: Sequence[Block], constants: Constants, count: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """This will give the log of the seconds per output token of each case, in the table's order."""
    logs = np.empty(count)
    for block in groups:
        logs[block.places] = np.log(block.serve(constants).tpot_seconds)
    return logs


def case_of(row: Mapping[str, str], *, find_model: FindModel, find_machine: FindMachine) -> Case:
    """This will understand one row. Raises ValueError in words when it says too little."""
    name, system = row.get("model", "").strip(), row.get("system", "").strip()
    model = find_model(name)
    if model is None:
        raise ValueError(f"model {name[:80]!r} is not in the catalogue, and its name says no size such as 8B")
    if not system:
        raise ValueError("system is empty; name a GPU, such as h100_sxm")
    engine = row.get("backend", "").strip().lower() or "vllm"
    machine = find_machine(system, engine)
    formats = formats_of(
        model, machine, dense=row.get("gemm_quant_mode") or row.get("precision") or "",
        experts=row.get("moe_quant_mode") or row.get("precision") or "", kv=row.get("kv_cache_dtype") or "",
    )  # fmt: skip
    tensor, data = _number(row, "tp_size", 1.0), _number(row, "attention_dp_size", 1.0)
    return Case(
        model=model,
        machine=machine,
        engine=engine,
        version=row.get("backend_version", "").strip(),
        formats=formats,
        input_tokens=_number(row, "isl", None),
        output_tokens=_number(row, "osl", None),
        concurrency=_number(row, "concurrency", 1.0),
        tensor_parallel=tensor,
        pipeline_parallel=_number(row, "pp_size", 1.0),
        data_parallel=data,
        expert_parallel=min(_number(row, "moe_ep_size", 1.0), tensor * data),
    )


def _number(row: Mapping[str, str], name: str, fallback: float | None) -> float:
    text = (row.get(name) or "").strip()
    if not text and fallback is not None:
        return fallback
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text[:40]!r}; a number is expected") from None
    if value == 0 and fallback is not None:
        return fallback  # some tables write 0 for "does not apply"
    if not math.isfinite(value) or not 1 <= value <= 1e8:
        raise ValueError(f"{name} is {text[:40]!r}; a number from 1 on is expected")
    return value


def gathered(groups: Sequence[Block], constants: Constants, count: int) -> tuple[Served, ...]:
    """This will give each case's prediction as one number each, in the table's order."""
    found: list[Served | None] = [None] * count
    for block in groups:
        served = block.serve(constants)
        for place, index in enumerate(block.places):
            found[index] = _one(served, place, len(block.places))
    return tuple(served for served in found if served is not None)


def _one(served: Served, place: int, count: int) -> Served:
    def pick(value: object) -> float:
        return float(np.broadcast_to(np.asarray(value, dtype=np.float64), (count,))[place])

    memory = MemoryUse(**{name: pick(getattr(served.memory, name)) for name in MemoryUse.__slots__})
    numbers = {name: pick(getattr(served, name)) for name in Served.__slots__ if name != "memory"}
    return Served(**numbers, memory=memory)
