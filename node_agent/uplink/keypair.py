"""A key and a request for its certificate. Run as a program: what it loads is gone from memory when it ends.

The library takes 11 MB, and an agent needs it once in its life.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def make(folder: Path) -> None:
    """This will make a P-256 key and a signing request in `folder`, for their owner only."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / "key.pem", key_pem)
    _write(folder / "csr.pem", csr.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, data: bytes) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    unfinished.replace(path)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
