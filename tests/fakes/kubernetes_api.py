"""A Kubernetes API server of a few lines: objects with generations, patches that test, dry runs, and faults on demand.

It keeps objects and nothing else: what controllers do is done by whoever uses it, through the API, as on a real one.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]
# Of a method and a path: an HTTP status to answer with, or "reset", "hang", "stale"; None: as usual.
Fault = Callable[[str, str], int | str | None]


class Problem(Exception):
    """An answer that is a Status."""

    def __init__(self, status: int, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.status, self.cause = status, cause


@dataclass(slots=True)
class FakeKubernetes:
    """One API server."""

    objects: dict[str, Object] = field(default_factory=dict)
    before: dict[str, Object] = field(default_factory=dict)  # the version before the newest
    fault: Fault | None = None
    patches: list[tuple[str, Any]] = field(default_factory=list)  # that changed something
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)
    counter: int = 0

    def answer(self, method: str, target: str, body: Any, kind: str) -> Object:
        parts = urlsplit(target)
        path, is_dry = parts.path, "dryRun" in parse_qs(parts.query)
        fault = self.fault(method, path) if self.fault else None
        if isinstance(fault, int):
            raise Problem(fault, f"the fault that was asked for: {fault}")
        if fault in ("reset", "hang"):
            if fault == "hang":
                time.sleep(10)
            raise ConnectionResetError
        with self.lock:
            if method == "GET":
                return self._read(path, stale=fault == "stale")
            if method == "POST":
                return self._create(path, body)
            return self._patch(path, body, kind, is_dry=is_dry)

    def _read(self, path: str, *, stale: bool) -> Object:
        if stale and path in self.before:
            return self.before[path]
        if path in self.objects:
            return self.objects[path]
        items = [found for where, found in self.objects.items() if where.rsplit("/", 1)[0] == path]
        if items or (path.endswith("s") and "/deployments/" not in path and "/httproutes/" not in path):
            return {"kind": "List", "items": items}
        raise Problem(404, f"{path} not found")

    def _create(self, path: str, body: Object) -> Object:
        where = f"{path}/{body['metadata']['name']}"
        if where in self.objects:
            raise Problem(409, "it exists already")
        made = copy.deepcopy(body)
        made["metadata"] |= {"generation": 1, "resourceVersion": self._next()}
        self.objects[where] = made
        return made

    def _next(self) -> str:
        self.counter += 1
        return str(self.counter)

    def _patch(self, path: str, body: Any, kind: str, *, is_dry: bool) -> Object:
        part = path.rsplit("/", 1)[1]
        where = path.rsplit("/", 1)[0] if part in ("scale", "status") else path
        if where not in self.objects:
            raise Problem(404, f"{where} not found")
        old, new = self.objects[where], copy.deepcopy(self.objects[where])
        if kind == "application/json-patch+json":
            _apply(new, body)
        elif kind == "application/merge-patch+json":
            _merge(new, {"status": body["status"]} if part == "status" else body)
        else:
            raise Problem(415, kind)
        if new == old or is_dry:
            return new
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        new["metadata"]["resourceVersion"] = self._next()
        self.before[where], self.objects[where] = old, new
        self.patches.append((path, body))
        return new


def _apply(target: Object, operations: list[dict[str, Any]]) -> None:
    for each in operations:
        *way, last = each["path"].strip("/").split("/")
        place: Any = target
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if each["op"] == "test":
            if place.get(last) != each["value"]:
                message = "the server rejected our request due to an error in our request"
                raise Problem(422, message, f"testing value {each['path']} failed: test failed")
        elif each["op"] in ("add", "replace"):
            place[last] = each["value"]
        else:
            raise Problem(400, each["op"])


def _merge(target: Object, change: Object) -> None:
    for name, value in change.items():
        if isinstance(value, dict):
            _merge(target.setdefault(name, {}), value)
        else:
            target[name] = value


def _handler(fake: FakeKubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status = 200
            try:
                found = fake.answer(self.command, self.path, body, self.headers.get("Content-Type", ""))
            except ConnectionResetError:
                self.close_connection = True
                self.connection.close()
                return
            except Problem as problem:
                status, causes = problem.status, [{"message": problem.cause}] if problem.cause else []
                found = {"kind": "Status", "message": str(problem), "details": {"causes": causes}}
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_POST = _answer

    return Handler


@contextmanager
def fake_kubernetes() -> Iterator[FakeKubernetes]:
    """This will serve until it is left."""
    fake = FakeKubernetes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
