"""What stands before every route: who asks, may they, how often, for how long, and who will know of it.

A route is wrapped when the application is built. One that declares no scope is closed to everybody who needs a key, so
that a forgotten word is a locked door and not an open one.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from control_plane.access.rates import Standing
from control_plane.api import repeats, tables
from control_plane.api.audit_trail import Audited
from control_plane.api.body_limit import MOST_BODY_BYTES
from control_plane.api.context import ApiContext
from control_plane.api.operations import PUBLIC, USUAL_SECONDS
from control_plane.api.problems import BodyTooLarge, BodyTooSlow
from control_plane.model.access import Caller, Scope
from control_plane.model.errors import Forbidden, TookTooLong, TooManyRequests

log = logging.getLogger(__name__)

READING = frozenset({"GET", "HEAD"})
# A megabyte over a slow line takes a few seconds; who sends a byte a second means something else.
BODY_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a route says of itself."""

    operation_id: str
    scope: Scope | None  # None: nobody may, or, if `is_public`, everybody
    is_public: bool
    rate: str
    seconds: float
    writes: bool  # changes something: it is audited, and done once however often it is sent
    is_shared: bool
    is_secret: bool
    is_table: bool
    is_versioned: bool


def rule_of(route: APIRoute) -> Rule:
    """This will read what a route declares beside its path."""
    said: Mapping[str, Any] = route.openapi_extra or {}
    declared = said.get("x-required-scope")
    is_reading = set(route.methods or ()) <= READING
    scope = Scope(declared) if declared in tuple(Scope) else None
    return Rule(
        operation_id=route.operation_id or route.name,
        scope=scope,
        is_public=declared == PUBLIC,
        rate=said.get("x-rate") or ("read" if is_reading else "write"),
        seconds=said.get("x-seconds") or USUAL_SECONDS,
        writes=not is_reading and scope is not Scope.READ,
        is_shared=bool(said.get("x-shared")),
        is_secret=bool(said.get("x-secret")),
        is_table=bool(said.get("x-table")),
        is_versioned=bool(said.get("x-versioned")),
    )


def guarded(router: APIRouter) -> Iterable[APIRoute]:
    """This will give a router's routes, each behind its guard. The router stays as it is."""
    for route in router.routes:
        if not isinstance(route, APIRoute):
            raise TypeError(f"{route!r} cannot be guarded: write it as an operation of a resource")
        behind = copy.copy(route)
        behind.app = Guard(route.app, rule_of(route))
        yield behind


@dataclass(slots=True)
class _Body:
    """A body that was read whole, for whoever reads it next."""

    content: bytes
    receive: Receive
    given: bool = field(default=False)

    async def __call__(self) -> Message:
        if self.given:
            return await self.receive()  # nothing but that the caller has gone
        self.given = True
        return {"type": "http.request", "body": self.content, "more_body": False}


