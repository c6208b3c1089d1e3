"""The tables of alerts, as schema.py has the others."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Double, ForeignKey, Identity, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.storage.schema import TIMESTAMPTZ, metadata

alert_configuration = Table(
    "alert_configuration",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("document", JSONB, nullable=False),
    Column("changed_at", TIMESTAMPTZ, nullable=False),
    Column("changed_by", Text, nullable=False),
)

alert = Table(
    "alert",
    metadata,
    Column("alert_id", BigInteger, Identity(always=True), primary_key=True),
    Column("since", TIMESTAMPTZ, nullable=False),
    Column("seen_at", TIMESTAMPTZ, nullable=False),
    *(Column(name, TIMESTAMPTZ) for name in ("fired_at", "quiet_since", "resolved_at", "unknown_since")),
    Column("acknowledged_at", TIMESTAMPTZ),
    Column("value", Double),
    *(Column(name, Text, nullable=False) for name in ("fingerprint", "rule", "kind", "severity", "state", "summary")),
    Column("labels", JSONB, nullable=False),
    Column("evidence", JSONB, nullable=False),
    Column("flaps", ARRAY(TIMESTAMPTZ), nullable=False),
    *(Column(name, Text) for name in ("runbook_url", "resolution", "acknowledged_by", "acknowledgement")),
    *(Column(name, Text) for name in ("silenced_by", "inhibited_by")),
    Column("is_settled", Boolean, nullable=False),
)

alert_change = Table(
    "alert_change",
    metadata,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    Column("alert_id", BigInteger, ForeignKey("alert.alert_id", ondelete="CASCADE"), nullable=False),
    Column("changed_at", TIMESTAMPTZ, nullable=False),
    Column("change", Text, nullable=False),
)

alert_group = Table(
    "alert_group",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("group_key", Text, primary_key=True),
    Column("labels", JSONB, nullable=False),
    Column("told", JSONB, nullable=False),
    Column("changed_at", TIMESTAMPTZ),
    Column("told_at", TIMESTAMPTZ),
)

alert_outbox = Table(
    "alert_outbox",
    metadata,
    Column("notification_id", BigInteger, Identity(always=True), primary_key=True),
    Column("created_at", TIMESTAMPTZ, nullable=False),
    Column("due_at", TIMESTAMPTZ, nullable=False),
    Column("attempted_at", TIMESTAMPTZ),
    Column("sent_at", TIMESTAMPTZ),
    Column("attempts", Integer, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("group_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("last_error", Text),
    Column("body", JSONB, nullable=False),
)
