"""Expand: the instances of GPUs in MIG mode."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """This will make the table."""
    op.execute((Path(__file__).parent / "0014_gpu_instance.sql").read_text())


def downgrade() -> None:
    """This will drop the history of instances, and the instances themselves."""
    op.execute("DROP TABLE gpu_instance_sample, gpu_instance_latest")
    op.execute("DELETE FROM entity WHERE kind = 7")
