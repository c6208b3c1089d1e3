"""What inference servers delivered for what they had: tokens per GPU, joule and dollar, and against the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control_plane.analysis.findings.figures import used_of
from control_plane.analysis.findings.gpu_use import Gpu, moment
from control_plane.analysis.findings.grouping import Sums, grouped, known, mean, ratio
from control_plane.analysis.findings.model_size import ModelSize, size_of
from control_plane.analysis.waste import money
from control_plane.analysis.waste.money import Spent
from control_plane.model.finding import Draft
from control_plane.model.gpu_spec import GpuSpec
from control_plane.model.price import PriceHistory
from control_plane.model.use import Cells, Owner

KIND = "serving"
SECONDS_PER_HOUR = 3600.0
MILLION = 1e6
# Of the bandwidth that a datasheet promises, decoding reaches so much (fitted on 1,201 measured configurations of three
# models on H100, H200 and B200: docs/cost.md).
REACHED_BANDWIDTH = 0.65
# OpenCost's reading of the two bases: where GPUs work for less than this share of what they cost, load is the problem.
WAITS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An inference server as answers name it."""

    server_id: int
    url: str
    node_id: int
    node: str
    engine: str | None
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFacts:
    """All that a window's serving is judged from."""

    server_cells: Cells
    gpu_cells: Cells
    servers: Mapping[int, Server]
    gpus: Mapping[int, Gpu]
    specs: Mapping[str, GpuSpec | None]  # by the driver's name
    owners: Mapping[int, Owner]
    prices: PriceHistory
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Behind:
    """The GPUs that a server, or a model, had."""

    sums: Sums
    spent: Spent
    gpus: Sequence[Gpu]
    spec: GpuSpec | None  # None: of several kinds, or not listed


def drafts(facts: ServingFacts) -> list[Draft]:
    """This will judge what each server, and each model, delivered."""
    servers = [facts.servers.get(int(server_id)) for server_id in facts.server_cells.entity_ids]
    rows = [place for place, server in enumerate(servers) if server is not None]
    cells = facts.server_cells.taken(rows)
    of_row = [server for server in servers if server is not None]
    out = []
    for kind in ("server", "model"):
        keys = [str(s.server_id) if kind == "server" else (s.model or "") for s in of_row]
        behind = _behind(facts, kind)
        for key, sums in grouped(cells, keys).items():
            if not key:
                continue
            first = next(s for s, k in zip(of_row, keys, strict=True) if k == key)
            named = _server(first) if kind == "server" else {"model": key}
            count = len({s.server_id for s, k in zip(of_row, keys, strict=True) if k == key})
            body = named | {"servers": count} | body_of(sums, behind.get(key), first.model, facts)
            node_id = first.node_id if kind == "server" else None
            out.append(Draft(kind=KIND, subject_kind=kind, subject=key, body=body, node_id=node_id))
    return sorted(out, key=lambda d: (d.subject_kind, int(d.subject) if d.subject_kind == "server" else 0, d.subject))


def _server(server: Server) -> dict[str, Any]:
    return {
        "server_id": server.server_id, "url": server.url, "node": server.node, "engine": server.engine,
        "model": server.model,
    }  # fmt: skip


def _behind(facts: ServingFacts, kind: str) -> dict[str, _Behind]:
    cells = facts.gpu_cells
    keys, kept = [], []
    for place, (gpu_id, owner_id) in enumerate(zip(cells.entity_ids, cells.owner_ids, strict=True)):
        owner, gpu = facts.owners[int(owner_id)], facts.gpus.get(int(gpu_id))
        key = owner.model if kind == "model" else None if owner.server_id is None else str(owner.server_id)
        if gpu is not None and key is not None:
            keys.append((key, gpu, int(cells.starts_us[place])))
            kept.append(place)
    mine = cells.taken(kept)
    whole = grouped(mine, [key for key, _, _ in keys])
    parts: dict[str, list[Spent]] = {}
    gpus: dict[str, dict[int, Gpu]] = {}
    for (key, gpu, start_us), sums in grouped(mine, keys).items():
        book = facts.prices.at(moment(start_us))
        price = book.price_of(node=gpu.node, gpu_name=gpu.name)
        parts.setdefault(key, []).append(money.spent(used_of(sums), price, usd_per_kwh=book.usd_per_kwh))
        gpus.setdefault(key, {})[gpu.entity_id] = gpu
    out = {}
    for key, sums in whole.items():
        names = {gpu.name for gpu in gpus[key].values()}
        spec = facts.specs.get(next(iter(names)) or "") if len(names) == 1 else None
        out[key] = _Behind(sums=sums, spent=money.total(parts[key]), gpus=list(gpus[key].values()), spec=spec)
    return out


