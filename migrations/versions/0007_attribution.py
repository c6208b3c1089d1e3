"""Expand: processes on GPUs, so that a cost can be laid to pods and namespaces."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """This will make the table of GPU processes."""
    op.execute((Path(__file__).parent / "0007_attribution.sql").read_text())


def downgrade() -> None:
    """This will drop the history of GPU processes, and the processes themselves."""
    op.execute("DROP TABLE gpu_process_sample, gpu_process_latest")
    op.execute("DELETE FROM entity WHERE kind = 11")
