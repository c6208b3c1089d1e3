"""Where a URL from somebody else may lead."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.model.errors import ConfigurationError, InvalidRequest
from control_plane.runtime import destinations, outbound
from control_plane.runtime.destinations import Policy, check


def leads_to(*addresses: str) -> destinations.Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


INSIDE = [
    "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "fd00::1", "fd00:ec2::254", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "ff02::1", "100.100.100.200",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
async def test_what_stands_beside_the_control_plane_is_not_reached(address: str) -> None:
    with pytest.raises(InvalidRequest, match="OPTIINFRA_ALLOWED_DESTINATIONS"):
        await check("https://hooks.example/x", Policy(), leads_to(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
async def test_a_public_address_is_reached_where_it_was_found(address: str) -> None:
    found = await check("https://hooks.example:8443/x?y=1", Policy(), leads_to(address))
    assert found.addresses == (address,)
    assert (found.host, found.port, found.target) == ("hooks.example", 8443, "/x?y=1")


async def test_one_inner_address_among_public_ones_is_one_too_many() -> None:
    with pytest.raises(InvalidRequest):
        await check("http://rebinding.example/", Policy(), leads_to("93.184.216.34", "127.0.0.1"))


@pytest.mark.parametrize(
    ("allowed", "host", "address", "expected"),
    [
        ("10.0.0.0/8", "hook", "10.1.2.3", True),
        ("10.0.0.0/8", "hook", "192.168.0.1", False),
        ("hooks.corp", "hooks.corp", "10.1.2.3", True),
        ("hooks.corp", "HOOKS.corp.", "10.1.2.3", True),
        ("hooks.corp", "evil-hooks.corp", "10.1.2.3", False),
        ("*.corp", "a.b.corp", "10.1.2.3", True),
        ("*.corp", "corp", "10.1.2.3", False),
        ("127.0.0.1", "localhost", "127.0.0.1", True),
        ("169.254.0.0/16", "meta", "169.254.169.254", False),
        ("0.0.0.0/0", "meta", "169.254.169.254", False),
        ("hooks.corp", "hooks.corp", "169.254.169.254", False),
        ("169.254.169.254", "meta", "169.254.169.254", True),
    ],
)
async def test_the_operator_names_what_else_is_reached(allowed: str, host: str, address: str, expected: bool) -> None:
    asked = check(f"http://{host}/", Policy([allowed]), leads_to(address))
    if expected:
        await asked
    else:
        with pytest.raises(InvalidRequest):
            await asked


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example", "ftp://h/x", "file:///etc/passwd", "gopher://h:70/x", "http://", "http:///x",
        "https://user:pass@h/", "https://user@h/", "http://h:0/", "http://h:99999/", "http://h:x/", "http://[::1",
        "http://h\\@evil/", "http://%31%32%37.0.0.1/", "http://h/\r\nX: y", "http://h /", "http://ⓔvil/",
        "http://h/" + "a" * 3000,
        "javascript:alert(1)", "//h/x",
    ],
)  # fmt: skip
async def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        await check(url, Policy(), leads_to("93.184.216.34"))


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:7f00:1]"])
async def test_however_loopback_is_spelled_it_is_what_the_resolver_makes_of_it(host: str) -> None:
    with pytest.raises(InvalidRequest):
        await check(f"http://{host}:1/", Policy(), destinations.by_system)


async def test_a_name_that_leads_nowhere_says_so() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError(1, "Name or service not known")

    with pytest.raises(InvalidRequest, match="leads nowhere"):
        await check("http://nowhere.example/", Policy(), nowhere)


@pytest.mark.parametrize("entry", ["", "*", "*.", "http://h", "h/24", "10.0.0.0/99", "a b"])
def test_an_allowance_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError):
        Policy([entry])


@given(st.ip_addresses())
def test_without_allowances_only_public_addresses_are_reached(address: ipaddress.IPv4Address) -> None:
    if Policy().allows(address, named=False):
        plain = destinations._unwrapped(address)
        assert plain.is_global
        assert not (plain.is_loopback or plain.is_link_local or plain.is_multicast or plain.is_private)


# -- one question ---------------------------------------------------------------------------------


async def answered_with(answer: bytes, **asked: object) -> outbound.Answer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        place = await check(f"http://127.0.0.1:{port}/x", Policy(["127.0.0.1"]), destinations.by_system)
        return await outbound.ask(place, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}",
        b"HTTP/1.1 200 OK\r\n\r\n{\"a\": 1}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5;x=y\r\n\": 1}\r\n0\r\n\r\n",
    ],
)  # fmt: skip
async def test_an_answer_is_read_however_its_end_is_told(answer: bytes) -> None:
    assert (await answered_with(answer)).json() == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"hello", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", b"A: b\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_an_error_of_the_other_side(answer: bytes) -> None:
    with pytest.raises(outbound.NotReached):
        await answered_with(answer)


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    answer = await answered_with(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    )
    assert answer.status == 302


async def test_a_header_of_two_lines_is_never_sent() -> None:
    with pytest.raises(outbound.NotReached, match="more than one line"):
        await answered_with(b"", headers={"X": "a\r\nY: b"})
