"""`optiinfra doctor`: looks at a set-up and says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from control_plane.model.errors import OptiInfraError
from control_plane.settings import LOOPBACK, Settings, host_port
from control_plane.terminal.rest import NoAnswer, Rest
from control_plane.terminal.tables import plain

LEAST_FREE_BYTES = 1024**3
# Ingest keeps a node's own stamps up to here (ingest/clocks.py); beyond it they are mapped.
MOST_CLOCK_OFFSET_SECONDS = 2.0
MOST_LAG_SECONDS = 30.0
WIDEST = 400  # a sentence, whole


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    HINT = "hint"  # works, and could be better
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    what: str
    do: str = ""  # what to do about it


def examine(settings: Settings, rest: Rest) -> list[Finding]:
    """This will look at everything that can be looked at from here."""
    found = [*_host(settings), *_doors(settings)]
    try:
        health = rest.ask("/health/detailed")
    except NoAnswer as error:
        return [*found, _no_answer(settings, error)]
    found += [*_parts(health["parts"]), Finding(level=Level.OK, about="REST", what=f"answers at {rest.url}")]
    try:
        return found + _fleet(rest)
    except (NoAnswer, OptiInfraError) as error:
        return [*found, Finding(level=Level.FAIL, about="fleet", what=str(error), do="read the control plane's log")]


def exit_code(found: Sequence[Finding]) -> int:
    """This will give 1 when something does not work."""
    return int(any(finding.level is Level.FAIL for finding in found))


def as_text(found: Sequence[Finding]) -> str:
    """This will show what was found, the worst last, where the eye is."""
    order = list(Level)
    lines = []
    for finding in sorted(found, key=lambda one: order.index(one.level)):
        lines.append(f"{finding.level:<5} {finding.about}: {finding.what}")
        if finding.do:
            lines.append(f"      → {finding.do}")
    bad = sum(finding.level is Level.FAIL for finding in found)
    return "\n".join([*lines, "", "all is well" if not bad else f"{bad} of {len(found)} need your attention"])


def as_data(found: Sequence[Finding]) -> list[dict[str, str]]:
    """This will give what was found for programs."""
    return [asdict(finding) for finding in found]


def _host(settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(level=Level.OK, about="Python", what=version)
    if settings.database_url is not None:
        return
    folder = settings.data_dir.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    gib = f"{free / 2**30:.1f} GiB are free for {folder}"
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            level=Level.FAIL, about="data folder", what=f"{existing} cannot be written to",
            do="choose another with --data-dir, or give this user the right",
        )  # fmt: skip
    elif free < LEAST_FREE_BYTES:
        yield Finding(
            level=Level.FAIL, about="data folder", what=gib, do="make room, or move it: --data-dir; at least 1 GiB"
        )
    else:
        yield Finding(level=Level.OK, about="data folder", what=gib)


def _doors(settings: Settings) -> Iterator[Finding]:
    beyond = settings.host not in LOOPBACK
    if not settings.keys_required and beyond:
        yield Finding(
            level=Level.FAIL, about="keys", what=f"everybody who reaches {settings.host} may do everything",
            do="leave OPTIINFRA_AUTH on, and make keys: optiinfra keys create",
        )  # fmt: skip
    if beyond and settings.tls_cert_file is None:
        yield Finding(
            level=Level.HINT, about="HTTPS", what="keys and answers cross the network in plain text",
            do="set OPTIINFRA_TLS_CERT_FILE and OPTIINFRA_TLS_KEY_FILE",
        )  # fmt: skip
    for name in ("tls_cert_file", "tls_key_file"):
        path: Path | None = getattr(settings, name)
        if path is not None and not os.access(path, os.R_OK):
            yield Finding(level=Level.FAIL, about="HTTPS", what=f"{path} cannot be read", do=f"correct {name}")
    key = settings.tls_key_file
    if key is not None and key.exists() and key.stat().st_mode & 0o077:
        yield Finding(level=Level.HINT, about="HTTPS", what=f"others may read {key}", do=f"chmod 600 {key}")


def _no_answer(settings: Settings, error: NoAnswer) -> Finding:
    if error.status is not None:
        do = "set OPTIINFRA_API_KEY to a key with the scope read: optiinfra keys create" if error.status == 401 else ""
        return Finding(level=Level.FAIL, about="REST", what=str(error), do=do)
    if _is_taken(settings.own_host, settings.port):
        where = host_port(settings.own_host, settings.port)
        return Finding(
            level=Level.FAIL, about="REST", what=f"something else, or another scheme, answers at {where}",
            do="free the port, or choose another with --port; with a certificate it is HTTPS",
        )  # fmt: skip
    return Finding(
        level=Level.FAIL, about="REST", what=str(error), do="start it: optiinfra up (or make run); see what it prints"
    )


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _parts(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    remedies = {
        "database": "is it up, and DATABASE_URL right?",
        "migrations": "optiinfra migrate",
        "disk": "make room, or keep less: --retention-days",
        "jobs": "read the control plane's log",
        "nodes": "see below, node by node",
    }
    for name, part in parts.items():
        if part["state"] in ("ok", "not_configured"):
            if name in ("database", "migrations"):
                yield Finding(level=Level.OK, about=name, what=plain(part.get("description") or part.get("current")))
            continue
        level = Level.FAIL if part["state"] == "failed" else Level.HINT
        what = plain(part.get("error") or part.get("counts") or part["state"], widest=WIDEST)
        yield Finding(level=level, about=name, what=what, do=remedies.get(name, "read the control plane's log"))


def _fleet(rest: Rest) -> list[Finding]:
    nodes = rest.ask("/nodes", limit=1000)["items"]
    if not nodes:
        do = "on each GPU host: optiinfra agent --server HOST:8004"
        return [Finding(level=Level.HINT, about="nodes", what="no agent has ever connected", do=do)]
    found = [finding for node in nodes for finding in _node(node)]
    well = sum(node["state"] == "connected" for node in nodes)
    return [*found, Finding(level=Level.OK, about="nodes", what=f"{well} of {len(nodes)} are connected")]


def _node(node: Mapping[str, Any]) -> Iterator[Finding]:
    about = f"node {plain(node['name'])}"
    if node["replayed"]:
        return
    if node["state"] != "connected":
        yield Finding(
            level=Level.FAIL, about=about, what=f"is {node['state']}, seen {_ago(node['age_seconds'])} ago",
            do=f"is its agent running, and can it reach us? Gone for good: DELETE /nodes/{node['node_id']}",
        )  # fmt: skip
    offset, lag = node["clock_offset_seconds"], node["lag_seconds"]
    if offset is not None and abs(offset) > MOST_CLOCK_OFFSET_SECONDS:
        yield Finding(
            level=Level.HINT, about=about, what=f"its clock is {offset:+.1f} s off ours", do="run chrony or ntpd there"
        )
    if lag is not None and lag > MOST_LAG_SECONDS:
        yield Finding(
            level=Level.HINT, about=about, what=f"its samples come {lag:.0f} s late",
            do="it catches up after an outage; if not, look at the network between, and at /health/detailed here",
        )  # fmt: skip
    for collector in node["collectors"]:
        if collector["outcome"] in ("ok", "not_collected"):
            continue
        absent = collector["outcome"] == "absent"
        yield Finding(
            level=Level.HINT if absent else Level.FAIL, about=about,
            what=f"{collector['collector']}: {collector['outcome']}: {plain(collector['detail'], widest=WIDEST)}",
            do="nothing, if there is none there" if absent else "docs/problems.md says what each means",
        )  # fmt: skip


def _ago(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
