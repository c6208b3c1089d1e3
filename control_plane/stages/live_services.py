"""All servers of one model as one service: what comes, what one replica serves, what is forecast."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import fmean

import numpy as np

from control_plane.analysis.bottlenecks.engine_facts import engine_window
from control_plane.decisions.performance.serving import serve
from control_plane.decisions.performance.setup import Load
from control_plane.decisions.performance.shipped import knowledge
from control_plane.decisions.policies.facts import START_SECONDS
from control_plane.decisions.policies.scale import ServiceState
from control_plane.decisions.policies.what_if import setup_of, subject_of
from control_plane.model.forecast import Forecast, ForecastRecord
from control_plane.stages.live_servers import LOOK_BACK, LiveServer, arrivals
from control_plane.storage import findings, moments, use
from control_plane.storage.session import Database

BIN = timedelta(minutes=1)
FORECASTS = "forecast_minutes"
# Standard deviations of the logarithm of what one replica serves: as seen at its limit, as predicted.
SEEN, PREDICTED = 0.15, 0.35
ENOUGH_WINDOWS = 3
USUAL_RUNNING = 256.0  # requests at once that engines allow by default
IDLE_LOOK_BACK = timedelta(hours=2)


async def services(
    database: Database, servers: Sequence[LiveServer], now: datetime, *, least: int = 1, most: int = 1000,
    may_sleep: bool = False, cold_start_seconds: float | None = None, in_flight: frozenset[str] = frozenset(),
) -> list[tuple[ServiceState, list[LiveServer]]]:  # fmt: skip
    """This will gather servers by model and engine. One that names no model is no service."""
    grouped: dict[tuple[str, str], list[LiveServer]] = {}
    for server in servers:
        if server.state.model:
            grouped.setdefault((server.state.model, server.state.engine), []).append(server)
    out = []
    for (model, name), members in sorted(grouped.items()):
        serving = [m for m in members if m.serves]
        bins = int(LOOK_BACK / BIN)
        capacity, spread, how = capacity_of(serving)
        first = members[0].state
        state = ServiceState(
            service=model, engine=name, version=first.version, ready=len(serving), starting=0,
            unhealthy=len(members) - len(serving),
            demands=summed([arrivals(m.looks, now - LOOK_BACK, bins, BIN) for m in serving], bins),
            forecasts=await _forecasts(database, model), capacity=capacity, capacity_spread=spread, capacity_from=how,
            bin_seconds=BIN.total_seconds(), cold_start_seconds=cold_start_seconds or START_SECONDS,
            gpus_per_replica=first.gpus, usd_per_gpu_hour=first.usd_per_gpu_hour,
            idle_seconds=await _idle(database, [m.entity.entity_id for m in serving], now) if may_sleep else None,
            least=least, most=most, may_sleep=may_sleep, in_flight=model in in_flight,
        )  # fmt: skip
        out.append((state, members))
    return out


def summed(each: Sequence[Sequence[float | None]], bins: int) -> list[float | None]:
    """This will add servers up, bin by bin. A server that was not seen makes the sum unknown; nobody is not zero."""
    if not each:
        return []
    out: list[float | None] = []
    for place in range(bins):
        values = [known for server in each if (known := server[place]) is not None]
        out.append(sum(values) if len(values) == len(each) else None)
    while out and out[0] is None:
        out.pop(0)  # from before the servers were there
    return out


def capacity_of(servers: Sequence[LiveServer]) -> tuple[float | None, float, str]:
    """This will say what one replica serves in a bin, how sure that is, and how it is known."""
    seen = [rate for server in servers if (rate := _at_limit(server)) is not None]
    if seen:
        return fmean(seen) * BIN.total_seconds(), SEEN, "seen while requests waited"
    predicted = [rate for server in servers if (rate := _predicted(server)) is not None]
    if predicted:
        return fmean(predicted) * BIN.total_seconds(), PREDICTED, "predicted, because it was never seen at its limit"
    return None, PREDICTED, "it was never seen at its limit, and its model, its GPU or its traffic are not known"


def _at_limit(server: LiveServer) -> float | None:
    """This will give the rate while requests waited all the time: nothing more goes through."""
    rates = []
    for first, last in pairwise(server.looks):
        window = engine_window(first, last)
        if window.first_tokens and window.seconds > 0 and (window.waiting_least or 0.0) >= 1.0:
            rates.append(window.first_tokens / window.seconds)
    return fmean(rates) if len(rates) >= ENOUGH_WINDOWS else None


def _predicted(server: LiveServer) -> float | None:
    subject = subject_of(server.state)
    if isinstance(subject, str):
        return None
    setup = setup_of(server.state, subject)
    full = Load(
        input_tokens=subject.load.input_tokens, output_tokens=subject.load.output_tokens,
        concurrency=min(float(setup.max_num_seqs), USUAL_RUNNING),
    )  # fmt: skip
    told = serve(subject.model, subject.machine, setup, full, knowledge().constants)
    if float(np.asarray(told.memory.max_concurrency)) < 1.0:
        return None
    return float(np.asarray(told.requests_per_second))


async def _forecasts(database: Database, model: str) -> list[Forecast]:
    """This will give what is forecast of a model's requests, by the width of our bins."""
    out = []
    for found in await findings.read(database.engine, FORECASTS, 0, "model", subjects=[model], limit=1):
        share = BIN.total_seconds() / float(found.body["bin_seconds"])
        for series in found.body["series"]:
            if series["series"] == "requests":
                out += [_forecast(each, share) for each in series["forecasts"]]
    return out


def _forecast(said: dict[str, float], share: float) -> Forecast:
    record = ForecastRecord(forecasts=0, mean_per_bin=None, accuracy=None, bias=None, coverage=None, skill=None)
    return Forecast(
        horizon_seconds=said["horizon_seconds"], expected=said["expected"] * share, at_most=said["at_most"] * share,
        level=said["level"], record=record,
    )  # fmt: skip


async def _idle(database: Database, server_ids: Sequence[int], now: datetime) -> float | None:
    """This will give the seconds in which surely nothing was asked; None when that is not known."""
    until_us = await use.summed_up_until(database.engine)
    if until_us is None or not server_ids:
        return None
    since_us = until_us - moments.to_us(now) + moments.to_us(now - IDLE_LOOK_BACK)
    since_us -= since_us % use.SLOT_US
    over = use.parts(since_us, until_us, hours_until_us=since_us)
    cells = await use.total_of(database.engine, "server", over, entity_ids=list(server_ids))
    observed = cells.columns["observed_seconds"]
    asked = cells.columns["requests_arrived"]
    if len(observed) < len(server_ids) or np.isnan(asked).any() or asked.sum() > 0:
        return None if len(observed) < len(server_ids) or np.isnan(asked).any() else 0.0
    return float(observed.min())
