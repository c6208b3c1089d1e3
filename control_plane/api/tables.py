"""Histories as CSV, for people who want files: one line for each point, what it is a point of in front."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.api.preferences import preferred

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
# A cell that begins so is a formula to a spreadsheet, and names come from elsewhere.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def wants_csv(accept: str | None) -> bool:
    """This will say whether CSV is what an Accept header asks for before JSON."""
    return accept is not None and preferred(accept, (JSON, CSV)) == CSV


def as_csv(body: bytes) -> bytes:
    """This will turn a history's JSON into CSV in UTF-8. A value that is not known is an empty cell."""
    rows = list(_rows(orjson.loads(body)["items"]))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return out.getvalue().encode()


def _rows(items: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for item in items:
        about = {name: value for name, value in item.items() if not isinstance(value, dict | list)}
        for point in item["points"]:
            yield about | {name: value for name, value in point.items() if not isinstance(value, dict | list)}


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value


class AsCsv:
    """Around a route: its JSON, once it is whole, as CSV. A refusal stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` answers in JSON."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """This will answer in CSV."""
        start: Message | None = None
        parts: list[bytes] = []

        async def sent(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] == 200:
                start = message
            elif start is None:
                await send(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    await _send_table(start, b"".join(parts), scope, send)

        await self._app(scope, receive, sent)


async def _send_table(start: Message, body: bytes, scope: Scope, send: Send) -> None:
    content = await asyncio.to_thread(as_csv, body)  # 100,000 lines take a third of a second
    headers = MutableHeaders(scope=start)
    headers["Content-Type"] = "text/csv; charset=utf-8; header=present"
    headers["Content-Length"] = str(len(content))
    headers["Vary"] = "Accept"
    cursor = orjson.loads(body).get("next_cursor")
    if cursor is not None:
        headers["Link"] = f'<{scope["path"]}?cursor={cursor}>; rel="next"'
    await send(start)
    await send({"type": "http.response.body", "body": content})
