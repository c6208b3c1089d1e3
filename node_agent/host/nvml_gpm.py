"""GPM, the profiling counters of Hopper and newer GPUs: two sample buffers each, swapped each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pynvml

_api: Any = pynvml  # nvidia-ml-py carries no types


class GpmWindow:
    """The time between two looks at the counters of one GPU or instance.

    No call sleeps: the older sample is the one of the call before. Buffers and request are
    allocated once, through the bindings, because the size of the request struct differs from
    one driver to the next while its version stays 1. Methods raise pynvml.NVMLError.
    """

    def __init__(self, take_sample: Callable[[Any], object], metric_ids: Sequence[int]) -> None:
        """`take_sample` fills a buffer: from a GPU, or from an instance of it."""
        self._take_sample = take_sample
        self._older = _api.nvmlGpmSampleAlloc()
        try:
            self._newer = _api.nvmlGpmSampleAlloc()
        except pynvml.NVMLError:
            _api.nvmlGpmSampleFree(self._older)
            raise
        self._has_older = False
        self._request = _api.c_nvmlGpmMetricsGet_t()
        self._request.version = _api.NVML_GPM_METRICS_GET_VERSION
        self._request.numMetrics = len(metric_ids)
        for position, metric_id in enumerate(metric_ids):
            self._request.metrics[position].metricId = metric_id

    def advance(self) -> list[tuple[int, int, float]] | None:
        """This will close the window and open the next: (metric id, nvmlReturn, value) each; None the first time."""
        self._take_sample(self._newer)
        older, newer = self._older, self._newer
        self._older, self._newer = newer, older
        if not self._has_older:
            self._has_older = True
            return None
        self._request.sample1, self._request.sample2 = older, newer
        _api.nvmlGpmMetricsGet(self._request)
        answers = self._request.metrics[: self._request.numMetrics]
        return [(answer.metricId, answer.nvmlReturn, answer.value) for answer in answers]

    def free(self) -> None:
        """This will give the buffers back. The window must not be used afterwards."""
        _api.nvmlGpmSampleFree(self._older)
        _api.nvmlGpmSampleFree(self._newer)
