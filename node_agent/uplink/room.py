"""How much a spool may take of a disk that others need too. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# Of the file system, for whoever else writes there: kubelets and databases begin to fail at about this much.
KEEP_FREE_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A file system as statvfs shows it."""

    total_bytes: int
    available_bytes: int  # to those who are not root


def allowed_bytes(room: Room, *, held_bytes: int, most_bytes: int) -> int:
    """This will say how large a spool that holds `held_bytes` may be; what it holds already counts as taken."""
    spare = room.available_bytes - round(room.total_bytes * KEEP_FREE_SHARE)
    return max(0, min(most_bytes, held_bytes + spare))
