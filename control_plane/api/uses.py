"""What every question about use and waste needs: what was found of a window, kept ready or added up now."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from control_plane.analysis.findings import gpu_use
from control_plane.analysis.findings.gpu_use import Gpu, UseFacts
from control_plane.api import scope
from control_plane.api.answers import timestamp
from control_plane.api.context import ApiContext
from control_plane.api.parameters import OfUse, decode_cursor, parse_duration, window
from control_plane.api.schemas import TEXT, TIME
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.errors import InvalidRequest
from control_plane.model.finding import USUAL_WINDOW, WINDOWS, Finding
from control_plane.model.labels import pool_of
from control_plane.model.use import Owner
from control_plane.storage import findings, moments, prices, readings, use
from control_plane.storage.readings import Selection

# A fleet of more GPUs than this is asked about in parts.
MOST_GPUS = 20_000

WINDOW_SCHEMA: dict[str, Any] = {
    "since": TIME,
    "until": TIME,
    "found_at": TIME,
    "made_from": {"enum": ["kept", "added_up"], "description": "found on schedule, or added up for this question"},
    "note": {"type": ["string", "null"]},
    "by": TEXT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found, and of when."""

    found: Sequence[Finding]
    more: bool
    since: datetime | None
    until: datetime | None
    found_at: datetime | None
    made_from: str

    @property
    def note(self) -> str | None:
        """This will say why there is nothing."""
        if self.until is None:
            return "nothing is summed up yet: the first five minutes are, a minute or two after they end"
        return None

    def around(self) -> dict[str, Any]:
        """This will give what stands beside the items."""
        shown = {"since": self.since, "until": self.until, "found_at": self.found_at}
        return {
            **{name: None if moment is None else timestamp(moment) for name, moment in shown.items()},
            "made_from": self.made_from,
            "note": self.note,
            "unknown": {name: "nothing_summed_up_yet" for name, moment in shown.items() if moment is None},
        }


def kept_window(asked: OfUse) -> timedelta | None:
    """This will give the window that is asked for if it is one of those that are kept ready."""
    if asked.until is not None:
        return None
    if asked.since is None:
        return USUAL_WINDOW
    try:
        length = parse_duration(asked.since)
    except ValueError:
        return None
    return length if length in WINDOWS else None


def is_narrowed(asked: OfUse) -> bool:
    """This will say whether only some of what there is is asked about."""
    return any((
        asked.node, asked.gpu, asked.server, asked.model, asked.namespace, asked.pod, asked.pool, asked.label,
    ))  # fmt: skip


async def answer(context: ApiContext, asked: OfUse, *, by: str | None = None, limit: int | None = None) -> Answer:
    """This will give what was found of the asked window, one page of it. Raises UnknownResource, InvalidRequest."""
    by, limit = by or asked.by, limit or asked.limit
    after = decode_cursor(asked.cursor, "after") - 1 if asked.cursor else -1
    length = kept_window(asked)
    if length is not None and not is_narrowed(asked):
        found = await findings.read(
            context.database.engine, gpu_use.KIND, length // timedelta(seconds=1), by, after=after, limit=limit + 1
        )
        if found:
            first = found[0]
            return Answer(
                found=found[:limit], more=len(found) > limit, since=first.since, until=first.until,
                found_at=first.found_at, made_from="kept",
            )  # fmt: skip
    return await _added_up(context, asked, by, after=after, limit=limit)


