-- What is known of use and money since: pools, labels, energy; and one view of whatever was found.

CREATE OR REPLACE VIEW grafana_gpu_use AS
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
    u.memory_used_bytes_sum / nullif(u.memory_used_bytes_seconds, 0) AS memory_used_bytes,
    coalesce(o.owner->'labels'->>'pool', o.owner->'labels'->>'cloud.google.com/gke-nodepool',
        o.owner->'labels'->>'eks.amazonaws.com/nodegroup', o.owner->'labels'->>'kubernetes.azure.com/agentpool',
        o.owner->'labels'->>'karpenter.sh/nodepool') AS pool,
    o.owner->'labels' AS labels
FROM gpu_use_slot u
JOIN entity e ON e.entity_id = u.entity_id
JOIN node n ON n.node_id = u.node_id
LEFT JOIN use_owner o ON o.owner_id = u.owner_id;

CREATE OR REPLACE VIEW grafana_gpu_use_hourly AS
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
    u.memory_used_bytes_sum / nullif(u.memory_used_bytes_seconds, 0) AS memory_used_bytes,
    coalesce(o.owner->'labels'->>'pool', o.owner->'labels'->>'cloud.google.com/gke-nodepool',
        o.owner->'labels'->>'eks.amazonaws.com/nodegroup', o.owner->'labels'->>'kubernetes.azure.com/agentpool',
        o.owner->'labels'->>'karpenter.sh/nodepool') AS pool,
    o.owner->'labels' AS labels
FROM gpu_use_hour u
JOIN entity e ON e.entity_id = u.entity_id
JOIN node n ON n.node_id = u.node_id
LEFT JOIN use_owner o ON o.owner_id = u.owner_id;

CREATE OR REPLACE VIEW grafana_cost AS
SELECT f.until AS time,
    f.window_seconds,
    f.subject_kind AS by,
    coalesce(f.body->>f.subject_kind, f.subject) AS name,
    (f.body->>'gpus')::int AS gpus,
    (f.body->>'paid_gpu_hours')::float8 AS paid_gpu_hours,
    (f.body->>'usd')::float8 AS usd,
    (f.body->>'waste_usd')::float8 AS waste_usd,
    (f.body->>'unpriced_gpu_hours')::float8 AS unpriced_gpu_hours,
    f.body->'confidence'->>'level' AS confidence,
    (f.body->>'waste_gpu_hours')::float8 AS waste_gpu_hours,
    (f.body->>'kilowatt_hours')::float8 AS kilowatt_hours,
    (f.body->>'energy_usd')::float8 AS energy_usd,
    f.body->>'currency' AS currency
FROM finding f
WHERE f.kind = 'gpu_use';

CREATE VIEW grafana_findings AS
SELECT f.until AS time,
    f.kind,
    f.window_seconds,
    f.subject_kind AS by,
    f.subject AS name,
    f.place,
    f.since,
    f.found_at,
    f.body
FROM finding f;
