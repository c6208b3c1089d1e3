"""The addresses of this host's network interfaces."""

from __future__ import annotations

import psutil


def own_addresses() -> frozenset[str]:
    """This will give the IP addresses that this host has now, without their interfaces; empty when unknown."""
    try:
        interfaces = psutil.net_if_addrs()
    except OSError:
        return frozenset()
    return frozenset(address.address.partition("%")[0] for each in interfaces.values() for address in each)
