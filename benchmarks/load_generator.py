"""What the load generator itself adds: does it send what was asked, when it was due, and what does that cost."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from urllib.request import urlopen

import numpy as np
import uvloop

from benchmarks.figures import Figure, Result
from control_plane.runtime.clock import SystemClock
from control_plane.trials.load import arrivals
from control_plane.trials.load.connection import Address
from control_plane.trials.load.lengths import Fixed
from control_plane.trials.load.plan import LoadPlan, run_load
from control_plane.trials.load.requesting import Target
from control_plane.trials.load.summary import Objective, Summary, summarize
from tests.support.up import free_ports

RATE, SECONDS, WARM_UP = 200.0, 23.0, 3.0
PREFILL, ITL, TOKENS = 0.05, 0.01, 32


def _run(rate: float, seconds: float, variation: float, url: str) -> tuple[Summary, float]:
    due = arrivals.arrivals(arrivals.constant(rate, seconds), variation=variation, random=np.random.default_rng(1))
    plan = LoadPlan(
        due_seconds=due, seconds=seconds, warmup_seconds=WARM_UP, prompt_tokens=Fixed(tokens=64),
        output_tokens=Fixed(tokens=TOKENS),
    )  # fmt: skip
    target = Target(address=Address.parse(url), model="tiny")
    before = resource.getrusage(resource.RUSAGE_SELF)
    run = uvloop.run(run_load(plan, target, SystemClock(), stop=asyncio.Event()))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return summarize(run, Objective()), cpu / seconds


def measure(*, quick: bool) -> Result:
    """This will put load on a server whose times are known."""
    (port,) = free_ports(1)
    behaviour = json.dumps({"prefill_seconds": PREFILL, "itl_seconds": ITL})
    command = [sys.executable, "-m", "tests.fakes.inference_server", "--port", str(port), "--behave", behaviour]
    server = subprocess.Popen(command)
    values: dict[str, list[float]] = {}
    try:
        _await(port)
        for _ in range(1 if quick else 5):
            for name, rate, variation in (("metronome", RATE, 0.0), ("Poisson", RATE, 1.0), ("20/s", 20.0, 1.0)):
                found, cpu = _run(
                    rate, WARM_UP + (3 if quick else SECONDS - WARM_UP), variation, f"http://127.0.0.1:{port}"
                )
                ttft, tpot = found.ttft.percentiles[0.5].value, found.tpot.percentiles[0.5].value
                assert ttft is not None
                assert tpot is not None
                for what, value in (
                    ("sent", 100 * (found.sent_per_second / found.due_per_second - 1)),
                    ("late", 1000 * found.late_seconds_p99), ("cpu", 100 * cpu), ("ttft", 1000 * ttft),
                    ("tpot", 1000 * tpot), ("rate", found.sent_per_second),
                ):  # fmt: skip
                    values.setdefault(f"{what} {name}", []).append(value)
    finally:
        server.kill()
        server.wait()
    truth = [
        Figure(name="the server's own time to the first token", unit="ms", values=[1000 * PREFILL]),
        Figure(name="the server's own time per token", unit="ms", values=[1000 * ITL]),
    ]
    figures = []
    for name, said in (("metronome", "200/s, a metronome"), ("Poisson", "200/s, Poisson"), ("20/s", "20/s, Poisson")):
        figures += [
            Figure(name=f"{said}: sent", unit="1/s", values=values[f"rate {name}"]),
            Figure(name=f"{said}: sent more or less than was due", unit="%", values=values[f"sent {name}"]),
            Figure(name=f"{said}: sent late, p99", unit="ms", values=values[f"late {name}"]),
            Figure(name=f"{said}: first token, p50", unit="ms", values=values[f"ttft {name}"], floor=truth[0].name),
            Figure(name=f"{said}: per token, p50", unit="ms", values=values[f"tpot {name}"], floor=truth[1].name),
            Figure(name=f"{said}: CPU of the generator", unit="% of a core", values=values[f"cpu {name}"]),
        ]
    return Result(
        name="load_generator",
        title="The load generator",
        explanation=(
            "One process sends to a server in another one, on the same two cores, that waits "
            f"{1000 * PREFILL:.0f} ms before the first of {TOKENS} tokens and {1000 * ITL:.0f} ms before each other. "
            "What a user of that server would see beyond these times is what timers, the kernel and the turn for a "
            "core add on both sides; the median is compared with the server's own times."
        ),
        figures=[*truth, *figures],
    )


def _await(port: int) -> None:
    for _ in range(200):
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not start")
