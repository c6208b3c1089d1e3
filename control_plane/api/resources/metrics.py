"""How inference servers perform, from their own counters and histograms over a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.analysis import distributions, serving
from control_plane.analysis.distributions import Quantile
from control_plane.analysis.serving import Served
from control_plane.api import scope
from control_plane.api.answers import evidence, gpu_identity, page, server_identity, timestamp, values
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import OfServers, ServerWindow, Window, window
from control_plane.api.schemas import SERVER, UNKNOWN
from control_plane.api.series import bound_rows, kept
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.price import PriceBook
from control_plane.model.sample import Distribution, Reading
from control_plane.storage import histories, history_plans, inference, prices, readings
from control_plane.storage.readings import Selection
from optiinfra.catalogue import TABLES

router = APIRouter(tags=["inference metrics"])

DEFAULT_WINDOW = timedelta(minutes=5)
COUNTERS = [f.name for f in TABLES["inference"].scalars if f.is_counter]
LATENCIES = [
    "ttft_seconds", "time_per_output_token_seconds", "inter_token_latency_seconds", "queue_seconds",
    "prefill_seconds", "decode_seconds", "end_to_end_seconds",
]  # fmt: skip
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

QUANTILE_SCHEMA = {
    "type": ["object", "null"],
    "properties": {
        "value": {"type": ["number", "null"], "description": "interpolated within its bucket"},
        "low": {"type": "number", "description": "the true value is above this"},
        "high": {"type": ["number", "null"], "description": "and not above this; null: no bound is known"},
        "unknown": UNKNOWN,
    },
}
DISTRIBUTION_SCHEMA = {
    "type": ["object", "null"],
    "properties": {
        "count": {"type": "integer"},
        "mean": {"type": ["number", "null"]},
        **dict.fromkeys(QUANTILES, QUANTILE_SCHEMA),
        "unknown": UNKNOWN,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The servers asked about and what each did in the window."""

    span: Window
    servers: Sequence[Entity]
    served: Mapping[int, Served | None]  # by entity id
    more: bool

    @property
    def last_id(self) -> int:
        """This will give the id of the last server shown."""
        return self.servers[-1].entity_id if self.servers else 0

    def page(self, items: Sequence[Any], **around: Any) -> Response:
        """This will send the items with the window they are about."""
        ends = {"since": timestamp(self.span.since), "until": timestamp(self.span.until)}
        return page(items, more=self.more, last_id=self.last_id, **ends, **around)


async def question_of(context: ApiContext, asked: ServerWindow, *, default: timedelta = DEFAULT_WINDOW) -> Question:
    """This will gather what the asked servers did in the asked window, or in one of the `default` length."""
    span = window(asked, context.clock.now(), default)
    selection = await scope.of_servers(context, asked)
    found = await readings.select_entities(context.database.engine, selection, asked.limit + 1)
    shown = found[: asked.limit]
    bound_rows(span, entities=len(shown))
    spans = await inference.spans(
        context.database.engine, context.dictionaries, [e.entity_id for e in shown], since=span.since, until=span.until
    )
    grouped: dict[int, list[tuple[Reading | None, Reading]]] = {}
    for run in spans:
        grouped.setdefault(run.entity_id, []).append((run.first, run.last))
    served = {e.entity_id: serving.served(grouped.get(e.entity_id, []), COUNTERS, since=span.since) for e in shown}
    return Question(span=span, servers=shown, served=served, more=len(found) > asked.limit)


def quantiles(distribution: Distribution | None) -> dict[str, Any] | None:
    """This will show a distribution: how many, their mean, and quantiles with the bounds they are known within."""
    if distribution is None:
        return None
    out: dict[str, Any] = {"count": sum(distribution.counts), "mean": _rounded(distributions.mean(distribution))}
    for name, share in QUANTILES.items():
        found = distributions.quantile(distribution, share)
        out[name] = found and _shown_quantile(found)
    why = "no_observations" if not out["count"] else "sum_unknown"
    return _explained(out, why)


def _shown_quantile(found: Quantile) -> dict[str, Any]:
    return _explained({"value": _rounded(found.value), "low": found.low, "high": found.high}, "above_the_last_bound")


def _explained(shown: dict[str, Any], why: str) -> dict[str, Any]:
    """This will say why of each null, where there is one: three quantiles of seven histograms are enough to read."""
    unknown = {name: why for name, value in shown.items() if value is None}
    return shown | {"unknown": unknown} if unknown else shown


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _why(served: Served | None, names: Sequence[str]) -> dict[str, str]:
    """This will say why each of the named values is missing."""
    if served is None:
        return dict.fromkeys(names, "no_samples")
    return {name: served.unknown.get(name, "not_enough_samples") for name in names}


