"""The tables of recommendations, as schema.py has the others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Identity, Integer, Table, Text
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
