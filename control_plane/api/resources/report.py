"""The report: everything that was found, for a person who has two minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Parameters, parse_duration
from control_plane.api.preferences import preferred
from control_plane.api.report import content, html, markdown
from control_plane.model.errors import Conflict
from control_plane.storage import findings

router = APIRouter(tags=["analysis"])

FORMS = {"json": "application/json", "markdown": "text/markdown", "html": "text/html"}


def _form(accept: str | None) -> str:
    kind = preferred(accept or "*/*", list(FORMS.values()))
    return next((name for name, offered in FORMS.items() if offered == kind), "json")


class OfReport(Parameters):
    """Which report."""

    window: Literal["1h", "24h", "7d", "30d"] = Field("24h", description="the time that it is about")
    format: Literal["json", "markdown", "html"] | None = Field(
        None, description="default: what Accept prefers, else JSON"
    )


@router.get(
    "/analysis/report",
    **operation(
        "analysis_report",
        "The whole as JSON, Markdown or HTML with plots",
        scope="read",
        errors=(409, 422, 503),
        texts=("text/markdown", "text/html"),
    ),
)
async def analysis_report(
    asked: Annotated[OfReport, Query()],
    context: Context,
    accept: Annotated[str | None, Header(description="the form that is preferred")] = None,
) -> Response:
    """`Accept: text/markdown` or `text/html`, or `format`; the page loads nothing and has no script."""
    length, form = parse_duration(asked.window), asked.format or _form(accept)
    newest = await findings.newest_of_all(context.database.engine)
    key = (context.database.url, asked.window, form)
    if key in _WRITTEN and _WRITTEN[key][0] == newest:
        return _sent(form, _WRITTEN[key][1])
    found = await content.gather(context.database, length)
    if found is None:
        raise Conflict("nothing is found yet: the first five minutes are summed up a minute or two after they end")
    body = bytes(answer(found).body) if form == "json" else (_WRITERS[form](found)).encode()
    if len(_WRITTEN) >= MOST_WRITTEN:
        _WRITTEN.clear()
    _WRITTEN[key] = (newest, body)
    return _sent(form, body)


# Reports as they were written last, each good until something new is found.
_WRITTEN: dict[tuple[str, str, str], tuple[datetime | None, bytes]] = {}
MOST_WRITTEN = 32
_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"markdown": markdown.write, "html": html.write}


def _sent(form: str, body: bytes) -> Response:
    headers = {"Content-Security-Policy": html.POLICY} if form == "html" else None
    kind = FORMS[form] if form == "json" else f"{FORMS[form]}; charset=utf-8"
    return Response(body, media_type=kind, headers=headers)
