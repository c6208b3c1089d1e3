"""Somebody's webhook: takes notifications, keeps them, and is down, slow or out of order when it is told to be.

python -m tests.fakes.webhook PORT        prints a line for each notification; POST /mode?status=500&seconds=3
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(slots=True)
class Webhook:
    """What came, in the order in which it was taken, and how the next one is answered."""

    status: int = 200
    seconds: float = 0.0
    taken: list[tuple[float, Mapping[str, str], Any]] = field(default_factory=list)  # when, headers, body; answered 2xx
    refused: int = 0
    verbose: bool = False

    def serve(self, port: int = 0) -> ThreadingHTTPServer:
        """This will listen on a port of loopback; whoever asked ends it with shutdown and server_close."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = urlsplit(self.path)
                if parts.path == "/mode":
                    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                    hook.status = int(asked.get("status", hook.status))
                    hook.seconds = float(asked.get("seconds", hook.seconds))
                    self._answer(200)
                    return
                if hook.seconds:
                    time.sleep(hook.seconds)
                if 200 <= hook.status < 300:
                    hook.taken.append((time.time(), dict(self.headers), json.loads(content)))
                else:
                    hook.refused += 1
                if hook.verbose:
                    body = json.loads(content)
                    told = [
                        (a["status"], a["labels"]["alertname"], a["annotations"].get("summary")) for a in body["alerts"]
                    ]
                    sys.stdout.write(f"{time.time():.2f} {hook.status} {self.path} {body['status']} {told}\n")
                    sys.stdout.flush()
                self._answer(hook.status)

            def _answer(self, status: int) -> None:
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    pass  # whoever asked did not wait

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


if __name__ == "__main__":
    Webhook(verbose=True).serve(int(sys.argv[1]))
    threading.Event().wait()
