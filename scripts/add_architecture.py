"""Adds models to control_plane/catalogue/architectures.json, from their published config.json.

Usage: scripts/add_architecture.py NAME=CONFIG.json … [--guessed NAME …]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from control_plane.catalogue.architectures import from_json
from control_plane.decisions.performance.model_config import architecture

CATALOGUE = Path(__file__).parents[1] / "control_plane" / "catalogue" / "architectures.json"


def as_json(noun: Any) -> dict[str, Any]:
    """This will write a noun without what has its usual value."""
    found: dict[str, Any] = {}
    for field in fields(noun):
        value = getattr(noun, field.name)
        if value == field.default:
            continue
        found[field.name] = [as_json(v) for v in value] if isinstance(value, tuple) else value
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=CONFIG.json")
    parser.add_argument("--guessed", nargs="*", default=[], help="names whose layers the reader does not know wholly")
    parser.add_argument("--source", default="config.json as published", help="where the configs are from")
    arguments = parser.parse_args()
    known = {row["name"]: from_json(row) for row in json.loads(CATALOGUE.read_text())} if CATALOGUE.exists() else {}
    for pair in arguments.models:
        name, _, path = pair.partition("=")
        found = architecture(json.loads(Path(path).read_text()), name=name, source=arguments.source)
        known[name] = replace(found, guessed=name in arguments.guessed)
    rows = [json.dumps(as_json(known[name])) for name in sorted(known, key=str.lower)]
    CATALOGUE.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
