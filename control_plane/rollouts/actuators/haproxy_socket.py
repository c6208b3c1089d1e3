"""HAProxy's admin socket and its map file: the words of HAProxy's management guide, and nothing of rollouts."""

from __future__ import annotations

import asyncio
import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane.rollouts.actuators.base import Refused, Unreachable

# Words that stand in a command may hold nothing that ends it.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/")
_FAILURES = ("no such", "unknown", "can't", "cannot", "invalid", "require", "failed", "not found", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A line of `show stat`: a server, or with the name BACKEND all of one."""

    name: str
    status: str  # UP, DOWN, MAINT, DRAIN, NOLB, no check; with a remark in some states
    in_flight: int
    arrived: int  # requests that it was given
    answered: Mapping[str, int]  # by class of status: 2xx, 5xx, …
    failed_to_connect: int
    failed_to_answer: int
    aborted_by_server: int


def plain(word: str) -> str:
    """This will give a word that may stand in a command. Raises Refused for others."""
    if not word or len(word) > 256 or not _PLAIN.issuperset(word):
        raise Refused(f"{word[:64]!r} is no name that HAProxy can be told")
    return word


@dataclass(frozen=True, slots=True)
class AdminSocket:
    """One HAProxy."""

    path: Path

    async def ask(self, command: str) -> str:
        """This will send one command and give the answer. Raises Unreachable or Refused."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.path))
            try:
                writer.write(f"{command}\n".encode())
                await writer.drain()
                answer = (await reader.read(-1)).decode(errors="replace").strip()
            finally:
                writer.close()
        except OSError as error:
            raise Unreachable(f"HAProxy does not answer: {error.strerror or error}") from error
        first = answer.split("\n", 1)[0].lower()
        if not command.startswith("show") and any(word in first for word in _FAILURES):
            raise Refused(f"HAProxy: {answer[:200]}")
        return answer

    async def servers(self, backend: str) -> Sequence[Server]:
        """This will give a backend's line and its servers'. Raises Refused when there is no such backend."""
        answer = await self.ask("show stat")
        rows = csv.DictReader(io.StringIO(answer.removeprefix("# ")))
        found = [_server(row) for row in rows if row.get("pxname") == backend and row.get("svname") != "FRONTEND"]
        if not found:
            raise Refused(f"HAProxy has no backend {backend}")
        return found

    async def map_value(self, name: str, key: str) -> int | None:
        """This will read a number of a map; None when the map does not have the key."""
        for line in (await self.ask(f"show map {plain(name)}")).splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1] == key:
                return _whole(parts[2])
        return None

    async def set_map_value(self, name: str, key: str, value: int) -> None:
        """This will set a number of a map, whether or not the map has the key."""
        known = await self.map_value(name, key) is not None
        await self.ask(f"{'set' if known else 'add'} map {plain(name)} {plain(key)} {value}")


def _server(row: Mapping[str, str]) -> Server:
    return Server(
        name=row["svname"],
        status=row["status"],
        in_flight=_number(row["scur"]),
        arrived=_number(row["stot"]),
        answered={name: _number(row[f"hrsp_{name}"]) for name in ("2xx", "4xx", "5xx")},
        failed_to_connect=_number(row["econ"]),
        failed_to_answer=_number(row["eresp"]),
        aborted_by_server=_number(row["srv_abrt"]),
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def file_value(path: Path, key: str) -> int | None:
    """This will read a key of a map file; None when it is not there. Raises Unreachable when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Unreachable(f"the map file cannot be read: {error.strerror}") from error
    found = [parts[1] for line in lines if len(parts := line.split()) == 2 and parts[0] == key]
    return _whole(found[-1]) if found else None


def write_file_value(path: Path, key: str, value: int) -> None:
    """This will set a key of a map file, whole or not at all. Raises Unreachable when it cannot be written."""
    beside = path.with_name(f"{path.name}.new")
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.split()[:1] != [key]]
        with beside.open("w", encoding="utf-8") as file:
            file.write("\n".join([*kept, f"{key} {value}"]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise Unreachable(f"the map file cannot be written: {error.strerror}") from error
