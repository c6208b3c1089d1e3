"""Expand: rollups of nodes and of the fleet, whose counts are larger than those of one thing."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0030"

_COUNTS = ("samples", "known", "resets")


def upgrade() -> None:
    """This will widen counts, which writes what is there anew, and add how many entities a cell is about."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    wider = ", ".join(f"ALTER COLUMN {name} TYPE INTEGER[]" for name in _COUNTS)
    for table in ("rollup_minute", "rollup_hour"):
        op.execute(f"ALTER TABLE {table} {wider}, ADD COLUMN entities INTEGER[]")


def downgrade() -> None:
    """This will drop the rollups of nodes and of the fleet, whose counts would not fit."""
    for table in ("rollup_minute", "rollup_hour"):
        op.execute(
            f"DELETE FROM {table} WHERE field_id IN (SELECT field_id FROM metric_field WHERE table_name LIKE '%@%')"
        )
        narrower = ", ".join(f"ALTER COLUMN {name} TYPE SMALLINT[]" for name in _COUNTS)
        op.execute(f"ALTER TABLE {table} {narrower}, DROP COLUMN entities")
    op.execute("DELETE FROM rollup_due WHERE node_id = 0")
