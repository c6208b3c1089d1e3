"""A small fleet whose every number can be worked out by hand, and how it is played through the gRPC door.

Tick k (0 to 120) was taken `age_seconds(k)` before now: every 5 s, the last one 2 s ago.

alpha  two H200s with GPM, two disks (one fell silent), vLLM of llama-8b on GPU 0, a server that is gone
beta   one A100 without GPM, clock 30 s ahead, ticks 40 to 49 lost; llama-8b at the same URL, restarted at tick 80;
       two instances of its GPU are there and one is gone
gamma  no GPU; SGLang and vLLM of qwen-7b, whose buckets differ; one batch refused
delta  introduced itself and never sent a sample
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.storage.session import Database
from node_agent.clock import Instant
from node_agent.model import (
    CollectorReport,
    Entity,
    EntityKind,
    Event,
    Histogram,
    Outcome,
    Reason,
    Sample,
    Severity,
    Tick,
    Value,
)
from node_agent.uplink import wire
from optiinfra.catalogue import TABLES
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import START, FakeClock, FakeNodeClock
from tests.support.agent_links import INTERVAL_SECONDS, ingesting, linked

TICKS = 121
LAST_AGE_SECONDS = 2
NOW = START
GPU_0, GPU_1, A100 = "GPU-h200-0", "GPU-h200-1", "GPU-a100-0"
INSTANCE_0, INSTANCE_1, INSTANCE_GONE = "MIG-a100-0-1", "MIG-a100-0-5", "MIG-a100-0-9"
LLAMA, QWEN = "llama-8b", "qwen-7b"
URL = "http://127.0.0.1:8000"  # of both llama servers: a loopback address says the same on every node
SGLANG_URL, QWEN_URL, GONE_URL = "http://127.0.0.1:30000", "http://127.0.0.1:8001", "http://127.0.0.1:9000"
ALPHA_PID, BETA_PID = 4001, 5001
RESTART_TICK, SINCE_RESTART_SECONDS = 80, 3
FAILED_SCRAPES = range(100, 104)
LOST_TICKS = range(40, 50)
GONE_AFTER_TICK = 20
VLLM_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
SGLANG_BOUNDS = (0.1, 0.2, 0.4, 0.8, 1.6)
LENGTH_BOUNDS = (64.0, 128.0, 256.0, 512.0)
GIB = 1024**3


def age_seconds(k: int) -> float:
    """This will give how long before now tick k was taken."""
    return LAST_AGE_SECONDS + INTERVAL_SECONDS * (TICKS - 1 - k)


def taken_at(k: int) -> datetime:
    """This will give when tick k was taken."""
    return NOW - timedelta(seconds=age_seconds(k))


def ticks_within(seconds: float) -> list[int]:
    """This will give the ticks of the last `seconds`."""
    return [k for k in range(TICKS) if age_seconds(k) <= seconds]


# -- values ---------------------------------------------------------------------------------------


def _all(table: str, values: Mapping[str, Value], otherwise: Value) -> dict[str, Value]:
    names = [f.name for f in TABLES[table].fields]
    assert values.keys() <= set(names)
    return dict.fromkeys(names, otherwise) | dict(values)


GPM = (
    "graphics_active_ratio", "sm_active_ratio", "sm_occupancy_ratio", "tensor_active_ratio", "fp64_active_ratio",
    "fp32_active_ratio", "fp16_active_ratio", "dram_active_ratio", "pcie_transmit_bytes_per_second",
    "pcie_receive_bytes_per_second", "nvlink_transmit_bytes_per_second", "nvlink_receive_bytes_per_second",
)  # fmt: skip


def gpu_0(k: int) -> dict[str, Value]:
    """This will give GPU 0 of alpha: bound by its tensor cores, 500 W, throttled a tenth of the time."""
    return _all(
        "gpu",
        {
            "gpu_utilization_ratio": 1.0, "sm_active_ratio": 0.8, "tensor_active_ratio": 0.6, "dram_active_ratio": 0.3,
            "memory_total_bytes": 140 * GIB, "memory_used_bytes": 100 * GIB, "memory_free_bytes": 40 * GIB,
            "temperature_gpu_celsius": 50 + k % 10, "temperature_memory_celsius": 45.5,
            "power_draw_watts": 500.0, "power_draw_mean_watts": 499.5, "power_draw_peak_watts": 640.25,
            "power_limit_watts": 700.0, "energy_joules_total": 1000.0 + 2500.0 * k, "clock_event_reasons_bits": 0x4,
        },
        0,
    )  # fmt: skip


def health_0(k: int) -> dict[str, Value]:
    """This will give the health of GPU 0, read at every second tick: throttled a tenth of the time, links up."""
    return _all(
        "gpu_health",
        {
            "throttled_power_cap_seconds_total": 0.5 * k, "ecc_corrected_aggregate_total": 2,
            "nvlink_links_count": 18, "nvlink_links_active_count": 18, "bar1_used_bytes": 2 * GIB,
            "fan_speed_ratio": Reason.UNSUPPORTED,
        },
        0,
    )  # fmt: skip


def gpu_1(k: int) -> dict[str, Value]:
    """This will give GPU 1 of alpha: idle up to tick 60, then seven ticks of ten bound by memory, three copying."""
    busy = k > 60
    copying = busy and k % 10 >= 7
    return _all(
        "gpu",
        {
            "gpu_utilization_ratio": 1.0 if busy else 0.0,
            "sm_active_ratio": Reason.FIRST_SAMPLE if k == 0 else 0.01 if copying else 0.9 if busy else 0.0,
            "dram_active_ratio": 0.85 if busy and not copying else 0.0,
            "pcie_receive_bytes_per_second": 50e9 if copying else 0.0,
            "temperature_memory_celsius": Reason.UNSUPPORTED,
            "power_draw_watts": 250.0, "energy_joules_total": 1250.0 * k, "clock_event_reasons_bits": 0x1,
        },
        0,
    )  # fmt: skip


def a100(_k: int) -> dict[str, Value]:
    """This will give beta's GPU: no GPM, no energy counter, busy by the classic figure."""
    unsupported: dict[str, Value] = dict.fromkeys((*GPM, "energy_joules_total"), Reason.UNSUPPORTED)
    clock_bits: dict[str, Value] = {"clock_event_reasons_bits": Reason.NO_PERMISSION}
    return _all("gpu", unsupported | clock_bits | {"gpu_utilization_ratio": 1.0, "power_draw_watts": 300.0}, 0)


