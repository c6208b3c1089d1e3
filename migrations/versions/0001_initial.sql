-- The tables of release 0.1. Frozen: a later change is a later migration.

CREATE TABLE histogram_layout (
    layout_id INTEGER GENERATED ALWAYS AS IDENTITY,
    bounds JSONB NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (layout_id),
    UNIQUE (digest)
);

CREATE TABLE node (
    node_id INTEGER GENERATED ALWAYS AS IDENTITY,
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    replayed BOOLEAN NOT NULL,
    attributes JSONB NOT NULL,
    first_seen_at TIMESTAMPTZ NOT NULL,
    connected_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (node_id),
    UNIQUE (agent_id)
);

CREATE TABLE unknown_set (
    unknown_set_id INTEGER GENERATED ALWAYS AS IDENTITY,
    table_name TEXT NOT NULL,
    reasons JSONB NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (unknown_set_id),
    UNIQUE (digest)
);

CREATE TABLE entity (
    entity_id INTEGER GENERATED ALWAYS AS IDENTITY,
    node_id INTEGER NOT NULL,
    kind SMALLINT NOT NULL,
    key TEXT NOT NULL,
    attributes JSONB NOT NULL,
    first_seen_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    state_since TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (entity_id),
    UNIQUE (node_id, kind, key),
    FOREIGN KEY(node_id) REFERENCES node (node_id) ON DELETE CASCADE
);

CREATE TABLE ingest_cursor (
    node_id INTEGER NOT NULL,
    epoch BYTEA NOT NULL,
    committed_seq BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (node_id, epoch),
    FOREIGN KEY(node_id) REFERENCES node (node_id) ON DELETE CASCADE
);

CREATE TABLE ingest_refusal (
    node_id INTEGER NOT NULL,
    cause TEXT NOT NULL,
    count BIGINT NOT NULL,
    last_detail TEXT NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (node_id, cause),
    FOREIGN KEY(node_id) REFERENCES node (node_id) ON DELETE CASCADE
);

CREATE TABLE node_status (
    node_id INTEGER NOT NULL,
    taken_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    clock_offset_seconds DOUBLE PRECISION,
    sampling_interval_seconds DOUBLE PRECISION,
    collectors JSONB NOT NULL,
    PRIMARY KEY (node_id),
    FOREIGN KEY(node_id) REFERENCES node (node_id) ON DELETE CASCADE
);

CREATE TABLE sample_loss (
    node_id INTEGER NOT NULL,
    epoch BYTEA NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    first_taken_at TIMESTAMPTZ,
    last_taken_at TIMESTAMPTZ,
    tick_count BIGINT,
    reason TEXT NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (node_id, epoch, first_seq),
    FOREIGN KEY(node_id) REFERENCES node (node_id) ON DELETE CASCADE
);

CREATE TABLE gpu_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    energy_joules_total DOUBLE PRECISION,
    throttled_power_cap_seconds_total DOUBLE PRECISION,
    throttled_sync_boost_seconds_total DOUBLE PRECISION,
    throttled_software_thermal_seconds_total DOUBLE PRECISION,
    throttled_hardware_thermal_seconds_total DOUBLE PRECISION,
    throttled_power_brake_seconds_total DOUBLE PRECISION,
    memory_total_bytes BIGINT,
    memory_used_bytes BIGINT,
    memory_free_bytes BIGINT,
    memory_reserved_bytes BIGINT,
    bar1_used_bytes BIGINT,
    bar1_total_bytes BIGINT,
    clock_event_reasons_bits BIGINT,
    ecc_corrected_volatile_total BIGINT,
    ecc_uncorrected_volatile_total BIGINT,
    ecc_corrected_aggregate_total BIGINT,
    ecc_uncorrected_aggregate_total BIGINT,
    remapped_rows_correctable_total BIGINT,
    remapped_rows_uncorrectable_total BIGINT,
    pcie_replays_total BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    gpu_utilization_ratio REAL,
    memory_controller_utilization_ratio REAL,
    graphics_active_ratio REAL,
    sm_active_ratio REAL,
    sm_occupancy_ratio REAL,
    tensor_active_ratio REAL,
    fp64_active_ratio REAL,
    fp32_active_ratio REAL,
    fp16_active_ratio REAL,
    dram_active_ratio REAL,
    pcie_transmit_bytes_per_second REAL,
    pcie_receive_bytes_per_second REAL,
    nvlink_transmit_bytes_per_second REAL,
    nvlink_receive_bytes_per_second REAL,
    temperature_gpu_celsius REAL,
    temperature_memory_celsius REAL,
    power_draw_watts REAL,
    power_draw_mean_watts REAL,
    power_draw_peak_watts REAL,
    power_limit_watts REAL,
    sm_clock_megahertz REAL,
    memory_clock_megahertz REAL,
    remapped_rows_pending_flag REAL,
    remapped_rows_failure_flag REAL,
    compute_processes_count REAL
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON gpu_sample (entity_id, taken_at);
CREATE INDEX ON gpu_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE gpu_latest (LIKE gpu_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);

