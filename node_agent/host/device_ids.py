"""Which GPU the id of a device means, in the forms of the plugins and drivers that hand GPUs out.

Their sources, read at the commits that tests/data/kubelet/README.md names:

- NVIDIA's device plugin registers a GPU's or an instance's UUID, whatever its `deviceIDStrategy`: that one only
  decides what a container is told (internal/rm/nvml_devices.go, internal/plugin/server.go). Sharing, by time
  slicing or MPS, adds `::<replica>` (internal/rm/devices.go), and may call the resource `nvidia.com/gpu.shared`.
- Drivers before R470 name an instance `MIG-GPU-<uuid>/<gpu instance>/<compute instance>` (api/config/v1/replicas.go).
- GKE's plugin says `nvidia0`, `nvidia0/gi1`, `nvidia0/vgpu0` or `nvidia0/gi1/vgpu0`, with the minor number.
- NVIDIA's DRA driver says `gpu-<minor>`, and `gpu-<minor>-mig-…` for an instance of it that NVML gives another
  name (cmd/gpu-kubelet-plugin/deviceinfo.go, mig.go; the minor number in every release since 25.3.0).
  `gpu-vfio-<n>` is a GPU that was given to a virtual machine, and `<n>` is no minor number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from node_agent.untrusted import clean_text

DRA_DRIVER = "gpu.nvidia.com"  # compute-domain.nvidia.com hands out channels between nodes, no GPUs

_UUID = re.compile(r"^(?:GPU|MIG)-[0-9A-Za-z/-]{1,120}$")
_OLD_MIG = re.compile(r"^MIG-(GPU-[0-9A-Za-z-]{1,100})/(\d{1,4})/\d{1,4}$")
_GKE = re.compile(r"^nvidia(\d{1,4})(?:/gi(\d{1,4}))?(/vgpu\d{1,4})?$")
_DRA = re.compile(r"^gpu-(\d{1,4})(-mig-[0-9a-z.-]{1,200})?$")
_IN_CDI_NAME = re.compile(r"=((?:GPU|MIG)-[0-9A-Za-z-]{1,120})$")
# Names of whole or shared GPUs and of instances; nvidia.com/ stands before network cards and other things too.
_GPU_RESOURCE = re.compile(r"(?:^|\.)nvidia\.com/(?:gpu|mig)(?:[.-]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What an id says about which device is meant. With neither UUID nor minor number it may be any GPU."""

    name: str  # as the plugin or driver wrote it, without the replica
    uuid: str | None = None  # of a GPU, or of an instance of one
    gpu_uuid: str | None = None  # of the GPU that an instance is of, where the id tells it
    minor_number: int | None = None
    gpu_instance_id: int | None = None
    is_some_instance: bool = False  # an instance of that GPU, and the id does not tell which


def parse_plugin_id(text: str) -> tuple[Device, str]:
    """This will read a device plugin's id: the device, and which share of it, "" for the whole."""
    plain, _, replica = clean_text(text).partition("::")
    old = _OLD_MIG.match(plain)
    if old is not None:
        return Device(name=plain, uuid=plain, gpu_uuid=old[1], gpu_instance_id=int(old[2])), replica
    if _UUID.match(plain):
        return Device(name=plain, uuid=plain), replica
    gke = _GKE.match(plain)
    if gke is None:
        return Device(name=plain), replica
    instance = None if gke[2] is None else int(gke[2])
    return Device(name=plain, minor_number=int(gke[1]), gpu_instance_id=instance), replica or (gke[3] or "")


def parse_claimed(device_name: str, cdi_names: tuple[str, ...] = ()) -> Device:
    """This will read a device of dynamic resource allocation: by a UUID in a CDI name, else by the driver's name."""
    name = clean_text(device_name)
    for cdi_name in cdi_names:
        found = _IN_CDI_NAME.search(clean_text(cdi_name))
        if found is not None:
            return Device(name=name, uuid=found[1])
    dra = _DRA.match(name)
    if dra is None:
        return Device(name=name)
    return Device(name=name, minor_number=int(dra[1]), is_some_instance=dra[2] is not None)


def is_gpu(resource: str, device: Device) -> bool:
    """This will say whether what a plugin handed out is a GPU: its id says so, or the resource's name does."""
    return device.uuid is not None or device.minor_number is not None or _GPU_RESOURCE.search(resource) is not None
