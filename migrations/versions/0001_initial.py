"""Expand: the tables of release 0.1."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """This will make every table."""
    op.execute((Path(__file__).parent / "0001_initial.sql").read_text())


def downgrade() -> None:
    """This will drop every table, and all history with them."""
    for name in ("gpu", "host", "disk", "filesystem", "network", "inference"):
        op.execute(f"DROP TABLE {name}_sample, {name}_latest")
    op.execute(
        "DROP TABLE ingest_refusal, sample_loss, ingest_cursor, histogram_layout, unknown_set, "
        "entity, node_status, node"
    )
