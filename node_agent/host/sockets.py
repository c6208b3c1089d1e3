"""Listening TCP sockets, and the processes that hold them, from the kernel's own list or /proc.

The format of /proc/net/tcp: https://docs.kernel.org/networking/proc_net_tcp.html. Only the
agent's own network namespace is seen.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from node_agent.host import sock_diag
from node_agent.host.netlink import NetlinkUnavailable

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
MAX_SOCKETS = 4096  # listening ones; a busy host has a few hundred
MAX_DESCRIPTORS = 65_536  # per process: beyond it, looking costs more than it tells


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningSocket:
    """One TCP socket that accepts connections."""

    address: str  # 0.0.0.0 and :: mean every address of the machine
    port: int
    inode: int


def listening(proc_root: str = "/proc") -> tuple[ListeningSocket, ...]:
    """This will give the listening sockets of IPv4 and IPv6; a missing or odd table gives none of its own."""
    if _is_this_kernels(proc_root):
        try:
            return _by_netlink()
        except NetlinkUnavailable:
            pass  # /proc has the same, and takes longer
    return _by_table(proc_root)


def _is_this_kernels(proc_root: str) -> bool:
    """This will say whether a /proc shows the network that we are in ourselves."""
    try:
        return Path(proc_root, "self", "ns", "net").samefile("/proc/self/ns/net")
    except OSError:
        return False


def _by_netlink() -> tuple[ListeningSocket, ...]:
    """Raises NetlinkUnavailable."""
    found = [
        ListeningSocket(address=_address(packed), port=port, inode=inode)
        for family in (socket.AF_INET, socket.AF_INET6)
        for packed, port, inode in sock_diag.listening(family)
    ]
    return tuple(found[:MAX_SOCKETS])


def _by_table(proc_root: str) -> tuple[ListeningSocket, ...]:
    found: list[ListeningSocket] = []
    for table in ("tcp", "tcp6"):
        try:
            with (Path(proc_root) / "net" / table).open(encoding="ascii", errors="replace") as lines:
                found.extend(_listening_in(lines))
        except OSError:
            continue  # a kernel without IPv6 has no tcp6
    return tuple(found[:MAX_SOCKETS])


def owners(pids: Iterable[int], inodes: Collection[int], proc_root: str = "/proc") -> dict[int, int]:
    """This will say which of `pids` holds each of `inodes`; of several holders the first.

    A process of another user whose descriptors may not be read holds nothing, as far as this knows.
    """
    held: dict[int, int] = {}
    for pid in pids:
        for inode in _socket_inodes(Path(proc_root) / str(pid) / "fd"):
            if inode in inodes:
                held.setdefault(inode, pid)
    return held


def _listening_in(lines: Iterable[str]) -> Iterable[ListeningSocket]:
    """This will read one table; its header and lines of another shape are no sockets."""
    for line in lines:
        fields = line.split(None, 10)
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        host, _, port = fields[1].partition(":")
        try:
            yield ListeningSocket(address=_address(_packed(host)), port=int(port, 16), inode=int(fields[9]))
        except ValueError:
            continue


def _packed(text: str) -> bytes:
    """This will read an address that the kernel printed as 32-bit words in the machine's byte order."""
    words = [socket.htonl(int(text[start : start + 8], 16)) for start in range(0, len(text), 8)]
    return b"".join(word.to_bytes(4, "big") for word in words)


def _address(packed: bytes) -> str:
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _socket_inodes(directory: Path) -> Iterable[int]:
    """This will give the inodes of a process's sockets."""
    try:
        with os.scandir(directory) as entries:
            for count, entry in enumerate(entries):
                if count >= MAX_DESCRIPTORS:
                    return
                inode = _socket_inode(entry.path)
                if inode is not None:
                    yield inode
    except OSError:
        return  # the process ended, or belongs to someone else


def _socket_inode(link: str) -> int | None:
    """This will give the inode that a descriptor's link names, None when it is no socket."""
    try:
        target = os.readlink(link)  # noqa: PTH115 - Path costs ten times as much, for thousands of descriptors
    except OSError:
        return None
    if not target.startswith("socket:["):
        return None
    number = target[len("socket:[") : -1]
    return int(number) if number.isdecimal() else None
