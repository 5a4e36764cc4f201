"""
The frame around each request of a browser: limit it, answer it, count it and log it.

Each request passes: rate, path, method, limit of concurrent requests, and then ``respond`` of the subclass.
What a client can make as long as it likes (cookies, query, body) is parsed after the rate.
Every answer is a page in the browser's language or a redirect. The log line has the page and the outcome,
but no query, no cookie, no token and no form value: those hold codes, states and personal text.
"""

import asyncio
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar, Final, Generic, TypeVar

from aiohttp import web
from prometheus_client import Counter, Histogram

from counterfoil import tracing
from counterfoil.i18n.catalogue import LANGUAGES, Catalogue, CatalogueName, load_catalogue
from counterfoil.kube.errors import ApiError
from webhook.http_server.cookies import parse_cookies
from webhook.http_server.errors import ErrorKind, HttpErrorKind, PageError
from webhook.http_server.limits import HttpLimits
from webhook.http_server.rate_limit import ClientBuckets
from webhook.http_server.request_headers import NO_ADDRESS, client_ip
from webhook.http_server.responses import FAVICON_PATH, PageResponse, favicon

_log = logging.getLogger(__name__)

OUTCOME_SHOWN: Final = "shown"
OUTCOME_REDIRECTED: Final = "led_on"
OUTCOME_CUT: Final = "cut"

_MAX_LANGUAGE_RANGES: Final = 32

_LANGUAGE_RANGE: Final = re.compile(
    r"(\*|[a-z]+)(?:-[a-z0-9-]*)?\s*(?:;\s*(?:q\s*=\s*(0(?:\.\d*)?|1(?:\.0*)?))?)?"
)
"""A language, and the weight of the preference for it."""


@dataclass(frozen=True)
class Route:
    """The page that a path leads to. ``page`` is also its label in the metrics."""

    page: StrEnum
    methods: tuple[str, ...] = ("GET",)
    """Methods of the page; empty when there is no such page."""


