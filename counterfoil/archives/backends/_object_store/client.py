"""
Signed requests to one bucket of an object store, with bounds on each answer.

No redirect is followed: the document, the key's signature and a session token would go along, and the bytes
of another host would count as the proof (rule 11). An answer other than a document is read up to a limit.
A request that fails for a moment is repeated a few times: a large file is many requests.

An error becomes words for the administrator: status and code of the answer, and never its text.
"""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import quote

import httpx

from counterfoil.archives.backends._http import HttpSite, small_body
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    ErrorText,
    find_text,
)
from counterfoil.archives.streams import INLINE, count_sent, in_hashing_thread
from counterfoil.clock import Clock
from counterfoil.origin import origin_of
from counterfoil.untrusted.large_answers import AnswerBody, Grow

RETRY_PAUSES_SECONDS = (0.1, 0.4, 1.5)
"""Pauses before a request is repeated; what lasts longer is the controller's to wait for."""

RETRY_SECONDS = 30.0
"""No request is repeated later than this after its first attempt."""

ANYBODYS = frozenset({408, 413, 429})
"""Errors of the client that mean the same from the service and from a proxy. All others count with a code of
the service only."""

OF_THE_SERVICE = frozenset({"501", "507"})
"""Errors of the server that mean something else than a failure, if they have a code of the service."""

RETRIED = frozenset({408, 429, 500, 502, 503, 504})

MAX_ERROR_BYTES = 64 * 1024
"""Bytes of an error that are read; the rest is ignored."""

MAX_ANSWER_BYTES = 1024 * 1024
"""Bytes of an answer that is neither a document nor a list."""

SENT_AT_ONCE = 256 * 1024
"""Bytes of a body that are handed to the connection at once: it copies what it can't send immediately."""

MAX_QUERY_CHARACTERS = 16 * 1024
"""Characters of a query before they are quoted; servers take URLs of 8 KiB or less."""


# Rules for HTTP statuses, for every service. ``ErrorDialect.synonyms`` has the codes that mean the same.
COMMON_ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"401"}): ErrorText(
        "ArchiveCredentialsRejected", "{server} does not accept {key} ({answer}). Give a valid one."
    ),
    frozenset({"413"}): ErrorText(
        "FileTooBig", "{server} does not take a file of this size ({answer}). Raise its limit."
    ),
    frozenset({"501"}): ErrorText(
        "ArchiveLacksFeature",
        "{server} can't do what the Archive asks for ({answer}). Leave out tags or encryption, or use "
        "another server.",
    ),
    frozenset({"507"}): ErrorText(
        "ArchiveFull",
        "no space is left in `{bucket}` ({answer}). Enlarge it or raise its quota; waiting events continue "
        "automatically.",
    ),
    frozenset({"429", "503"}): ErrorText(
        "ArchiveOverloaded", "{server} asks for a pause ({answer}). Waiting events continue automatically."
    ),
    frozenset({"301", "302", "303", "307", "308"}): ErrorText(
        "ArchiveRedirects",
        "{server} points to another address ({answer}), and Counterfoil does not follow with documents. Put "
        "the final address into {field}.",
    ),
}

_FAILING = ErrorText(
    "ArchiveFailing", "{server} does not work ({answer}). Waiting events continue automatically once it does."
)
_REFUSED = ErrorText(
    "ArchiveRefused", "{server} refuses what the Archive asks for ({answer}). Check {field}."
)

Content = bytes | bytearray
"""The body of a request, which nothing changes any more."""


@dataclass(frozen=True)
class StoreRequest:
    """A request to a bucket. ``path`` is percent-encoded, without a slash at its beginning."""

    method: str
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content = field(default=b"", repr=False)


@dataclass(frozen=True)
class StoreAnswer:
    """A small answer, with any status."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the request was carried out. S3 can report an error of a long request after the 200."""
        return 200 <= self.status < 300 and b"<Error>" not in self.body[:MAX_ERROR_BYTES]


@dataclass(frozen=True)
class ErrorDialect:
    """The errors of one service."""

    service: str
    """As in ``S3 answered 404``."""
    field: str
    """As in ``spec.s3``."""
    root_missing: frozenset[str]
    """Its codes for a bucket that is not there, where 404 could also mean an object."""
    rules: Mapping[frozenset[str], ErrorText]
    """The first entry that has the code counts; then the first that has the HTTP status."""
    synonyms: Mapping[str, str]
    """Code to the HTTP status whose rule in ``COMMON_ERROR_RULES`` also holds for the code."""
    code_header: str = ""
    """Header that has the code as well; an answer may have no body."""


