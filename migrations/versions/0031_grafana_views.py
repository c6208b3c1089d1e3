"""Expand: views for Grafana and psql behind what is summed up and found."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0031"
down_revision = "0023"
VIEWS = (
    "grafana_gpu_use", "grafana_gpu_use_hourly", "grafana_server_use", "grafana_server_use_hourly", "grafana_waste",
    "grafana_cost", "grafana_serving", "grafana_opportunities", "grafana_trends", "grafana_forecast",
)  # fmt: skip


def upgrade() -> None:
    """This will make the views; they hold nothing themselves."""
    op.execute((Path(__file__).parent / "0031_grafana_views.sql").read_text())


def downgrade() -> None:
    """This will drop them."""
    op.execute("DROP INDEX finding_found_at")
    op.execute(f"DROP VIEW {', '.join(VIEWS)}")
