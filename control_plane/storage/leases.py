"""Leases: which replica does a job that only one may do at a time.

Safety never depends on clocks: who writes under a lease proves in the same transaction that its token
is still the newest. The expiry only decides how soon another replica takes over from one that died.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.storage.session import SyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to do one job, until somebody else gets it."""

    name: str
    token: int


def acquire(connection: SyncConnection, name: str, *, holder: str, now: datetime, lifetime: timedelta) -> Lease | None:
    """This will take or renew the lease called `name`; None while another holder has it. Needs autocommit mode.

    It never waits: a row that its holder has locked is a lease that is in use.
    """
    connection.execute("INSERT INTO job_lease VALUES (%s, '', 0, '-infinity') ON CONFLICT DO NOTHING", (name,))
    row = connection.execute(
        "UPDATE job_lease l SET holder = %(holder)s, expires_at = %(until)s, "
        "token = token + CASE WHEN holder = %(holder)s THEN 0 ELSE 1 END "
        "FROM (SELECT name FROM job_lease WHERE name = %(name)s AND (holder = %(holder)s OR expires_at <= %(now)s) "
        "FOR UPDATE SKIP LOCKED) free WHERE l.name = free.name RETURNING l.token",
        {"holder": holder, "until": now + lifetime, "name": name, "now": now},
    ).fetchone()
    return None if row is None else Lease(name=name, token=row[0])


def still_mine(connection: SyncConnection, lease: Lease) -> bool:
    """This will say whether the lease is still the caller's, and keep it so until its transaction ends."""
    row = connection.execute(
        "SELECT 1 FROM job_lease WHERE name = %s AND token = %s FOR UPDATE", (lease.name, lease.token)
    ).fetchone()
    return row is not None


def release(connection: SyncConnection, name: str, *, holder: str) -> None:
    """This will let another replica take over at once; does nothing when the lease is not `holder`'s."""
    connection.execute(
        "UPDATE job_lease SET holder = '', expires_at = '-infinity' WHERE name = %s AND holder = %s", (name, holder)
    )
