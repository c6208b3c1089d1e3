"""Proxies that people put before a control plane, as real processes: HAProxy and nginx, where they are installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.uplink import PATIENCE_SECONDS

HAPROXY = """
global
    {more}
defaults
    mode http
    timeout connect 2s
    timeout client {idle}
    timeout server {idle}
listen door
    bind 127.0.0.1:{port} proto h2
    server one 127.0.0.1:{upstream} proto h2
"""
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} http2;
        {more}
        location / {{ grpc_pass grpc://127.0.0.1:{upstream}; }}
    }}
}}
"""


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"NEEDS {name.upper()}: apt-get install {name}")
    return found


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def haproxy(
    folder: Path, port: int, upstream: int, *, idle: str = "30s", more: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """HAProxy in HTTP/2 mode on `port`; it resets what is idle for longer."""
    path = folder / "haproxy.cfg"
    path.write_text(HAPROXY.format(port=port, upstream=upstream, idle=idle, more=more))
    with _running(_program("haproxy"), "-q", "-db", "-f", str(path)) as process:
        yield process


@contextmanager
def nginx(folder: Path, port: int, upstream: int, *, more: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """nginx with grpc_pass on `port`."""
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=port, upstream=upstream, more=more))
    with _running(_program("nginx"), "-e", str(folder / "error.log"), "-c", str(path)) as process:
        yield process


async def listening(port: int) -> None:
    """This will wait until somebody accepts connections."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
