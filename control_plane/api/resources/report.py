"""The report: everything that was found, for a person who has two minutes."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Parameters, parse_duration
from control_plane.api.preferences import preferred
from control_plane.api.report import content, html, markdown
from control_plane.model.errors import Conflict

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
        "analysis_report", "The whole as JSON, Markdown or HTML with plots", scope="read", errors=(409, 422, 503)
    ),
)
async def analysis_report(
    asked: Annotated[OfReport, Query()],
    context: Context,
    accept: Annotated[str | None, Header(description="the form that is preferred")] = None,
) -> Response:
    """`Accept: text/markdown` or `text/html`, or `format`; the page loads nothing and has no script."""
    found = await content.gather(context.database, parse_duration(asked.window))
    if found is None:
        raise Conflict("nothing is found yet: the first five minutes are summed up a minute or two after they end")
    form = asked.format or _form(accept)
    if form == "markdown":
        return Response(markdown.write(found), media_type="text/markdown; charset=utf-8")
    if form == "html":
        return Response(
            html.write(found), media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": html.POLICY}
        )
    return answer(found)
