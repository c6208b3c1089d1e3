"""Writes the golden OpenAPI document: run it by `make openapi` after a wanted change, and read the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import orjson

from control_plane.api.app import build_app
from control_plane.api.context import ApiContext

GOLDEN = Path(__file__).parent / "openapi.json"


def document() -> dict[str, Any]:
    """This will give the document of this release. Nothing is asked of the context while it is made."""
    return build_app(cast(ApiContext, None)).openapi()


def main() -> None:
    """This will write it, in an order that only a change of the API changes."""
    GOLDEN.write_bytes(orjson.dumps(document(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


if __name__ == "__main__":
    main()
