"""A small fleet without a GPU: `make demo`. Recordings of real H200s are played, again and again, through the real door
of a real control plane. Nothing of it is live, and every node of it is marked "replayed".

What there is to see is printed with the time at which it comes. Ctrl-C ends it all, and its history is thrown away.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT / "tests" / "data" / "recordings"
# Beside those of `make run`. The second and third arguments name others.
PORT, AGENTS_PORT = map(int, sys.argv[2:4] or (8010, 8014))
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Part:
    """One node: which recording it plays, and what one sees in it."""

    node: str
    file: str
    story: str


PARTS = (
    Part("h200-chat-1", "h200-vllm.rec",
         "vLLM serves 4 requests/s, then 96 clients with --max-num-seqs 8: a queue grows behind the batch limit"),
    Part("h200-chat-2", "h200-vllm-faults.rec", "vLLM's engine hangs while /health stays green, goes on, is killed"),
    Part("h200-lab-1", "h200-loads.rec", "a matmul, copies, decoding, a PCIe copy: all the same to nvidia-smi"),
)  # fmt: skip
OBJECTIVE = {
    "name": "first-token", "indicator": "ttft", "target_ratio": 0.95, "threshold_seconds": 0.5, "window_days": 30,
}  # fmt: skip


def say(text: str) -> None:
    """This will tell the reader something, at once."""
    sys.stdout.write(f"demo  {text}\n")
    sys.stdout.flush()


def answers(path: str, body: object = None) -> bool:
    """This will ask the control plane, and say whether it answered well."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def optiinfra(*arguments: str, quiet: bool = False) -> subprocess.Popen[bytes]:
    """This will start the program with a verb."""
    output = subprocess.DEVNULL if quiet else None
    return subprocess.Popen([sys.executable, "-m", "control_plane", *arguments], cwd=ROOT, stdout=output, stderr=output)


def play(part: Part, folder: str, ended: threading.Event, running: list[subprocess.Popen[bytes]]) -> None:
    """This will play a recording at its own pace, again and again."""
    while not ended.is_set():
        one = optiinfra(
            "replay", str(RECORDINGS / part.file), "--as-node", part.node, "--server", f"127.0.0.1:{AGENTS_PORT}",
            "--state-dir", f"{folder}/{part.node}", quiet=True,
        )  # fmt: skip
        running.append(one)
        one.wait()
        ended.wait(2)


def main() -> int:
    """This will run until Ctrl-C, or for as many seconds as the first argument says."""
    seconds = float(sys.argv[1]) if sys.argv[1:] else None
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="optiinfra-demo-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server's own user has to reach its folder in it
        plane = optiinfra(
            "up", "--data-dir", f"{folder}/data", "--port", str(PORT), "--other-port", "0",
            "--grpc-port", str(AGENTS_PORT),
            "--no-local-agent", "--environment", "demo", "--log-level", "warning",
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not answers("/health/ready") and not ended.wait(0.2):
            if plane.poll() is not None or time.monotonic() > deadline:
                say("the control plane did not start; its last lines say why")
                plane.terminate()
                return 1
        answers("/slo/configure", OBJECTIVE)
        say("everything here is replayed: recordings of H200s, at the pace at which they were made")
        for part in PARTS:
            say(f"{part.node:12} {part.story}")
            threading.Thread(target=play, args=(part, folder, ended, running), daemon=True).start()
        say(f"look at       http://localhost:{PORT}/dashboard")
        say("after 1 min   Fleet: the lab's GPU at 100 % by nvidia-smi while its multiprocessors idle")
        say("after 3 min   Servers: what binds them; SLOs: the budget burns; Alerts: the engine that hangs")
        say("stop          Ctrl-C")
        ended.wait(seconds)
        ended.set()
        for one in running:
            one.terminate()
        plane.send_signal(signal.SIGINT)
        plane.wait(30)
    return 0


if __name__ == "__main__":
    sys.exit(main())
