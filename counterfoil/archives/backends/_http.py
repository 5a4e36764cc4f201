"""
Shared by the kinds of archives that use HTTP: one site, streaming requests, and error messages for statuses.

A request goes to the site that the Archive names and to no other: redirects are refused, since documents and
credentials would go along. A body is sent in chunks as its source yields them. Errors of the source are
raised unchanged and never treated as errors of the site. No request is sent twice: the controller decides
about retries.
"""

import base64
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Container, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx

from counterfoil.archives.backend import TEMPORARY_PREFIX
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    ErrorText,
    SettingsInvalid,
    address_forbidden,
    connections_closed,
    find_text,
)
from counterfoil.archives.names import MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.archives.streams import BLOCK
from counterfoil.http_client import tls_fault
from counterfoil.untrusted.addresses import is_address_forbidden
from counterfoil.untrusted.http_transport import BodyEndUnknown, InvalidResponse, new_client

CONNECT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 60.0
"""Seconds without any byte, in or out, after which a site counts as gone."""

IDLE_CONNECTIONS = 24
"""Connections that are kept for further requests: as many as the default number of transfers opens at once,
with those of ``filing.SPARE_READS``."""

MAX_RESPONSE_BYTES = 1024 * 1024
"""Bytes of an answer that is no document."""

NOT_FOUND_STATUSES = frozenset({404, 410})
LACKING_STATUSES = frozenset({405, 501})
"""A method is not there, or not allowed."""

RECOGNIZED_SECONDS = 10.0
"""Seconds for which an answer shows that a 404 for a file is the server's. It is as long as runs share a
check of the marker."""

_BEFORE_A_PAGE = b"\xef\xbb\xbf \t\r\n"
"""Bytes that may be before the first tag of a page."""

_PAGES = (b"<!doctype", b"<html", b"<?xml")
"""Beginnings of a page, in lower case. Of the seals, which are random bytes, one in 256 begins with "<"."""


class UploadSourceFailed(Exception):
    """The source of an upload failed; ``error`` is its error."""

    def __init__(self, error: Exception) -> None:
        super().__init__("the source of an upload failed")
        self.error = error


