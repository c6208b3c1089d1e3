"""Expand: samples of past days, packed; and how to read them in plain SQL."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0025"


def upgrade() -> None:
    """This will make the table and the functions."""
    op.execute((Path(__file__).parent / "0021_packed_samples.sql").read_text())


def downgrade() -> None:
    """This will drop packed samples, and the history in them."""
    op.execute("DROP FUNCTION optiinfra_unpacked(packed_sample)")
    op.execute("DROP FUNCTION optiinfra_float8(bigint)")
    op.execute("DROP FUNCTION optiinfra_float4(bigint)")
    op.execute("DROP TABLE packed_sample, packing_due")
    op.execute("DELETE FROM rollup_due d USING rollup_due o WHERE (o.node_id, o.minute) = (d.node_id, d.minute) "
               "AND o.version > d.version")  # fmt: skip
    op.execute("ALTER TABLE rollup_due DROP CONSTRAINT rollup_due_pkey, ADD PRIMARY KEY (node_id, minute)")
