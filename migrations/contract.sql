-- What SQL users may build on, beside the views that control_plane/storage/sql_contract.py makes of the catalogue.
-- docs/history.md describes it. Each statement can be run again; what is used from outside never changes its meaning.

-- The number that stands for a bin of a quantile (control_plane/storage/rollups/sketches.py); NULL where there is none.
CREATE OR REPLACE FUNCTION optiinfra_bin_value(bin SMALLINT) RETURNS DOUBLE PRECISION
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN bin = 0 THEN 0.0 WHEN bin = -32768 THEN NULL
        ELSE sign(bin::float8) * 2 * exp(
            (abs(bin)::float8 - 1 + floor(ln(1e-9::float8) / ln(1.01::float8 / 0.99::float8))) * ln(1.01::float8 / 0.99::float8)
        ) / (1.01::float8 / 0.99::float8 + 1)
        END
$$;

-- The elements of the `thing`-th of a row's things, or of all of them (0); one element stands for as many.
CREATE OR REPLACE FUNCTION optiinfra_spread(elements ANYARRAY, things INTEGER, units INTEGER, thing INTEGER) RETURNS ANYARRAY
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN cardinality(elements) = 1
        THEN array_fill(elements[1], ARRAY[CASE WHEN thing = 0 THEN things * units ELSE units END])
        WHEN thing = 0 THEN elements ELSE elements[(thing - 1) * units + 1 : thing * units] END
$$;

-- Cells of one of the two tables. A row holds the cells of several things over several units, thing by thing.
CREATE OR REPLACE FUNCTION optiinfra_rolled_up(
    level REGCLASS, unit INTERVAL, span INTERVAL,
    field TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, of TEXT, ids INTEGER[]
) RETURNS TABLE (
    id INTEGER, node TEXT, key TEXT, start TIMESTAMPTZ, samples INTEGER, known INTEGER,
    minimum DOUBLE PRECISION, mean DOUBLE PRECISION, maximum DOUBLE PRECISION,
    p50 DOUBLE PRECISION, p95 DOUBLE PRECISION, p99 DOUBLE PRECISION, last DOUBLE PRECISION, share DOUBLE PRECISION,
    increase DOUBLE PRECISION, seconds DOUBLE PRECISION, resets INTEGER, gpus INTEGER
) LANGUAGE plpgsql STABLE SET search_path FROM CURRENT ROWS 100000 AS $$
#variable_conflict use_column
DECLARE
    wanted SMALLINT;
BEGIN
    IF level NOT IN ('rollup_minute'::regclass, 'rollup_hour'::regclass) THEN
        RAISE EXCEPTION 'there are rollup_minute and rollup_hour';
    END IF;
    SELECT f.field_id INTO wanted FROM metric_field f WHERE f.table_name = $7 AND f.name = $4;
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'there is no field % of %; optiinfra_fields lists those there are', $4, $7;
    END IF;
    -- Written out for the moments to be seen by the planner, which then leaves partitions out.
    RETURN QUERY EXECUTE format($q$
        SELECT thing, n.name, e.key, at, cell.samples, coalesce(cell.known, cell.samples),
            nullif(cell.minimum, 'NaN')::float8, nullif(cell.mean, 'NaN')::float8, nullif(cell.maximum, 'NaN')::float8,
            optiinfra_bin_value(cell.p50), optiinfra_bin_value(cell.p95), optiinfra_bin_value(cell.p99),
            coalesce(nullif(cell.last_exact, 'NaN'), nullif(cell.last, 'NaN')::float8), nullif(cell.share, 'NaN')::float8,
            nullif(cell.increase, 'NaN'), nullif(cell.seconds, 'NaN')::float8,
            CASE WHEN nullif(cell.increase, 'NaN') IS NULL THEN NULL ELSE coalesce(cell.resets, 0) END, cell.entities
        FROM (
            SELECT b.*, cardinality(b.entity_ids) AS things FROM %1$s b
            WHERE b.field_id = %2$s AND b.start > %3$L::timestamptz - %5$L::interval AND b.start < %4$L::timestamptz
            AND (%6$L::int[] IS NULL OR b.entity_ids && %6$L::int[])
        ) b
        -- All of a row at once, or those of its things that are asked for.
        CROSS JOIN LATERAL (
            SELECT 0 AS place WHERE %6$L::int[] IS NULL
            UNION ALL
            SELECT i FROM generate_subscripts(b.entity_ids, 1) i WHERE b.entity_ids[i] = ANY(%6$L::int[])
        ) picked
        CROSS JOIN LATERAL unnest(
            optiinfra_spread(b.samples, things, b.units, place), optiinfra_spread(b.known, things, b.units, place),
            optiinfra_spread(b.minimum, things, b.units, place), optiinfra_spread(b.mean, things, b.units, place), optiinfra_spread(b.maximum, things, b.units, place),
            optiinfra_spread(b.p50, things, b.units, place), optiinfra_spread(b.p95, things, b.units, place), optiinfra_spread(b.p99, things, b.units, place),
            optiinfra_spread(b.last, things, b.units, place), optiinfra_spread(b.last_exact, things, b.units, place), optiinfra_spread(b.share, things, b.units, place),
            optiinfra_spread(b.increase, things, b.units, place), optiinfra_spread(b.seconds, things, b.units, place), optiinfra_spread(b.resets, things, b.units, place),
            optiinfra_spread(b.entities, things, b.units, place)
        ) WITH ORDINALITY AS cell(
            samples, known, minimum, mean, maximum, p50, p95, p99, last, last_exact, share, increase, seconds, resets,
            entities, number
        )
        CROSS JOIN LATERAL (
            SELECT b.entity_ids[CASE WHEN place = 0 THEN ((number - 1) / b.units + 1)::int ELSE place END] AS thing,
                b.start + ((number - 1) %% b.units) * %7$L::interval AS at
        ) which
        LEFT JOIN entity e ON %8$L = '' AND e.entity_id = thing
        LEFT JOIN node n ON n.node_id = CASE WHEN %8$L = '' THEN e.node_id WHEN %8$L = 'node' THEN thing END
        WHERE cell.samples > 0 AND at >= %3$L::timestamptz AND at < %4$L::timestamptz
    $q$, level, wanted, since, until, span, ids, unit, split_part($7, '@', 2));
