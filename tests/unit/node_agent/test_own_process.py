"""What the agent says of itself is what others see of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psutil
import pytest

from node_agent.host.identity import physical_cpu_count
from node_agent.host.own_process import OwnProcess, ProcessUsage


def test_the_agents_own_figures_are_those_of_psutil() -> None:
    beside = threading.Event()
    thread = threading.Thread(target=beside.wait)
    thread.start()
    try:
        found, process = OwnProcess().read(), psutil.Process()
        assert isinstance(found, ProcessUsage)
        times = process.cpu_times()
        assert found.cpu_seconds_total == pytest.approx(times.user + times.system, abs=0.5)
        assert found.resident_memory_bytes == pytest.approx(process.memory_info().rss, rel=0.1)
        assert found.threads == process.num_threads()
        assert abs(found.open_files - process.num_fds()) <= 1
    finally:
        beside.set()
        thread.join()


def test_a_descriptor_more_is_one_more() -> None:
    before = OwnProcess().read()
    file = os.open("/dev/null", os.O_RDONLY)
    after = OwnProcess().read()
    os.close(file)
    assert isinstance(before, ProcessUsage)
    assert isinstance(after, ProcessUsage)
    assert after.open_files == before.open_files + 1


def test_this_machines_cores_are_those_of_psutil() -> None:
    assert physical_cpu_count(Path("/sys")) == psutil.cpu_count(logical=False)


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_hardware_threads_of_one_core_count_once(tmp_path: Path, name: str) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / name).write_text(f"{siblings}\n")
    assert physical_cpu_count(tmp_path) == 2


def test_a_machine_that_does_not_say_has_an_unknown_number_of_cores(tmp_path: Path) -> None:
    assert physical_cpu_count(tmp_path) is None
