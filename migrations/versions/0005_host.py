"""Expand: links, InfiniBand ports, huge pages, and the agent itself."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"

ADDED = {
    "host": ("oom_kills_total", "huge_page_size_bytes", "huge_pages_count", "huge_pages_free_count"),
    "network": ("carrier_changes_total", "link_up_flag", "link_speed_bytes_per_second"),
}


def upgrade() -> None:
    """This will add columns that may be NULL, and two tables."""
    op.execute((Path(__file__).parent / "0005_host.sql").read_text())


def downgrade() -> None:
    """This will drop them, and their history with them."""
    for name in ("infiniband", "agent"):
        op.execute(f"DROP TABLE {name}_sample, {name}_latest")
    for table, columns in ADDED.items():
        for kind in ("sample", "latest"):
            op.execute(f"ALTER TABLE {table}_{kind} " + ", ".join(f"DROP COLUMN {name}" for name in columns))
