"""A fleet to look at, of any size: GPUs at known kinds of work, servers on some of them, a node that fell silent, kinds
of GPU that do not say what their multiprocessors do. For the dashboard's tests, and for the pictures in docs/images.

The kinds of work are those of one recorded H200 (tests/data/recordings/h200-loads.rec), rounded; the fleet is made up.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from control_plane.access.gate import Gate
from control_plane.api.app import build_app
from control_plane.api.server import make_server
from control_plane.ingest.server import LinkService
from control_plane.model.slo import Indicator, SloDefinition, SloScope
from control_plane.stages.bottlenecks import BottleneckJob
from control_plane.stages.slo import SloJob
from control_plane.storage import slos
from control_plane.storage.session import Database
from node_agent.clock import Instant
from node_agent.model import Outcome, Reason, Tick, Value
from tests.fakes.clock import START, FakeClock, FakeNodeClock
from tests.support import fleet, judged
from tests.support.agent_links import ingesting, linked
from tests.support.fleet import GIB, HOST, NODE_KEY, Row, entity, histogram, report, tick
from tests.support.gates import OWN_KEY
from tests.support.rest import context_of
from tests.support.up import free_ports

PER_NODE = 8
STEP_SECONDS = 15
SHORT = 25  # ticks of a node that nobody looks at for long
MODELS = ("llama-70b", "qwen-7b", "mixtral-8x7b")
BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Work:
    """What a GPU does: shares of time, and watts."""

    classic: float
    sm: float
    tensor: float
    dram: float
    watts: float
    pcie: float = 0.0
    held_gib: float = 100.0


KINDS = {
    "decode": Work(1.0, 0.31, 0.06, 0.62, 410),
    "prefill": Work(1.0, 0.87, 0.58, 0.34, 660),
    "matmul": Work(1.0, 0.97, 0.93, 0.17, 700),
    "copy": Work(1.0, 0.04, 0.0, 0.03, 190, pcie=24e9),
    "light": Work(0.72, 0.12, 0.02, 0.17, 240),
    "held": Work(0.0, 0.0, 0.0, 0.0, 118),
    "empty": Work(0.0, 0.0, 0.0, 0.0, 76, held_gib=0.6),
}
# Of a node's eight GPUs; nodes take turns.
MIXES = (
    ("decode", "decode", "prefill", "light", "copy", "held", "empty", "matmul"),
    ("matmul",) * 8,
    ("decode", "decode", "decode", "light", "light", "light", "held", "held"),
    ("decode", "decode", "prefill", "prefill", "copy", "copy", "light", "light"),
    ("held", "held", "empty", "empty", "empty", "empty", "empty", "empty"),
)


def node_name(number: int) -> str:
    """This will give a node's name."""
    return f"h200-{number + 1:03d}"


def gpu_uuid(node: int, index: int) -> str:
    """This will give a GPU's UUID."""
    return f"GPU-{random.Random(f'{node} {index}').getrandbits(32):08x}-{node:04x}-4000-8000-{index:012x}"


@dataclass(frozen=True, slots=True)
class Scene:
    """How many GPUs, eight on a node."""

    gpus: int
    servers: bool = True
    ticks: int = 121  # of nodes with servers: half an hour
    old: frozenset[int] = frozenset()  # nodes whose GPUs know only the classic figures, beside one in twenty

    @property
    def nodes(self) -> int:
        """This will give how many nodes there are."""
        return math.ceil(self.gpus / PER_NODE)

    def kinds(self, node: int) -> Sequence[str]:
        """This will give what each GPU of a node does."""
        return MIXES[(node * 7) % len(MIXES)][: min(PER_NODE, self.gpus - node * PER_NODE)]

    def is_silent(self, node: int) -> bool:
        """This will say whether a node has fallen silent two minutes ago: one in fifty, none of the first ten."""
        return node % 50 == 37

    def is_old(self, node: int) -> bool:
        """This will say whether a node's GPUs know only the classic figures: one in twenty, none of the first ten."""
        return node % 20 == 13 or node in self.old

    def tick(self, node: int, age_seconds: float, at: Instant) -> Tick:
        """This will give what one node saw."""
        elapsed = 1800 - age_seconds
        kinds = self.kinds(node)
        name = "NVIDIA A100-SXM4-80GB" if self.is_old(node) else "NVIDIA H200"
        entities = [HOST, *(
            entity("gpu", gpu_uuid(node, n), index=n, name=name, processes=None) for n in range(len(kinds))
        )]  # fmt: skip
        rows: list[Row] = [("host", NODE_KEY, _host(node, elapsed)), ("agent", NODE_KEY, _agent(elapsed))]
        for n, kind in enumerate(kinds):
            rows.append(("gpu", gpu_uuid(node, n), _gpu(KINDS[kind], node, n, elapsed, old=self.is_old(node))))
        if self.servers and node < 3:
            url = "http://127.0.0.1:8000"
            entities.append(entity(
                "inference", url, engine=("vllm", "sglang", "vllm")[node], model=MODELS[node], state="up",
                state_detail="", version="0.11.0", pid=4001, pids=[4001], max_model_len=32768, source="socket",
                config={"tensor_parallel_size": 2, "gpu_memory_utilization": 0.9, "enable_prefix_caching": True},
            ))  # fmt: skip
            rows.append(("inference", url, _server(node, elapsed)))
        gpu = report("gpu", Outcome.PARTIAL, "GPM is not supported") if self.is_old(node) else report("gpu")
        return tick(at, entities, rows, gpu, report("system"), report("engine"))


