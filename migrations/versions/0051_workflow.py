"""Expand: workflows and what they did. The graph's own tables stand in a schema of their own."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0051"
down_revision = "0043"


def upgrade() -> None:
    """This will make the tables, and the schema in which the graph's checkpoints are made with the first workflow."""
    op.execute((Path(__file__).parent / "0051_workflow.sql").read_text())


def downgrade() -> None:
    """This will drop them; workflows that are under way are forgotten where they stand."""
    op.execute("DROP SCHEMA langgraph CASCADE")
    op.execute("DROP TABLE workflow_step, workflow")
