"""What stages found out, kept by kind, window and subject."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.finding import Draft, Finding
from control_plane.storage.schema import finding
from control_plane.storage.session import SyncConnection

# One thing in many windows of a large fleet; beyond it something is wrong.
MOST = 100_000
STEP = "findings "


def replace(
    connection: SyncConnection, kind: str, window_seconds: int, drafts: Sequence[Draft], *,
    since: datetime, until: datetime, found_at: datetime,
) -> None:  # fmt: skip
    """This will keep what was found, in the order given, in place of all that was kept of this kind and window."""
    connection.execute("DELETE FROM finding WHERE kind = %s AND window_seconds = %s", (kind, window_seconds))
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY finding (kind, window_seconds, subject_kind, subject, place, node_id, since, until, found_at, body) "
            "FROM STDIN"
        ) as copy,
    ):
        for place, draft in enumerate(drafts[:MOST]):
            copy.write_row((
                kind, window_seconds, draft.subject_kind, draft.subject, place, draft.node_id, since, until, found_at,
                orjson.dumps(draft.body, _plain, orjson.OPT_PASSTHROUGH_DATETIME).decode(),
            ))  # fmt: skip


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no place in a finding")


def step_of(window: timedelta) -> str:
    """This will name the step of stage_progress that says until when a window was judged."""
    return f"{STEP}{window // timedelta(seconds=1)}"


async def read(
    engine: AsyncEngine, kind: str, window_seconds: int, subject_kind: str, *,
    node_ids: Sequence[int] | None = None, subjects: Sequence[str] | None = None, after: int = -1, limit: int = 1000,
) -> list[Finding]:  # fmt: skip
    """This will give findings of one kind, window and kind of subject, in their order; None means any."""
    query = (
        select(finding)
        .where(
            finding.c.kind == kind,
            finding.c.window_seconds == window_seconds,
            finding.c.subject_kind == subject_kind,
            finding.c.place > after,
        )
        .order_by(finding.c.place)
        .limit(limit)
    )
    if node_ids is not None:
        query = query.where(finding.c.node_id.in_(node_ids))
    if subjects is not None:
        query = query.where(finding.c.subject.in_(subjects))
    async with engine.connect() as connection:
        return [
            Finding(
                subject=row.subject, place=row.place, since=row.since, until=row.until, found_at=row.found_at,
                body=row.body,
            )
            for row in await connection.execute(query)
        ]  # fmt: skip


async def newest_of_all(engine: AsyncEngine) -> datetime | None:
    """This will say when anything was last found; None when nothing ever was."""
    async with engine.connect() as connection:
        found: datetime | None = await connection.scalar(select(func.max(finding.c.found_at)))
    return found
