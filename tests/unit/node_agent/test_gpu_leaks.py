"""Whatever a GPU goes through, nothing that NVML gave is kept for ever, and nothing of our own piles up."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pynvml
import pytest

from node_agent.collectors.gpu import GpuCollector
from node_agent.host.nvml import PynvmlDriver
from node_agent.model import Collected, Outcome
from tests.fakes.recorded_pynvml import RecordedPynvml
from tests.unit.node_agent.test_gpu_collector import at

CYCLE = 200  # ticks, in which everything below happens once
PROCESSES = [{"pid": 7, "usedGpuMemory": 1, "gpuInstanceId": 2, "computeInstanceId": 0}]


class Life:
    """What happens to the GPU, tick after tick, again and again."""

    def __init__(self, recording: RecordedPynvml) -> None:
        self._recording = recording
        self._devices = list(recording.mig)
        self.closed: list[int] = []

    def before(self, tick: int) -> None:
        recording, moment = self._recording, tick % CYCLE
        del recording.power[:-10]
        recording.add_power(400_000, 410_000)
        if moment % 20 == 5:
            recording.xids = [31, 79]
        if moment in (30, 60):  # an instance is destroyed, and made anew
            recording.mig = self._devices[:3] if moment == 30 else list(self._devices)
        lost: Any = pynvml.NVML_ERROR_GPU_IS_LOST
        if moment == 100:
            recording.errors["nvmlDeviceGetTemperature"] = lost
        if moment == 150:
            recording.errors.pop("nvmlDeviceGetTemperature")
        if moment == 170:
            recording.errors["nvmlDeviceGetMemoryInfo"] = pynvml.NVML_ERROR_UNINITIALIZED
        if moment == 172:
            recording.errors.pop("nvmlDeviceGetMemoryInfo")


def assert_nothing_is_kept(recording: RecordedPynvml) -> None:
    assert recording.times_open <= 1
    assert len(recording.event_sets) <= 1
    assert len(recording.gpm_buffers) <= 2 * (1 + 2)  # two of the GPU and of each instance


@pytest.mark.slow
@pytest.mark.parametrize(
    "ticks",
    [
        pytest.param(6 * CYCLE, id="a-few"),
        pytest.param(100_000, id="100000", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
async def test_nothing_grows_with_the_ticks(ticks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = RecordedPynvml()
    recording.install(monkeypatch)
    recording.keeps_calls = False
    recording.enter_mig_mode()
    recording.errors.pop("nvmlGpmSampleGet")
    recording.answers["nvmlDeviceGetComputeRunningProcesses"] = PROCESSES
    collector, life = GpuCollector(PynvmlDriver(), kernel_log=Path("/nonexistent")), Life(recording)
    objects, outcomes = 0, set()
    for tick in range(ticks):
        life.before(tick)
        collected: Collected = await collector.collect(at(tick))
        outcomes.add(collected.outcome)
        assert_nothing_is_kept(recording)
        if tick == 3 * CYCLE:  # by now each thing has happened several times
            gc.collect()
            objects = len(gc.get_objects())
    gc.collect()
    assert len(gc.get_objects()) - objects < 500
    assert outcomes == {Outcome.OK, Outcome.PARTIAL, Outcome.FAILED}
    await collector.close()
    assert (recording.times_open, recording.event_sets, recording.gpm_buffers) == (0, [], set())
