"""Moments as whole microseconds since 1970, which numpy adds up without rounding, and as the database takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psycopg import sql

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_datetime(unix_us: int) -> datetime:
    """This will turn microseconds since 1970 into an aware time."""
    return _EPOCH + timedelta(microseconds=unix_us)


def to_us(moment: datetime) -> int:
    """This will turn an aware time into microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def literal(unix_us: int) -> sql.Composable:
    """This will write a moment into a statement, for those that take no parameters."""
    return sql.SQL("{}::timestamptz").format(sql.Literal(to_datetime(unix_us).isoformat()))


def as_us(column: str) -> sql.Composable:
    """This will select a timestamptz column as microseconds since 1970."""
    return sql.SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(sql.Identifier(column))
