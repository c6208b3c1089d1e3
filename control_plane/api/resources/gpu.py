"""GPUs: what each was doing, and what it held, drew and suffered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.analysis.waste.sums import JOULES_PER_KWH
from control_plane.api import gpus, scope, scoped_series
from control_plane.api.answers import gpu_attribution, gpu_identity, page, rated, sampled, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import GpuHistory, GpuWindow, NewestOfGpus, OfGpus, window
from control_plane.api.schemas import GPU, GPU_ATTRIBUTION, TEXT, reading_schema, scalar_names
from control_plane.api.series import HISTORY, POINT_SCHEMA, bound, history, kept
from control_plane.model.entity import Entity
from control_plane.model.errors import InvalidRequest
from control_plane.model.sample import Reading
from control_plane.storage import histories, history_plans, prices, stored_samples
from optiinfra.catalogue import TABLES

router = APIRouter(tags=["gpu"])

# nvmlClocksEventReason bits (nvml.h); those in THROTTLING mean that the GPU runs slower than it could.
CLOCK_EVENT_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "software_power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "software_thermal_slowdown",
    0x40: "hardware_thermal_slowdown",
    0x80: "hardware_power_brake_slowdown",
    0x100: "display_clock_setting",
}
THROTTLE_SECONDS = [f.name for f in TABLES["gpu_health"].fields if f.name.startswith("throttled_")]
TEMPERATURE = ["temperature_gpu_celsius", "temperature_memory_celsius", "clock_event_reasons_bits"]
MEMORY = ["memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes"]
MEMORY_HEALTH = [
    "bar1_total_bytes", "bar1_used_bytes",
    "ecc_corrected_volatile_total", "ecc_uncorrected_volatile_total",
    "ecc_corrected_aggregate_total", "ecc_uncorrected_aggregate_total",
    "remapped_rows_correctable_total", "remapped_rows_uncorrectable_total",
    "remapped_rows_pending_flag", "remapped_rows_failure_flag",
    "retired_pages_single_bit_total", "retired_pages_double_bit_total", "retired_pages_pending_flag",
]  # fmt: skip
POWER = ["power_draw_watts", "power_draw_mean_watts", "power_draw_peak_watts", "power_limit_watts"]
HEALTH = reading_schema("gpu_health", scalar_names("gpu_health"))
THROTTLE, ERRORS = reading_schema("gpu_health", THROTTLE_SECONDS), reading_schema("gpu_health", MEMORY_HEALTH)
DEFAULT_WINDOW = timedelta(minutes=5)


def _item(context: ApiContext, entity: Entity, reading: Reading | None, names: Sequence[str]) -> dict[str, Any]:
    return gpu_identity(entity) | sampled(reading, names, context.clock.now())


def known_fields(names: Sequence[str]) -> list[str]:
    """This will check that fields are the sample's. Raises InvalidRequest."""
    known = scalar_names("gpu")
    for name in names:
        if name not in known:
            raise InvalidRequest(f"{name[:64]!r} is no field of a GPU's sample; known are {', '.join(known)}")
    return list(dict.fromkeys(names))


@router.get(
    "/gpu/metrics",
    **operation(
        "gpu_metrics",
        "The newest sample of every GPU",
        scope="read",
        shared=True,
        answer=listed(
            reading_schema("gpu", scalar_names("gpu"), **GPU, attribution=GPU_ATTRIBUTION, health=HEALTH),
            nodes_without=gpus.WITHOUT,
        ),
        errors=(404, 422, 503),
    ),
)
async def gpu_metrics(asked: Annotated[NewestOfGpus, Query()], context: Context) -> Response:
    """Every field of the newest sample; `age_seconds` says how old it is, `unknown` why a value is null.

    `health` is read less often, and has a time of its own. With `field` only those of the sample are given.
    """
    wanted = known_fields(asked.field)
    found, more = await gpus.latest(context, asked)
    if wanted:
        items = [_item(context, entity, reading, wanted) for entity, reading in found]
        return await gpus.gpu_page(context, asked, items, found, more)
    known, names, slow = await gpus.healths(context, found), scalar_names("gpu"), scalar_names("gpu_health")
    items = [
        _item(context, entity, reading, names)
        | gpus.health(context, known.get(entity.entity_id), slow)
        | {"attribution": gpu_attribution(entity)}
        for entity, reading in found
    ]
    return await gpus.gpu_page(context, asked, items, found, more)


