"""What every operation says of itself in the OpenAPI document: summary, scope, example, errors."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from fastapi import Response

from control_plane.api.problems import MEDIA_TYPE

# Of a route that needs no key: what a probe or a newcomer asks, and nothing about the fleet.
PUBLIC = "public"
# An answer that takes longer has lost its reader; a read may take Postgres 30 s (storage/session.py).
USUAL_SECONDS = 40.0

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
    401: "no key, or none that is valid here",
    403: "the key has not the scope that this takes",
    404: "what was named does not exist",
    408: "the body did not arrive in time",
    409: "not possible in the present state",
    412: "what is to be changed is not as If-Match says",
    413: "the body is larger than a question can be",
    422: "the question cannot be answered as it was put",
    431: "the first line and the headers are larger than those of a question can be",
    429: "this key asks more often than it may; Retry-After says when it is answered again",
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
    scope: str | None = None,
    rate: str | None = None,
    seconds: float = USUAL_SECONDS,
    shared: bool = False,
    secret: bool = False,
    table: bool = False,
    versioned: bool = False,
    errors: tuple[int, ...] = (422, 503),
    answer: dict[str, Any] | None = None,
    media_type: str = "application/json",
    texts: tuple[str, ...] = (),
    status: int = 200,
    later: str | None = None,
) -> dict[str, Any]:
    """This will give the arguments that every route decorator takes.

    `scope` is what a caller needs (`model/access.py`, or PUBLIC): without one the route is closed to everybody who
    needs a key. `rate` names the group whose rate counts: by default `read` for GET and `write` for the rest; `heavy`
    is for what makes the database read much. `seconds` is how long it may take. An answer that is `shared` may be half
    a second old: the newest values, the same for every caller (api/remembered.py). An answer that is `secret` is not
    kept for who sends the same again; a history that is a `table` is given as CSV too; what is `versioned` has an ETag,
    and is changed with If-Match (api/etags.py). `answer` is the JSON Schema of a success, an object by default; `texts`
    are media types that `Accept` may ask for instead. `later` says what a 202 of the same shape means, where there is
    one.
    """
    content: dict[str, Any] = {"schema": answer or {"type": "object"}}
    shown = example(operation_id)
    if shown is not None:
        content["example"] = shown
    kinds = {media_type: content} | {text: {"schema": {"type": "string"}} for text in texts}
    responses: dict[int, Any] = {status: {"description": "the answer", "content": kinds}}
    if later is not None:
        responses[202] = {"description": later, "content": {media_type: {"schema": answer or {"type": "object"}}}}
    for error in errors:
        responses[error] = refusal(error)
    return {
        "operation_id": operation_id,
        "summary": summary,
        "status_code": status,
        "responses": responses,
        "response_model": None,
        "response_class": Response,
        "openapi_extra": {
            "x-required-scope": scope,
            "x-rate": rate,
            "x-seconds": seconds,
            "x-shared": shared,
            "x-secret": secret,
            "x-table": table,
            "x-versioned": versioned,
        },
    }


def refusal(status: int) -> dict[str, Any]:
    """This will describe an answer that is a problem."""
    return {
        "description": _MEANING[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def listed(item: dict[str, Any], **around: dict[str, Any]) -> dict[str, Any]:
    """This will give the schema of a page of items."""
    cursor = {"type": ["string", "null"], "description": "pass as cursor for the next page; null on the last"}
    return {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": item}, "next_cursor": cursor, **around},
    }