def _wave(node: int, n: int, elapsed: float, *, depth: float) -> float:
    """A load that comes and goes in minutes, with some noise; around 1."""
    dice = random.Random(f"{node} {n} {elapsed}")
    slow = math.sin(elapsed / 210 + node * 1.7 + n)
    return 1 + depth * (0.6 * slow + 0.4 * dice.uniform(-1, 1))


def _gpu(work: Work, node: int, n: int, elapsed: float, *, old: bool) -> Mapping[str, Value]:
    wave = _wave(node, n, elapsed, depth=0.18 if work.classic < 1 else 0.08)

    def share(value: float) -> float:
        return min(1.0, value * wave)

    watts = work.watts * (0.9 + 0.1 * wave)
    # As if it had always been so: the counter of energy must grow as the power says.
    values: dict[str, Value] = {
        "gpu_utilization_ratio": share(work.classic) if work.classic < 1 else 1.0,
        "memory_controller_utilization_ratio": share(work.dram * 0.9), "graphics_active_ratio": share(work.classic),
        "sm_active_ratio": share(work.sm), "sm_occupancy_ratio": share(work.sm * 0.3),
        "tensor_active_ratio": share(work.tensor), "dram_active_ratio": share(work.dram),
        "pcie_receive_bytes_per_second": work.pcie * wave,
        "memory_total_bytes": 141 * GIB, "memory_used_bytes": work.held_gib * GIB,
        "memory_free_bytes": (141 - work.held_gib) * GIB,
        "temperature_gpu_celsius": 31 + watts / 18, "temperature_memory_celsius": 38 + watts / 20,
        "power_draw_watts": watts, "power_draw_mean_watts": watts, "power_draw_peak_watts": watts * 1.03,
        "power_limit_watts": 700.0, "energy_joules_total": 1e6 + work.watts * elapsed,
        "clock_event_reasons_bits": 0x4 if work.watts >= 690 else 0,
    }  # fmt: skip
    known = dict.fromkeys((f.name for f in fleet.TABLES["gpu"].fields), 0) | values
    if old:
        gone = [name for name in known if name.endswith("active_ratio") or name in fleet.GPM]
        known |= dict.fromkeys(gone, Reason.UNSUPPORTED)
    return known


def _host(node: int, elapsed: float) -> Mapping[str, Value]:
    wave = _wave(node, 9, elapsed, depth=0.3)
    return fleet.host(1) | {
        "cpu_busy_ratio": min(1.0, 0.34 * wave), "cpu_logical_count": 192, "load_1m_count": 61.2 * wave,
        "memory_total_bytes": 2048 * GIB, "memory_available_bytes": 1536 * GIB, "memory_used_bytes": 512 * GIB,
        "pressure_cpu_some_10s_ratio": 0.03 * wave, "pressure_io_some_10s_ratio": 0.004,
        "uptime_seconds": 8e5 + elapsed,
    }  # fmt: skip


def _agent(elapsed: float) -> Mapping[str, Value]:
    return dict.fromkeys((f.name for f in fleet.TABLES["agent"].fields), 0) | {
        "cpu_seconds_total": 0.004 * elapsed, "resident_memory_bytes": 46 * 1024**2, "tick_seconds": 0.013,
        "open_files_count": 21, "threads_count": 9,
    }  # fmt: skip


