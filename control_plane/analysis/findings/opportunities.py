"""What could be had for the same money, ranked by what it would save, each with what it would cost to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from control_plane.analysis.findings.gpu_use import Gpu
from control_plane.analysis.findings.remedies import RULES, Rule
from control_plane.analysis.trends.shape import Numbers
from control_plane.analysis.utilization.looks import Integers
from control_plane.model.finding import Draft
from control_plane.model.price import Price, PriceBook
from control_plane.model.use import Cause, Cells, Owner
from control_plane.statistics.neighbours import alikeness

KIND = "opportunity"
HOURS_A_MONTH = 730.0
SECONDS_PER_HOUR = 3600.0
# Less than this is not worth a person's reading.
LEAST_USD_A_MONTH, LEAST_SHARE = 1.0, 0.02
LEVEL = 0.95
OVERLAPPING = "serve_with_fewer"  # what it saves is in the others too


@dataclass(frozen=True, slots=True, kw_only=True)
class OpportunityFacts:
    """Cells of GPUs by bins of one width, and what is needed to name and price them."""

    cells: Cells
    gpus: Mapping[int, Gpu]
    owners: Mapping[int, Owner]
    servers: Mapping[int, str]
    book: PriceBook
    starts_us: Integers
    bin_seconds: float
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Who the waste is laid to."""

    kind: str  # server, pod, node
    name: str
    node: str


def drafts(facts: OpportunityFacts, serving: Sequence[Draft] = ()) -> list[Draft]:
    """This will rank what could be saved; ties by name. `serving` is what was found of models and servers."""
    found = [*_by_rules(facts), *_fewer_servers(facts, serving)]
    found.sort(key=_value)
    return [
        Draft(kind=KIND, subject_kind="fleet", subject=_subject(body), body={"rank": rank, **body})
        for rank, body in enumerate(found, start=1)
    ]


def _subject(body: Mapping[str, Any]) -> str:
    return f"{body['kind']}:{body['about']['kind']}:{body['about']['name']}"


def _value(body: Mapping[str, Any]) -> tuple[float, float, str]:
    saving = body["saving"]
    return -(saving["usd_per_month"] or 0.0), -saving["gpu_hours_per_month"], body["title"] + body["about"]["name"]


def _by_rules(facts: OpportunityFacts) -> list[dict[str, Any]]:
    cells, bins = facts.cells, len(facts.starts_us)
    if not len(cells) or not bins:
        return []
    # A row is one GPU and owner in one bin; there are few pairs of GPU and owner.
    pair = cells.entity_ids * (int(cells.owner_ids.max()) + 1) + cells.owner_ids
    _, first, of_pair = np.unique(pair, return_index=True, return_inverse=True)
    gpus = [facts.gpus.get(int(cells.entity_ids[row])) for row in first]
    owners = [facts.owners[int(cells.owner_ids[row])] for row in first]
    prices = [facts.book.price_of(node=g.node, gpu_name=g.name) if g is not None else None for g in gpus]
    per_hour = np.array([np.nan if p is None else p.usd_per_gpu_hour for p in prices])[of_pair]
    at_bin = np.minimum(np.searchsorted(facts.starts_us, cells.starts_us), bins - 1)
    groupings = {
        nobody: _Grouping.of([_group(facts, g, None if nobody else o) for g, o in zip(gpus, owners, strict=True)])
        for nobody in (False, True)
    }
    out = []
    for rule in RULES:
        # What nobody has is nobody's: whoever had the GPU for the rest of the five minutes is not to blame.
        grouping = groupings[rule.cause is Cause.UNALLOCATED]
        flat, shape = grouping.at[of_pair] * bins + at_bin, (len(grouping.groups), bins)

        def added(values: Numbers, flat: Integers = flat, shape: tuple[int, int] = shape) -> Numbers:
            return np.bincount(flat, weights=values, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)

        seconds = cells.columns[f"use_{rule.cause}_seconds"]
        paid, observed = added(cells.columns["paid_seconds"]), added(cells.columns["observed_seconds"])
        lost, usd = added(seconds), added(np.nan_to_num(seconds * per_hour) / SECONDS_PER_HOUR)
        anything = paid.sum(axis=0) > 0
        for place, group in enumerate(grouping.groups):
            pairs = np.flatnonzero(grouping.at == place)
            known = Lost(
                paid=paid[place], observed=observed[place], lost=lost[place], usd=usd[place],
                price=_price([prices[number] for number in pairs]),
                since_it_came=_since_first(paid[place] > 0, anything),
            )  # fmt: skip
            if known.paid.sum() > 0 and known.lost.sum() >= LEAST_SHARE * known.paid.sum():
                gpu_ids = sorted({int(cells.entity_ids[first[number]]) for number in pairs})
                body = _body(facts, rule, group, known, gpu_ids)
                if body is not None:
                    out.append(body)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grouping:
    """Who each pair of GPU and owner is laid to."""

    groups: Sequence[_Group]
    at: Integers  # by pair, place in `groups`

    @classmethod
    def of(cls, every: Sequence[_Group]) -> _Grouping:
        places: dict[_Group, int] = {}
        at = np.array([places.setdefault(group, len(places)) for group in every], np.int64)
        return cls(groups=list(places), at=at)


