"""The node agent that `optiinfra up` runs on its own host, as a child process that is started again when it dies."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from control_plane.model.errors import ConfigurationError
from control_plane.runtime.clock import Clock
from control_plane.settings import LOOPBACK, PREFIX, Settings, environment_names, host_port

log = logging.getLogger(__name__)

RESTART_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
# One that ran for this long was well: its end is a first failure again.
WELL_SECONDS = 300.0
STOP_SECONDS = 6.0  # the agent drains for 3 s and closes its collectors
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Loaded here, before any fork: a child between fork and exec must not load libraries.
LIBC = ctypes.CDLL(None, use_errno=True)


def _ended_with_parent() -> Callable[[], None]:
    """This will give what runs in the child: a control plane that is killed must not leave an agent behind."""
    parent = os.getpid()

    def before_exec() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM.value, 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl: no signal will come
            os._exit(1)

    return before_exec


def agent_command(settings: Settings) -> list[str]:
    """This will give the command line of the local agent."""
    command = [
        sys.executable,
        "-m",
        "node_agent",
        "run",
        f"--server={host_port(settings.own_grpc_host, settings.grpc_port)}",
    ]
    command += [
        f"--state-dir={agent_state_dir(settings)}",
        f"--sampling-interval-seconds={settings.sampling_interval_seconds:g}",
        f"--log-level={settings.log_level if settings.log_level != 'info' else 'warning'}",
        "--gpu-monitoring-enabled" if settings.gpu_monitoring_enabled else "--no-gpu-monitoring-enabled",
        "--discover-engines" if settings.discover_engines else "--no-discover-engines",
    ]
    if settings.certified:
        command.append(f"--join-token-file={join_token_file(settings)}")
    elif settings.own_grpc_host not in LOOPBACK or (agent_state_dir(settings) / "tls").exists():
        command.append("--allow-plaintext")  # the link does not leave this host
    if settings.node_name:
        command.append(f"--node-name={settings.node_name}")
    if settings.node_labels:
        command.append(f"--node-labels={','.join(settings.node_labels)}")
    if settings.scrape_targets:
        command.append(f"--scrape-targets={','.join(settings.scrape_targets)}")
    return command


def agent_state_dir(settings: Settings) -> Path:
    """This will give the folder where the local agent keeps its id."""
    return settings.data_dir.resolve() / "agent"


def join_token_file(settings: Settings) -> Path:
    """This will give where the local agent finds the token that each start makes for it."""
    return agent_state_dir(settings) / "join_token"


def hand_over(settings: Settings, token: str) -> None:
    """This will leave a join token for the local agent, for nobody else to read."""
    path = join_token_file(settings)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)


def prepare(settings: Settings) -> None:
    """This will make the local agent's folder. Raises ConfigurationError where it cannot be."""
    state = agent_state_dir(settings)
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the local agent's folder {state} cannot be made: {error.strerror}; choose another with --data-dir"
        ) from error


async def run(settings: Settings, clock: Clock) -> None:
    """This will keep the local agent running until cancelled, then stop it and wait for it. Call `prepare` before."""
    failures = 0
    while True:
        started = clock.monotonic()
        try:
            ended = f"ended with code {await _run_once(settings)}"
        except OSError as error:  # no memory, no more processes: that passes
            ended = f"could not be started ({error.strerror})"
        if clock.monotonic() - started > WELL_SECONDS:
            failures = 0
        delay = RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)]
        log.error("the local agent %s; it is started again in %g s", ended, delay)
        failures += 1
        await asyncio.sleep(delay)


async def _run_once(settings: Settings) -> int:
    # Its settings come as flags; ours, and our secrets, are none of its business.
    ours = environment_names()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) and k not in ours}
    process = await asyncio.create_subprocess_exec(
        *agent_command(settings),
        cwd=agent_state_dir(settings),  # no .env there
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for us; we stop it in order
        preexec_fn=_ended_with_parent(),
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        await _stop(process)
        raise


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
