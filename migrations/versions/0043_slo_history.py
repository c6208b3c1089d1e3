"""Expand: how far back an objective's events have been counted from the samples of before it was made."""

from __future__ import annotations

from alembic import op

revision = "0043"
down_revision = "0071"


def upgrade() -> None:
    """This will add the column; NULL means that nothing of before has been counted yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE slo ADD COLUMN history_since timestamptz")


def downgrade() -> None:
    """This will drop it; what was counted of before stays counted."""
    op.execute("ALTER TABLE slo DROP COLUMN history_since")
