"""How attributes carry what was joined: plain words and numbers, bounded, each null with its reason. Pure."""

from __future__ import annotations

from node_agent.attribution.join import Attribution, Given, User
from node_agent.engine_rank import engine_rank
from node_agent.host.container import Place
from node_agent.host.kubelet import Allocatable

# What one GPU's attributes may hold: the control plane takes 64 KiB of them.
MOST_SHOWN = 48


def shown_given(given: Given) -> dict[str, object]:
    """This will describe an allocation as attributes carry it. `claim` is empty for what a device plugin gave."""
    allocation, device = given.allocation, given.allocation.device
    return {
        "pod": allocation.pod,
        "namespace": allocation.namespace,
        "container": allocation.container,
        "resource": allocation.resource,
        "device": device.uuid or device.name,
        "shares": allocation.shares,
        "claim": allocation.claim,
        "numa_nodes": list(allocation.numa_nodes),
        "ended": given.ended,
    }


def shown_allocatable(one: Allocatable) -> dict[str, object]:
    """This will describe how a device can be given."""
    return {
        "resource": one.resource,
        "device": one.device.uuid or one.device.name,
        "shares": one.shares,
        "numa_nodes": list(one.numa_nodes),
    }


def shown_owner(user: User) -> dict[str, object]:
    """This will describe who a process belongs to. Under `unknown` stands why each null is null."""
    place, named = user.facts.place if user.facts else Place(), user.named
    rank = None if user.facts is None else engine_rank(user.facts.title) or engine_rank(user.facts.name)
    owner: dict[str, object] = {
        "pid": user.process.pid,
        "name": user.process.name or (user.facts.name if user.facts else None),
        "container_id": place.container_id,
        "pod_uid": place.pod_uid,
        "unit": place.unit,
        "slurm_job": place.slurm_job,
        "pod": named.pod if named else None,
        "namespace": named.namespace if named else None,
        "container": named.container if named else None,
        "server": user.server_url,
        "role": rank.role if rank else None,
        "rank": dict(rank.ranks) if rank else None,
    }
    return owner | {"unknown": {name: _why_null(name, user) for name, value in owner.items() if value is None}}


def _why_null(name: str, user: User) -> str:
    if name == "server":
        return "no_server_found"
    if user.facts is None:
        return user.why_unseen
    if name in ("role", "rank"):
        return "no_rank_in_title"
    in_pod = user.facts.place.pod_uid is not None and name in ("pod", "namespace", "container")
    return "name_not_known" if in_pod else "in_none"


def shown_user(user: User) -> dict[str, object]:
    """This will describe a process and what it holds of the GPU."""
    owner, used = shown_owner(user), user.process.used_bytes
    unknown = owner["unknown"]
    if used is None and isinstance(unknown, dict):
        owner["unknown"] = {**unknown, "used_bytes": "unsupported"}
    return owner | {"used_bytes": used}


def shown(attribution: Attribution, *, left_out_of_history: int = 0) -> dict[str, object]:
    """This will give an attribution as a GPU's attributes carry it. What is cut is counted under `left_out`."""
    given, users, can = attribution.allocated_to, attribution.used_by, attribution.allocatable
    said: dict[str, object] = {
        "allocated_to": None if given is None else [shown_given(each) for each in given[:MOST_SHOWN]],
        "used_by": None if users is None else [shown_user(each) for each in users[:MOST_SHOWN]],
        "allocatable": None if can is None else [shown_allocatable(each) for each in can[:MOST_SHOWN]],
    }
    cut = {"allocated_to": given, "used_by": users, "allocatable": can}
    left_out = {name: max(0, len(whole or ()) - MOST_SHOWN) for name, whole in cut.items()}
    return said | {
        "finding": attribution.finding.value,
        "finding_detail": attribution.detail,
        "left_out": left_out | {"history": left_out_of_history},
        "unknown": {name: attribution.why_null[name] or "not_known" for name, value in said.items() if value is None},
    }
