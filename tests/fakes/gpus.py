"""GPUs as real drivers describe them, for FakeNvml.

Where from: the H200's answers are tests/data/nvml/h200.json and h200-phases.jsonl. The others have the shapes that
nvidia-smi shows of the same calls in captures of real machines (utkuozdemir/nvidia_gpu_exporter, internal/captures,
MIT: H100 80GB HBM3 whole and in MIG mode, driver 590.48.01; L40S, driver 595.80) and NVIDIA's own mock of NVML
(NVIDIA/k8s-test-infra, pkg/gpu/mocknvml/configs, Apache-2.0: A100, B200). What a generation has and lacks is as nvml.h
says: GPM from Hopper on; NVLink's errors by fields 38 to 59 before Blackwell and 206 to 222 from it on; retired pages
before Ampere; utilisation, encoders and per-process figures never in MIG mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from node_agent.host.nvml_facts import (
    Bar1Memory,
    ComputeInstance,
    DeviceMemory,
    Fabric,
    GpuIdentity,
    GpuInstance,
    GpuProcess,
    LinkState,
    NvLink,
    Reading,
    Utilization,
)
from node_agent.host.nvml_fields import GpmMetric, GpuField, MediaEngine
from node_agent.model import Reason
from tests.fakes.nvml import FakeGpu, FakeInstance

MIB = 1024 * 1024
UNSUPPORTED = Reason.UNSUPPORTED

RETIRED_PAGES = (
    GpuField.RETIRED_PAGES_SINGLE_BIT, GpuField.RETIRED_PAGES_DOUBLE_BIT, GpuField.RETIRED_PAGES_PENDING,
)  # fmt: skip
REMAPPED_ROWS = (
    GpuField.REMAPPED_ROWS_CORRECTABLE, GpuField.REMAPPED_ROWS_UNCORRECTABLE, GpuField.REMAPPED_ROWS_PENDING,
    GpuField.REMAPPED_ROWS_FAILURE,
)  # fmt: skip
NVLINK_TRAFFIC = (GpuField.NVLINK_TRANSMIT_BYTES, GpuField.NVLINK_RECEIVE_BYTES)
NVLINK_ERRORS = (
    GpuField.NVLINK_CRC_FLIT_ERRORS, GpuField.NVLINK_CRC_DATA_ERRORS, GpuField.NVLINK_REPLAYS,
    GpuField.NVLINK_RECOVERIES,
)  # fmt: skip
NVLINK5 = tuple(field for field in GpuField if 202 <= field.value <= 222)
SINCE_570 = (
    GpuField.THROTTLED_SOFTWARE_THERMAL_SECONDS, GpuField.THROTTLED_HARDWARE_THERMAL_SECONDS,
    GpuField.THROTTLED_POWER_BRAKE_SECONDS,
)  # fmt: skip
AVERAGED_POWER = (GpuField.POWER_AVERAGE_WATTS, GpuField.POWER_CURRENT_LIMIT_WATTS)


def fields(*, without: Iterable[GpuField], **known: Reading) -> dict[GpuField, Reading]:
    """This will give field values: 0, those that are known by name, and those that the GPU does not have."""
    values: dict[GpuField, Reading] = {field: 0.0 if field.name.endswith("_SECONDS") else 0 for field in GpuField}
    values |= {GpuField[name]: value for name, value in known.items()}
    return values | dict.fromkeys(without, UNSUPPORTED)


def busy_gpm() -> dict[GpmMetric, Reading]:
    """This will give the GPM rates of an H200 during a bf16 matrix product."""
    return {
        **dict.fromkeys(GpmMetric, 0.0),
        GpmMetric.GRAPHICS_ACTIVE_RATIO: 0.99893,
        GpmMetric.SM_ACTIVE_RATIO: 0.96313,
        GpmMetric.SM_OCCUPANCY_RATIO: 0.14233,
        GpmMetric.TENSOR_ACTIVE_RATIO: 0.93491,
        GpmMetric.DRAM_ACTIVE_RATIO: 0.17269,
        GpmMetric.PCIE_RECEIVE_BYTES_PER_SECOND: 13.659 * MIB,
    }


def links(count: int, *, megabytes_per_second: float, version: str) -> list[NvLink]:
    """This will give NVLinks that are all up."""
    speed = megabytes_per_second * 1e6
    return [
        NvLink(number=number, state=LinkState.ACTIVE, speed_bytes_per_second=speed, version=version)
        for number in range(count)
    ]


def h200(index: int = 0) -> FakeGpu:
    """This will give an H200 under a bf16 matrix product: passed through to a virtual machine, without links."""
    return FakeGpu(
        identity=GpuIdentity(
            uuid=f"GPU-4572407f-88e2-a5aa-8176-d5a782c7300{index}",
            index=index,
            name="NVIDIA H200",
            pci_bus_id=f"00000000:0{index}:06.0",
            serial="1650000000000",
            vbios_version="96.00.A5.00.1A",
            driver_version="580.159.04",
            cuda_version="13.0",
            architecture="hopper",
            compute_capability="9.0",
            cuda_cores=16896,
            memory_total_bytes=150754820096,
            memory_bus_width_bits=6016,
            sm_clock_maximum_megahertz=1980,
            memory_clock_maximum_megahertz=3201,
            power_limit_default_watts=700.0,
            power_limit_minimum_watts=200.0,
            power_limit_maximum_watts=700.0,
            pcie_link_generation_maximum=5,
            pcie_link_width_maximum=16,
            mig_enabled=False,
            gpm_supported=True,
        ),
        memory=DeviceMemory(
            memory_total_bytes=150754820096,
            memory_used_bytes=16741433344,
            memory_free_bytes=133368446976,
            memory_reserved_bytes=644939776,
        ),
        bar1=Bar1Memory(bar1_used_bytes=1703936, bar1_total_bytes=274877906944),
        utilization=Utilization(gpu_utilization_ratio=1.0, memory_controller_utilization_ratio=0.25),
        temperature_celsius=59.0,
        power_usage_watts=690.162,
        power_limit_watts=700.0,
        energy_joules=6900.522,
        sm_clock_megahertz=1425,
        memory_clock_megahertz=3201,
        pcie_link_generation=5,
        pcie_link_lanes=16,
        field_values=fields(
            without=(*RETIRED_PAGES, *NVLINK_TRAFFIC, *NVLINK_ERRORS, *NVLINK5),
            TEMPERATURE_MEMORY_CELSIUS=39,
            PCIE_REPLAYS=1,
            PCIE_RECOVERIES=278,
            PCIE_RECEIVER_ERRORS=7,
            LOW_UTILIZATION_SECONDS=16.779069056,
            POWER_AVERAGE_WATTS=79.717,
            POWER_CURRENT_LIMIT_WATTS=700.0,
        ),
        gpm_rates=busy_gpm(),
        engines=dict.fromkeys(MediaEngine, 0.0),
        nvlinks=UNSUPPORTED,
        fabric=UNSUPPORTED,
        fan_speed_ratio=UNSUPPORTED,
        process_utilization=[],
        instances=[],
    )


def h100(index: int = 0) -> FakeGpu:
    """This will give an H100 of a host with an NVSwitch: 18 links of 26.562 GB/s, in a fabric."""
    gpu = h200(index)
    gpu.identity = replace(
        gpu.identity,
        uuid=f"GPU-71000000-0000-0000-0000-00000000000{index}",
        name="NVIDIA H100 80GB HBM3",
        pci_bus_id=f"00000000:0{index}:09.0",
        driver_version="590.48.01",
        cuda_version="13.1",
        memory_total_bytes=81559 * MIB,
        memory_clock_maximum_megahertz=2619,
    )
    gpu.memory = DeviceMemory(
        memory_total_bytes=81559 * MIB,
        memory_used_bytes=11125 * MIB,
        memory_free_bytes=69955 * MIB,
        memory_reserved_bytes=479 * MIB,
    )
    gpu.bar1 = Bar1Memory(bar1_used_bytes=2 * MIB, bar1_total_bytes=131072 * MIB)
    gpu.memory_clock_megahertz = 2619
    gpu.field_values |= dict.fromkeys((*NVLINK_TRAFFIC, *NVLINK_ERRORS), 0)
    gpu.nvlinks = links(18, megabytes_per_second=26562, version="4.0")
    gpu.fabric = Fabric(
        state_code=3, status_code=0, cluster_uuid=None, clique_id=0, health_mask=0, health_summary_code=0
    )
    return gpu


def a100(index: int = 0) -> FakeGpu:
    """This will give an A100: no GPM, no fabric, no averaged power, a driver too old for the thermal counters."""
    gpu = h200(index)
    gpu.identity = GpuIdentity(
        uuid=f"GPU-a1000000-0000-0000-0000-00000000000{index}",
        index=index,
        name="NVIDIA A100-SXM4-80GB",
        pci_bus_id=f"00000000:0{index}:00.0",
        driver_version="550.163.01",
        cuda_version="12.4",
        architecture="ampere",
        compute_capability="8.0",
        cuda_cores=6912,
        memory_total_bytes=85899345920,
        mig_enabled=False,
        gpm_supported=False,
    )
    gpu.memory = DeviceMemory(
        memory_total_bytes=85899345920,
        memory_used_bytes=16 * 1024 * MIB,
        memory_free_bytes=64 * 1024 * MIB - 609 * MIB,
        memory_reserved_bytes=609 * MIB,
    )
    gpu.gpm_rates = UNSUPPORTED
    gpu.power_usage_watts, gpu.power_limit_watts = 312.5, 400.0
    gpu.pcie_link_generation = 4
    gpu.field_values |= dict.fromkeys((*NVLINK_TRAFFIC, *NVLINK_ERRORS), 0)
    gpu.field_values |= dict.fromkeys((*SINCE_570, *AVERAGED_POWER), UNSUPPORTED)
    gpu.nvlinks = links(12, megabytes_per_second=25781, version="3.1")
    return gpu


def l4(index: int = 0) -> FakeGpu:
    """This will give an L4: no NVLink, no GPM, no HBM to take the temperature of, media engines at work."""
    gpu = h200(index)
    gpu.identity = GpuIdentity(
        uuid=f"GPU-14000000-0000-0000-0000-00000000000{index}",
        index=index,
        name="NVIDIA L4",
        pci_bus_id=f"00000000:0{index}:00.0",
        driver_version="595.80",
        cuda_version="13.2",
        architecture="ada",
        compute_capability="8.9",
        cuda_cores=7424,
        memory_total_bytes=23034 * MIB,
        gpm_supported=False,
        persistence_enabled=False,
    )
    gpu.memory = DeviceMemory(
        memory_total_bytes=23034 * MIB,
        memory_used_bytes=4 * 1024 * MIB,
        memory_free_bytes=18461 * MIB,
        memory_reserved_bytes=477 * MIB,
    )
    gpu.bar1 = Bar1Memory(bar1_used_bytes=1 * MIB, bar1_total_bytes=32768 * MIB)
    gpu.gpm_rates = UNSUPPORTED
    gpu.power_usage_watts, gpu.power_limit_watts = 61.25, 72.0
    gpu.pcie_link_generation, gpu.persistence_enabled = 4, False
    gpu.field_values |= {
        GpuField.TEMPERATURE_MEMORY_CELSIUS: UNSUPPORTED,
        GpuField.POWER_AVERAGE_WATTS: 61.25,
        GpuField.POWER_CURRENT_LIMIT_WATTS: 72.0,
        GpuField.THROTTLED_POWER_CAP_SECONDS: 200.740215,
    }
    gpu.instances = UNSUPPORTED
    gpu.engines = gpu.engines | {MediaEngine.ENCODER: 0.4, MediaEngine.DECODER: 0.37}
    return gpu


def b200(index: int = 0) -> FakeGpu:
    """This will give a B200: NVLink 5 with its own counters, a fabric that judges its health."""
    gpu = h200(index)
    gpu.identity = replace(
        gpu.identity,
        uuid=f"GPU-b2000000-0000-0000-0000-00000000000{index}",
        name="NVIDIA B200",
        pci_bus_id=f"00000000:{index}A:00.0",
        driver_version="580.159.04",
        architecture="blackwell",
        compute_capability="10.0",
        cuda_cores=18944,
        memory_total_bytes=192265846784,
        pcie_link_generation_maximum=6,
        power_limit_maximum_watts=1000.0,
    )
    gpu.memory = DeviceMemory(
        memory_total_bytes=192265846784,
        memory_used_bytes=16 * 1024 * MIB,
        memory_free_bytes=192265846784 - 17 * 1024 * MIB,
        memory_reserved_bytes=1024 * MIB,
    )
    gpu.power_usage_watts, gpu.power_limit_watts = 812.5, 1000.0
    gpu.pcie_link_generation = 6
    gpu.field_values |= dict.fromkeys(NVLINK5, 0)
    gpu.field_values |= {
        GpuField.NVLINK5_TRANSMIT_BYTES: 7_000_000_000_000,
        GpuField.NVLINK5_RECEIVE_BYTES: 6_900_000_000_000,
        GpuField.NVLINK5_RECOVERIES: 2,
        GpuField.NVLINK_SYMBOL_ERRORS: 31,
        GpuField.NVLINK_SYMBOL_BIT_ERROR_RATIO: 2e-14,
        GpuField.NVLINK_EFFECTIVE_BIT_ERROR_RATIO: 0.0,
        GpuField.POWER_AVERAGE_WATTS: 812.5,
        GpuField.POWER_CURRENT_LIMIT_WATTS: 1000.0,
    }
    gpu.nvlinks = links(18, megabytes_per_second=53125, version="5.0")
    gpu.fabric = Fabric(
        state_code=3,
        status_code=0,
        cluster_uuid="f7a1b2c3-0d4e-4f5a-8b6c-7d8e9f0a1b2c",
        clique_id=32766,
        health_mask=0x21AA,  # every flag false, correctly configured, a partition assigned
        health_summary_code=1,
    )
    return gpu


_PREFIX = {"H100": "7100", "A100": "a100"}  # of made-up UUIDs


def instance(
    number: int, profile: str, *, sms: int, total: int, used: int, free: int, gpm: bool, name: str
) -> FakeInstance:
    """This will give an instance with one compute instance over all of it; sizes are in MiB."""
    rates = {metric: rate for metric, rate in busy_gpm().items() if "NVLINK" not in metric.name}
    return FakeInstance(
        facts=GpuInstance(
            gpu_instance_id=number,
            compute_instances=(
                ComputeInstance(
                    uuid=f"MIG-{_PREFIX[name]}0000-0000-5000-8000-0000000000{number:02}",
                    compute_instance_id=0,
                    sm_count=sms,
                ),
            ),
            name=f"NVIDIA {name} MIG {profile}",
            profile=profile,
        ),
        memory=DeviceMemory(
            memory_total_bytes=total * MIB,
            memory_used_bytes=used * MIB,
            memory_free_bytes=free * MIB,
            memory_reserved_bytes=0,
        ),
        gpm_rates=rates if gpm else UNSUPPORTED,
    )


def in_mig_mode(gpu: FakeGpu) -> FakeGpu:
    """This will take from a GPU what no GPU tells in MIG mode: the capture shows N/A for all of it.

    Nobody has recorded what GPM then says of the whole GPU; here it says that it does not know.
    """
    gpu.identity = replace(gpu.identity, mig_enabled=True, mig_enabled_after_reset=True)
    gpu.utilization, gpu.process_utilization, gpu.gpm_rates = UNSUPPORTED, UNSUPPORTED, UNSUPPORTED
    gpu.engines = dict.fromkeys(MediaEngine, UNSUPPORTED)
    gpu.field_values |= dict.fromkeys(REMAPPED_ROWS, UNSUPPORTED)
    return gpu


def h100_mig(index: int = 0) -> FakeGpu:
    """This will give the captured H100 in MIG mode: four instances, three processes on the first of them."""
    gpu = in_mig_mode(h100(index))
    gpu.bar1 = Bar1Memory(bar1_used_bytes=81081 * MIB, bar1_total_bytes=131072 * MIB)
    gpu.power_usage_watts = 432.21
    gpu.compute_processes = [
        GpuProcess(pid=21180, used_bytes=2296 * MIB, gpu_instance_id=2),
        GpuProcess(pid=21181, used_bytes=1272 * MIB, gpu_instance_id=2),
        GpuProcess(pid=21198, used_bytes=7484 * MIB, gpu_instance_id=2),
    ]
    gpu.instances = [
        instance(2, "3g.40gb", sms=60, total=40448, used=11091, free=29357, gpm=True, name="H100"),
        instance(3, "2g.20gb", sms=32, total=20097, used=17, free=20080, gpm=True, name="H100"),
        instance(9, "1g.10gb", sms=16, total=9985, used=9, free=9976, gpm=True, name="H100"),
        instance(10, "1g.10gb", sms=16, total=9985, used=9, free=9976, gpm=True, name="H100"),
    ]
    return gpu


def a100_mig(index: int = 0) -> FakeGpu:
    """This will give an A100 in MIG mode: instances and their memory, and no way to say how busy they are."""
    gpu = in_mig_mode(a100(index))
    gpu.compute_processes = [GpuProcess(pid=31337, used_bytes=4 * 1024 * MIB, gpu_instance_id=1)]
    gpu.instances = [
        instance(1, "3g.40gb", sms=42, total=40192, used=4133, free=36059, gpm=False, name="A100"),
        instance(5, "2g.20gb", sms=28, total=19968, used=13, free=19955, gpm=False, name="A100"),
    ]
    return gpu


GALLERY = (h200, h100, h100_mig, a100, a100_mig, l4, b200)
