"""How long it takes from an engine that becomes bad until somebody's webhook has been told."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from benchmarks.figures import Figure, Result
from benchmarks.processes import folder
from tests.fakes.vllm_server import FakeVllm
from tests.support.alerting import INTERVAL_SECONDS, SLO, SPACING_SECONDS, Alerting, alerting

# On one control plane: an alert that comes and goes more often is held as flapping.
RUNS, QUICK_RUNS = 2, 1
WARM_EVENTS = 100.0  # ten seconds of ten requests
# Of clients that share two places in a real engine's batch: all but two wait.
CROWD, CROWD_TOKENS = 24, 64
TARGET_SECONDS = 15.0
_phase = random.Random(20260304)


def measure(*, quick: bool = False) -> Result:
    """This will make engines bad, again and again, and wait for the webhook."""
    runs = QUICK_RUNS if quick else RUNS
    figures = [*_simulated(runs), *_real(1 if quick else 3)]
    return Result(
        name="alert_delivery",
        title="From a bad engine to a webhook",
        explanation=(
            "A whole `optiinfra up` (agent, gRPC, embedded Postgres, jobs) beside an engine, a TTFT objective (95 % "
            f"within 0.5 s), and a webhook on loopback; scrapes every {INTERVAL_SECONDS:g} s. Seconds from the moment "
            "at which the engine becomes bad, at a random phase of the scrapes, to the moment at which the webhook has "
            f"the notification. Target: {TARGET_SECONDS:g} s. There is no floor to compare with: of it a scrape takes "
            f"up to {INTERVAL_SECONDS:g} s, the evidence that it is no chance as long as in “How soon a violation is "
            "seen”, and the looks of three jobs up to 3.5 s."
        ),
        figures=figures,
        notes=[
            "The simulated engine speaks vLLM's /metrics and serves nothing; agent, door and all behind it are real.",
            "A real vLLM is measured where OPTIINFRA_TEST_VLLM names a command that serves on {port}: with two places "
            f"in its batch, one client, and then {CROWD} more.",
        ],
    )  # fmt: skip


def _simulated(runs: int) -> list[Figure]:
    engine = FakeVllm(requests_per_second=10.0)
    server = engine.serve()
    target = f"http://127.0.0.1:{server.server_address[1]}"

    def bad(share: float) -> Callable[[], None]:
        def change() -> None:
            engine.advance()  # what came until now was as it was
            engine.bad = share

        return change

    figures = []
    try:
        for share in (0.2, 0.5, 1.0):
            with folder() as place, alerting(place, target) as rig:
                rig.configure("slo_violated", slo=SLO)
                rig.wait_for_events(WARM_EVENTS)
                values = [_once(rig, bad(share), bad(0.0), last=run == runs - 1) for run in range(runs)]
            bad(0.0)()
            name = f"simulated vLLM, 10 requests/s, 0 → {share:.0%} bad"
            figures.append(Figure(name=name, unit="s", values=values))
        return figures
    finally:
        server.shutdown()
        server.server_close()


def _once(rig: Alerting, spoil: Callable[[], None], heal: Callable[[], None], *, last: bool) -> float:
    """This will spoil the engine, give the seconds until the webhook is told, and, but for the last, wait it out."""
    time.sleep(SPACING_SECONDS + _phase.uniform(0.0, INTERVAL_SECONDS))
    began = time.time()
    spoil()
    told, _ = rig.wait_until_told("slo_violated", "firing", after=began)
    heal()
    if not last:
        rig.wait_until_told("slo_violated", "resolved", after=told, within_seconds=300)
    return told - began


def _real(runs: int) -> list[Figure]:
    if "OPTIINFRA_TEST_VLLM" not in os.environ:
        return []
    from tests.support.crowd import Crowd
    from tests.support.vllm import serving

    values = []
    with serving("--max-num-seqs", "2") as (base, _), folder() as place, alerting(place, base) as rig:
        rig.configure("slo_violated", slo=SLO)
        with Crowd(base, 1, tokens=4):
            rig.wait_for_events(WARM_EVENTS)
            for _ in range(runs):
                time.sleep(SPACING_SECONDS + _phase.uniform(0.0, INTERVAL_SECONDS))
                began = time.time()
                with Crowd(base, CROWD, tokens=CROWD_TOKENS):
                    told, _ = rig.wait_until_told("slo_violated", "firing", after=began)
                values.append(told - began)
                rig.wait_until_told("slo_violated", "resolved", after=told, within_seconds=300)
    return [Figure(name=f"real vLLM on the CPU, {CROWD} more clients for two places", unit="s", values=values)]
