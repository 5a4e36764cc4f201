"""
One call to eSAW over HTTP, with a bounded response. Every failure becomes an ``EsawError``.

A call waits for the rate limiter, goes to the organization's host only, and is sent once: the reconciler
retries. A credential has the origin that it belongs to; a request to another one is not built (rule 11).
``counterfoil.esaw.models`` interprets the bytes of a response.

The token is sent as ``Authorization: Bearer``. eSAW also accepts a header ``ApiToken`` (Namirial, v6
"Introduction REST"), but caches know the standard header and do not store the response (RFC 9111, 3.5), and
log filters and httpx do not print it.

No exception of httpx leaves this module, not even as ``__context__``: it would contain the request with the
token. So errors are raised after an ``except`` block and not in it.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.esaw.errors import (
    EsawError,
    EsawUnreachable,
    HttpStatusError,
    OriginMismatch,
    ResponseInvalid,
    ResponseTooLarge,
    TransferBroken,
    UnexpectedRedirect,
    UnreachableKind,
)
from counterfoil.esaw.limits import READ_BYTES, CallLimits
from counterfoil.esaw.models import is_markup, is_oauth_error, parse_error, refuse_error_body
from counterfoil.esaw.rate_limit import RateLimiter, suspended
from counterfoil.esaw.token import AcceptedHeader, ApiToken, TokenHeader
from counterfoil.origin import origin_of
from counterfoil.untrusted.addresses import is_address_forbidden
from counterfoil.untrusted.http_transport import OWNER, InvalidResponse, has_trailing_bytes
from counterfoil.untrusted.json_bounds import MAX_CONTAINERS, has_too_many_values
from counterfoil.untrusted.large_answers import LARGE_ANSWERS, SMALL_BYTES, AnswerBody, AnswerTooSlow, Grow
from counterfoil.untrusted.transfer_rate import RateBudget

CallObserver = Callable[[str, str, float], None]
"""Called after each call: operation, code (an HTTP status, ``unreachable``, ``unreadable``), seconds."""

ApiVersion = Literal["v5", "v6"]

T = TypeVar("T")


@dataclass(frozen=True)
class EsawCall:
    """
    One call: its name for metrics and messages, and its request.

    A ``path`` is relative to ``/Api/`` and the API's version, or to the base URL when it begins with a slash.
    The body is JSON or a form; ``repr`` shows neither a form nor an authorization.
    """

    operation: str
    method: Literal["GET", "POST"]
    path: str
    body: Mapping[str, str] | None = None
    accept: str = "application/json"
    form: Mapping[str, str] | None = field(default=None, repr=False)
    authorization: str | None = field(default=None, repr=False)
    """Content of ``Authorization``, for a call without a token."""
    secret_origin: str | None = None
    """Origin that a form or an authorization belongs to; they are not sent without it."""
    api: ApiVersion = "v6"
    is_public: bool = False
    """Whether eSAW may answer it without a valid token, so that an answer says nothing about the token."""
    max_bytes: int | None = None
    """Maximum size of its answer, if that is less than ``CallLimits.max_json_bytes``."""
    max_containers: int = MAX_CONTAINERS
    """Maximum number of lists and objects in its answer."""


@dataclass(frozen=True)
class FileDownload:
    """A file during its transfer. ``chunks`` can be read once; it raises an ``EsawError`` unless the file is
    complete."""

    size: int | None
    """Bytes, as declared by eSAW; None for chunked encoding."""
    content_type: str
    """As declared by eSAW; empty without a declaration."""
    chunks: AsyncIterator[bytes]
    is_named: bool
    """Whether eSAW declared it as a file (``Content-Disposition``)."""


@dataclass(frozen=True)
class Credential:
    """A user's token, and the header that carries it."""

    token: ApiToken
    header: TokenHeader


class AcceptedKey(NamedTuple):
    """A key that eSAW accepted."""

    fingerprint: str
    """Empty if it is not known."""
    at: float
    """Monotonic time of the answer."""


