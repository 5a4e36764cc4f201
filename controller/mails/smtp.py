"""
Send messages to a mail server by SMTP: encrypted, authenticated, with timeouts.

Failures are raised as ``MailError``, with stable texts for the Organization's condition ``Notified``. Of the
server's reply they contain only the code, because the text is not under our control. One connection per
message: mails are rare.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from enum import StrEnum
from typing import cast

import aiosmtplib

from counterfoil.untrusted.addresses import MAX_ADDRESSES, Resolve, is_address
from counterfoil.untrusted.host_lookup import resolve_host
from counterfoil.untrusted.tls_handshake import without_finite_fields

COMMAND_SECONDS = 15.0
"""Timeout for one command, and for the connection."""

SESSION_SECONDS = 60.0
"""Timeout for the whole session before the message itself."""

DATA_REPLY_SECONDS = 600.0
"""
Timeout for the reply to a message. Servers scan for viruses and spam before they reply; a client that gives
up earlier sends the same message repeatedly. (RFC 5321, 4.5.3.2.6: "SHOULD be at least 10 minutes")
"""

QUIT_SECONDS = 2.0

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]+")


class MailError(Exception):
    """Mails cannot be sent now. ``reason`` is for machines, ``str()`` for the administrator; both are
    stable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MessageRejected(MailError):
    """The server works but rejects this one message."""

    def __init__(self, message: str) -> None:
        super().__init__("MailRefused", message)


class Tls(StrEnum):
    """Encryption of the connection."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


@dataclass(frozen=True)
class MailServer:
    """Address of the mail server, and the login."""

    host: str
    port: int
    tls: Tls
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    authorities: str | None = field(default=None, repr=False)
    """Certificates in PEM that are trusted in addition to the system's."""

    @classmethod
    def read(cls, secret: str, data: Mapping[str, bytes]) -> "MailServer":
        """Parse the data of the Secret with that name. Raises ``MailError`` that names the error."""
        reader = _SecretReader(f"Secret/{secret}", data)
        port = reader.number("port", 587)
        username, password = reader.text("username"), reader.text("password")
        if (username is None) != (password is None):
            raise reader.wrong("needs both `username` and `password`, or none of them")
        tls = reader.text("tls") or ("implicit" if port == 465 else "starttls")
        if tls.lower() not in set(Tls):
            raise reader.wrong("has a `tls` that is none of starttls, implicit and none")
        if tls.lower() == Tls.NONE and username is not None:
            # Everybody between here and the server could read the password.
            raise reader.wrong(
                "has `tls` none and a login: a password is never sent without encryption. Set `tls` to "
                "starttls or implicit, or remove `username` and `password`"
            )
        host = reader.text("host")
        if host is None or not _HOST.fullmatch(host):
            raise reader.wrong("has no `host` that is the name of a mail server")
        return cls(host, port, Tls(tls.lower()), username, password, reader.text("ca.crt"))


@dataclass(frozen=True)
class _SecretReader:
    """Parses the data of a Secret."""

    secret: str
    data: Mapping[str, bytes]

    def wrong(self, what: str) -> MailError:
        return MailError("MailSettingsInvalid", f"{self.secret} {what}.")

    def text(self, key: str) -> str | None:
        try:
            text = self.data.get(key, b"").decode().strip()
        except UnicodeDecodeError:
            raise self.wrong(f"has a `{key}` that is no UTF-8") from None
        return text or None

    def number(self, key: str, default: int) -> int:
        text = self.text(key) or str(default)
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
            raise self.wrong(f"has a `{key}` that is no port")
        return int(text)


@dataclass
class SmtpMailer:
    """Sends mails to real mail servers."""

    command_seconds: float = COMMAND_SECONDS
    session_seconds: float = SESSION_SECONDS
    data_reply_seconds: float = DATA_REPLY_SECONDS
    resolve: Resolve = resolve_host

    async def check(self, server: MailServer) -> None:
        """Connect and log in without sending a message. Raises ``MailError``."""
        await self._run_within_limits(server, None, "", ())

    async def send(
        self, server: MailServer, message: EmailMessage, *, sender: str, to: tuple[str, ...]
    ) -> None:
        """Send a message. Raises ``MessageRejected`` when the server works but rejects the message, else
        ``MailError``."""
        await self._run_within_limits(server, message.as_bytes(), sender, to)

    async def _run_within_limits(
        self, server: MailServer, message: bytes | None, sender: str, to: tuple[str, ...]
    ) -> None:
        try:
            await self._run_session(server, message, sender, to)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as problem:
            raise _as_mail_error(problem, server) from problem

    async def _run_session(
        self, server: MailServer, message: bytes | None, sender: str, to: tuple[str, ...]
    ) -> None:
        smtp = _SmtpSession(
            hostname=server.host,
            # The library would look up the server and this host in the threads that all other work of the
            # event loop uses.
            sock=await self._connected_socket(server),
            local_hostname=socket.gethostname(),
            timeout=self.command_seconds,
            use_tls=server.tls is Tls.IMPLICIT,
            start_tls=False,
            tls_context=_tls_context(server),
        )
        try:
            async with asyncio.timeout(self.session_seconds):
                await _connect(smtp, server)
                if message is not None:
                    await _send_smtp_envelope(smtp, message, sender, to)
            if message is not None:
                await smtp.data(message, timeout=self.data_reply_seconds)
            # The server accepted the message; an error of QUIT must not cause it to be sent again.
            with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await smtp.quit(timeout=QUIT_SECONDS)
        finally:
            smtp.close()

    async def _connected_socket(self, server: MailServer) -> socket.socket:
        """Connect to the first address of the server that answers. Raises ``OSError``, ``TimeoutError``,
        ``ValueError``."""
        async with asyncio.timeout(self.command_seconds):
            addresses = (
                (server.host,) if is_address(server.host) else await self.resolve(server.host, server.port)
            )
            problem = OSError(f"{server.host} has no address")
            for address in addresses[:MAX_ADDRESSES]:
                try:
                    return await _connect_to(address, server.port)
                except OSError as error:
                    problem = error
            raise problem


