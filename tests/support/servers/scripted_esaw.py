"""
An eSAW that answers exactly the bytes a test wants, on a loopback socket, and a clock that a test holds in
its hand.

For the wire's bad habits, which no decent server library can be made to have; good behaviour is the
stand-in's part.
"""

import asyncio
import contextlib
import ipaddress
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from counterfoil.esaw import ApiToken, CallLimits, EsawClient, EsawUserClient, new_http_client
from tests.support.builders import AClock

TOKEN = "Tq7" + "x" * 60 + "9Zk"
ENVELOPE = "0f9c1c2e-1111-2222-3333-444455556666"
START = datetime(2026, 7, 2, 10, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Received:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


class ScriptedServer:
    """Answers the first request by the first script, and so on; the last script goes for all that follow."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.received: list[Received] = []
        self.arrived = asyncio.Event()
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                self.received.append(await read_request(reader))
                self.arrived.set()
                await (self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])(writer)
                if not writer.is_closing():
                    await writer.drain()
        writer.close()


async def read_request(reader: asyncio.StreamReader) -> Received:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = first.split(" ")
    return Received(method, target, headers, body)


@contextlib.asynccontextmanager
async def running(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    """Run a scripted server; on leaving, its running requests are ended."""
    scripted = ScriptedServer(*scripts)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(scripted.serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    scripted.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class RecordingObserver:
    """Takes down what the client tells the metrics."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []

    def __call__(self, operation: str, code: str, seconds: float) -> None:
        self.calls.append((operation, code, seconds))

    @property
    def codes(self) -> list[tuple[str, str]]:
        return [(operation, code) for operation, code, _ in self.calls]


@dataclass(frozen=True)
class ClientSetup:
    """A client and what surrounds it."""

    esaw: EsawClient
    server: ScriptedServer
    clock: AClock
    observer: RecordingObserver

    @property
    def user(self) -> EsawUserClient:
        return self.esaw.as_user(ApiToken.parse(TOKEN, self.esaw.origin))


@contextlib.asynccontextmanager
async def against(
    *scripts: Script,
    call_limits: CallLimits | None = None,
    clock: AClock | None = None,
    rate: float | None = None,
    path: str = "",
) -> AsyncIterator[ClientSetup]:
    """A client of a scripted server."""
    clock, observer = clock or AClock(START), RecordingObserver()
    async with running(*scripts) as server, new_http_client() as http:
        esaw = EsawClient(
            server.url + path,
            http=http,
            clock=clock,
            requests_per_second=rate,
            observe=observer,
            call_limits=call_limits,
        )
        yield ClientSetup(esaw, server, clock, observer)


def sending(*pieces: bytes) -> Script:
    """Send these bytes as they are, and keep the connection."""

    async def send(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return send


def then_closing(script: Script) -> Script:
    """Do as the script says, then close in good order."""

    async def send_and_close(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        writer.close()

    return send_and_close


def then_cutting(script: Script) -> Script:
    """Do as the script says, then reset the connection."""

    async def send_and_cut(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        # Without lingering the kernel sends a reset; else it would be an orderly end.
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    return send_and_cut


async def silence(_: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def head(status: int = 200, **headers: str | int) -> bytes:
    """The head of an answer; ``content_length`` stands for ``Content-Length``."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status} Reason\r\n{''.join(lines)}\r\n".encode("latin-1")


def answering(body: bytes | Any, status: int = 200, **headers: str | int) -> Script:
    """A well-formed answer; what is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sending(head(status, content_length=len(raw), **headers) + raw)


def an_envelope(**changes: Any) -> dict[str, Any]:
    """``GET envelope/{id}``; a change to ``...`` leaves the field out."""
    answer = {
        "Id": ENVELOPE,
        "EnvelopeStatus": "Completed",
        "Name": "Lease",
        "SentDate": "2026-07-02T10:00:00Z",
        "EnvelopeBulkParentId": None,
        "Activities": [
            {
                "Id": "a1",
                "Status": "Completed",
                "FinishedDate": "2026-07-02T11:00:00Z",
                "Action": {"Sign": {}},
            }
        ],
        "SenderUserInformation": {"Email": "sender@example.com", "GivenName": "Sina", "Surname": "Sender"},
    }
    return {name: value for name, value in {**answer, **changes}.items() if value is not ...}


async def whole_file(user: EsawUserClient, file_id: str = "f1") -> bytes:
    """All of a file."""
    async with user.download(file_id) as file:
        return b"".join([chunk async for chunk in file.chunks])


def server_tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A TLS server for 127.0.0.1 that nobody trusts, and a client that does."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an eSAW on premise")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))
