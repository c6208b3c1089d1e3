"""The tables of verdicts on what binds servers, as schema.py has the others."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.storage.schema import TIMESTAMPTZ, metadata

bottleneck_now = Table(
    "bottleneck_now",
    metadata,
    Column("entity_id", Integer, ForeignKey("entity.entity_id", ondelete="CASCADE"), primary_key=True),
    Column("since", TIMESTAMPTZ, nullable=False),
    Column("until", TIMESTAMPTZ, nullable=False),
    Column("bottleneck", Text, nullable=False),
    Column("verdict", JSONB, nullable=False),
    Column("habits", JSONB, nullable=False),
)

bottleneck_spell = Table(
    "bottleneck_spell",
    metadata,
    Column("entity_id", Integer, ForeignKey("entity.entity_id", ondelete="CASCADE"), primary_key=True),
    Column("since", TIMESTAMPTZ, primary_key=True),
    Column("until", TIMESTAMPTZ, nullable=False),
    Column("bottleneck", Text, nullable=False),
    Column("verdict", JSONB, nullable=False),
)
