"""What a group of tasks raises, as its caller expects it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from control_plane.model.errors import OptiInfraError


@contextmanager
def one_error() -> Iterator[None]:
    """This will raise the first of a group's errors when all are ours: whoever called knows nothing of tasks."""
    try:
        yield
    except ExceptionGroup as group:
        ours = [error for error in group.exceptions if isinstance(error, OptiInfraError)]
        if len(ours) == len(group.exceptions):
            raise ours[0] from group
        raise
