"""Query parameters, the same wherever they are taken. Unknown ones are refused, not ignored."""

from __future__ import annotations

import base64
import binascii
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from control_plane.model.errors import InvalidRequest
from control_plane.model.labels import MOST_LABELS

_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
DEFAULT_LIMIT, MOST_LIMIT = 1000, 10_000
# Stamps count from here; before year 1 there is no time to subtract a look back from.
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> timedelta:
    """This will read 500ms, 90s, 15m, 2h or 7d. ValueError otherwise."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("write a duration such as 30s, 15m, 2h or 7d")
    try:
        return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    except OverflowError as error:
        raise ValueError("that is longer than any history") from error


def _moment(value: Any) -> Any:
    """This will check a moment's form here, and leave durations to `Window`, which knows now."""
    if not isinstance(value, str):
        return value
    if _DURATION.fullmatch(value):
        parse_duration(value)
        return value
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(
            "write an RFC 3339 time such as 2026-01-31T12:00:00Z, or a duration back from now such as 15m"
        ) from error
    if parsed.tzinfo is None:
        raise ValueError("a time needs its offset: end it with Z for UTC")
    return value


def _step(value: Any) -> Any:
    if isinstance(value, str) and parse_duration(value) < timedelta(seconds=1):
        raise ValueError("the shortest step is 1s")
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("a name has no NUL character")
    return value


Moment = Annotated[str, StringConstraints(max_length=64), BeforeValidator(_moment)]
Step = Annotated[str, StringConstraints(max_length=16), BeforeValidator(_step)]
# Postgres keeps no NUL in a text, so nothing can have such a name.
Name = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_no_nul)]


# What the difference between "allocated to" and "used by" says: docs/attribution.md.
Finding = Literal[
    "none", "allocated_but_unused", "used_but_not_allocated", "used_by_another_than_allocated", "shared", "unknown",
]  # fmt: skip


class Parameters(BaseModel):
    """What every question has in common: nothing but that unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paged(Parameters):
    """A list that may be long."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MOST_LIMIT, description="most items in the answer")
    cursor: str | None = Field(None, max_length=512, description="next_cursor of the answer before")


class OfNodes(Paged):
    """A list about nodes."""

    node: list[Name] = Field(default_factory=list, max_length=100, description="node name or id; may be repeated")


class OfGpus(OfNodes):
    """A list about GPUs."""

    gpu: list[Name] = Field(default_factory=list, max_length=100, description="GPU UUID; may be repeated")


class NewestOfGpus(OfGpus):
    """The newest values of GPUs."""

    field: list[Name] = Field(
        default_factory=list, max_length=64, description="only these fields of docs/metrics.md; default: all there is"
    )


class OfAttributions(OfGpus):
    """A list about whose GPUs are."""

    finding: list[Finding] = Field(default_factory=list, max_length=10, description="may be repeated")
    namespace: list[Name] = Field(default_factory=list, max_length=100, description="holder's or user's; repeatable")
    pod: list[Name] = Field(default_factory=list, max_length=100, description="holder's or user's; repeatable")


class OfServers(OfNodes):
    """A list about inference servers."""

    server: list[Name] = Field(default_factory=list, max_length=100, description="server id or URL; may be repeated")
    model: list[Name] = Field(default_factory=list, max_length=100, description="model name; may be repeated")
    namespace: list[Name] = Field(default_factory=list, max_length=100, description="its pod's; may be repeated")
    pod: list[Name] = Field(default_factory=list, max_length=100, description="its pod's name; may be repeated")


class Windowed(Parameters):
    """A question about a stretch of time."""

    since: Moment | None = Field(None, description="RFC 3339 time, or a duration back from now such as 15m")
    until: Moment | None = Field(None, description="the same; default: now")


class Stepped(Windowed):
    """A history."""

    step: Step | None = Field(None, description="width of a point, such as 30s; default: what fits the limit")


class EventsOf(Paged, Windowed):
    """What happened on a node."""

    kind: list[Name] = Field(default_factory=list, max_length=100, description="xid, gpu_lost, …; may be repeated")