@dataclass(frozen=True)
class SecretHeaders:
    """Headers that carry a credential, and its origin. ``repr`` shows no header."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    origin: str | None = None
    """Origin that the credential belongs to; without one there are no headers."""


@dataclass(frozen=True)
class RawResponse:
    """A response of any status, with the beginning of its body."""

    status: int
    content_type: str = ""
    """As declared; empty without a declaration."""
    length: int | None = None
    """Bytes, as declared; None without a declaration."""
    is_chunked: bool = False
    redirect_origin: str = ""
    """Scheme and host to which it redirects; empty without a redirect, or for a place without them."""
    body: bytes = field(default=b"", repr=False)
    is_cut: bool = False
    """Whether the body is longer than what was read."""


def _unchanged(answer: RawResponse) -> RawResponse:
    return answer


class EsawTransport:
    """Sends the calls of one organization."""

    last_accepted: AcceptedKey | None = None
    """The key of the last call that eSAW answered as it should; None: this client knows none."""

    def __init__(
        self,
        base_url: str,
        *,
        http: httpx.AsyncClient,
        clock: Clock,
        requests_per_second: float | None = None,
        observe: CallObserver,
        call_limits: CallLimits | None = None,
        token_header: TokenHeader | None = None,
        namespace: str = "",
    ) -> None:
        """
        ``http`` comes from ``new_http_client``. All organizations can share it, and its owner closes it. With
        a ``token_header``, no call uses the other one. The calls take connections from the share of their
        ``namespace``.

        Raises ``ValueError`` for an invalid base URL or rate.
        """
        self._base = _validated_base_url(base_url)
        self.origin = origin_of(self._base)
        """Origin of all requests."""
        self._http = http
        self._namespace = namespace
        self._clock = clock
        self._observe = observe
        self._call_limits = call_limits = call_limits or CallLimits()
        self._rate_limiter = RateLimiter(
            clock, per_second=requests_per_second, max_retry_after=call_limits.max_retry_after
        )
        # The wait for a connection ends well before the call, so that it is known that nothing was sent.
        free_connection = min(call_limits.silence, call_limits.answer / 2)
        self._timeout = httpx.Timeout(call_limits.silence, connect=call_limits.connect, pool=free_connection)
        # v5 documents Bearer for some calls only. (Namirial, "v5 Api Reference - Introduction REST")
        assumed: dict[ApiVersion, TokenHeader] = {"v6": TokenHeader.BEARER, "v5": TokenHeader.API_TOKEN}
        is_known = token_header is not None
        self._accepted = {
            api: AcceptedHeader(token_header or header, is_known=is_known) for api, header in assumed.items()
        }

    @property
    def token_header(self) -> TokenHeader | None:
        """The header in which the API v6 accepts tokens; None: not known yet."""
        accepted = self._accepted["v6"]
        return accepted.header if accepted.is_known else None

    async def request(self, call: EsawCall, token: ApiToken | None, read: Callable[[bytes], T]) -> T:
        """Make a call with a small response; return the result of ``read``. Raises an ``EsawError``."""
        if token is None:
            return await self._receive(call, None, read)
        return await self._with_accepted_header(
            call.api, lambda header: self._receive(call, Credential(token, header), read)
        )

    @asynccontextmanager
    async def download(self, call: EsawCall, token: ApiToken) -> AsyncIterator[FileDownload]:
        """Make a call whose response is a file. Raises an ``EsawError``; so does reading the chunks."""
        async with AsyncExitStack() as stack:
            yield await self._with_accepted_header(
                call.api,
                lambda header: stack.enter_async_context(self._file(call, Credential(token, header))),
            )

    async def _with_accepted_header(self, api: ApiVersion, send: Callable[[TokenHeader], Awaitable[T]]) -> T:
        """
        Send a request with the accepted header. While none is known, eSAW's own 401 sends it again with the
        other one.

        A 401 without eSAW's own form, such as a proxy's, says nothing about the header.
        """
        accepted = self._accepted[api]
        header = accepted.header
        try:
            return await send(header)
        except HttpStatusError as answer:
            is_settled = accepted.is_known and accepted.header is header
            if is_settled or answer.status != httpx.codes.UNAUTHORIZED or not answer.has_own_form:
                raise
        return await send(header.other)

    async def _receive(self, call: EsawCall, credential: Credential | None, read: Callable[[bytes], T]) -> T:
        await self._rate_limiter.acquire()
        with self._measurement(call) as measurement:
            body = await self._with_timeout(measurement, self._read_body(call, credential, measurement))
            refuse_error_body(call.operation, body)
            answer = read(body)
        if credential is not None:
            self.key_accepted(credential.token)
            if not call.is_public:
                self._accepted[call.api].confirm(credential.header)
        return answer

    def key_accepted(self, token: ApiToken) -> None:
        """Record that eSAW answered a call with this key."""
        self.last_accepted = AcceptedKey(token.fingerprint, self._clock.monotonic())

    @asynccontextmanager
    async def _file(self, call: EsawCall, credential: Credential) -> AsyncIterator[FileDownload]:
        await self._rate_limiter.acquire()
        with self._measurement(call) as measurement:
            async with AsyncExitStack() as stack:
                opening = stack.enter_async_context(self._open_response(call, credential, measurement))
                response = await self._with_timeout(measurement, opening)
                size = _declared_size(call, response)
                chunks = self._chunks(_ResponseBody(response), measurement)
                stack.push_async_callback(chunks.aclose)
                yield FileDownload(
                    size,
                    response.headers.get("Content-Type", ""),
                    chunks,
                    is_named="Content-Disposition" in response.headers,
                )

    async def exchange(
        self,
        call: EsawCall,
        headers: SecretHeaders,
        *,
        most: int,
        reduce: Callable[[RawResponse], RawResponse] = _unchanged,
    ) -> RawResponse:
        """
        Make a call; return its response with at most ``most`` bytes of its body, also an unsuccessful one.

        ``reduce`` returns what is kept of it; for a large one it runs in a thread. For the check of what eSAW
        does. Raises ``EsawUnreachable``, ``RateLimited``.
        """
        await self._rate_limiter.acquire()
        with self._measurement(call) as measurement:
            answering = self._read_raw(call, headers, most, reduce, measurement)
            return await self._with_timeout(measurement, answering)

    @contextmanager
    def _measurement(self, call: EsawCall) -> Iterator["_CallMeasurement"]:
        """Report the call to the metrics. A call that is cancelled before its response is not counted."""
        measurement = _CallMeasurement(self._clock)
        with tracing.detached_span(f"eSAW {call.operation}") as step:
            try:
                yield measurement
            except EsawError as problem:
                measurement.code = problem.code
                raise
            finally:
                if measurement.code is not None:
                    step.set_attributes(code=measurement.code)
                    self._observe(call.operation, measurement.code, measurement.waited)

    async def _with_timeout(self, measurement: "_CallMeasurement", step: Awaitable[T]) -> T:
        """Run one step of a call within the timeout. Raises ``EsawUnreachable`` for all errors of the
        network."""
        kind: UnreachableKind
        fault = ""
        try:
            with measurement.waiting():
                async with asyncio.timeout(self._call_limits.answer) as measurement.deadline:
                    return await step
        except TimeoutError:
            kind = "timeout"
        except AnswerTooSlow:
            kind = "slow"
        except httpx.TransportError as error:
            kind = _unreachable_kind(error)
            fault = str(error) if isinstance(error, InvalidResponse) else ""
        raise EsawUnreachable(kind, fault)

    @asynccontextmanager
    async def _open_response(
        self, call: EsawCall, credential: Credential | None, measurement: "_CallMeasurement"
    ) -> AsyncIterator[httpx.Response]:
        """Send the request and yield a successful response with unread body. Raises httpx's errors as
        well."""
        response = await self._http.send(self._request(call, credential), stream=True, follow_redirects=False)
        try:
            if not response.is_success:
                raise await self._error_of(call, response)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ResponseInvalid(call.operation, "it is compressed, though that was not asked for")
            measurement.code = str(response.status_code)
            yield response
        finally:
            await response.aclose()

    def _request(self, call: EsawCall, credential: Credential | None) -> httpx.Request:
        # A separate function, so that no frame of an error's traceback has the headers as a variable.
        # identity: then the length on the wire is the length of the file.
        # no-store: a cache may store the answer to a request without Authorization. (RFC 9111, 3.5)
        headers = {
            "Accept": call.accept,
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache, no-store",
        }
        if call.authorization is not None:
            headers["Authorization"] = call.authorization
        if credential is not None:
            headers[credential.header] = credential.header.content(credential.token)
        url = (
            self._base + call.path
            if call.path.startswith("/")
            else f"{self._base}/Api/{call.api}/{call.path}"
        )
        request = self._http.build_request(
            call.method,
            url,
            headers=headers,
            json=call.body,
            data=call.form,
            timeout=self._timeout,
            extensions={OWNER: self._namespace},
        )
        if credential is not None:
            self._refuse_other_origin(request, credential.token.origin)
        if call.authorization is not None or call.form is not None:
            self._refuse_other_origin(request, call.secret_origin)
        return request

    def _refuse_other_origin(self, request: httpx.Request, origin: str | None) -> None:
        """Raise ``OriginMismatch`` for a request that would carry a credential of another origin."""
        # The request's own URL too: it is what httpx connects to.
        if origin is None or not origin == self.origin == origin_of(str(request.url)):
            raise OriginMismatch(origin or "", self.origin)

    async def _error_of(self, call: EsawCall, response: httpx.Response) -> EsawError:
        if response.is_redirect:
            return UnexpectedRedirect(response.status_code, _origin(response.headers.get("Location", "")))
        try:
            body = await _read_at_most(self._call_limits.max_error_bytes, _ResponseBody(response))
        except EsawError:
            body = None
        error_id, trace_id = parse_error(body or b"")
        if call.form is None and error_id is not None and is_oauth_error(error_id):
            error_id = None
        is_empty_401 = response.status_code == httpx.codes.UNAUTHORIZED and body == b""
        is_own_401 = is_empty_401 and _asks_for_token_only(response)
        is_html = body != b"" and "html" in response.headers.get("Content-Type", "").lower()
        is_page = error_id is None and (body is None or is_html or is_markup(body))
        wait = self._rate_limiter.parse_retry_after(response.headers.get("Retry-After"))
        answered = HttpStatusError(
            response.status_code,
            error_id,
            retry_after=wait,
            trace_id=trace_id,
            has_own_form=is_own_401,
            is_page=is_page,
        )
        self._rate_limiter.apply_retry_after(answered)
        return answered

    async def _read_raw(
        self,
        call: EsawCall,
        secret: SecretHeaders,
        most: int,
        reduce: Callable[[RawResponse], RawResponse],
        measurement: "_CallMeasurement",
    ) -> RawResponse:
        request = self._request(call, None)
        if secret.values:
            self._refuse_other_origin(request, secret.origin)
            request.headers.update(secret.values)
        async with (
            LARGE_ANSWERS.reading(self.origin, measurement.uncounted) as grow,
            aclosing(await self._http.send(request, stream=True, follow_redirects=False)) as response,
        ):
            measurement.code = str(response.status_code)
            if not response.is_success:
                wait = self._rate_limiter.parse_retry_after(response.headers.get("Retry-After"))
                self._rate_limiter.apply_retry_after(HttpStatusError(response.status_code, retry_after=wait))
            content = AnswerBody()
            async for part in response.aiter_raw():
                content.append(part)
                if content.size > most:
                    break
                await grow(content.size)
            body = content.take()
            declared = response.headers.get("Content-Length", "")
            answer = RawResponse(
                response.status_code,
                response.headers.get("Content-Type", ""),
                int(declared) if declared.isascii() and declared.isdigit() else None,
                is_chunked="Transfer-Encoding" in response.headers,
                redirect_origin=_origin(response.headers.get("Location", "")),
                body=body[:most],
                is_cut=len(body) > most,
            )
            return reduce(answer) if len(body) <= SMALL_BYTES else await asyncio.to_thread(reduce, answer)

    async def _read_body(
        self, call: EsawCall, credential: Credential | None, measurement: "_CallMeasurement"
    ) -> bytes:
        async with (
            LARGE_ANSWERS.reading(self.origin, measurement.uncounted) as grow,
            self._open_response(call, credential, measurement) as response,
        ):
            most = self._call_limits.max_json_bytes
            limit = min(call.max_bytes or most, most)
            body = await _read_at_most(limit, _ResponseBody(response), grow)
            if body is None:
                raise ResponseTooLarge(call.operation, limit)
            if has_too_many_values(body, call.max_containers):
                raise ResponseInvalid(call.operation, "it has too many values")
            return body

    async def _chunks(
        self, body: "_ResponseBody", measurement: "_CallMeasurement"
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body in larger chunks, the last one only after the body is complete."""
        budget = RateBudget(self._call_limits.minimum_rate, block=READ_BYTES)
        parts, held = [], 0
        while (part := await _part_in_time(body, budget, measurement)) is not None:
            parts.append(part)
            held += len(part)
            if held >= self._call_limits.chunk:
                yield b"".join(parts)
                parts, held = [], 0
        if parts:
            yield b"".join(parts)


