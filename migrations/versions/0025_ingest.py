"""Expand: room on the pages of rows that change with every commit, and less looking after them.

Without room a new version of a row goes to another page and into every index. With it, it stays on its page, and
whoever comes next clears what is dead there: vacuum and ANALYZE, which by default would come every few seconds, find
nothing to do. They still come when versions pile up behind a transaction that somebody forgot.
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0020"

_TABLES = (
    "agent_latest", "disk_latest", "filesystem_latest", "gpu_latest", "gpu_health_latest", "gpu_instance_latest",
    "gpu_process_latest", "host_latest", "inference_latest", "infiniband_latest", "lmcache_latest", "network_latest",
    "server_cgroup_latest", "node_status", "ingest_cursor",
)  # fmt: skip
_WITHOUT_ROOM = ("node_status", "ingest_cursor")
_RARELY = {
    # A page that is a little less than half full holds one dead version of each row: that is no bloat.
    "autovacuum_vacuum_scale_factor": 2,
    "autovacuum_vacuum_threshold": 10_000,
    # Their statistics are those of half an hour ago.
    "autovacuum_analyze_scale_factor": 100,
    "autovacuum_analyze_threshold": 1_000_000,
}


def upgrade() -> None:
    """This will set what new pages are filled to, and when vacuum comes."""
    op.execute("SET LOCAL lock_timeout = '5s'")  # behind a long reader, better to fail than to hold up every writer
    rarely = ", ".join(f"{name} = {value}" for name, value in _RARELY.items())
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} SET ({rarely})")
    for table in _WITHOUT_ROOM:
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 40)")


def downgrade() -> None:
    """This will go back to Postgres' defaults."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(_RARELY)})")
    for table in _WITHOUT_ROOM:
        op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
