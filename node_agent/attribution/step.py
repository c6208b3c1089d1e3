"""Puts the attribution into a finished tick: beside each GPU and server, and as the history of GPU processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from node_agent.attribution.join import Attribution, GpuProcess, Target, User, attribute
from node_agent.attribution.shown import shown, shown_owner
from node_agent.host.ownership import Ownership
from node_agent.model import Entity, EntityKind, Reason, Sample, Tick, Value

HISTORY_SECONDS = 10.0  # a cost by pod needs no finer steps, and the driver's list of processes is as old as that
STRAY_SECONDS = 0.1  # ticks stray from their grid by milliseconds
MOST_PROCESSES = 256  # samples per node and step
# Of one agent's life: it numbers 16,384 entities in all (the control plane's bound), and other things need some.
MOST_PROCESSES_EVER = 8_192


class AttributionStep:
    """Joins the entities of a tick with what the attribution collector knows."""

    def __init__(self, ownership: Callable[[], Ownership], watch: Callable[[Iterable[int]], None]) -> None:
        """`ownership` gives what is known now; `watch` is told which pids to look up for the next tick."""
        self._ownership = ownership
        self._watch = watch
        self._sampled_at: float | None = None
        self._left_out: dict[str, int] = {}
        self._ever: set[str] = set()

    def __call__(self, tick: Tick) -> Tick:
        """This will give the tick with every GPU and inference server attributed."""
        ownership = self._ownership()
        targets = targets_of(tick.entities, ownership.minor_numbers)
        if not targets:
            return tick
        servers = servers_by_pid(tick.entities)
        found = attribute(targets, ownership, servers)
        self._watch(process.pid for target in targets for process in target.processes or ())
        gpus = parents(tick.entities)
        people, samples = self._history(tick, found)
        entities = [described(entity, found, self._left_out, gpus) for entity in tick.entities]
        return replace(tick, entities=[*entities, *people], samples=[*tick.samples, *samples])

    def _history(self, tick: Tick, found: Mapping[str, Attribution]) -> tuple[list[Entity], list[Sample]]:
        now = tick.taken_at.monotonic_seconds
        if self._sampled_at is not None and now - self._sampled_at < HISTORY_SECONDS - STRAY_SECONDS:
            return [], []
        self._sampled_at, self._left_out = now, {}
        entities: list[Entity] = []
        samples: list[Sample] = []
        gpus = parents(tick.entities)
        for uuid, user in users_of(found, gpus):
            if user.why_unseen == "not_looked_up_yet":
                continue  # its start would be missing in its name; the next look has it
            entity = process_entity(uuid, user, gpus)
            is_new = entity.key not in self._ever
            if len(samples) >= MOST_PROCESSES or (is_new and len(self._ever) >= MOST_PROCESSES_EVER):
                self._left_out[uuid] = self._left_out.get(uuid, 0) + 1
                continue
            self._ever.add(entity.key)
            entities.append(entity)
            samples.append(process_sample(entity, user))
        return entities, samples


def targets_of(entities: Sequence[Entity], minor_numbers: Mapping[str, int]) -> list[Target]:
    """This will read GPUs and their instances from a tick's entities."""
    instances = [entity for entity in entities if entity.kind is EntityKind.GPU_INSTANCE]
    targets = []
    for entity in (*(e for e in entities if e.kind is EntityKind.GPU), *instances):
        said = entity.attributes
        parent = said.get("gpu")
        minor = minor_numbers.get(parent if isinstance(parent, str) else entity.key)
        targets.append(
            Target(
                uuid=entity.key,
                gpu_uuid=parent if isinstance(parent, str) else None,
                minor_number=minor if minor is not None else _whole(said.get("minor_number")),
                gpu_instance_id=_whole(said.get("gpu_instance_id")) if entity in instances else None,
                instances=frozenset(
                    uuid
                    for each in instances
                    if each is entity or each.attributes.get("gpu") == entity.key
                    for uuid in _compute_instances(each)
                ),
                processes=_processes(said.get("processes")),
            )
        )
    return targets


def _compute_instances(instance: Entity) -> Sequence[str]:
    """This will give every name by which a GPU instance, or a part of it, can be given to a container."""
    parts = instance.attributes.get("compute_instances")
    return [instance.key, *(part["uuid"] for part in parts)] if isinstance(parts, list | tuple) else [instance.key]


def parents(entities: Sequence[Entity]) -> dict[str, str]:
    """This will say of which GPU each instance is."""
    return {e.key: str(e.attributes.get("gpu")) for e in entities if e.kind is EntityKind.GPU_INSTANCE}


