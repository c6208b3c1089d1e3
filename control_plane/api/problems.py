"""Errors as RFC 9457 problem details. The only file that knows which error is which HTTP status."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from control_plane.model.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    OptiInfraError,
    PreconditionFailed,
    ProviderUnavailable,
    StorageUnavailable,
    TookTooLong,
    TooManyRequests,
    Unauthenticated,
    UnknownResource,
)
from control_plane.runtime import redaction
from control_plane.storage.failures import DatabaseError, is_away

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# What a caller sent is repeated no further than this: enough to recognise it, too little to abuse.
MOST_ECHOED = 64
# A question has fewer parameters than this; more errors would only make the answer long.
MOST_ERRORS = 20
# Type and title by status. docs/problems.md lists them; a type never changes its meaning.
TYPES = {
    400: ("bad-request", "Bad request"),
    401: ("unauthenticated", "No valid key"),
    403: ("forbidden", "Not allowed"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    406: ("not-acceptable", "Not acceptable"),
    408: ("body-timeout", "The body did not arrive"),
    409: ("conflict", "Conflict"),
    412: ("precondition-failed", "Changed in the meantime"),
    413: ("content-too-large", "Content too large"),
    422: ("invalid-request", "Invalid request"),
    429: ("too-many-requests", "Too many requests"),
    431: ("head-too-large", "Head too large"),
    500: ("internal-error", "Internal error"),
    503: ("unavailable", "Unavailable"),
}
_STATUS = {
    UnknownResource: HTTPStatus.NOT_FOUND,
    InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    Conflict: HTTPStatus.CONFLICT,
    StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ProviderUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    TookTooLong: HTTPStatus.SERVICE_UNAVAILABLE,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
}


def problem(
    request: Request,
    status: HTTPStatus,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """This will make a problem answer; `detail` says what to do next."""
    # A URI reference, whatever bytes were sent.
    instance = quote(redaction.text(request.scope["path"])[:MOST_ECHOED], safe="/*")
    body = body_of(status, detail, instance=instance, errors=errors)
    return Response(body, int(status), headers=headers, media_type=MEDIA_TYPE)


def body_of(status: HTTPStatus, detail: str, *, instance: str, errors: Sequence[Mapping[str, str]] = ()) -> bytes:
    """This will give the JSON of a problem about the path `instance`."""
    kind, title = TYPES.get(int(status), ("error", status.phrase))
    body: dict[str, Any] = {
        "type": f"/problems/{kind}",
        "title": title,
        "status": int(status),
        # Whoever puts a key where a name belongs does not find it in a log of answers.
        "detail": redaction.text(detail),
        "instance": instance,
    }
    if errors:
        body["errors"] = redaction.value(list(errors))
    return orjson.dumps(body)


def not_ready(request: Request, missing: Mapping[str, str]) -> Response:
    """This will say which parts are missing for the process to be ready."""
    errors = [{"pointer": f"/parts/{name}", "detail": why} for name, why in missing.items()]
    return problem(
        request,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not ready: " + "; ".join(f"{name}: {why}" for name, why in missing.items()),
        errors=errors,
        headers={"Retry-After": "5"},
    )


class BodyTooSlow(HTTPException):
    """A body has not arrived when its time was up."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long it would have been waited for."""
        text = f"the body did not arrive within {seconds:g} s"
        super().__init__(HTTPStatus.REQUEST_TIMEOUT, text, {"Connection": "close"})


class BodyTooLarge(HTTPException):
    """A body whose size was not declared turns out to be larger than a question can be."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes` is what would have been accepted."""
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {most_bytes:,} bytes")


def body_too_large(request: Request, most_bytes: int) -> Response:
    """This will refuse a body that says it is too large, without reading it."""
    error = BodyTooLarge(most_bytes)
    return problem(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.detail, headers={"Connection": "close"})


def _pointer(location: Sequence[object]) -> str:
    return "/" + "/".join(str(part)[:MOST_ECHOED].replace("~", "~0").replace("/", "~1") for part in location)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()[:MOST_ERRORS]
    errors = [{"pointer": _pointer(e["loc"]), "detail": _explained(e, request)} for e in found]
    # Inputs are not repeated: they may be secrets, or markup.
    return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(e["detail"] for e in errors[:3]), errors=errors)


def _accepted(request: Request, place: object) -> Sequence[str]:
    """This will name what the operation that was asked takes in its query or its body, as its description does."""
    route = request.scope.get("route")
    document = request.app.openapi()
    described = document["paths"].get(getattr(route, "path", ""), {}).get(request.method.lower(), {})
    if place != "body":
        return [p["name"] for p in described.get("parameters", []) if p["in"] == "query"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    # Of a body that may be left out the description says: this, or nothing.
    reference = next(one["$ref"] for one in [schema, *schema.get("anyOf", [])] if "$ref" in one)
    named = reference.rpartition("/")[2]
    return list(document["components"]["schemas"][named]["properties"])


def _explained(error: Mapping[str, Any], request: Request) -> str:
    place, name = error["loc"][0], str(error["loc"][-1])[:MOST_ECHOED]
    if error["type"] == "extra_forbidden":
        what = "field" if place == "body" else "parameter"
        return f"there is no {what} {name} here; accepted: {', '.join(_accepted(request, place)) or 'none'}"
    if error["type"] == "json_invalid":
        return "the body is no JSON"
    if tuple(error["loc"]) == ("body",):
        return "send a JSON object, and say so with the header Content-Type: application/json"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}"


async def _refused(request: Request, error: Exception) -> Response:
    status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = None
    if isinstance(error, Unauthenticated):
        headers = {"WWW-Authenticate": 'Bearer realm="optiinfra"'}
    elif isinstance(error, TooManyRequests):
        headers = {"Retry-After": str(math.ceil(error.retry_after_seconds))}
    places = error.errors[:MOST_ERRORS] if isinstance(error, InvalidRequest) else ()
    errors = [{"pointer": pointer, "detail": detail} for pointer, detail in places]
    return problem(request, status, str(error), errors=errors, headers=headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; /docs lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; /docs lists those it takes",
    }
    headers = error.headers
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(sorted(_allowed(request)))}
    return problem(request, status, details.get(status, str(error.detail)), headers=headers)


def _allowed(request: Request) -> set[str]:
    """This will give what the path takes; starlette names only what its first route does."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    path = next((route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE), None)
    return {method for route in routes if route.path == path for method in route.methods or ()}


async def _database(request: Request, error: Exception) -> Response:
    assert isinstance(error, DatabaseError)
    log.warning("a request failed in the database: %s", next(iter(str(error).splitlines()), type(error).__name__))
    detail = (
        "the database does not answer; try again in a few seconds"
        if is_away(error)
        else "the database refused the question"
    )
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "5"})


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error at %s", request.url.path, exc_info=error)
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "this is a fault of ours; the log has the details")


def install(app: FastAPI) -> None:
    """This will make every error of `app` a problem answer."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(OptiInfraError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DatabaseError, _database)
    app.add_exception_handler(Exception, _unexpected)
