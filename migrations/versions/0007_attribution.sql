CREATE TABLE gpu_process_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    host_cpu_seconds_total DOUBLE PRECISION,
    memory_used_bytes BIGINT,
    host_resident_bytes BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    sm_utilization_ratio REAL
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON gpu_process_sample (entity_id, taken_at);
CREATE INDEX ON gpu_process_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE gpu_process_latest (LIKE gpu_process_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);
