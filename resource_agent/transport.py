"""How a question travels: its address, its key, and how often it is tried. It reaches no network itself."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from resource_agent.answers import Answer, Page
from resource_agent.errors import Refused

USUAL_URL = "http://localhost:8003"
KEY_VARIABLE = "OPTIINFRA_API_KEY"
USUAL_SECONDS = 60.0  # an answer may take the control plane 40 s
TRIES = 5
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 8.0
# A control plane that asks for more than this is told about, not waited for.
LONGEST_ASKED_PAUSE_SECONDS = 60.0
# Nothing was done, or the Idempotency-Key makes sure that it is done once.
PASSING = frozenset({429, 502, 503, 504})

T_co = TypeVar("T_co", covariant=True)

Sent = str | int | float | bool | None  # as httpx2 has it; all are texts here


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[T_co]):
    """What is asked, whoever asks it, and of what kind its answer is."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False

    @property
    def parameters(self) -> list[tuple[str, Sent]]:
        """This will give the query as it is sent: what is None is left out, a list is repeated."""
        out: list[tuple[str, Sent]] = []
        for name, value in self.query.items():
            if value is None:
                continue
            entries = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            out += [(name, str(entry).lower() if isinstance(entry, bool) else str(entry)) for entry in entries]
        return out


def question(
    method: str,
    template: str,
    *,
    path: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
    idempotency_key: str | None = None,
    if_match: str | None = None,
    writes: bool = False,
    listed: bool = False,
) -> Question[Any]:
    """This will put a question together. One that `writes` gets an Idempotency-Key, so that it may be tried again."""
    filled = template
    for name, value in (path or {}).items():
        filled = filled.replace("{" + name + "}", quote(str(value), safe=""))
    headers = {}
    if writes:
        headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
    if if_match is not None:
        headers["If-Match"] = if_match
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if value is not None}
    return Question(method=method, path=filled, query=query or {}, body=body, headers=headers, listed=listed)


def base_headers(api_key: str | None) -> dict[str, str]:
    """This will give what every question carries. The key is given, or stands in OPTIINFRA_API_KEY."""
    key = api_key or os.environ.get(KEY_VARIABLE)
    return {"Accept": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}


def pause_seconds(attempt: int, retry_after: str | None) -> float | None:
    """This will say how long to wait before the next try; None: not at all, for it has been tried often enough."""
    if attempt + 1 >= TRIES:
        return None
    if retry_after is not None and retry_after.isdecimal():
        asked = float(retry_after)
        return asked if asked <= LONGEST_ASKED_PAUSE_SECONDS else None
    return random.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311 - spreads, hides nothing


def understood(asked: Question[Any], status: int, content_type: str, body: Any) -> Any:
    """This will turn what came back into an answer. Raises Refused."""
    if status >= 400:
        raise Refused(status, body if isinstance(body, dict) else {"detail": str(body)[:200]})
    if not content_type.startswith("application/json"):
        return body
    return Page(body, asked) if asked.listed and isinstance(body, dict) and "items" in body else Answer(body)
