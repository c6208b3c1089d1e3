"""Resource against performance: what goes up with what, from one five minutes to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from control_plane.analysis.findings.serving import PER_RESOURCE
from control_plane.analysis.trends.shape import Numbers
from control_plane.analysis.utilization.looks import Integers
from control_plane.model.finding import Draft
from control_plane.model.use import Cells, Owner
from control_plane.statistics.neighbours import alikeness

KIND = "correlation"
PERFORMANCE = ("ttft_seconds", "inter_token_seconds", "output_tokens_per_second")
LOAD = ("gpu_busy_ratio", "gpu_roofline_ratio", "kv_cache_usage_ratio", "requests_running", "requests_waiting")
FEWEST = 12
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationFacts:
    """Cells by slot of servers and of GPUs."""

    server_cells: Cells
    gpu_cells: Cells
    models: Mapping[int, str | None]
    owners: Mapping[int, Owner]
    starts_us: Integers
    bin_seconds: float


def drafts(facts: CorrelationFacts, serving: list[Draft]) -> list[Draft]:
    """This will say of each model what moves with what, beside what it delivered for its resources."""
    delivered = {draft.subject: draft.body for draft in serving if draft.subject_kind == "model"}
    out = []
    for model in sorted({m for m in facts.models.values() if m}):
        if model not in delivered:
            continue
        series = _series(facts, model)
        pairs = [
            pair
            for performance in PERFORMANCE
            for load in LOAD
            if (pair := correlated(series[load], series[performance], load, performance)) is not None
        ]
        pairs.sort(key=lambda pair: -abs(pair["rank_correlation"]))
        body = delivered[model]
        names = ("output_tokens_per_second", *PER_RESOURCE, "mfu_ratio", "mbu_ratio", "attained_ratio", "reading")
        out.append(
            Draft(
                kind=KIND, subject_kind="model", subject=model,
                body={
                    "model": model, "servers": body["servers"], "gpu_model": body["gpu_model"],
                    **{name: body[name] for name in names},
                    "pairs": pairs,
                    "unknown": {n: why for n, why in body["unknown"].items() if n in (*names, "gpu_model")},
                    "evidence": body["evidence"],
                },
            )
        )  # fmt: skip
    return out


def _series(facts: CorrelationFacts, model: str) -> Mapping[str, Numbers]:
    bins = len(facts.starts_us)
    servers, gpus = facts.server_cells, facts.gpu_cells
    mine = np.array([facts.models.get(int(s)) == model for s in servers.entity_ids], bool).reshape(len(servers))
    ours = np.array([facts.owners[int(o)].model == model for o in gpus.owner_ids], bool).reshape(len(gpus))

    def total(cells: Cells, rows: Any, name: str) -> Numbers:
        at = np.minimum(np.searchsorted(facts.starts_us, cells.starts_us[rows]), max(bins - 1, 0))
        weights = np.nan_to_num(cells.columns[name][rows])
        return np.asarray(np.bincount(at, weights=weights, minlength=bins), np.float64)

    def ratio(part: Numbers, whole: Numbers) -> Numbers:
        return np.asarray(np.divide(part, whole, out=np.full(bins, np.nan), where=whole > 0), np.float64)

    seconds = total(servers, mine, "load_seconds")
    return {
        "ttft_seconds": ratio(total(servers, mine, "ttft_seconds_sum"), total(servers, mine, "ttft_count")),
        "inter_token_seconds": ratio(
            total(servers, mine, "inter_token_seconds_sum"), total(servers, mine, "inter_token_count")
        ),
        "output_tokens_per_second": ratio(
            total(servers, mine, "output_tokens"),
            np.where(total(servers, mine, "counted_seconds") > 0, facts.bin_seconds, 0.0),
        ),
        "gpu_busy_ratio": ratio(total(gpus, ours, "busy_ratio_sum"), total(gpus, ours, "busy_ratio_seconds")),
        "gpu_roofline_ratio": ratio(
            total(gpus, ours, "roofline_ratio_sum"), total(gpus, ours, "roofline_ratio_seconds")
        ),
        "kv_cache_usage_ratio": ratio(total(servers, mine, "kv_cache_usage_sum"), seconds),
        "requests_running": ratio(total(servers, mine, "requests_running_sum"), seconds),
        "requests_waiting": ratio(total(servers, mine, "requests_waiting_sum"), seconds),
    }


def correlated(load: Numbers, performance: Numbers, load_name: str, performance_name: str) -> dict[str, Any] | None:
    """This will give Spearman's rank correlation with its interval (Fisher's z); None when too little is known."""
    known = ~np.isnan(load) & ~np.isnan(performance)
    n = int(known.sum())
    if n < FEWEST:
        return None
    x, y = _ranks(load[known]), _ranks(performance[known])
    if x.std() == 0 or y.std() == 0:
        return None
    value = float(np.corrcoef(x, y)[0, 1])
    # Neighbours are alike: fewer of them are evidence of their own.
    alike = alikeness(x - x.mean()) * alikeness(y - y.mean())
    independent = max(4.0, n * (1 - alike) / (1 + alike))
    z, spread = np.arctanh(np.clip(value, -0.9999, 0.9999)), NormalDist().inv_cdf((1 + LEVEL) / 2)
    half = spread * np.sqrt(1.06 / max(independent - 3, 1.0))
    low, high = float(np.tanh(z - half)), float(np.tanh(z + half))
    return {
        "load": load_name,
        "performance": performance_name,
        "rank_correlation": round(value, 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "level": LEVEL,
        "is_clear": low > 0 or high < 0,
        "bins": n,
        "load_mean": float(f"{load[known].mean():.4g}"),
        "performance_mean": float(f"{performance[known].mean():.4g}"),
    }


def _ranks(values: Numbers) -> Numbers:
    """This will rank, ties by their mean rank."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values), dtype=np.float64)
    _, group = np.unique(values, return_inverse=True)
    sums = np.bincount(group, weights=ranks)
    return np.asarray((sums / np.bincount(group))[group], np.float64)
