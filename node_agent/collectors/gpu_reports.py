"""What is said of GPUs of which nothing can be read: entities, empty samples, sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from node_agent.collectors.gpu_values import GpuLook
from node_agent.model import Collected, Entity, EntityKind, Reason, Sample
from optiinfra.catalogue import TABLES

TABLE, HEALTH_TABLE, INSTANCE_TABLE = "gpu", "gpu_health", "gpu_instance"
TABLES_OF = {EntityKind.GPU: (TABLE, HEALTH_TABLE), EntityKind.GPU_INSTANCE: (INSTANCE_TABLE,)}
STATE = ("processes", "recovery_action", "nvlinks_inactive")  # of attributes
DETAIL_SENTENCES = 5  # of a host full of broken GPUs, a report names this many


def gpu_entity(uuid: str, attributes: Mapping[str, object]) -> Entity:
    """This will name a GPU by its UUID: its index may change with a reboot."""
    return Entity(kind=EntityKind.GPU, key=uuid, attributes=attributes)


def instance_entities(look: GpuLook) -> list[Entity]:
    """This will name the instances of a GPU, those that have just gone included."""
    kind = EntityKind.GPU_INSTANCE
    return [Entity(kind=kind, key=one.key, attributes=one.attributes) for one in look.instances]


def is_gone(entity: Entity) -> bool:
    """This will say whether it is an instance that was told of for the last time."""
    return entity.kind is EntityKind.GPU_INSTANCE and entity.attributes.get("state") == "gone"


def unseen(entity: Entity) -> Entity:
    """This will keep what a thing is and drop its state and what was running on it: nobody knows that now."""
    state = [name for name in STATE if name in entity.attributes]
    return replace(entity, attributes={**entity.attributes, **dict.fromkeys(state)})


def silent(entity: Entity, reason: Reason) -> list[Sample]:
    """This will give the samples of a thing of which nothing could be read: what its health was is past too."""
    return [
        Sample(
            table=table,
            entity=(entity.kind, entity.key),
            values=dict.fromkeys((spec.name for spec in TABLES[table].fields), reason),
        )
        for table in TABLES_OF[entity.kind]
    ]


def seen(uuid: str, look: GpuLook) -> list[Sample]:
    """This will give the samples of a GPU that was read, and of its instances."""
    gpu = (EntityKind.GPU, uuid)
    samples = [Sample(table=TABLE, entity=gpu, values=look.values)]
    if look.health is not None:
        samples.append(Sample(table=HEALTH_TABLE, entity=gpu, values=look.health))
    for one in look.instances:
        if one.values is not None:
            instance = (EntityKind.GPU_INSTANCE, one.key)
            samples.append(Sample(table=INSTANCE_TABLE, entity=instance, values=one.values))
    return samples


def lost_sentence(entity: Entity) -> str:
    """This will say which GPU is lost, by every name that an operator may know it by."""
    attributes = entity.attributes
    return f"GPU {attributes.get('index')} ({entity.key}, PCI {attributes.get('pci_bus_id')}) is lost"


def first_sentences(sentences: Sequence[str]) -> str:
    """This will join sentences into a detail of bounded length."""
    more = len(sentences) - DETAIL_SENTENCES
    return "; ".join(sentences[:DETAIL_SENTENCES]) + (f"; and {more} more" if more > 0 else "")


def gpus_of(collected: Collected) -> list[Entity]:
    """This will give the GPUs of a report."""
    return [entity for entity in collected.entities if entity.kind is EntityKind.GPU]
