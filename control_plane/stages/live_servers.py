"""What is known of inference servers and services right now, as policies are told it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from control_plane.analysis.bottlenecks.engine_facts import engine_window
from control_plane.analysis.bottlenecks.gpu_facts import GpuLook
from control_plane.analysis.bottlenecks.timeline import Recorded
from control_plane.catalogue.machines import machine_of
from control_plane.catalogue.tables import gpu_spec
from control_plane.decisions.performance.shipped import model_of
from control_plane.decisions.policies.facts import ServerState
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.price import PriceBook
from control_plane.model.sample import Reading
from control_plane.stages.server_facts import number_of, server_facts
from control_plane.storage import inference, moments, prices, readings, stored_samples
from control_plane.storage.readings import Dictionaries, Selection
from control_plane.storage.session import Database

# How far back a policy looks: long enough to tell a habit from a burst, short enough to be now.
LOOK_BACK = timedelta(minutes=10)
STEP = timedelta(seconds=10)
MOST_SERVERS = 200
MOST_GPUS = 10_000
GPU_FIELDS = (
    "gpu_utilization_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio", "power_draw_watts",
    "clock_event_reasons_bits",
)  # fmt: skip
# NVML's clocks-event reasons (nvml.h): slowdown, thermal and power brake; the software power cap.
HEAT_BITS, POWER_CAP_BIT = 0x08 | 0x20 | 0x40 | 0x80, 0x04
SERVING, ABSENT = "up", ("gone", "not_watched")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveServer:
    """One server with its GPUs and how it ran."""

    entity: Entity
    gpus: Sequence[Entity]  # empty: which are its own is not known
    looks: Sequence[Reading]  # oldest first
    state: ServerState

    @property
    def serves(self) -> bool:
        """This will say whether it is up."""
        return self.entity.attributes.get("state") == SERVING

    @property
    def is_there(self) -> bool:
        """This will say whether it runs at all, healthy or not."""
        return self.entity.attributes.get("state") not in ABSENT


async def load(database: Database, dictionaries: Dictionaries, selection: Selection, now: datetime) -> list[LiveServer]:
    """This will give the selected servers that are there, at most MOST_SERVERS, as they ran in the last minutes."""
    found = await readings.latest(database.engine, dictionaries, "inference", selection, MOST_SERVERS)
    there = [entity for entity, _ in found if entity.attributes.get("state") not in ABSENT]
    if not there:
        return []
    since = now - LOOK_BACK
    ids = [entity.entity_id for entity in there]
    looks: dict[int, list[Reading]] = {}
    for _, reading in await inference.stepped(database.engine, dictionaries, ids, since=since, until=now, step=STEP):
        looks.setdefault(reading.entity_id, []).append(reading)
    gpus = await gpus_of(database, dictionaries, there)
    book = (await prices.read_history(database.engine)).at(now)
    of_gpus = await _gpu_looks(database, sorted({g.entity_id for own in gpus.values() for g in own}), since, now)
    out = []
    for entity in there:
        own, mine = gpus[entity.entity_id], looks.get(entity.entity_id, [])
        seen = sorted((look for gpu in own for look in of_gpus.get(gpu.entity_id, ())), key=lambda pair: pair[0])
        out.append(
            LiveServer(entity=entity, gpus=own, looks=mine, state=state_of(entity, own, mine, seen, book))
        )  # fmt: skip
    return out


def state_of(
    entity: Entity, gpus: Sequence[Entity], looks: Sequence[Reading], gpu_looks: Sequence[tuple[datetime, GpuLook]],
    book: PriceBook,
) -> ServerState:  # fmt: skip
    """This will tell policies what is known of a server."""
    said = entity.attributes.get("config")
    config: Mapping[str, object] = said if isinstance(said, dict) else {}
    name, model = _text(entity.attributes.get("engine")) or "unknown", _text(entity.attributes.get("model"))
    gpu_names = {_text(gpu.attributes.get("name")) for gpu in gpus}
    gpu_name = next(iter(gpu_names)) if len(gpu_names) == 1 else None
    spec = gpu_spec(gpu_name)
    tuned = None
    if len(looks) >= 3:
        recorded = Recorded(
            readings=looks, gpu_looks=gpu_looks,
            max_num_seqs=number_of(config.get("max_num_seqs") or config.get("max_running_requests")),
            prefix_caching=caching if isinstance(caching := config.get("enable_prefix_caching"), bool) else None,
        )  # fmt: skip
        tuned = server_facts(recorded, engine=name, config=config)
    costs = [book.price_of(node=gpu.node_name, gpu_name=_text(gpu.attributes.get("name"))) for gpu in gpus]
    known = [cost.usd_per_gpu_hour for cost in costs if cost is not None]
    both = None if tuned is None else tuned.request_tokens
    output = None if tuned is None else tuned.output_tokens
    return ServerState(
        server=entity.key, engine=name, version=_text(entity.attributes.get("version")), model=model,
        architecture=model_of(model) if model else None,
        machine=machine_of(spec, name) if spec is not None else None,
        gpus=len(gpus) or None, config=config,
        input_tokens=both - output if both and output and both > output else None, output_tokens=output,
        concurrency=None if tuned is None else tuned.demand,
        usd_per_gpu_hour=sum(known) / len(known) if known and len(known) == len(costs) else None,
        healthy=entity.attributes.get("state") == SERVING, tuned=tuned,
    )  # fmt: skip


async def gpus_of(database: Database, dictionaries: Dictionaries, servers: Sequence[Entity]) -> dict[int, list[Entity]]:
    """This will find each server's GPUs: those on which one of its processes holds memory."""
    out: dict[int, list[Entity]] = {s.entity_id: [] for s in servers}
    node_ids = sorted({s.node_id for s in servers})
    if not node_ids:
        return out
    selection = Selection(kind=EntityKind.GPU, node_ids=node_ids)
    found = await readings.latest(database.engine, dictionaries, "gpu", selection, MOST_GPUS)
    for server in servers:
        many, one = server.attributes.get("pids"), server.attributes.get("pid")
        pids = {p for p in [*(many if isinstance(many, list) else []), one] if isinstance(p, int)}
        out[server.entity_id] = [g for g, _ in found if g.node_id == server.node_id and _holders(g) & pids]
    return out


