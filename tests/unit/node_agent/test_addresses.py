"""Which addresses are this host's, as the kernel lists them."""

from __future__ import annotations

import contextlib
import socket
import struct

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.host import addresses, netlink

_HERE = socket.inet_aton("10.0.0.1")
_THERE = socket.inet_aton("10.0.0.2")


def message(*attributes: tuple[int, bytes], family: int = socket.AF_INET) -> bytes:
    head = struct.pack("=BBBBI", family, 24, 0, 0, 3)
    return head + b"".join(struct.pack("=HH", 4 + len(value), kind) + value for kind, value in attributes)


def test_our_own_addresses_are_those_of_psutil() -> None:
    listed = psutil.net_if_addrs().values()
    ours = {a.address.partition("%")[0] for each in listed for a in each if a.family in addresses._BYTES_OF}
    assert addresses.own_addresses() == ours


def test_the_other_end_of_a_link_is_not_ours() -> None:
    assert addresses.address_in(message((1, _THERE), (2, _HERE))) == "10.0.0.1"
    assert addresses.address_in(message((2, _HERE), (1, _THERE))) == "10.0.0.1"
    assert addresses.address_in(message((1, _HERE), (6, b"0123"))) == "10.0.0.1"


def test_an_address_of_another_size_or_family_is_none() -> None:
    assert addresses.address_in(message((1, _HERE), family=socket.AF_INET6)) is None
    assert addresses.address_in(message((1, _HERE), family=12)) is None
    assert addresses.address_in(message()) is None
    assert addresses.address_in(b"") is None
    packed = socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert addresses.address_in(message((1, packed), family=socket.AF_INET6)) == "fe80::1"


@given(st.binary(max_size=80))
def test_no_answer_makes_the_reading_fail(data: bytes) -> None:
    found = addresses.address_in(bytes([socket.AF_INET]) + data)
    assert found is None or socket.inet_aton(found)
    with contextlib.suppress(netlink.NetlinkUnavailable):
        list(netlink.payloads(data, 20))


def test_a_kernel_that_does_not_answer_leaves_them_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> socket.socket:
        raise OSError("no such family")

    monkeypatch.setattr(socket, "socket", closed)
    assert addresses.own_addresses() == frozenset()


def test_a_refusal_is_no_empty_list() -> None:
    refused = struct.pack("=IHHII", 20, 2, 0, 1, 0) + struct.pack("=i", -1)
    with pytest.raises(netlink.NetlinkUnavailable):
        list(netlink.payloads(refused, 20))
    with pytest.raises(netlink.NetlinkUnavailable):
        list(netlink.payloads(b"", 20))
