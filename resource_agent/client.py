"""The clients themselves: one that waits, one for asyncio, with the same methods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import httpx2

from resource_agent.answers import Answer, Page
from resource_agent.errors import NoAnswer
from resource_agent.operations import AsyncOperations, Operations
from resource_agent.transport import (
    PASSING,
    USUAL_SECONDS,
    USUAL_URL,
    Question,
    base_headers,
    pause_seconds,
    understood,
)


class ResourceAgent(Operations):
    """Asks a control plane. It keeps its connections; close it, or use it in a `with`."""

    def __init__(
        self,
        base_url: str = USUAL_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = USUAL_SECONDS,
        transport: httpx2.BaseTransport | None = None,
        verify: Any = True,
    ) -> None:
        """`api_key` is taken from OPTIINFRA_API_KEY when it is not given; `verify` is an ssl.SSLContext or False."""
        self._client = httpx2.Client(
            base_url=base_url.rstrip("/"), headers=base_headers(api_key), timeout=timeout_seconds, transport=transport,
            verify=verify,
        )  # fmt: skip

    def _ask(self, asked: Question[Any]) -> Any:
        attempt = 0
        while True:
            answer, error = None, None
            try:
                answer = self._client.request(
                    asked.method,
                    asked.path,
                    params=asked.parameters,
                    json=asked.body,
                    headers=asked.headers,
                )
                if answer.status_code not in PASSING:
                    return _read(asked, answer)
            except httpx2.TransportError as failure:
                error = failure
            pause = pause_seconds(attempt, answer.headers.get("retry-after") if answer is not None else None)
            if pause is None:
                return _given_up(asked, answer, error)
            time.sleep(pause)
            attempt += 1

    def every(self, page: Page) -> Iterator[Answer]:
        """This will give the items of a page and of all that follow it."""
        yield from page
        while (following := page.following()) is not None:
            page = self._ask(following)
            yield from page

    def get_gpu_metrics(self, **asked: Any) -> Page:
        """This will give the newest sample of every GPU; `["utilization"]` is their mean busy share in percent."""
        return _with_utilization(self.gpu_metrics(**asked))

    def close(self) -> None:
        """This will close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        """This will give itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """This will close the connections."""
        self.close()


class AsyncResourceAgent(AsyncOperations):
    """Asks a control plane from asyncio. Close it, or use it in an `async with`."""

    def __init__(
        self,
        base_url: str = USUAL_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = USUAL_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
        verify: Any = True,
    ) -> None:
        """As ResourceAgent."""
        self._client = httpx2.AsyncClient(
            base_url=base_url.rstrip("/"), headers=base_headers(api_key), timeout=timeout_seconds, transport=transport,
            verify=verify,
        )  # fmt: skip

    async def _ask(self, asked: Question[Any]) -> Any:
        attempt = 0
        while True:
            answer, error = None, None
            try:
                answer = await self._client.request(
                    asked.method,
                    asked.path,
                    params=asked.parameters,
                    json=asked.body,
                    headers=asked.headers,
                )
                if answer.status_code not in PASSING:
                    return _read(asked, answer)
            except httpx2.TransportError as failure:
                error = failure
            pause = pause_seconds(attempt, answer.headers.get("retry-after") if answer is not None else None)
            if pause is None:
                return _given_up(asked, answer, error)
            await asyncio.sleep(pause)
            attempt += 1

    async def every(self, page: Page) -> AsyncIterator[Answer]:
        """This will give the items of a page and of all that follow it."""
        for item in page:
            yield item
        while (following := page.following()) is not None:
            page = await self._ask(following)
            for item in page:
                yield item

    async def get_gpu_metrics(self, **asked: Any) -> Page:
        """This will give the newest sample of every GPU; `["utilization"]` is their mean busy share in percent."""
        return _with_utilization(await self.gpu_metrics(**asked))

    async def close(self) -> None:
        """This will close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        """This will give itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """This will close the connections."""
        await self.close()


def _read(asked: Question[Any], answer: httpx2.Response) -> Any:
    kind = answer.headers.get("content-type", "")
    body: Any = answer.text
    if "json" in kind:
        try:
            body = answer.json()
        except ValueError as error:
            raise NoAnswer(f"{asked.path} was answered with what is no JSON: is a control plane there?") from error
    found = understood(asked, answer.status_code, kind, body)
    if isinstance(found, Answer) and "etag" in answer.headers:
        found.etag = answer.headers["etag"]
    return found


def _given_up(asked: Question[Any], answer: httpx2.Response | None, error: httpx2.TransportError | None) -> Any:
    if answer is not None:
        return _read(asked, answer)
    raise NoAnswer(f"no control plane answers ({type(error).__name__}: {error}); is base_url right?") from error


def _with_utilization(page: Page) -> Page:
    busy = page.mean("gpu_utilization_ratio")
    page.around["utilization"] = None if busy is None else busy * 100
    return page
