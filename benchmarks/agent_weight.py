"""What the agent takes from the machine that it watches."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from benchmarks import flatness
from benchmarks.figures import Figure, Result
from benchmarks.processes import control_plane, cpu_seconds, environment, folder, free_ports, resident_bytes

SECONDS, QUICK_SECONDS = 60.0, 15.0
WINDOWS = 4
WARM_UP_SECONDS = 6.0  # the first look searches for GPUs, engines and the machine's identity

IMPORTS = "import asyncio, grpc, grpc.aio, pynvml, h11, google.protobuf"
# The libraries and nothing else.
BARE = f"{IMPORTS}; import time; time.sleep(3600)"
# The libraries, a loop that turns, and a channel that is connected: an agent that neither looks nor sends.
SILENT = f"""
{IMPORTS}
async def main():
    async with grpc.aio.insecure_channel(SERVER) as channel:
        await channel.channel_ready()
        while True:
            await asyncio.sleep(5)
asyncio.run(main())
"""


def _agent(path: Path, server: str, seconds: int) -> list[str]:
    flags = [f"--server={server}", f"--state-dir={path}", f"--sampling-interval-seconds={seconds}"]
    return [sys.executable, "-m", "node_agent", "run", *flags, f"--node-name=every-{seconds}-s", "--log-level=warning"]


EXPORTER = "prometheus-node-exporter"
# Debian's build asks systemd too: where there is none, it would pay for an error with every scrape.
EXPORTER_FLAGS = ("--log.level=error", "--no-collector.systemd")


class Exporters:
    """Debian's node_exporter, once for each interval, each scraped as Prometheus would."""

    def __init__(self) -> None:
        """Nothing runs before `commands` is asked for."""
        self._ports: dict[int, int] = {}
        self._stopped = threading.Event()
        self._scrapers: list[threading.Thread] = []
        self.scrapes = {5: 0, 1: 0}

    def commands(self) -> dict[str, list[str]]:
        """This will give what to start; nothing where the package is not installed."""
        program = shutil.which(EXPORTER)
        if program is None:
            return {}
        self._ports = dict(zip((5, 1), free_ports(2), strict=True))
        return {
            f"node_exporter at {seconds} s": [program, f"--web.listen-address=127.0.0.1:{port}", *EXPORTER_FLAGS]
            for seconds, port in self._ports.items()
        }

    def start_scraping(self) -> None:
        """This will fetch each page at its interval until `stop`."""
        for seconds, port in self._ports.items():
            thread = threading.Thread(target=self._scrape, args=(seconds, port), daemon=True)
            thread.start()
            self._scrapers.append(thread)

    def stop(self) -> None:
        """This will end the scraping."""
        self._stopped.set()
        for thread in self._scrapers:
            thread.join(10)

    def _scrape(self, seconds: int, port: int) -> None:
        while not self._stopped.wait(seconds):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    answer.read()
                self.scrapes[seconds] += 1
            except OSError:  # not counted: the notes show how many came
                pass


