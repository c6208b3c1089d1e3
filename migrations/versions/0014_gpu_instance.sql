CREATE TABLE gpu_instance_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    memory_total_bytes BIGINT,
    memory_used_bytes BIGINT,
    memory_free_bytes BIGINT,
    memory_reserved_bytes BIGINT,
    ecc_uncorrected_sram_volatile_total BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    graphics_active_ratio REAL,
    sm_active_ratio REAL,
    sm_occupancy_ratio REAL,
    tensor_active_ratio REAL,
    fp64_active_ratio REAL,
    fp32_active_ratio REAL,
    fp16_active_ratio REAL,
    dram_active_ratio REAL,
    pcie_transmit_bytes_per_second REAL,
    pcie_receive_bytes_per_second REAL
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON gpu_instance_sample (entity_id, taken_at);
CREATE INDEX ON gpu_instance_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE gpu_instance_latest (LIKE gpu_instance_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);
