"""The HTTP door of a whole control plane: keys, HTTPS, and connections that mean no good."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from control_plane.api import server
from tests.support.up import Up, eventually, folder_for_postgres, optiinfra, running

OFTEN = "--sampling-interval-seconds=0.5"


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed pair for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


class Guarded:
    """A control plane with keys and HTTPS."""

    def __init__(self, up: Up, certificate: Path) -> None:
        self.up = up
        self.trusted = ssl.create_default_context(cafile=str(certificate))

    def ask(self, path: str, key: str | None = None, method: str = "GET") -> tuple[int, Any, Mapping[str, str]]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"https://localhost:{self.up.port}{path}", headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.trusted) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error), error.headers


class HttpsUp(Up):
    """It asks its readiness over HTTPS."""

    def _url(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with folder_for_postgres() as folder:
        certificate, private = write_certificate(folder, "first")
        up = HttpsUp(
            folder, OFTEN, "--auth=on", f"--tls-cert-file={certificate}", f"--tls-key-file={private}",
        )  # fmt: skip
        context = ssl.create_default_context(cafile=str(certificate))
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        urllib.request.install_opener(opener)
        up.start()
        try:
            eventually(up.is_ready, within_seconds=60, what=f"readiness\n{up.output}")
            yield Guarded(up, certificate)
        finally:
            urllib.request.install_opener(urllib.request.build_opener())
            up.stop()


def make_key(up: Up, *arguments: str) -> str:
    made = optiinfra("keys", "create", f"--data-dir={up.data_dir}", *arguments, cwd=up.folder)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_the_first_key_is_made_at_the_command_line_and_opens_what_it_says(guarded: Guarded) -> None:
    assert guarded.ask("/health")[0] == 200
    assert guarded.ask("/nodes")[0] == 401
    key = make_key(guarded.up, "--name=ci", "--scopes=read")
    status, nodes, headers = guarded.ask("/nodes", key)
    assert status == 200
    assert nodes["items"]
    assert headers["strict-transport-security"]
    assert guarded.ask("/audit", key)[0] == 403
    listed = optiinfra("keys", "list", "--json", f"--data-dir={guarded.up.data_dir}", cwd=guarded.up.folder)
    (shown,) = [k for k in json.loads(listed.stdout) if k["name"] == "ci"]
    assert key not in listed.stdout
    gone = optiinfra("keys", "revoke", shown["key_id"], f"--data-dir={guarded.up.data_dir}", cwd=guarded.up.folder)
    assert gone.returncode == 0
    eventually(lambda: guarded.ask("/nodes", key)[0] == 401, what="the end of the key")


def test_the_trail_names_who_made_a_key_at_the_command_line(guarded: Guarded) -> None:
    key = make_key(guarded.up, "--name=auditor", "--scopes=admin")
    entries = guarded.ask("/audit?operation=api_key_create", key)[1]["items"]
    assert entries[0]["caller"]["kind"] == "command_line"
    assert entries[0]["after"]["name"] == "auditor"
    assert key.rpartition("_")[2] not in json.dumps(entries)


def test_up_says_that_keys_are_needed_and_still_shows_what_it_found(guarded: Guarded) -> None:
    eventually(lambda: "  stop         Ctrl-C" in guarded.up.output, what="the greeting")
    assert "  keys         needed; `optiinfra keys create` makes one\n" in guarded.up.output
    assert f"  ready        https://localhost:{guarded.up.port}/dashboard, " in guarded.up.output
    assert "no sample yet" not in guarded.up.output


def test_the_command_line_presents_its_key_over_https(guarded: Guarded) -> None:
    key = make_key(guarded.up, "--name=me", "--scopes=admin")
    flags = [a for a in guarded.up.arguments if not a.startswith(OFTEN)]
    without = optiinfra("join-token", *flags, cwd=guarded.up.folder)
    assert without.returncode == 1
    assert "optiinfra keys create" in without.stderr
    with_key = optiinfra("join-token", *flags, cwd=guarded.up.folder, OPTIINFRA_API_KEY=key)
    assert "agents need no certificate here" in with_key.stderr  # let in, and told so


def test_plain_http_is_not_answered_where_there_is_a_certificate(guarded: Guarded) -> None:
    with socket.create_connection(("127.0.0.1", guarded.up.port), timeout=10) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionError):
            assert not plain.recv(100).startswith(b"HTTP/1.1 2")


def test_files_that_are_no_certificate_refuse_the_start_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("no certificate")
    (tmp_path / "k.pem").write_text("no key")
    answer = optiinfra(
        "up", f"--data-dir={tmp_path / 'd'}", "--tls-cert-file=c.pem", "--tls-key-file=k.pem", "--port=1", cwd=tmp_path
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("optiinfra: tls_cert_file")
    assert len(answer.stderr.splitlines()) == 1


# -- connections that mean no good ----------------------------------------------------------------


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with folder_for_postgres() as path, running(Up(path, OFTEN)) as started:
        yield started


def connect(up: Up) -> socket.socket:
    return socket.create_connection(("127.0.0.1", up.port), timeout=30)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health?x=" + b"a" * (server.MOST_HEAD_BYTES + 1000) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: " + b"b" * 70_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 40_000 + b"\r\n",
    ],
    ids=["target", "header", "headers"],
)
def test_a_head_without_end_is_refused(up: Up, head: bytes) -> None:
    with connect(up) as client:
        try:
            client.sendall(head)
            answer = client.recv(1000)
        except ConnectionError:  # it was ended while we were still sending
            answer = b""
        assert not answer.startswith(b"HTTP/1.1 200")
    assert up.status("/health") == 200


@pytest.mark.slow
def test_who_sends_a_head_byte_by_byte_is_dropped_and_others_are_answered(up: Up) -> None:
    slow = [connect(up) for _ in range(50)]
    begun = time.monotonic()
    for client in slow[:25]:  # the other half says nothing at all
        client.sendall(b"GET /health HTTP/1.1\r\nHost: lo")
    dropped: set[int] = set()
    while len(dropped) < len(slow) and time.monotonic() - begun < server.HEAD_SECONDS * 4:
        for client in slow:
            if client.fileno() in dropped:
                continue
            client.settimeout(0.02)
            try:
                if client.recv(100) == b"":
                    dropped.add(client.fileno())
            except TimeoutError:
                pass
            except ConnectionError:
                dropped.add(client.fileno())
        assert up.status("/health") == 200
    assert len(dropped) == len(slow)
    for client in slow:
        client.close()


def test_a_kept_connection_may_rest_no_longer_than_a_moment_and_ask_again_before(up: Up) -> None:
    with connect(up) as client:
        for _ in range(3):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert answer.status == 200
            answer.read()  # head and body may come apart


def test_a_websocket_is_no_way_in(up: Up) -> None:
    with connect(up) as client:
        client.sendall(
            b"GET /nodes HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " not in client.recv(1000)


# -- the command line -----------------------------------------------------------------------------


@pytest.mark.slow
def test_status_top_and_doctor_tell_people_and_scripts_how_it_is(up: Up, tmp_path: Path) -> None:
    flags = [f"--data-dir={up.data_dir}", f"--port={up.port}"]
    for verb in ("status", "top", "doctor"):
        told = optiinfra(verb, *flags, cwd=tmp_path)
        assert "Traceback" not in told.stderr
        assert told.returncode in (0, 1, 3), told.stderr
        json.loads(optiinfra(verb, "--json", *flags, cwd=tmp_path).stdout)
    assert "connected" in optiinfra("status", *flags, cwd=tmp_path).stdout
    nobody = optiinfra("status", "--port=1", cwd=tmp_path)
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("optiinfra: no control plane answers at http://127.0.0.1:1")
    wrong = optiinfra("status", "--every=often", cwd=tmp_path)
    assert wrong.returncode == 2
