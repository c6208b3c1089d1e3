"""What a GPU costs for an hour, and how that is known."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum


class PriceBasis(StrEnum):
    """How a price is known, the best first."""

    NODE = "node"  # entered for this very node
    ENTERED = "entered"  # entered for this kind of GPU
    LIST = "list"  # the list price of the provider that was named
    MEDIAN_OF_LISTS = "median_of_lists"  # nobody has said who is paid: the median of all providers' list prices


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPrice:
    """What a provider asks for one GPU for one hour."""

    gpu: str
    name_pattern: str  # a regular expression, searched for in the driver's name
    provider: str
    usd_per_gpu_hour: float
    as_of: date
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnteredPrice:
    """A price that somebody entered, for the GPUs of a node or for a kind of GPU."""

    node: str | None
    name_pattern: str | None  # None: any GPU
    usd_per_gpu_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one GPU costs, and on what that stands."""

    usd_per_gpu_hour: float
    basis: PriceBasis
    provider: str | None
    as_of: date
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """All that is known of prices: what was entered goes before what providers list."""

    entered: Sequence[EnteredPrice] = ()
    entered_as_of: date | None = None
    provider: str | None = None  # who is paid, where nothing was entered
    usd_per_kwh: float | None = None  # of electricity that is paid on top of the hour; None: it is in the price
    currency: str = "USD"  # that prices were entered in
    usd_per_unit: float = 1.0  # of that currency
    listed: Sequence[ListPrice] = ()
    _found: dict[tuple[str, str], Price | None] = field(default_factory=dict, compare=False)

    def price_of(self, *, node: str, gpu_name: str | None) -> Price | None:
        """This will give what a GPU of this name on this node costs; None when nobody knows."""
        key = (node, gpu_name or "")
        if key not in self._found:
            self._found[key] = self._look_up(node, gpu_name)
        return self._found[key]

    def _look_up(self, node: str, gpu_name: str | None) -> Price | None:
        fitting = [e for e in self.entered if _fits(e.name_pattern, gpu_name)]
        for basis, wanted in ((PriceBasis.NODE, node), (PriceBasis.ENTERED, None)):
            for entry in fitting:
                if entry.node == wanted:
                    return Price(
                        usd_per_gpu_hour=entry.usd_per_gpu_hour, basis=basis, provider=self.provider,
                        as_of=self.entered_as_of or date.min, source="entered",
                    )  # fmt: skip
        return self._listed(gpu_name)

    def _listed(self, gpu_name: str | None) -> Price | None:
        fitting = [p for p in self.listed if gpu_name and _fits(p.name_pattern, gpu_name)]
        if self.provider is not None:
            fitting = [p for p in fitting if p.provider == self.provider]
        if not fitting:
            return None
        providers = sorted({p.provider for p in fitting})
        return Price(
            usd_per_gpu_hour=statistics.median(p.usd_per_gpu_hour for p in fitting),
            basis=PriceBasis.LIST if self.provider is not None else PriceBasis.MEDIAN_OF_LISTS,
            provider=self.provider,
            as_of=max(p.as_of for p in fitting),
            source=f"{fitting[0].source}: {', '.join(providers)}",
        )

    def sources(self) -> Mapping[str, str]:
        """This will say on what the book stands, for a reader."""
        listed = {p.source: max(q.as_of for q in self.listed if q.source == p.source) for p in self.listed}
        return {source: as_of.isoformat() for source, as_of in listed.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceHistory:
    """Which prices held when: each book from its day on, the first of them also before."""

    books: Sequence[tuple[datetime, PriceBook]]  # ascending; at least one

    def changes(self, since: datetime, until: datetime) -> list[datetime]:
        """This will give the moments within a window at which other prices began to hold."""
        return [begins for begins, _ in self.books[1:] if since < begins < until]

    def at(self, moment: datetime) -> PriceBook:
        """This will give the prices that held at a moment."""
        held = self.books[0][1]
        for begins, book in self.books[1:]:
            if begins <= moment:
                held = book
        return held


def _fits(pattern: str | None, gpu_name: str | None) -> bool:
    return pattern is None or (gpu_name is not None and re.search(pattern, gpu_name) is not None)
