"""
A mail server for demo and tests: real SMTP on loopback (aiosmtpd), which keeps what it takes and delivers
nothing.

It can demand STARTTLS and a login, speak TLS from the start, refuse a mail or a recipient, be slow to say
that it took one, hang up instead of that, and be away for a while; it has its own authority, whose
certificate goes into the Secret.
"""

import asyncio
import email
import email.policy
import ipaddress
import logging
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sandbox.controlplane.certificates import (
    CertificateAuthority,
    certificate_pem,
    distinguished_name,
    key_pem,
    new_key,
)

# aiosmtpd warns of one of its attributes, which nobody here uses.
logging.getLogger("mail.log").setLevel(logging.ERROR)

USERNAME, PASSWORD = "counterfoil", "a-password-of-the-sandbox"


@dataclass(frozen=True)
class ReceivedMail:
    """A mail as it arrived."""

    sender: str
    to: tuple[str, ...]
    message: EmailMessage
    raw: bytes
    encrypted: bool
    user: str | None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it had arrived, before the server answered."""

    @property
    def subject(self) -> str:
        """Its subject, decoded."""
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        """Its text part, decoded."""
        return self._part("plain")

    @property
    def html(self) -> str:
        """Its HTML part, decoded."""
        return self._part("html")

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return str(part.get_content()).replace("\r\n", "\n") if part is not None else ""


@dataclass
class SmtpBehaviour:
    """Behaviour of the server in addition to accepting mails; a test changes it at any time."""

    refuses: Callable[[str], str | None] = lambda address: None
    """By recipient: the answer to ``RCPT TO``, or None to take it."""
    refuses_data: str | None = None
    """The answer to every mail instead of taking it."""
    hangs_up: bool = False
    """Take a mail and end the connection without an answer."""
    answers: Callable[[], Awaitable[object]] | None = None
    """Is awaited between accepting a mail and responding."""
    answers_quit: bool = True
    """Or nothing at all when somebody wants to go."""


@dataclass
class SmtpServer:
    """
    The server; ``async with`` starts and ends it.

    ``login``: demand one. ``tls``: ``starttls`` (demanded), ``implicit`` or ``none``.
    """

    login: bool = True
    tls: str = "starttls"
    behaviour: SmtpBehaviour = field(default_factory=SmtpBehaviour)
    mails: list[ReceivedMail] = field(default_factory=list)
    connections: int = 0
    """Number of connections."""
    host: str = "127.0.0.1"
    """Address to listen on; empty for all."""
    port: int = 0
    authority: str = ""
    """Its certificate in PEM, for ``ca.crt``."""
    _server: asyncio.Server | None = None
    _folder: Any = None
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def secret(self) -> dict[str, str]:
        """Data of the Secret that ``spec.notifications.smtpSecretRef`` names."""
        values = {"host": "127.0.0.1", "port": str(self.port), "tls": self.tls}
        if self.login:
            values |= {"username": USERNAME, "password": PASSWORD}
        return values if self.tls == "none" else values | {"ca.crt": self.authority}

    async def __aenter__(self) -> Self:
        """Start it on a free port."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        await self.stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def start(self) -> None:
        """Start it, again on the same port if it ran before."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sandbox-mail-")
            self.authority = _certify(Path(self._folder.name))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(self._folder.name) / "server.pem")
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._protocol(context),
            self.host,
            self.port,
            ssl=context if self.tls == "implicit" else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End it; later connections are refused. The received mails are kept."""
        if self._server is not None:
            self._server.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._server.wait_closed()
            self._server = None

    async def arrived(self, number: int, *, within: float = 60.0) -> list[ReceivedMail]:
        """Wait until this number of mails has arrived in all, and return them. Raises TimeoutError with their
        subjects."""
        try:
            async with asyncio.timeout(within), self._arrived:
                await self._arrived.wait_for(lambda: len(self.mails) >= number)
        except TimeoutError:
            subjects = [each.subject for each in self.mails]
            raise TimeoutError(
                f"{number} mails did not arrive within {within:.0f} s; there are {subjects}"
            ) from None
        return self.mails

    # -- What aiosmtpd asks ----------------------------------------------------------------------------------

    def _protocol(self, context: ssl.SSLContext) -> SMTP:
        self.connections += 1
        # A protocol of TLS from the start must not offer STARTTLS as well.
        starttls = self.tls == "starttls"
        return SMTP(
            self,
            hostname="mail.sandbox.test",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            auth_required=self.login,
            auth_require_tls=starttls,
            authenticator=self._authenticate if self.login else None,
            enable_SMTPUTF8=True,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        right = LoginPassword(USERNAME.encode(), PASSWORD.encode())
        return AuthResult(success=given == right, handled=False, auth_data=USERNAME)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's own name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, or not."""
        refusal = self.behaviour.refuses(address)
        if refusal is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        """Take a mail, or not."""
        if self.behaviour.refuses_data is not None:
            return self.behaviour.refuses_data
        raw = envelope.content if isinstance(envelope.content, bytes) else b""
        message = email.message_from_bytes(raw, policy=email.policy.default)
        self.mails.append(
            ReceivedMail(
                sender=envelope.mail_from or "",
                to=tuple(envelope.rcpt_tos),
                message=message,
                raw=raw,
                encrypted=session.ssl is not None or self.tls == "implicit",
                user=str(session.auth_data) if session.authenticated else None,
            )
        )
        async with self._arrived:
            self._arrived.notify_all()
        if self.behaviour.answers is not None:
            await self.behaviour.answers()
        if self.behaviour.hangs_up and isinstance(server.transport, asyncio.WriteTransport):
            server.transport.abort()
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        """Let somebody go, or not."""
        if not self.behaviour.answers_quit:
            await asyncio.Event().wait()
        return "221 Bye"


def _certify(folder: Path) -> str:
    """Make an authority and a certificate for 127.0.0.1 in a folder; return the authority's."""
    authority, key = CertificateAuthority("Sandbox mail authority"), new_key()
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = authority.sign(
        key, distinguished_name("mail.sandbox.test"), ExtendedKeyUsageOID.SERVER_AUTH, local
    )
    (folder / "server.pem").write_bytes(key_pem(key) + certificate_pem(certificate))
    return certificate_pem(authority.certificate).decode()