class _SmtpSession(aiosmtplib.SMTP):
    """A session that ends at once, also if the server does not read a mail."""

    def close(self) -> None:
        """End the connection. A transport that closes would first send what the server has not read."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()
        super().close()


async def _connect_to(address: str, port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(smtp: aiosmtplib.SMTP, server: MailServer) -> None:
    await smtp.connect()
    await smtp.ehlo()
    if server.tls is Tls.STARTTLS:
        await _start_tls(smtp, server)
    if server.username is not None and server.password is not None:
        await _log_in(smtp, server, server.username, server.password)


async def _send_smtp_envelope(
    smtp: aiosmtplib.SMTP, message: bytes, sender: str, to: tuple[str, ...]
) -> None:
    """Send the sender and the recipients; one accepted recipient is enough."""
    size = [f"size={len(message)}"] if smtp.supports_extension("size") else []
    await smtp.mail(sender, options=size)
    refused = []
    for each in to:
        try:
            await smtp.rcpt(each)
        except aiosmtplib.SMTPRecipientRefused as refusal:
            refused.append(refusal)
    if len(refused) == len(to):
        raise aiosmtplib.SMTPRecipientsRefused(refused)


async def _start_tls(smtp: aiosmtplib.SMTP, server: MailServer) -> None:
    if not smtp.supports_extension("starttls"):
        raise MailError("MailServerLacksTls", f"{_describe_server(server)} does not offer STARTTLS.")
    await smtp.starttls()
    await smtp.ehlo()


async def _log_in(smtp: aiosmtplib.SMTP, server: MailServer, username: str, password: str) -> None:
    if not smtp.supported_auth_methods:
        raise MailError("MailLoginRefused", f"{_describe_server(server)} offers no login.")
    await smtp.login(username, password)


def _describe_server(server: MailServer) -> str:
    return f"The mail server {server.host}:{server.port}"


def _tls_context(server: MailServer) -> ssl.SSLContext:
    context = without_finite_fields(ssl.create_default_context())
    if server.authorities is not None:
        try:
            context.load_verify_locations(cadata=server.authorities)
        except ssl.SSLError as unreadable:
            message = f"{_describe_server(server)}: `ca.crt` in its Secret has no certificates in PEM."
            raise MailError("MailSettingsInvalid", message) from unreadable
    return context


def _as_mail_error(problem: BaseException, server: MailServer) -> MailError:
    where = _describe_server(server)
    if _is_about_tls(problem):
        message = f"{where} can't be trusted: its certificate or its encryption is wrong."
        return MailError("MailServerNotTrusted", message)
    match problem:
        case aiosmtplib.SMTPAuthenticationError():
            return MailError("MailLoginRefused", f"{where} does not accept the login ({problem.code}).")
        case aiosmtplib.SMTPRecipientsRefused():
            codes = ", ".join(sorted({str(each.code) for each in problem.recipients}))
            return MessageRejected(f"{where} does not take mail for a recipient ({codes}).")
        case aiosmtplib.SMTPDataError():
            return MessageRejected(f"{where} does not take a mail ({problem.code}).")
        case aiosmtplib.SMTPSenderRefused():
            message = f"{where} does not take mail from spec.notifications.from ({problem.code})."
            return MailError("MailRefused", message)
        case aiosmtplib.SMTPResponseException():
            return MailError("MailServerUnreachable", f"{where} does not work ({problem.code}).")
        case ValueError():
            return MailError("MailSettingsInvalid", f"{where}: an address or the login can't be used.")
        case _:
            return MailError("MailServerUnreachable", f"{where} can't be reached.")


def _is_about_tls(problem: BaseException | None) -> bool:
    while problem is not None:
        if isinstance(problem, ssl.SSLError):
            return True
        problem = problem.__cause__ or problem.__context__
    return False
