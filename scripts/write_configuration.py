"""Writes docs/configuration.md from the settings themselves. Run by `make configuration`; a test compares."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from control_plane.settings import SECRETS, environment_names
from control_plane.settings import Settings as ControlPlaneSettings
from node_agent import settings as agent

TARGET = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

HEAD = """# Configuration

Defaults < `.env` in the working folder < environment < flags. Settings are read once, at the start; an unknown
`OPTIINFRA_` name or a value that makes no sense refuses the start with one sentence. `optiinfra settings` shows the
values in force; `GET /config` does too, secrets as set or not set.

Names without the `OPTIINFRA_` prefix are published ones that scripts already use; where both are given, ours wins.
Secrets have no flag: a command line is seen by everybody on the host.

## Control plane (`optiinfra up`)

| setting | environment | flag | default | meaning |
| --- | --- | --- | --- | --- |
"""

AGENT_HEAD = """
## Node agent (`optiinfra agent`, `optiinfra-agent run`)

`optiinfra up` runs an agent on its own host and hands it what it needs; these are for agents elsewhere. What a control
plane may change here, and what it cannot: [node-configuration.md](node-configuration.md).

| setting | environment | flag | default |
| --- | --- | --- | --- |
"""


def _cell(value: object) -> str:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{shown}`" if shown not in ("", "None") else "not set"


def render() -> str:
    """This will give the text of the page."""
    names: dict[str, list[str]] = {}
    for environment, field in environment_names().items():
        names.setdefault(field, []).append(f"`{environment}`")
    out = [HEAD]
    for name, info in ControlPlaneSettings.model_fields.items():
        default = (
            "`/var/lib/optiinfra` as root, else `~/.local/share/optiinfra`"
            if name == "data_dir"
            else _cell(info.default)
        )
        secret = name in SECRETS
        flag = "" if secret else f"`--{name.replace('_', '-')}`"
        out.append(f"| {name} | {', '.join(sorted(names[name]))} | {flag} | {default} | {info.description} |\n")
    out.append(AGENT_HEAD)
    published = {field: name for name, field in agent.PUBLISHED_NAMES.items()}
    for field in fields(agent.Settings):
        environment = [f"`{agent.PREFIX}{field.name.upper()}`"]
        if field.name in published:
            environment.append(f"`{published[field.name]}`")
        shown = "the host's name" if field.name == "node_name" else _cell(field.default)
        flag = "" if field.name in agent.SECRETS else f"`--{field.name.replace('_', '-')}`"
        out.append(f"| {field.name} | {', '.join(environment)} | {flag} | {shown} |\n")
    return "".join(out)


if __name__ == "__main__":
    TARGET.write_text(render())
    sys.stdout.write(f"{TARGET} written\n")