def _holders(gpu: Entity) -> set[int]:
    processes = gpu.attributes.get("processes")
    listed = processes if isinstance(processes, list) else []
    return {pid for p in listed if isinstance(p, dict) and isinstance(pid := p.get("pid"), int)}


async def _gpu_looks(
    database: Database, gpu_ids: Sequence[int], since: datetime, until: datetime
) -> dict[int, list[tuple[datetime, GpuLook]]]:
    if not gpu_ids:
        return {}
    rows = await stored_samples.read_scalars(
        database.engine, "gpu", list(GPU_FIELDS), gpu_ids, moments.to_us(since), moments.to_us(until)
    )
    columns = {name: rows.columns[name].tolist() for name in GPU_FIELDS}
    out: dict[int, list[tuple[datetime, GpuLook]]] = {}
    for n, (gpu_id, at) in enumerate(zip(rows.entity_ids.tolist(), rows.taken_at_us.tolist(), strict=True)):
        values = {name: _known(columns[name][n]) for name in GPU_FIELDS}
        bits = values["clock_event_reasons_bits"]
        look = GpuLook(
            gpu=str(gpu_id), classic_utilization=values["gpu_utilization_ratio"], sm_active=values["sm_active_ratio"],
            tensor_active=values["tensor_active_ratio"], dram_active=values["dram_active_ratio"],
            power_watts=values["power_draw_watts"],
            slowed_by_heat=None if bits is None else bool(int(bits) & HEAT_BITS),
            at_power_cap=None if bits is None else bool(int(bits) & POWER_CAP_BIT),
        )  # fmt: skip
        out.setdefault(gpu_id, []).append((moments.to_datetime(at), look))
    return out


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def arrivals(looks: Sequence[Reading], since: datetime, bins: int, width: timedelta) -> list[float | None]:
    """This will count the requests that one server was to begin in each bin; None where it was not seen.

    Those that got their first token, and those that still waited at its end: what waits is demand that found no room.
    Requests that somebody refused before the engine are not seen.
    """
    begun: list[float | None] = [None] * bins
    covered, waiting = [0.0] * bins, [0.0] * bins
    for first, last in pairwise(looks):
        window = engine_window(first, last)
        came = window.first_tokens if window.first_tokens is not None else window.finished
        place = int((last.taken_at - since) / width)
        if came is None or not 0 <= place < bins:
            continue
        begun[place] = (begun[place] or 0.0) + came
        covered[place] += window.seconds
        waiting[place] = number_of(last.values.get("requests_waiting_count")) or 0.0
    # Half a bin that was not seen would look like half the demand.
    enough = 0.7 * width.total_seconds()
    return [
        came + waits if came is not None and seen >= enough else None
        for came, waits, seen in zip(begun, waiting, covered, strict=True)
    ]
