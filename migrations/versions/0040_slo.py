"""Expand: service level objectives, the events that they are judged by, and what the guard said."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0040"
down_revision = "0060"


def upgrade() -> None:
    """This will make the tables; events are counted from the first objective on."""
    op.execute((Path(__file__).parent / "0040_slo.sql").read_text())


def downgrade() -> None:
    """This will drop them; objectives that were configured are lost."""
    op.execute(
        "DROP TABLE slo_violation, slo_judgement, slo_server_hour, slo_hour, slo_minute, slo_progress, slo CASCADE"
    )
