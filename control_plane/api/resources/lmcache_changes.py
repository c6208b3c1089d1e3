"""LMCache: what to change of a cache, and how: what can be changed while it runs, and what a restart takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.api import recommendations as words
from control_plane.api import scope
from control_plane.api.answers import answer
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, OfNodes, Parameters
from control_plane.api.recommendations import OUTCOME
from control_plane.api.schemas import MAYBE_TEXT, TEXT
from control_plane.decisions.policies.lmcache import CacheState, lmcache
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.errors import InvalidRequest, UnknownResource
from control_plane.model.recommendation import Recommendation, RecommendationKind
from control_plane.model.sample import Reading
from control_plane.stages.keeping import keep
from control_plane.stages.recommending import Outcome
from control_plane.storage import readings
from control_plane.storage.readings import Selection

router = APIRouter(tags=["lmcache"])

MOST_CACHES = 1000


class OptimizeBody(BaseModel):
    """Of which caches; what is left out narrows nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: list[Name] = Field(default_factory=list, max_length=100, description="node names or ids")


class Changes(BaseModel):
    """What a cache shall be like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_gibibytes: int | None = Field(None, ge=1, le=100_000, description="of its first level")
    chunk_tokens: int | None = Field(None, ge=16, le=65_536)
    eviction_policy: Literal["LRU", "ARC", "IsolatedLRU", "noop"] | None = None
    workers: int | None = Field(None, ge=1, le=4096)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = None
    quota_gibibytes: dict[Name, float] = Field(default_factory=dict, max_length=100, description="by cache salt")


class ConfigureBody(BaseModel):
    """Which cache, and what of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache_id: int = Field(ge=1, le=2**31 - 1)
    changes: Changes


# LMCache's own names (docs/source/api_reference/configurations.rst and the multiprocess server's flags).
FLAGS = {
    "memory_gibibytes": ("--l1-size-gb", "LMCACHE_MAX_LOCAL_CPU_SIZE"),
    "chunk_tokens": ("--chunk-size", "LMCACHE_CHUNK_SIZE"),
    "eviction_policy": ("--eviction-policy", "LMCACHE_CACHE_POLICY"),
    "workers": ("--max-workers", None),
}
PLAN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "cache_id": {"type": "integer"}, "url": TEXT, "mode": MAYBE_TEXT,
        "live": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"method": TEXT, "url": TEXT, "body": {"type": "object"}, "then": TEXT},
            },
            "description": "what it takes while it runs: to be sent to it from its own host",
        },
        "restart": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": TEXT, "value": TEXT}},
            "description": "what it takes when it starts",
        },
        "cost": TEXT,
    },
}  # fmt: skip


@router.post(
    "/lmcache/optimize",
    **operation("lmcache_optimize", "How large each LMCache should be", scope="operate", rate="heavy",
                answer=listed(OUTCOME), errors=(404, 413, 422, 503)),
)  # fmt: skip
async def optimize(_: Annotated[Parameters, Query()], context: Context, body: OptimizeBody | None = None) -> Response:
    """From how full it is and how much of what is looked up is found: the size, the hit ratio that would follow, and
    the memory that it takes or gives back."""
    asked = OfNodes(node=(body or OptimizeBody()).node, limit=MOST_CACHES, cursor=None)
    selection = await scope.of_nodes(context, asked, EntityKind.CACHE_SERVER)
    engine = context.database.engine
    found = await readings.latest(engine, context.dictionaries, "lmcache", selection, MOST_CACHES)
    hosts = await _free_bytes(context, sorted({entity.node_id for entity, _ in found}))
    items = []
    for entity, reading in found:
        told = lmcache(_state(entity, reading, hosts.get(entity.node_id), context.clock.now().timestamp()))
        items.append(await _shown(context, entity, told))
    return answer({"items": items, "next_cursor": None})


async def _free_bytes(context: ApiContext, node_ids: list[int]) -> dict[int, float]:
    if not node_ids:
        return {}
    selection = Selection(kind=EntityKind.NODE, node_ids=node_ids)
    found = await readings.latest(context.database.engine, context.dictionaries, "host", selection, len(node_ids) * 2)
    return {
        entity.node_id: float(free)
        for entity, reading in found
        if reading is not None and isinstance(free := reading.values.get("memory_available_bytes"), int | float)
    }


