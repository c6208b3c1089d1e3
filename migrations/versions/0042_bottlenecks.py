"""Expand: what binds inference servers, and what bound them."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    """This will make the tables; verdicts begin with the samples of the last minutes."""
    op.execute((Path(__file__).parent / "0042_bottlenecks.sql").read_text())


def downgrade() -> None:
    """This will drop them; what bound, and when, is lost."""
    op.execute("DROP TABLE bottleneck_now, bottleneck_spell")
