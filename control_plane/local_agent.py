"""The node agent that `optiinfra up` runs on its own host, as a child process that is started again when it dies."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
from pathlib import Path

from control_plane.settings import PREFIX, Settings

log = logging.getLogger(__name__)

RESTART_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
STOP_SECONDS = 6.0  # the agent drains for 3 s and closes its collectors
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _end_with_parent() -> None:
    """Runs in the child: a control plane that is killed must not leave an agent behind."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def agent_command(settings: Settings) -> list[str]:
    """This will give the command line of the local agent."""
    command = [sys.executable, "-m", "node_agent", "run", f"--server=127.0.0.1:{settings.grpc_port}"]
    command += [
        f"--state-dir={agent_state_dir(settings)}",
        f"--sampling-interval-seconds={settings.sampling_interval_seconds:g}",
        f"--log-level={settings.log_level if settings.log_level != 'info' else 'warning'}",
        "--gpu-monitoring-enabled" if settings.gpu_monitoring_enabled else "--no-gpu-monitoring-enabled",
        "--discover-engines" if settings.discover_engines else "--no-discover-engines",
    ]
    if settings.node_name:
        command.append(f"--node-name={settings.node_name}")
    if settings.scrape_targets:
        command.append(f"--scrape-targets={','.join(settings.scrape_targets)}")
    return command


def agent_state_dir(settings: Settings) -> Path:
    """This will give the folder where the local agent keeps its id."""
    return settings.data_dir.resolve() / "agent"


async def run(settings: Settings) -> None:
    """This will keep the local agent running until cancelled, then stop it and wait for it."""
    state = agent_state_dir(settings)
    state.mkdir(parents=True, exist_ok=True)
    # Its settings come as flags; ours, and our secrets, are none of its business.
    secret = ("GROQ_API_KEY", "DATABASE_URL")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) and k not in secret}
    failures = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            *agent_command(settings),
            cwd=state,  # no .env there
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for us; we stop it in order
            preexec_fn=_end_with_parent,
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        delay = RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)]
        log.error("the local agent ended with code %d; it is started again in %g s", code, delay)
        failures += 1
        await asyncio.sleep(delay)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
