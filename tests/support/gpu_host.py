"""A GPU host without a GPU: the whole program, with the agent's driver replaced by FakeNvml.

    python -m tests.support.gpu_host http://127.0.0.1:9703 [--capture OPERATION …]

Starts a control plane with a database of its own and an agent that believes in the GPUs below, lets things happen to
them, and serves until it is stopped; with --capture it takes those examples of the API and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import node_agent.agent
from node_agent.clock import SystemClock
from node_agent.collectors.gpu import GpuCollector
from node_agent.host.nvml_facts import GpuProcess, PowerSample, ProcessUtilization, XidEvent
from node_agent.settings import Settings
from tests.fakes.gpus import b200, h100, h100_mig
from tests.fakes.nvml import FakeNvml

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 1.0
START_SECONDS = 120
# Long enough for every tier, every event and a few points of history.
STORY_SECONDS = 45.0
# As the driver writes them: tests/unit/node_agent/test_gpu_events.py.
FAULT = "NVRM: Xid (PCI:0000:00:09): 31, pid=4242, name=python, Ch 00000008, intr 00000000. MMU Fault"
FALLEN = "NVRM: Xid (PCI:0000:01:09): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def gpus() -> FakeNvml:
    """This will give the host's GPUs, with work on them."""
    driver = FakeNvml(h100(0), h100(1), b200(2), h100_mig(3))
    driver.gpus[0].compute_processes = [GpuProcess(pid=4242, used_bytes=9_876_543_210)]
    return driver


def logged(kernel_log: Path, line: str) -> None:
    """This will write a line as the kernel does."""
    microseconds = round(SystemClock().now().monotonic_seconds * 1_000_000)
    with kernel_log.open("a") as file:
        file.write(f"3,1,{microseconds},-;{line}\n")


async def happen(driver: FakeNvml, kernel_log: Path) -> None:
    """This will let time pass for the driver: power samples every second, faults after ten."""
    now = SystemClock().now
    for second in range(int(STORY_SECONDS)):
        stamp = round(now().wall.timestamp() * 1_000_000)
        for gpu in driver.gpus:
            gpu.energy_joules += 400.0
            gpu.power_samples = [
                PowerSample(taken_at_microseconds=stamp - 20_000 * n, watts=690.0 + 5 * (n % 7)) for n in range(50)
            ]
        driver.gpus[0].process_utilization = [
            ProcessUtilization(pid=4242, taken_at_microseconds=stamp, sm_utilization_ratio=0.97)
        ]
        if second == 10:
            logged(kernel_log, FAULT)
            driver.xids = [XidEvent(index=0, number=31)]
        if second == 15:
            logged(kernel_log, FALLEN)
            driver.xids = [XidEvent(index=1, number=79)]
            driver.gpus[1].is_lost = True
        await asyncio.sleep(1)


async def play(base: str, folder: Path, capture: Sequence[str] | None) -> None:
    """This will run everything, until stopped or captured."""
    port = urllib.parse.urlsplit(base).port or 8003
    grpc_port = port + 1
    command = [
        sys.executable, "-m", "control_plane", "up", "--no-local-agent", f"--port={port}", f"--grpc-port={grpc_port}",
        f"--data-dir={folder / 'data'}", "--log-level=warning",
    ]  # fmt: skip
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        await _ready(base, server)
        driver = gpus()
        kernel_log = folder / "kmsg"
        kernel_log.touch()
        node_agent.agent.build_gpus = lambda _: GpuCollector(driver, kernel_log=kernel_log)
        settings = Settings(
            server=f"127.0.0.1:{grpc_port}",
            state_dir=folder / "agent",
            node_name="gpu-host",
            sampling_interval_seconds=INTERVAL_SECONDS,
            discover_engines=False,
        )
        agent = asyncio.ensure_future(node_agent.agent.run(settings))
        await happen(driver, kernel_log)
        if capture is None:
            await agent
            return
        script = [sys.executable, str(ROOT / "scripts" / "capture_examples.py"), base, "--only", *capture]
        done = await asyncio.to_thread(subprocess.run, script, check=True)
        assert done.returncode == 0
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
    finally:
        server.terminate()
        server.wait(30)


async def _ready(base: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(START_SECONDS):
        if server.poll() is not None:
            break
        try:
            answer = await asyncio.to_thread(urllib.request.urlopen, f"{base}/health/ready", timeout=5)
        except OSError:
            await asyncio.sleep(1)
        else:
            answer.close()
            return
    raise SystemExit("the control plane did not start")


def main() -> None:
    """This will play until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="where to serve, such as http://127.0.0.1:9703; the next port is the agent's")
    parser.add_argument("--capture", nargs="+", help="examples to take (operation ids), then to end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # Postgres runs as another user when we are root
        asyncio.run(play(arguments.base.rstrip("/"), Path(folder), arguments.capture))


if __name__ == "__main__":
    main()
