"""Allocations and processes → for each GPU, to whom it was given, who uses it, and what is wrong about that. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from node_agent.engine_rank import engine_rank
from node_agent.host.container import Place
from node_agent.host.container_names import ContainerName
from node_agent.host.kubelet import Allocation
from node_agent.host.ownership import Ownership, ProcessFacts

# What one GPU's attributes may hold: the control plane takes 64 KiB of them.
MOST_SHOWN = 48


class Finding(Enum):
    """What the difference between "allocated to" and "used by" says. Each GPU has exactly one."""

    NONE = "none"  # used by those it was given to, or neither given nor used
    ALLOCATED_BUT_UNUSED = "allocated_but_unused"
    USED_BUT_NOT_ALLOCATED = "used_but_not_allocated"
    USED_BY_ANOTHER = "used_by_another_than_allocated"
    SHARED = "shared"  # several owners
    UNKNOWN = "unknown"  # and the detail says why


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process as the driver names it."""

    pid: int
    name: str | None = None
    used_bytes: int | None = None
    sm_utilization_ratio: float | None = None
    sm_utilization_unknown: str = "not_collected"  # why it is None: a Reason's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What can be given to a container: a GPU, or an instance of one."""

    uuid: str
    minor_number: int | None = None  # of an instance, its GPU's
    gpu_instance_id: int | None = None  # None: the whole GPU
    instances: frozenset[str] = frozenset()  # UUIDs of a GPU's instances
    processes: Sequence[GpuProcess] | None = ()  # None: unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One allocation of a target."""

    allocation: Allocation
    ended: bool  # listed still, but no container of the pod has a process

    @property
    def pod(self) -> tuple[str, str]:
        """This will give namespace and name."""
        return self.allocation.namespace, self.allocation.pod


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One process on a target, with what is known of its owner."""

    process: GpuProcess
    facts: ProcessFacts | None  # None: not in our /proc, or not looked up yet
    looked_up: bool
    named: ContainerName | None
    server_url: str | None

    @property
    def pod(self) -> tuple[str, str] | None:
        """This will give namespace and name of its pod, None when it is in none, or in one without a known name."""
        return None if self.named is None else (self.named.namespace, self.named.pod)

    @property
    def is_in_no_pod(self) -> bool:
        """This will say whether it certainly runs outside Kubernetes."""
        return self.named is None and self.facts is not None and self.facts.place.pod_uid is None

    @property
    def owner(self) -> object:
        """This will give what tells owners apart; None when nothing does."""
        if self.facts is None:
            return None
        place = self.facts.place
        return place.pod_uid or place.container_id or place.slurm_job or self.server_url or place.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Who has a GPU and who uses it."""

    allocated_to: Sequence[Given] | None  # None: unknown
    used_by: Sequence[User] | None
    finding: Finding
    detail: str = ""


def attribute(targets: Sequence[Target], ownership: Ownership, servers: Mapping[int, str]) -> dict[str, Attribution]:
    """This will give each target's attribution, by UUID. `servers` maps pids to the URL of their engine server."""
    unplaced = _unplaced(targets, ownership)
    return {target.uuid: _attribution(target, ownership, servers, unplaced) for target in targets}


def _attribution(
    target: Target, ownership: Ownership, servers: Mapping[int, str], unplaced: Sequence[Allocation]
) -> Attribution:
    given = None
    if ownership.allocations is not None:
        live = {(n.namespace, n.pod) for id_, n in ownership.names.items() if id_ in ownership.live_containers}
        known = {(n.namespace, n.pod) for n in ownership.names.values()}
        mine = [a for a in ownership.allocations if _is_of(a, target)]
        given = [Given(allocation=a, ended=(p := (a.namespace, a.pod)) in known and p not in live) for a in mine]
    users = None
    if target.processes is not None:
        users = [_user(process, ownership, servers) for process in target.processes]
    finding, detail = judge(given, users, why_no_allocations=ownership.allocations_detail, unplaced=len(unplaced))
    return Attribution(allocated_to=given, used_by=users, finding=finding, detail=detail)


