"""Bodies that are documents: JSON, or YAML as people keep it in files. Several may come in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import yaml
from fastapi import Request

from control_plane.model.errors import InvalidRequest

YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")


class _Loader(yaml.SafeLoader):
    """Plain data only, and every part of it once: an alias can make a megabyte of a line."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """This will refuse aliases, and read all else."""
        if self.check_event(yaml.events.AliasEvent):
            raise InvalidRequest("a YAML document that is sent here has no aliases (*name); write the parts out")
        return super().compose_node(parent, index)


async def documents(request: Request) -> list[Any]:
    """This will read the body's documents: a JSON value, or each part of a YAML stream. Raises InvalidRequest."""
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in YAML_TYPES:
        return list(_yaml(body))
    if kind != "application/json":
        raise InvalidRequest("say what the body is: Content-Type: application/json, or application/yaml")
    try:
        return [orjson.loads(body)]
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("the body is no JSON") from error


def _yaml(body: bytes) -> Iterator[Any]:
    try:
        for document in yaml.load_all(body, _Loader):
            if document is not None:
                yield document
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        at = f" at line {where.line + 1}" if where is not None else ""
        raise InvalidRequest(f"the body is no YAML{at}") from error
