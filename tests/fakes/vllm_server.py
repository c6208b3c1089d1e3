"""A server that speaks vLLM's /metrics and serves nothing: how its requests fare is set from outside.

    python -m tests.fakes.vllm_server PORT [REQUESTS_PER_SECOND]      then: curl -X POST localhost:PORT/fault?bad=0.5

Whole requests come at an even rate; a share of them is slow. Counters are brought up to date when somebody looks.
"""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# vllm/v1/metrics/loggers.py, shortened.
TTFT = (0.001, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
END = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)
MODEL, OUTPUT_TOKENS, PROMPT_TOKENS = "tiny", 10, 20


class _Histogram:
    def __init__(self, name: str, bounds: tuple[float, ...]) -> None:
        self.name, self.bounds = name, bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        place = next((n for n, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[place] += times
        self.sum += value * times

    def text(self, labels: str) -> str:
        lines, seen = [f"# TYPE vllm:{self.name} histogram"], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            seen += count
            lines.append(f'vllm:{self.name}_bucket{{{labels},le="{bound}"}} {seen}')
        return "\n".join(
            [*lines, f"vllm:{self.name}_sum{{{labels}}} {self.sum}", f"vllm:{self.name}_count{{{labels}}} {seen}"]
        )


class FakeVllm:
    """The engine's state. `bad` is the share of requests that are slow, `failing` of those that end in an error."""

    def __init__(
        self, *, requests_per_second: float = 10.0, good_seconds: float = 0.05, bad_seconds: float = 4.0
    ) -> None:
        """A request's first token comes after `good_seconds`, or after `bad_seconds`."""
        self.rate, self.good_seconds, self.bad_seconds = requests_per_second, good_seconds, bad_seconds
        self.bad = self.failing = 0.0
        self.hung = False
        self.running, self.waiting = 0, 0
        self._lock = threading.Lock()
        self._at = self._began = time.time()
        self._owed = {"requests": 0.0, "bad": 0.0, "failed": 0.0}
        self._totals = {"finished": 0, "failed": 0, "prompt": 0, "generation": 0}
        self._histograms = {
            "ttft": _Histogram("time_to_first_token_seconds", TTFT),
            "itl": _Histogram("inter_token_latency_seconds", TOKEN),
            "tpot": _Histogram("request_time_per_output_token_seconds", TOKEN),
            "e2e": _Histogram("e2e_request_latency_seconds", END),
            "queue": _Histogram("request_queue_time_seconds", END),
        }

    def advance(self, now: float | None = None) -> None:
        """This will let requests happen until now."""
        now = time.time() if now is None else now
        seconds, self._at = max(0.0, now - self._at), now
        if self.hung:
            self.waiting += round(self.rate * seconds)
            self.running = max(self.running, 1)
            return
        self._owed["requests"] += self.rate * seconds
        requests, self._owed["requests"] = divmod(self._owed["requests"], 1.0)
        for _ in range(int(requests)):
            self._owed["bad"] += self.bad
            self._owed["failed"] += self.failing
            is_bad, failed = self._owed["bad"] >= 1.0, self._owed["failed"] >= 1.0
            self._owed["bad"] -= is_bad
            self._owed["failed"] -= failed
            self._request(self.bad_seconds if is_bad else self.good_seconds, failed=failed)
        self.running, self.waiting = round(self.rate * (0.3 + self.bad * self.bad_seconds)), 0

    def _request(self, ttft: float, *, failed: bool) -> None:
        of, totals = self._histograms, self._totals
        of["ttft"].observe(ttft)
        of["itl"].observe(0.02, OUTPUT_TOKENS - 1)
        of["tpot"].observe(0.02)
        of["queue"].observe(0.01)
        of["e2e"].observe(ttft + 0.02 * OUTPUT_TOKENS)
        totals["failed" if failed else "finished"] += 1
        totals["prompt"] += PROMPT_TOKENS
        totals["generation"] += OUTPUT_TOKENS

    def exposition(self) -> str:
        """This will give what /metrics answers now."""
        with self._lock:
            self.advance()
            labels = f'engine="0",model_name="{MODEL}"'
            lines = [
                "# TYPE vllm:num_requests_running gauge",
                f"vllm:num_requests_running{{{labels}}} {self.running}",
                "# TYPE vllm:num_requests_waiting gauge",
                f"vllm:num_requests_waiting{{{labels}}} {self.waiting}",
                "# TYPE vllm:kv_cache_usage_perc gauge",
                f"vllm:kv_cache_usage_perc{{{labels}}} 0.1",
                "# TYPE vllm:prompt_tokens_total counter",
                f"vllm:prompt_tokens_total{{{labels}}} {self._totals['prompt']}",
                "# TYPE vllm:generation_tokens_total counter",
                f"vllm:generation_tokens_total{{{labels}}} {self._totals['generation']}",
                "# TYPE vllm:request_success_total counter",
            ]
            for reason, count in (
                ("stop", self._totals["finished"]),
                ("length", 0),
                ("abort", 0),
                ("error", self._totals["failed"]),
            ):
                lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}')
            lines += [histogram.text(labels) for histogram in self._histograms.values()]
            lines += ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self._began}"]
            return "\n".join(lines) + "\n"

    def serve(self, port: int = 0) -> ThreadingHTTPServer:
        """This will listen on a port of loopback; whoever asked ends it with shutdown and server_close."""
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers = {
                    "/metrics": (engine.exposition, "text/plain; version=0.0.4"),
                    "/health": (lambda: "", "text/plain"),
                    "/version": (lambda: '{"version": "0.11.0"}', "application/json"),
                    "/v1/models": (
                        lambda: f'{{"data": [{{"id": "{MODEL}", "max_model_len": 2048}}]}}', "application/json",
                    ),
                }  # fmt: skip
                make, kind = answers.get(urlsplit(self.path).path, (None, ""))
                self._answer(404 if make is None else 200, "" if make is None else make(), kind)

            def do_POST(self) -> None:
                asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                with engine._lock:
                    engine.advance()
                    engine.bad = float(asked.get("bad", engine.bad))
                    engine.failing = float(asked.get("failing", engine.failing))
                    engine.rate = float(asked.get("rate", engine.rate))
                    engine.hung = asked.get("hung", str(int(engine.hung))) == "1"
                self._answer(200, "", "text/plain")

            def _answer(self, status: int, text: str, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


if __name__ == "__main__":
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    FakeVllm(requests_per_second=rate).serve(int(sys.argv[1]))
    threading.Event().wait()
