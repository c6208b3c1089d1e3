"""Expand: what later releases of the engines say, ranks apart, and LMCache."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

_COLUMNS = (
    ("requests_running_rank_max_count", "REAL"),
    ("requests_running_rank_min_count", "REAL"),
    ("requests_waiting_capacity_count", "REAL"),
    ("requests_waiting_deferred_count", "REAL"),
    ("requests_swapped_count", "REAL"),
    ("requests_rejected_total", "BIGINT"),
    ("external_prefix_cache_queries_total", "BIGINT"),
    ("external_prefix_cache_hits_total", "BIGINT"),
    ("multimodal_cache_queries_total", "BIGINT"),
    ("multimodal_cache_hits_total", "BIGINT"),
    ("spec_decode_drafts_total", "BIGINT"),
    ("spec_decode_draft_tokens_total", "BIGINT"),
    ("spec_decode_accepted_tokens_total", "BIGINT"),
    ("spec_decode_acceptance_ratio", "REAL"),
    ("asleep_flag", "REAL"),
    ("lora_adapters_active_count", "REAL"),
    ("lora_adapters_maximum_count", "REAL"),
    ("estimated_flops_per_gpu_total", "DOUBLE PRECISION"),
    ("estimated_read_bytes_per_gpu_total", "DOUBLE PRECISION"),
    ("estimated_write_bytes_per_gpu_total", "DOUBLE PRECISION"),
    ("kv_offload_load_bytes_total", "BIGINT"),
    ("kv_offload_store_bytes_total", "BIGINT"),
    ("kv_offload_usage_ratio", "REAL"),
    ("kv_cache_evicted_tokens_total", "BIGINT"),
    ("inference_seconds_sum", "DOUBLE PRECISION"),
    ("inference_seconds_buckets", "BIGINT[]"),
    ("requested_output_tokens_sum", "DOUBLE PRECISION"),
    ("requested_output_tokens_buckets", "BIGINT[]"),
    ("prefill_computed_tokens_sum", "DOUBLE PRECISION"),
    ("prefill_computed_tokens_buckets", "BIGINT[]"),
    ("kv_block_lifetime_seconds_sum", "DOUBLE PRECISION"),
    ("kv_block_lifetime_seconds_buckets", "BIGINT[]"),
    ("kv_block_idle_before_eviction_seconds_sum", "DOUBLE PRECISION"),
    ("kv_block_idle_before_eviction_seconds_buckets", "BIGINT[]"),
    ("kv_block_reuse_gap_seconds_sum", "DOUBLE PRECISION"),
    ("kv_block_reuse_gap_seconds_buckets", "BIGINT[]"),
)

# Eight-byte columns first, then four-byte ones, then arrays: no row pays for padding.
_LMCACHE = """
    taken_at TIMESTAMPTZ NOT NULL,
    counters_since_unix_seconds DOUBLE PRECISION,
    keys_count DOUBLE PRECISION,
    memory_used_bytes BIGINT,
    memory_capacity_bytes BIGINT,
    storage_used_bytes BIGINT,
    remote_used_bytes BIGINT,
    lookups_total BIGINT,
    lookup_requested_tokens_total BIGINT,
    lookup_hit_tokens_total BIGINT,
    lookup_hit_memory_tokens_total BIGINT,
    lookup_hit_storage_tokens_total BIGINT,
    stores_total BIGINT,
    retrieves_total BIGINT,
    stored_tokens_total BIGINT,
    retrieved_tokens_total BIGINT,
    stored_chunks_total BIGINT,
    retrieved_chunks_total BIGINT,
    evicted_chunks_total BIGINT,
    remote_read_bytes_total BIGINT,
    remote_written_bytes_total BIGINT,
    store_failures_total BIGINT,
    retrieve_failures_total BIGINT,
    prefetch_failures_total BIGINT,
    timeouts_total BIGINT,
    events_dropped_total BIGINT,
    lookup_seconds_sum DOUBLE PRECISION,
    retrieve_seconds_sum DOUBLE PRECISION,
    store_seconds_sum DOUBLE PRECISION,
    chunk_reuse_gap_seconds_sum DOUBLE PRECISION,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    layout_id INTEGER,
    up_flag REAL,
    scrape_seconds REAL,
    healthy_flag REAL,
    workers_count REAL,
    memory_usage_ratio REAL,
    lookup_seconds_buckets BIGINT[],
    retrieve_seconds_buckets BIGINT[],
    store_seconds_buckets BIGINT[],
    chunk_reuse_gap_seconds_buckets BIGINT[]
"""


def upgrade() -> None:
    """This will add the columns; a partition gets them with its table."""
    op.execute("SET LOCAL lock_timeout = '5s'")  # behind a long reader, better to fail than to hold up every writer
    added = ", ".join(f"ADD COLUMN {name} {kind}" for name, kind in _COLUMNS)
    for table in ("inference_sample", "inference_latest"):
        op.execute(f"ALTER TABLE {table} {added}")
    op.execute(f"CREATE TABLE lmcache_sample ({_LMCACHE}) PARTITION BY RANGE (taken_at)")
    op.execute("CREATE INDEX ON lmcache_sample (entity_id, taken_at)")
    op.execute("CREATE INDEX ON lmcache_sample USING brin (taken_at) WITH (pages_per_range = 32)")
    op.execute("CREATE TABLE lmcache_latest (LIKE lmcache_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45)")


def downgrade() -> None:
    """This will drop the columns and tables, and their history with them."""
    op.execute("DROP TABLE lmcache_sample, lmcache_latest")
    dropped = ", ".join(f"DROP COLUMN {name}" for name, _ in _COLUMNS)
    for table in ("inference_sample", "inference_latest"):
        op.execute(f"ALTER TABLE {table} {dropped}")