def instance(_k: int) -> dict[str, Value]:
    """This will give an instance of beta's GPU: its memory, and no way to say how busy it is."""
    sizes: dict[str, Value] = {"memory_total_bytes": 40 * GIB, "memory_used_bytes": 4 * GIB}
    return _all("gpu_instance", sizes, Reason.UNSUPPORTED)


def host(k: int) -> dict[str, Value]:
    """This will give any node's own values."""
    return _all(
        "host",
        {
            "cpu_busy_ratio": Reason.FIRST_SAMPLE if k == 0 else 0.25, "cpu_core_busy_ratio": (0.1, 0.4),
            "cpu_logical_count": 2, "load_1m_count": 1.5,
            "memory_total_bytes": 64 * GIB, "memory_available_bytes": 48 * GIB, "memory_used_bytes": 16 * GIB,
            "pressure_io_some_seconds_total": 0.25 * k, "cgroup_memory_limit_bytes": Reason.UNSUPPORTED,
            "uptime_seconds": 86_400.0 - age_seconds(k),
        },
        0,
    )  # fmt: skip


def disk(k: int) -> dict[str, Value]:
    """This will give a disk that reads 1,000 B/s and writes 2,000 B/s."""
    return _all("disk", {"read_bytes_total": 5_000 * k, "written_bytes_total": 10_000 * k}, 0)


def filesystem() -> dict[str, Value]:
    """This will give a file system that is a quarter full."""
    sizes: dict[str, Value] = {"total_bytes": 400 * GIB, "used_bytes": 100 * GIB, "available_bytes": 300 * GIB}
    return _all("filesystem", sizes, Reason.UNSUPPORTED)


def network(k: int) -> dict[str, Value]:
    """This will give an interface that receives 100 B/s."""
    return _all("network", {"received_bytes_total": 500 * k}, 0)


# -- inference servers ----------------------------------------------------------------------------


def ttft(server: str, k: int) -> list[float]:
    """This will give every time to first token that a server observed between tick k-1 and tick k."""
    dice = random.Random(f"{server} {k}")
    return [dice.lognormvariate(-2.5, 0.8) for _ in range(4)]


