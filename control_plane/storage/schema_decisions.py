"""The tables of recommendations, as schema.py has the others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Identity, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.storage.schema import TIMESTAMPTZ, metadata

recommendation = Table(
    "recommendation",
    metadata,
    Column("recommendation_id", BigInteger, Identity(always=True), primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("kind", "subject_kind", "subject", "fingerprint", "state")),
    Column("subject_id", Integer),
    *(Column(name, TIMESTAMPTZ, nullable=False) for name in ("made_at", "found_at", "expires_at")),
    Column("decided_at", TIMESTAMPTZ),
    *(Column(name, Text) for name in ("decided_by", "reason")),
    Column("saved_usd_per_month", Double),
    Column("gain_ratio", Double, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("realised", JSONB),
)

workflow = Table(
    "workflow",
    metadata,
    Column("workflow_id", Text, primary_key=True),
    Column("graph_version", Integer, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("state", "because", "started_by")),
    Column("asked", JSONB, nullable=False),
    Column("recommendation_id", BigInteger),
    Column("pending", JSONB),
    Column("started_at", TIMESTAMPTZ, nullable=False),
    *(Column(name, TIMESTAMPTZ) for name in ("due_at", "deadline_at", "ended_at")),
    Column("drives", Integer, nullable=False),
)

workflow_step = Table(
    "workflow_step",
    metadata,
    Column("workflow_id", Text, ForeignKey("workflow.workflow_id", ondelete="CASCADE"), primary_key=True),
    Column("step", Text, primary_key=True),
    Column("place", BigInteger, Identity(always=True), nullable=False),
    Column("at", TIMESTAMPTZ, nullable=False),
    Column("detail", JSONB, nullable=False),
)