class _CallMeasurement:
    """Result of a call, and the time of waiting for eSAW, without the time for storing the received data."""

    def __init__(self, clock: Clock) -> None:
        self.code: str | None = None
        self.waited = 0.0
        """Seconds, by a clock that is never set."""
        self._clock = clock
        self.deadline: asyncio.Timeout | None = None
        """End of the step that runs."""

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Wait for something else than eSAW: neither the deadline nor the metrics count the time."""
        deadline = self.deadline
        if deadline is None or deadline.expired() or deadline.when() is None:
            yield
            return
        since = self._clock.monotonic()
        try:
            with suspended(deadline):
                yield
        finally:
            self.waited -= self._clock.monotonic() - since

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Add the time inside the context."""
        since = self._clock.monotonic()
        try:
            yield
        finally:
            self.waited += self._clock.monotonic() - since


class _ResponseBody:
    """The body of a response in chunks, checked against the declared length."""

    def __init__(self, response: httpx.Response) -> None:
        # Not response.aiter_raw(): it returns the connection to the pool before the check for trailing bytes.
        self._parts = aiter(cast("httpx.AsyncByteStream", response.stream))
        self._response = response

    async def part(self) -> bytes | None:
        """Return the next chunk, or None at the end. Raises ``TransferBroken`` or ``EsawUnreachable``."""
        problem: EsawError | None
        try:
            return await anext(self._parts)
        except StopAsyncIteration:
            problem = None
        except httpx.RemoteProtocolError:
            problem = TransferBroken("short")
        except httpx.TransportError as error:
            problem = EsawUnreachable(_unreachable_kind(error))
        if problem is None and await has_trailing_bytes(self._response):
            problem = TransferBroken("long")
        if problem is not None:
            raise problem
        return None


