SET LOCAL lock_timeout = '5s';

CREATE TABLE slo (
    slo_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    -- Since when its events mean what they mean now: another threshold begins another count.
    counted_since timestamptz NOT NULL
);

-- Up to which sample of a server events have been counted, for all objectives at once.
CREATE TABLE slo_progress (
    entity_id integer PRIMARY KEY REFERENCES entity ON DELETE CASCADE,
    seen_at timestamptz NOT NULL
);

CREATE TABLE slo_minute (
    slo_id integer NOT NULL REFERENCES slo ON DELETE CASCADE,
    start timestamptz NOT NULL,
    good double precision NOT NULL,
    bad double precision NOT NULL,
    doubtful double precision NOT NULL,
    PRIMARY KEY (slo_id, start)
);

CREATE TABLE slo_hour (LIKE slo_minute INCLUDING ALL);
ALTER TABLE slo_hour ADD FOREIGN KEY (slo_id) REFERENCES slo ON DELETE CASCADE;

-- What is usual for each server: what its guard tolerates is taken from these.
CREATE TABLE slo_server_hour (
    slo_id integer NOT NULL REFERENCES slo ON DELETE CASCADE,
    entity_id integer NOT NULL REFERENCES entity ON DELETE CASCADE,
    start timestamptz NOT NULL,
    good double precision NOT NULL,
    bad double precision NOT NULL,
    doubtful double precision NOT NULL,
    PRIMARY KEY (slo_id, entity_id, start)
);
CREATE INDEX ON slo_server_hour (start);

-- The guard's newest verdict; entity_id 0 is of all servers in scope together.
CREATE TABLE slo_judgement (
    slo_id integer NOT NULL REFERENCES slo ON DELETE CASCADE,
    entity_id integer NOT NULL,
    judged_at timestamptz NOT NULL,
    since timestamptz,
    events double precision NOT NULL,
    bad double precision NOT NULL,
    bad_share double precision,
    evidence double precision NOT NULL,
    tolerated_share double precision NOT NULL,
    verdict text NOT NULL,
    because text NOT NULL,
    unknown text,
    PRIMARY KEY (slo_id, entity_id)
);

CREATE TABLE slo_violation (
    violation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slo_id integer NOT NULL REFERENCES slo ON DELETE CASCADE,
    entity_id integer NOT NULL,
    kind text NOT NULL,
    since timestamptz NOT NULL,
    detected_at timestamptz NOT NULL,
    ended_at timestamptz,
    events double precision NOT NULL,
    bad double precision NOT NULL,
    detail jsonb NOT NULL
);
CREATE UNIQUE INDEX ON slo_violation (slo_id, entity_id, kind) WHERE ended_at IS NULL;
CREATE INDEX ON slo_violation (since);