@dataclass(frozen=True)
class BucketAddress:
    """Address of an archive, as texts for messages."""

    archive: str
    """As in ``Archive/dms``."""
    server: str
    name: str
    key: str
    """Owner of the rights, for messages."""


@dataclass(frozen=True)
class ObjectStoreResponse:
    """An answer other than success: status and the service's code, empty if there is none."""

    service: str
    status: str = ""
    code: str = ""

    @classmethod
    def read(cls, service: str, status: int, body: bytes, header: str = "") -> "ObjectStoreResponse":
        """Find the code in the body of an answer, or in the header for it."""
        code = re.search(rb"<Code>([A-Za-z0-9.]{1,64})</Code>", body)
        if code is not None:
            return cls(service, str(status), code[1].decode())
        return cls(service, str(status), header if re.fullmatch("[A-Za-z0-9.]{1,64}", header) else "")

    def __str__(self) -> str:
        return f"{self.service} answered {self.status} {self.code}".rstrip()


class Authorizer(Protocol):
    """Adds to a request what proves the right to it."""

    async def headers(
        self, method: str, url: str, headers: Mapping[str, str], *, length: int, sha256: bytes
    ) -> dict[str, str]:
        """
        Return all headers to send; ``length`` and ``sha256`` are those of the body.

        Raises ``ArchiveError``.
        """
        ...

    def refused(self, headers: Mapping[str, str]) -> None:
        """Record that a request with these headers was answered 401."""
        ...


