-- Views for Grafana and psql: one behind each table of the API, with `time` where a panel wants one.

CREATE VIEW grafana_gpu_use AS
SELECT u.start AS time,
    n.name AS node,
    e.key AS gpu,
    e.attributes->>'name' AS gpu_model,
    o.owner->>'namespace' AS namespace,
    o.owner->>'pod' AS pod,
    o.owner->>'model' AS model,
    u.paid_seconds / 3600 AS paid_gpu_hours,
    (u.use_work_seconds + u.use_busy_unspecified_seconds) / 3600 AS useful_gpu_hours,
    (u.use_slowed_seconds + u.use_host_starved_seconds + u.use_copying_seconds + u.use_underused_seconds) / 3600 AS inefficient_gpu_hours,
    (u.use_stuck_seconds + u.use_stalled_seconds + u.use_memory_held_seconds) / 3600 AS stranded_gpu_hours,
    (u.use_allocated_unused_seconds) / 3600 AS allocated_idle_gpu_hours,
    (u.use_unallocated_seconds) / 3600 AS unallocated_gpu_hours,
    (u.use_not_judged_seconds + u.use_no_samples_seconds) / 3600 AS unknown_gpu_hours,
    (u.use_work_joules + u.use_busy_unspecified_joules + u.use_slowed_joules + u.use_host_starved_joules + u.use_copying_joules + u.use_underused_joules + u.use_stuck_joules + u.use_stalled_joules + u.use_memory_held_joules + u.use_allocated_unused_joules + u.use_unallocated_joules + u.use_not_judged_joules + u.use_no_samples_joules) / 3.6e6 AS kilowatt_hours,
    u.busy_ratio_sum / nullif(u.busy_ratio_seconds, 0) AS busy_ratio,
    u.roofline_ratio_sum / nullif(u.roofline_ratio_seconds, 0) AS roofline_ratio,
    u.sm_active_ratio_sum / nullif(u.sm_active_ratio_seconds, 0) AS sm_active_ratio,
    u.tensor_active_ratio_sum / nullif(u.tensor_active_ratio_seconds, 0) AS tensor_active_ratio,
    u.dram_active_ratio_sum / nullif(u.dram_active_ratio_seconds, 0) AS dram_active_ratio,
    u.power_draw_watts_sum / nullif(u.power_draw_watts_seconds, 0) AS power_draw_watts,
    u.memory_used_bytes_sum / nullif(u.memory_used_bytes_seconds, 0) AS memory_used_bytes
FROM gpu_use_slot u
JOIN entity e ON e.entity_id = u.entity_id
JOIN node n ON n.node_id = u.node_id
LEFT JOIN use_owner o ON o.owner_id = u.owner_id;

CREATE VIEW grafana_gpu_use_hourly AS
SELECT u.start AS time,
    n.name AS node,
    e.key AS gpu,
    e.attributes->>'name' AS gpu_model,
    o.owner->>'namespace' AS namespace,
    o.owner->>'pod' AS pod,
    o.owner->>'model' AS model,
    u.paid_seconds / 3600 AS paid_gpu_hours,
    (u.use_work_seconds + u.use_busy_unspecified_seconds) / 3600 AS useful_gpu_hours,
    (u.use_slowed_seconds + u.use_host_starved_seconds + u.use_copying_seconds + u.use_underused_seconds) / 3600 AS inefficient_gpu_hours,
    (u.use_stuck_seconds + u.use_stalled_seconds + u.use_memory_held_seconds) / 3600 AS stranded_gpu_hours,
    (u.use_allocated_unused_seconds) / 3600 AS allocated_idle_gpu_hours,
    (u.use_unallocated_seconds) / 3600 AS unallocated_gpu_hours,
    (u.use_not_judged_seconds + u.use_no_samples_seconds) / 3600 AS unknown_gpu_hours,
    (u.use_work_joules + u.use_busy_unspecified_joules + u.use_slowed_joules + u.use_host_starved_joules + u.use_copying_joules + u.use_underused_joules + u.use_stuck_joules + u.use_stalled_joules + u.use_memory_held_joules + u.use_allocated_unused_joules + u.use_unallocated_joules + u.use_not_judged_joules + u.use_no_samples_joules) / 3.6e6 AS kilowatt_hours,
    u.busy_ratio_sum / nullif(u.busy_ratio_seconds, 0) AS busy_ratio,
    u.roofline_ratio_sum / nullif(u.roofline_ratio_seconds, 0) AS roofline_ratio,
    u.sm_active_ratio_sum / nullif(u.sm_active_ratio_seconds, 0) AS sm_active_ratio,
    u.tensor_active_ratio_sum / nullif(u.tensor_active_ratio_seconds, 0) AS tensor_active_ratio,
    u.dram_active_ratio_sum / nullif(u.dram_active_ratio_seconds, 0) AS dram_active_ratio,
    u.power_draw_watts_sum / nullif(u.power_draw_watts_seconds, 0) AS power_draw_watts,
    u.memory_used_bytes_sum / nullif(u.memory_used_bytes_seconds, 0) AS memory_used_bytes