CREATE TABLE host_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    pressure_cpu_some_seconds_total DOUBLE PRECISION,
    pressure_memory_some_seconds_total DOUBLE PRECISION,
    pressure_memory_full_seconds_total DOUBLE PRECISION,
    pressure_io_some_seconds_total DOUBLE PRECISION,
    pressure_io_full_seconds_total DOUBLE PRECISION,
    cgroup_cpu_throttled_seconds_total DOUBLE PRECISION,
    uptime_seconds DOUBLE PRECISION,
    agent_cpu_seconds_total DOUBLE PRECISION,
    memory_total_bytes BIGINT,
    memory_available_bytes BIGINT,
    memory_used_bytes BIGINT,
    memory_cached_bytes BIGINT,
    swap_total_bytes BIGINT,
    swap_used_bytes BIGINT,
    cgroup_memory_limit_bytes BIGINT,
    cgroup_memory_used_bytes BIGINT,
    agent_resident_memory_bytes BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    clock_offset_seconds REAL,
    cpu_busy_ratio REAL,
    cpu_user_ratio REAL,
    cpu_system_ratio REAL,
    cpu_iowait_ratio REAL,
    cpu_steal_ratio REAL,
    cpu_logical_count REAL,
    load_1m_count REAL,
    load_5m_count REAL,
    load_15m_count REAL,
    pressure_cpu_some_10s_ratio REAL,
    pressure_memory_some_10s_ratio REAL,
    pressure_io_some_10s_ratio REAL,
    cgroup_cpu_limit_cores REAL,
    cpu_core_busy_ratio REAL[]
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON host_sample (entity_id, taken_at);
CREATE INDEX ON host_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE host_latest (LIKE host_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);

CREATE TABLE disk_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    busy_seconds_total DOUBLE PRECISION,
    read_bytes_total BIGINT,
    written_bytes_total BIGINT,
    reads_total BIGINT,
    writes_total BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON disk_sample (entity_id, taken_at);
CREATE INDEX ON disk_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE disk_latest (LIKE disk_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);

CREATE TABLE filesystem_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    total_bytes BIGINT,
    used_bytes BIGINT,
    available_bytes BIGINT,
    inodes_total_count BIGINT,
    inodes_free_count BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON filesystem_sample (entity_id, taken_at);
CREATE INDEX ON filesystem_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE filesystem_latest (LIKE filesystem_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);

CREATE TABLE network_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    received_bytes_total BIGINT,
    transmitted_bytes_total BIGINT,
    received_packets_total BIGINT,
    transmitted_packets_total BIGINT,
    receive_errors_total BIGINT,
    transmit_errors_total BIGINT,
    receive_drops_total BIGINT,
    transmit_drops_total BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON network_sample (entity_id, taken_at);
CREATE INDEX ON network_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE network_latest (LIKE network_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);

CREATE TABLE inference_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    counters_since_unix_seconds DOUBLE PRECISION,
    kv_cache_capacity_tokens BIGINT,
    prompt_tokens_total BIGINT,
    generation_tokens_total BIGINT,
    prompt_tokens_live_total BIGINT,
    generation_tokens_live_total BIGINT,
    prompt_tokens_cached_total BIGINT,
    prefix_cache_queries_total BIGINT,
    prefix_cache_hits_total BIGINT,
    preemptions_total BIGINT,
    requests_finished_total BIGINT,
    requests_aborted_total BIGINT,
    requests_failed_total BIGINT,
    ttft_seconds_sum DOUBLE PRECISION,
    inter_token_latency_seconds_sum DOUBLE PRECISION,
    time_per_output_token_seconds_sum DOUBLE PRECISION,
    queue_seconds_sum DOUBLE PRECISION,
    prefill_seconds_sum DOUBLE PRECISION,
    decode_seconds_sum DOUBLE PRECISION,
    end_to_end_seconds_sum DOUBLE PRECISION,
    prompt_length_tokens_sum DOUBLE PRECISION,
    output_length_tokens_sum DOUBLE PRECISION,
    iteration_tokens_sum DOUBLE PRECISION,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    layout_id INTEGER,
    up_flag REAL,
    scrape_seconds REAL,
    ranks_count REAL,
    requests_running_count REAL,
    requests_waiting_count REAL,
    kv_cache_usage_ratio REAL,
    ttft_seconds_buckets BIGINT[],
    inter_token_latency_seconds_buckets BIGINT[],
    time_per_output_token_seconds_buckets BIGINT[],
    queue_seconds_buckets BIGINT[],
    prefill_seconds_buckets BIGINT[],
    decode_seconds_buckets BIGINT[],
    end_to_end_seconds_buckets BIGINT[],
    prompt_length_tokens_buckets BIGINT[],
    output_length_tokens_buckets BIGINT[],
    iteration_tokens_buckets BIGINT[]
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON inference_sample (entity_id, taken_at);
CREATE INDEX ON inference_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE inference_latest (LIKE inference_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);
