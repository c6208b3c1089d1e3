"""Expand: what each node is configured to, and what its agent answered."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """This will make the table."""
    op.execute(
        "CREATE TABLE node_configuration ("
        "node_id INTEGER PRIMARY KEY REFERENCES node ON DELETE CASCADE, "
        "revision BIGINT NOT NULL, "
        "desired JSONB NOT NULL, "
        "changed_at TIMESTAMPTZ NOT NULL, "
        "answered_revision BIGINT, "
        "is_applied BOOLEAN, "
        "detail TEXT, "
        "answered_at TIMESTAMPTZ, "
        "in_force_revision BIGINT, "
        "in_force JSONB)"
    )


def downgrade() -> None:
    """This will drop it: every node keeps what it has until its agent connects to a release that configures."""
    op.execute("DROP TABLE node_configuration")