def _server(node: int, elapsed: float) -> Mapping[str, Value]:
    """Requests come at a steady rate; the third server's queue grows for ten minutes, and its first tokens are late."""
    steps = int(elapsed // STEP_SECONDS) + 1
    per_step, slow = (60, 30, 45)[node], (0.0, 0.0, 1.0)[node]
    times = [value for k in range(steps) for value in _times(node, k, slow)]
    late = max(0.0, elapsed - 1200) * slow
    running, waiting = (34, 11, 96)[node], int(late / 12)
    values: dict[str, Value] = {
        "up_flag": 1, "scrape_seconds": 0.004, "counters_since_unix_seconds": START.timestamp() - 90_000,
        "ranks_count": 1, "requests_running_count": running + int(6 * math.sin(elapsed / 90)),
        "requests_waiting_count": waiting, "kv_cache_usage_ratio": min(0.99, (0.46, 0.18, 0.71)[node] + late / 2200),
        "kv_cache_capacity_tokens": 912_400, "requests_finished_total": per_step * steps,
        "requests_failed_total": 0, "requests_aborted_total": steps // 20, "requests_rejected_total": 0,
        "prompt_tokens_total": 410 * per_step * steps, "generation_tokens_total": 240 * per_step * steps,
        "prefix_cache_queries_total": 410 * per_step * steps, "prefix_cache_hits_total": 190 * per_step * steps,
        "preemptions_total": int(late / 8),
        "ttft_seconds": histogram(BOUNDS, times),
        "time_per_output_token_seconds": histogram(BOUNDS, [v * 0.09 for v in times]),
        "end_to_end_seconds": histogram(BOUNDS, [v * 6 for v in times]),
        "queue_seconds": histogram(BOUNDS, [v * 0.3 for v in times]),
    }  # fmt: skip
    return dict.fromkeys((f.name for f in fleet.TABLES["inference"].fields), Reason.NOT_EXPOSED) | values


def _times(node: int, k: int, slow: float) -> list[float]:
    dice = random.Random(f"{node} {k}")
    late = max(0.0, k * STEP_SECONDS - 1200) * slow / 500
    return [dice.lognormvariate(-1.9, 0.45) * (1 + 4 * late) for _ in range(20)]


async def _play(address: str, clock: FakeNodeClock, scene: Scene, node: int) -> None:
    ticks = scene.ticks if node < 3 else SHORT
    last = 120.0 if scene.is_silent(node) else 2.0
    async with linked(address, clock, node_name(node)) as link:
        ages = [last + STEP_SECONDS * k for k in reversed(range(ticks))]
        made = [scene.tick(node, age, fleet.before(clock.now(), age)) for age in ages]
        assert not await link.committed(await link.send(made))


async def _fill(url: str, scene: Scene, clock: FakeClock) -> None:
    database = Database(url)
    true = FakeNodeClock(clock)
    async with ingesting(database, clock) as (_, address):
        for node in range(scene.nodes):
            await _play(address, true, scene, node)
    if scene.servers:
        await slos.write(database.engine, OBJECTIVES, clock.now() - timedelta(minutes=30))
        await asyncio.to_thread(_count, database, clock)
        await asyncio.to_thread(_judge_servers, database, clock)
    await judged.do_all(database, clock.now)
    await database.close()


OBJECTIVES = [
    SloDefinition(
        name="chat-ttft", indicator=Indicator.TTFT, target_ratio=0.95, window_days=30, threshold_seconds=0.5,
        scope=SloScope(model=MODELS[0]), route="chat",
    ),
    SloDefinition(
        name="batch-ttft", indicator=Indicator.TTFT, target_ratio=0.95, window_days=30, threshold_seconds=0.5,
        scope=SloScope(model=MODELS[2]), route="batch",
    ),
    SloDefinition(name="servers-up", indicator=Indicator.AVAILABILITY, target_ratio=0.999, window_days=7),
]  # fmt: skip


def _count(database: Database, clock: FakeClock) -> None:
    for seconds in (600, 300, *range(60, -1, -5)):
        job = SloJob(database, holder="scene", now=lambda ago=seconds: clock.now() - timedelta(seconds=ago))
        while job.work().more:
            pass
        job.close()


def _judge_servers(database: Database, clock: FakeClock) -> None:
    # It follows servers from when it first sees them; so it is called as it would have been, every half minute.
    since = [timedelta(seconds=seconds) for seconds in range(300, -1, -30)]
    moment = clock.now()
    job = BottleneckJob(database, holder="scene", now=lambda: moment)
    for ago in since:
        moment = clock.now() - ago
        while job.work().more:
            pass
    job.close()


def fill(url: str, scene: Scene, clock: FakeClock) -> None:
    """This will play a scene into the migrated database at `url`, and do all that is due then."""
    # In a thread of its own: where a browser is driven, this one has a loop already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(_fill(url, scene, clock))).result()


@contextmanager
def served(url: str, clock: FakeClock, *, keys: bool = False) -> Iterator[str]:
    """This will serve the API over a database on a port of its own, at a moment that stands still, and give where.

    With `keys` it answers only to one: OWN_KEY is good.
    """
    (port,) = free_ports(1)
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        database = Database(url)
        service = LinkService(database, clock, retention_days=14)
        gate = Gate(database, clock, own_key=OWN_KEY) if keys else None
        server = make_server(build_app(context_of(database, clock, service, gate=gate)), access_log=False)
        server.config.host, server.config.port = "127.0.0.1", port
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            ready.set()
            await asyncio.to_thread(stop.wait)
            server.should_exit = True
            await serving
        service.close()
        await database.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(30), "the server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join(15)