async def _part_in_time(
    body: _ResponseBody, budget: RateBudget, measurement: _CallMeasurement
) -> bytes | None:
    """
    Return the next chunk, or None at the end. Raises ``EsawUnreachable`` for a download that is too slow.

    Only the time of waiting for eSAW counts, so a slow archive has no effect.
    """
    before, part, is_late = measurement.waited, None, False
    try:
        with measurement.waiting():
            async with asyncio.timeout(budget.seconds_left):
                part = await body.part()
    except TimeoutError:
        is_late = True
    budget.add_wait(measurement.waited - before)
    if part is not None:
        budget.add_bytes(len(part))
    if is_late or (part is not None and budget.is_used_up):
        raise EsawUnreachable("slow")
    return part


async def _no_wait(_: int) -> None:
    """A body that is always small."""


async def _read_at_most(limit: int, body: _ResponseBody, grow: Grow = _no_wait) -> bytes | None:
    """Return the complete body, or None when it has more than ``limit`` bytes."""
    content = AnswerBody()
    while (part := await body.part()) is not None:
        content.append(part)
        if content.size > limit:
            return None
        await grow(content.size)
    return content.take()


def _declared_size(call: EsawCall, response: httpx.Response) -> int | None:
    """Return a file's declared length, None for chunked encoding. Raises an ``EsawError`` for a body without
    a declared end."""
    if response.status_code != httpx.codes.OK:
        raise ResponseInvalid(call.operation, f"it has the status {response.status_code}, not 200")
    if _is_message(response.headers):
        raise ResponseInvalid(call.operation, "it is a web page or a message, not a file")
    declared = response.headers.get("Content-Length")
    if declared is None and "Transfer-Encoding" not in response.headers:
        # The end of such a body is not distinguishable from an interruption. (RFC 9112, 6.3)
        raise TransferBroken("unframed")
    return None if declared is None else int(declared)