def body_of(sums: Sums, behind: _Behind | None, model: str | None, facts: ServingFacts) -> dict[str, Any]:
    """This will give everything that is said of one server or model; of each figure that is unknown, why."""
    seconds = known(sums, "counted_seconds") or 0.0
    why: dict[str, str] = {}
    figures: dict[str, float | None] = {
        "requests": known(sums, "requests_finished"),
        "requests_failed": known(sums, "requests_failed"),
        "prompt_tokens": known(sums, "prompt_tokens"),
        "output_tokens": known(sums, "output_tokens"),
        "requests_per_second": ratio(known(sums, "requests_finished"), seconds),
        "output_tokens_per_second": ratio(known(sums, "output_tokens"), seconds),
        "peak_requests_per_minute": known(sums, "requests_arrived_minute_peak"),
        "requests_running": ratio(known(sums, "requests_running_sum"), sums["load_seconds"]),
        "requests_waiting": ratio(known(sums, "requests_waiting_sum"), sums["load_seconds"]),
        "kv_cache_usage_ratio": ratio(known(sums, "kv_cache_usage_sum"), sums["load_seconds"]),
        "ttft_seconds_mean": ratio(known(sums, "ttft_seconds_sum"), known(sums, "ttft_count")),
        "inter_token_seconds_mean": ratio(known(sums, "inter_token_seconds_sum"), known(sums, "inter_token_count")),
        "cache_hit_ratio": ratio(known(sums, "cached_tokens"), known(sums, "prompt_tokens")),
    }
    figures |= _per_resource(figures, behind, why)
    figures |= _against_the_roofline(figures, behind, size_of(model), seconds, why)
    for name, value in figures.items():
        if value is None:
            why.setdefault(name, "not_counted_in_window" if not seconds else "not_exposed_or_none")
    shown = {name: None if value is None else float(f"{value:.6g}") for name, value in figures.items()}
    texts = {
        "gpu_model": None if behind is None else behind.gpus[0].name,
        "reading": reading(figures),
    }
    why |= {"gpu_model": "gpus_of_server_unknown", "reading": "what tokens cost is unknown"}
    return {
        **shown,
        **texts,
        "unknown": {name: why[name] for name, value in (shown | texts).items() if value is None},
        "gpus": [] if behind is None else [gpu.key for gpu in behind.gpus],
        "evidence": {
            "series": ["requests_finished_total", "prompt_tokens_total", "generation_tokens_total",
                       "requests_running_count", "energy_joules_total", "graphics_active_ratio"],
            "since": facts.since,
            "until": facts.until,
            "numbers": {
                "counted_seconds": round(seconds, 1),
                "gpu_seconds": 0.0 if behind is None else round(behind.sums["paid_seconds"], 1),
            },
        },
    }  # fmt: skip


PER_RESOURCE = (
    "usd", "output_tokens_per_gpu_second", "output_tokens_per_joule", "output_tokens_per_usd",
    "usd_per_million_tokens_allocation", "usd_per_million_tokens_usage",
    "usd_per_million_output_tokens_allocation", "usd_per_million_output_tokens_usage", "gpu_busy_ratio",
    "power_draw_watts",
)  # fmt: skip