END
$$;

CREATE OR REPLACE FUNCTION optiinfra_minutes(
    field TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, of TEXT DEFAULT 'gpu', ids INTEGER[] DEFAULT NULL
) RETURNS TABLE (
    id INTEGER, node TEXT, key TEXT, start TIMESTAMPTZ, samples INTEGER, known INTEGER,
    minimum DOUBLE PRECISION, mean DOUBLE PRECISION, maximum DOUBLE PRECISION,
    p50 DOUBLE PRECISION, p95 DOUBLE PRECISION, p99 DOUBLE PRECISION, last DOUBLE PRECISION, share DOUBLE PRECISION,
    increase DOUBLE PRECISION, seconds DOUBLE PRECISION, resets INTEGER, gpus INTEGER
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT ROWS 100000 AS $$
    SELECT * FROM optiinfra_rolled_up('rollup_minute', interval '1 minute', interval '1 hour', $1, $2, $3, $4, $5)
$$;

CREATE OR REPLACE FUNCTION optiinfra_hours(
    field TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, of TEXT DEFAULT 'gpu', ids INTEGER[] DEFAULT NULL
) RETURNS TABLE (
    id INTEGER, node TEXT, key TEXT, start TIMESTAMPTZ, samples INTEGER, known INTEGER,
    minimum DOUBLE PRECISION, mean DOUBLE PRECISION, maximum DOUBLE PRECISION,
    p50 DOUBLE PRECISION, p95 DOUBLE PRECISION, p99 DOUBLE PRECISION, last DOUBLE PRECISION, share DOUBLE PRECISION,
    increase DOUBLE PRECISION, seconds DOUBLE PRECISION, resets INTEGER, gpus INTEGER
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT ROWS 100000 AS $$
    SELECT * FROM optiinfra_rolled_up('rollup_hour', interval '1 hour', interval '1 day', $1, $2, $3, $4, $5)
$$;

-- One number of every sample, whether its day is packed or not.
CREATE OR REPLACE FUNCTION optiinfra_samples(
    field TEXT, since TIMESTAMPTZ, until TIMESTAMPTZ, of TEXT DEFAULT 'gpu', ids INTEGER[] DEFAULT NULL
) RETURNS TABLE (id INTEGER, node TEXT, key TEXT, taken_at TIMESTAMPTZ, value DOUBLE PRECISION)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT ROWS 100000 AS $$
#variable_conflict use_column
DECLARE
    wanted SMALLINT;
    moment SMALLINT;
BEGIN
    SELECT f.field_id INTO wanted FROM metric_field f
    JOIN pg_attribute a ON a.attrelid = to_regclass(quote_ident($4 || '_sample')) AND a.attname = f.name
    WHERE f.table_name = $4 AND f.name = $1 AND a.atttypid IN ('real'::regtype, 'float8'::regtype, 'bigint'::regtype);
    SELECT f.field_id INTO moment FROM metric_field f WHERE f.table_name = $4 AND f.name = 'taken_at';
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'there is no single number % of %; optiinfra_fields lists those there are', $1, $4;
    END IF;
    RETURN QUERY EXECUTE format($q$
        SELECT s.entity_id, n.name, e.key, s.taken_at, s.value
        FROM (
            SELECT l.entity_id, l.taken_at, l.%1$I::float8 AS value FROM %2$I l
            WHERE l.taken_at >= %3$L::timestamptz AND l.taken_at < %4$L::timestamptz
            AND (%5$L::int[] IS NULL OR l.entity_id = ANY(%5$L::int[]))
            UNION ALL
            SELECT p.entity_ids[thing], at.taken_at, p.numbers[(thing - 1) * p.samples + at.place]
            FROM (
                SELECT p.*, optiinfra_unpacked(p) AS numbers FROM packed_sample p
                WHERE p.field_id = %6$s AND p.hour > %3$L::timestamptz - interval '1h' AND p.hour < %4$L::timestamptz
                AND (%5$L::int[] IS NULL OR p.entity_ids && %5$L::int[])
            ) p
            CROSS JOIN LATERAL (
                SELECT m.hour + offsets.us * interval '1 microsecond' AS taken_at, offsets.place FROM packed_sample m
                CROSS JOIN LATERAL unnest(optiinfra_unpacked(m)) WITH ORDINALITY AS offsets(us, place)
                WHERE m.field_id = %7$s AND m.hour = p.hour AND m.node_id = p.node_id AND m.block = p.block
            ) at
            CROSS JOIN LATERAL generate_series(1, cardinality(p.entity_ids)) AS thing
            WHERE at.taken_at >= %3$L::timestamptz AND at.taken_at < %4$L::timestamptz
            AND (%5$L::int[] IS NULL OR p.entity_ids[thing] = ANY(%5$L::int[]))
        ) s
        JOIN entity e ON e.entity_id = s.entity_id
        JOIN node n ON n.node_id = e.node_id
    $q$, $1, $4 || '_sample', since, until, ids, wanted, moment);
END
$$;

-- Of an earlier release.
DROP FUNCTION IF EXISTS optiinfra_spread(ANYARRAY, INTEGER);
