"""Versions of what can be changed: nobody overwrites what somebody else changed in the meantime."""

from __future__ import annotations

from fastapi import Request

from control_plane.model.errors import PreconditionFailed


def tag(revision: int) -> str:
    """This will give the ETag of a revision."""
    return f'"{revision}"'


def require(request: Request, revision: int) -> bool:
    """This will say whether the caller named the revision that it changes. Raises PreconditionFailed: another one."""
    header = request.headers.get("if-match")
    if header is None:
        return False
    if not _names(header, revision):
        raise PreconditionFailed(f"it was changed in the meantime and is now {tag(revision)}; read it again")
    return header.strip() != "*"


def _names(header: str, revision: int) -> bool:
    named = {entry.strip().removeprefix("W/") for entry in header.split(",")}
    return "*" in named or tag(revision) in named
