"""The page for Prometheus, read with Prometheus' own parser."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from node_agent.agent import serve_pages
from node_agent.clock import Instant, SystemClock
from node_agent.collectors.system import NODE, SystemCollector
from node_agent.host.http import get
from node_agent.host.http_server import Page, PageServer
from node_agent.model import CollectorReport, Entity, EntityKind, Machine, Outcome, Reason, Sample, Tick, Value
from node_agent.prometheus.names import FAMILIES
from node_agent.prometheus.page import NewestTick, render
from node_agent.settings import SettingsError
from optiinfra.catalogue import TABLES

NOW = Instant(wall=datetime(2026, 1, 1, tzinfo=UTC), monotonic_seconds=100.0)
GPU = Entity(
    kind=EntityKind.GPU,
    key="GPU-1",
    attributes={"index": 3, "name": "NVIDIA H200", "pci_bus_id": "00000000:18:00.0", "driver_version": "580.1"},
)
Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


def tick(values: Mapping[str, Value], *, table: str = "gpu", entity: Entity = GPU) -> Tick:
    report = CollectorReport(collector="gpu", outcome=Outcome.PARTIAL, duration_seconds=0.25)
    sample = Sample(table=table, entity=(entity.kind, entity.key), values=values)
    return Tick(taken_at=NOW, entities=[entity], samples=[sample], reports=[report])


def read(page: str) -> Found:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def one(found: Found, name: str) -> float:
    (value,) = (value for (found_name, _), value in found.items() if found_name == name)
    return value


def test_a_gpus_values_have_dcgm_exporters_names_units_and_labels() -> None:
    values: dict[str, Value] = {
        "gpu_utilization_ratio": 0.5,
        "memory_used_bytes": 3 * 2**20,
        "energy_joules_total": 2.5,
        "power_draw_watts": 500.25,
        "sm_active_ratio": 0.125,
    }
    found = read(render(tick(values), hostname="a-node"))
    labels = {
        "gpu": "3", "UUID": "GPU-1", "pci_bus_id": "00000000:18:00.0", "device": "nvidia3",
        "modelName": "NVIDIA H200", "DCGM_FI_DRIVER_VERSION": "580.1", "Hostname": "a-node",
    }  # fmt: skip
    assert found["DCGM_FI_DEV_GPU_UTIL", frozenset(labels.items())] == 50
    assert one(found, "DCGM_FI_DEV_FB_USED") == 3
    assert one(found, "DCGM_FI_DEV_POWER_USAGE") == 500.25
    assert one(found, "DCGM_FI_PROF_SM_ACTIVE") == 0.125
    assert any(name.startswith("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION") and v == 2500 for (name, _), v in found.items())


def test_a_gpu_instance_has_dcgm_exporters_labels_beside_its_gpus() -> None:
    said = {
        "gpu": "GPU-1",
        "gpu_index": 3,
        "gpu_instance_id": 9,
        "profile": "1g.10gb",
        "name": "NVIDIA H100 MIG 1g.10gb",
    }
    instance = Entity(kind=EntityKind.GPU_INSTANCE, key="MIG-1", attributes=said)
    values: dict[str, Value] = {"sm_active_ratio": 0.5, "memory_used_bytes": 7}
    found = read(render(tick(values, table="gpu_instance", entity=instance), hostname="h"))
    ((name, labels),) = (key for key in found if key[0].startswith("DCGM"))
    assert name == "DCGM_FI_PROF_SM_ACTIVE"
    shown = dict(labels)
    assert (shown["GPU_I_ID"], shown["GPU_I_PROFILE"], shown["UUID"], shown["gpu"]) == ("9", "1g.10gb", "GPU-1", "3")


def test_an_unknown_value_is_absent_and_zero_is_there() -> None:
    page = render(tick({"sm_active_ratio": Reason.UNSUPPORTED, "power_draw_watts": 0.0}), hostname="h")
    assert "SM_ACTIVE" not in page
    assert one(read(page), "DCGM_FI_DEV_POWER_USAGE") == 0


@given(st.sampled_from([(t, f) for t, family in FAMILIES.items() for f in family.metrics]), st.sampled_from(Reason))
def test_no_reason_ever_becomes_a_number(field: tuple[str, str], reason: Reason) -> None:
    table, name = field
    assert FAMILIES[table].metrics[name].name not in render(tick({name: reason}, table=table), hostname="h")


@given(st.text(max_size=30), st.floats(allow_nan=True))
def test_whatever_a_device_is_called_the_page_can_be_read(name: str, value: float) -> None:
    entity = Entity(kind=EntityKind.DISK, key=name)
    read(render(tick({"busy_seconds_total": value}, table="disk", entity=entity), hostname=name))


def test_every_field_that_is_mapped_is_in_the_catalogue() -> None:
    for table, family in FAMILIES.items():
        assert family.metrics.keys() <= {spec.name for spec in TABLES[table].scalars}


def test_no_two_fields_share_a_name() -> None:
    families = [family for table, family in FAMILIES.items() if table != "gpu_instance"]  # those of a GPU, by label
    names = [metric.name for family in families for metric in family.metrics.values()]
    assert len(names) == len(set(names))


def test_collectors_say_their_outcome_and_duration() -> None:
    found = read(render(tick({}), hostname="h"))
    labels = frozenset({("collector", "gpu"), ("outcome", "partial")})
    assert found["optiinfra_agent_collector_outcome", labels] == 1
    assert one(found, "optiinfra_agent_collector_duration_seconds") == 0.25
    assert not [name for name, _ in found if name.endswith("last_success_age_seconds")]


def test_the_agents_own_figures_are_on_the_page() -> None:
    node = Entity(kind=NODE[0], key=NODE[1])
    found = read(render(tick({"spool_bytes": 42, "ticks_lost_total": 1}, table="agent", entity=node), hostname="h"))
    assert one(found, "optiinfra_agent_spool_bytes") == 42
    assert one(found, "optiinfra_agent_ticks_lost_total") == 1


async def test_this_machine_is_on_the_page_as_its_proc_says() -> None:
    collected = await SystemCollector().collect(NOW)
    now = Tick(
        taken_at=NOW, entities=collected.entities, samples=collected.samples, reports=[], machine=collected.machine
    )
    found = read(render(now, hostname="h"))
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
        total = int(file.readline().split()[1]) * 1024
    assert one(found, "node_memory_MemTotal_bytes") == total
    links = {sample.entity[1] for sample in collected.samples if sample.table == "network"}
    shown = {dict(labels)["device"] for name, labels in found if name == "node_network_receive_bytes_total"}
    assert shown == links


async def test_the_machine_is_on_the_page_as_node_exporter_shows_it() -> None:
    collected = await SystemCollector().collect(NOW)
    found = read(
        render(Tick(taken_at=NOW, entities=[], samples=[], reports=[], machine=collected.machine), hostname="h")
    )
    times, names = psutil.cpu_times(percpu=True), {name for name, _ in found}
    shown = {
        tuple(sorted(labels)): value for (name, labels), value in found.items() if name == "node_cpu_seconds_total"
    }
    assert len(shown) == 8 * len(times)
    for cpu, spent in enumerate(times):
        for mode in ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"):
            value = shown[("cpu", str(cpu)), ("mode", mode)]
            assert value == pytest.approx(getattr(spent, mode), abs=30)
    assert one(found, "node_boot_time_seconds") == psutil.boot_time()
    assert one(found, "node_time_seconds") == NOW.wall.timestamp()
    assert {"node_memory_MemFree_bytes", "node_memory_Active_anon_bytes", "node_memory_SwapFree_bytes"} <= names
    assert one(found, "node_memory_Cached_bytes") > 0
    ((_, uname),) = (key for key in found if key[0] == "node_uname_info")
    assert dict(uname)["nodename"] == "h"
    assert dict(uname)["release"] == os.uname().release


async def test_no_metric_stands_twice_on_the_page_of_this_machine() -> None:
    collected = await SystemCollector().collect(NOW)
    now = Tick(
        taken_at=NOW, entities=collected.entities, samples=collected.samples, reports=[], machine=collected.machine
    )
    series = [line.rpartition(" ")[0] for line in render(now, hostname="h").splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_a_machine_that_could_not_be_read_is_absent_and_not_zero() -> None:
    page = render(Tick(taken_at=NOW, entities=[], samples=[], reports=[], machine=Machine()), hostname="h")
    for name in ("node_cpu", "node_memory", "node_boot", "node_uname"):
        assert name not in page


def test_throttled_time_is_in_nanoseconds_as_newer_dcgm_says() -> None:
    found = read(render(tick({"throttled_power_cap_seconds_total": 1.5}, table="gpu_health"), hostname="h"))
    assert one(found, "DCGM_FI_DEV_POWER_VIOLATION_total") == 1_500_000_000
    assert not any("THERMAL" in name for name, _ in found), "what is unknown is not on the page"


def test_an_old_tick_never_passes_for_now() -> None:
    newest = NewestTick("h")
    assert newest.page(NOW) is None
    newest.keep(tick({}), 5.0)
    assert newest.page(NOW) is not None
    later = Instant(wall=NOW.wall, monotonic_seconds=NOW.monotonic_seconds + 15.1)
    assert newest.page(later) is None


def later(seconds: float) -> Instant:
    return Instant(wall=NOW.wall + timedelta(seconds=seconds), monotonic_seconds=NOW.monotonic_seconds + seconds)


def test_what_is_read_less_often_stays_on_the_page_with_the_time_at_which_it_was_read() -> None:
    newest, name = NewestTick("h"), "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL"
    newest.keep(tick({"ecc_uncorrected_aggregate_total": 3}, table="gpu_health"), 1.0)
    assert f"{name}{{" in (fresh := newest.page(NOW) or "") and str(int(NOW.wall.timestamp())) + "000" not in fresh
    newest.keep(replace(tick({"power_draw_watts": 5.0}), taken_at=later(1)), 1.0)
    (line,) = [line for line in (newest.page(later(1)) or "").splitlines() if line.startswith(name)]
    assert line.endswith(f"}} 3 {int(NOW.wall.timestamp())}000")
    newest.keep(replace(tick({"power_draw_watts": 5.0}), taken_at=later(31)), 1.0)
    assert name not in (newest.page(later(31)) or name)


def test_a_gpu_that_is_lost_or_gone_has_no_health_on_the_page() -> None:
    newest = NewestTick("h")
    known = tick({"ecc_uncorrected_aggregate_total": 3}, table="gpu_health")
    for after in (tick({"ecc_uncorrected_aggregate_total": Reason.DEVICE_LOST}, table="gpu_health"), gone()):
        newest.keep(known, 1.0)
        newest.keep(replace(after, taken_at=later(1)), 1.0)
        assert "ECC" not in (newest.page(later(1)) or "ECC")


def gone() -> Tick:
    return Tick(taken_at=NOW, entities=[], samples=[], reports=[])


# -- the server -----------------------------------------------------------------------------------


async def exchanged(server: PageServer, request: bytes) -> bytes:
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
        server.close()


PAGES: Mapping[str, Callable[[], Page]] = {"/metrics": lambda: Page(status=200, body="up 1\n")}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1", b"200"),
        (b"GET /metrics?name=x HTTP/1.1", b"200"),
        (b"GET /../etc/passwd HTTP/1.1", b"404"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"nonsense", b"400"),
    ],
)
async def test_only_its_pages_are_served_and_only_by_get(request_line: bytes, status: bytes) -> None:
    answer = await exchanged(PageServer(PAGES), request_line + b"\r\nHost: x\r\n\r\n")
    assert answer.split(b" ")[1] == status
    assert b"connection: close" in answer.lower()


async def test_a_request_without_end_is_refused_before_it_is_kept() -> None:
    answer = await exchanged(PageServer(PAGES), b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000)
    assert answer == b"" or answer.split(b" ")[1].startswith(b"4")


async def test_a_client_that_says_nothing_is_let_go() -> None:
    assert await exchanged(PageServer(PAGES, exchange_seconds=0.05), b"") == b""


async def test_more_connections_than_are_served_are_refused_and_counted() -> None:
    server = PageServer(PAGES, exchange_seconds=5.0)
    port = await server.start("127.0.0.1", 0)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert server.refused_total == 1
    for _, open_writer in [*silent, (reader, writer)]:
        open_writer.close()
    server.close()


async def test_the_agents_pages_are_served_and_without_a_sample_say_so() -> None:
    newest = NewestTick("h")
    held = PageServer({})
    taken = await held.start("127.0.0.1", 0)
    with pytest.raises(SettingsError, match="prometheus_listen"):
        await serve_pages(f"127.0.0.1:{taken}", newest, SystemClock())
    held.close()
    await asyncio.sleep(0)
    server = await serve_pages(f"127.0.0.1:{taken}", newest, SystemClock())
    assert server is not None
    url = f"http://127.0.0.1:{taken}"
    assert (await get(f"{url}/metrics", timeout_seconds=5, max_bytes=10**6)).status == 503
    assert (await get(f"{url}/healthz", timeout_seconds=5, max_bytes=10**6)).status == 200
    now = SystemClock().now()
    newest.keep(Tick(taken_at=now, entities=[], samples=[], reports=[]), 5.0)
    answer = await get(f"{url}/metrics", timeout_seconds=5, max_bytes=10**6)
    assert one(read(answer.body.decode()), "optiinfra_agent_tick_timestamp_seconds") == now.wall.timestamp()
    server.close()


async def test_no_address_means_no_server() -> None:
    assert await serve_pages("", NewestTick("h"), SystemClock()) is None
