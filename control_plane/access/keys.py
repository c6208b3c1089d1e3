"""API keys: made once, shown once, kept as a digest.

A key is `oik_<id>_<secret>`. The id names its row and may be shown; the secret has 256 random bits, so its SHA-256 is
as good as a slow hash would be, at no cost per request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from control_plane.model.access import ApiKey, NewApiKey, Scope
from control_plane.model.errors import InvalidRequest

PREFIX = "oik"
ID_BYTES, SECRET_BYTES = 6, 32
MOST_KEY_LENGTH = 256
MOST_LIFE = timedelta(days=3650)
USUAL_LIFE = timedelta(days=90)
LONGEST_NAME = 128


def make(*, name: str, scopes: Iterable[Scope], life: timedelta, created_by: str, now: datetime) -> NewApiKey:
    """This will make a key. Raises InvalidRequest for one that opens nothing, has no name, or does not expire."""
    opened = frozenset(scopes)
    if not opened:
        raise InvalidRequest(f"a key needs at least one scope of {', '.join(Scope)}")
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"a key needs a name of at most {LONGEST_NAME} printable characters: who or what uses it")
    if not timedelta(0) < life <= MOST_LIFE:
        raise InvalidRequest(f"a key lives for at most {MOST_LIFE.days} days")
    key_id = secrets.token_hex(ID_BYTES)
    text = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    key = ApiKey(
        key_id=key_id,
        name=name.strip(),
        digest=digest(text),
        scopes=opened,
        created_at=now,
        created_by=created_by,
        expires_at=now + life,
    )
    return NewApiKey(key=key, text=text)


def digest(text: str) -> bytes:
    """This will give what is stored of a key."""
    return hashlib.sha256(text.encode()).digest()


def is_key(text: str) -> bool:
    """This will say whether a credential has the form of a key."""
    return text.startswith(f"{PREFIX}_")


def key_id_of(text: str) -> str | None:
    """This will give the id in a key; None when it has not the form of one."""
    parts = text.split("_", 2)
    if len(text) > MOST_KEY_LENGTH or len(parts) != 3 or parts[0] != PREFIX or not parts[2]:
        return None
    return parts[1] if len(parts[1]) == 2 * ID_BYTES and set(parts[1]) <= set("0123456789abcdef") else None


def fits(text: str, key: ApiKey) -> bool:
    """This will say whether this is the key, in the same time whatever is wrong with it."""
    return hmac.compare_digest(digest(text), key.digest)
