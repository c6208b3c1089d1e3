"""Expand: rollouts, what they decided to do before they did it, and their history."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0070"
down_revision = "0061"


def upgrade() -> None:
    """This will make the tables."""
    op.execute((Path(__file__).parent / "0070_rollout.sql").read_text())


def downgrade() -> None:
    """This will drop them; a rollout that is under way is forgotten where it stands."""
    op.execute("DROP TABLE rollout_note, rollout_intent, rollout")
