"""
Brings messages to a mail server by SMTP: encrypted, logged in, within bounded time.

What goes wrong is told as ``MailTrouble`` in stable words for the Organization's condition ``Notified``; what a
server says is not among them but its number, since it may be anything. One connection per message: mails are rare.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from enum import StrEnum
from typing import Protocol

import aiosmtplib

STEP_SECONDS = 15.0
"""Longest time for one command, and for connecting."""

WHOLE_SECONDS = 60.0
"""Longest time for all of it, up to the message itself."""

ANSWER_SECONDS = 600.0
"""
Longest time for the word that a message was taken. Servers look for viruses and spam before they say it, and who does not
wait so long brings the same message again and again. (RFC 5321, 4.5.3.2.6: "SHOULD be at least 10 minutes")
"""

FAREWELL_SECONDS = 2.0

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]+")


class MailTrouble(Exception):
    """Mails can't be sent now. ``reason`` is for machines, ``str()`` for the administrator; both are stable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Refused(MailTrouble):
    """The server works but does not take this one message."""

    def __init__(self, message: str) -> None:
        super().__init__("MailRefused", message)


class Tls(StrEnum):
    """How the connection is encrypted."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


@dataclass(frozen=True)
class MailServer:
    """Where mails are brought, and as whom."""

    host: str
    port: int
    tls: Tls
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    authorities: str | None = field(default=None, repr=False)
    """Certificates in PEM that are trusted besides the usual ones."""

    @classmethod
    def read(cls, secret: str, data: Mapping[str, bytes]) -> "MailServer":
        """Read the Secret of that name. Raises ``MailTrouble`` that says what is wrong with it."""
        said = _Said(f"Secret/{secret}", data)
        port = said.number("port", 587)
        username, password = said.text("username"), said.text("password")
        if (username is None) != (password is None):
            raise said.wrong("needs both `username` and `password`, or none of them")
        tls = said.text("tls") or ("implicit" if port == 465 else "starttls")
        if tls.lower() not in set(Tls):
            raise said.wrong("has a `tls` that is none of starttls, implicit and none")
        host = said.text("host")
        if host is None or not _HOST.fullmatch(host):
            raise said.wrong("has no `host` that is the name of a mail server")
        return cls(host, port, Tls(tls.lower()), username, password, said.text("ca.crt"))


@dataclass(frozen=True)
class _Said:
    """What a Secret says."""

    secret: str
    data: Mapping[str, bytes]

    def wrong(self, what: str) -> MailTrouble:
        return MailTrouble("MailSettingsInvalid", f"{self.secret} {what}.")

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


class Postman(Protocol):
    """What the notifier may ask for."""

    async def check(self, server: MailServer) -> None:
        """Connect and log in, and send nothing. Raises ``MailTrouble``."""
        ...

    async def bring(
        self, server: MailServer, message: EmailMessage, *, sender: str, to: tuple[str, ...]
    ) -> None:
        """Bring a message. Raises ``Refused`` when the server works but does not take it, else ``MailTrouble``."""
        ...


@dataclass(frozen=True)
class SmtpPostman:
    """Goes to real mail servers."""

    step_seconds: float = STEP_SECONDS
    whole_seconds: float = WHOLE_SECONDS
    answer_seconds: float = ANSWER_SECONDS

    async def check(self, server: MailServer) -> None:
        """Connect and log in, and send nothing. Raises ``MailTrouble``."""
        await self._within(server, None, "", ())

    async def bring(
        self, server: MailServer, message: EmailMessage, *, sender: str, to: tuple[str, ...]
    ) -> None:
        """Bring a message. Raises ``Refused`` when the server works but does not take it, else ``MailTrouble``."""
        await self._within(server, message.as_bytes(), sender, to)

    async def _within(
        self, server: MailServer, message: bytes | None, sender: str, to: tuple[str, ...]
    ) -> None:
        try:
            await self._talk(server, message, sender, to)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as problem:
            raise _trouble(problem, server) from problem

    async def _talk(
        self, server: MailServer, message: bytes | None, sender: str, to: tuple[str, ...]
    ) -> None:
        smtp = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            timeout=self.step_seconds,
            use_tls=server.tls is Tls.IMPLICIT,
            start_tls=False,
            tls_context=_trusting(server),
        )
        try:
            async with asyncio.timeout(self.whole_seconds):
                await _introduced(smtp, server)
                if message is not None:
                    await _announced(smtp, message, sender, to)
            if message is not None:
                await smtp.data(message, timeout=self.answer_seconds)
            # The message is taken; whatever happens to the farewell must not let it be sent again.
            with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await smtp.quit(timeout=FAREWELL_SECONDS)
        finally:
            smtp.close()


async def _introduced(smtp: aiosmtplib.SMTP, server: MailServer) -> None:
    await smtp.connect()
    await smtp.ehlo()
    if server.tls is Tls.STARTTLS:
        await _encrypted(smtp, server)
    if server.username is not None and server.password is not None:
        await _logged_in(smtp, server, server.username, server.password)


async def _announced(smtp: aiosmtplib.SMTP, message: bytes, sender: str, to: tuple[str, ...]) -> None:
    """Say from whom and to whom; one recipient who is taken is enough."""
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


async def _encrypted(smtp: aiosmtplib.SMTP, server: MailServer) -> None:
    if not smtp.supports_extension("starttls"):
        raise MailTrouble("MailServerLacksTls", f"{_where(server)} does not offer STARTTLS.")
    await smtp.starttls()
    await smtp.ehlo()


async def _logged_in(smtp: aiosmtplib.SMTP, server: MailServer, username: str, password: str) -> None:
    if not smtp.supported_auth_methods:
        raise MailTrouble("MailLoginRefused", f"{_where(server)} offers no login.")
    await smtp.login(username, password)


def _where(server: MailServer) -> str:
    return f"The mail server {server.host}:{server.port}"


def _trusting(server: MailServer) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if server.authorities is not None:
        try:
            context.load_verify_locations(cadata=server.authorities)
        except ssl.SSLError as unreadable:
            message = f"{_where(server)}: `ca.crt` in its Secret has no certificates in PEM."
            raise MailTrouble("MailSettingsInvalid", message) from unreadable
    return context


def _trouble(problem: BaseException, server: MailServer) -> MailTrouble:
    where = _where(server)
    if _is_about_tls(problem):
        return MailTrouble(
            "MailServerNotTrusted", f"{where} can't be trusted: its certificate or its encryption is wrong."
        )
    match problem:
        case aiosmtplib.SMTPAuthenticationError():
            return MailTrouble("MailLoginRefused", f"{where} does not accept the login ({problem.code}).")
        case aiosmtplib.SMTPRecipientsRefused():
            codes = ", ".join(sorted({str(each.code) for each in problem.recipients}))
            return Refused(f"{where} does not take mail for a recipient ({codes}).")
        case aiosmtplib.SMTPDataError():
            return Refused(f"{where} does not take a mail ({problem.code}).")
        case aiosmtplib.SMTPSenderRefused():
            message = f"{where} does not take mail from spec.notifications.from ({problem.code})."
            return MailTrouble("MailRefused", message)
        case aiosmtplib.SMTPResponseException():
            return MailTrouble("MailServerUnreachable", f"{where} does not work ({problem.code}).")
        case ValueError():
            return MailTrouble("MailSettingsInvalid", f"{where}: an address or the login can't be used.")
        case _:
            return MailTrouble("MailServerUnreachable", f"{where} can't be reached.")


def _is_about_tls(problem: BaseException | None) -> bool:
    while problem is not None:
        if isinstance(problem, ssl.SSLError):
            return True
        problem = problem.__cause__ or problem.__context__
    return False
