"""Expand: what GPUs and servers did, by five minutes and by hour, what stages found, and prices."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0030"
down_revision = "0021"


def upgrade() -> None:
    """This will make the tables; the stages fill them from the samples that are there."""
    op.execute((Path(__file__).parent / "0030_use.sql").read_text())


def downgrade() -> None:
    """This will drop them; the prices that were entered are lost."""
    op.execute(
        "DROP TABLE gpu_use_slot, gpu_use_hour, server_use_slot, server_use_hour, use_owner, use_due, stage_progress, "
        "finding, price_book"
    )