class UploadBody:
    """The chunks of an upload. What they raise comes out as ``UploadSourceFailed``; ``ended`` tells that all
    were taken."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self.ended = False
        self._chunks = chunks

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            # Under another name, or an error of httpx in it would be treated as an error of this request.
            raise UploadSourceFailed(error) from error
        self.ended = True


@dataclass(frozen=True)
class HttpSite:
    """One HTTP server, as an archive. The texts are parts of messages."""

    archive: str
    """As in ``Archive/dms``."""
    server: str
    """As in ``the WebDAV server at https://dms.acme.example``."""
    identity: str
    """Owner of the rights, as in ``the login in Secret `dms```."""
    field: str
    """Field of the address, as in ``spec.webdav.url``."""
    url: str
    """The address, without a slash at its end."""
    http: httpx.AsyncClient

    @classmethod
    def open(
        cls,
        server: str,
        field: str,
        url: str,
        credentials: Credentials,
        *,
        silence: float = READ_TIMEOUT_SECONDS,
    ) -> "HttpSite":
        """
        Open the site at ``url``; the Secret may have ``bearerToken``, or ``username`` and ``password``.

        ``server`` is for messages, as in ``the WebDAV server``. Sends no request. Raises ``SettingsInvalid``.
        """
        address, authorization = _checked_url(credentials.archive, field, url), _authorization(credentials)
        return cls(
            archive=f"Archive/{credentials.archive}",
            server=f"{server} at {address}",
            identity=f"the login in {credentials.secret}" if authorization else "somebody without a login",
            field=field,
            url=address,
            http=make_http_client(authorization, silence),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    @property
    def is_closed(self) -> bool:
        """Whether the connections were closed, so that no request can succeed."""
        return self.http.is_closed

    def check_open(self) -> None:
        """Raise ``ArchiveUnavailable`` after the connections were closed: the work ends, and something still
        cleans up. httpx would raise an error that nothing expects."""
        if self.is_closed:
            raise connections_closed(self.archive)

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: AsyncIterable[bytes] | bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; give the answer with any status, its body unread; no redirect is followed. Raises
        ``ArchiveError``; so does reading the body."""
        self.check_open()
        try:
            async with self.http.stream(method, url, headers=headers, content=content) as response:
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # An address that the server named, for example of a stored file, may be none.
            raise self.unreadable_response() from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: AsyncIterable[bytes] | bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """As ``exchange``. Raises ``ArchiveRefused`` for a redirect, and for a 401 that asks for no login."""
        async with self.exchange(method, url, headers=headers, content=content) as response:
            if response.is_redirect:
                raise ArchiveRefused(
                    "ArchiveRedirects",
                    f"{self.archive}: {self.server} points to another address (HTTP "
                    f"{response.status_code}), and Counterfoil does not follow with documents. Put the "
                    f"final address into {self.field}.",
                )
            # A server that wants another login names the scheme (RFC 9110, section 15.5.2).
            if response.status_code == 401 and "WWW-Authenticate" not in response.headers:
                raise self.unrecognized_response("HTTP 401", "a WWW-Authenticate header")
            yield response

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        contents: Container[str] = ("GET",),
    ) -> httpx.Response:
        """
        Send a small request; return its small answer, with any status. Raises ``ArchiveError``.

        ``contents`` are the methods whose success is known by its content (``small_body``).
        """
        async with self.stream(method, url, headers=headers, content=content) as response:
            return await self.small_answer(response, contents)

    async def upload(
        self, method: str, url: str, chunks: AsyncIterable[bytes], *, headers: Mapping[str, str]
    ) -> httpx.Response:
        """
        Send a stream; return the answer, with any status. Success is returned only if all of the stream was
        sent.

        Raises ``ArchiveError``, and what ``chunks`` raises.
        """
        body = UploadBody(chunks)
        try:
            async with self.stream(method, url, headers=headers, content=body) as response:
                answer = await self.small_answer(response)
        except UploadSourceFailed as failed:
            raise failed.error from None
        if answer.is_success and not body.ended:
            raise ArchiveUnavailable(
                "ArchiveUnreachable", f"{self.archive}: {self.server} broke off in the middle of a file."
            )
        return answer

    def error_for_status(self, status: int) -> ArchiveError:
        """Return the error, for the archive's administrator, that a status other than success means."""
        text = find_text(ERROR_RULES, status) or (_FAILING if status >= 500 or status == 408 else _REFUSED)
        return text.error(
            self.archive, server=self.server, who=self.identity, field=self.field, answer=f"HTTP {status}"
        )

    def unreadable_response(self) -> ArchiveError:
        """Return what to say of an answer that is none of the protocol's."""
        return ArchiveRefused(
            "ArchiveAnswerUnreadable",
            f"{self.archive}: {self.server} gives answers that Counterfoil can't read. Perhaps a proxy or a "
            f"login page answers. Check what is at this address, and {self.field}.",
        )

    def unrecognized_response(self, answer: object, lacks: str) -> ArchiveError:
        """
        Return what to say of an error that does not show who sent it: nothing about rights, keys and files.

        ``answer`` as in ``HTTP 404``; ``lacks`` as in ``an error code of S3``.
        """
        return ArchiveRefused(
            "ArchiveAnswerUnreadable",
            f"{self.archive}: {self.server} gives an error without {lacks} ({answer}), so perhaps a proxy, a "
            "firewall or another program answers. Nothing is concluded from it. Check what is at this "
            f"address, {self.field} and the server's log.",
        )

    async def stored_content(self, name: str, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """
        Yield the bytes of a stored file block by block.

        Raises ``ArchiveRefused`` for a page in the place of a file that Counterfoil writes itself.
        """
        last = name.rpartition("/")[2]
        pages: tuple[bytes, ...] = ()
        if last == MANIFEST_NAME or last.startswith(TEMPORARY_PREFIX):
            pages = (b"<",)
        elif last == SIGNATURE_NAME:
            pages = _PAGES
        async for block in response.aiter_raw(BLOCK):
            if pages and block.lstrip(_BEFORE_A_PAGE).lower().startswith(pages):
                raise self.unreadable_response()
            pages = ()
            yield block

    def _unreachable(self, error: httpx.TransportError) -> ArchiveError:
        if isinstance(error, httpx.LocalProtocolError):
            # Without its text, which has the header.
            return ArchiveRefused(
                "InternalError",
                f"{self.archive}: Counterfoil wrote a request to {self.server} that HTTP does not allow, and "
                "did not send it. Report it with the log of the controller.",
            )
        if isinstance(error, httpx.UnsupportedProtocol):
            return self.unreadable_response()
        if is_address_forbidden(error):
            return address_forbidden(self.archive, self.server, self.field)
        if isinstance(error, httpx.ConnectError) and (fault := tls_fault(error)) is not None:
            return ArchiveRefused(
                "ArchiveTlsFailed",
                f"{self.archive}: {self.server} can't prove who it is ({fault}). Give it a certificate for "
                "its name that the controller trusts, or name its authority in the controller's "
                "SSL_CERT_FILE.",
            )
        if isinstance(error, InvalidResponse) and str(error):
            return ArchiveUnavailable(
                "ArchiveUnreachable",
                f"{self.archive}: {self.server} gives an answer that is not valid HTTP ({error}).",
            )
        return ArchiveUnavailable(
            "ArchiveUnreachable", f"{self.archive}: {self.server} could not be reached."
        )

    async def small_answer(self, response: httpx.Response, contents: Container[str] = ()) -> httpx.Response:
        """
        Read a small answer to its end; ``contents`` as in ``request``. Raises ``ArchiveError`` for a longer
        one. A compressed one is not read as such: 64 KiB of it could be 64 MiB.
        """
        body = bytearray()
        async for chunk in small_body(response, contents=contents):
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                raise self.unreadable_response()
        # As bytes: a text must be ASCII, and servers send others. An empty body is no page of any type.
        kept = [each for each in response.headers.raw if body and each[0].lower() == b"content-type"]
        return httpx.Response(response.status_code, headers=kept, content=bytes(body))


ERROR_RULES: Mapping[frozenset[int], ErrorText] = {
    frozenset({407}): ErrorText(
        "ArchiveAnswerUnreadable",
        "a proxy before {server} asks for a login ({answer}). Let it pass the controller, or correct "
        "{field}.",
    ),
    frozenset({401}): ErrorText(
        "ArchiveCredentialsRejected", "{server} does not accept {who} ({answer}). Give a valid one."
    ),
    frozenset({403}): ErrorText(
        "ArchivePermissionDenied",
        "{who} may not do everything that filing needs at {server} ({answer}). Allow it to read, create, "
        "rename and delete.",
    ),
    LACKING_STATUSES: ErrorText(
        "ArchiveLacksFeature",
        "{server} can't do what filing needs ({answer}). Turn it on there, correct {field}, or use another "
        "server.",
    ),
    frozenset({411}): ErrorText(
        "ArchiveLacksFeature",
        "{server} wants to know the length of a file before it comes ({answer}). Let it take chunked bodies.",
    ),
    frozenset({413}): ErrorText(
        "FileTooBig",
        "{server} does not take a file of this size ({answer}). Raise its limit, or that of the proxy before "
        "it.",
    ),
    frozenset({414}): ErrorText(
        "PathTooLong", "a path is longer than {server} takes ({answer}). Shorten spec.path."
    ),
    frozenset({423}): ErrorText(
        "ArchiveLocked",
        "something that filing needs is locked at {server} ({answer}). Waiting events continue automatically "
        "once it is free.",
    ),
    frozenset({429, 503}): ErrorText(
        "ArchiveOverloaded", "{server} asks for a pause ({answer}). Waiting events continue automatically."
    ),
    frozenset({507}): ErrorText(
        "ArchiveFull",
        "no space is left at {server} ({answer}). Enlarge it or raise the quota; waiting events continue "
        "automatically.",
    ),
}

_FAILING = ErrorText(
    "ArchiveFailing", "{server} does not work ({answer}). Waiting events continue automatically once it does."
)
_REFUSED = ErrorText(
    "ArchiveRefused", "{server} refuses what filing needs ({answer}). Check {field} and the server's log."
)


class MultipartForm:
    """A form (RFC 7578) with some fields and then one file, which is not known before it is sent."""

    def __init__(self, fields: Mapping[str, str], part: str, file_name: str, content_type: str) -> None:
        self._boundary = secrets.token_hex(16)
        self._fields = fields
        self._head = (
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{part}"; '
            f'filename="{_quoted(file_name)}"\r\n'
            f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        )

    @property
    def content_type(self) -> str:
        """The header that goes with it."""
        return f"multipart/form-data; boundary={self._boundary}"

    async def encode(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the form with these chunks as its file."""
        for name, value in self._fields.items():
            head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n'
            yield f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{value}\r\n".encode()
        yield self._head.encode()
        async for chunk in chunks:
            yield chunk
        yield f"\r\n--{self._boundary}--\r\n".encode()


def make_http_client(authorization: str | None, silence: float = READ_TIMEOUT_SECONDS) -> httpx.AsyncClient:
    """Make the client of one archive; its backend closes it. ``authorization`` goes with every request.
    Compression is refused: the stored bytes are hashed."""
    headers = {"User-Agent": "Counterfoil", "Accept-Encoding": "identity"}
    if authorization is not None:
        headers["Authorization"] = authorization
    timeout = httpx.Timeout(silence, connect=CONNECT_SECONDS)
    return new_client(timeout=timeout, idle=IDLE_CONNECTIONS, headers=headers)


def normal_address(archive: str, field: str, url: str) -> str:
    """
    Return an address as the client sends it in ``Host``, for signatures: in lower case, without the port that
    its scheme has anyway.

    Raises ``SettingsInvalid``.
    """
    parts = httpx.URL(_checked_url(archive.removeprefix("Archive/"), field, url))
    return f"{parts.scheme}://{parts.netloc.decode('ascii')}{urlsplit(url).path}".rstrip("/")


def _checked_url(archive: str, field: str, url: str) -> str:
    """Return an address without a slash at its end. Raises ``SettingsInvalid``; the API server refuses most
    before."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise SettingsInvalid(
            f"Archive/{archive}: {field} must be an http or https address without user, query and fragment."
        )
    return url.rstrip("/")


def _authorization(credentials: Credentials) -> str | None:
    token = credentials.line("bearerToken")
    if token is not None:
        if not token.isascii():
            raise SettingsInvalid(
                f"Archive/{credentials.archive}: `{credentials.name_of('bearerToken')}` "
                f"in {credentials.secret} is no token."
            )
        return f"Bearer {token}"
    if not credentials.has_any(("username", "password")):
        return None
    login = f"{credentials.required_line('username')}:{credentials.required_line('password')}"
    return "Basic " + base64.b64encode(login.encode()).decode()


def path_of(parts: Iterable[str]) -> str:
    """Return the segments of a name as the path of a URL."""
    return "/".join(quote(part, safe="") for part in parts)


async def small_body(response: httpx.Response, *, contents: Container[str]) -> AsyncGenerator[bytes, None]:
    """
    Yield the bytes of an answer that is no document, as they come.

    ``contents`` are the methods whose success is known by its content. Of all others, and of an error, the
    status counts, also if nothing shows that the body is complete: many servers end TLS by closing.
    """
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except BodyEndUnknown:
        if response.is_success and response.request.method in contents:
            raise


def _quoted(name: str) -> str:
    # As browsers do (WHATWG HTML, 4.10.21.8).
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
