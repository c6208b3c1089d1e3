"""GPUs in MIG mode: each instance is a part of a paid GPU, with an owner of its own; what is left over nobody has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from control_plane.analysis.utilization.looks import Integers, Looks, Numbers
from control_plane.model.entity import Entity

# Compute slices of a whole GPU (NVIDIA's MIG user guide, "Supported MIG profiles"): seven, but for these.
SLICES, FEWER_SLICES = 7, {"A30": 4, "RTX PRO 6000": 4}
_PROFILE = re.compile(r"(\d+)g\.")
# What an instance measures by itself: of FIELDS, the columns of gpu_instance.
INSTANCE_FIELDS = (
    "graphics_active_ratio", "sm_active_ratio", "tensor_active_ratio", "fp64_active_ratio", "fp32_active_ratio",
    "fp16_active_ratio", "dram_active_ratio", "pcie_transmit_bytes_per_second", "pcie_receive_bytes_per_second",
    "memory_used_bytes",
)  # fmt: skip
# What the GPU measures as a whole; of its energy each part has its share.
_OF_THE_WHOLE = ("power_draw_watts", "power_draw_mean_watts", "power_limit_watts", "clock_event_reasons_bits")
# A process that has a context on an instance holds more than this; with less nothing can run on it.
EMPTY_BYTES = 2e8


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A GPU, or a part of one that is divided."""

    gpu_id: int
    share: float  # of the GPU, 0..1; of a GPU that is not divided 1
    instance_id: int | None = None
    is_rest: bool = False  # belongs to no instance: nobody can have it

    @property
    def owner_id(self) -> int | None:
        """This will give the id of the thing whose owner has it; None: nobody."""
        return None if self.is_rest else self.gpu_id if self.instance_id is None else self.instance_id


def parts_of(gpus: Sequence[Entity], instances: Sequence[Entity]) -> list[Part]:
    """This will divide GPUs in MIG mode, in the order of the GPUs; the shares of each add up to 1.

    Where one of its instances does not say how large it is, a GPU stays whole.
    """
    of_gpu: dict[tuple[int, str], list[Entity]] = {}
    for each in instances:
        if each.attributes.get("state") != "gone":
            of_gpu.setdefault((each.node_id, str(each.attributes.get("gpu"))), []).append(each)
    out = []
    for gpu in gpus:
        mine = of_gpu.get((gpu.node_id, gpu.key), [])
        slices = [_slices(each.attributes.get("profile")) for each in mine]
        known = [count for count in slices if count is not None]
        if gpu.attributes.get("mig_enabled") is not True or len(known) < len(slices):
            out.append(Part(gpu_id=gpu.entity_id, share=1.0))
            continue
        whole = max(_whole(gpu.attributes.get("name")), sum(known))
        out += [
            Part(gpu_id=gpu.entity_id, share=count / whole, instance_id=each.entity_id)
            for each, count in zip(mine, known, strict=True)
        ]
        if rest := whole - sum(known):
            out.append(Part(gpu_id=gpu.entity_id, share=rest / whole, is_rest=True))
    return out


def _slices(profile: object) -> int | None:
    found = _PROFILE.match(profile) if isinstance(profile, str) else None
    return int(found[1]) or None if found else None