def _since_first(there: npt.NDArray[np.bool_], anything: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """This will mark the bins from the first in which a group was there, as far as anything is known in them.

    What came yesterday is counted by what it did since. What comes and goes loses nothing while others have its GPUs.
    """
    return np.asarray(np.logical_or.accumulate(there) & anything)


def _price(mine: Sequence[Price | None]) -> Price | None:
    return None if None in mine else mine[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What a group lost to one cause, by bins."""

    paid: Numbers
    observed: Numbers
    lost: Numbers
    usd: Numbers
    price: Price | None
    since_it_came: npt.NDArray[np.bool_]


def _group(facts: OpportunityFacts, gpu: Gpu | None, owner: Owner | None) -> _Group:
    node = gpu.node if gpu is not None else "(unknown)"
    if owner is None:
        return _Group(kind="node", name=node, node=node)
    if owner.server_id is not None:
        return _Group(kind="server", name=facts.servers.get(owner.server_id, str(owner.server_id)), node=node)
    if owner.pod is not None:
        return _Group(kind="pod", name=f"{owner.namespace}/{owner.pod}", node=node)
    return _Group(kind="node", name=node, node=node)


def _body(
    facts: OpportunityFacts, rule: Rule, group: _Group, known: Lost, gpu_ids: Sequence[int]
) -> dict[str, Any] | None:
    there = known.since_it_came
    hours_per_hour = interval(known.lost[there] / SECONDS_PER_HOUR * (SECONDS_PER_HOUR / facts.bin_seconds))
    usd_per_hour = interval(known.usd[there] * (SECONDS_PER_HOUR / facts.bin_seconds))
    saving_hours = _months(hours_per_hour, rule)
    saving_usd = _months(usd_per_hour, rule) if known.price is not None else (None, None, None)
    if saving_usd[1] is not None and saving_usd[1] < LEAST_USD_A_MONTH:
        return None
    gpus = [facts.gpus[gpu_id] for gpu_id in gpu_ids if gpu_id in facts.gpus]
    unknown = (
        {}
        if known.price is not None
        else dict.fromkeys(("usd_per_month", "usd_per_month_low", "usd_per_month_high"), "no_price_is_known")
    )
    return {
        "kind": rule.kind,
        "title": rule.title,
        "about": {"kind": group.kind, "name": group.name, "node": group.node, "gpus": [gpu.key for gpu in gpus][:16]},
        "cause": rule.cause,
        "saving": {
            "usd_per_month": saving_usd[1], "usd_per_month_low": saving_usd[0], "usd_per_month_high": saving_usd[2],
            "gpu_hours_per_month": saving_hours[1] or 0.0, "gpu_hours_per_month_low": saving_hours[0],
            "gpu_hours_per_month_high": saving_hours[2], "unknown": unknown,
        },
        "remedy": rule.remedy,
        "to_do": rule.to_do,
        "effort": rule.effort,
        "confidence": _confidence(facts, known, int((known.paid > 0).sum())),
        "evidence": {
            "series": ["gpu_utilization_ratio", "graphics_active_ratio", "sm_active_ratio", "memory_used_bytes",
                       "requests_running_count"],
            "since": facts.since,
            "until": facts.until,
            "numbers": {
                "lost_gpu_hours": round(float(known.lost.sum()) / SECONDS_PER_HOUR, 4),
                "paid_gpu_hours": round(float(known.paid.sum()) / SECONDS_PER_HOUR, 4),
                "recoverable_ratio": list(rule.recoverable),
                "usd_per_gpu_hour": None if known.price is None else known.price.usd_per_gpu_hour,
                "unknown": {} if known.price is not None else {"usd_per_gpu_hour": "no_price_is_known"},
            },
        },
    }  # fmt: skip


def _months(per_hour: tuple[float, float, float], rule: Rule) -> tuple[float | None, float | None, float | None]:
    low, middle, high = (value * share * HOURS_A_MONTH for value, share in zip(per_hour, rule.recoverable, strict=True))
    return round(low, 2), round(middle, 2), round(high, 2)


def interval(values: Numbers) -> tuple[float, float, float]:
    """This will give the mean of neighbouring bins and its interval at LEVEL, never below zero.

    Neighbours are alike: fewer of them are evidence of their own.
    """
    n = len(values)
    if n == 0:
        return 0.0, 0.0, 0.0
    middle = float(values.mean())
    rest = values - middle
    whole = float((rest**2).sum())
    if n < 3 or whole <= 1e-12 * max(middle * middle, 1e-12) * n:
        return middle, middle, middle
    alike = alikeness(rest)
    independent = max(2.0, n * (1 - alike) / (1 + alike))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * float(np.sqrt(whole / (n - 1) / independent))
    return max(0.0, middle - half), middle, middle + half


def _confidence(facts: OpportunityFacts, known: Lost, bins: int) -> dict[str, Any]:
    seen = float(known.observed.sum()) / float(known.paid.sum())
    hours = bins * facts.bin_seconds / SECONDS_PER_HOUR
    because = []
    if hours < 24:
        because.append(f"only {hours:.1f} hours of it are known")
    if seen < 0.9:
        because.append(f"samples cover {seen:.0%} of them")
    if known.price is not None and known.price.basis not in ("entered", "node"):
        because.append("the price is a list price")
    level = "low" if hours < 6 or seen < 0.5 else "medium" if because else "high"
    return {"level": level, "because": because}


def _fewer_servers(facts: OpportunityFacts, serving: Sequence[Draft]) -> list[dict[str, Any]]:
    """This will name models that one server fewer could serve: its load is laid on the others, and they must hold."""
    out = []
    for draft in serving:
        body = draft.body
        n, usd = body["servers"], body.get("usd")
        usage, busy, waiting = body["kv_cache_usage_ratio"], body["gpu_busy_ratio"], body["requests_waiting"]
        if draft.subject_kind != "model" or n < 2 or usage is None or busy is None or usd is None:
            continue
        more = n / (n - 1)
        if usage * more > 0.7 or busy * more > 0.7 or (waiting or 0.0) >= 0.1:
            continue
        hours = body["evidence"]["numbers"]["gpu_seconds"] / SECONDS_PER_HOUR
        window_hours = (facts.until - facts.since).total_seconds() / SECONDS_PER_HOUR
        month = HOURS_A_MONTH / window_hours
        out.append({
            "kind": OVERLAPPING,
            "title": "Serve a model with one server fewer",
            "about": {"kind": "model", "name": draft.subject, "node": "", "gpus": body["gpus"][:16]},
            "cause": Cause.MEMORY_HELD,
            "saving": {
                "usd_per_month": round(usd / n * month, 2), "usd_per_month_low": round(0.5 * usd / n * month, 2),
                "usd_per_month_high": round(usd / n * month, 2),
                "gpu_hours_per_month": round(hours / n * month, 2),
                "gpu_hours_per_month_low": round(0.5 * hours / n * month, 2),
                "gpu_hours_per_month_high": round(hours / n * month, 2), "unknown": {},
            },
            "remedy": "take one server away and watch the others' queue and latency; mean use of the KV cache would be "
            f"{usage * more:.0%} and of the GPUs' time {busy * more:.0%}",
            "to_do": "its warm cache is lost; 2 to 7 minutes to come back. It overlaps with what its idle GPUs lose",
            "effort": "low",
            "confidence": {"level": "low", "because": ["means of the window: a peak may need it"]},
            "evidence": {**body["evidence"], "numbers": {
                **body["evidence"]["numbers"], "servers": n, "kv_cache_usage_ratio": usage, "gpu_busy_ratio": busy,
            }},
        })  # fmt: skip
    return out
