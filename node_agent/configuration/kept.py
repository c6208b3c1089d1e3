"""The last configuration that was taken, on disk: an agent that starts while its control plane is away still has it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from node_agent.model import NodeConfiguration

FILE = "configuration.json"


class KeptConfiguration:
    """One file, whole or not there."""

    def __init__(self, state_dir: Path) -> None:
        """This will touch nothing. `state_dir` is the agent's own folder."""
        self._path = state_dir / FILE

    def read(self) -> NodeConfiguration | None:
        """This will give what was kept; None when nothing was.

        Call it before the first write: what a killed process left half-written is removed. Raises OSError when the
        file cannot be read, ValueError when it holds what this release does not understand.
        """
        for unfinished in self._path.parent.glob(f"{FILE}.*"):
            unfinished.unlink(missing_ok=True)
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _from_json(said)

    def write(self, configuration: NodeConfiguration) -> None:
        """This will put `configuration` in the place of the one before, durably. Raises OSError."""
        said = {"revision": configuration.revision, **{n: getattr(configuration, n) for n in configuration.names}}
        # A name of its own: a write that nobody waits for any more may still be under way.
        descriptor, unfinished = tempfile.mkstemp(prefix=f"{FILE}.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(said, file)
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).replace(self._path)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _from_json(said: object) -> NodeConfiguration:
    """A file of a later release may hold more: half of a configuration is none."""
    match said:
        case {"revision": int(revision), **rest} if not isinstance(revision, bool):
            pass
        case _:
            raise ValueError("it is no configuration")
    interval, targets = rest.pop("sampling_interval_seconds", None), rest.pop("scrape_targets", [])
    gpus, discover = rest.pop("gpu_monitoring_enabled", None), rest.pop("discover_engines", None)
    if rest:
        raise ValueError(f"it holds {min(map(str, rest))!r}, which this release does not know")
    if isinstance(interval, bool) or not isinstance(interval, int | float | None):
        raise ValueError("its interval is no number")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise ValueError("its scrape targets are no list of texts")
    if not isinstance(gpus, bool | None) or not isinstance(discover, bool | None):
        raise ValueError("its switches are neither true nor false")
    return NodeConfiguration(
        revision=revision,
        sampling_interval_seconds=interval,
        scrape_targets=tuple(targets),
        gpu_monitoring_enabled=gpus,
        discover_engines=discover,
    )
