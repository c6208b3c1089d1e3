-- One row: one column of a node's samples of an hour. Values are numbered entity by entity, then (where a sample holds
-- several) place by place, then sample by sample; a width of 0 means one series for all entities.
CREATE TABLE packed_sample (
    hour TIMESTAMPTZ NOT NULL,
    multiplier BIGINT NOT NULL,
    divisor BIGINT NOT NULL,
    node_id INTEGER NOT NULL,
    field_id SMALLINT NOT NULL,
    block SMALLINT NOT NULL,
    samples SMALLINT NOT NULL,
    width SMALLINT NOT NULL,
    encoding SMALLINT NOT NULL,
    entity_ids INTEGER[] NOT NULL,
    base BIGINT[] NOT NULL,
    step BIGINT[],
    p0 BYTEA,
    p1 BYTEA,
    p2 BYTEA,
    p3 BYTEA,
    p4 BYTEA,
    p5 BYTEA,
    p6 BYTEA,
    p7 BYTEA,
    missing BYTEA
) PARTITION BY RANGE (hour);

CREATE INDEX ON packed_sample (field_id, hour, node_id);

-- Nodes of which samples came for a day that is packed, or being packed.
CREATE TABLE packing_due (
    day DATE NOT NULL,
    node_id INTEGER NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (day, node_id, version)
);

-- Every commit leaves marks of its own: one that is being worked off is never changed under the worker.
ALTER TABLE rollup_due DROP CONSTRAINT rollup_due_pkey, ADD PRIMARY KEY (minute, node_id, version);

CREATE FUNCTION optiinfra_float4(whole BIGINT) RETURNS DOUBLE PRECISION
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sign(whole::float8) * CASE WHEN abs(whole) >> 23 = 0 THEN abs(whole) * power(2::float8, -149)
        ELSE ((abs(whole) & 8388607) + 8388608) * power(2::float8, ((abs(whole) >> 23) - 150)::float8) END
$$;

CREATE FUNCTION optiinfra_float8(whole BIGINT) RETURNS DOUBLE PRECISION
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN whole >> 52 = 0 THEN whole * power(2::float8, -1074)
        ELSE ((whole & 4503599627370495) + 4503599627370496)::float8 * power(2::float8, ((whole >> 52) - 1075)::float8)
        END
$$;

-- The numbers of one row, in their order; NULL where there was none.
CREATE FUNCTION optiinfra_unpacked(packed packed_sample) RETURNS DOUBLE PRECISION[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg(
        CASE WHEN get_byte(coalesce(p.missing, '\x00'), CASE WHEN p.missing IS NULL THEN 0 ELSE place END) = 1 THEN NULL
        ELSE CASE p.encoding
            WHEN 0 THEN (whole * p.multiplier)::float8 / p.divisor
            WHEN 1 THEN optiinfra_float4(whole)
            ELSE optiinfra_float8(whole) END
        END ORDER BY place)
    FROM (SELECT (packed).*) p,
    LATERAL (
        SELECT place, CASE WHEN p.step IS NULL THEN over + first
            ELSE first + (place % p.samples) * least + sum(over) OVER (PARTITION BY series ORDER BY place) END::bigint AS whole
        FROM (
            SELECT place, place / p.samples AS series,
                p.base[CASE cardinality(p.base) WHEN 1 THEN 1 ELSE place / p.samples + 1 END] AS first,
                p.step[CASE cardinality(p.step) WHEN 1 THEN 1 ELSE place / p.samples + 1 END] AS least,
                CASE WHEN p.p0 IS NULL THEN 0 ELSE get_byte(p.p0, place)::bigint END
                + CASE WHEN p.p1 IS NULL THEN 0 ELSE get_byte(p.p1, place)::bigint << 8 END
                + CASE WHEN p.p2 IS NULL THEN 0 ELSE get_byte(p.p2, place)::bigint << 16 END
                + CASE WHEN p.p3 IS NULL THEN 0 ELSE get_byte(p.p3, place)::bigint << 24 END
                + CASE WHEN p.p4 IS NULL THEN 0 ELSE get_byte(p.p4, place)::bigint << 32 END
                + CASE WHEN p.p5 IS NULL THEN 0 ELSE get_byte(p.p5, place)::bigint << 40 END
                + CASE WHEN p.p6 IS NULL THEN 0 ELSE get_byte(p.p6, place)::bigint << 48 END
                + CASE WHEN p.p7 IS NULL THEN 0 ELSE get_byte(p.p7, place)::bigint << 56 END AS over
            FROM generate_series(
                0, p.samples * CASE p.width WHEN 0 THEN 1 ELSE p.width * cardinality(p.entity_ids) END - 1
            ) AS place
        ) bytes
    ) wholes
$$;
