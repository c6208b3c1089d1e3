"""XIDs from two sources told once; GPUs lost, hung and found again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.collectors.gpu import GpuCollector
from node_agent.collectors.gpu_events import MOST_WAITING, GpuEvents, pci_address
from node_agent.collectors.gpu_retry import LOST_GPU
from node_agent.collectors.xids import class_of
from node_agent.host.kmsg import KernelLog, driver_error, parse_record
from node_agent.host.nvml_facts import XidEvent
from node_agent.model import Collected, EntityKind, Severity
from tests.fakes.gpus import h200
from tests.fakes.nvml import FakeNvml
from tests.unit.node_agent.test_gpu_collector import at, only_values
from tests.unit.node_agent.test_gpu_watchdog import hang

XID_79 = "NVRM: Xid (PCI:0000:00:06): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
XID_31 = "NVRM: Xid (PCI:0000:00:06): 31, pid=4242, name=python, Ch 00000008, intr 00000000. MMU Fault"
SXID = "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)"


def written(path: Path, *lines: str, seconds: float = 1000.0) -> None:
    with path.open("a") as file:
        for line in lines:
            file.write(f"3,1,{round(seconds * 1e6)},-;{line}\n")


@pytest.fixture
def kmsg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gives one record each read, as the device does."""
    path = tmp_path / "kmsg"
    written(path, XID_79)  # of another run: never told

    def one_record(descriptor: int, size: int) -> bytes:
        chunk = os.pread(descriptor, size, os.lseek(descriptor, 0, os.SEEK_CUR))
        record = chunk.split(b"\n", 1)[0] + b"\n" if chunk else b""
        os.lseek(descriptor, len(record), os.SEEK_CUR)
        return record

    monkeypatch.setattr("node_agent.host.kmsg.os.read", one_record)
    return path


def told(collected: Collected) -> list[tuple[str, str, Any]]:
    return [(e.kind, e.entity[1], e.detail.get("number")) for e in collected.events]


def test_lines_of_the_driver_are_understood_and_others_are_not() -> None:
    lost, fault, switch = driver_error(XID_79), driver_error(XID_31), driver_error(SXID)
    assert lost and fault and switch
    assert (lost.number, lost.pid, lost.is_switch) == (79, None, False)
    assert (fault.number, fault.pid) == (31, 4242)
    assert (switch.number, switch.pci, switch.is_switch) == (12028, "0000:05:00", True)
    assert driver_error("NVRM: loading NVIDIA UNIX x86_64 Kernel Module") is None


@given(st.binary(max_size=300))
def test_no_record_breaks_the_parser(record: bytes) -> None:
    line = parse_record(record)
    if line is not None:
        driver_error(line.text)


@given(st.text(max_size=300))
def test_no_line_breaks_the_search_for_xids(text: str) -> None:
    error = driver_error(text)
    assert error is None or 0 <= error.number < 1_000_000


def test_pci_addresses_are_the_same_in_both_spellings() -> None:
    assert pci_address("00000000:9B:00.0") == pci_address("0000:9b:00") == (0, 0x9B, 0)
    assert pci_address(None) is None


@pytest.mark.parametrize(
    ("number", "meaning"), [(13, "application"), (79, "reset"), (94, "warning"), (9999, "warning")]
)
def test_xids_have_classes(number: int, meaning: str) -> None:
    assert class_of(number) == meaning


async def test_an_xid_from_both_sources_is_one_event_and_counts_once(kmsg: Path) -> None:
    driver = FakeNvml(h200())
    collector = GpuCollector(driver, kernel_log=kmsg)
    first = await collector.collect(at(0))
    written(kmsg, XID_31, XID_31, seconds=1000.5)
    driver.xids = [XidEvent(index=0, number=31)]
    second = await collector.collect(at(1))
    third = await collector.collect(at(2))
    await collector.close()
    uuid = driver.gpus[0].identity.uuid
    assert told(first) == [] and told(third) == []
    assert told(second) == [("xid", uuid, 31)]
    (event,) = second.events
    assert (event.severity, event.detail["class"], event.detail["pid"]) == (Severity.INFO, "application", 4242)
    assert event.taken_at == at(0.5).wall
    assert [only_values(c)["xid_errors_total"] for c in (first, second, third)] == [0, 1, 1]


async def test_the_same_xid_later_is_another_event(kmsg: Path) -> None:
    driver = FakeNvml(h200())
    collector = GpuCollector(driver, kernel_log=kmsg)
    await collector.collect(at(0))
    driver.xids = [XidEvent(index=0, number=31)]
    await collector.collect(at(1))
    await collector.collect(at(4))
    driver.xids = [XidEvent(index=0, number=31)]
    again = await collector.collect(at(5))
    await collector.close()
    assert only_values(again)["xid_errors_total"] == 2


