"""Expand: what later releases of the engines say, and ranks apart."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0001"

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


def upgrade() -> None:
    """This will add the columns; a partition gets them with its table."""
    op.execute("SET LOCAL lock_timeout = '5s'")  # behind a long reader, better to fail than to hold up every writer
    added = ", ".join(f"ADD COLUMN {name} {kind}" for name, kind in _COLUMNS)
    for table in ("inference_sample", "inference_latest"):
        op.execute(f"ALTER TABLE {table} {added}")


def downgrade() -> None:
    """This will drop the columns, and their history with them."""
    dropped = ", ".join(f"DROP COLUMN {name}" for name, _ in _COLUMNS)
    for table in ("inference_sample", "inference_latest"):
        op.execute(f"ALTER TABLE {table} {dropped}")
