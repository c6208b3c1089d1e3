"""Expand: the control groups of inference servers: limits, use, throttling, pressure, out of memory."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0007"

# Eight-byte columns first, then four-byte ones: no row pays for padding.
_COLUMNS = """
    taken_at TIMESTAMPTZ NOT NULL,
    cpu_seconds_total DOUBLE PRECISION,
    cpu_throttled_seconds_total DOUBLE PRECISION,
    pressure_cpu_some_seconds_total DOUBLE PRECISION,
    pressure_cpu_full_seconds_total DOUBLE PRECISION,
    pressure_memory_some_seconds_total DOUBLE PRECISION,
    pressure_memory_full_seconds_total DOUBLE PRECISION,
    pressure_io_some_seconds_total DOUBLE PRECISION,
    pressure_io_full_seconds_total DOUBLE PRECISION,
    cpu_periods_total BIGINT,
    cpu_throttled_periods_total BIGINT,
    memory_limit_bytes BIGINT,
    memory_used_bytes BIGINT,
    memory_working_set_bytes BIGINT,
    oom_kills_total BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    cpu_limit_cores REAL
"""


def upgrade() -> None:
    """This will make the table of servers' control groups."""
    op.execute(f"CREATE TABLE server_cgroup_sample ({_COLUMNS}) PARTITION BY RANGE (taken_at)")
    op.execute("CREATE INDEX ON server_cgroup_sample (entity_id, taken_at)")
    op.execute("CREATE INDEX ON server_cgroup_sample USING brin (taken_at) WITH (pages_per_range = 32)")
    op.execute(
        "CREATE TABLE server_cgroup_latest (LIKE server_cgroup_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45)"
    )


def downgrade() -> None:
    """This will drop the history of servers' control groups."""
    op.execute("DROP TABLE server_cgroup_sample, server_cgroup_latest")
