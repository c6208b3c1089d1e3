"""Allocations and processes → for each GPU, to whom it was given, who uses it, and what is wrong about that. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from node_agent.host.container_names import ContainerName
from node_agent.host.device_ids import Device
from node_agent.host.kubelet import Allocatable, Allocation
from node_agent.host.ownership import Ownership, ProcessFacts

NO_PROCESSES = "the driver does not say which processes use it"


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
    gpu_uuid: str | None = None  # of an instance, its GPU's; None: this is a GPU
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
    why_unseen: str  # empty: it was seen; else why there are no facts
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
    allocatable: Sequence[Allocatable] | None  # how the kubelet can give it to somebody; None: unknown
    why_null: Mapping[str, str]  # for those three
    finding: Finding
    detail: str = ""


def attribute(targets: Sequence[Target], ownership: Ownership, servers: Mapping[int, str]) -> dict[str, Attribution]:
    """This will give each target's attribution, by UUID. `servers` maps pids to the URL of their engine server."""
    given = None if ownership.allocations is None else _given(ownership)
    return {target.uuid: _attribution(target, targets, ownership, servers, given) for target in targets}


def _given(ownership: Ownership) -> Sequence[Given]:
    live = {(n.namespace, n.pod) for id_, n in ownership.names.items() if id_ in ownership.live_containers}
    known = {(n.namespace, n.pod) for n in ownership.names.values()}
    allocations = ownership.allocations or ()
    return [Given(allocation=a, ended=(p := (a.namespace, a.pod)) in known and p not in live) for a in allocations]


def _attribution(
    target: Target,
    targets: Sequence[Target],
    ownership: Ownership,
    servers: Mapping[int, str],
    given: Sequence[Given] | None,
) -> Attribution:
    mine = None if given is None else [each for each in given if _is_of(each.allocation.device, target)]
    users = None
    if target.processes is not None:
        users = [_user(process, ownership, servers) for process in target.processes]
    finding, detail = judge(
        mine,
        users,
        why_no_allocations=ownership.allocations_detail,
        unplaced=_may_be_of(target, targets, given or ()) + ownership.allocations_left_out,
    )
    can = ownership.allocatable
    return Attribution(
        allocated_to=mine,
        used_by=users,
        allocatable=None if can is None else [each for each in can if _is_of(each.device, target)],
        why_null={
            "allocated_to": ownership.allocations_detail,
            "used_by": NO_PROCESSES,
            "allocatable": ownership.allocatable_detail,
        },
        finding=finding,
        detail=detail,
    )


def _is_of(device: Device, target: Target) -> bool:
    """This will say whether a device certainly is this target, or an instance of it."""
    if device.uuid is not None:
        if device.uuid == target.uuid or device.uuid in target.instances:
            return True
        whole = target.gpu_uuid is None
        return device.gpu_uuid is not None and (
            device.gpu_uuid == target.uuid
            if whole
            else device.gpu_uuid == target.gpu_uuid and device.gpu_instance_id == target.gpu_instance_id
        )
    if device.minor_number is None or device.minor_number != target.minor_number:
        return False
    if target.gpu_instance_id is None:
        return True
    return not device.is_some_instance and device.gpu_instance_id == target.gpu_instance_id


def _may_be_of(target: Target, targets: Sequence[Target], given: Sequence[Given]) -> int:
    """This will count what is given and may be this target: of no known one, or some instance of the same GPU."""
    devices = [each.allocation.device for each in given if not each.ended]
    unplaced = sum(not any(_is_of(device, one) for one in targets) for device in devices)
    if target.gpu_instance_id is None:
        return unplaced
    return unplaced + sum(device.is_some_instance and device.minor_number == target.minor_number for device in devices)


def _user(process: GpuProcess, ownership: Ownership, servers: Mapping[int, str]) -> User:
    facts = ownership.processes.get(process.pid)
    container = None if facts is None else facts.place.container_id
    return User(
        process=process,
        facts=facts,
        why_unseen=_why_unseen(process.pid, facts, ownership),
        named=None if container is None else ownership.names.get(container),
        server_url=servers.get(process.pid),
    )


def _why_unseen(pid: int, facts: ProcessFacts | None, ownership: Ownership) -> str:
    if facts is not None:
        return ""
    if pid in ownership.processes:
        return "not_in_our_proc"
    return "too_many_processes" if pid in ownership.pids_left_out else "not_looked_up_yet"


def judge(
    given: Sequence[Given] | None, users: Sequence[User] | None, *, why_no_allocations: str, unplaced: int
) -> tuple[Finding, str]:
    """This will say what the difference is. What cannot be told stays unknown, with the reason."""
    if users is None:
        return Finding.UNKNOWN, NO_PROCESSES
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
        return Finding.UNKNOWN, f"{unplaced} allocated devices may be this one: known by a name only, or too many"
    return (Finding.USED_BUT_NOT_ALLOCATED if users else Finding.NONE), ""


def _why_unnamed(users: Sequence[User]) -> str:
    user = next(user for user in users if user.pod is None)
    pid = user.process.pid
    if user.facts is not None:
        return f"process {pid} is in pod {user.facts.place.pod_uid}, whose name is not known here"
    match user.why_unseen:
        case "not_looked_up_yet":
            return f"process {pid} is new and will be looked up by the next sample"
        case "too_many_processes":
            return f"process {pid} is beyond those that are looked up"
        case _:
            return f"process {pid} is not in our /proc: the agent needs the host's (hostPID)"
