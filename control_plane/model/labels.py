"""Labels of nodes, as their agents are told them: what time and money is shown by beside pods and models."""

from __future__ import annotations

from collections.abc import Mapping

# An agent is not trusted: what is longer, or more, is left out.
MOST_LABELS, MOST_KEY, MOST_VALUE = 32, 128, 63
POOL = "pool"
# Where no label is called so, a pool is what the cloud calls one.
POOL_KEYS = (
    POOL, "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup", "kubernetes.azure.com/agentpool",
    "karpenter.sh/nodepool",
)  # fmt: skip

Labels = tuple[tuple[str, str], ...]  # ascending, each key once


def labels_of(said: object) -> Labels:
    """This will take what has the shape of labels, in the order of their keys."""
    if not isinstance(said, Mapping):
        return ()
    kept = [
        (key, value)
        for key, value in said.items()
        if isinstance(key, str) and isinstance(value, str) and 0 < len(key) <= MOST_KEY and 0 < len(value) <= MOST_VALUE
    ]
    return tuple(sorted(kept)[:MOST_LABELS])


def pool_of(labels: Labels) -> str | None:
    """This will name the pool that a node is in; None where nothing says."""
    named = dict(labels)
    return next((named[key] for key in POOL_KEYS if key in named), None)