def _latencies(served: Served | None) -> dict[str, Any]:
    shown = {name: quantiles(served.distributions.get(name) if served else None) for name in LATENCIES}
    return shown | {"unknown": _why(served, [name for name, value in shown.items() if value is None])}


def by_model(question: Question) -> dict[str, list[Served]]:
    """This will put together what the replicas of each model did."""
    out: dict[str, list[Served]] = {}
    for server in question.servers:
        served = question.served[server.entity_id]
        model = server.attributes.get("model")
        if served is not None and isinstance(model, str):
            out.setdefault(model, []).append(served)
    return out


def _merged_latencies(group: Sequence[Served]) -> dict[str, Any]:
    """This will merge replicas' histograms; unlike bounds cannot be merged, nor can quantiles be averaged."""
    out: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name in LATENCIES:
        parts = [served.distributions[name] for served in group if name in served.distributions]
        out[name] = quantiles(distributions.merged(parts))
        if out[name] is None:
            unknown[name] = "bucket_bounds_differ" if parts else _why(group[0], [name])[name]
    return out | {"unknown": unknown}


@router.get(
    "/metrics/latency",
    **operation(
        "metrics_latency",
        "TTFT, time per token, queue, prefill, decode, end to end",
        scope="read",
        shared=True,
        errors=(404, 422, 503),
        answer=listed(
            {
                "type": "object",
                "properties": {**SERVER, **dict.fromkeys(LATENCIES, DISTRIBUTION_SCHEMA), "unknown": UNKNOWN},
            }
        ),
    ),
)
async def metrics_latency(asked: Annotated[ServerWindow, Query()], context: Context) -> Response:
    """By server, and merged over the replicas of each model. A quantile is known only within its bucket."""
    question = await question_of(context, asked)
    items = [server_identity(s) | _latencies(question.served[s.entity_id]) for s in question.servers]
    models = [
        {"model": model, "servers": len(group)} | _merged_latencies(group)
        for model, group in by_model(question).items()
    ]
    return question.page(items, models=models)


def _throughput(served: Served | None) -> dict[str, Any]:
    names = ("requests_per_second", "prompt_tokens_per_second", "output_tokens_per_second")
    if served is None or served.seconds <= 0:
        return dict.fromkeys(names) | {"unknown": dict.fromkeys(names, "not_enough_samples")}
    growth = served.growth
    figures = {
        "requests_per_second": growth.get("requests_finished_total"),
        "prompt_tokens_per_second": serving.first_known(growth, "prompt_tokens_live_total", "prompt_tokens_total"),
        "output_tokens_per_second": serving.output_tokens(served),
    }
    rates = {name: None if v is None else round(v / served.seconds, 4) for name, v in figures.items()}
    counters = dict(
        zip(names, ("requests_finished_total", "prompt_tokens_total", "generation_tokens_total"), strict=True)
    )
    unknown = {n: served.unknown.get(counters[n], "not_exposed") for n, rate in rates.items() if rate is None}
    return rates | {"unknown": unknown}


@router.get(
    "/metrics/throughput",
    **operation(
        "metrics_throughput", "Requests and tokens per second", scope="read", shared=True, errors=(404, 422, 503)
    ),
)
async def metrics_throughput(asked: Annotated[ServerWindow, Query()], context: Context) -> Response:
    """By server and model; per GPU and joule where a server's GPUs are known; per dollar once prices are set."""
    question = await question_of(context, asked)
    gpus = await _gpus_behind(context, question.servers)
    watts = await _mean_watts(context, [gpu for behind in gpus.values() for gpu, _ in behind], question.span)
    book = (await prices.read_history(context.database.engine)).at(question.span.until)
    items = []
    for server in question.servers:
        served = question.served[server.entity_id]
        item = server_identity(server) | _throughput(served)
        item |= _per_resource(item, [gpu for gpu, _ in gpus[server.entity_id]], watts, book)
        item["covered_seconds"] = round(served.seconds, 3) if served else 0.0
        item["evidence"] = evidence(
            series=COUNTERS, since=question.span.since, until=question.span.until,
            numbers={"growth": {n: v for n, v in served.growth.items() if v is not None} if served else {}},
        )  # fmt: skip
        items.append(item)
    return question.page(items, models=_model_throughput(items))


