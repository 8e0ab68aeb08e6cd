"""Fixtures for tests against servers on this machine."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.s3 import BUCKET, running_s3
from tests.support.scripted import Reply, ScriptedServer


@pytest.fixture(scope="module")
def far_from_utc() -> Iterator[None]:
    """Run a module's tests as on a machine of another zone, where the local time is not UTC's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def make_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Make scripted servers that listen and are closed after the test."""
    servers: list[ScriptedServer] = []

    def make(*replies: Reply, listen: bool = True, tls: ssl.SSLContext | None = None) -> ScriptedServer:
        server = ScriptedServer(*replies, tls=tls)
        servers.append(server)
        return server.start() if listen else server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(make_server: Callable[..., ScriptedServer]) -> ScriptedServer:
    """A scripted server that listens; give it its answers with ``server.script(...)``."""
    return make_server()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[Any, Any]]:
    """Run one S3 for all tests of the process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with running_s3() as found:
        yield found


@pytest.fixture
def s3(s3_server: tuple[Any, Any]) -> tuple[Any, Any]:
    """An empty bucket: an s3fs file system, and boto3's client."""
    fs, client = s3_server
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    fs.invalidate_cache()
    return fs, client


@dataclass(frozen=True)
class Certificates:
    """A CA of our own and a server's context whose certificate it signed for 127.0.0.1."""

    ca_file: str
    context: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make a CA and a certificate for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    ca_key, ca = _certificate("Test CA")
    key, leaf = _certificate("127.0.0.1", issuer=(ca_key, ca))
    _write_pem(folder / "ca.pem", ca)
    _write_pem(folder / "server.pem", key, leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return Certificates(str(folder / "ca.pem"), context)


def _certificate(name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer_key, issuer_name = (key, subject) if issuer is None else (issuer[0], issuer[1].subject)
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is None:
        signs = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(signs, critical=True)
    else:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return key, builder.sign(issuer_key, hashes.SHA256())


def _write_pem(path: Path, *parts: object) -> None:
    from cryptography.hazmat.primitives import serialization as s

    def pem(part: Any) -> bytes:
        if hasattr(part, "private_bytes"):
            return part.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        return part.public_bytes(s.Encoding.PEM)

    path.write_bytes(b"".join(pem(part) for part in parts))