@dataclass(kw_only=True)
class BrowserRequest:
    """One request; the defaults stand for a request that could not be read."""

    route: Route
    words: Catalogue
    method: str = "GET"
    target: str = ""
    """Path and query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    """Empty until the rate limit has let the request pass."""
    client: str = NO_ADDRESS
    """Address or network of the client."""
    traceparent: str | None = None
    """The span of this request; None before it begins, or without traces."""

    @property
    def query_text(self) -> str:
        """The query, not parsed."""
        return self.target.partition("?")[2]


def check_rate(wait: float, what: str) -> None:
    """Raise ``PageError`` if a bucket had no token; ``wait`` is its answer."""
    if wait:
        raise PageError(HttpErrorKind.BUSY, f"more {what} than the rate; next in {math.ceil(wait)} s")


B = TypeVar("B", bound=BrowserRequest)


class BrowserHandler(ABC, Generic[B]):
    """
    Answers the requests of browsers. ``monotonic`` is a clock in seconds that never goes back.

    ``rates`` has the rate of each client and that of all, and ``proxies`` is the number of proxies that tell
    the client's address.
    """

    catalogue: ClassVar[CatalogueName]
    log_name: ClassVar[str]
    administrator_kinds: ClassVar[frozenset[ErrorKind]] = frozenset()
    """Kinds of errors that an administrator must solve: the log line is a warning."""

    def __init__(
        self,
        new_request: Callable[..., B],
        match_route: Callable[[str], Route],
        *,
        requests: Counter,
        seconds: Histogram,
        rates: ClientBuckets,
        proxies: int,
        limits: HttpLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._new_request = new_request
        self._match_route = match_route
        self._requests = requests
        self._seconds = seconds
        self._rates = rates
        self._proxies = proxies
        self._http_limits = limits
        self._monotonic = monotonic
        self._in_flight = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Every request but that of the icon is counted and logged, and has an answer
        also after an unexpected error."""
        if request.raw_path == FAVICON_PATH and request.method == "GET":
            return favicon()
        started = self._monotonic()
        asked = self._new_request(
            route=self._match_route(request.raw_path.partition("?")[0]),
            words=self._words(request.headers.get("Accept-Language")),
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
        )
        detail = ""
        try:
            page = await self._respond_within_limits(request, asked)
            response, outcome = self._response(asked, page), _outcome(page)
            if page.stream is not None:
                outcome = await self._send(request, response, page.stream_start, page.stream)
        except Exception as raised:
            error = self._as_page_error(raised)
            response = self._response(asked, self.error_page(asked, error))
            outcome, detail = str(error.kind), error.detail
        if request.can_read_body and not request.content.at_eof():
            response.force_close()
        self._log_result(asked, outcome, detail, response.status, self._monotonic() - started)
        return response

    def answer_unreadable(self) -> web.StreamResponse:
        """Answer a request that is not HTTP, or whose line or headers exceed the limits."""
        asked = self._new_request(route=self._match_route(""), words=self._words(None))
        error = PageError(HttpErrorKind.LINK_BROKEN, "not HTTP, or longer than the limits allow")
        response = self._response(asked, self.error_page(asked, error))
        response.force_close()
        self._log_result(asked, str(error.kind), error.detail, response.status, 0.0)
        return response

    # -- What a subclass adds -------------------------------------------------------------------------------

    @abstractmethod
    async def respond(self, request: web.BaseRequest, asked: B) -> PageResponse:
        """Return the page. Raises ``PageError``, ``ApiError``."""

    @abstractmethod
    def error_page(self, asked: B, error: PageError) -> PageResponse:
        """Return the page of an error."""

    @abstractmethod
    def headers(self, asked: B, response: PageResponse) -> dict[str, str]:
        """Return the headers of every answer."""

    def from_api_server(self, problem: ApiError) -> PageError:
        """Return the page error for an error of the API server."""
        return PageError(HttpErrorKind.CLUSTER_DOWN, str(problem))

    def log_fields(self, asked: B) -> dict[str, str | None]:
        """Return further fields of the log line."""
        return {}

    # -- The frame ------------------------------------------------------------------------------------------

    async def _respond_within_limits(self, request: web.BaseRequest, asked: B) -> PageResponse:
        asked.client = client_ip(
            request.remote, request.headers.getall("X-Forwarded-For", ()), proxies=self._proxies
        )
        is_page = bool(asked.route.methods)
        # A path without a page takes nothing of the rate of all: anybody may ask for any path.
        take = self._rates.take if is_page else self._rates.take_own
        check_rate(take(asked.client, self._monotonic()), "pages")
        asked.cookies = parse_cookies(request.headers.get("Cookie", ""))
        if not is_page:
            raise PageError(HttpErrorKind.NOT_FOUND, "not the path of a page")
        if request.method not in asked.route.methods:
            raise PageError(HttpErrorKind.WRONG_METHOD)
        if self._in_flight >= self._http_limits.in_flight:
            raise PageError(HttpErrorKind.BUSY, f"{self._in_flight} requests are in progress")
        self._in_flight += 1
        try:
            return await self._respond_traced(request, asked)
        finally:
            self._in_flight -= 1

    async def _respond_traced(self, request: web.BaseRequest, asked: B) -> PageResponse:
        """Respond within a span. It links to the trace of the client, which must not choose ours."""
        name, linked = f"{self.log_name} {asked.route.page}", asked.headers.get("traceparent")
        error: PageError | None = None
        with tracing.root_span(name, linked=linked) as step:
            asked.traceparent = step.traceparent
            try:
                response = await self.respond(request, asked)
                step.set_attributes(outcome=_outcome(response))
            except Exception as raised:
                error = self._as_page_error(raised)
                step.set_attributes(outcome=str(error.kind))
        if error is not None:
            raise error
        return response

    async def _send(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        start: bytes,
        stream: AsyncGenerator[bytes, None],
    ) -> str:
        """Send the parts of a file; return the outcome. A file that ends early breaks the connection, so that
        the client does not take it for whole."""
        try:
            async with aclosing(stream), asyncio.timeout(self._http_limits.stream_seconds):
                await response.prepare(request)
                await response.write(start)
                async for chunk in stream:
                    await response.write(chunk)
                await response.write_eof()
        except Exception as raised:
            _log.warning("a file was not sent completely: %s", self._as_page_error(raised).detail or raised)
            if request.transport is not None:
                request.transport.abort()
            return OUTCOME_CUT
        return OUTCOME_SHOWN

    def _response(self, asked: B, response: PageResponse) -> web.StreamResponse:
        return response.with_headers(self.headers(asked, response))

    def _words(self, accept_language: str | None) -> Catalogue:
        return load_catalogue(self.catalogue, negotiate_language(accept_language))

    def _as_page_error(self, raised: Exception) -> PageError:
        if isinstance(raised, PageError):
            return raised
        if isinstance(raised, ApiError):
            return self.from_api_server(raised)
        _log.error("a page could not be made", exc_info=raised)
        return PageError(HttpErrorKind.UNEXPECTED)

    def _log_result(self, asked: B, outcome: str, detail: str, status: int, seconds: float) -> None:
        page = str(asked.route.page)
        is_warning = outcome in self.administrator_kinds or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        self._requests.labels(page, outcome).inc()
        self._seconds.labels(page).observe(seconds, tracing.exemplar(asked.traceparent))
        fields = {
            "trace_id": asked.traceparent.split("-")[1] if asked.traceparent is not None else None,
            **self.log_fields(asked),
        }
        _log.log(
            logging.WARNING if is_warning else logging.INFO,
            "%s %s: %s",
            self.log_name,
            page,
            f"{outcome}: {detail}" if detail else outcome,
            extra={**fields, "outcome": outcome, "status": status, "seconds": round(seconds, 4)},
        )


def _outcome(page: PageResponse) -> str:
    return OUTCOME_REDIRECTED if page.location else OUTCOME_SHOWN


def negotiate_language(accept_language: str | None) -> str:
    """Return the language that the browser prefers, or the default; never fails. (RFC 9110, 12.5.4)"""
    preferences = []
    for position, language_range in enumerate((accept_language or "").split(",")[:_MAX_LANGUAGE_RANGES]):
        found = _LANGUAGE_RANGE.fullmatch(language_range.strip().lower())
        weight = float(found[2] or 1) if found is not None else 0.0
        if found is not None and weight > 0 and (found[1] in LANGUAGES or found[1] == "*"):
            preferences.append((-weight, position, found[1]))
    preferred = min(preferences, default=(0.0, 0, "*"))[2]
    return LANGUAGES[0] if preferred == "*" else preferred
