"""Expand: what was answered to writes that may be sent again."""

from __future__ import annotations

from alembic import op

revision = "0061"
down_revision = "0040"


def upgrade() -> None:
    """This will make the table."""
    op.execute(
        "CREATE TABLE idempotency_key ("
        "caller TEXT NOT NULL, "
        "key TEXT NOT NULL, "
        "fingerprint BYTEA NOT NULL, "
        "created_at TIMESTAMPTZ NOT NULL, "
        "status SMALLINT, "
        "media_type TEXT, "
        "content BYTEA, "
        "PRIMARY KEY (caller, key))"
    )
    op.execute("CREATE INDEX ON idempotency_key (created_at)")


def downgrade() -> None:
    """This will drop it: a write that is sent again is done again."""
    op.execute("DROP TABLE idempotency_key")
