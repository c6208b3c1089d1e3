"""Secrets at rest: sealed with a key that is not in the database, so that a copy of the database gives none away.

AES-256-GCM; what a secret is for is sealed with it, so that one cannot be put in the place of another.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_plane.model.errors import ConfigurationError, Conflict

VERSION, NONCE_BYTES, KEY_BYTES = "s1", 12, 32


class SealBroken(Conflict):
    """A secret cannot be sealed or opened here; the text says what to do."""


class Sealer:
    """Seals and opens with one key, which is looked for when it is first needed."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        """`key` gives a key of any length, or raises ConfigurationError; what is used of it is its SHA-256."""
        self._find_key = key
        self._found: tuple[AESGCM, str] | None = None

    def _key(self) -> tuple[AESGCM, str]:
        """This will give the cipher and the name of its key. Raises SealBroken."""
        if self._found is None:
            try:
                digest = hashlib.sha256(self._find_key()).digest()
            except ConfigurationError as error:
                raise SealBroken(f"secrets cannot be sealed here: {error}; set OPTIINFRA_SECRET_KEY") from error
            self._found = AESGCM(digest), hashlib.sha256(b"key id" + digest).hexdigest()[:8]
        return self._found

    def seal(self, secret: str, purpose: str) -> str:
        """This will seal a secret for one purpose. Raises SealBroken."""
        cipher, key_id = self._key()
        nonce = os.urandom(NONCE_BYTES)
        sealed = cipher.encrypt(nonce, secret.encode(), purpose.encode())
        return f"{VERSION}.{key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, purpose: str) -> str:
        """This will give the secret. Raises SealBroken."""
        cipher, own_id = self._key()
        version, _, rest = sealed.partition(".")
        key_id, _, content = rest.partition(".")
        if version != VERSION or key_id != own_id:
            raise SealBroken(
                "a secret was sealed with another key; give it again, or let all replicas have one OPTIINFRA_SECRET_KEY"
            )
        try:
            raw = base64.urlsafe_b64decode(content)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise SealBroken("a sealed secret is damaged; give it again") from error


def key_of(path: Path) -> bytes:
    """This will take the key that a file holds; without one it is made, for its owner alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror})") from error
    else:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from error
    if len(key) < KEY_BYTES:
        raise ConfigurationError(f"{path} is cut short")
    return key
