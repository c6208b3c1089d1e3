"""/sys/class/net and /sys/class/infiniband: whether links are up, what they can carry, what their ports counted.

`sys_root` is where the machine's /sys is mounted. A sysfs shows the network namespace it was mounted in, so a
container needs the machine's own mount to see the machine's links. Readers raise OSError and ValueError, as
those of procfs.py do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.host.procfs import NotKept, text_of

_MEGABIT_BYTES = 1e6 / 8
_GIGABIT_BYTES = 1e9 / 8
_WORD_BYTES = 4  # port_*_data count words of four bytes (Documentation/ABI/stable/sysfs-class-infiniband)
_UNKNOWN_SPEED = -1  # a link that is down, or a driver without a speed (Documentation/ABI/testing/sysfs-class-net)

# Names of port counters, as the catalogue's fields have them: folder, file, and what one of them stands for.
PORT_COUNTERS: Mapping[str, tuple[str, str, int]] = {
    "received_bytes_total": ("counters", "port_rcv_data", _WORD_BYTES),
    "transmitted_bytes_total": ("counters", "port_xmit_data", _WORD_BYTES),
    "received_packets_total": ("counters", "port_rcv_packets", 1),
    "transmitted_packets_total": ("counters", "port_xmit_packets", 1),
    "transmit_waits_total": ("counters", "port_xmit_wait", 1),
    "receive_errors_total": ("counters", "port_rcv_errors", 1),
    "transmit_discards_total": ("counters", "port_xmit_discards", 1),
    "symbol_errors_total": ("counters", "symbol_error", 1),
    "link_downs_total": ("counters", "link_downed", 1),
    "link_recoveries_total": ("counters", "link_error_recovery", 1),
    "integrity_errors_total": ("counters", "local_link_integrity_errors", 1),
    "out_of_sequence_total": ("hw_counters", "out_of_sequence", 1),
    "congestion_notifications_sent_total": ("hw_counters", "np_cnp_sent", 1),
    "congestion_notifications_handled_total": ("hw_counters", "rp_cnp_handled", 1),
    "acknowledgement_timeouts_total": ("hw_counters", "local_ack_timeout_err", 1),
}


def read_is_up(sys_root: Path, interface: str) -> bool:
    """This will read operstate; raises NotKept where the driver does not keep one."""
    state = text_of(sys_root / "class" / "net" / interface / "operstate").strip()
    if state == "unknown":
        raise NotKept("operstate is unknown")
    return state == "up"


def read_speed_bytes_per_second(sys_root: Path, interface: str) -> float:
    """This will read the speed of a link; raises NotKept where it has none."""
    try:
        megabits = int(text_of(sys_root / "class" / "net" / interface / "speed"))
    except FileNotFoundError:
        raise
    except OSError as error:  # EINVAL is how the kernel says that it has no answer
        raise NotKept("speed cannot be read") from error
    if megabits == _UNKNOWN_SPEED:
        raise NotKept("speed is unknown")
    return megabits * _MEGABIT_BYTES


def read_carrier_changes(sys_root: Path, interface: str) -> int:
    """This will read how often a link went up or down."""
    return int(text_of(sys_root / "class" / "net" / interface / "carrier_changes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port of an RDMA device."""

    device: str
    number: str
    path: Path
    link_layer: str | None  # InfiniBand or Ethernet (RoCE)

    @property
    def key(self) -> str:
        """This will name the port on its machine, as ibstat and perfquery do."""
        return f"{self.device}/{self.number}"


def find_ports(sys_root: Path) -> Sequence[Port]:
    """This will list the ports of all RDMA devices, in the order of their names; none where there is no such device."""
    ports: list[Port] = []
    root = sys_root / "class" / "infiniband"
    for device in _names(root):
        for number in _names(root / device / "ports"):
            path = root / device / "ports" / number
            try:
                layer = text_of(path / "link_layer").strip() or None
            except OSError:
                layer = None
            ports.append(Port(device=device, number=number, path=path, link_layer=layer))
    return ports


def read_port_is_active(port: Port) -> bool:
    """This will read a port's state, which reads like `4: ACTIVE`."""
    number, _, name = text_of(port.path / "state").partition(":")
    if not number.strip().isdecimal():
        raise ValueError("no state")
    return name.strip() == "ACTIVE"


def read_port_bytes_per_second(port: Port) -> float:
    """This will read a port's rate, which reads like `400 Gb/sec (4X NDR)`."""
    found = re.match(r"([0-9.]+) Gb/sec", text_of(port.path / "rate"))
    if found is None:
        raise ValueError("no rate")
    return float(found[1]) * _GIGABIT_BYTES


def read_port_counter(port: Port, field: str) -> int:
    """This will read one of PORT_COUNTERS; FileNotFoundError where the device does not keep it."""
    folder, name, stands_for = PORT_COUNTERS[field]
    return int(text_of(port.path / folder / name)) * stands_for


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  (names only)
    except (FileNotFoundError, NotADirectoryError):
        return []
