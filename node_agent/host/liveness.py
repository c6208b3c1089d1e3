"""The file that a liveness probe looks at."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

HEARTBEAT_FILE = "alive"


class Heartbeat:
    """What the liveness probe looks at: the loop turns, whatever the server does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said: float | None = None  # the interval that stands in the file
        self._failing = False

    def beat(self, interval_seconds: float) -> None:
        """This will stamp the file and say in it when the next stamp is due.

        A file that cannot be written is the probe's business, not the samples': they go on.
        """
        try:
            if interval_seconds == self._said and self._path.exists():
                os.utime(self._path)
            else:
                self._path.write_text(f"{interval_seconds:g}\n")
            self._said, self._failing = interval_seconds, False
        except OSError as error:
            if not self._failing:
                log.warning("%s cannot be written: %s; probes will fail", self._path, error.strerror)
            self._failing = True