class Guard:
    """One route's door. What it raises becomes a problem where all errors do."""

    def __init__(self, app: ASGIApp, rule: Rule) -> None:
        """`app` is the route itself."""
        self._app, self.rule = app, rule

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """This will let a request through, or refuse it."""
        request = Request(scope)
        context: ApiContext = request.app.state.context
        caller, standing = await self._admit(request, context)
        if caller is not None:
            request.state.caller = caller
        if standing is not None:
            send = _with_standing(send, self.rule.rate, context.doors.rates[self.rule.rate], standing)
        if request.method in READING:
            await self._timed(scope, receive, send, self._reading(request, context))
            return
        body = await _read(receive)
        receive = _Body(body, receive)
        if not self.rule.writes or caller is None:
            await self._timed(scope, receive, send, self._app)
            return
        key = repeats.key_of(request)
        if key is None:
            await self._audited(context, request, caller, body, receive, send)
            return
        repeatable = repeats.Repeatable(context, request, caller, key, body, is_secret=self.rule.is_secret)
        if (before := await repeatable.first()) is not None:
            await before(scope, receive, send)
            return
        async with repeatable:
            await self._audited(context, request, caller, body, receive, repeatable.noting(send))

    def _reading(self, request: Request, context: ApiContext) -> ASGIApp:
        """This will give what answers a question: the route, something around it, or its answer of a moment ago."""
        if self.rule.is_table and tables.wants_csv(request.headers.get("accept")):
            return tables.AsCsv(self._app)
        remembered = context.remembered
        if self.rule.is_shared and remembered is not None:
            return partial(remembered.answer, self._app)
        return self._app

    async def _audited(
        self, context: ApiContext, request: Request, caller: Caller, body: bytes, receive: Receive, send: Send
    ) -> None:
        async with Audited(context, request, caller, self.rule.operation_id, body) as audited:
            try:
                await self._timed(request.scope, receive, audited.noting(send), self._app)
            finally:
                if context.remembered is not None:
                    context.remembered.forget()

    async def _admit(self, request: Request, context: ApiContext) -> tuple[Caller | None, Standing | None]:
        if self.rule.is_public:
            return None, None
        caller = await context.gate.identify(request.headers.get("authorization"), _address(request))
        if not context.gate.required:
            _refuse_strangers(request, context.doors.hosts)
            return caller, None
        standing = _paced(context, caller, self.rule.rate)
        if self.rule.scope is None:
            raise Forbidden("this route declares no scope, so no key opens it: that is a fault of ours")
        if self.rule.scope not in caller.scopes:
            has = ", ".join(sorted(caller.scopes)) or "none"
            raise Forbidden(f"this takes the scope {self.rule.scope}; what was presented has {has}")
        return caller, standing

    async def _timed(self, scope: AsgiScope, receive: Receive, send: Send, app: ASGIApp) -> None:
        seconds = self.rule.seconds
        if math.isinf(seconds):
            await app(scope, receive, send)
            return
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                await app(scope, receive, send)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TookTooLong(
                f"the answer was not there after {seconds:g} s; ask for less: a shorter window, fewer things"
            ) from error


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _paced(context: ApiContext, caller: Caller, group: str) -> Standing | None:
    """This will take one of the caller's permissions. Raises TooManyRequests."""
    rate = context.doors.rates.get(group)
    if rate is None:
        return None
    standing = context.doors.buckets.take(f"{group} {caller.kind} {caller.subject}", rate)
    if not standing.allowed:
        raise TooManyRequests(
            f"this key has asked all that it may of kind {group!r} for now: {rate.at_once:g} at once, "
            f"{rate.per_second * 60:g} a minute",
            retry_after_seconds=standing.next_after_seconds,
        )
    return standing


def _with_standing(send: Send, group: str, rate: Any, standing: Standing) -> Send:
    """Headers as draft-ietf-httpapi-ratelimit-headers has them: what may be asked, and what is left."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            window = max(1, round(rate.at_once / rate.per_second))
            headers["RateLimit-Policy"] = f'"{group}";q={int(rate.at_once)};w={window}'
            headers["RateLimit"] = f'"{group}";r={standing.left};t={math.ceil(standing.full_after_seconds)}'
        await send(message)

    return sent


async def _read(receive: Receive) -> bytes:
    """This will read a body whole. Raises BodyTooSlow, BodyTooLarge."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                part = message.get("body", b"")
                size += len(part)
                if size > MOST_BODY_BYTES:
                    raise BodyTooLarge(MOST_BODY_BYTES)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError as error:
        raise BodyTooSlow(BODY_SECONDS) from error


def _refuse_strangers(request: Request, hosts: frozenset[str] | None) -> None:
    """Without keys a page in somebody's browser could ask in their place: by a name that it lets point here, or with a
    form that it sends. Raises Forbidden."""
    host = request.headers.get("host", "")
    if hosts is not None and _name_of(host) not in hosts:
        raise Forbidden(
            "without keys this control plane answers only questions to localhost; "
            "use keys (OPTIINFRA_AUTH=on), or name this host in OPTIINFRA_ALLOWED_HOSTS"
        )
    if request.method in READING:
        return
    origin = request.headers.get("origin")
    strange = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    if strange or request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Forbidden("another site's page cannot change anything here without a key")


def _name_of(host: str) -> str:
    """This will give a Host header's name: without its port, in small letters."""
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0].removeprefix("[")
    return name.partition(":")[0]
