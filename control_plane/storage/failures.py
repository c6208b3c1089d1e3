"""What reading can fail with, for those who may not know the driver."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

# Every read of this package raises it, or a part of it, when the database does not play along.
DatabaseError = SQLAlchemyError


def is_away(error: SQLAlchemyError) -> bool:
    """This will tell a database that does not answer from one that refuses a question.

    A connection that was never made is an OperationalError without an SQLSTATE; a pool that has
    none free in time is no DBAPIError at all.
    """
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return True
    return isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) is None
