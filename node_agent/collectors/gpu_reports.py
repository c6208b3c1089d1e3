"""What is said of GPUs of which nothing can be read: entities, empty samples, sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node_agent.collectors.gpu_values import GpuLook
from node_agent.model import Entity, EntityKind, Reason, Sample
from optiinfra.catalogue import TABLES

TABLE, HEALTH_TABLE = "gpu", "gpu_health"
STATE = ("processes", "recovery_action", "nvlinks_inactive")  # of a GPU's attributes
DETAIL_SENTENCES = 5  # of a host full of broken GPUs, a report names this many


def gpu_entity(uuid: str, attributes: Mapping[str, object]) -> Entity:
    """This will name a GPU by its UUID: its index may change with a reboot."""
    return Entity(kind=EntityKind.GPU, key=uuid, attributes=attributes)


def unseen(entity: Entity) -> Entity:
    """This will keep what a GPU is and drop its state and what was running on it: nobody knows that now."""
    return gpu_entity(entity.key, {**entity.attributes, **dict.fromkeys(STATE)})


def silent(entity: Entity, reason: Reason) -> list[Sample]:
    """This will give the samples of a GPU of which nothing could be read: what was known of its health is past too."""
    return [
        Sample(
            table=table,
            entity=(entity.kind, entity.key),
            values=dict.fromkeys((spec.name for spec in TABLES[table].fields), reason),
        )
        for table in (TABLE, HEALTH_TABLE)
    ]


def seen(uuid: str, look: GpuLook) -> list[Sample]:
    """This will give the samples of a GPU that was read."""
    gpu = (EntityKind.GPU, uuid)
    samples = [Sample(table=TABLE, entity=gpu, values=look.values)]
    if look.health is not None:
        samples.append(Sample(table=HEALTH_TABLE, entity=gpu, values=look.health))
    return samples


def lost_sentence(entity: Entity) -> str:
    """This will say which GPU is lost, by every name that an operator may know it by."""
    attributes = entity.attributes
    return f"GPU {attributes.get('index')} ({entity.key}, PCI {attributes.get('pci_bus_id')}) is lost"


def first_sentences(sentences: Sequence[str]) -> str:
    """This will join sentences into a detail of bounded length."""
    more = len(sentences) - DETAIL_SENTENCES
    return "; ".join(sentences[:DETAIL_SENTENCES]) + (f"; and {more} more" if more > 0 else "")
