"""The certificate authority of one control plane: its key never leaves its folder, and signs nothing else.

Curve and digest are P-256 and SHA-256: what every TLS library has, and small.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from control_plane.model.errors import ConfigurationError, OptiInfraError

# What agents expect in a control plane's certificate, wherever it listens: only this authority can have
# signed it, and the authority is known by its fingerprint, so addresses would add nothing but mistakes.
SERVER_NAME = "control-plane.optiinfra.internal"
AGENT_URI = "spiffe://optiinfra/agent/"
AUTHORITY_LIFE = timedelta(days=3650)
# A node's clock may be behind when it first looks at us.
BACKDATED = timedelta(days=1)
# One of P-256 has some 400 bytes; an RSA key of 4096 bits would make it 1,600.
MOST_CSR_BYTES = 4096


class RefusedRequest(OptiInfraError):
    """A certificate signing request cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """Whom a certificate names."""

    agent_id: str
    enrolment_id: str

    @property
    def uri(self) -> str:
        """This will give the name as it stands in the certificate."""
        return f"{AGENT_URI}{self.agent_id}/{self.enrolment_id}"

    @classmethod
    def of(cls, uri: str) -> AgentIdentity | None:
        """This will read such a name; None when it is none."""
        agent_id, slash, enrolment_id = uri.removeprefix(AGENT_URI).partition("/")
        if not uri.startswith(AGENT_URI) or not agent_id or not slash or not enrolment_id:
            return None
        return cls(agent_id=agent_id, enrolment_id=enrolment_id)


def public_key_of(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """This will give the key that a request proves to have. Raises RefusedRequest."""
    if len(csr_pem) > MOST_CSR_BYTES:
        raise RefusedRequest(f"the signing request has {len(csr_pem)} bytes; {MOST_CSR_BYTES} are the most")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        key, good = csr.public_key(), csr.is_signature_valid
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RefusedRequest("the signing request cannot be read") from error
    if not good or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RefusedRequest("the signing request must be signed by its own P-256 key")
    return key


def key_digest(key: ec.EllipticCurvePublicKey) -> bytes:
    """This will give what a key is recognised by."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def expiry(certificate_pem: bytes) -> datetime:
    """This will give when a certificate ends."""
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc


class Authority:
    """Signs agents' certificates, and its own control plane's."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        """Use `open`."""
        self._key = key
        self._certificate = certificate
        self.ca_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex()

    @classmethod
    def open(cls, folder: Path, now: datetime) -> Authority:
        """This will read the authority of `folder`, or make one there. Raises ConfigurationError."""
        key_file, certificate_file = folder / "ca.key", folder / "ca.pem"
        try:
            if not key_file.exists():
                _make(key_file, certificate_file, now)
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"the certificate authority in {folder}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigurationError(
                f"the certificate authority in {folder} cannot be read; restore its two files, or remove them: "
                "a new one is made then, and every agent has to enrol again"
            ) from error
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        if key.public_key() != certificate.public_key():
            raise ConfigurationError(f"{key_file} and {certificate_file} do not belong together; restore both")
        return cls(key, certificate)

    def server_pair(self) -> tuple[bytes, bytes]:
        """This will make a key and a chain for the doors. The key stays in memory: each start makes its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(SERVER_NAME, key.public_key())
            .not_valid_before(self._certificate.not_valid_before_utc)
            .not_valid_after(self._certificate.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return _private_pem(key), certificate.public_bytes(serialization.Encoding.PEM) + self.ca_pem

    def agent_certificate(
        self, key: ec.EllipticCurvePublicKey, identity: AgentIdentity, *, now: datetime, life: timedelta
    ) -> bytes:
        """This will sign an agent's certificate. It began a day ago: our clock may be set back."""
        certificate = (
            self._builder(identity.agent_id, key)
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + life)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _make(key_file: Path, certificate_file: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("OptiInfra"))
        .issuer_name(_name("OptiInfra"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    unfinished = key_file.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    # Nobody else may read it, not even for the moment between making and a chmod.
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_private_pem(key))
    unfinished.replace(key_file)  # last: a folder with a key is whole
