"""Expand: join tokens, enrolments, and nodes that were forgotten."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0001"


def upgrade() -> None:
    """This will make the two tables and the column."""
    op.execute("ALTER TABLE node ADD COLUMN forgotten_at TIMESTAMPTZ")
    op.execute(
        "CREATE TABLE join_token ("
        "token_id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "digest BYTEA NOT NULL UNIQUE, "
        "node_name TEXT, "
        "max_uses INTEGER NOT NULL, "
        "uses INTEGER NOT NULL, "
        "created_at TIMESTAMPTZ NOT NULL, "
        "expires_at TIMESTAMPTZ NOT NULL)"
    )
    op.execute(
        "CREATE TABLE enrolment ("
        "agent_id TEXT PRIMARY KEY, "
        "enrolment_id TEXT NOT NULL UNIQUE, "
        "key_digest BYTEA NOT NULL, "
        "token_id INTEGER NOT NULL, "
        "node_name TEXT NOT NULL, "
        "enrolled_at TIMESTAMPTZ NOT NULL)"
    )


def downgrade() -> None:
    """This will drop them: every agent has to enrol again."""
    op.execute("DROP TABLE enrolment, join_token")
    op.execute("ALTER TABLE node DROP COLUMN forgotten_at")