def measure(*, quick: bool) -> Result:
    """This will run agents and floors side by side for a minute and read what they cost."""
    seconds = QUICK_SECONDS if quick else SECONDS
    memory: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    exporters = Exporters()
    with folder() as path, control_plane("--no-local-agent") as server:
        door = f"127.0.0.1:{server.grpc_port}"
        commands = {
            "imports only": [sys.executable, "-c", BARE],
            "connected and silent": [sys.executable, "-c", SILENT.replace("SERVER", repr(door))],
            "agent at 5 s": _agent(path / "5", door, 5),
            "agent at 1 s": _agent(path / "1", door, 1),
            **exporters.commands(),
        }
        for name in ("5", "1"):
            (path / name).mkdir()
        processes = {name: subprocess.Popen(command, env=environment(), cwd=path) for name, command in commands.items()}
        try:
            exporters.start_scraping()
            time.sleep(WARM_UP_SECONDS)
            for _ in range(WINDOWS):
                before = {name: (time.monotonic(), cpu_seconds({p.pid})) for name, p in processes.items()}
                time.sleep(seconds / WINDOWS)
                for name, process in processes.items():
                    started, used = before[name]
                    share = (cpu_seconds({process.pid}) - used) / (time.monotonic() - started)
                    cpu.setdefault(name, []).append(share * 100)
                    memory.setdefault(name, []).append(resident_bytes(process.pid) / 2**20)
            nodes = {node["name"]: node for node in server.get("/nodes")["items"]}
            engines = {item["url"] for item in server.get("/inference/servers")["items"]}
        finally:
            exporters.stop()
            for process in processes.values():
                process.terminate()
                process.wait(10)
    held = flatness.measure(flatness.QUICK_MARKS if quick else flatness.MARKS)
    lost = sum(node["lost_ticks"] for node in nodes.values())
    return Result(
        name="agent_weight",
        title="Weight of the agent",
        explanation=(
            "Memory and CPU time of `optiinfra-agent run` against a running control plane, on this host: no GPU, no "
            f"inference server. All processes run side by side for {seconds:.0f} s after a warm-up; each run is a "
            "quarter of that. The first floor is a Python that only imports the agent's libraries (grpc, protobuf, "
            "pynvml, h11); the second additionally turns an event loop and holds an open gRPC channel, but "
            "neither looks nor sends. Beside them runs Debian's node_exporter, scraped at the same intervals; it "
            "looks at the host only and keeps nothing. Flatness is the memory of a whole agent (collectors, encoder, "
            "disk spool, stream) that takes its next sample as soon as few are under way, towards a server that "
            "acknowledges at once and keeps nothing."
        ),
        figures=[
            *(
                Figure(name=f"memory, {name}", unit="MiB", values=values, floor=_floor("memory", name, "imports only"))
                for name, values in memory.items()
            ),
            *(
                Figure(
                    name=f"CPU, {name}",
                    unit="% of a core",
                    values=values,
                    floor=_floor("CPU", name, "connected and silent"),
                )
                for name, values in cpu.items()
            ),
            *_beside(memory, "memory", "MiB"),
            *_beside(cpu, "CPU", "% of a core"),
            *_flat(held),
        ],
        notes=[f"Ticks lost by the two agents: {lost}.", _exporter_note(exporters, memory), *_engines_note(engines)],
    )


def _beside(readings: Mapping[str, Sequence[float]], what: str, unit: str) -> list[Figure]:
    """The agent again, with node_exporter as its floor."""
    return [
        Figure(
            name=f"{what}, agent at {seconds} s, beside node_exporter",
            unit=unit,
            values=readings[f"agent at {seconds} s"],
            floor=f"{what}, node_exporter at {seconds} s",
        )
        for seconds in (5, 1)
        if f"node_exporter at {seconds} s" in readings
    ]


def _flat(held: Mapping[int, float]) -> list[Figure]:
    first = min(held)
    return [
        Figure(
            name=f"memory after {mark:,} samples",
            unit="MiB",
            values=[value],
            floor=f"memory after {first:,} samples" if mark != first else None,
        )
        for mark, value in held.items()
    ]


def _exporter_note(exporters: Exporters, readings: Mapping[str, Sequence[float]]) -> str:
    if not any(name.startswith("node_exporter") for name in readings):
        return f"**NOT COMPARED with node_exporter: {EXPORTER} is not installed here** (`apt-get install {EXPORTER}`)."
    return f"Scrapes of node_exporter: {exporters.scrapes[5]} at 5 s, {exporters.scrapes[1]} at 1 s."


def _engines_note(urls: Collection[str]) -> list[str]:
    """The agents find whatever serves on this host, and look at it."""
    if not urls:
        return []
    return [f"**Somebody's inference servers ran here meanwhile ({len(urls)}), and the agents looked at them too.**"]


def _floor(what: str, name: str, floor: str) -> str | None:
    return f"{what}, {floor}" if name.startswith("agent") else None
