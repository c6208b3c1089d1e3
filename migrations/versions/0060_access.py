"""Expand: API keys, and who changed what."""

from __future__ import annotations

from alembic import op

revision = "0060"
down_revision = "0022"


def upgrade() -> None:
    """This will make the tables."""
    op.execute(
        "CREATE TABLE api_key ("
        "key_id TEXT PRIMARY KEY, "
        "name TEXT NOT NULL, "
        "digest BYTEA NOT NULL, "
        "scopes TEXT[] NOT NULL, "
        "created_at TIMESTAMPTZ NOT NULL, "
        "created_by TEXT NOT NULL, "
        "expires_at TIMESTAMPTZ NOT NULL, "
        "revoked_at TIMESTAMPTZ, "
        "last_used_at TIMESTAMPTZ)"
    )
    op.execute(
        "CREATE TABLE audit_entry ("
        "audit_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "at TIMESTAMPTZ NOT NULL, "
        "caller_kind TEXT NOT NULL, "
        "caller TEXT NOT NULL, "
        "caller_name TEXT NOT NULL, "
        "address TEXT, "
        "operation TEXT NOT NULL, "
        "target TEXT NOT NULL, "
        "asked JSONB NOT NULL, "
        "before JSONB, "
        "after JSONB, "
        "status SMALLINT, "
        "ended_at TIMESTAMPTZ)"
    )
    op.execute("CREATE INDEX ON audit_entry (at)")


def downgrade() -> None:
    """This will drop every key, and what is known of who changed what."""
    op.execute("DROP TABLE api_key, audit_entry")
