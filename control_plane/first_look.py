"""What `optiinfra up` prints once it runs: where to look, and what was found on this host."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from control_plane.settings import LOOPBACK, WILDCARDS, Settings, host_port

# The first sample takes a look at the CPU, GPUs and engines: about a second; more, and something is wrong.
PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.25
ANSWER_TIMEOUT_SECONDS = 5.0


async def greet(settings: Settings, ready: asyncio.Event, own_key: str) -> None:
    """This will wait for the API and the first sample, then print what a newcomer needs."""
    await ready.wait()
    shown_host = "localhost" if settings.host in (*LOOPBACK, *WILDCARDS) else settings.host
    base = f"{'https' if settings.tls_cert_file else 'http'}://{host_port(shown_host, settings.port)}"
    _say(f"  ready        {base}/dashboard, {base}/docs (REST)")
    if not settings.local_agent:
        _say(f"  agents       none here; start one with: optiinfra agent --server HOST:{settings.grpc_port}")
        return
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await _is_sampled(settings, own_key):  # noqa: ASYNC110 - it is another program that samples
                await asyncio.sleep(POLL_SECONDS)
            found = await _found(settings, own_key)
    except (OSError, TimeoutError, ValueError, KeyError):  # a greeting: what runs must not end because of it
        found = "no sample yet; the messages above say why"
    _say(f"  found        {found}")
    _say("  stop         Ctrl-C; history is kept and is there at the next start")


async def _is_sampled(settings: Settings, own_key: str) -> bool:
    try:
        nodes = await _get(settings, "/nodes", own_key)
        return any(node["last_sample_at"] for node in nodes["items"] if not node["replayed"])
    except KeyError:  # a problem instead of a list: the database is away for a moment
        return False


async def _found(settings: Settings, own_key: str) -> str:
    gpus = await _get(settings, "/gpu/metrics", own_key)
    servers = await _get(settings, "/inference/servers", own_key)
    fresh = [gpu for gpu in gpus["items"] if (gpu["age_seconds"] or 1e9) < 60]
    if fresh:
        gpu_text = ", ".join(
            sorted({f"{sum(g['name'] == n for g in fresh)} × {n}" for n in {g["name"] for g in fresh}})
        )
    else:
        details = [node["detail"] for node in gpus["nodes_without"]]
        gpu_text = f"no GPU ({details[0]})" if details else "no GPU"
    up = [s for s in servers["items"] if s["state"] == "up"]
    engines = ", ".join(f"{s['engine']} at {s['url']}" for s in up) or "no inference server"
    return f"{gpu_text}; {engines}"


async def _get(settings: Settings, path: str, own_key: str) -> Any:
    """This will ask the API over its own door, as a user would."""
    host, encryption = settings.own_host, None
    if settings.tls_cert_file is not None:
        encryption = ssl.create_default_context()  # it is we who listen there, by whatever name
        encryption.check_hostname, encryption.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(host, settings.port, ssl=encryption)
        try:
            head = f"GET {path} HTTP/1.0\r\nHost: {host_port(host, settings.port)}\r\nAuthorization: Bearer {own_key}"
            writer.write(f"{head}\r\n\r\n".encode())
            await writer.drain()
            answer = await reader.read()
        finally:
            writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the program's own output
