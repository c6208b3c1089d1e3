"""Prices as people entered them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.catalogue.tables import list_prices
from control_plane.model.price import EnteredPrice, PriceBook, PriceHistory
from control_plane.storage.findings import STEP
from control_plane.storage.schema import price_book, stage_progress
from control_plane.storage.session import SyncConnection

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def history(connection: SyncConnection) -> PriceHistory:
    """This will give which prices held when; lists alone when nobody has entered any."""
    return history_of(
        [body for (body,) in connection.execute("SELECT body FROM price_book ORDER BY book_id").fetchall()]
    )


def history_of(bodies: Sequence[Mapping[str, Any]]) -> PriceHistory:
    """This will order what was entered by the day it is of; of one day the last one holds."""
    if not bodies:
        return PriceHistory(books=[(_EVER, book_of(None))])
    by_day = {date.fromisoformat(body["as_of"]): book_of(body) for body in bodies}
    days = sorted(by_day)
    # What was entered last holds from its day on, whatever was entered before for later days.
    last = date.fromisoformat(bodies[-1]["as_of"])
    return PriceHistory(
        books=[(datetime(day.year, day.month, day.day, tzinfo=UTC), by_day[day]) for day in days if day <= last]
    )


async def read_history(engine: AsyncEngine) -> PriceHistory:
    """This will do the same for a reader."""
    async with engine.connect() as connection:
        rows = await connection.execute(select(price_book.c.body).order_by(price_book.c.book_id))
        return history_of([row.body for row in rows])


async def entered(engine: AsyncEngine) -> tuple[dict[str, Any] | None, datetime | None]:
    """This will give what was entered last, and when; None when nothing ever was."""
    query = select(price_book).order_by(price_book.c.book_id.desc()).limit(1)
    async with engine.connect() as connection:
        row = (await connection.execute(query)).first()
    return (None, None) if row is None else (row.body, row.entered_at)


async def enter(engine: AsyncEngine, body: Mapping[str, Any], now: datetime) -> None:
    """This will let other prices hold from their day on. What held before stays in the table."""
    async with engine.begin() as connection:
        await connection.execute(insert(price_book).values(entered_at=now, body=dict(body)))
        # Everything that was found stands on other prices now: it is due.
        await connection.execute(delete(stage_progress).where(stage_progress.c.name.startswith(STEP)))


def book_of(body: Mapping[str, Any] | None) -> PriceBook:
    """This will make a book of what was entered, which `enter` was given; None stands for nothing."""
    if body is None:
        return PriceBook(listed=list_prices())
    rate = float(body["usd_per_unit"])
    return PriceBook(
        entered=tuple(
            EnteredPrice(
                node=entry["node"],
                name_pattern=None if entry["gpu_model"] is None else re.escape(entry["gpu_model"]),
                usd_per_gpu_hour=entry["per_gpu_hour"] * rate,
            )
            for entry in body["prices"]
        ),
        entered_as_of=date.fromisoformat(body["as_of"]),
        provider=body["provider"],
        usd_per_kwh=None if body["per_kwh"] is None else body["per_kwh"] * rate,
        currency=body["currency"],
        usd_per_unit=rate,
        listed=list_prices() if body["use_list_prices"] else (),
    )
