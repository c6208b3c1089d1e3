"""From when until when a GPU is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from control_plane.model.entity import Entity

# A GPU that nobody has seen for so long is taken to be gone; until then it is paid for, and down.
GONE_AFTER = timedelta(days=7)


def paid(gpus: Sequence[Entity]) -> Mapping[int, tuple[datetime, datetime]]:
    """This will say of each GPU, by its id, from when until when it counts.

    A GPU that moved to another node, or whose node was set up anew, is paid once: it counts where it was seen last.
    """
    by_key: dict[str, list[Entity]] = {}
    for gpu in gpus:
        by_key.setdefault(gpu.key, []).append(gpu)
    out = {}
    for same in by_key.values():
        in_turn = sorted(same, key=lambda gpu: gpu.first_seen_at)
        for gpu, following in zip(in_turn, [*in_turn[1:], None], strict=True):
            until = gpu.last_seen_at + GONE_AFTER
            if following is not None and following.last_seen_at >= gpu.last_seen_at:
                until = min(until, max(following.first_seen_at, gpu.first_seen_at))
            out[gpu.entity_id] = (gpu.first_seen_at, until)
    return out