@router.get(
    "/gpu/metrics/history",
    **operation(
        "gpu_history",
        "Fields of GPUs over time, by GPU, node or fleet",
        scope="read",
        rate="heavy",
        table=True,
        answer=listed(
            {
                "type": "object",
                "properties": {**GPU, "field": TEXT, "points": {"type": "array", "items": POINT_SCHEMA}},
            },
            **HISTORY,
        ),
        errors=(404, 422, 503),
    ),
)
async def gpu_history(asked: Annotated[GpuHistory, Query()], context: Context) -> Response:
    """Min, mean, max and p95 for each step; `resolution_seconds` is the step that was used.

    `by=node` and `by=fleet` are over the samples of all their GPUs, up to the newest whole minute: a p95 of a node is
    that of its GPUs' samples together, and a rate is the mean of one GPU; `gpus` says how many were sampled.
    """
    if asked.by == "node":
        return await scoped_series.by_node(context, asked)
    if asked.by == "fleet":
        return await scoped_series.by_fleet(context, asked)
    selection = await scope.of_gpus(context, asked, check=False)
    return await history(
        context, asked, "gpu", selection, gpu_identity, check=lambda found: scope.check_gpus(context, asked, found)
    )


def clock_event_reasons(bits: int | None) -> list[str] | None:
    """This will name the reasons in NVML's bit mask."""
    if bits is None:
        return None
    named = [name for bit, name in CLOCK_EVENT_REASONS.items() if int(bits) & bit]
    rest = int(bits) & ~sum(CLOCK_EVENT_REASONS)
    return named + ([f"unnamed_0x{rest:x}"] if rest else [])


def _described(entity: Entity, name: str, attribute: str, unknown: dict[str, str]) -> dict[str, Any]:
    """This will give what the agent says of a GPU, and note in `unknown` when it does not."""
    described = entity.attributes.get(attribute)
    if described is None:
        unknown[name] = "not_collected"
    return {name: described}


def _thresholds(entity: Entity, unknown: dict[str, str]) -> dict[str, Any]:
    """This will give the temperatures at which the GPU slows down and stops, as its agent read them."""
    known = {n: v for n, v in entity.attributes.items() if n.startswith("temperature_") and v is not None}
    if not known:
        unknown["thresholds"] = "not_collected"
    return {"thresholds": known or None}


@router.get(
    "/gpu/temperature",
    **operation(
        "gpu_temperature",
        "Temperatures, thresholds and throttling",
        scope="read",
        shared=True,
        errors=(404, 422, 503),
        answer=listed(reading_schema("gpu", TEMPERATURE, **GPU, health=THROTTLE), nodes_without=gpus.WITHOUT),
    ),
)
async def gpu_temperature(asked: Annotated[OfGpus, Query()], context: Context) -> Response:
    """Seconds throttled count since the driver was loaded; their share of the last five minutes stands beside them."""
    found, more = await gpus.latest(context, asked)
    now = context.clock.now()
    known = await gpus.healths(context, found)
    fields = [TABLES["gpu_health"].field(name) for name in THROTTLE_SECONDS]
    rates = await stored_samples.explained_rates(
        context.database.engine,
        "gpu_health",
        fields,
        [e.entity_id for e, _ in found],
        since=now - DEFAULT_WINDOW,
        until=now,
    )
    items = []
    for entity, reading in found:
        item = _item(context, entity, reading, TEMPERATURE)
        item |= gpus.health(context, known.get(entity.entity_id), THROTTLE_SECONDS)
        item["clock_event_reasons"] = clock_event_reasons(item["clock_event_reasons_bits"])
        if item["clock_event_reasons"] is None:
            item["unknown"]["clock_event_reasons"] = item["unknown"]["clock_event_reasons_bits"]
        item |= _thresholds(entity, item["unknown"])
        item["throttled_share_of_5m"] = rated(
            {
                name.removeprefix("throttled_").removesuffix("_seconds_total"): rates[entity.entity_id][name]
                for name in THROTTLE_SECONDS
            }
        )
        items.append(item)
    return await gpus.gpu_page(context, asked, items, found, more)


