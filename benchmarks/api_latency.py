"""How long an answer takes."""

from __future__ import annotations

import asyncio
import statistics
import time

import psycopg

from benchmarks.figures import Figure, Result
from benchmarks.ingest import fleet
from benchmarks.processes import ControlPlane, control_plane, until

RUNS = 5
SECONDS_PER_RUN = 2.0
CLIENTS = (1, 8, 50)
FLOOR_PATH, PATH = "/health/live", "/gpu/metrics"
# What a page or a policy asks for all the time; the whole of a GPU is for who looks at one.
FIELDS = "gpu_utilization_ratio", "sm_active_ratio", "memory_used_bytes", "power_draw_watts", "temperature_gpu_celsius"
FEW = f"{PATH}?{'&'.join(f'field={name}' for name in FIELDS)}"
PATHS = {PATH: PATH, FEW: f"{PATH}, {len(FIELDS)} fields"}
GPUS = {8: 1, 1000: 125}  # and how many nodes have them


async def _client(port: int, path: str, until_seconds: float, took: list[float]) -> None:
    """This will ask again and again over one connection, and note each answer's time in ms."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    while True:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0]))
        took.append((time.perf_counter() - started) * 1000)
        if time.perf_counter() > until_seconds:
            break
    writer.close()


async def _ask(port: int, path: str, clients: int, seconds: float) -> list[float]:
    took: list[float] = []
    end = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(_client(port, path, end, took))
    return took


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def filled(server: ControlPlane, nodes: int, *, first: int) -> None:
    """This will have nodes send their newest samples, and wait until those are shown."""
    with fleet(server, f"--nodes={nodes}", f"--first={first}", "--ticks=2") as finish:
        finish()
    wanted = (nodes + first) * 8
    until(lambda: len(server.get(f"{PATH}?limit=10000")["items"]) == wanted, f"{wanted} GPUs")


def _rows_alone(server: ControlPlane) -> list[float]:
    """This will fetch what the answer is made of, and nothing more, and give the times in ms."""
    query = "SELECT * FROM entity JOIN node USING (node_id) JOIN gpu_latest USING (entity_id) ORDER BY entity_id"
    took = []
    with psycopg.connect(server.database_url) as connection:
        for _ in range(20):
            started = time.perf_counter()
            connection.execute(query).fetchall()
            took.append((time.perf_counter() - started) * 1000)
    return took


def measure(*, quick: bool) -> Result:
    """This will ask for the newest sample of every GPU, of few and of many, alone and in company."""
    runs, seconds = (1, 0.5) if quick else (RUNS, SECONDS_PER_RUN)
    figures: list[Figure] = []
    notes = []
    with control_plane("--no-local-agent") as server:
        stored = 0
        for gpus, nodes in GPUS.items():
            filled(server, nodes - stored, first=stored)
            stored = nodes
            sizes = [len(str(server.get(path))) // 1024 for path in PATHS]
            rows = statistics.median(_rows_alone(server))
            notes.append(
                f"The answer with {gpus} GPUs has some {sizes[0]:,} KiB, with {len(FIELDS)} fields {sizes[1]:,} KiB; "
                f"psycopg alone takes {rows:.1f} ms to fetch its rows."
            )
            for clients in CLIENTS:
                company = f"{gpus} GPUs, {clients} client{'s' * (clients > 1)}"
                measured: dict[str, list[list[float]]] = {FLOOR_PATH: [], **{path: [] for path in PATHS}}
                for _ in range(runs):
                    for path, values in measured.items():  # in turns, so that noise meets both
                        values.append(asyncio.run(_ask(server.port, path, clients, seconds)))
                for percent in (50, 95):
                    floor = f"floor: {FLOOR_PATH}, {company}, p{percent}"
                    shown = [(path, f"{name}, {company}, p{percent}", floor) for path, name in PATHS.items()]
                    for path, name, against in (*shown, (FLOOR_PATH, floor, None)):
                        values_ms = [_percentile(run, percent) for run in measured[path]]
                        figures.append(Figure(name=name, unit="ms", values=values_ms, floor=against))
    return Result(
        name="api_latency",
        title="Latency of the API",
        explanation=(
            f"`GET {PATH}`, the newest sample of every GPU with all its 45 fields, over kept connections, with 8 and "
            "with 1,000 GPUs in store; and the same of five fields (`field=`). An answer may be half a second old, and "
            "is made once for all who ask the same in it. Clients ask again as soon as they have their answer; they "
            f"run in one process beside the control plane. The floor is `GET {FLOOR_PATH}`, asked by as many: the "
            "way through the socket, HTTP and the framework, without database or data."
        ),
        figures=figures,
        notes=notes,
    )
