"""The addresses of this host's network interfaces (rtnetlink(7), include/uapi/linux/if_addr.h)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator

from node_agent.host import netlink

_NETLINK_ROUTE = 0
_NEW_ADDRESS, _GET_ADDRESS = 20, 22
_ADDRESS_HEAD = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_BYTES_OF = {socket.AF_INET: 4, socket.AF_INET6: 16}


def own_addresses() -> frozenset[str]:
    """This will give the IP addresses that this host has now, without their interfaces; empty when unknown."""
    everything = _ADDRESS_HEAD.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    try:
        messages = netlink.dump(
            protocol=_NETLINK_ROUTE, kind=_GET_ADDRESS, request=everything, answer_kind=_NEW_ADDRESS
        )
        return frozenset(address for message in messages if (address := address_in(message)))
    except netlink.NetlinkUnavailable:
        return frozenset()


def address_in(message: bytes) -> str | None:
    """This will give the address that an ifaddrmsg says is ours; None where it names none.

    On a point-to-point link IFA_ADDRESS is the other end's, and ours is IFA_LOCAL.
    """
    if len(message) < _ADDRESS_HEAD.size:
        return None
    family, *_ = _ADDRESS_HEAD.unpack_from(message)
    said = dict(_attributes(message[_ADDRESS_HEAD.size :]))
    packed = said.get(_IFA_LOCAL, said.get(_IFA_ADDRESS))
    if packed is None or len(packed) != _BYTES_OF.get(family):
        return None
    return str(ipaddress.ip_address(packed))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[position + _ATTRIBUTE.size : position + length]
        position += length + 3 & ~3