@router.get(
    "/gpu/memory",
    **operation(
        "gpu_memory",
        "Device memory, BAR1, ECC, remapped rows, and who holds it",
        scope="read",
        shared=True,
        errors=(404, 422, 503),
        answer=listed(reading_schema("gpu", MEMORY, **GPU, health=ERRORS), nodes_without=gpus.WITHOUT),
    ),
)
async def gpu_memory(asked: Annotated[OfGpus, Query()], context: Context) -> Response:
    """`processes` is null where the driver or the agent's rights do not show them."""
    found, more = await gpus.latest(context, asked)
    known = await gpus.healths(context, found)
    items = []
    for entity, reading in found:
        item = _item(context, entity, reading, MEMORY)
        item |= gpus.health(context, known.get(entity.entity_id), MEMORY_HEALTH)
        items.append(item | _described(entity, "processes", "processes", item["unknown"]))
    return await gpus.gpu_page(context, asked, items, found, more)


@router.get(
    "/gpu/power",
    **operation(
        "gpu_power",
        "Power, and energy over a window",
        scope="read",
        shared=True,
        errors=(404, 422, 503),
        answer=listed(reading_schema("gpu", POWER, **GPU), nodes_without=gpus.WITHOUT),
    ),
)
async def gpu_power(asked: Annotated[GpuWindow, Query()], context: Context) -> Response:
    """Mean and peak come from the driver's 20 ms samples; energy from its counter, over the asked window (1 h)."""
    now = context.clock.now()
    span = window(asked, now, timedelta(hours=1))
    found, more = await gpus.latest(context, asked)
    planned = history_plans.whole_window(span.since, span.until, entities=len(found), kept=kept(context, now))
    bound(planned, entities=len(found))
    energy = TABLES["gpu"].field("energy_joules_total")
    grown = await histories.wholes(
        context.database.engine, context.dictionaries, "gpu", energy, [e.entity_id for e, _ in found], planned
    )
    book = (await prices.read_history(context.database.engine)).at(planned.until)
    items = []
    for entity, reading in found:
        item = _item(context, entity, reading, POWER)
        joules = grown[entity.entity_id].increase if entity.entity_id in grown else None
        item["energy_joules"] = None if joules is None else round(joules, 3)
        if joules is None:
            why = reading.unknown.get(energy.name) if reading else None
            item["unknown"]["energy_joules"] = why or "fewer_than_two_samples"
        item["energy_cost_usd"] = None
        if joules is not None and book.usd_per_kwh is not None:
            item["energy_cost_usd"] = round(joules / JOULES_PER_KWH * book.usd_per_kwh, 6)
        else:
            # Without a price of its own, electricity is in the price of the hour; an invented one would be a lie.
            priced = book.usd_per_kwh is not None
            item["unknown"]["energy_cost_usd"] = "energy_unknown" if priced else "no_energy_price_configured"
        items.append(item)
    return page(
        items,
        more=more,
        last_id=found[-1][0].entity_id if found else 0,
        since=timestamp(planned.since),
        until=timestamp(planned.until),
        nodes_without=await gpus.without(context, asked),
    )
