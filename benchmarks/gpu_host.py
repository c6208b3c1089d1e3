"""What the agent costs a GPU that works: run on a GPU host, alternately with and without it.

    python -m benchmarks.gpu_host matmul --output FILE.json
    python -m benchmarks.gpu_host engine --serve 'COMMAND' --load 'COMMAND' --output FILE.json

`matmul` needs torch. `engine` takes the command that starts a server on 127.0.0.1:8000 and the one that loads
it (`{out}` becomes a folder in which it leaves a summary.json); it measures the server with and without the
agent, then records what the agent sees while the engine is stopped, goes on and is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SETTLE_SECONDS = 2.0  # the agent's first look, which also reads identities
PAIRS = 8
BLOCK_SECONDS = 5.0
ENGINE_PAIRS = 5
START_SECONDS = 240.0
STOPPED_SECONDS = 80.0  # beyond the time after which the agent calls an engine of this context length hung
BATCH = 8  # products between two looks at the clock
# Student's t, two-sided 95 %, by degrees of freedom (any table of it).
T95 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 11: 2.201}
SINK = """
import asyncio
from tests.fakes.link_server import LinkServer
async def main():
    server = LinkServer()
    server.port = 8004
    await server.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def environment() -> dict[str, str]:
    """This will give the environment in which the agent finds its packages."""
    path = os.pathsep.join(filter(None, (os.environ.get("AGENT_SITE"), str(ROOT / "proto" / "gen"), str(ROOT))))
    return {**os.environ, "PYTHONPATH": path}


def agent_command(verb: Sequence[str], state: Path) -> list[str]:
    """This will give the command of an agent at 1 s."""
    flags = ["--sampling-interval-seconds=1", f"--state-dir={state}", "--node-name=gpu-host", "--log-level=error"]
    return [sys.executable, "-m", "node_agent", *verb, *flags]


@contextlib.contextmanager
def sink() -> Iterator[None]:
    """This will run something that acknowledges every batch."""
    process = subprocess.Popen([sys.executable, "-c", SINK], env=environment(), cwd=ROOT)
    try:
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def agent(is_on: bool, state: Path) -> Iterator[subprocess.Popen[bytes] | None]:
    """This will run the agent, or not."""
    if not is_on:
        time.sleep(SETTLE_SECONDS)
        yield None
        return
    process = subprocess.Popen(agent_command(["run"], state), env=environment(), cwd=ROOT)
    try:
        time.sleep(SETTLE_SECONDS)
        if process.poll() is not None:
            raise SystemExit(f"the agent did not run: it exited with {process.returncode}")
        yield process
    finally:
        process.terminate()
        process.wait(15)


def order(pairs: int) -> Iterator[tuple[bool, bool]]:
    """This will give pairs in the order AB, BA, AB …, so that a drift does not favour one side."""
    for number in range(pairs):
        yield (False, True) if number % 2 == 0 else (True, False)


def paired(without: Sequence[float], with_agent: Sequence[float]) -> dict[str, float]:
    """This will give the mean relative difference of the pairs in percent, and its 95 % interval's half width."""
    differences = [(b / a - 1) * 100 for a, b in zip(without, with_agent, strict=True)]
    spread = statistics.stdev(differences) if len(differences) > 1 else math.nan
    half = T95.get(len(differences) - 1, 1.96) * spread / math.sqrt(len(differences))
    return {
        "without_median": statistics.median(without),
        "with_median": statistics.median(with_agent),
        "difference_percent": statistics.fmean(differences),
        "half_width_percent": half,
        "pairs": len(differences),
    }