async def _added_up(context: ApiContext, asked: OfUse, by: str, *, after: int, limit: int) -> Answer:
    now = context.clock.now()
    span = window(asked, now, USUAL_WINDOW)
    come = await use.summed_up_until(context.database.engine)
    nothing = Answer(found=[], more=False, since=None, until=None, found_at=None, made_from="added_up")
    chosen = await _chosen(context, asked)  # names that do not exist are refused, whatever there is of the others
    if come is None:
        return nothing
    since_us = moments.to_us(span.since) // use.SLOT_US * use.SLOT_US
    until_us = min(moments.to_us(span.until) // use.SLOT_US * use.SLOT_US, come)
    if until_us <= since_us:
        if asked.since is None and asked.until is None:
            return nothing
        raise InvalidRequest(
            "use is summed up by five minutes of the clock, a minute or two after they end: ask for a longer window"
        )
    facts = await _facts(context, since_us, until_us, chosen)
    drafts = await asyncio.to_thread(gpu_use.drafts, facts, of=[by])
    drafts = drafts if len(facts.cells) else []
    page = [
        Finding(subject=d.subject, place=place, since=facts.since, until=facts.until, found_at=now, body=d.body)
        for place, d in enumerate(drafts)
        if place > after
    ]
    return Answer(
        found=page[:limit], more=len(page) > limit, since=facts.since, until=facts.until, found_at=now,
        made_from="added_up",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    gpus: Sequence[Entity]
    server_ids: Sequence[int] | None
    models: Sequence[str]
    namespaces: Sequence[str]
    pods: Sequence[str]
    pools: Sequence[str]
    labels: Collection[tuple[str, str]]

    def takes(self, owner: Owner) -> bool:
        return (
            (self.server_ids is None or owner.server_id in self.server_ids)
            and (not self.models or owner.model in self.models)
            and (not self.namespaces or owner.namespace in self.namespaces)
            and (not self.pods or owner.pod in self.pods)
            and (not self.pools or pool_of(owner.labels) in self.pools)
            and all(label in owner.labels for label in self.labels)
        )


async def _chosen(context: ApiContext, asked: OfUse) -> _Chosen:
    selection = Selection(
        kind=EntityKind.GPU, node_ids=await scope.node_ids(context, asked.node), keys=asked.gpu or None
    )
    await scope.known_gpus(context, asked.gpu)
    return _Chosen(
        gpus=await readings.select_entities(context.database.engine, selection, MOST_GPUS),
        server_ids=await scope.server_ids(context, asked.server),
        models=asked.model, namespaces=asked.namespace, pods=asked.pod, pools=asked.pool,
        labels=[(key, value) for key, _, value in (label.partition("=") for label in asked.label)],
    )  # fmt: skip


async def _facts(context: ApiContext, since_us: int, until_us: int, chosen: _Chosen) -> UseFacts:
    engine = context.database.engine
    come = await use.summed_up_until(engine) or 0
    held = await prices.read_history(engine)
    ids, found = [gpu.entity_id for gpu in chosen.gpus], []
    changes = held.changes(moments.to_datetime(since_us), moments.to_datetime(until_us))
    for begin, end in use.cut(since_us, until_us, changes):
        parts = use.parts(begin, end, hours_until_us=come // use.HOUR_US * use.HOUR_US)
        found.append(use.starting(await use.total_of(engine, "gpu", parts, entity_ids=ids), begin))
    cells = use.joined(found)
    owners = await use.owners_of(engine)
    mine = np.array([chosen.takes(owners[int(owner_id)]) for owner_id in cells.owner_ids], bool).reshape(len(cells))
    servers = await readings.select_entities(engine, Selection(kind=EntityKind.INFERENCE_SERVER), scope.MOST_NAMESAKES)
    return UseFacts(
        cells=cells.taken(mine),
        gpus={gpu.entity_id: named(gpu) for gpu in chosen.gpus},
        owners=owners,
        servers={server.entity_id: f"{server.key} on {server.node_name}" for server in servers},
        prices=held,
        since=moments.to_datetime(since_us),
        until=moments.to_datetime(until_us),
    )  # fmt: skip


def named(gpu: Entity) -> Gpu:
    """This will name a GPU as findings do."""
    index, name = gpu.attributes.get("index"), gpu.attributes.get("name")
    return Gpu(
        entity_id=gpu.entity_id, key=gpu.key, node_id=gpu.node_id, node=gpu.node_name,
        index=index if isinstance(index, int) else None, name=name if isinstance(name, str) else None,
    )  # fmt: skip