def _whole(name: object) -> int:
    named = name if isinstance(name, str) else ""
    return next((count for model, count in FEWER_SLICES.items() if model in named), SLICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """Looks at parts: what to judge them by, what to take their means of, and which part each is of."""

    judged_by: Looks  # `gpu_ids` are places in the list of parts
    means_of: Looks  # the same looks; amounts are those of so many of the part as make a GPU
    places: Integers  # (n,), which part


def divided_looks(looks: Looks, of_instances: Looks, parts: Sequence[Part], running: Mapping[int, Numbers]) -> Divided:
    """This will give the looks at every part, in the order of part and time.

    `of_instances` has the looks of instances, by their ids, and INSTANCE_FIELDS; `running` by the place of a part the
    requests that its server was working on at each look of its GPU.
    """
    begins = np.searchsorted(looks.gpu_ids, [part.gpu_id for part in parts])
    ends = np.searchsorted(looks.gpu_ids, [part.gpu_id for part in parts], side="right")
    rows = np.concatenate([np.arange(b, e) for b, e in zip(begins, ends, strict=True)] or [np.zeros(0, np.int64)])
    rows = rows.astype(np.int64)
    places = np.repeat(np.arange(len(parts)), ends - begins)
    columns = {name: values[rows] for name, values in looks.columns.items()}
    columns["requests_running_count"] = np.concatenate(
        [running.get(place, np.full(e - b, np.nan)) for place, (b, e) in enumerate(zip(begins, ends, strict=True))]
        or [np.zeros(0)]
    )
    all_of_it = Looks(gpu_ids=places, taken_at_us=looks.taken_at_us[rows], columns=columns)
    if all(part.share == 1.0 and not part.is_rest and part.instance_id is None for part in parts):
        return Divided(judged_by=all_of_it, means_of=all_of_it, places=places)
    judged, means = _divided(all_of_it, of_instances, parts)
    return Divided(
        judged_by=replace(all_of_it, columns=judged), means_of=replace(all_of_it, columns=means), places=places
    )


def _divided(looks: Looks, of_instances: Looks, parts: Sequence[Part]) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
    judged = {name: values.copy() for name, values in looks.columns.items()}
    means = {name: values.copy() for name, values in looks.columns.items()}
    for place, part in enumerate(parts):
        begin, end = np.searchsorted(looks.gpu_ids, [place, place + 1])
        mine = slice(int(begin), int(end))
        if part.instance_id is None and not part.is_rest:
            continue
        own = _instance(part, of_instances, looks.taken_at_us[mine])
        if part.is_rest and part.share == 1.0:  # MIG mode and no instances: its memory says whether somebody is there
            own["memory_used_bytes"] = judged["memory_used_bytes"][mine].copy()
        for name in judged:
            if name in own:
                judged[name][mine] = own[name]
                means[name][mine] = own[name] / part.share if name == "memory_used_bytes" else own[name]
            elif name == "energy_joules_total":
                judged[name][mine] *= part.share
            elif name not in _OF_THE_WHOLE and name != "requests_running_count":
                judged[name][mine] = means[name][mine] = np.nan
            if name in ("power_draw_watts", "power_draw_mean_watts"):
                judged[name][mine] *= part.share
        judged["gpu_utilization_ratio"][mine] = _classic(
            own["memory_used_bytes"], own["sm_active_ratio"], looks.column("requests_running_count")[mine]
        )
    return judged, means


def _instance(part: Part, of_instances: Looks, taken_at_us: Integers) -> dict[str, Numbers]:
    """This will give what an instance measured at these moments; the rest, which nobody can have, holds nothing."""
    out = {name: np.full(len(taken_at_us), np.nan) for name in INSTANCE_FIELDS}
    if part.instance_id is None:
        out["memory_used_bytes"] = np.zeros(len(taken_at_us))
        return out
    begin, end = np.searchsorted(of_instances.gpu_ids, [part.instance_id, part.instance_id + 1])
    times = of_instances.taken_at_us[begin:end]
    if not len(times):
        return out
    at = np.minimum(np.searchsorted(times, taken_at_us), len(times) - 1)
    same = times[at] == taken_at_us  # one tick looks at the GPU and at its instances
    for name in INSTANCE_FIELDS:
        out[name] = np.where(same, of_instances.column(name)[begin:end][at], np.nan)
    return out


def _classic(memory: Numbers, sm: Numbers, running: Numbers) -> Numbers:
    """This will stand in for the classic figure, which there is none of in MIG mode, where GPM is missing too.

    Nothing runs in empty memory; a server that works on requests keeps its instance busy, one without rests.
    """
    busy = np.where(np.isnan(running), np.nan, (running > 0).astype(np.float64))
    return np.where(~np.isnan(sm), np.nan, np.where(memory < EMPTY_BYTES, 0.0, busy))
