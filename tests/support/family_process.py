"""One process of an engine's family: run as a program by tests/support/family.py, never imported.

The launcher serves and starts the engine's core, and that one starts the workers. Each is a program of its own with a
title, as vLLM's are by setproctitle; the tree of the family is real.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def start(title: str, role: str, *, answers: bool) -> subprocess.Popen[str]:
    """This will start a process of the family under a title."""
    return subprocess.Popen(
        [title, __file__, role],
        executable=Path("/proc/self/exe").readlink(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if answers else None,
        text=True,
    )


def say(what: object) -> None:
    """This will tell whoever started this process."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def launch(metrics: Path) -> None:
    """This will wait for its word (until then it may be moved to a control group), then serve and start the core."""
    if sys.stdin.readline() != "go\n":
        sys.exit(1)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = metrics.read_bytes() if self.path == "/metrics" else b""
            self.send_response(200 if self.path in ("/metrics", "/health") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    core = start("VLLM::EngineCore_DP0", "core", answers=True)
    assert core.stdout is not None
    workers = json.loads(core.stdout.readline())
    say({"port": server.server_address[1], "core": core.pid, "workers": workers})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def main() -> None:
    """This will play a role until its standard input ends."""
    match sys.argv[1:]:
        case ["serve", metrics]:
            launch(Path(metrics))
        case ["core"]:
            workers = [start(f"VLLM::Worker_TP{rank}", "work", answers=False) for rank in range(2)]
            say([worker.pid for worker in workers])
            sys.stdin.read()
        case _:
            sys.stdin.read()


if __name__ == "__main__":
    main()
