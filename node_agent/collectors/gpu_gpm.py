"""GPM's rates as the catalogue names them, and what their absence means."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from node_agent.clock import Instant
from node_agent.collectors.gpu_questions import Questions
from node_agent.host.nvml_facts import Reading
from node_agent.host.nvml_fields import GpmMetric
from node_agent.model import Reason, Value

GPM_WINDOW_SECONDS = 0.1  # nvml.h, nvmlGpmMetricsGet: the two samples must be more than 100 ms apart
RATIO_SLACK = 0.01  # GPM's percentages are quotients of two counters: 100.0001 is full, not impossible

GPM_NAMES: Mapping[GpmMetric, str] = {metric: metric.name.lower() for metric in GpmMetric}


class GpmValues:
    """The rates of one GPU, or of one instance of it, since the look before."""

    def __init__(self, ask: Callable[[], Mapping[GpmMetric, Reading] | None], wanted: Collection[GpmMetric]) -> None:
        self._ask = ask
        self._names = {metric: GPM_NAMES[metric] for metric in wanted}
        self._at: Instant | None = None

    def look(self, now: Instant, questions: Questions) -> dict[str, Value]:
        """This will give a value or a reason for every wanted rate."""
        if self._at and now.monotonic_seconds - self._at.monotonic_seconds <= GPM_WINDOW_SECONDS:
            return self.unknown(Reason.NOT_COLLECTED)
        rates = questions.ask(self._ask)
        if isinstance(rates, Reason):
            return self.unknown(rates)
        self._at = now
        if rates is None:
            return self.unknown(Reason.FIRST_SAMPLE)
        if is_empty_window(rates.values()):
            return self.unknown(Reason.NOT_COLLECTED)
        return {name: gpm_value(name, rates.get(metric, Reason.UNSUPPORTED)) for metric, name in self._names.items()}

    def unknown(self, reason: Reason) -> dict[str, Value]:
        """This will give every wanted rate the same reason."""
        return dict.fromkeys(self._names.values(), reason)


def is_empty_window(readings: Iterable[Reading]) -> bool:
    """This will tell a window in which GPM's counters did not advance from one in which the GPU was idle.

    A tick that was held up can be read closer to the next than `now` says. NVML then answers
    with success, NaN for the DRAM bandwidth (0/0) and 0 for everything else: seen on an H200
    (driver 580) with samples up to 20 ms apart. An idle GPU still shows the PCIe traffic of the question.
    """
    numbers = [reading for reading in readings if not isinstance(reading, Reason)]
    return any(math.isnan(number) for number in numbers) and all(
        number == 0 or math.isnan(number) for number in numbers
    )


def gpm_value(name: str, reading: Reading) -> Reading:
    """This will make a GPM reading fit for the catalogue: no NaN, and full is 1."""
    if isinstance(reading, Reason):
        return reading
    if not math.isfinite(reading):
        return Reason.NOT_A_NUMBER
    if name.endswith("_ratio") and 1 < reading <= 1 + RATIO_SLACK:
        return 1.0
    return reading