FROM gpu_use_hour u
JOIN entity e ON e.entity_id = u.entity_id
JOIN node n ON n.node_id = u.node_id
LEFT JOIN use_owner o ON o.owner_id = u.owner_id;

CREATE VIEW grafana_server_use AS
SELECT u.start AS time,
    n.name AS node,
    e.key AS server,
    e.attributes->>'model' AS model,
    nullif(u.requests_finished, 'NaN') AS requests_finished,
    nullif(u.requests_failed, 'NaN') AS requests_failed,
    nullif(u.requests_arrived, 'NaN') AS requests_arrived,
    nullif(u.requests_arrived_minute_peak, 'NaN') AS requests_arrived_minute_peak,
    nullif(u.prompt_tokens, 'NaN') AS prompt_tokens,
    nullif(u.output_tokens, 'NaN') AS output_tokens,
    u.requests_running_sum / nullif(u.load_seconds, 0) AS requests_running,
    u.requests_waiting_sum / nullif(u.load_seconds, 0) AS requests_waiting,
    u.kv_cache_usage_sum / nullif(u.load_seconds, 0) AS kv_cache_usage_ratio,
    nullif(u.ttft_seconds_sum, 'NaN') / nullif(nullif(u.ttft_count, 'NaN'), 0) AS ttft_seconds,
    nullif(u.inter_token_seconds_sum, 'NaN') / nullif(nullif(u.inter_token_count, 'NaN'), 0) AS inter_token_seconds
FROM server_use_slot u
JOIN entity e ON e.entity_id = u.entity_id
JOIN node n ON n.node_id = u.node_id;

CREATE VIEW grafana_server_use_hourly AS
SELECT u.start AS time,
    n.name AS node,
    e.key AS server,
    e.attributes->>'model' AS model,
    nullif(u.requests_finished, 'NaN') AS requests_finished,
    nullif(u.requests_failed, 'NaN') AS requests_failed,
    nullif(u.requests_arrived, 'NaN') AS requests_arrived,
    nullif(u.requests_arrived_minute_peak, 'NaN') AS requests_arrived_minute_peak,
    nullif(u.prompt_tokens, 'NaN') AS prompt_tokens,
    nullif(u.output_tokens, 'NaN') AS output_tokens,
    u.requests_running_sum / nullif(u.load_seconds, 0) AS requests_running,
    u.requests_waiting_sum / nullif(u.load_seconds, 0) AS requests_waiting,
    u.kv_cache_usage_sum / nullif(u.load_seconds, 0) AS kv_cache_usage_ratio,
    nullif(u.ttft_seconds_sum, 'NaN') / nullif(nullif(u.ttft_count, 'NaN'), 0) AS ttft_seconds,
    nullif(u.inter_token_seconds_sum, 'NaN') / nullif(nullif(u.inter_token_count, 'NaN'), 0) AS inter_token_seconds
FROM server_use_hour u
JOIN entity e ON e.entity_id = u.entity_id
JOIN node n ON n.node_id = u.node_id;

CREATE VIEW grafana_waste AS
SELECT f.until AS time,
    f.window_seconds,
    f.subject_kind AS by,
    coalesce(f.body->>f.subject_kind, f.subject) AS name,
    c.class,
    c.gpu_hours,
    c.ratio,
    c.kilowatt_hours,
    c.usd
FROM finding f
CROSS JOIN LATERAL jsonb_to_recordset(f.body->'classes') AS c (
    class TEXT, gpu_hours DOUBLE PRECISION, ratio DOUBLE PRECISION, kilowatt_hours DOUBLE PRECISION, usd DOUBLE PRECISION
)
WHERE f.kind = 'gpu_use';