def _per_resource(
    figures: Mapping[str, float | None], behind: _Behind | None, why: dict[str, str]
) -> dict[str, float | None]:
    if behind is None:
        why.update(dict.fromkeys(PER_RESOURCE, "gpus_of_server_unknown"))
        return dict.fromkeys(PER_RESOURCE)
    output, prompt = figures["output_tokens"], figures["prompt_tokens"]
    every = None if output is None or prompt is None else output + prompt
    sums, usd = behind.sums, behind.spent.total_usd
    busy = mean(sums, "busy_ratio")
    share = ratio(sums["energy_seconds"], sums["observed_seconds"]) or 0.0
    joules = sum(e.joules for e in behind.spent.used.energy.values())
    # Energy is known for a part of the time: as much as it would be for all of it.
    joules = joules / share if share else 0.0
    used_usd = None if usd is None or busy is None else usd * busy
    if usd is None:
        why.update(dict.fromkeys([n for n in PER_RESOURCE if "usd" in n], "no_price_is_known"))
    if not joules:
        why["output_tokens_per_joule"] = "power_unknown"
    for name in ("usd_per_million_tokens", "usd_per_million_output_tokens"):
        if output == 0:
            why.update(dict.fromkeys([f"{name}_allocation", f"{name}_usage"], "no_tokens_in_window"))
    return {
        "usd": usd,
        "output_tokens_per_gpu_second": ratio(output, sums["paid_seconds"]),
        "output_tokens_per_joule": ratio(output, joules or None),
        "output_tokens_per_usd": ratio(output, usd),
        "usd_per_million_tokens_allocation": _per_million(usd, every),
        "usd_per_million_tokens_usage": _per_million(used_usd, every),
        "usd_per_million_output_tokens_allocation": _per_million(usd, output),
        "usd_per_million_output_tokens_usage": _per_million(used_usd, output),
        "gpu_busy_ratio": busy,
        "power_draw_watts": mean(sums, "power_draw_watts"),
    }


def _per_million(usd: float | None, tokens: float | None) -> float | None:
    return None if usd is None or not tokens else usd / tokens * MILLION


ROOFLINE = ("mfu_ratio", "mbu_ratio", "attainable_output_tokens_per_second", "attained_ratio")


def _against_the_roofline(
    figures: Mapping[str, float | None], behind: _Behind | None, size: ModelSize | None, seconds: float,
    why: dict[str, str],
) -> dict[str, float | None]:  # fmt: skip
    """This will give model FLOPs and bandwidth utilisation, and what decoding could reach with the batch there was."""
    out: dict[str, float | None] = dict.fromkeys(ROOFLINE)
    if behind is None:
        why.update(dict.fromkeys(ROOFLINE, "gpus_of_server_unknown"))
        return out
    out["mbu_ratio"] = mean(behind.sums, "dram_active_ratio")
    if out["mbu_ratio"] is None:
        why["mbu_ratio"] = "gpm_missing"
    missing = (
        "gpu_not_in_the_catalogue" if behind.spec is None else "size_not_in_the_models_name" if size is None else ""
    )
    if behind.spec is None or size is None:
        why.update(dict.fromkeys([name for name in ROOFLINE if name != "mbu_ratio"], missing))
        return out
    output, prompt = figures["output_tokens"], figures["prompt_tokens"]
    peak = behind.spec.fp8_flops if size.bytes_per_parameter <= 1 and behind.spec.fp8_flops else behind.spec.bf16_flops
    gpu_seconds = behind.sums["paid_seconds"]
    if output is not None and prompt is not None and gpu_seconds:
        cached = prompt * (figures["cache_hit_ratio"] or 0.0)
        out["mfu_ratio"] = 2.0 * size.active_parameters * (output + prompt - cached) / (peak * gpu_seconds)
    batch, gpus = figures["requests_running"], len(behind.gpus)
    if batch and seconds:
        weights = size.parameters * size.bytes_per_parameter
        step = max(
            weights / (REACHED_BANDWIDTH * behind.spec.memory_bandwidth_bytes_per_second * gpus),
            2.0 * size.active_parameters * batch / (peak * gpus),
        )
        out["attainable_output_tokens_per_second"] = batch / step
        out["attained_ratio"] = ratio(figures["output_tokens_per_second"], batch / step)
    return out


def reading(figures: Mapping[str, float | None]) -> str | None:
    """This will say what the two bases of a token's cost mean together, or that nothing was delivered for the money."""
    allocation, usage = figures["usd_per_million_tokens_allocation"], figures["usd_per_million_tokens_usage"]
    if figures["output_tokens"] == 0 and figures["usd"]:
        return "paid for, and nothing was asked of it"
    if allocation is None or usage is None or not allocation:
        return None
    if usage / allocation < WAITS:
        return "the GPUs wait most of the time they are paid for: share them, or serve with fewer"
    return "the GPUs work most of the time: what a token costs is the model's and the engine's doing"
