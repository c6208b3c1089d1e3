"""The instances of one GPU in MIG mode, tick after tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from node_agent.clock import Instant
from node_agent.collectors.gpu_gpm import GpmValues
from node_agent.collectors.gpu_questions import Questions
from node_agent.host.nvml_facts import DeviceMemory, GpuIdentity, GpuInstance
from node_agent.host.nvml_fields import GpmMetric
from node_agent.host.nvml_protocol import Nvml
from node_agent.model import Reason, Value

# NVLinks belong to the GPU, and no instance has a share of them.
INSTANCE_METRICS = tuple(
    metric
    for metric in GpmMetric
    if metric not in (GpmMetric.NVLINK_RECEIVE_BYTES_PER_SECOND, GpmMetric.NVLINK_TRANSMIT_BYTES_PER_SECOND)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLook:
    """One look at one instance; `values` is None for one that is not there any more."""

    key: str  # the UUID of its first compute instance: what the kubelet and programs name it by
    values: Mapping[str, Value] | None
    attributes: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    instance: GpuInstance
    gpm: GpmValues

    @property
    def key(self) -> str:
        return self.instance.compute_instances[0].uuid


class InstancesReader:
    """Reads the instances of one GPU: which there are in the slow tier, what they do at every tick."""

    def __init__(self, driver: Nvml, index: int) -> None:
        self._driver = driver
        self._index = index
        self._known: dict[int, _Known] = {}
        self._gone: list[_Known] = []
        self._doubts: set[int] = set()  # instances that could not be read, and have been looked for since
        self.is_doubtful = False  # one could not be read: perhaps it is not there any more

    @property
    def count(self) -> int:
        """This will give how many there are, as far as can be seen."""
        return len(self._known)

    def look_again(self, questions: Questions) -> None:
        """This will look which instances there are because one could not be read: once for each."""
        self._refresh(questions)

    def refresh(self, questions: Questions) -> None:
        """This will look which instances there are. What cannot be told leaves them as they were."""
        self._doubts.clear()
        self._refresh(questions)

    def _refresh(self, questions: Questions) -> None:
        self.is_doubtful = False
        found = questions.ask_if_there("mig", lambda: self._driver.instances(self._index))
        if isinstance(found, Reason) and found is not Reason.UNSUPPORTED:
            return
        current = {} if isinstance(found, Reason) else {one.gpu_instance_id: one for one in found}
        before = self._known
        self._known = {
            number: before[number]
            if number in before and before[number].instance == instance
            else _Known(instance=instance, gpm=self._gpm(number))
            for number, instance in current.items()
        }
        keys = {known.key for known in self._known.values()}
        self._gone = [known for known in before.values() if known.key not in keys]

    def _gpm(self, number: int) -> GpmValues:
        return GpmValues(partial(self._driver.instance_gpm_rates, self._index, number), INSTANCE_METRICS)

    def look(
        self,
        now: Instant,
        questions: Questions,
        *,
        gpu: GpuIdentity,
        processes: Mapping[int, Sequence[Mapping[str, object]]] | None,
    ) -> list[InstanceLook]:
        """This will read every instance, and tell once of those that went. `processes` is None when unknown."""
        gone, self._gone = self._gone, []
        return [
            *(
                InstanceLook(
                    key=known.key,
                    values=self._values(now, questions, number, known, gpu),
                    attributes=attributes_of(
                        known.instance, gpu, None if processes is None else processes.get(number, ())
                    ),
                )
                for number, known in self._known.items()
            ),
            *(
                InstanceLook(
                    key=known.key, values=None, attributes={**attributes_of(known.instance, gpu, None), "state": "gone"}
                )
                for known in gone
            ),
        ]

    def _values(
        self, now: Instant, questions: Questions, number: int, known: _Known, gpu: GpuIdentity
    ) -> dict[str, Value]:
        driver, index = self._driver, self._index
        memory = questions.ask_group(DeviceMemory, lambda: driver.instance_memory(index, number))
        if Reason.ERROR in memory.values() and number not in self._doubts:
            self._doubts.add(number)
            self.is_doubtful = True
        return {
            **memory,
            "ecc_uncorrected_sram_volatile_total": questions.ask(lambda: driver.instance_sram_errors(index, number)),
            **(known.gpm.look(now, questions) if gpu.gpm_supported else known.gpm.unknown(Reason.UNSUPPORTED)),
        }


def attributes_of(
    instance: GpuInstance, gpu: GpuIdentity, processes: Sequence[Mapping[str, object]] | None
) -> dict[str, object]:
    """This will describe an instance as its entity carries it."""
    sms = [one.sm_count for one in instance.compute_instances]
    return {
        "gpu": gpu.uuid,
        "gpu_index": gpu.index,
        "gpu_instance_id": instance.gpu_instance_id,
        "name": instance.name,
        "profile": instance.profile,
        "sm_count": None if None in sms else sum(one for one in sms if one is not None),
        "compute_instances": [asdict(one) for one in instance.compute_instances],
        "processes": None if processes is None else list(processes),
        "state": "present",
    }
