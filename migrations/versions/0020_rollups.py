"""Expand: rollups by minute and hour, what is due of them, and who does such work."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0020"
down_revision = "0014"


def upgrade() -> None:
    """This will make the tables; the rollup job fills them from the samples that are there."""
    op.execute((Path(__file__).parent / "0020_rollups.sql").read_text())


def downgrade() -> None:
    """This will drop every rollup; what is older than the samples is lost with them."""
    op.execute("DROP TABLE rollup_hour, rollup_minute, rollup_due, rollup_progress, metric_field, job_lease")
