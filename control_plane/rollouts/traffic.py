"""What became of requests, counted up by the router and by the servers themselves.

The router knows which requests failed and how many are under way, the servers which were slow to their first token.
All count from when they were started; what falls began anew. A request that waits longer than it may is a bad one
already, or a server that hangs would have no bad ones until its users give up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from control_plane.rollouts.actuators.haproxy_socket import AdminSocket, Server
from control_plane.rollouts.overdue import Overdue
from control_plane.rollouts.running import Totals

# A server that takes longer to say how it fares is not asked again before the next look.
SCRAPE_SECONDS = 2.0
MOST_PAGE_BYTES = 16 * 1024 * 1024
# vLLM and SGLang: engines' own histograms of the time to the first token, in seconds.
_BUCKET = re.compile(
    r'^(?:vllm|sglang):time_to_first_token_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\}\s+([0-9.eE+]+)', re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """First tokens of one server: how many, and how many came within the limit."""

    all: float
    within: float


def speed(page: str, limit_seconds: float) -> Speed | None:
    """This will read a server's histogram; None when it has none.

    The limit is taken at the bucket bound that is next above it, so no fast request counts as slow.
    """
    buckets: dict[float, float] = {}
    for bound, count in _BUCKET.findall(page):
        buckets[float(bound)] = buckets.get(float(bound), 0.0) + float(count)
    if float("inf") not in buckets:
        return None
    return Speed(all=buckets[float("inf")], within=buckets[min(b for b in buckets if b >= limit_seconds)])


@dataclass(slots=True)
class _Grown:
    """A count that goes on where its server's began anew."""

    before: float = 0.0
    last: float = 0.0

    def at(self, value: float | None) -> float:
        if value is not None:
            if value < self.last:
                self.before += self.last
            self.last = value
        return self.before + self.last


@dataclass(slots=True, kw_only=True)
class HaproxyTraffic:
    """Counts of a target behind HAProxy."""

    socket: AdminSocket
    candidate: str  # backends
    stable: str
    candidate_servers: Sequence[str]  # addresses of the servers' own doors
    stable_servers: Sequence[str]
    ttft_limit_seconds: float | None = None  # None: only failures are bad
    clock: Callable[[], float]  # monotonic
    _counts: dict[str, _Grown] = field(default_factory=dict)
    _overdue: dict[str, Overdue] = field(default_factory=dict)
    _most_bad: dict[str, float] = field(default_factory=dict)

    async def totals(self, target: str) -> Totals | None:
        """This will give counts since some moment. Raises Unreachable."""
        candidate, stable = await self.socket.servers(self.candidate), await self.socket.servers(self.stable)
        good, bad = await self._ended(self.candidate, candidate, self.candidate_servers)
        stable_good, stable_bad = await self._ended(self.stable, stable, self.stable_servers)
        return Totals(candidate_good=good, candidate_bad=bad, stable_good=stable_good, stable_bad=stable_bad)

    async def _ended(self, backend: str, lines: Sequence[Server], addresses: Sequence[str]) -> tuple[float, float]:
        (all_of_it,) = (line for line in lines if line.name == "BACKEND")
        # A stream that the server cut began with a 200: it is one of those, and bad.
        aborted = self._grown(f"{backend} aborted", all_of_it.aborted_by_server)
        failed = self._grown(f"{backend} failed", all_of_it.answered["5xx"]) + aborted
        if self.ttft_limit_seconds is None:
            return max(0.0, self._grown(f"{backend} answered", all_of_it.answered["2xx"]) - aborted), failed
        within = slow = 0.0
        is_known = True
        for address in addresses:
            page = await asyncio.to_thread(_page, f"{address}/metrics")
            found = None if page is None else speed(page, self.ttft_limit_seconds)
            is_known = is_known and found is not None
            within += self._grown(f"{address} within", None if found is None else found.within)
            slow += self._grown(f"{address} slow", None if found is None else found.all - found.within)
        waiting = self._overdue.setdefault(backend, Overdue(limit_seconds=self.ttft_limit_seconds)).look(
            self.clock(), arrived=all_of_it.arrived, in_flight=all_of_it.in_flight,
            first_tokens=within + slow if is_known else None,
        )  # fmt: skip
        # One that waits is counted now, and again, in another place, when it is answered: once is enough.
        bad = self._most_bad[backend] = max(self._most_bad.get(backend, 0.0), failed + slow + waiting)
        return max(0.0, within - aborted), bad

    def _grown(self, name: str, value: float | None) -> float:
        return self._counts.setdefault(name, _Grown()).at(value)


def _page(address: str) -> str | None:
    """A server that does not answer is the router's to count: its requests fail there."""
    try:
        with build_opener(ProxyHandler({})).open(address, timeout=SCRAPE_SECONDS) as answer:
            page: bytes = answer.read(MOST_PAGE_BYTES)
            return page.decode(errors="replace")
    except (URLError, OSError, ValueError):
        return None