def _model_throughput(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = ("requests_per_second", "prompt_tokens_per_second", "output_tokens_per_second")
    models: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        if isinstance(item["model"], str) and item["covered_seconds"]:
            models.setdefault(item["model"], []).append(item)
    out = []
    for model, group in models.items():
        # A sum that leaves one server out would be too small, and look like the whole.
        sums = {n: None if any(i[n] is None for i in group) else round(sum(i[n] for i in group), 4) for n in names}
        unknown = {name: "unknown_for_a_server" for name, total in sums.items() if total is None}
        out.append({"model": model, "servers": len(group)} | sums | {"unknown": unknown})
    return out


def _per_resource(
    item: Mapping[str, Any], gpus: Sequence[Entity], watts: Mapping[int, float | None], book: PriceBook
) -> dict[str, Any]:
    """This will divide the token rate by GPUs, by their mean power by their energy counters, and by their price."""
    tokens = item["output_tokens_per_second"]
    known = [watts[gpu.entity_id] for gpu in gpus]
    total = sum(w for w in known if w is not None) if None not in known else 0.0
    per_gpu = round(tokens / len(gpus), 4) if gpus and tokens is not None else None
    per_watt = round(tokens / total, 6) if tokens is not None and total else None
    unknown = dict(item["unknown"])
    without_gpus = "gpus_of_server_unknown" if not gpus else unknown.get("output_tokens_per_second")
    if per_gpu is None:
        unknown["output_tokens_per_second_per_gpu"] = without_gpus
    if per_watt is None:
        unknown["output_tokens_per_joule"] = without_gpus or "power_unknown"
    per_usd = _per_usd(tokens, gpus, book)
    if per_usd is None:
        unknown["output_tokens_per_usd"] = without_gpus or "no_price_is_known"
    return {
        "output_tokens_per_second_per_gpu": per_gpu,
        "output_tokens_per_joule": per_watt,
        "output_tokens_per_usd": per_usd,
        "unknown": unknown,
    }


def _per_usd(tokens: float | None, gpus: Sequence[Entity], book: PriceBook) -> float | None:
    """This will divide the token rate by what its GPUs cost; None when one of them has no price."""
    found = [book.price_of(node=g.node_name, gpu_name=_text(g.attributes.get("name"))) for g in gpus]
    per_second = sum(price.usd_per_gpu_hour for price in found if price is not None) / 3600
    return None if tokens is None or not per_second or None in found else round(tokens / per_second, 4)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


async def _mean_watts(context: ApiContext, gpus: Sequence[Entity], span: Window) -> dict[int, float | None]:
    """This will give each GPU's mean power over the window: a look at the newest sample would say nothing of it."""
    energy = TABLES["gpu"].field("energy_joules_total")
    ids = sorted({gpu.entity_id for gpu in gpus})
    planned = history_plans.whole_window(
        span.since, span.until, entities=len(ids), kept=kept(context, context.clock.now())
    )
    return await histories.rates(context.database.engine, context.dictionaries, "gpu", energy, ids, planned)


async def _gpus_behind(
    context: ApiContext, servers: Sequence[Entity]
) -> dict[int, list[tuple[Entity, Reading | None]]]:
    """This will find each server's GPUs: those on which one of its processes holds memory."""
    out: dict[int, list[tuple[Entity, Reading | None]]] = {s.entity_id: [] for s in servers}
    node_ids = sorted({s.node_id for s in servers})
    if not node_ids:
        return out
    selection = Selection(kind=EntityKind.GPU, node_ids=node_ids)
    gpus = await readings.latest(context.database.engine, context.dictionaries, "gpu", selection, 10_000)
    on_node: dict[int, list[tuple[set[int], tuple[Entity, Reading | None]]]] = {}
    for gpu, reading in gpus:
        processes = gpu.attributes.get("processes")
        holders = [p.get("pid") for p in processes if isinstance(p, dict)] if isinstance(processes, list) else []
        on_node.setdefault(gpu.node_id, []).append((_numbers(holders), (gpu, reading)))
    for server in servers:
        many, one = server.attributes.get("pids"), server.attributes.get("pid")
        pids = _numbers([*(many if isinstance(many, list) else []), one])
        out[server.entity_id] = [found for held_by, found in on_node.get(server.node_id, ()) if held_by & pids]
    return out


def _numbers(values: Sequence[object]) -> set[int]:
    """This will keep the process ids of what an agent says, which may be anything."""
    return {value for value in values if isinstance(value, int)}


GPU_FIGURES = [
    "gpu_utilization_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio",
    "memory_used_bytes", "memory_total_bytes", "power_draw_watts",
]  # fmt: skip
SERVER_FIGURES = ["requests_running_count", "requests_waiting_count", "kv_cache_usage_ratio"]


@router.get(
    "/metrics/gpu",
    **operation(
        "metrics_gpu", "The GPUs behind each server, with its load", scope="read", shared=True, errors=(404, 422, 503)
    ),
)
async def metrics_gpu(asked: Annotated[OfServers, Query()], context: Context) -> Response:
    """A GPU is a server's when one of the server's processes holds memory on it; `gpus` is null when none is known."""
    selection = await scope.of_servers(context, asked)
    found = await readings.latest(
        context.database.engine, context.dictionaries, "inference", selection, asked.limit + 1
    )
    shown = found[: asked.limit]
    gpus = await _gpus_behind(context, [entity for entity, _ in shown])
    items = []
    for entity, reading in shown:
        behind = [gpu_identity(g) | values(r, GPU_FIGURES) for g, r in gpus[entity.entity_id]]
        item = server_identity(entity) | {
            "load": values(reading, SERVER_FIGURES),
            "gpus": behind or None,
            "unknown": {},
        }
        if not behind:
            item["unknown"] = {"gpus": "gpus_of_server_unknown"}
        items.append(item)
    return page(items, more=len(found) > asked.limit, last_id=shown[-1][0].entity_id if shown else 0)


@router.get(
    "/metrics/tokens",
    **operation(
        "metrics_tokens", "Token generation speed and lengths", scope="read", shared=True, errors=(404, 422, 503)
    ),
)
async def metrics_tokens(asked: Annotated[ServerWindow, Query()], context: Context) -> Response:
    """Speed in total and per request (one over the mean time between tokens); lengths of prompts and outputs."""
    question = await question_of(context, asked)
    items = []
    for server in question.servers:
        served = question.served[server.entity_id]
        throughput = _throughput(served)
        found = served.distributions if served else {}
        gap = (
            distributions.mean(found["inter_token_latency_seconds"]) if "inter_token_latency_seconds" in found else None
        )
        item: dict[str, Any] = {
            "output_tokens_per_second": throughput["output_tokens_per_second"],
            "output_tokens_per_second_per_request": _rounded(1 / gap) if gap else None,
            "prompt_length_tokens": quantiles(found.get("prompt_length_tokens")),
            "output_length_tokens": quantiles(found.get("output_length_tokens")),
            "tokens_per_iteration": quantiles(found.get("iteration_tokens")),
        }
        sources = dict(
            zip(
                item,
                ("generation_tokens_total", "inter_token_latency_seconds", "prompt_length_tokens",
                 "output_length_tokens", "iteration_tokens"),
                strict=True,
            )
        )  # fmt: skip
        missing = [name for name, value in item.items() if value is None]
        why = _why(served, [sources[name] for name in missing])
        item["unknown"] = {name: why[sources[name]] for name in missing}
        items.append(server_identity(server) | item)
    return question.page(items)


@router.get(
    "/metrics/memory",
    **operation(
        "metrics_memory", "KV cache, prefix hits, preemptions", scope="read", shared=True, errors=(404, 422, 503)
    ),
)
async def metrics_memory(asked: Annotated[ServerWindow, Query()], context: Context) -> Response:
    """Usage and capacity now; hit ratio and preemptions over the window."""
    question = await question_of(context, asked)
    selection = await scope.of_servers(context, asked)
    newest = {
        entity.entity_id: reading
        for entity, reading in await readings.latest(
            context.database.engine, context.dictionaries, "inference", selection, asked.limit
        )
    }
    items = []
    for server in question.servers:
        served = question.served[server.entity_id]
        growth = served.growth if served else {}
        now = values(newest.get(server.entity_id), ["kv_cache_usage_ratio", "kv_cache_capacity_tokens"])
        hits, queries = growth.get("prefix_cache_hits_total"), growth.get("prefix_cache_queries_total")
        preemptions = growth.get("preemptions_total")
        item: dict[str, Any] = {
            "prefix_cache_hit_ratio": _rounded(serving.ratio(hits, queries)),
            "preemptions": None if preemptions is None else int(preemptions),
            "weights_bytes": None,
            "headroom_tokens": _headroom(now),
        }
        lookups = "prefix_cache_queries_total" if queries is None else "prefix_cache_hits_total"
        why = _why(served, [lookups, "preemptions_total"])
        why |= {
            "prefix_cache_hit_ratio": "no_lookups" if queries == 0 else why[lookups],
            "preemptions": why["preemptions_total"],
            "weights_bytes": "not_exposed",
            "headroom_tokens": "kv_cache_unknown",
        }
        unknown = now["unknown"] | {name: why[name] for name, value in item.items() if value is None}
        items.append(server_identity(server) | now | item | {"unknown": unknown})
    return question.page(items)


def _headroom(now: Mapping[str, Any]) -> int | None:
    usage, capacity = now["kv_cache_usage_ratio"], now["kv_cache_capacity_tokens"]
    return None if usage is None or capacity is None else max(0, round((1 - usage) * capacity))
