"""The agent's certificate: got once for a join token, renewed with itself at half its life.

The first contact trusts nobody but the authority whose fingerprint stands in the join token. The key never
leaves the state folder, and is logged nowhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from node_agent.clock import Clock
from node_agent.uplink.channel import CHANNEL_OPTIONS, Disconnected
from optiinfra.telemetry.v1 import enrolment_pb2, enrolment_pb2_grpc

log = logging.getLogger(__name__)

TOKEN_VERSION = "oi1"  # noqa: S105 - the form's name, no secret
# Every control plane's certificate carries this name: its authority is what is checked, not where it listens.
SERVER_NAME = "control-plane.optiinfra.internal"
ANSWER_SECONDS = 10.0
# Making a key takes 0.2 s, most of it for loading the library; a host that is out of memory takes longer.
KEY_SECONDS = 60.0
# A renewal that fails is tried again with this much of the life that is left.
RETRY_SHARE = 0.25
LEAST_RETRY_SECONDS = 1.0
# A token that was refused stays refused until somebody makes another: no reason to knock often.
REFUSED_RETRY_SECONDS = 60.0


class BadToken(Exception):
    """A join token that cannot be one; the text does not repeat it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A join token and what it says of the control plane that made it."""

    text: str
    port: int
    fingerprint: str  # SHA-256 of its authority's certificate

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """This will read a token's parts. Raises BadToken."""
        version, _, rest = text.partition(".")
        port, _, rest = rest.partition(".")
        secret, _, fingerprint = rest.partition(".")
        whole = version == TOKEN_VERSION and secret and port.isdecimal() and 0 < int(port) < 65536
        if not whole or len(fingerprint) != 64 or set(fingerprint) - set("0123456789abcdef"):
            raise BadToken("this is no join token of this release; copy it whole, from oi1. to its end")
        return cls(text=text, port=int(port), fingerprint=fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What is kept in the state folder."""

    key_pem: bytes
    csr_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes
    renew_at: float  # this host's wall clock, seconds since 1970
    expires_at: float

    def channel(self, server: str) -> grpc.aio.Channel:
        """This will open a channel on which both sides prove who they are."""
        return _channel(server, self.ca_pem, self.key_pem, self.certificate_pem)


class CertifiedDoor:
    """Opens channels with a certificate in force, enrolling or renewing first where that is due."""

    def __init__(
        self, server: str, folder: Path, clock: Clock, *, agent_id: str, node_name: str, token: Callable[[], str]
    ) -> None:
        """`folder` holds the key; `token` gives the join token as it is now, empty for none."""
        self._server = server
        self._folder = folder
        self._clock = clock
        self._agent_id, self._node_name = agent_id, node_name
        self._token = token
        self._kept: Credentials | None = None
        self._not_before = 0.0  # of the next try to renew
        self._refused = False

    async def open(self) -> grpc.aio.Channel:
        """This will give a channel for a stream. Raises Disconnected with what is missing."""
        kept = self._kept or _load(self._folder)
        now = self._now()
        if kept is None or now >= kept.expires_at or self._refused:
            kept = await self._enrol(kept, now)
        elif now >= max(kept.renew_at, self._not_before):
            kept = await self._renew(kept, now)
        self._kept = kept
        return kept.channel(self._server)

    def seconds_until_renewal(self) -> float:
        """This will say how long the stream that was opened last may stay."""
        assert self._kept is not None
        return max(0.0, max(self._kept.renew_at, self._not_before) - self._now())

    def refused(self) -> None:
        """This will note that the control plane does not take this certificate any more."""
        self._refused = True

    def _now(self) -> float:
        return self._clock.now().wall.timestamp()

    async def _enrol(self, old: Credentials | None, now: float) -> Credentials:
        text = self._token().strip()
        if not text:
            why = "this agent is not enrolled"
            if old is not None:
                why = (
                    "the control plane refuses this agent's certificate" if self._refused else "the certificate expired"
                )
            raise Disconnected(
                f"{why}; make a join token and set OPTIINFRA_JOIN_TOKEN", retry_after_seconds=REFUSED_RETRY_SECONDS
            )
        try:
            token = JoinToken.parse(text)
        except BadToken as error:
            raise Disconnected(str(error), retry_after_seconds=REFUSED_RETRY_SECONDS) from error
        door = f"{self._server.rpartition(':')[0]}:{token.port}"
        ca_pem = await asyncio.to_thread(authority_of, door, token.fingerprint)
        try:
            key_pem, csr_pem = (old.key_pem, old.csr_pem) if old else await _key_of(self._folder)
        except OSError as error:
            raise Disconnected(f"the key cannot be kept in {self._folder}: {error.strerror}") from error
        async with _channel(door, ca_pem) as channel:
            request = enrolment_pb2.EnrolRequest(
                join_token=text, csr_pem=csr_pem, agent_id=self._agent_id, node_name=self._node_name
            )
            answer = await _asked(enrolment_pb2_grpc.EnrolmentStub(channel).Enrol(request, timeout=ANSWER_SECONDS))
        kept = _credentials(key_pem, csr_pem, ca_pem, answer, now)
        _store(self._folder, kept)
        self._refused = False
        log.info("enrolled; the certificate lasts %d s and renews itself", answer.valid_for_seconds)
        return kept

    async def _renew(self, kept: Credentials, now: float) -> Credentials:
        """This will get the next certificate; while there is none, the present one goes on."""
        try:
            async with kept.channel(self._server) as channel:
                request = enrolment_pb2.RenewRequest(csr_pem=kept.csr_pem)
                answer = await _asked(enrolment_pb2_grpc.EnrolmentStub(channel).Renew(request, timeout=ANSWER_SECONDS))
        except Disconnected as error:
            self._not_before = now + max(LEAST_RETRY_SECONDS, RETRY_SHARE * (kept.expires_at - now))
            log.warning("the certificate could not be renewed (%s); tried again later", error)
            return kept
        renewed = _credentials(kept.key_pem, kept.csr_pem, kept.ca_pem, answer, now)
        _store(self._folder, renewed)
        log.info("the certificate is renewed")
        return renewed


def authority_of(door: str, fingerprint: str) -> bytes:
    """This will fetch the authority that the door presents and give it if it is the expected one.

    Raises Disconnected: nothing has been sent by then, the join token least of all.
    """
    host, _, port = door.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what is trusted is decided below, by the fingerprint
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS) as plain,
            context.wrap_socket(plain) as secure,
        ):
            chain = _presented(secure)
    except OSError as error:
        raise Disconnected(f"{door} cannot be reached for enrolment: {error.strerror or error}") from error
    for certificate in chain:
        if hashlib.sha256(certificate).hexdigest() == fingerprint:
            return ssl.DER_cert_to_PEM_cert(certificate).encode()
    raise Disconnected(
        f"{door} is not the control plane that made the join token: its authority is another one",
        retry_after_seconds=REFUSED_RETRY_SECONDS,
    )


def _presented(secure: ssl.SSLSocket) -> list[bytes]:
    """This will give the certificates that the peer sent. Public from Python 3.13 on, and the same call before."""
    if hasattr(secure, "get_unverified_chain"):
        return [bytes(certificate) for certificate in secure.get_unverified_chain()]
    chain = secure._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]


def _channel(
    server: str, ca_pem: bytes, key_pem: bytes | None = None, certificate_pem: bytes | None = None
) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(ca_pem, key_pem, certificate_pem)
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME))
    return grpc.aio.secure_channel(server, credentials, options=options)


async def _asked(call: grpc.aio.UnaryUnaryCall[Any, enrolment_pb2.Enrolled]) -> enrolment_pb2.Enrolled:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        passing = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        passing = passing or error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        later = None if passing else REFUSED_RETRY_SECONDS
        raise Disconnected(error.details() or error.code().name, retry_after_seconds=later) from error


def _credentials(
    key_pem: bytes, csr_pem: bytes, ca_pem: bytes, answer: enrolment_pb2.Enrolled, now: float
) -> Credentials:
    return Credentials(
        key_pem=key_pem,
        csr_pem=csr_pem,
        certificate_pem=answer.certificate_pem,
        ca_pem=ca_pem,
        renew_at=now + answer.valid_for_seconds / 2,
        expires_at=now + answer.valid_for_seconds,
    )


async def _key_of(folder: Path) -> tuple[bytes, bytes]:
    """This will give the key and the request of `folder`, made at first and kept: an answer may be lost."""
    key_file, csr_file = folder / "key.pem", folder / "csr.pem"
    if not csr_file.is_file():
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        program = (sys.executable, "-m", "node_agent.uplink.keypair", str(folder))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(*program, stderr=asyncio.subprocess.PIPE, env=environment)
        async with asyncio.timeout(KEY_SECONDS):
            _, complaint = await process.communicate()
        if process.returncode != 0:
            last = (complaint.decode("utf-8", "replace").strip() or "it was killed").splitlines()[-1]
            raise Disconnected(f"no key could be made in {folder}: {last}", retry_after_seconds=REFUSED_RETRY_SECONDS)
    return key_file.read_bytes(), csr_file.read_bytes()


def _write(path: Path, data: bytes) -> None:
    """This will write a file whole or not at all, readable by its owner only."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    unfinished.replace(path)


def _store(folder: Path, kept: Credentials) -> None:
    issued = {
        "certificate": kept.certificate_pem.decode(),
        "ca": kept.ca_pem.decode(),
        "renew_at": kept.renew_at,
        "expires_at": kept.expires_at,
    }
    try:
        _write(folder / "issued.json", json.dumps(issued).encode())  # one file: the parts belong together
    except OSError as error:
        log.warning("the certificate cannot be kept in %s: %s; a restart must enrol again", folder, error.strerror)


def _load(folder: Path) -> Credentials | None:
    try:
        issued = json.loads((folder / "issued.json").read_bytes())
        return Credentials(
            key_pem=(folder / "key.pem").read_bytes(),
            csr_pem=(folder / "csr.pem").read_bytes(),
            certificate_pem=issued["certificate"].encode(),
            ca_pem=issued["ca"].encode(),
            renew_at=float(issued["renew_at"]),
            expires_at=float(issued["expires_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