class ObjectStoreClient:
    """Sends requests to one bucket, whose address ``site`` has."""

    def __init__(
        self,
        site: HttpSite,
        bucket: BucketAddress,
        dialect: ErrorDialect,
        authorizer: Authorizer,
        clock: Clock,
    ) -> None:
        self.bucket = bucket
        self._site = site
        self._dialect = dialect
        self._authorizer = authorizer
        self._clock = clock

    async def request(
        self, request: StoreRequest, *, limit: int = MAX_ANSWER_BYTES, grow: Grow | None = None
    ) -> StoreAnswer:
        """Send a request; return its answer, with any status. Raises ``ArchiveError``, also for a success of
        more than ``limit`` bytes. ``grow`` waits for the memory of a large one."""
        async with self.open(request) as response:
            return await self.read_answer(response, limit=limit, grow=grow)

    @asynccontextmanager
    async def open(self, request: StoreRequest) -> AsyncIterator[httpx.Response]:
        """Send a request; give the answer with any status, its body unread. Raises ``ArchiveError``; so does
        reading the body."""
        async with AsyncExitStack() as stack:
            yield await self._send(request, stack)

    async def read_answer(
        self, response: httpx.Response, *, limit: int = MAX_ANSWER_BYTES, grow: Grow | None = None
    ) -> StoreAnswer:
        """Read an answer that is no document. Raises ``ArchiveError``."""
        body = AnswerBody()
        is_success = 200 <= response.status_code < 300
        # A completion can fail after its 200.
        async for chunk in small_body(response, contents=("GET", "POST")):
            body.append(chunk)
            if is_success and body.size > limit:
                raise self.unreadable()
            if not is_success and body.size >= MAX_ERROR_BYTES:
                break
            if grow is not None:
                await grow(body.size)
        return StoreAnswer(response.status_code, response.headers, body.take()[: max(limit, MAX_ERROR_BYTES)])

    def error(self, answer: StoreAnswer, dialect: ErrorDialect | None = None) -> ArchiveError:
        """Return the error for an answer other than success, by who must act. One without a code may be of a
        proxy."""
        said = self.parsed(answer)
        if 400 <= answer.status < 500 and answer.status not in ANYBODYS and not said.code:
            lacks = f"an error code of {self._dialect.service}"
            return self._site.unrecognized_response(f"HTTP {answer.status}", lacks)
        return error_of_response(said, dialect or self._dialect, self.bucket)

    def parsed(self, answer: StoreAnswer) -> ObjectStoreResponse:
        """Return status and code of an answer."""
        # An error after a 200: its status would say that all is well.
        status = 500 if 200 <= answer.status < 300 else answer.status
        header = answer.headers.get(self._dialect.code_header, "") if self._dialect.code_header else ""
        return ObjectStoreResponse.read(self._dialect.service, status, answer.body[:MAX_ERROR_BYTES], header)

    def is_root_missing(self, answer: StoreAnswer) -> bool:
        """Whether a 404 means the bucket."""
        return self.parsed(answer).code in self._dialect.root_missing

    def stored_content(self, name: str, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of an object, as ``HttpSite.stored_content``."""
        return self._site.stored_content(name, response)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the bucket's address."""
        return origin_of(self._site.url)

    @property
    def archive(self) -> str:
        """The archive, as in ``Archive/dms``."""
        return self._site.archive

    def unreadable(self) -> ArchiveError:
        """Return the error for an answer that is none of the protocol's."""
        return self._site.unreadable_response()

    async def close(self) -> None:
        """Close the connections."""
        await self._site.close()

    async def _send(self, request: StoreRequest, stack: AsyncExitStack) -> httpx.Response:
        """Send a request, again if it fails for a moment; ``stack`` ends the connection that answered."""
        url, sha256 = self._url(request), await sha256_of(request.content)
        since = self._clock.monotonic()
        for pause in RETRY_PAUSES_SECONDS:
            try:
                async with AsyncExitStack() as attempt:
                    response = await self._attempt(request, url, sha256, attempt)
                    if response.status_code not in RETRIED:
                        stack.push_async_exit(attempt.pop_all())
                        return response
            except ArchiveUnavailable:
                if self._site.is_closed or self._clock.monotonic() - since >= RETRY_SECONDS:
                    raise
            await self._clock.sleep(pause)
        return await self._attempt(request, url, sha256, stack)

    async def _attempt(
        self, request: StoreRequest, url: str, sha256: bytes, stack: AsyncExitStack
    ) -> httpx.Response:
        self._site.check_open()
        length = len(request.content)
        headers = await self._authorizer.headers(
            request.method, url, request.headers, length=length, sha256=sha256
        )
        content = None
        if request.content:
            headers["Content-Length"] = str(length)
            content = _slices(request.content)
        exchange = self._site.exchange(request.method, url, headers=headers, content=content)
        response = await stack.enter_async_context(exchange)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._authorizer.refused(headers)
        return response

    def _url(self, request: StoreRequest) -> str:
        if sum(map(len, request.query.values())) > MAX_QUERY_CHARACTERS:
            raise self.unreadable()
        query = "&".join(f"{_quoted(key)}={_quoted(value)}" for key, value in request.query.items())
        address = f"{self._site.url}/{request.path}" if request.path else self._site.url
        return f"{address}?{query}" if query else address


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


async def sha256_of(content: Content) -> bytes:
    """Return the hash of a body; a big one is hashed in a thread."""
    if len(content) <= INLINE:
        return hashlib.sha256(content).digest()
    return (await in_hashing_thread(partial(hashlib.sha256, content))).digest()


async def _slices(content: Content) -> AsyncGenerator[bytes, None]:
    view = memoryview(content)
    for start in range(0, len(content), SENT_AT_ONCE):
        piece = bytes(view[start : start + SENT_AT_ONCE])
        yield piece
        count_sent(len(piece))


def error_of_response(
    answer: ObjectStoreResponse, dialect: ErrorDialect, bucket: BucketAddress
) -> ArchiveError:
    """Return the error for an answer other than success, by who must act."""
    code = dialect.synonyms.get(answer.code, answer.code)
    said = [code] if code else []
    if code or answer.status not in OF_THE_SERVICE:
        said.append(answer.status)
    found = (find_text({**dialect.rules, **COMMON_ERROR_RULES}, each) for each in said)
    is_failure = answer.status.startswith("5") or answer.status == "408"
    text = next(filter(None, found), _FAILING if is_failure else _REFUSED)
    return text.error(
        bucket.archive,
        answer=answer,
        bucket=bucket.name,
        key=bucket.key,
        server=bucket.server,
        field=dialect.field,
    )


def no_identity(dialect: ErrorDialect, bucket: BucketAddress) -> ArchiveRefused:
    """Return the error for a pod that has no identity which the service knows."""
    return ArchiveRefused(
        "ArchiveNoIdentity",
        f"{bucket.archive}: the pod has no identity that {bucket.server} knows. Name a Secret in "
        f"{dialect.field}.credentialsSecretRef, or give the controller's ServiceAccount a role.",
    )
