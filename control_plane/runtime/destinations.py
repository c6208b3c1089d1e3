"""Where this process may connect to when somebody else names the place: webhooks, endpoints to test, base URLs.

A URL from a user or a node must not become a way to whatever stands beside the control plane: its loopback, the
neighbours in its network, the cloud's metadata service. Public addresses are allowed; anything else only when the
operator named it. The name is resolved once and the connection goes to an address that was checked, so that a name
which answers otherwise the second time gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from control_plane.model.errors import ConfigurationError, InvalidRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

LONGEST_URL = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
# Clouds give credentials away there to whoever asks from within; a range that covers them does not name them.
METADATA: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text) for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in an IPv6 one


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A place that may be connected to, with the addresses to which it was found to lead."""

    url: str
    scheme: str
    host: str
    port: int
    target: str  # path and query
    addresses: tuple[str, ...]


class Policy:
    """What the operator allows beside public addresses."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        """`allowed` holds names, `*.domain`, addresses and networks. Raises ConfigurationError for anything else."""
        self._names: set[str] = set()
        self._suffixes: list[str] = []
        self._networks: list[Network] = []
        self._is_everywhere = False
        for entry in allowed:
            self._add(entry.strip().lower())

    @classmethod
    def everywhere(cls) -> Policy:
        """This will allow every address: for places that the operator himself names in the settings."""
        policy = cls()
        policy._is_everywhere = True
        return policy

    def _add(self, entry: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            name = entry.removeprefix("*.")
            if not name or not all(part and part.replace("-", "").isalnum() for part in name.split(".")):
                raise ConfigurationError(
                    f"allowed_destinations: {entry!r} is no name, *.domain, address or network"
                ) from None
            if entry.startswith("*."):
                self._suffixes.append(f".{name}")
            else:
                self._names.add(name)

    def names(self, host: str) -> bool:
        """This will say whether a host is allowed by its name, wherever it leads."""
        return host in self._names or any(host.endswith(suffix) for suffix in self._suffixes)

    def allows(self, address: Address, *, named: bool) -> bool:
        """This will say whether an address may be connected to; `named`: the host's name is allowed."""
        if self._is_everywhere:
            return True
        plain = _unwrapped(address)
        within = [network for network in self._networks if plain.version == network.version and plain in network]
        if any(plain.version == network.version and plain in network for network in METADATA):
            return any(network.num_addresses == 1 for network in within)
        return named or bool(within) or (plain.is_global and not plain.is_multicast)


def _unwrapped(address: Address) -> Address:
    """This will give the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


async def check(url: str, policy: Policy, resolve: Resolve) -> Destination:
    """This will give where a URL leads. Raises InvalidRequest when it must not, cannot or does not lead there."""
    scheme, host, port, target = parse(url)
    try:
        found = await resolve(host, port)
    except OSError as error:
        raise InvalidRequest(f"{host} leads nowhere: {error.strerror or error}") from error
    named = policy.names(host)
    allowed = [text for text in dict.fromkeys(found) if policy.allows(ipaddress.ip_address(text), named=named)]
    if not allowed or len(allowed) < len(set(found)):
        # One bad address among good ones is how a rebinding name looks.
        raise InvalidRequest(
            f"{host} is not a public address; whoever runs this control plane can allow it by name or network "
            "(OPTIINFRA_ALLOWED_DESTINATIONS)"
        )
    return Destination(url=url, scheme=scheme, host=host, port=port, target=target, addresses=tuple(allowed))


def parse(url: str) -> tuple[str, str, int, str]:
    """This will take a URL apart: scheme, host, port, path and query. Raises InvalidRequest."""
    if len(url) > LONGEST_URL or not all("!" <= character <= "~" for character in url):
        raise InvalidRequest(f"a URL has at most {LONGEST_URL} printable ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise InvalidRequest("that is no URL; write https://host/path") from error
    if parts.scheme not in DEFAULT_PORTS or not host or port == 0:
        raise InvalidRequest("that is no URL of the web; write https://host/path")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("a URL holds no name or password; give secrets where they are asked for")
    if "\\" in url or "%" in parts.netloc:
        raise InvalidRequest("a URL's host is written plainly: no backslash, no percent sign")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], target


async def by_system(host: str, port: int) -> Sequence[str]:
    """This will ask the system's resolver. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in found]
