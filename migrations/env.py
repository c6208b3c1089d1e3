"""Alembic's entry: runs migrations on the connection that control_plane.storage.migrations hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

# A migration that cannot get its lock at once must fail and be tried again, not queue up behind a
# long query and block every writer behind itself.
LOCK_TIMEOUT = "5s"


_CONTRACT = (
    "SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace "
    "AND relname LIKE 'optiinfra\\_%'"
)


def run() -> None:
    """This will run the pending migrations in one transaction each."""
    connection = context.config.attributes["connection"]
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    if context.get_revision_argument() not in ("head", "heads"):  # a way back: views hold the tables as they are
        names = connection.scalars(text(_CONTRACT)).all()
        for name in names:
            connection.execute(text(f'DROP VIEW "{name}"'))
        connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


run()