def _state(entity: Entity, reading: Reading | None, free: float | None, now: float) -> CacheState:
    config = entity.attributes.get("config")

    def number(name: str) -> float | None:
        value = None if reading is None else reading.values.get(name)
        return float(value) if isinstance(value, int | float) else None

    began, healthy = number("counters_since_unix_seconds"), number("healthy_flag")
    return CacheState(
        mode=config.get("mode") if isinstance(config, dict) else None,
        healthy=None if healthy is None else healthy == 1, used_bytes=number("memory_used_bytes"),
        capacity_bytes=number("memory_capacity_bytes"), requested_tokens=number("lookup_requested_tokens_total"),
        hit_tokens=number("lookup_hit_tokens_total"), evicted_chunks=number("evicted_chunks_total"),
        counted_seconds=None if began is None else now - began, host_free_bytes=free,
    )  # fmt: skip


async def _shown(context: ApiContext, entity: Entity, told: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "subject_kind": "cache", "subject": entity.key, "server_id": None, "unknown": {"server_id": "a_cache_is_none"},
    }  # fmt: skip
    if not isinstance(told, Recommendation):
        said = {"because": told.because, "explanation": told.explanation}
        return item | {"outcome": "no_action", "no_action": said}
    outcome = Outcome(
        kind=RecommendationKind.LMCACHE, subject_kind="cache", subject=entity.key, subject_id=None,
        node_id=entity.node_id, found=told,
    )  # fmt: skip
    kept = await keep(context.database, outcome, told, context.clock.now())
    return item | {"outcome": "recommendation", "recommendation": words.shown(kept)}


@router.post(
    "/lmcache/configure",
    **operation("lmcache_configure", "How a change of an LMCache is made", scope="operate", answer=PLAN,
                errors=(404, 413, 422, 503)),
)  # fmt: skip
async def configure(body: ConfigureBody, _: Annotated[Parameters, Query()], context: Context) -> Response:
    """Little can be changed while one runs: the log level, quotas by salt, and inside an engine what nobody has copied.
    Those are given as the questions to send from its host; the rest as what it is started with. Nothing is sent here:
    caches listen on their own hosts."""
    selection = Selection(kind=EntityKind.CACHE_SERVER, entity_ids=[body.cache_id])
    found = await readings.latest(context.database.engine, context.dictionaries, "lmcache", selection, 1)
    if not found:
        raise UnknownResource(f"there is no LMCache {body.cache_id}; GET /lmcache/status lists those there are")
    asked = body.changes.model_dump(exclude_none=True)
    if not any(asked.values()):
        raise InvalidRequest("changes holds nothing; name what shall be different")
    return answer(_plan(found[0][0], asked))


def _plan(entity: Entity, asked: dict[str, Any]) -> dict[str, Any]:
    config = entity.attributes.get("config")
    mode = config.get("mode") if isinstance(config, dict) else None
    inside = mode == "in_process"
    base = entity.key.partition("#")[0]
    live, restart = [], []
    if (level := asked.get("log_level")) is not None:
        live.append({"method": "POST", "url": f"{base}/loglevel", "body": {"level": level}, "then": "GET /loglevel"})
    for salt, size in asked.get("quota_gibibytes", {}).items():
        if inside:
            raise InvalidRequest("quotas are of cache servers with IsolatedLRU; this one is inside an engine")
        live.append({"method": "PUT", "url": f"{base}/quota/{salt}", "body": {"limit_gb": size}, "then": "GET /quota"})
    for name, (flag, variable) in FLAGS.items():
        if name in asked:
            if inside and variable is None:
                raise InvalidRequest(f"{name} is of cache servers; this one is inside an engine")
            restart.append({"name": variable if inside and variable else flag, "value": str(asked[name])})
    cost = "none" if not restart else (
        "the engine starts anew, and what the cache held is lost" if inside
        else "the cache starts anew: what it held is lost for every engine on the node"
    )  # fmt: skip
    return {"cache_id": entity.entity_id, "url": entity.key, "mode": mode, "live": live, "restart": restart,
            "cost": cost, "unknown": {} if mode else {"mode": "not_said"}}  # fmt: skip
