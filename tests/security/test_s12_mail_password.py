"""S12: read the password of the mail server on a connection without encryption."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controller.mails.smtp import MailError, MailServer, SmtpMailer

PASSWORD = "a-secret-password"


@asynccontextmanager
async def a_listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A mail server that offers a login without encryption, and keeps every line that it receives."""
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ESMTP\r\n")
        while line := await reader.readline():
            lines.append(line)
            is_hello = line.upper().startswith(b"EHLO")
            writer.write(b"250-mail\r\n250 AUTH PLAIN\r\n" if is_hello else b"235 2.7.0 OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], lines


async def test_a_password_is_never_sent_without_encryption() -> None:
    async with a_listener() as (port, lines):
        secret = {
            "host": "127.0.0.1",
            "port": str(port),
            "tls": "none",
            "username": "u",
            "password": PASSWORD,
        }
        data = {key: value.encode() for key, value in secret.items()}

        with pytest.raises(MailError) as refused:
            await SmtpMailer().check(MailServer.read("smtp", data))

    sent = [base64.b64decode(line.split()[-1]) for line in lines if line.upper().startswith(b"AUTH")]
    assert not any(PASSWORD.encode() in each for each in sent)
    assert refused.value.reason == "MailSettingsInvalid"
    assert "encryption" in str(refused.value)
    assert PASSWORD not in str(refused.value)
