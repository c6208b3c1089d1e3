"""The tables of rollouts, as schema.py has the others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.storage.schema import TIMESTAMPTZ, metadata

rollout = Table(
    "rollout",
    metadata,
    Column("rollout_id", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("started_at", TIMESTAMPTZ, nullable=False),
    Column("ended_at", TIMESTAMPTZ),
    Column("due_at", TIMESTAMPTZ),
    Column("settings", JSONB, nullable=False),
    Column("body", JSONB, nullable=False),
)

rollout_intent = Table(
    "rollout_intent",
    metadata,
    Column("key", Text, primary_key=True),
    Column("rollout_id", Text, ForeignKey("rollout.rollout_id", ondelete="CASCADE"), nullable=False),
    Column("effect", Text, nullable=False),
    Column("value", Integer, nullable=False),
    Column("decided_at", TIMESTAMPTZ, nullable=False),
)

rollout_note = Table(
    "rollout_note",
    metadata,
    Column("note_id", BigInteger, Identity(always=True), primary_key=True),
    Column("rollout_id", Text, ForeignKey("rollout.rollout_id", ondelete="CASCADE"), nullable=False),
    Column("at", TIMESTAMPTZ, nullable=False),
    Column("event", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("because", Text, nullable=False),
    Column("details", JSONB, nullable=False),
)
