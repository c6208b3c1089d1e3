"""What happens now, as one stream: newest samples of GPUs, changes of alerts, steps of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from control_plane.api import gpus, streams
from control_plane.api.answers import gpu_identity, sampled, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Name, NewestOfGpus, Parameters
from control_plane.api.resources import alerts as alert_events
from control_plane.api.resources.gpu import known_fields
from control_plane.model.errors import InvalidRequest
from control_plane.storage import alerts
from control_plane.storage.rollouts import RolloutStore

router = APIRouter(tags=["live"])

# What a page shows of every GPU of a fleet; others are asked for by name.
USUAL_FIELDS = ["gpu_utilization_ratio", "sm_active_ratio", "power_draw_watts", "memory_used_bytes"]
MOST_GPUS, MOST_CHANGES = 10_000, 500


class LiveQuestion(Parameters):
    """What to be told of, and how often."""

    topic: list[Literal["samples", "alerts", "rollouts"]] = Field(
        default_factory=list, max_length=3, description="may be repeated; default: all"
    )
    node: list[Name] = Field(default_factory=list, max_length=100, description="samples of these only; repeatable")
    field: list[Name] = Field(
        default_factory=list, max_length=64, description=f"of GPUs' samples; default: {', '.join(USUAL_FIELDS)}"
    )
    every_seconds: float = Field(2.0, ge=1.0, le=60.0, description="pause between two looks")


class _Samples:
    """GPUs whose newest sample is another than at the last look."""

    def __init__(self, context: ApiContext, asked: LiveQuestion) -> None:
        self._context = context
        self._asked = NewestOfGpus(node=asked.node, limit=MOST_GPUS)
        self._fields = known_fields(asked.field or USUAL_FIELDS)
        self._seen: dict[int, Any] = {}

    async def look(self) -> list[bytes]:
        found, _ = await gpus.latest(self._context, self._asked)
        now = self._context.clock.now()
        items = []
        for entity, reading in found:
            if reading is not None and self._seen.get(entity.entity_id) != reading.taken_at:
                self._seen[entity.entity_id] = reading.taken_at
                items.append(gpu_identity(entity) | sampled(reading, self._fields, now))
        return [streams.event("samples", {"items": items})] if items else []


@router.get(
    "/events",
    **operation(
        "events",
        "What happens now, as server-sent events",
        scope="read",
        rate="heavy",
        seconds=float("inf"),
        errors=(404, 422, 429, 503),
        media_type=streams.EVENT_STREAM,
        answer={"type": "string", "description": "events: samples, alert, rollout; `data` is JSON"},
    ),
)
async def events(asked: Annotated[LiveQuestion, Query()], request: Request, context: Context) -> Response:
    """`samples`: GPUs sampled since the last look, as `/gpu/metrics` shows them. `alert`: a change of an alert,
    as `/alerts` shows it. `rollout`: a note in a rollout's history. Send the last `id` as `Last-Event-ID` to miss no
    alert and no rollout; samples are in the history."""
    topics = asked.topic or ["samples", "alerts", "rollouts"]
    rollouts = RolloutStore(context.database.engine)
    alert_id, note_id = await _begin(request, context, rollouts)
    samples = _Samples(context, asked)
    if "samples" in topics:
        await gpus.latest(context, NewestOfGpus(node=asked.node, limit=1))  # refuses a node that is not there

    async def look() -> tuple[Sequence[bytes], bool]:
        nonlocal alert_id, note_id
        found: list[bytes] = await samples.look() if "samples" in topics else []
        changes = (
            await alerts.changes_after(context.database.engine, alert_id, MOST_CHANGES) if "alerts" in topics else []
        )
        for change in changes:
            alert_id = change.change_id
            found.append(
                streams.event("alert", alert_events.said_of(change, context.clock.now()), f"{alert_id}-{note_id}")
            )
        notes = await rollouts.notes_after(note_id, limit=MOST_CHANGES) if "rollouts" in topics else []
        for note_id, rollout_id, note in notes:
            said = {
                "rollout_id": rollout_id, "at": timestamp(note.at), "event": note.event, "state": note.state,
                "because": note.because, "details": note.details,
            }  # fmt: skip
            found.append(streams.event("rollout", said, f"{alert_id}-{note_id}"))
        return found, len(changes) == MOST_CHANGES or len(notes) == MOST_CHANGES

    return streams.stream(request, look, every_seconds=asked.every_seconds)


async def _begin(request: Request, context: ApiContext, rollouts: RolloutStore) -> tuple[int, int]:
    """This will give the alert's change and the rollout's note after which the stream goes on."""
    given = request.headers.get("last-event-id")
    if given is None:
        return await alerts.newest_change(context.database.engine), await rollouts.newest_note()
    change, dash, note = given.partition("-")
    if not (dash and change.isdecimal() and note.isdecimal() and len(given) < 38):
        raise InvalidRequest("Last-Event-ID is the id of an event that this stream sent")
    return int(change), int(note)
