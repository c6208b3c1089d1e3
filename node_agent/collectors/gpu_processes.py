"""The processes on one GPU: what each holds of it and makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.clock import Instant
from node_agent.collectors.gpu_questions import Questions
from node_agent.host.nvml_facts import GpuProcess, ProcessUtilization
from node_agent.host.nvml_protocol import Nvml
from node_agent.model import Reason

# Of the time before the first look, what the driver still remembers of it; nvitop asks for as much.
FIRST_WINDOW_MICROSECONDS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessesLook:
    """The processes as attributes carry them, and their number; a reason where the driver does not tell."""

    processes: Sequence[Mapping[str, object]] | Reason
    by_instance: Mapping[int, Sequence[Mapping[str, object]]]  # of a GPU in MIG mode

    @property
    def count(self) -> int | Reason:
        """This will give how many there are."""
        return self.processes if isinstance(self.processes, Reason) else len(self.processes)


class ProcessReader:
    """Reads the processes of one GPU, and remembers up to when their utilisation is known."""

    def __init__(self, driver: Nvml, index: int, proc_root: Path) -> None:
        self._driver = driver
        self._index = index
        self._proc_root = proc_root
        self._stamp = 0

    def look(self, now: Instant, questions: Questions, *, gpu_idle: bool) -> ProcessesLook:
        """This will list them. `gpu_idle` says that the GPU as a whole did nothing."""
        processes = questions.ask(lambda: self._driver.compute_processes(self._index))
        if isinstance(processes, Reason):
            return ProcessesLook(processes=processes, by_instance={})
        shares = self._shares(now, questions, processes, gpu_idle=gpu_idle) if processes else {}
        described = [self._described(process, shares) for process in processes]
        by_instance: dict[int, list[Mapping[str, object]]] = {}
        for process, said in zip(processes, described, strict=True):
            if process.gpu_instance_id is not None:
                by_instance.setdefault(process.gpu_instance_id, []).append(said)
        return ProcessesLook(processes=described, by_instance=by_instance)

    def _shares(
        self, now: Instant, questions: Questions, processes: Sequence[GpuProcess], *, gpu_idle: bool
    ) -> Mapping[int, float | Reason]:
        since = self._stamp or round(now.wall.timestamp() * 1_000_000) - FIRST_WINDOW_MICROSECONDS
        samples = questions.ask(lambda: self._driver.process_utilization(self._index, since_microseconds=since))
        pids = [process.pid for process in processes]
        if isinstance(samples, Reason):
            return dict.fromkeys(pids, samples)
        # After an empty answer the window starts anew: a clock that was set back would else hide all that comes.
        self._stamp = max((sample.taken_at_microseconds for sample in samples), default=0)
        return shares_of(pids, samples, gpu_idle=gpu_idle)

    def _described(self, process: GpuProcess, shares: Mapping[int, float | Reason]) -> Mapping[str, object]:
        share = shares.get(process.pid, Reason.NOT_COLLECTED)
        return {
            "pid": process.pid,
            "name": self._name(process.pid),
            "used_bytes": process.used_bytes,
            "sm_utilization_ratio": None if isinstance(share, Reason) else share,
            "sm_utilization_unknown": share.name.lower() if isinstance(share, Reason) else None,
            "gpu_instance_id": process.gpu_instance_id,
        }

    def _name(self, pid: int) -> str | None:
        try:
            return (self._proc_root / str(pid) / "comm").read_text(errors="replace").strip()
        except OSError:
            return None


def shares_of(
    pids: Sequence[int], samples: Sequence[ProcessUtilization], *, gpu_idle: bool
) -> Mapping[int, float | Reason]:
    """This will give each process's mean share.

    The driver tells only of processes that did something (nvml.h, nvmlDeviceGetProcessUtilization), so one of which
    it does not tell did nothing. Unless it tells of nobody while the GPU works, or of processes that are not on the
    list: in a container without the host's pids the two calls may number processes differently.
    """
    known: dict[int, list[float]] = {}
    for sample in samples:
        known.setdefault(sample.pid, []).append(sample.sm_utilization_ratio)
    silent_did_nothing = known.keys() <= set(pids) and (bool(known) or gpu_idle)
    silence: float | Reason = 0.0 if silent_did_nothing else Reason.NOT_COLLECTED
    return {pid: sum(known[pid]) / len(known[pid]) if pid in known else silence for pid in pids}