class GpuWindow(OfGpus, Windowed):
    """GPUs over a stretch of time."""


class ServerWindow(OfServers, Windowed):
    """Inference servers over a stretch of time."""


Group = Literal["fleet", "node", "gpu", "server", "model", "namespace", "gpu_model", "pool"]
ByLabel = Annotated[str, Field(pattern=r"^label:[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}=[A-Za-z0-9._-]{1,63}$")]


class OfUse(OfServers, Windowed):
    """What GPUs were used for, over a stretch of time; by default the last day."""

    gpu: list[Name] = Field(default_factory=list, max_length=100, description="GPU UUID; may be repeated")
    pool: list[Name] = Field(default_factory=list, max_length=100, description="its node's; may be repeated")
    label: list[Label] = Field(
        default_factory=list,
        max_length=MOST_LABELS,
        description="key=value that its node has; each of several must fit",
    )
    by: Group | ByLabel = Field(
        "fleet", description="what each item is about; label:KEY is the value of a node's label"
    )


Fields = Annotated[
    list[Name], Field(min_length=1, max_length=20, description="field of docs/metrics.md; may be repeated")
]


class History(Paged, Stepped):
    """Series of fields."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MOST_LIMIT, description="most points in each series")
    field: Fields


class GpuHistory(OfGpus, History):
    """Series of GPUs, or of what all GPUs of a node, or of the fleet, say together."""

    by: Literal["gpu", "node", "fleet"] = Field("gpu", description="whose series: each GPU's, each node's, the fleet's")


class NodeHistory(OfNodes, History):
    """Series of nodes."""


class ServerHistory(OfServers, History):
    """Series of inference servers."""


class Window(BaseModel):
    """A stretch of time with both ends known."""

    model_config = ConfigDict(frozen=True)

    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        """This will give its length."""
        return (self.until - self.since).total_seconds()


def window(parameters: Windowed, now: datetime, default: timedelta) -> Window:
    """This will settle both ends of the asked window. Raises InvalidRequest when they make no sense."""
    until = _settled(parameters.until, now) or now
    since = _settled(parameters.since, now) or until - default
    if since >= until:
        raise InvalidRequest("since must lie before until; a duration such as 15m counts back from now")
    if since >= now:
        raise InvalidRequest("the window lies in the future")
    if since < OLDEST:
        raise InvalidRequest(f"there are no samples from before {OLDEST.year}")
    return Window(since=since, until=min(until, now))


def _settled(moment: str | None, now: datetime) -> datetime | None:
    if moment is None:
        return None
    try:
        if _DURATION.fullmatch(moment):
            return now - parse_duration(moment)
        return datetime.fromisoformat(moment).astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequest("a time lies outside what can be stored") from error


def step_of(parameters: Stepped, asked: Window) -> timedelta:
    """This will give the width of a point: as asked, widened until the window fits the limit.

    Never wider than the window, in whole seconds: that is one point already.
    """
    limit = getattr(parameters, "limit", DEFAULT_LIMIT)
    least = asked.seconds / limit
    wanted = parse_duration(parameters.step).total_seconds() if parameters.step else max(1.0, least)
    return timedelta(seconds=max(1, math.ceil(min(max(wanted, least), asked.seconds))))


def encode_cursor(**position: int | str) -> str:
    """This will pack a position into an opaque cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def decode_cursor(cursor: str | None, name: str, *, most: int = 2**31) -> int:
    """This will give the position `name` of a cursor; 0 without one. Raises InvalidRequest."""
    if cursor is None:
        return 0
    try:
        position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        value = position[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < most:
            raise ValueError
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise InvalidRequest("cursor is not one that this endpoint gave; start without one") from error
    return value


def decode_text_cursor(cursor: str | None, name: str, *, most: int = 512) -> str:
    """This will give the text `name` of a cursor; empty without one. Raises InvalidRequest."""
    if cursor is None:
        return ""
    try:
        value = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[name]
        if not isinstance(value, str) or len(value) > most or "\0" in value:
            raise ValueError
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise InvalidRequest("cursor is not one that this endpoint gave; start without one") from error
    return value