CREATE VIEW grafana_cost AS
SELECT f.until AS time,
    f.window_seconds,
    f.subject_kind AS by,
    coalesce(f.body->>f.subject_kind, f.subject) AS name,
    (f.body->>'gpus')::int AS gpus,
    (f.body->>'paid_gpu_hours')::float8 AS paid_gpu_hours,
    (f.body->>'usd')::float8 AS usd,
    (f.body->>'waste_usd')::float8 AS waste_usd,
    (f.body->>'unpriced_gpu_hours')::float8 AS unpriced_gpu_hours,
    f.body->'confidence'->>'level' AS confidence
FROM finding f
WHERE f.kind = 'gpu_use';

CREATE VIEW grafana_serving AS
SELECT f.until AS time,
    f.window_seconds,
    f.subject_kind AS by,
    coalesce(f.body->>'model', f.subject) AS model,
    f.body->>'url' AS server,
    (f.body->>'output_tokens')::float8 AS output_tokens,
    (f.body->>'output_tokens_per_second')::float8 AS output_tokens_per_second,
    (f.body->>'output_tokens_per_gpu_second')::float8 AS output_tokens_per_gpu_second,
    (f.body->>'output_tokens_per_joule')::float8 AS output_tokens_per_joule,
    (f.body->>'usd_per_million_tokens_allocation')::float8 AS usd_per_million_tokens_allocation,
    (f.body->>'usd_per_million_tokens_usage')::float8 AS usd_per_million_tokens_usage,
    (f.body->>'mfu_ratio')::float8 AS mfu_ratio,
    (f.body->>'mbu_ratio')::float8 AS mbu_ratio,
    f.body->>'reading' AS reading
FROM finding f
WHERE f.kind = 'serving';

CREATE VIEW grafana_opportunities AS
SELECT f.until AS time,
    f.window_seconds,
    (f.body->>'rank')::int AS rank,
    f.body->>'title' AS title,
    f.body->'about'->>'kind' AS about_kind,
    f.body->'about'->>'name' AS about,
    (f.body->'saving'->>'usd_per_month')::float8 AS usd_per_month,
    (f.body->'saving'->>'usd_per_month_low')::float8 AS usd_per_month_low,
    (f.body->'saving'->>'usd_per_month_high')::float8 AS usd_per_month_high,
    (f.body->'saving'->>'gpu_hours_per_month')::float8 AS gpu_hours_per_month,
    f.body->>'effort' AS effort,
    f.body->'confidence'->>'level' AS confidence,
    f.body->>'remedy' AS remedy,
    f.body->>'to_do' AS to_do
FROM finding f
WHERE f.kind = 'opportunity';

CREATE VIEW grafana_trends AS
SELECT f.until AS time,
    f.window_seconds,
    f.subject_kind AS by,
    f.subject AS name,
    s->>'series' AS series,
    s->>'unit' AS unit,
    (s->>'mean')::float8 AS mean,
    (s->'trend'->>'per_day')::float8 AS trend_per_day,
    (s->'trend'->>'is_clear')::boolean AS trend_is_clear,
    (s->>'daily_season_strength')::float8 AS daily_season_strength,
    (s->>'weekly_season_strength')::float8 AS weekly_season_strength,
    s->>'summary' AS summary
FROM finding f
CROSS JOIN LATERAL jsonb_array_elements(f.body->'series') AS s
WHERE f.kind = 'trend';

CREATE VIEW grafana_forecast AS
SELECT f.until + (h->>'horizon_seconds')::float8 * interval '1 second' AS time,
    f.subject_kind AS by,
    f.subject AS name,
    (f.body->>'bin_seconds')::float8 AS bin_seconds,
    s->>'series' AS series,
    (h->>'horizon_seconds')::float8 AS horizon_seconds,
    (h->>'expected')::float8 AS expected,
    (h->>'at_most')::float8 AS at_most,
    (h->>'accuracy')::float8 AS accuracy,
    (h->>'coverage_ratio')::float8 AS coverage_ratio,
    (h->>'skill_over_last_value')::float8 AS skill_over_last_value,
    h->>'note' AS note
FROM finding f
CROSS JOIN LATERAL jsonb_array_elements(f.body->'series') AS s
CROSS JOIN LATERAL jsonb_array_elements(s->'forecasts') AS h
WHERE left(f.kind, 8) = 'forecast';

-- "Is there anything new" is asked before a report is written again.
CREATE INDEX finding_found_at ON finding (found_at);
