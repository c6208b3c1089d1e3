"""What every operation says of itself in the OpenAPI document: summary, scope, example, errors."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from fastapi import Response

from control_plane.api.problems import MEDIA_TYPE

PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "description": "a stable reference; docs/problems.md lists them"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what to do next"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_MEANING = {
    400: "the body is no text that can be read",
    404: "what was named does not exist",
    409: "not possible in the present state",
    413: "the body is larger than a question can be",
    422: "the question cannot be answered as it was put",
    503: "the database, or something else that is needed, does not answer",
}


@cache
def example(operation_id: str) -> Any:
    """This will give the operation's example answer, taken from a real run; None when there is none."""
    file = files("control_plane.api") / "examples" / f"{operation_id}.json"
    return orjson.loads(file.read_bytes()) if file.is_file() else None


def operation(
    operation_id: str,
    summary: str,
    *,
    scope: str = "read",
    errors: tuple[int, ...] = (422, 503),
    answer: dict[str, Any] | None = None,
    media_type: str = "application/json",
    status: int = 200,
    later: str | None = None,
) -> dict[str, Any]:
    """This will give the arguments that every route decorator takes.

    `scope` is what a caller needs; `answer` is the JSON Schema of a success, an object by default. `later` says what
    a 202 of the same shape means, where there is one.
    """
    content: dict[str, Any] = {"schema": answer or {"type": "object"}}
    shown = example(operation_id)
    if shown is not None:
        content["example"] = shown
    responses: dict[int, Any] = {status: {"description": "the answer", "content": {media_type: content}}}
    if later is not None:
        responses[202] = {"description": later, "content": {media_type: {"schema": answer or {"type": "object"}}}}
    for error in errors:
        responses[error] = {
            "description": _MEANING[error],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return {
        "operation_id": operation_id,
        "summary": summary,
        "status_code": status,
        "responses": responses,
        "response_model": None,
        "response_class": Response,
        "openapi_extra": {"x-required-scope": scope},
    }


def listed(item: dict[str, Any], **around: dict[str, Any]) -> dict[str, Any]:
    """This will give the schema of a page of items."""
    cursor = {"type": ["string", "null"], "description": "pass as cursor for the next page; null on the last"}
    return {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": item}, "next_cursor": cursor, **around},
    }
