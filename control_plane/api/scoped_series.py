"""Histories of nodes and of the whole fleet: what all their GPUs say together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from fastapi import Response

from control_plane.api import scope
from control_plane.api.answers import page
from control_plane.api.context import ApiContext
from control_plane.api.parameters import GpuHistory, decode_cursor, step_of, window
from control_plane.api.points import Series, starts
from control_plane.api.series import DEFAULT_WINDOW, bound, described, kept, scalar_fields
from control_plane.model.entity import EntityKind
from control_plane.model.errors import InvalidRequest
from control_plane.storage import history_plans, nodes, rolled_histories
from control_plane.storage.history_plans import Plan
from control_plane.storage.rollups.fields import FLEET, NODE, has_scopes, scoped
from control_plane.storage.rollups.marks import FLEET_ID

# Nodes of one answer; the bound on its points usually comes first.
MOST_NODES = 1_000


async def by_node(context: ApiContext, asked: GpuHistory) -> Response:
    """This will answer a history of nodes: for each of them and each field, a point for each step."""
    if asked.gpu:
        raise InvalidRequest("by=node is about all GPUs of a node; leave gpu out, or ask by=gpu")
    wanted = await scope.node_ids(context, asked.node)
    found = await nodes.with_entities(
        context.database.engine, EntityKind.GPU,
        node_ids=wanted, after=decode_cursor(asked.cursor, "after"), limit=MOST_NODES + 1,
    )  # fmt: skip
    shown = found[:MOST_NODES]
    planned, made = await _made(context, asked, NODE, [node_id for node_id, _ in shown])
    return page(
        [{"node": name, "field": field, "points": series.points(node_id)}
         for field, series in made for node_id, name in shown],
        more=len(found) > MOST_NODES,
        last_id=shown[-1][0] if shown else 0,
        **described(planned),
    )  # fmt: skip


async def by_fleet(context: ApiContext, asked: GpuHistory) -> Response:
    """This will answer a history of the fleet."""
    if asked.gpu or asked.node:
        raise InvalidRequest("by=fleet is about all GPUs of all nodes; leave gpu and node out, or ask by=node")
    planned, made = await _made(context, asked, FLEET, [FLEET_ID])
    items = [{"field": field, "points": series.points(FLEET_ID)} for field, series in made]
    return page(items, more=False, last_id=0, **described(planned))


async def _made(
    context: ApiContext, asked: GpuHistory, of: str, ids: Sequence[int]
) -> tuple[Plan, list[tuple[str, Series]]]:
    homes = scalar_fields("gpu", asked.field)
    for _, field in homes:
        if not has_scopes(field):
            raise InvalidRequest(f"{field.name} is a state, which many GPUs have none of together; ask by=gpu")
    planned = await _plan(context, asked)
    bound(planned, entities=len(ids), fields=len(homes))
    found = await rolled_histories.steps(
        context.database.engine, context.dictionaries, [(scoped(table, of), field) for table, field in homes], ids,
        planned, with_tail=False,
    )  # fmt: skip
    at = starts(planned)
    return planned, [(field.name, Series(field, steps, at)) for (_, field), steps in zip(homes, found, strict=True)]


async def _plan(context: ApiContext, asked: GpuHistory) -> Plan:
    """This will plan an answer out of rollups, up to where they have come: the newest minute is never half a fleet."""
    now = context.clock.now()
    span = window(asked, now, DEFAULT_WINDOW)
    come = await rolled_histories.rolled_until(context.database.engine)
    until = span.until if come is None else min(span.until, come)
    return history_plans.rolled_plan(
        min(span.since, until - timedelta(minutes=1)), until, step_of(asked, span),
        step_was_asked=asked.step is not None, kept=kept(context, now),
    )  # fmt: skip
