"""What the agent takes from the machine that it watches."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.processes import control_plane, cpu_seconds, environment, folder, resident_bytes

SECONDS, QUICK_SECONDS = 60.0, 15.0
WINDOWS = 4
WARM_UP_SECONDS = 6.0  # the first look searches for GPUs, engines and the machine's identity

IMPORTS = "import asyncio, grpc, grpc.aio, psutil, pynvml, h11, google.protobuf"
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


def measure(*, quick: bool) -> Result:
    """This will run agents and floors side by side for a minute and read what they cost."""
    seconds = QUICK_SECONDS if quick else SECONDS
    memory: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with folder() as path, control_plane("--no-local-agent") as server:
        door = f"127.0.0.1:{server.grpc_port}"
        commands = {
            "imports only": [sys.executable, "-c", BARE],
            "connected and silent": [sys.executable, "-c", SILENT.replace("SERVER", repr(door))],
            "agent at 5 s": _agent(path / "5", door, 5),
            "agent at 1 s": _agent(path / "1", door, 1),
        }
        for name in ("5", "1"):
            (path / name).mkdir()
        processes = {name: subprocess.Popen(command, env=environment(), cwd=path) for name, command in commands.items()}
        try:
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
        finally:
            for process in processes.values():
                process.terminate()
                process.wait(10)
    lost = sum(node["lost_ticks"] for node in nodes.values())
    return Result(
        name="agent_weight",
        title="Weight of the agent",
        explanation=(
            "Memory and CPU time of `optiinfra-agent run` against a running control plane, on this host: no GPU, no "
            f"inference server. All processes run side by side for {seconds:.0f} s after a warm-up; each run is a "
            "quarter of that. The first floor is a Python that only imports the agent's libraries (grpc, protobuf, "
            "psutil, pynvml, h11); the second additionally turns an event loop and holds an open gRPC channel, but "
            "neither looks nor sends."
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
        ],
        notes=[f"Ticks lost by the two agents: {lost}."],
    )


def _floor(what: str, name: str, floor: str) -> str | None:
    return f"{what}, {floor}" if name.startswith("agent") else None
