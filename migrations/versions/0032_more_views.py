"""Expand: views for Grafana show pools, labels and energy too, and whatever was found."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0032"
down_revision = "0042"
LONGER = ("grafana_gpu_use", "grafana_gpu_use_hourly", "grafana_cost")
NEW = ("grafana_findings",)


def upgrade() -> None:
    """This will make views longer at their end: what reads them by name does not notice."""
    op.execute((Path(__file__).parent / "0032_more_views.sql").read_text())


def downgrade() -> None:
    """This will make them as they were."""
    op.execute(f"DROP VIEW {', '.join((*LONGER, *NEW))}")
    before = (Path(__file__).parent / "0031_grafana_views.sql").read_text()
    for statement in before.split(";\n"):
        if any(f"CREATE VIEW {name} AS" in statement for name in LONGER):
            op.execute(statement)