def matmul(_: argparse.Namespace) -> dict[str, Any]:
    """This will count bf16 products of 8192 x 8192 matrices per second, with and without the agent."""
    torch = importlib.import_module("torch")
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)

    def block(seconds: float) -> float:
        torch.cuda.synchronize()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for _ in range(BATCH):
                torch.matmul(a, b, out=out)
            torch.cuda.synchronize()
            count += BATCH
        return count / (time.perf_counter() - began)

    block(BLOCK_SECONDS)  # the clocks settle at the power limit
    rates: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as state, sink():
        for pair in order(PAIRS):
            for is_on in pair:
                with agent(is_on, Path(state)):
                    rates[is_on].append(block(BLOCK_SECONDS))
    return {
        "device": torch.cuda.get_device_name(0),
        "unit": "products/s",
        "rates": {"without": rates[False], "with": rates[True]},
        "products_per_second": paired(rates[False], rates[True]),
    }


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def served(command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """This will run a server until it is no longer wanted, with all its children."""
    with log.open("wb") as out:
        process = subprocess.Popen(shlex.split(command), stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy("http://127.0.0.1:8000"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.5)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def load(command: str, folder: Path) -> dict[str, Any]:
    """This will run the load once and give what it measured."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(shlex.split(command.replace("{out}", str(folder))), check=True, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return {
        "requests_per_second": summary["rps"],
        "output_tokens_per_second": summary["out_tok_s"],
        "ttft_p99_seconds": summary["ttft"]["p99"],
        "tpot_p95_seconds": summary["tpot"]["p95"],
        **({"tpot_p99_seconds": summary["tpot"]["p99"]} if "p99" in summary["tpot"] else {}),
        "tpot_p50_seconds": summary["tpot"]["p50"],
    }


def engine_core(session: int) -> int:
    """This will give the pid of the process that runs the model: the server's one that holds the GPU."""
    query = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
    holders = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()
    for pid in map(int, holders):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                return pid
    raise SystemExit(f"no process of the server holds a GPU; those that do: {', '.join(holders) or 'none'}")


def faults(arguments: argparse.Namespace, server: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """This will record what the agent sees while the engine is stopped under load, goes on, and is killed."""
    core = engine_core(server.pid)
    moments: dict[str, Any] = {"server_pid": server.pid, "engine_core_pid": core}
    recorder = subprocess.Popen(
        agent_command(["record", str(arguments.recording)], folder / "recorder"), env=environment(), cwd=ROOT
    )
    generator = subprocess.Popen(
        shlex.split(arguments.load.replace("{out}", str(folder / "faults"))), stdout=subprocess.DEVNULL
    )
    (folder / "faults").mkdir(exist_ok=True)
    for name, number, seconds in (
        ("loaded", None, 8.0), ("stopped", signal.SIGSTOP, STOPPED_SECONDS),
        ("continued", signal.SIGCONT, 10.0), ("killed", signal.SIGKILL, 10.0),
    ):  # fmt: skip
        if number is not None:
            os.kill(core, number)
        moments[name] = time.time()
        if name == "stopped":
            moments["health_while_stopped"] = _healthy("http://127.0.0.1:8000")
        time.sleep(seconds)
    moments["end"] = time.time()
    recorder.send_signal(signal.SIGINT)
    recorder.wait(20)
    generator.kill()
    return moments


def engine(arguments: argparse.Namespace) -> dict[str, Any]:
    """This will measure a real engine with and without the agent, then make it hang and die."""
    figures: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with served(arguments.serve, folder / "server.log") as server:
            load(arguments.load, folder / "warm-up")
            with sink():
                for number, pair in enumerate(order(ENGINE_PAIRS)):
                    for is_on in pair:
                        with agent(is_on, folder / "state"):
                            figures[is_on].append(load(arguments.load, folder / f"{number}-{is_on}"))
            result: dict[str, Any] = {
                name: paired([f[name] for f in figures[False]], [f[name] for f in figures[True]])
                for name in figures[False][0]
            }
            result["runs"] = {"without": figures[False], "with": figures[True]}
            _write(arguments.output, result)  # what was measured stays, whatever becomes of the rest
            if arguments.recording:
                result["faults"] = faults(arguments, server, folder)
    return result


def _write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """This will run one experiment and write what it measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("matmul", "engine"))
    parser.add_argument("--serve", default="", help="the command that starts the server")
    parser.add_argument("--load", default="", help="the command that loads it; {out} is a folder")
    parser.add_argument("--recording", type=Path, default=None, help="also make the engine hang and die, recorded here")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    result = matmul(arguments) if arguments.what == "matmul" else engine(arguments)
    _write(arguments.output, result)
    print(json.dumps({k: v for k, v in result.items() if k not in ("runs", "rates")}, indent=1))


if __name__ == "__main__":
    main()
