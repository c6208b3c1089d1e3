"""Certificates for simulated nodes, signed by the control plane's own authority, without ten thousand enrolments.

The door then admits each as it admits any agent: by a certificate of its own that is in force. One key serves all:
making ten thousand would measure nothing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import psycopg
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.ingest.authority import AgentIdentity, Authority, key_digest

LIFE = timedelta(hours=24)


def agent_id(number: int) -> str:
    """This will give the id of a simulated node's agent."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"bench-{number}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """What the simulated nodes show at the door."""

    ca_pem: bytes
    key_pem: bytes
    certificates: dict[int, bytes]

    def credentials(self, number: int) -> grpc.ChannelCredentials:
        """This will give a node's credentials."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.certificates[number])

    @classmethod
    def read(cls, path: Path) -> Identities:
        """This will read what `certify` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            ca_pem=found["ca"].encode(),
            key_pem=found["key"].encode(),
            certificates={int(number): pem.encode() for number, pem in found["certificates"].items()},
        )


def certify(path: Path, authority: Authority, database_url: str, numbers: Sequence[int]) -> None:
    """This will enrol nodes in the database and write their certificates to `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(tz=UTC)
    certificates, rows = {}, []
    for number in numbers:
        identity = AgentIdentity(agent_id=agent_id(number), enrolment_id=uuid.uuid4().hex)
        pem = authority.agent_certificate(key.public_key(), identity, now=now, life=LIFE)
        certificates[str(number)] = pem.decode()
        rows.append((identity.agent_id, identity.enrolment_id, f"bench-{number:05d}"))
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO enrolment (agent_id, enrolment_id, node_name, key_digest, token_id, enrolled_at) "
            "VALUES (%s, %s, %s, %s, 0, %s)",
            [(*row, key_digest(key.public_key()), now) for row in rows],
        )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    path.write_text(
        json.dumps({"ca": authority.ca_pem.decode(), "key": pem.decode(), "certificates": certificates}),
        encoding="utf-8",
    )
