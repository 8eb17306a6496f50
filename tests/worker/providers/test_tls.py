"""Providers whose TLS is not to be trusted: no byte of the call, and no key, reaches them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.worker.providers.attempts import attempt, key, run
from tests.worker.providers.raw_server import Connection, RawServer
from worker.errors import FailureKind, ProviderError
from worker.routing_file import Dialect


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that nobody but itself has signed."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl here to make a certificate with")
    folder: Path = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


async def nothing(_connection: Connection) -> None:
    """What is never asked."""
    raise AssertionError("the request has reached a server that is not to be trusted")


async def refusal(url: str, dialect: Dialect) -> tuple[FailureKind, str, str | None]:
    with pytest.raises(ProviderError) as caught:
        await run(attempt(url, dialect), keys=key("sk-very-secret"))
    return caught.value.kind, caught.value.billed, caught.value.code


async def test_a_certificate_that_nobody_signed_is_refused_before_anything_is_sent(
    self_signed: ssl.SSLContext, dialect: Dialect
):
    async with RawServer(nothing, tls=self_signed) as server:
        assert await refusal(server.url, dialect) == (FailureKind.CONNECT_ERROR, "no", "tls")
    assert server.requests == []


async def test_a_server_without_tls_behind_an_https_address_is_no_connection(dialect: Dialect):
    async def plain(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with RawServer(plain, reads=False) as server:
        url = server.url.replace("http:", "https:")
        assert await refusal(url, dialect) == (FailureKind.CONNECT_ERROR, "no", "tls")


async def test_a_server_that_hangs_up_in_the_handshake_is_no_connection(dialect: Dialect):
    async def hang_up(connection: Connection) -> None:
        connection.writer.transport.abort()

    async with RawServer(hang_up, reads=False) as server:
        url = server.url.replace("http:", "https:")
        assert (await refusal(url, dialect))[:2] == (FailureKind.CONNECT_ERROR, "no")