def histogram(bounds: Sequence[float], observations: Iterable[float]) -> Histogram:
    """This will count observations into buckets, as an engine does."""
    counts = [0] * (len(bounds) + 1)
    total = 0.0
    for value in observations:
        counts[bisect.bisect_left(bounds, value)] += 1
        total += value
    return Histogram(bounds=tuple(bounds), counts=tuple(counts), sum=total)


def _vllm(
    server: str, ticks: Sequence[int], *, began: datetime, counts: Mapping[str, Value], bounds: Sequence[float]
) -> dict[str, Value]:
    observed = [value for k in ticks for value in ttft(server, k)]
    return _all(
        "inference",
        {
            "up_flag": 1, "scrape_seconds": 0.004, "counters_since_unix_seconds": began.timestamp(), "ranks_count": 1,
            "requests_running_count": 3, "requests_waiting_count": 0,
            "ttft_seconds": histogram(bounds, observed),
            "inter_token_latency_seconds": histogram(bounds, [0.015] * 5 * len(ticks)),
            "prompt_length_tokens": histogram(LENGTH_BOUNDS, [100.0] * 5 * len(ticks)),
            **counts,
        },
        Reason.NOT_EXPOSED,
    )  # fmt: skip


def vllm_alpha(k: int) -> dict[str, Value]:
    """This will give alpha's vLLM: 1 request/s, 100 prompt and 50 output tokens/s, hit ratio 0.6, a quarter full."""
    counts: dict[str, Value] = {
        "requests_finished_total": 7_000 + 5 * k, "prompt_tokens_total": 900_000 + 500 * k,
        "generation_tokens_total": 400_000 + 250 * k,
        "prefix_cache_queries_total": 900_000 + 500 * k, "prefix_cache_hits_total": 100_000 + 300 * k,
        "preemptions_total": k // 10, "kv_cache_usage_ratio": 0.25, "kv_cache_capacity_tokens": 100_000,
    }  # fmt: skip
    return _vllm("alpha", range(k + 1), began=NOW - timedelta(days=1), counts=counts, bounds=VLLM_BOUNDS)


def vllm_beta(k: int) -> dict[str, Value]:
    """This will give beta's vLLM: 30 output tokens/s in both of its runs; scrapes 100 to 103 failed."""
    if k in FAILED_SCRAPES:
        return _all("inference", {"up_flag": 0}, Reason.TIMED_OUT)
    restarted = taken_at(RESTART_TICK) - timedelta(seconds=SINCE_RESTART_SECONDS)
    if k < RESTART_TICK:
        ticks, began, seconds = range(k + 1), NOW - timedelta(days=1), 5.0 * k
    else:
        ticks, began = range(RESTART_TICK, k + 1), restarted
        seconds = (taken_at(k) - restarted).total_seconds()
    counts: dict[str, Value] = {"generation_tokens_total": int(30 * seconds), "requests_finished_total": int(seconds)}
    return _vllm("beta", ticks, began=began, counts=counts, bounds=VLLM_BOUNDS)


def sglang(k: int) -> dict[str, Value]:
    """This will give SGLang: 60 prompt and 40 output tokens/s live; counted at requests' ends, 20 and 10.

    Of the 200 tokens of a tick, 4 are first tokens, which its live counter leaves out.
    """
    counts: dict[str, Value] = {
        "prompt_tokens_live_total": 300 * k, "generation_tokens_live_total": 196 * k,
        "prompt_tokens_total": 100 * k, "generation_tokens_total": 50 * k,
    }  # fmt: skip
    return _vllm("sglang", range(k + 1), began=NOW - timedelta(days=1), counts=counts, bounds=SGLANG_BOUNDS)


def vllm_qwen(k: int) -> dict[str, Value]:
    """This will give gamma's vLLM: 10 output tokens/s; nobody has looked anything up in its prefix cache."""
    counts: dict[str, Value] = {
        "generation_tokens_total": 50 * k, "prefix_cache_queries_total": 77, "prefix_cache_hits_total": 7,
    }  # fmt: skip
    return _vllm("qwen", range(k + 1), began=NOW - timedelta(days=1), counts=counts, bounds=VLLM_BOUNDS)


def vllm_gone(k: int) -> dict[str, Value]:
    """This will give the server that went after tick 20."""
    if k > GONE_AFTER_TICK:
        return _all("inference", {"up_flag": 0}, Reason.SERVER_GONE)
    return _vllm("gone", range(k + 1), began=NOW - timedelta(days=1), counts={}, bounds=VLLM_BOUNDS)


# -- nodes ----------------------------------------------------------------------------------------

