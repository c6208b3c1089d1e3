-- Expand: what the machine's links, InfiniBand ports and the agent itself say.

ALTER TABLE host_sample
    ADD COLUMN oom_kills_total BIGINT,
    ADD COLUMN huge_page_size_bytes BIGINT,
    ADD COLUMN huge_pages_count REAL,
    ADD COLUMN huge_pages_free_count REAL;

ALTER TABLE host_latest
    ADD COLUMN oom_kills_total BIGINT,
    ADD COLUMN huge_page_size_bytes BIGINT,
    ADD COLUMN huge_pages_count REAL,
    ADD COLUMN huge_pages_free_count REAL;

ALTER TABLE network_sample
    ADD COLUMN carrier_changes_total BIGINT,
    ADD COLUMN link_up_flag REAL,
    ADD COLUMN link_speed_bytes_per_second REAL;

ALTER TABLE network_latest
    ADD COLUMN carrier_changes_total BIGINT,
    ADD COLUMN link_up_flag REAL,
    ADD COLUMN link_speed_bytes_per_second REAL;

CREATE TABLE infiniband_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    received_bytes_total BIGINT,
    transmitted_bytes_total BIGINT,
    received_packets_total BIGINT,
    transmitted_packets_total BIGINT,
    transmit_waits_total BIGINT,
    receive_errors_total BIGINT,
    transmit_discards_total BIGINT,
    symbol_errors_total BIGINT,
    link_downs_total BIGINT,
    link_recoveries_total BIGINT,
    integrity_errors_total BIGINT,
    out_of_sequence_total BIGINT,
    congestion_notifications_sent_total BIGINT,
    congestion_notifications_handled_total BIGINT,
    acknowledgement_timeouts_total BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    link_up_flag REAL,
    link_speed_bytes_per_second REAL
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON infiniband_sample (entity_id, taken_at);
CREATE INDEX ON infiniband_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE infiniband_latest (LIKE infiniband_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);

CREATE TABLE agent_sample (
    taken_at TIMESTAMPTZ NOT NULL,
    cpu_seconds_total DOUBLE PRECISION,
    acknowledgement_age_seconds DOUBLE PRECISION,
    resident_memory_bytes BIGINT,
    ticks_skipped_total BIGINT,
    spool_bytes BIGINT,
    ticks_lost_total BIGINT,
    reconnects_total BIGINT,
    node_id INTEGER NOT NULL,
    entity_id INTEGER NOT NULL,
    unknown_set_id INTEGER,
    open_files_count REAL,
    threads_count REAL,
    tick_seconds REAL,
    tick_lateness_seconds REAL,
    collectors_failing_count REAL,
    spool_batches_count REAL
) PARTITION BY RANGE (taken_at);

CREATE INDEX ON agent_sample (entity_id, taken_at);
CREATE INDEX ON agent_sample USING brin (taken_at) WITH (pages_per_range = 32);

CREATE TABLE agent_latest (LIKE agent_sample, PRIMARY KEY (entity_id)) WITH (fillfactor = 45);
