"""Contract: sketches of rollups are bytes, and rows are found by where their entities begin.

The server sends an array by a call for each of its elements; and an index by time finds all entities' rows.

What was rolled up before no release had, and the job makes it again from the samples.
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0070"

_ARRAYS = {"sketch_lengths": "SMALLINT[]", "sketch_steps": "SMALLINT[]", "sketch_counts": "INTEGER[]"}


def upgrade() -> None:
    """This will empty the rollups and change their columns."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    _start_again()
    for table in ("rollup_minute", "rollup_hour"):
        gone = ", ".join(f"DROP COLUMN {name}" for name in _ARRAYS)
        op.execute(f"ALTER TABLE {table} {gone}, ADD COLUMN sketch BYTEA")
        op.execute(f"DROP INDEX {table}_field_id_start_first_entity_idx")
        op.execute(f"CREATE INDEX ON {table} (field_id, first_entity, start)")


def downgrade() -> None:
    """This will empty them too."""
    _start_again()
    for table in ("rollup_minute", "rollup_hour"):
        back = ", ".join(f"ADD COLUMN {name} {kind}" for name, kind in _ARRAYS.items())
        op.execute(f"ALTER TABLE {table} DROP COLUMN sketch, {back}")
        op.execute(f"DROP INDEX {table}_field_id_first_entity_start_idx")
        op.execute(f"CREATE INDEX ON {table} (field_id, start, first_entity)")


def _start_again() -> None:
    op.execute("TRUNCATE rollup_minute, rollup_hour, rollup_due")
    op.execute("DELETE FROM rollup_progress WHERE name IN ('minute', 'hour', 'day')")
