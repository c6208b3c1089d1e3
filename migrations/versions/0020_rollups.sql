CREATE TABLE job_lease (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    token BIGINT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE metric_field (
    field_id SMALLINT GENERATED ALWAYS AS IDENTITY,
    table_name TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (field_id),
    UNIQUE (table_name, name)
);

CREATE TABLE rollup_progress (
    name TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE rollup_due (
    node_id INTEGER NOT NULL,
    minute TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (node_id, minute)
);

CREATE TABLE rollup_minute (
    start TIMESTAMPTZ NOT NULL,
    first_entity INTEGER NOT NULL,
    last_entity INTEGER NOT NULL,
    layout_id INTEGER,
    field_id SMALLINT NOT NULL,
    units SMALLINT NOT NULL,
    entity_ids INTEGER[] NOT NULL,
    samples SMALLINT[] NOT NULL,
    known SMALLINT[],
    reason SMALLINT[],
    minimum REAL[],
    mean REAL[],
    maximum REAL[],
    p50 SMALLINT[],
    p95 SMALLINT[],
    p99 SMALLINT[],
    last REAL[],
    last_exact DOUBLE PRECISION[],
    share REAL[],
    increase DOUBLE PRECISION[],
    seconds REAL[],
    resets SMALLINT[],
    reset_increase DOUBLE PRECISION[],
    buckets BIGINT[],
    sketch_lengths SMALLINT[],
    sketch_steps SMALLINT[],
    sketch_counts INTEGER[]
) PARTITION BY RANGE (start);

CREATE INDEX ON rollup_minute (field_id, start, first_entity);

CREATE TABLE rollup_hour (LIKE rollup_minute) PARTITION BY RANGE (start);

CREATE INDEX ON rollup_hour (field_id, start, first_entity);
