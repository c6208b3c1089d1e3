"""Pods' names by container id, from the names of the links that the kubelet keeps for container logs.

PodResources knows names and no ids, control groups know ids and no names. These links,
<pod>_<namespace>_<container>-<id>.log, tie the two without a role in the Kubernetes API. No log is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Names in Kubernetes are DNS labels and subdomains: no underscore can be in one.
_LINK = re.compile(r"^([a-z0-9.-]{1,253})_([a-z0-9-]{1,63})_([a-z0-9-]{1,63})-([0-9a-f]{64})\.log$")
MOST_LINKS = 20_000  # a node runs some hundred containers; links of ended ones stay a while


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerName:
    """A container as Kubernetes names it."""

    pod: str
    namespace: str
    container: str


def parse_link(name: str) -> tuple[str, ContainerName] | None:
    """This will read a link's name: the container's id and its names; None when it is no such link."""
    found = _LINK.match(name)
    if found is None:
        return None
    return found[4], ContainerName(pod=found[1], namespace=found[2], container=found[3])


def container_names(folder: Path) -> tuple[Mapping[str, ContainerName], int]:
    """This will give the names by container id, and how many links were too many; none where there is no folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return {}, 0
    found = dict(pair for name in names[:MOST_LINKS] if (pair := parse_link(name)) is not None)
    return found, max(0, len(names) - MOST_LINKS)