async def test_an_xid_at_every_look_is_an_event_at_every_look(tmp_path: Path) -> None:
    driver = FakeNvml(h200())
    collector = GpuCollector(driver, kernel_log=tmp_path / "forbidden")
    await collector.collect(at(0))
    numbers = []
    for second in range(1, 5):
        driver.xids = [XidEvent(index=0, number=31)]
        numbers += told(await collector.collect(at(second)))
    await collector.close()
    assert len(numbers) == 4


async def test_several_xids_in_one_look_are_one_event_with_their_number(tmp_path: Path) -> None:
    driver = FakeNvml(h200())
    collector = GpuCollector(driver, kernel_log=tmp_path / "forbidden")
    await collector.collect(at(0))
    driver.xids = [XidEvent(index=0, number=31)] * 3 + [XidEvent(index=None, number=79)]
    seen = await collector.collect(at(1))
    await collector.close()
    assert [(e.detail["number"], e.detail.get("count"), e.entity[0]) for e in seen.events] == [
        (31, 3, EntityKind.GPU), (79, None, EntityKind.NODE),
    ]  # fmt: skip
    assert only_values(seen)["xid_errors_total"] == 3


async def test_two_processes_that_fault_at_once_are_two_faults(kmsg: Path) -> None:
    collector = GpuCollector(FakeNvml(h200()), kernel_log=kmsg)
    await collector.collect(at(0))
    written(kmsg, XID_31, XID_31.replace("4242", "4243"), XID_31, seconds=1000.5)
    written(kmsg, XID_31, seconds=1001.5)
    seen = await collector.collect(at(2))
    await collector.close()
    assert [event.detail["pid"] for event in seen.events] == [4242, 4243, 4242]


async def test_an_xid_that_nvml_tells_before_the_log_is_told_once(kmsg: Path) -> None:
    driver = FakeNvml(h200())
    collector = GpuCollector(driver, kernel_log=kmsg)
    await collector.collect(at(0))
    driver.xids = [XidEvent(index=0, number=31)]
    first = await collector.collect(at(1))
    written(kmsg, XID_31, seconds=1000.99)
    second = await collector.collect(at(2))
    await collector.close()
    assert (len(told(first)), told(second)) == (1, [])


async def test_an_xid_that_only_nvml_tells_is_told(tmp_path: Path) -> None:
    driver = FakeNvml(h200())
    collector = GpuCollector(driver, kernel_log=tmp_path / "forbidden")
    await collector.collect(at(0))
    driver.xids = [XidEvent(index=0, number=79)]
    (event,) = (await collector.collect(at(1))).events
    await collector.close()
    assert (event.severity, event.detail["source"], event.detail["class"]) == (Severity.CRITICAL, "nvml", "reset")


async def test_an_error_of_a_switch_is_the_nodes(kmsg: Path) -> None:
    collector = GpuCollector(FakeNvml(h200()), kernel_log=kmsg)
    await collector.collect(at(0))
    written(kmsg, SXID)
    (event,) = (await collector.collect(at(1))).events
    await collector.close()
    assert (event.kind, event.entity) == ("sxid", (EntityKind.NODE, "node"))


async def test_a_gpu_that_is_lost_and_comes_back_makes_two_events(tmp_path: Path) -> None:
    driver = FakeNvml(h200(0), h200(1))
    collector = GpuCollector(driver, kernel_log=tmp_path / "none")
    await collector.collect(at(0))
    driver.gpus[1].is_lost = True
    uuid = driver.gpus[1].identity.uuid
    assert told(await collector.collect(at(1))) == [("gpu_lost", uuid, None)]
    assert told(await collector.collect(at(2))) == []
    driver.gpus[1].is_lost = False
    assert told(await collector.collect(at(1 + LOST_GPU.first_seconds))) == [("gpu_recovered", uuid, None)]
    await collector.close()


async def test_a_driver_that_hangs_and_comes_back_makes_two_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeNvml(h200())
    collector = GpuCollector(driver, kernel_log=tmp_path / "none")
    wedge = await hang(collector, driver, monkeypatch)
    assert told(await collector.collect(at(30))) == []  # the first report of it told
    monkeypatch.setattr("node_agent.collectors.gpu.HUNG_AFTER_SECONDS", 30.0)
    wedge.release()
    collector._thread.submit(lambda: None).result(30)
    assert told(await collector.collect(at(31))) == [("gpu_recovered", "node", None)]
    await collector.close()


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    events = GpuEvents(lambda: KernelLog(tmp_path / "none"))
    for _ in range(MOST_WAITING + 10):
        events.add(at(0), "gpu_lost", None, Severity.CRITICAL)
    assert len(events.taken()) == MOST_WAITING