Row = tuple[str, str, Mapping[str, Value]]  # table, key, values
_KINDS = {
    "gpu": EntityKind.GPU, "gpu_health": EntityKind.GPU, "gpu_instance": EntityKind.GPU_INSTANCE,
    "host": EntityKind.NODE, "disk": EntityKind.DISK, "filesystem": EntityKind.FILESYSTEM,
    "network": EntityKind.NETWORK_INTERFACE, "infiniband": EntityKind.INFINIBAND_PORT, "agent": EntityKind.NODE,
    "inference": EntityKind.INFERENCE_SERVER, "lmcache": EntityKind.CACHE_SERVER,
    "gpu_process": EntityKind.GPU_PROCESS,
    "server_cgroup": EntityKind.INFERENCE_SERVER,
}  # fmt: skip


def entity(table: str, key: str, **attributes: object) -> Entity:
    """This will describe a thing."""
    return Entity(kind=_KINDS[table], key=key, attributes=attributes)


def tick(at: Instant, entities: Sequence[Entity], rows: Sequence[Row], *reports: CollectorReport) -> Tick:
    """This will make a tick of rows."""
    samples = [Sample(table=table, entity=(_KINDS[table], key), values=values) for table, key, values in rows]
    return Tick(taken_at=at, entities=entities, samples=samples, reports=reports)


def report(collector: str, outcome: Outcome = Outcome.OK, detail: str = "") -> CollectorReport:
    """This will say how a collector's run went."""
    return CollectorReport(collector=collector, outcome=outcome, duration_seconds=0.01, detail=detail)


def _server(url: str, engine: str, model: str, *, state: str = "up", pid: int | None = None) -> Entity:
    return entity(
        "inference", url, engine=engine, model=model, state=state, state_detail="", version="0.11.0", pid=pid,
        pids=[pid] if pid else [], max_model_len=8192, config={"tensor_parallel_size": 1}, source="socket",
    )  # fmt: skip


def _instance(key: str, number: int, *, state: str = "present") -> Entity:
    parts = [{"uuid": key, "compute_instance_id": 0, "sm_count": 42}]
    return entity(
        "gpu_instance", key, gpu=A100, gpu_index=0, gpu_instance_id=number, profile="3g.40gb", sm_count=42,
        name="NVIDIA A100-SXM4-80GB MIG 3g.40gb", compute_instances=parts, processes=[], state=state,
    )  # fmt: skip


def _gpu(key: str, index: int, name: str, pid: int | None) -> Entity:
    processes = None if pid is None else [{"pid": pid, "name": "VLLM::EngineCore", "used_bytes": 90 * GIB}]
    return entity("gpu", key, index=index, name=name, processes=processes)


NODE_KEY = "node"  # as the system collector names it
EVENT_TICKS = {20: 31, 40: 79, 60: 31}  # tick: XID of GPU 0 in it


def xid(number: int, at: Instant) -> Event:
    """This will make an XID of GPU 0, two seconds before its tick."""
    severity = Severity.CRITICAL if number == 79 else Severity.INFO
    detail = {"number": number, "class": "reset" if number == 79 else "application", "pci": "0000:00:06", "pid": 4242}
    taken_at = at.wall - timedelta(seconds=2)
    return Event(taken_at=taken_at, kind="xid", entity=(EntityKind.GPU, GPU_0), severity=severity, detail=detail)


HOST = entity("host", NODE_KEY, kernel="6.8.0")


def alpha(k: int, at: Instant) -> Tick:
    """This will give a tick of alpha."""
    entities = [
        HOST, _gpu(GPU_0, 0, "NVIDIA H200", ALPHA_PID), _gpu(GPU_1, 1, "NVIDIA H200", None),
        _server(URL, "vllm", LLAMA, pid=ALPHA_PID),
        _server(GONE_URL, "vllm", "mistral-7b", state="gone" if k > GONE_AFTER_TICK else "up"),
    ]  # fmt: skip
    rows: list[Row] = [
        ("gpu", GPU_0, gpu_0(k)), ("gpu", GPU_1, gpu_1(k)), ("host", NODE_KEY, host(k)), ("disk", "sda", disk(k)),
        ("filesystem", "/", filesystem()), ("filesystem", "/data", filesystem()),
        ("network", "eth0", network(k)), ("network", "eth1", network(0)),
        ("inference", URL, vllm_alpha(k)), ("inference", GONE_URL, vllm_gone(k)),
    ]  # fmt: skip
    if k % 2 == 0:
        rows.append(("gpu_health", GPU_0, health_0(k)))
    if k <= 60:
        rows.append(("disk", "sdb", disk(k)))
    seen = tick(at, entities, rows, report("gpu"), report("system"), report("engine"))
    return replace(seen, events=[xid(EVENT_TICKS[k], at)]) if k in EVENT_TICKS else seen


