"""Links, InfiniBand ports and the wiring of a machine, from a /sys written down by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node_agent.collectors import system_values as values_of
from node_agent.host import links, procfs
from node_agent.host.topology import read_topology
from node_agent.model import EntityKind, Reason
from optiinfra.catalogue import TABLES
from tests.support.sysfs import HOST_DATA, plant


@pytest.fixture
def sys_root(tmp_path: Path) -> Path:
    return plant(HOST_DATA / "two-sockets.txt", tmp_path / "sys")


def test_a_links_speed_is_in_bytes_and_its_state_a_flag(sys_root: Path) -> None:
    assert values_of.link(sys_root, "eth0") == {
        "link_up_flag": True,
        "link_speed_bytes_per_second": 50e9,
        "carrier_changes_total": 4,
    }


def test_a_link_that_is_down_has_no_speed_rather_than_a_negative_one(sys_root: Path) -> None:
    down = values_of.link(sys_root, "eth1")
    assert down["link_up_flag"] == 0
    assert down["link_speed_bytes_per_second"] is Reason.UNSUPPORTED


def test_a_link_whose_driver_keeps_no_state_is_unknown_and_not_down(sys_root: Path) -> None:
    assert set(values_of.link(sys_root, "eth2").values()) == {Reason.UNSUPPORTED}


def test_an_interfaces_name_never_leads_out_of_its_folder(sys_root: Path) -> None:
    assert set(values_of.link(sys_root, "../../devices").values()) == {Reason.ERROR}


def test_an_infiniband_ports_words_are_bytes_and_its_rate_bytes_per_second(sys_root: Path) -> None:
    port, _ = links.find_ports(sys_root)
    entity, sample = values_of.port(port)
    assert (entity.kind, entity.key) == (EntityKind.INFINIBAND_PORT, "mlx5_0/1")
    assert entity.attributes == {"device": "mlx5_0", "port": "1", "link_layer": "InfiniBand"}
    assert (sample.values["received_bytes_total"], sample.values["transmitted_bytes_total"]) == (4000, 10_000)
    assert (sample.values["link_up_flag"], sample.values["link_speed_bytes_per_second"]) == (1, 50e9)
    assert sample.values["transmit_waits_total"] == 7
    assert sample.values["out_of_sequence_total"] is Reason.UNSUPPORTED
    assert sample.values.keys() == {field.name for field in TABLES["infiniband"].fields}


def test_a_roce_port_has_the_counters_of_its_driver_and_lacks_the_others(sys_root: Path) -> None:
    _, port = links.find_ports(sys_root)
    _, sample = values_of.port(port)
    assert sample.values["congestion_notifications_sent_total"] == 9
    assert sample.values["acknowledgement_timeouts_total"] == 11
    assert sample.values["link_up_flag"] == 0
    assert sample.values["received_bytes_total"] == 0
    assert sample.values["symbol_errors_total"] is Reason.UNSUPPORTED


def test_a_machine_without_rdma_has_no_ports(tmp_path: Path) -> None:
    assert links.find_ports(tmp_path) == []


def test_a_counter_that_is_no_number_is_an_error_and_the_others_stay(sys_root: Path) -> None:
    (sys_root / "class/infiniband/mlx5_0/ports/1/counters/symbol_error").write_text("N/A (no PMA)\n")
    _, sample = values_of.port(links.find_ports(sys_root)[0])
    assert sample.values["symbol_errors_total"] is Reason.ERROR
    assert sample.values["link_downs_total"] == 4


def test_the_topology_names_numa_nodes_and_the_way_to_each_device(sys_root: Path) -> None:
    found = read_topology(sys_root)
    assert found["numa_nodes"] == [
        {"node": 0, "cpus": "0-31,64-95", "memory_total_bytes": 1000 * 1024, "distances": [10, 21]},
        {"node": 1, "cpus": "32-63,96-127", "memory_total_bytes": 2000 * 1024, "distances": [21, 10]},
    ]
    near, far = found["gpus"]
    assert (near["pci_bus_id"], near["numa_node"]) == ("0000:18:00.0", 0)
    assert near["pcie_path"] == ["0000:15:01.0", "0000:16:00.0", "0000:17:00.0", "0000:18:00.0"]
    assert (far["pci_bus_id"], far["numa_node"]) == ("0000:98:00.0", 1)
    json.dumps(found)


def test_a_gpu_and_an_adapter_below_one_switch_share_their_way_to_it(sys_root: Path) -> None:
    found = read_topology(sys_root)
    adapter = found["network_devices"][0]
    assert adapter["interfaces"] == ["ib0", "mlx5_0"]
    assert adapter["pcie_path"][:2] == found["gpus"][0]["pcie_path"][:2]


def test_a_numa_node_that_the_firmware_does_not_name_is_left_out(sys_root: Path) -> None:
    assert "numa_node" not in read_topology(sys_root)["network_devices"][1]


def test_a_displays_chip_that_is_not_nvidias_is_no_gpu(sys_root: Path) -> None:
    assert len(read_topology(sys_root)["gpus"]) == 2


def test_a_machine_that_shows_nothing_has_no_topology(tmp_path: Path) -> None:
    assert read_topology(tmp_path) == {}


def test_kills_for_want_of_memory_and_huge_pages_are_counted(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 3\n")
    (tmp_path / "meminfo").write_text(
        "MemTotal: 10 kB\nHugePages_Total: 8\nHugePages_Free: 6\nHugePages_Rsvd: 0\nHugepagesize: 2048 kB\n"
    )
    assert procfs.read_oom_kills(tmp_path) == 3
    assert values_of.huge_pages(procfs.read_memory(tmp_path)) == {
        "huge_pages_count": 8,
        "huge_pages_free_count": 6,
        "huge_page_size_bytes": 2 * 2**20,
    }


def test_a_kernel_that_keeps_neither_is_unsupported_and_no_zero(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 5\n")
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\n")
    assert values_of.attempt(lambda: procfs.read_oom_kills(tmp_path)) is Reason.UNSUPPORTED
    assert set(values_of.huge_pages(procfs.read_memory(tmp_path)).values()) == {Reason.UNSUPPORTED}


def test_this_machines_huge_pages_and_kills_are_those_of_its_proc() -> None:
    vmstat = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    assert procfs.read_oom_kills(Path("/proc")) == int(vmstat["oom_kill"])


def test_this_machines_numa_nodes_hold_all_its_cpus() -> None:
    cores = procfs.read_cpu_ticks(Path("/proc")).cores
    held = [cpu for node in read_topology(Path("/sys")).get("numa_nodes", ()) for cpu in _cpus(node["cpus"])]
    assert not held or sorted(held) == sorted(cores)


def _cpus(short: str) -> list[int]:
    spans = [part.partition("-") for part in short.split(",")]
    return [cpu for first, dash, last in spans for cpu in range(int(first), int(last if dash else first) + 1)]
