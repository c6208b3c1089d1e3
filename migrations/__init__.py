"""Alembic migrations: expand, backfill or contract, one kind per file, each with a lock timeout."""
