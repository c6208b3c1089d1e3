"""Expand: test runs, what was asked, how far they are and what came of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0071"
down_revision = "0050"


def upgrade() -> None:
    """This will make the table."""
    op.execute((Path(__file__).parent / "0071_trial.sql").read_text())


def downgrade() -> None:
    """This will drop it; results of test runs are lost."""
    op.execute("DROP TABLE trial")
