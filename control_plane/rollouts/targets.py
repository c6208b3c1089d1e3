"""What can be rolled out to: written by the operator into a file, never by whoever asks for a rollout."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from control_plane.model.errors import ConfigurationError
from control_plane.rollouts.actuators.base import Refused
from control_plane.rollouts.actuators.haproxy import HaproxyTarget
from control_plane.rollouts.actuators.haproxy_socket import plain
from control_plane.rollouts.freezing import FORMS, FreezeWindow, parse

_KEYS = {"actuator", "model", "socket", "map_file", "key", "blue", "green", "ttft_limit_seconds", "freeze"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One set of servers."""

    backend: str
    servers: tuple[str, ...]  # their own addresses, for warming and for their figures


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutTarget:
    """A model behind an HAProxy, with two sets of servers."""

    name: str
    model: str
    haproxy: HaproxyTarget
    blue: Side
    green: Side
    ttft_limit_seconds: float | None  # a request whose first token comes later is a bad one
    freezes: tuple[FreezeWindow, ...] = ()  # in which nothing moves forward


def read_targets(path: Path) -> dict[str, RolloutTarget]:
    """This will read the file. Raises ConfigurationError that says where it is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the rollout targets cannot be read from {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error
    found = {name: _target(path, name, values) for name, values in document.items()}
    if not found:
        raise ConfigurationError(f"{path} names no rollout target; docs/rollouts.md shows one")
    return found


def _target(path: Path, name: str, values: Any) -> RolloutTarget:
    where = f"{path}: [{name}]"
    if not isinstance(values, dict) or values.keys() - _KEYS:
        raise ConfigurationError(f"{where} takes {', '.join(sorted(_KEYS))}")
    if values.get("actuator") != "haproxy":
        raise ConfigurationError(f'{where} needs actuator = "haproxy"')
    model, socket, map_file = (_text(where, values, key) for key in ("model", "socket", "map_file"))
    limit = values.get("ttft_limit_seconds")
    if limit is not None and (not isinstance(limit, int | float) or isinstance(limit, bool) or not 0 < limit <= 3600):
        raise ConfigurationError(f"{where} ttft_limit_seconds is a number of seconds above 0")
    blue, green = _side(where, values, "blue"), _side(where, values, "green")
    haproxy = HaproxyTarget(
        socket=Path(socket), map_file=Path(map_file), key=str(values.get("key", model)), blue=blue.backend,
        green=green.backend,
    )  # fmt: skip
    try:
        for word in (haproxy.key, haproxy.blue, haproxy.green, map_file):
            plain(word)
    except Refused as error:
        raise ConfigurationError(f"{where} {error}") from error
    return RolloutTarget(
        name=name, model=model, haproxy=haproxy, blue=blue, green=green,
        ttft_limit_seconds=None if limit is None else float(limit), freezes=_freezes(where, values),
    )  # fmt: skip


def _freezes(where: str, values: Mapping[str, Any]) -> tuple[FreezeWindow, ...]:
    said = values.get("freeze", [])
    if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
        raise ConfigurationError(f"{where} freeze is a list of windows: {FORMS}")
    try:
        return tuple(parse(text) for text in said)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} {error}") from error


def _text(where: str, values: Mapping[str, Any], key: str) -> str:
    found = values.get(key)
    if not isinstance(found, str) or not found:
        raise ConfigurationError(f"{where} needs {key}, a text")
    return found


def _side(where: str, values: Mapping[str, Any], key: str) -> Side:
    side = values.get(key)
    if not isinstance(side, dict) or side.keys() != {"backend", "servers"}:
        raise ConfigurationError(f'{where} {key} = {{backend = "…", servers = ["http://…"]}}')
    servers = side["servers"]
    if not isinstance(servers, list) or not servers or not all(_is_address(server) for server in servers):
        raise ConfigurationError(f"{where} {key}.servers are addresses such as http://10.0.0.1:8000")
    return Side(backend=_text(where, side, "backend"), servers=tuple(server.rstrip("/") for server in servers))


def _is_address(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return False
