"""The tables of objectives, as schema.py has the others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Identity, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.storage.schema import TIMESTAMPTZ, metadata


def _slo_id(*, is_key: bool = True) -> Column[int]:
    return Column(
        "slo_id", Integer, ForeignKey("slo.slo_id", ondelete="CASCADE"), primary_key=is_key, nullable=False,
        autoincrement=False,
    )  # fmt: skip


def _events() -> list[Column[float]]:
    return [Column(name, Double, nullable=False) for name in ("good", "bad", "doubtful")]


slo = Table(
    "slo",
    metadata,
    Column("slo_id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("definition", JSONB, nullable=False),
    Column("created_at", TIMESTAMPTZ, nullable=False),
    Column("changed_at", TIMESTAMPTZ, nullable=False),
    Column("counted_since", TIMESTAMPTZ, nullable=False),
    Column("history_since", TIMESTAMPTZ),
)

slo_progress = Table(
    "slo_progress",
    metadata,
    Column("entity_id", Integer, ForeignKey("entity.entity_id", ondelete="CASCADE"), primary_key=True),
    Column("seen_at", TIMESTAMPTZ, nullable=False),
)

COUNTS = {
    name: Table(name, metadata, _slo_id(), Column("start", TIMESTAMPTZ, primary_key=True), *_events())
    for name in ("slo_minute", "slo_hour")
}

slo_server_hour = Table(
    "slo_server_hour",
    metadata,
    _slo_id(),
    Column(
        "entity_id", Integer, ForeignKey("entity.entity_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("start", TIMESTAMPTZ, primary_key=True),
    *_events(),
)

slo_judgement = Table(
    "slo_judgement",
    metadata,
    _slo_id(),
    Column("entity_id", Integer, primary_key=True, autoincrement=False),
    Column("judged_at", TIMESTAMPTZ, nullable=False),
    Column("since", TIMESTAMPTZ),
    Column("events", Double, nullable=False),
    Column("bad", Double, nullable=False),
    Column("bad_share", Double),
    Column("evidence", Double, nullable=False),
    Column("tolerated_share", Double, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("because", Text, nullable=False),
    Column("unknown", Text),
)

slo_violation = Table(
    "slo_violation",
    metadata,
    Column("violation_id", BigInteger, Identity(always=True), primary_key=True),
    _slo_id(is_key=False),
    Column("entity_id", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("since", TIMESTAMPTZ, nullable=False),
    Column("detected_at", TIMESTAMPTZ, nullable=False),
    Column("ended_at", TIMESTAMPTZ),
    Column("events", Double, nullable=False),
    Column("bad", Double, nullable=False),
    Column("detail", JSONB, nullable=False),
)
