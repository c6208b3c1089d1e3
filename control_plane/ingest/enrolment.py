"""How agents come to certificates, and who may use the stream: the only judge of identities."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from control_plane.ingest import authority, wire
from control_plane.ingest.authority import AgentIdentity, Authority, RefusedRequest
from control_plane.model.enrolment import Applicant, JoinToken
from control_plane.model.errors import ConfigurationError, StorageUnavailable
from control_plane.runtime.clock import Clock
from control_plane.storage import enrolments
from control_plane.storage.enrolments import NotEnrolled
from control_plane.storage.session import Database, storage_errors
from optiinfra.telemetry.v1 import enrolment_pb2, enrolment_pb2_grpc

log = logging.getLogger(__name__)

TOKEN_VERSION = "oi1"  # noqa: S105 - the form's name, no secret
SECRET_BYTES = 24  # 192 bits: nobody guesses it at any rate
MOST_TOKEN_LENGTH = 256
# Enrolments a second, and at once: a fleet of a thousand is in within two minutes, a flood costs a few signatures.
ENROLMENTS_PER_SECOND, ENROLMENTS_AT_ONCE = 10.0, 40.0
# One sentence for every wrong token, so that nobody learns which part was right.
WRONG_TOKEN = "the join token is not valid: unknown, expired, used up, or for another node; make a new one"  # noqa: S105
NOT_IN_FORCE = (
    "the certificate is no longer in force: the node was forgotten, or enrolled again elsewhere; use a new join token"
)

Context = grpc.aio.ServicerContext[Any, Any]


class NotAdmitted(Exception):
    """An agent that cannot show that it is who it says; the text is for its log."""


class Pace:
    """A bucket of permissions that fills with time."""

    def __init__(self, clock: Clock, *, per_second: float, at_once: float) -> None:
        """Full at first."""
        self._clock, self._per_second, self._at_once = clock, per_second, at_once
        self._left, self._filled_at = at_once, clock.monotonic()

    def take(self) -> bool:
        """This will take a permission, or say that there is none now."""
        now = self._clock.monotonic()
        self._left = min(self._at_once, self._left + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What an agent's certificate says of its stream."""

    enrolment_id: str
    lasts_seconds: float


