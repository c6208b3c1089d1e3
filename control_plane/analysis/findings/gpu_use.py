"""What is found out about the use of GPUs in a window: of the fleet, and by whatever may be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.analysis.findings.figures import (
    Priced,
    classes_of,
    confidence_of,
    hours,
    means_of,
    money_of,
    used_of,
)
from control_plane.analysis.findings.grouping import Sums, grouped
from control_plane.analysis.waste import money
from control_plane.analysis.waste.money import Spent
from control_plane.model.finding import Draft
from control_plane.model.labels import pool_of
from control_plane.model.price import PriceHistory
from control_plane.model.use import GPU_USE, Cells, Owner

KIND = "gpu_use"
FLEET = "fleet"
# Of what has no name, such as GPUs that no server uses.
NONE = "(none)"
LABEL = "label:"  # and a key: by what the nodes are labelled
# So many keys are found on schedule; others are added up when they are asked for.
MOST_LABEL_KEYS = 16
# What it is all made of; a reader can ask for each of them.
SERIES = (
    "gpu_utilization_ratio", "graphics_active_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio",
    "memory_used_bytes", "power_draw_watts", "energy_joules_total", "requests_running_count",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as answers name it."""

    entity_id: int
    key: str
    node_id: int
    node: str
    index: int | None
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UseFacts:
    """All that a window's use is judged from."""

    cells: Cells  # by GPU and owner; where prices changed within the window, by the start of the part too
    gpus: Mapping[int, Gpu]
    owners: Mapping[int, Owner]
    servers: Mapping[int, str]  # id → its URL and node, for a reader
    prices: PriceHistory
    since: datetime
    until: datetime


def moment(unix_us: int) -> datetime:
    """This will turn microseconds since 1970 into an aware time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=unix_us)


def identity(gpu: Gpu) -> dict[str, Any]:
    """This will name a GPU."""
    return {"gpu": gpu.key, "node": gpu.node, "index": gpu.index, "name": gpu.name}


def drafts(facts: UseFacts, *, of: Sequence[str] | None = None) -> list[Draft]:
    """This will judge a window's use, of the groups `of` (all when None): fleet, node, …, label:KEY."""
    known = [place for place, gpu_id in enumerate(facts.cells.entity_ids) if int(gpu_id) in facts.gpus]
    of_row = [(facts.gpus[int(facts.cells.entity_ids[p])], facts.owners[int(facts.cells.owner_ids[p])]) for p in known]
    cells = facts.cells.taken(known)
    if of is None:
        keys = sorted({key for _, owner in of_row for key, _ in owner.labels})[:MOST_LABEL_KEYS]
        of = [*_GROUPS, *(f"{LABEL}{key}" for key in keys)]
    return [draft for kind in of for draft in _drafts(facts, cells, of_row, kind, _key_of(kind))]


Row = tuple[Gpu, Owner]
_GROUPS: Mapping[str, Callable[[Row], str]] = {
    FLEET: lambda row: FLEET,
    "node": lambda row: str(row[0].node_id),
    "gpu": lambda row: str(row[0].entity_id),
    "server": lambda row: str(row[1].server_id or NONE),
    "model": lambda row: row[1].model or NONE,
    "namespace": lambda row: row[1].namespace or NONE,
    "gpu_model": lambda row: row[0].name or NONE,
    "pool": lambda row: pool_of(row[1].labels) or NONE,
}


def _key_of(kind: str) -> Callable[[Row], str]:
    if kind.startswith(LABEL):
        key = kind.removeprefix(LABEL)
        return lambda row: dict(row[1].labels).get(key, NONE)
    return _GROUPS[kind]


def _drafts(
    facts: UseFacts, cells: Cells, of_row: Sequence[Row], kind: str, key_of: Callable[[Row], str]
) -> list[Draft]:
    keys = [key_of(row) for row in of_row]
    # Within a group, GPUs of one price are one.
    priced = [
        (key, gpu.node, gpu.name, int(start))
        for key, (gpu, _), start in zip(keys, of_row, cells.starts_us, strict=True)
    ]
    by_price = grouped(cells, priced)
    whole = grouped(cells, keys)
    if kind == FLEET and not whole:
        whole = {FLEET: dict.fromkeys(GPU_USE, 0.0)}
    members: dict[str, dict[int, Gpu]] = {}
    for key, (gpu, _) in zip(keys, of_row, strict=True):
        members.setdefault(key, {})[gpu.entity_id] = gpu
    parts: dict[str, list[tuple[Spent, Priced]]] = {}
    for (key, node, name, start_us), sums in by_price.items():
        book = facts.prices.at(moment(start_us))
        price, used = book.price_of(node=node, gpu_name=name), used_of(sums)
        spent = money.spent(used, price, usd_per_kwh=book.usd_per_kwh)
        one = Priced(price=price, gpu_name=name, seconds=used.paid_seconds)
        parts.setdefault(key, []).append((spent, one))
    out = []
    for key, sums in whole.items():
        gpus, mine = list(members.get(key, {}).values()), parts.get(key, [])
        prices = _merged([one for _, one in mine])
        body = {"gpus": len(gpus)} | body_of(sums, money.total(spent for spent, _ in mine), prices, facts)
        node_id = gpus[0].node_id if kind in ("node", "gpu") else None
        named = _named(kind, key, gpus, facts)
        out.append(Draft(kind=KIND, subject_kind=kind, subject=key, body=named | body, node_id=node_id))
    return sorted(out, key=lambda draft: _place(kind, draft))


def _place(kind: str, draft: Draft) -> tuple[float, str]:
    # GPUs in the order of their ids, as every list of them; groups by what they cost.
    if kind == "gpu":
        return (float(draft.subject), "")
    return (-float(draft.body["paid_gpu_hours"]), draft.subject)


def _merged(prices: Sequence[Priced]) -> list[Priced]:
    """This will name each price once."""
    out: dict[tuple[Any, str | None], Priced] = {}
    for one in prices:
        before = out.get((one.price, one.gpu_name))
        seconds = one.seconds + (before.seconds if before else 0.0)
        out[one.price, one.gpu_name] = Priced(price=one.price, gpu_name=one.gpu_name, seconds=seconds)
    return sorted(out.values(), key=lambda one: -one.seconds)


def _named(kind: str, key: str, gpus: Sequence[Gpu], facts: UseFacts) -> dict[str, Any]:
    if kind == "gpu":
        return identity(gpus[0])
    if kind == "node":
        return {"node": gpus[0].node}
    if kind == "server":
        return {"server": facts.servers.get(int(key), key) if key.isdecimal() else key}
    if kind.startswith(LABEL):
        return {"label": f"{kind.removeprefix(LABEL)}={key}"}
    return {kind: key}


def body_of(sums: Sums, spent: Spent, prices: Sequence[Priced], facts: UseFacts) -> dict[str, Any]:
    """This will give everything that is said of one group."""
    means, paid = means_of(sums), money_of(spent, prices)
    return {
        **means,
        **paid,
        "unknown": means["unknown"] | paid["unknown"],
        "paid_gpu_hours": hours(sums["paid_seconds"]),
        "observed_gpu_hours": hours(sums["observed_seconds"]),
        "classes": classes_of(spent),
        "confidence": confidence_of(means, prices),
        "evidence": {
            "series": list(SERIES),
            "since": facts.since,
            "until": facts.until,
            "numbers": {
                "observed_gpu_seconds": round(sums["observed_seconds"], 1),
                "energy_known_gpu_seconds": round(sums["energy_seconds"], 1),
            },
        },
    }
