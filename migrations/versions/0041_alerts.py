"""Expand: alerts, what is configured of them, what changed, and what is to be sent."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0041"
down_revision = "0031"


def upgrade() -> None:
    """This will make the tables; rules are the usual ones until somebody puts others."""
    op.execute((Path(__file__).parent / "0041_alerts.sql").read_text())


def downgrade() -> None:
    """This will drop them; rules, receivers and the history of alerts are lost."""
    op.execute("DROP TABLE alert_outbox, alert_group, alert_change, alert, alert_configuration")