def _processes(said: object) -> Sequence[GpuProcess] | None:
    if not isinstance(said, list | tuple):
        return None
    return [
        GpuProcess(
            pid=each["pid"],
            name=each.get("name"),
            used_bytes=each.get("used_bytes"),
            sm_utilization_ratio=each.get("sm_utilization_ratio"),
            sm_utilization_unknown=each.get("sm_utilization_unknown") or "not_collected",
        )
        for each in said
    ]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def servers_by_pid(entities: Sequence[Entity]) -> dict[int, str]:
    """This will say to which inference server a pid belongs: discovery knows each server's family."""
    found: dict[int, str] = {}
    for entity in entities:
        if entity.kind is EntityKind.INFERENCE_SERVER:
            pids = entity.attributes.get("pids")
            found |= dict.fromkeys(pids if isinstance(pids, list | tuple) else (), entity.key)
    return found


def users_of(found: Mapping[str, Attribution], gpus: Mapping[str, str]) -> list[tuple[str, User]]:
    """This will give what each process is on: of a GPU and its instance, both of which list it, the instance.

    `gpus` says of which GPU each instance is.
    """
    users = [(uuid, user) for uuid, each in found.items() for user in each.used_by or ()]
    on_instances = {(gpus[uuid], user.process.pid) for uuid, user in users if uuid in gpus}
    return [(uuid, user) for uuid, user in users if (uuid, user.process.pid) not in on_instances]


def described(
    entity: Entity, found: Mapping[str, Attribution], left_out: Mapping[str, int], gpus: Mapping[str, str]
) -> Entity:
    """This will add what concerns an entity: a GPU's attribution, a server's GPUs and pod.

    `left_out` says of how many processes of a GPU no history is kept, `gpus` of which GPU each instance is.
    """
    if entity.kind is EntityKind.INFERENCE_SERVER:
        return replace(entity, attributes={**entity.attributes, **server_side(entity.key, found, gpus)})
    if entity.key in found and entity.kind is not EntityKind.GPU_PROCESS:
        said = shown(found[entity.key], left_out_of_history=left_out.get(entity.key, 0))
        return replace(entity, attributes={**entity.attributes, "attribution": said})
    return entity


def server_side(url: str, found: Mapping[str, Attribution], gpus: Mapping[str, str]) -> dict[str, object]:
    """This will give the GPUs that a server's processes use, each with its rank, and the pod that they are in."""
    mine = [(uuid, user) for uuid, user in users_of(found, gpus) if user.server_url == url]
    owners = [(uuid, shown_owner(user)) for uuid, user in mine]
    pods = {(owner["namespace"], owner["pod"], owner["pod_uid"]) for _, owner in owners if owner["pod_uid"]}
    one = next(iter(pods)) if len(pods) == 1 else (None, None, None)
    return {
        "gpus": [_used_gpu(place(uuid, gpus), owner) for uuid, owner in owners],
        "namespace": one[0],
        "pod": one[1],
        "pod_uid": one[2],
    }


def _used_gpu(where: Mapping[str, object], owner: Mapping[str, object]) -> dict[str, object]:
    """This will give of a GPU's user what is not the server's anyway."""
    shown = {name: owner[name] for name in ("pid", "role", "rank")}
    unknown = owner["unknown"]
    assert isinstance(unknown, dict)
    return {**where, **shown, "unknown": {name: why for name, why in unknown.items() if name in shown}}


def place(uuid: str, gpus: Mapping[str, str]) -> dict[str, object]:
    """This will name a GPU, or an instance and its GPU."""
    return {"gpu": gpus[uuid], "gpu_instance": uuid} if uuid in gpus else {"gpu": uuid}


def process_entity(uuid: str, user: User, gpus: Mapping[str, str]) -> Entity:
    """This will name a process on a GPU or an instance: pids come again, but not with the same start."""
    started = "unseen" if user.facts is None else str(user.facts.started_ticks)
    return Entity(
        kind=EntityKind.GPU_PROCESS,
        key=f"{uuid}/{user.process.pid}/{started}",
        attributes={**place(uuid, gpus), **shown_owner(user)},
    )


def process_sample(entity: Entity, user: User) -> Sample:
    """This will give what a process holds and has burnt."""
    process, facts = user.process, user.facts
    unseen = Reason.NOT_EXPOSED
    values: dict[str, Value] = {
        "memory_used_bytes": Reason.UNSUPPORTED if process.used_bytes is None else process.used_bytes,
        "sm_utilization_ratio": Reason[process.sm_utilization_unknown.upper()]
        if process.sm_utilization_ratio is None
        else process.sm_utilization_ratio,
        "host_resident_bytes": unseen if facts is None else facts.resident_bytes,
        "host_cpu_seconds_total": unseen if facts is None else facts.cpu_seconds,
    }
    return Sample(table="gpu_process", entity=(entity.kind, entity.key), values=values)
