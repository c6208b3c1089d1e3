"""Expand: events, and what is new of GPUs."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

COLUMNS = {
    "xid_errors_total": "BIGINT",
    "encoder_utilization_ratio": "REAL",
    "decoder_utilization_ratio": "REAL",
    "jpeg_utilization_ratio": "REAL",
    "optical_flow_utilization_ratio": "REAL",
    "nvlink_transmit_bytes_total": "BIGINT",
    "nvlink_receive_bytes_total": "BIGINT",
    "nvlink_crc_flit_errors_total": "BIGINT",
    "nvlink_crc_data_errors_total": "BIGINT",
    "nvlink_replays_total": "BIGINT",
    "nvlink_recoveries_total": "BIGINT",
    "retired_pages_single_bit_total": "BIGINT",
    "retired_pages_double_bit_total": "BIGINT",
    "retired_pages_pending_flag": "REAL",
    "recovery_action_code": "REAL",
}


def upgrade() -> None:
    """This will make the table of events and add the new fields of GPUs."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "CREATE TABLE event ("
        " event_id BIGINT GENERATED ALWAYS AS IDENTITY, node_id INTEGER NOT NULL,"
        " taken_at TIMESTAMPTZ NOT NULL, received_at TIMESTAMPTZ NOT NULL,"
        " entity_kind SMALLINT NOT NULL, severity SMALLINT NOT NULL,"
        " kind TEXT NOT NULL, entity_key TEXT NOT NULL, detail JSONB NOT NULL,"
        " PRIMARY KEY (event_id),"
        " FOREIGN KEY(node_id) REFERENCES node (node_id) ON DELETE CASCADE)"
    )
    op.execute("CREATE INDEX ON event (node_id, taken_at DESC, event_id DESC)")
    op.execute("CREATE INDEX ON event (taken_at)")
    added = ", ".join(f"ADD COLUMN {name} {kind}" for name, kind in COLUMNS.items())
    for table in ("gpu_sample", "gpu_latest"):
        op.execute(f"ALTER TABLE {table} {added}")


def downgrade() -> None:
    """This will drop both, and the history in them."""
    dropped = ", ".join(f"DROP COLUMN {name}" for name in COLUMNS)
    for table in ("gpu_sample", "gpu_latest"):
        op.execute(f"ALTER TABLE {table} {dropped}")
    op.execute("DROP TABLE event")
