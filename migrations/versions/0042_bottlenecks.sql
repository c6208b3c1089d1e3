SET LOCAL lock_timeout = '5s';

-- What binds a server, or a GPU that no server has, now; and what was learnt of the engine since it started.
CREATE TABLE bottleneck_now (
    entity_id integer PRIMARY KEY REFERENCES entity ON DELETE CASCADE,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    bottleneck text NOT NULL,
    verdict jsonb NOT NULL,
    habits jsonb NOT NULL
);

-- What bound before, one row for as long as it did.
CREATE TABLE bottleneck_spell (
    entity_id integer NOT NULL REFERENCES entity ON DELETE CASCADE,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    bottleneck text NOT NULL,
    verdict jsonb NOT NULL,
    PRIMARY KEY (entity_id, since)
);
CREATE INDEX ON bottleneck_spell (until);
