"""Writes deploy/grafana/dashboards: `python deploy/grafana/build.py`, or `--check` whether they are as they would be
written. What the dashboards show is here and in panels.py; the JSON is not edited.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from panels import CLASSIC, HONEST, bars, chosen, coloured, dashboard, number, rolled_up, series, table

OUT = Path(__file__).parent / "dashboards"
NODE = chosen("node", "Node", "SELECT node FROM optiinfra_nodes ORDER BY 1")
GPU = chosen(
    "gpu", "GPU", "SELECT key FROM optiinfra_entities WHERE kind = 'gpu' AND node = ${node:sqlstring} ORDER BY "
    "(attributes->>'index')::int",
)  # fmt: skip
SERVER = chosen(
    "server", "Server", "SELECT DISTINCT key FROM optiinfra_entities WHERE kind = 'inference_server' "
    "AND node = ${node:sqlstring} ORDER BY 1",
)  # fmt: skip
OF_NODE = "ARRAY(SELECT node_id FROM optiinfra_nodes WHERE node = ${node:sqlstring})"
OF_GPU = "ARRAY(SELECT entity_id FROM optiinfra_entities WHERE kind = 'gpu' AND key = ${gpu:sqlstring})"
OF_HOST = "ARRAY(SELECT entity_id FROM optiinfra_entities WHERE kind = 'node' AND node = ${node:sqlstring})"
OF_SERVER = (
    "ARRAY(SELECT entity_id FROM optiinfra_entities WHERE kind = 'inference_server' "
    "AND node = ${node:sqlstring} AND key = ${server:sqlstring})"
)
CLASSIC_AND_HONEST = (coloured("GPU utilisation (classic)", CLASSIC, is_dashed=True), coloured("SM active", HONEST))
# A node that has been silent for longer says nothing of now.
FRESH = "taken_at > now() - interval '5 minutes'"
DAY = 86_400


def pair(of: str, ids: str = "NULL::int[]") -> dict[str, Any]:
    """This will draw the classic figure beside the honest one."""
    names = (("gpu_utilization_ratio", "GPU utilisation (classic)"), ("sm_active_ratio", "SM active"))
    queries = [rolled_up(field, of, metric=f"'{name}'", ids=ids) for field, name in names]
    return series(
        "What nvidia-smi shows, and what GPUs do", *queries, unit="percentunit", most=1, overrides=CLASSIC_AND_HONEST,
        description="The classic figure reads 100 % while any kernel runs. The other is the share of multiprocessors "
        "that had work.",
    )  # fmt: skip


def mean_now(field: str) -> str:
    """This will give the query for a mean over GPUs of their newest samples."""
    return f"SELECT avg({field}) AS value FROM optiinfra_gpu_latest WHERE {FRESH}"


def fleet() -> dict[str, Any]:
    """This will make the dashboard of everything at once."""
    gpus = f"SELECT count(*)::float8 AS value FROM optiinfra_gpu_latest WHERE {FRESH}"
    silent = "SELECT count(*)::float8 AS value FROM optiinfra_nodes WHERE last_sample_at < now() - interval '1 minute'"
    watts = f"SELECT sum(power_draw_watts) AS value FROM optiinfra_gpu_latest WHERE {FRESH}"
    firing = "SELECT count(*)::float8 AS value FROM optiinfra_alerts WHERE state = 'firing'"
    worst = (
        'SELECT g.node AS "Node", e.attributes->>\'index\' AS "GPU", e.attributes->>\'name\' AS "Model", '
        'g.gpu_utilization_ratio AS "GPU utilisation (classic)", g.sm_active_ratio AS "SM active", '
        'g.dram_active_ratio AS "DRAM", g.power_draw_watts AS "Power" FROM optiinfra_gpu_latest g '
        f"JOIN optiinfra_entities e USING (entity_id) WHERE {FRESH.replace('taken_at', 'g.taken_at')} "
        "ORDER BY g.gpu_utilization_ratio - g.sm_active_ratio DESC NULLS LAST LIMIT 50"
    )
    units = {
        "GPU utilisation (classic)": "percentunit",
        "SM active": "percentunit",
        "DRAM": "percentunit",
        "Power": "watt",
    }
    power = rolled_up("power_draw_watts", "gpu@fleet", metric="'Power'", value="mean * gpus")
    # Of many nodes, twenty are what one can tell apart; and minutes of all of them are read for few hours only.
    twenty = (
        f"ARRAY(SELECT n.node_id FROM optiinfra_gpu_latest g JOIN optiinfra_nodes n USING (node) WHERE {FRESH} GROUP BY 1 "
        "ORDER BY avg(g.gpu_utilization_ratio - g.sm_active_ratio) DESC NULLS LAST, 1 LIMIT 20)"
    )
    busiest = rolled_up("sm_active_ratio", "gpu@node", metric="node", ids=twenty, minutes="interval '2 hours'")
    return dashboard(
        "optiinfra-fleet", "OptiInfra: fleet", "Every GPU of every node, the classic figure beside the honest one.",
        [
            [
                (4, 4, number("GPUs", gpus, unit="none")),
                (4, 4, number("GPU utilisation (classic)", mean_now("gpu_utilization_ratio"), unit="percentunit", colour=CLASSIC)),
                (4, 4, number("SM active", mean_now("sm_active_ratio"), unit="percentunit", colour=HONEST)),
                (4, 4, number("Power", watts, unit="watt")),
                (4, 4, number("Silent nodes", silent, unit="none", description="no sample for a minute")),
                (4, 4, number("Alerts firing", firing, unit="none")),
            ],
            [(12, 9, pair("gpu@fleet")), (12, 9, series("Power", power, unit="watt"))],
            [(24, 9, series("SM active: the twenty nodes that look busiest for nothing", busiest, unit="percentunit", most=1))],
            [(24, 11, table("Looks busiest for nothing", worst, units=units))],
        ],
    )  # fmt: skip


def node() -> dict[str, Any]:
    """This will make the dashboard of one node."""
    cpu = rolled_up("cpu_busy_ratio", "host", metric="'CPU busy'", ids=OF_HOST)
    memory = rolled_up("memory_used_bytes", "host", metric="'Memory used'", ids=OF_HOST)
    pressure = [
        rolled_up(f"pressure_{name}_some_10s_ratio", "host", metric=f"'{name}'", ids=OF_HOST)
        for name in ("cpu", "memory", "io")
    ]
    gpus = (
        "SELECT e.attributes->>'index' AS \"GPU\", e.attributes->>'name' AS \"Model\", g.gpu_utilization_ratio AS "
        '"GPU utilisation (classic)", g.sm_active_ratio AS "SM active", g.tensor_active_ratio AS "Tensor", '
        'g.dram_active_ratio AS "DRAM", g.memory_used_bytes AS "Memory", g.power_draw_watts AS "Power", '
        'g.temperature_gpu_celsius AS "Temperature", g.unknown AS "Why unknown" FROM optiinfra_gpu_latest g '
        "JOIN optiinfra_entities e USING (entity_id) WHERE g.node = ${node:sqlstring} ORDER BY (e.attributes->>'index')::int"
    )
    units = {
        "GPU utilisation (classic)": "percentunit", "SM active": "percentunit", "Tensor": "percentunit",
        "DRAM": "percentunit", "Memory": "bytes", "Power": "watt", "Temperature": "celsius",
    }  # fmt: skip
    events = (
        'SELECT taken_at AS "Time", kind AS "What", key AS "Of", detail::text AS "Detail" FROM optiinfra_events '
        "WHERE $__timeFilter(taken_at) AND node = ${node:sqlstring} ORDER BY 1 DESC LIMIT 100"
    )
    return dashboard(
        "optiinfra-node", "OptiInfra: node", "One node: its GPUs and its machine.",
        [
            [(24, 9, table("GPUs now", gpus, units=units))],
            [(12, 9, pair("gpu@node", OF_NODE)), (12, 9, series("CPU", cpu, unit="percentunit", most=1))],
            [
                (12, 8, series("Memory", memory, unit="bytes")),
                (12, 8, series("Waiting for CPU, memory, disk", *pressure, unit="percentunit", description="PSI, some, 10 s")),
            ],
            [(24, 8, table("Events", events))],
        ],
        variables=[NODE],
    )  # fmt: skip


def gpu() -> dict[str, Any]:
    """This will make the dashboard of one GPU."""

    def line(
        title: str, unit: str, *fields: tuple[str, str], most: float | None = None, value: str = "mean"
    ) -> dict[str, Any]:
        queries = [rolled_up(field, "gpu", metric=f"'{name}'", ids=OF_GPU, value=value) for field, name in fields]
        return series(title, *queries, unit=unit, most=most)

    return dashboard(
        "optiinfra-gpu", "OptiInfra: GPU", "One GPU over time: what it did, and what held it back.",
        [
            [
                (12, 9, pair("gpu", OF_GPU)),
                (12, 9, line("Pipes and memory bandwidth", "percentunit", ("tensor_active_ratio", "Tensor"),
                             ("dram_active_ratio", "DRAM"), ("sm_occupancy_ratio", "SM occupancy"), most=1)),
            ],
            [
                (8, 8, line("Power", "watt", ("power_draw_watts", "Drawn"), ("power_limit_watts", "Limit"))),
                (8, 8, line("Temperature", "celsius", ("temperature_gpu_celsius", "GPU"), ("temperature_memory_celsius", "Memory"))),
                (8, 8, line("Memory", "bytes", ("memory_used_bytes", "Used"), ("memory_total_bytes", "Total"))),
            ],
            [
                (12, 8, line("PCIe", "Bps", ("pcie_receive_bytes_per_second", "To the GPU"), ("pcie_transmit_bytes_per_second", "From it"))),
                (12, 8, line("NVLink", "Bps", ("nvlink_receive_bytes_per_second", "To the GPU"), ("nvlink_transmit_bytes_per_second", "From it"))),
            ],
        ],
        variables=[NODE, GPU],
    )  # fmt: skip


def servers() -> dict[str, Any]:
    """This will make the dashboard of inference servers."""
    use = "FROM grafana_server_use WHERE $__timeFilter(time) AND node = ${node:sqlstring} AND server = ${server:sqlstring} ORDER BY 1"
    load = [
        rolled_up(f"requests_{name}_count", "inference", metric=f"'{name}'", ids=OF_SERVER)
        for name in ("running", "waiting")
    ]
    cache = rolled_up("kv_cache_usage_ratio", "inference", metric="'KV cache'", ids=OF_SERVER)
    tokens = [
        rolled_up(
            f"{name}_tokens_total",
            "inference",
            metric=f"'{name}'",
            value="increase / nullif(seconds, 0)",
            ids=OF_SERVER,
        )
        for name in ("prompt", "generation")
    ]
    times = [
        f"SELECT time, '{name}' AS metric, {column} AS value {use}"
        for name, column in (("to the first token", "ttft_seconds"), ("between tokens", "inter_token_seconds"))
    ]
    requests = [
        f"SELECT time, '{name}' AS metric, requests_{name} / 300 AS value {use}" for name in ("finished", "failed")
    ]
    now = (
        'SELECT e.node AS "Node", e.key AS "Server", e.attributes->>\'model\' AS "Model", e.attributes->>\'engine\' AS "Engine", '
        'e.attributes->>\'state\' AS "State", b.bottleneck AS "Bound by", l.requests_running_count AS "Running", '
        'l.requests_waiting_count AS "Waiting", l.kv_cache_usage_ratio AS "KV cache" FROM optiinfra_entities e '
        "LEFT JOIN optiinfra_inference_latest l USING (entity_id) LEFT JOIN optiinfra_bottlenecks b ON b.is_now "
        "AND b.about = 'inference_server' AND b.node = e.node AND b.key = e.key WHERE e.kind = 'inference_server' ORDER BY 1, 2"
    )
    bound = (
        "SELECT bottleneck AS metric, sum(extract(epoch FROM least(until, $__timeTo()::timestamptz) - "
        "greatest(since, $__timeFrom()::timestamptz)))::float8 AS value FROM optiinfra_bottlenecks WHERE node = ${node:sqlstring} AND key = ${server:sqlstring} "
        "AND since < $__timeTo()::timestamptz AND until > $__timeFrom()::timestamptz GROUP BY 1 ORDER BY 2 DESC"
    )
    return dashboard(
        "optiinfra-servers", "OptiInfra: inference servers", "What servers do, and what binds them.",
        [
            [(24, 8, table("Servers now", now, units={"KV cache": "percentunit"}))],
            [(12, 8, series("Requests", *load, unit="none")), (12, 8, series("KV cache used", cache, unit="percentunit", most=1))],
            [(12, 8, series("Tokens per second", *tokens, unit="none")), (12, 8, series("Mean times", *times, unit="s"))],
            [
                (12, 8, series("Requests per second", *requests, unit="reqps")),
                (12, 8, bars("What bound it, and for how long", bound, unit="s")),
            ],
        ],
        variables=[NODE, SERVER],
    )  # fmt: skip


def slos() -> dict[str, Any]:
    """This will make the dashboard of objectives."""
    now = (
        'SELECT s.slo AS "Objective", s.verdict AS "Guard", s.because AS "Because", s.target_ratio AS "Promised", '
        't.good / nullif(t.good + t.bad, 0) AS "Attained", '
        '1 - (t.bad / nullif(t.good + t.bad, 0)) / nullif(1 - s.target_ratio, 0) AS "Budget left" FROM optiinfra_slos s '
        "LEFT JOIN LATERAL (SELECT sum(good) AS good, sum(bad) AS bad FROM optiinfra_slo_hours h WHERE h.slo_id = s.slo_id "
        "AND h.time > now() - s.window_days * interval '1 day') t ON true ORDER BY 6 NULLS LAST"
    )
    burn = (
        "SELECT $__timeGroupAlias(time, $__interval), slo AS metric, "
        "sum(bad) / nullif(sum(good) + sum(bad), 0) / (1 - max(target_ratio)) AS value FROM optiinfra_slo_minutes "
        "WHERE $__timeFilter(time) GROUP BY 1, 2 ORDER BY 1"
    )
    events = (
        "SELECT $__timeGroupAlias(time, $__interval), slo AS metric, sum(bad) AS value FROM optiinfra_slo_minutes "
        "WHERE $__timeFilter(time) GROUP BY 1, 2 ORDER BY 1"
    )
    violations = (
        'SELECT since AS "Since", slo AS "Objective", inference_server AS "Server", ended_at AS "Ended", bad AS "Bad", '
        'events AS "Of", detected_at - since AS "Seen after" FROM optiinfra_slo_violations WHERE $__timeFilter(since) ORDER BY 1 DESC'
    )
    return dashboard(
        "optiinfra-slos", "OptiInfra: SLOs", "What was promised, what is left of the budget, and how fast it burns.",
        [
            [(24, 8, table("Objectives", now, units={"Promised": "percentunit", "Attained": "percentunit", "Budget left": "percentunit"}))],
            [
                (12, 9, series("Burn rate", burn, unit="none", description="1 uses the budget up just as its window ends")),
                (12, 9, series("Bad events", events, unit="none")),
            ],
            [(24, 8, table("Violations", violations))],
        ],
    )  # fmt: skip


def money() -> dict[str, Any]:
    """This will make the dashboard of cost and waste."""
    of = f"WHERE window_seconds = {DAY} AND by = 'fleet' AND time = (SELECT max(time) FROM grafana_cost WHERE window_seconds = {DAY})"
    newest = f"time = (SELECT max(time) FROM grafana_waste WHERE window_seconds = {DAY})"
    classes = ("useful", "inefficient", "stranded", "allocated_idle", "unallocated", "unknown")
    # Stretches of five minutes are kept for three days, hours for longer.
    short, long = (
        f"$__timeTo()::timestamptz - $__timeFrom()::timestamptz {than} interval '3 days'" for than in ("<=", ">")
    )
    hours = [
        f"SELECT $__timeGroupAlias(time, '1h'), '{name.replace('_', ' ')}' AS metric, sum(hours) AS value FROM ("
        f"SELECT time, {name}_gpu_hours AS hours FROM grafana_gpu_use WHERE $__timeFilter(time) AND {short} UNION ALL "
        f"SELECT time, {name}_gpu_hours FROM grafana_gpu_use_hourly WHERE $__timeFilter(time) AND {long}"
        ") used GROUP BY 1 ORDER BY 1"
        for name in classes
    ]
    went = f"SELECT class AS metric, usd AS value FROM grafana_waste WHERE window_seconds = {DAY} AND by = 'fleet' AND {newest}"
    nodes = (
        'SELECT name AS "Node", gpus AS "GPUs", usd AS "Cost", waste_usd AS "Waste", waste_usd / nullif(usd, 0) AS "Share", '
        f"kilowatt_hours AS \"Energy\" FROM grafana_cost WHERE window_seconds = {DAY} AND by = 'node' "
        f"AND time = (SELECT max(time) FROM grafana_cost WHERE window_seconds = {DAY}) ORDER BY 4 DESC NULLS LAST LIMIT 100"
    )
    back = (
        'SELECT rank AS "Rank", title AS "What", about AS "About", usd_per_month AS "A month", usd_per_month_low AS "At least", '
        'usd_per_month_high AS "At most", effort AS "Effort", confidence AS "Confidence", remedy AS "How" FROM grafana_opportunities '
        f"WHERE window_seconds = {DAY} AND time = (SELECT max(time) FROM grafana_opportunities WHERE window_seconds = {DAY}) "
        "ORDER BY 1 LIMIT 50"
    )
    serving = (
        'SELECT model AS "Model", usd_per_million_tokens_allocation AS "USD per million tokens", '
        'usd_per_million_tokens_usage AS "Of it while working", output_tokens_per_joule AS "Tokens per joule", reading AS "Reading" '
        f"FROM grafana_serving WHERE window_seconds = {DAY} AND by = 'model' "
        f"AND time = (SELECT max(time) FROM grafana_serving WHERE window_seconds = {DAY}) ORDER BY 2 DESC NULLS LAST"
    )

    def total(column: str) -> str:
        return f"SELECT sum({column}) AS value FROM grafana_cost {of}"

    return dashboard(
        "optiinfra-money", "OptiInfra: cost and waste", "Every paid GPU hour is in one class, and they add up.",
        [
            [
                (6, 4, number("Paid, last day", total("usd"), unit="currencyUSD")),
                (6, 4, number("Waste, last day", total("waste_usd"), unit="currencyUSD", colour=CLASSIC)),
                (6, 4, number("GPU hours without a price", total("unpriced_gpu_hours"), unit="h")),
                (6, 4, number("Energy, last day", total("kilowatt_hours"), unit="kwatth")),
            ],
            [
                (14, 9, series("Where GPU hours went, by the hour", *hours, unit="h", stacked=True)),
                (10, 9, bars("Where money went, last day", went, unit="currencyUSD")),
            ],
            [(24, 9, table("By node, last day", nodes, units={"Cost": "currencyUSD", "Waste": "currencyUSD", "Share": "percentunit", "Energy": "kwatth"}))],
            [(24, 9, table("What could be had back", back, units={"A month": "currencyUSD", "At least": "currencyUSD", "At most": "currencyUSD"}))],
            [(24, 7, table("What tokens cost, last day", serving, units={"USD per million tokens": "currencyUSD", "Of it while working": "currencyUSD"}))],
        ],
        since="now-7d",
    )  # fmt: skip


def agents() -> dict[str, Any]:
    """This will make the dashboard of the agents' own health."""
    now = (
        'SELECT n.node AS "Node", n.agent_version AS "Agent", extract(epoch FROM now() - n.last_sample_at)::float8 AS "Newest sample", '
        'n.clock_offset_seconds AS "Clock off by", a.tick_seconds AS "A look takes", a.resident_memory_bytes AS "Memory", '
        'a.spool_bytes AS "Waiting", a.ticks_lost_total AS "Lost ticks", a.collectors_failing_count AS "Failing" '
        "FROM optiinfra_nodes n LEFT JOIN optiinfra_agent_latest a USING (node) ORDER BY n.last_sample_at NULLS FIRST LIMIT 500"
    )
    units = {"Newest sample": "s", "Clock off by": "s", "A look takes": "s", "Memory": "bytes", "Waiting": "bytes"}
    lines = {
        "CPU of agents": ("cpu_seconds_total", "increase / nullif(seconds, 0)", "percentunit"),
        "Memory of agents": ("resident_memory_bytes", "mean", "bytes"),
        "How long a look takes": ("tick_seconds", "p95", "s"),
        "Not acknowledged": ("spool_bytes", "maximum", "bytes"),
    }
    charts = [
        series(title, rolled_up(field, "agent", metric="node", value=value), unit=unit)
        for title, (field, value, unit) in lines.items()
    ]
    return dashboard(
        "optiinfra-agents", "OptiInfra: agents", "Is every agent there, what does it cost its host, and what does it not get rid of.",
        [
            [(24, 10, table("Agents", now, units=units))],
            [(12, 8, charts[0]), (12, 8, charts[1])],
            [(12, 8, charts[2]), (12, 8, charts[3])],
        ],
    )  # fmt: skip


def everything() -> Mapping[str, str]:
    """This will give each file's text by its name."""
    made = (fleet(), node(), gpu(), servers(), slos(), money(), agents())
    return {f"{one['uid'].removeprefix('optiinfra-')}.json": json.dumps(one, indent=1) + "\n" for one in made}


def main() -> int:
    """This will write the dashboards, or say which are not as they would be written."""
    files = everything()
    if sys.argv[1:] == ["--check"]:
        old = [name for name, text in files.items() if not (OUT / name).is_file() or (OUT / name).read_text() != text]
        sys.stderr.write("".join(f"{name} is not as build.py makes it: run it\n" for name in old))
        return 1 if old else 0
    OUT.mkdir(exist_ok=True)
    for name, text in files.items():
        (OUT / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