def beta(k: int, at: Instant) -> Tick:
    """This will give a tick of beta."""
    state = "unreachable" if k in FAILED_SCRAPES else "up"
    entities = [
        HOST, _gpu(A100, 0, "NVIDIA A100-SXM4-80GB", BETA_PID), _server(URL, "vllm", LLAMA, state=state, pid=BETA_PID),
        _instance(INSTANCE_0, 1), _instance(INSTANCE_1, 5), _instance(INSTANCE_GONE, 9, state="gone"),
    ]  # fmt: skip
    rows: list[Row] = [
        ("gpu", A100, a100(k)), ("gpu_instance", INSTANCE_0, instance(k)), ("gpu_instance", INSTANCE_1, instance(k)),
        ("host", NODE_KEY, host(k)), ("disk", "nvme0n1", disk(k)),
        ("network", "eth0", network(k)), ("inference", URL, vllm_beta(k)),
    ]  # fmt: skip
    return tick(at, entities, rows, report("gpu", Outcome.PARTIAL, "GPM is not supported"), report("system"))


def gamma(k: int, at: Instant) -> Tick:
    """This will give a tick of gamma; its disk sdz is announced and never sampled."""
    entities = [HOST, entity("disk", "sdz"), _server(SGLANG_URL, "sglang", QWEN), _server(QWEN_URL, "vllm", QWEN)]
    rows: list[Row] = [
        ("host", NODE_KEY, host(k)), ("inference", SGLANG_URL, sglang(k)), ("inference", QWEN_URL, vllm_qwen(k)),
    ]  # fmt: skip
    return tick(at, entities, rows, report("gpu", Outcome.ABSENT, "no NVIDIA driver on this host"), report("system"))


# -- the agent's end of the door --------------------------------------------------------------------


def before(now: Instant, seconds: float) -> Instant:
    """This will give an earlier moment on both of a node's clocks."""
    return Instant(wall=now.wall - timedelta(seconds=seconds), monotonic_seconds=now.monotonic_seconds - seconds)


async def _play(
    address: str, clock: FakeNodeClock, name: str, make: Callable[[int, Instant], Tick], ticks: Sequence[int]
) -> None:
    async with linked(address, clock, name) as link:
        made = [make(k, before(clock.now(), age_seconds(k))) for k in ticks]
        half = len(made) // 2
        await link.send(made[:half])
        if name == "beta":
            link.seq += 2
            loss = link_pb2.Loss(first_seq=2, last_seq=3, tick_count=len(LOST_TICKS), reason="the spool was full")
            await link.call.write(link_pb2.AgentMessage(loss=loss))
        if name == "gamma":
            link.seq += 1
            stranger = telemetry_pb2.Tick(
                taken_at_unix_us=wire.unix_us(clock.now()), taken_at_monotonic_us=wire.monotonic_us(clock.now()),
                rows=[telemetry_pb2.Rows(schema_id=999, records=b"")],
            )  # fmt: skip
            await link.call.write(link_pb2.AgentMessage(batch=telemetry_pb2.Batch(seq=link.seq, ticks=[stranger])))
        refused = await link.committed(await link.send(made[half:]))
        assert refused.keys() == ({2} if name == "gamma" else set())


async def play_fleet(address: str, clock: FakeClock) -> None:
    """This will send everything that the fleet saw up to now, and return when it is committed."""
    true = FakeNodeClock(clock)
    ahead = FakeNodeClock(clock, ahead_seconds=30.0)
    everything = range(TICKS)
    await _play(address, true, "alpha", alpha, everything)
    await _play(address, ahead, "beta", beta, [k for k in everything if k not in LOST_TICKS])
    await _play(address, true, "gamma", gamma, everything)
    async with linked(address, true, "delta"):
        pass


async def fill(url: str) -> None:
    """This will play the fleet into the database at `url`."""
    clock, database = FakeClock(), Database(url)
    try:
        async with ingesting(database, clock) as (_, address):
            await play_fleet(address, clock)
    finally:
        await database.close()