def _is_of(allocation: Allocation, target: Target) -> bool:
    """This will say whether an allocation is of this target, or of an instance of it."""
    device = allocation.device
    if device.uuid is not None:
        return device.uuid == target.uuid or device.uuid in target.instances
    if device.minor_number is None or device.minor_number != target.minor_number:
        return False
    return target.gpu_instance_id is None or device.gpu_instance_id == target.gpu_instance_id


def _unplaced(targets: Sequence[Target], ownership: Ownership) -> Sequence[Allocation]:
    """This will give the allocations that belong to no known target: any GPU may be meant."""
    return [a for a in ownership.allocations or () if not any(_is_of(a, target) for target in targets)]


def _user(process: GpuProcess, ownership: Ownership, servers: Mapping[int, str]) -> User:
    facts = ownership.processes.get(process.pid)
    container = None if facts is None else facts.place.container_id
    return User(
        process=process,
        facts=facts,
        looked_up=process.pid in ownership.processes,
        named=None if container is None else ownership.names.get(container),
        server_url=servers.get(process.pid),
    )


def judge(
    given: Sequence[Given] | None, users: Sequence[User] | None, *, why_no_allocations: str, unplaced: int
) -> tuple[Finding, str]:
    """This will say what the difference is. What cannot be told stays unknown, with the reason."""
    if users is None:
        return Finding.UNKNOWN, "the driver does not say which processes use it"
    if given is None:
        owners = {user.owner for user in users} - {None}
        return (Finding.SHARED, "") if len(owners) > 1 else (Finding.UNKNOWN, why_no_allocations)
    holders = {each.pod for each in given if not each.ended}
    if not holders:
        return _not_given(users, unplaced)
    if not users:
        return Finding.ALLOCATED_BUT_UNUSED, ""
    if any(user.is_in_no_pod or (user.pod is not None and user.pod not in holders) for user in users):
        return Finding.USED_BY_ANOTHER, ""
    if any(user.pod is None for user in users):
        return Finding.UNKNOWN, _why_unnamed(users)
    return (Finding.SHARED if len(holders) > 1 else Finding.NONE), ""


def _not_given(users: Sequence[User], unplaced: int) -> tuple[Finding, str]:
    if unplaced:
        return Finding.UNKNOWN, f"{unplaced} allocated devices are known by a name only, or are of no GPU seen here"
    return (Finding.USED_BUT_NOT_ALLOCATED if users else Finding.NONE), ""


def _why_unnamed(users: Sequence[User]) -> str:
    unnamed = [user for user in users if user.pod is None]
    pid = unnamed[0].process.pid
    if not unnamed[0].looked_up:
        return f"process {pid} is new and will be looked up by the next sample"
    if unnamed[0].facts is None:
        return f"process {pid} is not in our /proc: the agent needs the host's (hostPID)"
    return f"process {pid} is in pod {unnamed[0].facts.place.pod_uid}, whose name is not known here"


def shown_given(given: Given) -> dict[str, object]:
    """This will describe an allocation as attributes carry it."""
    allocation, device = given.allocation, given.allocation.device
    name = device.uuid or device.name or f"nvidia{device.minor_number}"
    return {
        "pod": allocation.pod,
        "namespace": allocation.namespace,
        "container": allocation.container,
        "resource": allocation.resource,
        "device": name,
        "ended": given.ended,
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
    if not user.looked_up:
        return "not_looked_up_yet"
    if user.facts is None:
        return "not_in_our_proc"
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


def shown(attribution: Attribution) -> dict[str, object]:
    """This will give an attribution as a GPU's attributes carry it."""
    given, users = attribution.allocated_to, attribution.used_by
    said: dict[str, object] = {
        "allocated_to": None if given is None else [shown_given(each) for each in given[:MOST_SHOWN]],
        "used_by": None if users is None else [shown_user(each) for each in users[:MOST_SHOWN]],
    }
    return said | {
        "finding": attribution.finding.value,
        "finding_detail": attribution.detail,
        "unknown": {name: attribution.detail or "not_known" for name, value in said.items() if value is None},
    }
