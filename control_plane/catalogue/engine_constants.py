"""The constants of engines that were fitted to measured servers, and how sure they are."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def engine_constants() -> dict[str, Any]:
    """This will give `names`, their `values`, the `covariance` of their logarithms, and the `source`."""
    text = (files("control_plane.catalogue") / "engine_constants.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
