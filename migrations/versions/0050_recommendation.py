"""Expand: recommendations, what was decided about them, and what came of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0050"
down_revision = "0032"


def upgrade() -> None:
    """This will make the table."""
    op.execute((Path(__file__).parent / "0050_recommendation.sql").read_text())


def downgrade() -> None:
    """This will drop it; what was recommended is found again, what was decided is lost."""
    op.execute("DROP TABLE recommendation")
