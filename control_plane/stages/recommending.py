"""Recommendations of one kind, now, for the servers that are asked about: load, think, and give what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.catalogue.tables import gpu_spec
from control_plane.decisions.consolidation.fleet import Bin, Engine
from control_plane.decisions.policies.consolidate import consolidate
from control_plane.decisions.policies.facts import ServerState
from control_plane.decisions.policies.parallelism import parallelism
from control_plane.decisions.policies.quantize import quantize
from control_plane.decisions.policies.scale import ServiceState, scale
from control_plane.decisions.tuning.batch import batch
from control_plane.decisions.tuning.choice import recommend
from control_plane.decisions.tuning.kv_cache import kv_cache
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.price import PriceBook
from control_plane.model.recommendation import Recommendation, RecommendationKind
from control_plane.model.scaling import Because, NoAction
from control_plane.stages import live_servers
from control_plane.stages.live_servers import LiveServer
from control_plane.stages.live_services import services
from control_plane.storage import prices, readings
from control_plane.storage.readings import Dictionaries, Selection
from control_plane.storage.session import Database

FULL_GPU = 1.0
FLEET = "fleet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What whoever asks adds to the rails."""

    least: int = 1
    most: int = 1000
    may_sleep: bool = False
    cold_start_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found out about one subject."""

    kind: RecommendationKind
    subject_kind: str  # server, service, fleet
    subject: str
    subject_id: int | None  # a server's
    node_id: int | None
    found: Recommendation | NoAction
    before: Mapping[str, float] = field(default_factory=dict)  # how it ran: what comes is measured against it


async def outcomes(
    database: Database, dictionaries: Dictionaries, kind: RecommendationKind, selection: Selection, now: datetime, *,
    limits: Limits, in_flight: frozenset[str] = frozenset(),
) -> list[Outcome]:  # fmt: skip
    """This will ask the policy of one kind about each server, or service, of a selection."""
    found = await live_servers.load(database, dictionaries, selection, now)
    if kind is RecommendationKind.CONSOLIDATE:
        return [await _consolidated(database, dictionaries, found, selection, now)]
    if kind in (RecommendationKind.SCALE_UP, RecommendationKind.SCALE_DOWN, RecommendationKind.SCALE_TO_ZERO):
        each = await services(
            database, found, now, least=limits.least, most=limits.most, may_sleep=limits.may_sleep,
            cold_start_seconds=limits.cold_start_seconds, in_flight=in_flight,
        )  # fmt: skip
        return [_of_service(kind, state) for state, _ in each]
    return await asyncio.to_thread(lambda: [_of_server(kind, server) for server in found])


def _of_server(kind: RecommendationKind, server: LiveServer) -> Outcome:
    return Outcome(
        kind=kind, subject_kind="server", subject=server.entity.key, subject_id=server.entity.entity_id,
        node_id=server.entity.node_id, found=_thought(kind, server.state), before=ran(server.state),
    )  # fmt: skip


def ran(state: ServerState) -> dict[str, float]:
    """This will say how a server ran, as far as it is known: what a change is measured against."""
    facts = state.tuned
    if facts is None:
        return {}
    said = {
        "requests_per_second": facts.requests_per_second, "token_seconds": facts.inter_token_seconds,
        "concurrency": facts.demand,
    }  # fmt: skip
    return {name: round(value, 6) for name, value in said.items() if value is not None}


def _thought(kind: RecommendationKind, state: ServerState) -> Recommendation | NoAction:
    if not state.healthy:
        return NoAction(because=Because.UNHEALTHY, explanation="it does not serve, for another reason: find that first")
    if kind is RecommendationKind.QUANTIZE:
        return quantize(state)
    if kind is RecommendationKind.PARALLELISM:
        return parallelism(state)
    facts = state.tuned
    if facts is None:
        return NoAction(because=Because.MISSING_DATA, explanation="too few samples of the last minutes")
    chosen = recommend(facts)
    if isinstance(chosen, NoAction) or chosen.kind is kind:
        return chosen
    # Something binds, and it is the other flag that helps: say so.
    other = batch(facts) if kind is RecommendationKind.BATCH else kv_cache(facts)
    if facts.bottleneck in (Bottleneck.BATCH_LIMITED, Bottleneck.KV_CAPACITY_BOUND):
        said = f"{facts.bottleneck}: ask for {chosen.kind} instead"
        return NoAction(because=Because.NO_FLAG_HELPS, explanation=said)
    return other


def _of_service(kind: RecommendationKind, state: ServiceState) -> Outcome:
    found = scale(state)
    if isinstance(found, Recommendation) and found.kind is not kind:
        said = f"the other way: {found.kind} from {found.replicas_before} to {found.replicas}"
        if kind is not RecommendationKind.SCALE_DOWN or found.kind is not RecommendationKind.SCALE_TO_ZERO:
            found = NoAction(because=Because.ENOUGH, explanation=said)
    return Outcome(
        kind=found.kind if isinstance(found, Recommendation) else kind, subject_kind="service", subject=state.service,
        subject_id=None, node_id=None, found=found,
    )  # fmt: skip


# -- consolidation -----------------------------------------------------------------------------------


async def _consolidated(
    database: Database, dictionaries: Dictionaries, servers: Sequence[LiveServer], selection: Selection, now: datetime
) -> Outcome:
    wanted = Selection(kind=EntityKind.GPU, node_ids=selection.node_ids)
    gpus = await readings.latest(database.engine, dictionaries, "gpu", wanted, live_servers.MOST_GPUS)
    book = (await prices.read_history(database.engine)).at(now)
    sizes = {gpu.entity_id: reading.values.get("memory_used_bytes") if reading else None for gpu, reading in gpus}
    bins, engines = fleet_of([gpu for gpu, _ in gpus], sizes, servers, book)
    found = await asyncio.to_thread(consolidate, bins, engines)
    return Outcome(
        kind=RecommendationKind.CONSOLIDATE,
        subject_kind=FLEET,
        subject=FLEET,
        subject_id=None,
        node_id=None,
        found=found,
    )


def fleet_of(
    gpus: Sequence[Entity], used_bytes: Mapping[int, object], servers: Sequence[LiveServer], book: PriceBook
) -> tuple[list[Bin], list[Engine]]:
    """This will see a fleet as packing does. A GPU whose kind, price or use is unknown is left out."""
    single = {s.gpus[0].entity_id: s for s in servers if len(s.gpus) == 1}
    several = {g.entity_id for s in servers if len(s.gpus) > 1 for g in s.gpus}
    bins, engines = [], []
    for gpu in gpus:
        name = gpu.attributes.get("name")
        spec = gpu_spec(name if isinstance(name, str) else None)
        price = book.price_of(node=gpu.node_name, gpu_name=name if isinstance(name, str) else None)
        held = used_bytes.get(gpu.entity_id)
        if spec is None or price is None or gpu.entity_id in several or not isinstance(held, int | float):
            continue
        server = single.get(gpu.entity_id)
        processes = gpu.attributes.get("processes")
        if server is None and (not isinstance(processes, list) or processes):
            continue  # somebody else's, or nobody knows whose
        bins.append(
            Bin(name=gpu.key, kind=spec.gpu, node=gpu.node_name, memory_bytes=spec.memory_bytes, compute=FULL_GPU,
                usd_per_hour=price.usd_per_gpu_hour)
        )  # fmt: skip
        if server is not None:
            engines.append(_engine(server, gpu, float(held)))
    return bins, engines


def _engine(server: LiveServer, gpu: Entity, held_bytes: float) -> Engine:
    facts = server.state.tuned
    busiest = None if facts is None else max(facts.tensor_active or 0.0, facts.dram_active or 0.0)
    known = facts is not None and facts.on_gpu and busiest is not None
    return Engine(
        name=server.entity.key, at=gpu.key, memory_bytes=held_bytes, compute=busiest if known and busiest else FULL_GPU,
        apart=server.state.model, fixed=not known or not server.serves,
    )  # fmt: skip
