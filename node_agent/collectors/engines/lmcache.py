"""LMCache: https://github.com/LMCache/LMCache, docs/source/mp/observability and lmcache/observability.py.

One mapping for its three shapes, told apart by their names: the server that several engines share
(`lmcache_mp_*`), the part inside of an engine (`lmcache:*`, on the engine's /metrics or on a port of its
own), and the controller (`lmcache:cache_controller_*`).
"""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.collectors.engines.mapping import (
    Combine,
    Configuration,
    Distribution,
    Engine,
    Mapped,
    Scalar,
    sources,
)
from node_agent.collectors.exposition import Exposition
from node_agent.untrusted import clean_mapping, clean_value, object_in

CAPACITY = "memory_capacity_bytes"  # of the configuration; no metric says it
_CONTROLLER_KEYS = "cache_controller_kv_pool_keys_count"
_IN_PROCESS_HEALTH = "lmcache_is_healthy"


def _configuration(answers: Mapping[str, object], exposition: Exposition) -> Configuration:
    """This will gather what /status says, by allow-list, and which of the three shapes answered."""
    status = object_in(answers.get("/status") or answers.get("/api/status"))
    storage = object_in(status.get("storage_manager"))
    memory = object_in(storage.get("l1_manager"))
    eviction = object_in(storage.get("l1_eviction_controller"))
    found = {
        "mode": _mode(exposition),
        "engine_type": status.get("engine_type"),
        "chunk_size": status.get("chunk_size"),
        "hash_algorithm": status.get("hash_algorithm"),
        "eviction_policy": eviction.get("eviction_policy"),
        "eviction_watermark": eviction.get("trigger_watermark"),
        "eviction_ratio": eviction.get("eviction_ratio"),
        "second_level_adapters": storage.get("num_l2_adapters"),
        CAPACITY: memory.get("memory_total_bytes"),
    }
    version = clean_value(status.get("version"))
    return Configuration(version=version if isinstance(version, str) else None, config=clean_mapping(found))


def _mode(exposition: Exposition) -> str | None:
    """This will name the shape by a metric that only it has; None when there is none of them."""
    known = ((_CONTROLLER_KEYS, "controller"), (_IN_PROCESS_HEALTH, "in_process"))
    shared = ((name, "multiprocess") for name in ("event_bus_dropped_events_total", "l1_usage_ratio"))
    return next((mode for name, mode in (*known, *shared) if exposition.series(name)), None)


def _counter(*names: str) -> Scalar:
    """This will read a counter, with and without the suffix that Prometheus' client adds."""
    return Scalar(sources=sources(*(form for name in names for form in (f"{name}_total", name))))


def _bytes(*names: str) -> Scalar:
    """This will add up memory: every worker has its own."""
    return Scalar(sources=sources(*names), copies_add=True)


_FIELDS: dict[str, Mapped] = {
    "healthy_flag": Scalar(sources=sources(_IN_PROCESS_HEALTH), combine=Combine.MIN),
    "workers_count": Scalar(sources=sources("cache_controller_registered_workers_count")),
    "keys_count": Scalar(sources=sources(_CONTROLLER_KEYS, "local_cpu_hot_cache_count")),
    "memory_used_bytes": _bytes("l1_memory_usage_bytes", "local_cache_usage"),
    "memory_usage_ratio": Scalar(sources=sources("l1_usage_ratio"), combine=Combine.MAX),
    "storage_used_bytes": _bytes("l2_usage_bytes", "local_storage_usage"),
    "remote_used_bytes": Scalar(sources=sources("remote_cache_usage"), combine=Combine.MAX),
    "lookups_total": _counter("lookups_requests", "num_lookup_requests"),
    "lookup_requested_tokens_total": _counter("lookup_requested_tokens", "num_lookup_tokens"),
    "lookup_hit_tokens_total": _counter("lookup_hit_tokens", "num_lookup_hits"),
    "lookup_hit_memory_tokens_total": _counter("lookup_hit_l1_tokens"),
    "lookup_hit_storage_tokens_total": _counter("lookup_hit_l2_tokens"),
    "stores_total": _counter("num_finished_stores", "num_store_requests"),
    "retrieves_total": _counter("num_finished_retrieves", "num_retrieve_requests"),
    "stored_tokens_total": _counter("num_stored_tokens"),
    "retrieved_tokens_total": _counter("num_hit_tokens"),
    "stored_chunks_total": _counter("l1_write_chunks"),
    "retrieved_chunks_total": _counter("l1_read_chunks"),
    "evicted_chunks_total": _counter("l1_evicted_chunks", "local_cpu_evict_keys_count"),
    "remote_read_bytes_total": _counter("num_remote_read_bytes"),
    "remote_written_bytes_total": _counter("num_remote_write_bytes"),
    "store_failures_total": _counter("l1_allocation_failure_chunks", "put_failed_count"),
    "retrieve_failures_total": _counter("l1_read_failure_chunks", "get_blocking_failed_count"),
    "prefetch_failures_total": _counter("l2_prefetch_failure_chunks"),
    "timeouts_total": _counter("timeouts"),
    "events_dropped_total": _counter("event_bus_dropped_events"),
    "lookup_seconds": Distribution(sources=sources("time_to_lookup")),
    "retrieve_seconds": Distribution(sources=sources("time_to_retrieve")),
    "store_seconds": Distribution(sources=sources("time_to_store")),
    "chunk_reuse_gap_seconds": Distribution(sources=sources("l1_chunk_reuse_gap_seconds")),
}

LMCACHE = Engine(
    name="lmcache",
    table="lmcache",
    prefixes=("lmcache_mp_", "lmcache:", "lmcache_"),
    fields=_FIELDS,
    rank_label=None,
    # Every tensor-parallel worker stores its part of the same tokens.
    copy_labels=frozenset({"worker_id", "role", "pid"}),
    total_labels=frozenset(),
    model_label=None,
    config_paths=(("/status", "/api/status"),),
    configuration=_configuration,
    running_name="",
    progress_names=(),
    health_path="/healthcheck",
)