def shown_identity(context: Context) -> AgentIdentity | None:
    """This will give whom the client's certificate names; TLS has checked it against our authority and its dates."""
    for uri in context.auth_context().get("x509_subject_alternative_name", ()):
        if (identity := AgentIdentity.of(uri.decode("utf-8", "replace"))) is not None:
            return identity
    return None


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServicer):
    """Gives certificates for join tokens, renews them, and admits streams by them."""

    def __init__(self, database: Database, clock: Clock, signer: Authority, *, life: timedelta) -> None:
        """`life` is how long a certificate lasts; agents renew at half of it."""
        self._database = database
        self._clock = clock
        self._authority = signer
        self._life = life
        self._pace = Pace(clock, per_second=ENROLMENTS_PER_SECOND, at_once=ENROLMENTS_AT_ONCE)
        self.enrolment_port = 0  # known when it listens

    def credentials(self, *, require_certificate: bool) -> grpc.ServerCredentials:
        """This will give what a port of ours speaks TLS with."""
        key, chain = self._authority.server_pair()
        return grpc.ssl_server_credentials(
            [(key, chain)],
            root_certificates=self._authority.ca_pem if require_certificate else None,
            require_client_auth=require_certificate,
        )

    async def create_token(self, *, lifetime: timedelta, max_uses: int, node_name: str | None) -> JoinToken:
        """This will make a join token. Its text is in the answer and nowhere else."""
        secret, now = secrets.token_urlsafe(SECRET_BYTES), self._clock.now()
        expires_at = now + lifetime
        await enrolments.add_token(
            self._database.engine,
            digest=_digest(secret),
            node_name=node_name,
            max_uses=max_uses,
            now=now,
            expires_at=expires_at,
        )
        token = f"{TOKEN_VERSION}.{self.enrolment_port}.{secret}.{self._authority.fingerprint}"
        return JoinToken(token=token, expires_at=expires_at, max_uses=max_uses, node_name=node_name)

    def shown(self, context: Context, agent_id: str) -> Shown:
        """This will read the certificate that a stream came with; whether it is in force, the database knows.

        Raises NotAdmitted.
        """
        identity = shown_identity(context)
        if identity is None:
            raise NotAdmitted("this port takes agents with a certificate only; enrol the node with a join token")
        if identity.agent_id != agent_id:
            raise NotAdmitted("the certificate is another agent's; does this host share a state folder with another?")
        certificate = b"".join(context.auth_context().get("x509_pem_cert", ()))
        lasts_seconds = (authority.expiry(certificate) - self._clock.now()).total_seconds()
        return Shown(enrolment_id=identity.enrolment_id, lasts_seconds=lasts_seconds)

    async def Enrol(self, request: enrolment_pb2.EnrolRequest, context: Context) -> enrolment_pb2.Enrolled:
        """This will give a certificate for a join token."""
        if not self._pace.take():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many enrolments at once; try again")
        try:
            key = authority.public_key_of(request.csr_pem)
            applicant = _applicant(request, authority.key_digest(key))
        except RefusedRequest as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        outcome = await self._enrolled(applicant, request.join_token, context)
        if outcome is NotEnrolled.TOKEN:
            log.warning("an enrolment of %s with a wrong join token was refused", applicant.node_name)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, WRONG_TOKEN)
        if outcome is NotEnrolled.OTHER_KEY:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                "this agent is enrolled with another key; forget its node first, or make a join token for its name",
            )
        log.info("node %s is enrolled as agent %s", applicant.node_name, applicant.agent_id)
        return self._answer(key, AgentIdentity(agent_id=applicant.agent_id, enrolment_id=str(outcome)))

    async def Renew(self, request: enrolment_pb2.RenewRequest, context: Context) -> enrolment_pb2.Enrolled:
        """This will give an agent that has a certificate in force its next one."""
        identity = shown_identity(context)
        try:
            key = authority.public_key_of(request.csr_pem)
            if identity is None:
                raise NotAdmitted("only who has a certificate can renew it; enrol with a join token")
            known = await self._key_in_force(identity)
        except RefusedRequest as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except NotAdmitted as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except StorageUnavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the database does not answer")
        if not hmac.compare_digest(known, authority.key_digest(key)):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "a renewal is for the key that was enrolled")
        return self._answer(key, identity)

    async def _enrolled(self, applicant: Applicant, token: str, context: Context) -> str | NotEnrolled:
        secret = token.split(".")[2] if token.count(".") == 3 and len(token) <= MOST_TOKEN_LENGTH else ""
        try:
            with storage_errors():
                return await enrolments.enrol(
                    self._database.engine,
                    applicant,
                    digest=_digest(secret),
                    enrolment_id=uuid.uuid4().hex,
                    now=self._clock.now(),
                )
        except StorageUnavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the database does not answer; try again")

    async def _key_in_force(self, identity: AgentIdentity) -> bytes:
        with storage_errors():
            key = await enrolments.key_in_force(
                self._database.engine, agent_id=identity.agent_id, enrolment_id=identity.enrolment_id
            )
        if key is None:
            raise NotAdmitted(NOT_IN_FORCE)
        return key

    def _answer(self, key: EllipticCurvePublicKey, identity: AgentIdentity) -> enrolment_pb2.Enrolled:
        now = self._clock.now()
        return enrolment_pb2.Enrolled(
            certificate_pem=self._authority.agent_certificate(key, identity, now=now, life=self._life),
            ca_pem=self._authority.ca_pem,
            expires_at_unix_us=int((now + self._life).timestamp() * 1e6),
            valid_for_seconds=int(self._life.total_seconds()),
        )


def listen_for_enrolments(server: grpc.aio.Server, enrolment: EnrolmentService, address: str) -> None:
    """This will give certificates out at `address`. Raises ConfigurationError when the port is taken."""
    enrolment_pb2_grpc.add_EnrolmentServicer_to_server(enrolment, server)
    try:
        enrolment.enrolment_port = server.add_secure_port(address, enrolment.credentials(require_certificate=False))
    except RuntimeError as error:
        raise ConfigurationError(
            f"the enrolment port {address} is taken; choose another with --enrolment-port"
        ) from error


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _applicant(request: enrolment_pb2.EnrolRequest, key_digest: bytes) -> Applicant:
    try:
        agent_id = str(uuid.UUID(request.agent_id))
    except ValueError as error:
        raise RefusedRequest("agent_id must be a UUID") from error
    name = wire.clean_text(request.node_name, 253)  # the longest host name that DNS allows
    if agent_id != request.agent_id or not name:
        raise RefusedRequest("agent_id must be a UUID in its usual form, and node_name not empty")
    return Applicant(agent_id=agent_id, node_name=name, key_digest=key_digest)