_MESSAGE_TYPES: Final = frozenset(
    {
        "text/html",
        "text/plain",
        "application/xhtml+xml",
        "application/json",
        "application/problem+json",
        "application/problem+xml",
        "application/soap+xml",
    }
)
"""Not application/xml: an audit trail has that type, so its content decides
(``counterfoil.esaw.downloads``)."""


def _is_message(headers: httpx.Headers) -> bool:
    """Whether a proxy or a login page answered instead of eSAW, which sends files with a disposition."""
    kind, _, _ = headers.get("Content-Type", "").partition(";")
    return kind.strip().lower() in _MESSAGE_TYPES and "Content-Disposition" not in headers


def _asks_for_token_only(response: httpx.Response) -> bool:
    """Whether the answer asks for no login of another program, such as a proxy's. (RFC 9110, 11.6.1)"""
    schemes = [each.lower().split(maxsplit=1) for each in response.headers.get_list("WWW-Authenticate")]
    return all(each[:1] == ["bearer"] for each in schemes)


def _unreachable_kind(error: httpx.TransportError) -> UnreachableKind:
    for types, kind in _UNREACHABLE_KINDS:
        if isinstance(error, types):
            return _connect_kind(error) if kind == "connect" else kind
    return "cut"


def _connect_kind(error: httpx.TransportError) -> UnreachableKind:
    if is_address_forbidden(error):
        return "forbidden"
    return "tls" if _is_caused_by_tls(error) else "connect"


_UNREACHABLE_KINDS: Final[tuple[tuple[type[httpx.TransportError], UnreachableKind], ...]] = (
    (httpx.PoolTimeout, "busy"),
    (httpx.TimeoutException, "timeout"),
    (httpx.ProxyError, "proxy"),
    (httpx.ConnectError, "connect"),
)


def _is_caused_by_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _validated_base_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("the base URL of eSAW starts with https:// and a host name")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("the base URL of eSAW has no user, no query and no fragment")
    return base_url.rstrip("/")


def _origin(location: str) -> str:
    """Return where a redirect leads, without path and query, which may hold what is nobody's business."""
    found = re.match(r"https?://[A-Za-z0-9.:\[\]-]{1,255}(?=[/?#]|$)", location)
    return found.group() if found else ""
