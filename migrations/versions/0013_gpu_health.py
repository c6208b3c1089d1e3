"""Expand: the slow tier of GPUs in a table of its own, with what is new in it, and the performance state.

The columns of `gpu` that moved there stay, for the release before this one; a later release drops them.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """This will make the table and add the column."""
    op.execute("SET LOCAL lock_timeout = '5s'")  # behind a long reader, better to fail than to hold up every writer
    op.execute((Path(__file__).parent / "0013_gpu_health.sql").read_text())
    for table in ("gpu_sample", "gpu_latest"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN performance_state_code REAL")


def downgrade() -> None:
    """This will drop both, and their history."""
    for table in ("gpu_sample", "gpu_latest"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN performance_state_code")
    op.execute("DROP TABLE gpu_health_sample, gpu_health_latest")
