"""How counters grow between looks, in SQL: whatever they do, no rate is negative or made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Float, Row, Table, case, cast, func, select

from optiinfra.catalogue import FieldSpec


def increments(table: Table, field: FieldSpec, where: Sequence[Any]) -> Any:
    """This will give each row with the growth of a counter since the row before; a fall is a reset to zero.

    What stands after a reset has grown since. How fast is another question, since nobody knows when the reset was,
    and a fall may be no reset: the counters of a bond fall when a link leaves it. So the steady growth, which rates are
    made of, leaves such a pair of rows out.
    """
    column = cast(table.c[field.name], Float)
    # Among the known rows only: what grew while a value was unknown has grown all the same.
    before = func.lag(column).over(partition_by=(table.c.entity_id, column.is_(None)), order_by=table.c.taken_at)
    before_at = func.lag(table.c.taken_at).over(
        partition_by=(table.c.entity_id, column.is_(None)), order_by=table.c.taken_at
    )
    growth = case((column >= before, column - before), (column < before, column), else_=None)
    seconds = case((before.is_not(None), func.extract("epoch", table.c.taken_at - before_at)), else_=None)
    is_steady = column >= before
    return (
        select(
            table.c.entity_id,
            table.c.taken_at,
            table.c.unknown_set_id,
            column.label("value"),
            growth.label("growth"),
            case((is_steady, column - before), else_=None).label("steady"),
            cast(case((is_steady, seconds), else_=None), Float).label("steady_seconds"),
            case((column < before, 1), else_=0).label("reset"),
        )
        .where(*where)
        .subquery()
    )


FEWER_THAN_TWO = "fewer_than_two_samples"
# Two looks that are closer to each other than any cadence: a clock was set back between them, and what
# grew in five seconds would look like growth of an instant.
TOO_CLOSE_SECONDS = 0.2


def steady(rows: Any) -> tuple[Any, ...]:
    """This will give the columns that `rate_of` reads."""
    return (
        func.sum(rows.c.steady).label("steady"),
        func.sum(rows.c.steady_seconds).label("steady_seconds"),
        func.coalesce(func.sum(rows.c.reset), 0).label("resets"),
    )


def rate_of(row: Row[Any], why_none: str) -> float | str:
    """This will give a counter's growth per second, or why it is unknown: `why_none` where no two looks are."""
    return rate(row.steady, row.steady_seconds, row.resets, why_none)


def rate(steady_growth: float | None, seconds: float | None, resets: float, why_none: str) -> float | str:
    """This will give the same of steady growth, None where no pair of looks shows any, and its seconds."""
    if steady_growth is None or seconds is None:
        return "counter_reset" if resets else why_none
    if seconds < TOO_CLOSE_SECONDS:
        return "samples_too_close"
    return float(steady_growth) / float(seconds)
