"""The table of test runs, as schema.py has the others."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.storage.schema import TIMESTAMPTZ, metadata

trial = Table(
    "trial",
    metadata,
    Column("trial_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("asked_at", TIMESTAMPTZ, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("started_at", TIMESTAMPTZ),
    Column("ended_at", TIMESTAMPTZ),
    Column("spec", JSONB, nullable=False),
    Column("sealed_keys", JSONB),
    Column("owner", Text),
    Column("beat_at", TIMESTAMPTZ),
    Column("cancelled_by", Text),
    Column("progress", JSONB),
    Column("verdict", Text),
    Column("because", Text, nullable=False),
    Column("result", JSONB),
)
