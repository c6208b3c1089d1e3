"""The floors and ceilings that a control plane cannot cross: pure, and every refusal is a sentence."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Set
from dataclasses import dataclass
from urllib.parse import urlsplit

from node_agent.model import NodeConfiguration

MOST_TARGETS = 32  # eight GPUs run eight engines at most; a control plane must not make a host a port scanner
LONGEST_TARGET = 256  # a host name has at most 253 characters; longer ones are somebody's test of us
_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPolicy:
    """What the host's owner has set. A control plane can stay within it, and never change it."""

    shortest_interval_seconds: float
    longest_interval_seconds: float
    allowed: frozenset[str]  # the names of NodeConfiguration's fields that may be pushed at all
    pushed_targets: tuple[str, ...]  # host or host:port that a pushed target may name beside this host's own
    gpu_monitoring_enabled: bool  # what is off here stays off
    discover_engines: bool


def refusal(asked: NodeConfiguration, policy: LocalPolicy, own_addresses: Set[str]) -> str | None:
    """This will say why a configuration is not taken, all of it in one sentence; None when it is.

    `own_addresses` are those of this host's network interfaces.
    """
    return "; ".join(_complaints(asked, policy, own_addresses)) or None


def _complaints(asked: NodeConfiguration, policy: LocalPolicy, own_addresses: Set[str]) -> Iterator[str]:
    for name in asked.names:
        if name not in policy.allowed:
            yield f"{name} is not among this host's allowed_configuration"
    seconds = asked.sampling_interval_seconds
    shortest, longest = policy.shortest_interval_seconds, policy.longest_interval_seconds
    if seconds is not None and not shortest <= seconds <= longest:
        yield f"{seconds:g} s is outside the {shortest:g} to {longest:g} s that this host accepts"
    for name in ("gpu_monitoring_enabled", "discover_engines"):
        if getattr(asked, name) and not getattr(policy, name):
            yield f"{name} is switched off on the host itself"
    if len(asked.scrape_targets) > MOST_TARGETS:
        yield f"{len(asked.scrape_targets)} scrape targets are too many; at most {MOST_TARGETS} are accepted"
        return
    for target in asked.scrape_targets:
        if why := _refused_target(target, policy.pushed_targets, own_addresses):
            yield f"scrape target {_shown(target)} {why}"


def _shown(target: str) -> str:
    """This will give a target as a log line bears it."""
    return repr(target[:LONGEST_TARGET])


def _refused_target(target: str, named: tuple[str, ...], own_addresses: Set[str]) -> str | None:
    """This will say why a pushed target is not scraped.

    It is a server and nothing else: with a path or a query the agent would fetch what somebody else made up.
    """
    plain = "is no server; write http://host:port or https://host:port, without a path"
    if len(target) > LONGEST_TARGET or not all("!" <= character <= "~" for character in target):
        return plain
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port
    except ValueError:
        return plain
    if "@" in target:
        return "holds a name or password; /metrics of engines needs none"
    rest = parts.path.removeprefix("/") or parts.query or parts.fragment or target.endswith(("?", "#"))
    if parts.scheme not in _USUAL_PORTS or not host or rest or port == 0:
        return plain
    if is_here(host, own_addresses) or _is_named(host, port or _USUAL_PORTS[parts.scheme], named):
        return None
    return "is not on this host, and not among its pushed_targets"


def is_here(host: str, own_addresses: Set[str]) -> bool:
    """This will say whether an address is surely this host's: a name may mean anything tomorrow, `localhost` may not.

    Spellings that only a resolver understands (127.1, 0x7f000001) are names here.
    """
    if host == "localhost":
        return True
    if "%" in host:  # an interface behind an address
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_loopback or str(inner) in own_addresses


def _is_named(host: str, port: int, named: tuple[str, ...]) -> bool:
    for entry in named:
        allowed, allowed_port = named_place(entry)
        if allowed == host.lower() and allowed_port in (None, port):
            return True
    return False


def named_place(entry: str) -> tuple[str, int | None]:
    """This will take `host`, `host:port`, or an IPv6 address in brackets apart. Raises ValueError."""
    parts = urlsplit(f"//{entry}")
    host, port = parts.hostname, parts.port
    if not host or parts.path or parts.query or parts.fragment or "@" in entry or port == 0:
        raise ValueError(entry)
    return host, port
