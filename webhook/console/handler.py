"""
Handle one browser request: authenticate it, call the view of its page, and answer.

Each request passes: static files, rate (of the client, then of all), path, method, limit of concurrent
requests, session, and then the view. Every answer is a page in the browser's language or a redirect, with
security headers. The log line has the person, the page and the outcome, but no token, no cookie and no query.
"""

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from msgspec.structs import replace

from counterfoil.clock import Clock
from counterfoil.i18n.catalogue import Catalogue, CatalogueName, load_catalogue
from counterfoil.kube.errors import ApiError
from counterfoil.metrics import Metrics
from counterfoil.settings import SignIn
from webhook.console import routes
from webhook.console.access import AuthenticatedUser, Authenticator
from webhook.console.errors import ConsoleErrorKind, from_api_server
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.routes import METHODS, ConsolePageName, ConsoleRoute, match_route
from webhook.console.sessions import ConsoleSession, ConsoleSessions, bearer_token, is_bearer_token
from webhook.console.views import ConsoleRequest, ConsoleResponse, ConsoleViews
from webhook.http_server.client_ip import client_ip
from webhook.http_server.errors import ErrorKind, PageError
from webhook.http_server.rate_limit import TokenBucket, TokenBuckets
from webhook.http_server.responses import error_headers, html_response, redirect_response, with_cookies
from webhook.pages.languages import negotiate_language

_log = logging.getLogger(__name__)

OUTCOME_SHOWN: Final = "shown"
OUTCOME_REDIRECTED: Final = "led_on"

_SIGN_IN_AGAIN: Final = frozenset({ConsoleErrorKind.SIGN_IN_NEEDED, ConsoleErrorKind.TOKEN_REFUSED})

_HANDLED_BY_PROXY: Final = frozenset({ConsolePageName.SIGN_IN, ConsolePageName.SIGN_OUT})
"""Pages that do not exist behind a proxy that signs people in."""

_USER_NAME: Final = web.RequestKey("who", str)
"""Name of the person, once the request is authenticated."""
_USER: Final = web.RequestKey("visitor", AuthenticatedUser)
"""The same with all that a page's head shows."""


class ConsoleResult(NamedTuple):
    """The outcome of a request, for log and metrics."""

    outcome: str
    detail: str = ""


class ResponseWithCookies(NamedTuple):
    """A reply, and the cookies that come with it."""

    console_response: ConsoleResponse
    cookies: tuple[str, ...] = ()


class ConsoleHandler:
    """
    Answers requests. ``monotonic`` is a clock in seconds that never goes back.

    ``buckets`` has the rate of each address, ``bucket`` that of all, and ``proxies`` is how many of them tell
    whose address it is.
    """

    def __init__(
        self,
        *,
        views: ConsoleViews,
        renderer: ConsoleRenderer,
        sessions: ConsoleSessions,
        authenticator: Authenticator,
        metrics: Metrics,
        clock: Clock,
        sign_in: SignIn,
        buckets: TokenBuckets,
        bucket: TokenBucket,
        proxies: int,
        limits: ConsoleLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._views = views
        self._renderer = renderer
        self._sessions = sessions
        self._authenticator = authenticator
        self._metrics = metrics
        self._clock = clock
        self._is_proxied = sign_in is SignIn.PROXY
        self._buckets = buckets
        self._bucket = bucket
        self._proxies = proxies
        self._refusals = TokenBuckets(
            lambda: TokenBucket(rate=limits.refused_rate, burst=limits.refused_burst),
            max_buckets=limits.client_addresses,
        )
        self._refusals_of_all = TokenBucket(
            rate=limits.refused_rate_of_all, burst=limits.refused_burst_of_all
        )
        self._limits = limits
        self._monotonic = monotonic
        self._in_flight = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Every request is counted and logged, and has an answer also after an unexpected
        error."""
        started = self._monotonic()
        route = match_route(request.raw_path.partition("?")[0])
        if route.page is ConsolePageName.STATIC and (file := self._renderer.static(route.name)) is not None:
            return file
        words = load_catalogue(
            CatalogueName.CONSOLE, negotiate_language(request.headers.get("Accept-Language"))
        )
        try:
            answer = await self._dispatch(request, route, words)
            response = with_cookies(self._success_response(request, answer.console_response), answer.cookies)
            result = ConsoleResult(OUTCOME_REDIRECTED if answer.console_response.location else OUTCOME_SHOWN)
        except Exception as raised:
            console_error = _as_console_error(raised)
            response, result = (
                self._error_response(request, words, console_error),
                ConsoleResult(str(console_error.kind), console_error.detail),
            )
        if request.can_read_body and not request.content.at_eof():
            response.force_close()
        self._log_result(route, result, response.status, self._monotonic() - started, request.get(_USER_NAME))
        return response

    def answer_unreadable(self) -> web.StreamResponse:
        """Answer a request that is not HTTP, or whose line or headers exceed the limits."""
        words = load_catalogue(CatalogueName.CONSOLE, negotiate_language(None))
        html = self._renderer.page(
            "message.html", words, self._clock.now(), section=str(ConsoleErrorKind.LINK_BROKEN), code=""
        )
        response = html_response(html, HTTPStatus.BAD_REQUEST, self._renderer.headers())
        response.force_close()
        self._log_result(
            ConsoleRoute(ConsolePageName.NONE),
            ConsoleResult(str(ConsoleErrorKind.LINK_BROKEN), "not HTTP"),
            response.status,
            0.0,
        )
        return response

    # -- In turn --------------------------------------------------------------------------------------------

    async def _dispatch(
        self, request: web.BaseRequest, route: ConsoleRoute, words: Catalogue
    ) -> ResponseWithCookies:
        self._check_rate(self._buckets.for_name(self._client_ip(request)), "pages for one address")
        self._check_rate(self._bucket, "pages for all")
        if route.page in (ConsolePageName.NONE, ConsolePageName.STATIC):
            raise PageError(ConsoleErrorKind.NOT_FOUND, "not the path of a page")
        if request.method not in METHODS.get(route.page, ("GET",)):
            raise PageError(ConsoleErrorKind.WRONG_METHOD)
        if self._in_flight >= self._limits.in_flight:
            raise PageError(ConsoleErrorKind.BUSY, f"{self._in_flight} requests are in progress")
        self._in_flight += 1
        try:
            if request.method == "POST":
                return await self._dispatch_post(request, route, words)
            return await self._dispatch_get(request, route, words)
        finally:
            self._in_flight -= 1

    def _check_rate(self, bucket: TokenBucket, what: str) -> None:
        wait = bucket.take(self._monotonic())
        if wait:
            raise PageError(ConsoleErrorKind.BUSY, f"more {what} than the rate; next in {math.ceil(wait)} s")

    def _client_ip(self, request: web.BaseRequest) -> str:
        return client_ip(request.remote, request.headers.getall("X-Forwarded-For", ()), proxies=self._proxies)

    async def _dispatch_get(
        self, request: web.BaseRequest, route: ConsoleRoute, words: Catalogue
    ) -> ResponseWithCookies:
        query = routes.parse_query(request.raw_path.partition("?")[2], self._limits)
        is_way_in = route.page is ConsolePageName.SIGN_IN
        back = routes.local_location(query.get("back", "/") if is_way_in else request.raw_path)
        session = self._session(request)
        if session is None:
            return self._without_session(request, words, back)
        if is_way_in:
            return ResponseWithCookies(ConsoleResponse(location=back))
        console_request = await self._console_request(request, words, session)
        if route.page is ConsolePageName.HOME:
            console_response = ConsoleResponse(
                location=_attention_location(request.raw_path.partition("?")[2])
            )
        else:
            console_response = await self._view(route, console_request)
        return ResponseWithCookies(console_response, self._binding_cookies(request, session))

    async def _view(self, route: ConsoleRoute, console_request: ConsoleRequest) -> ConsoleResponse:
        if route.page is ConsolePageName.EVENT:
            return await self._views.event(console_request, route.name)
        if route.page is ConsolePageName.YAML:
            return await self._views.yaml(console_request, route.name)
        leaves = {
            ConsolePageName.ATTENTION: self._views.attention,
            ConsolePageName.EVENTS: self._views.events,
            ConsolePageName.SENDERS: self._views.senders,
            ConsolePageName.ARCHIVES: self._views.archives,
            ConsolePageName.ORGANIZATIONS: self._views.organizations,
        }
        return await leaves[route.page](console_request)

    async def _dispatch_post(
        self, request: web.BaseRequest, route: ConsoleRoute, words: Catalogue
    ) -> ResponseWithCookies:
        if self._is_proxied and route.page in _HANDLED_BY_PROXY:
            raise PageError(ConsoleErrorKind.NOT_FOUND, "the proxy signs people in and out")
        if not routes.is_same_origin(request.headers):
            raise PageError(ConsoleErrorKind.FORM_STALE, "the form came from somebody else's page")
        is_way_in = route.page is ConsolePageName.SIGN_IN
        session = self._sessions.guest(request.cookies) if is_way_in else self._session(request)
        form = await routes.read_form(request, self._limits)
        if session is None:
            raise PageError(ConsoleErrorKind.FORM_STALE, "no session in this browser, or too old")
        if not self._sessions.is_valid_form_token(session, form.get("form", "")):
            raise PageError(ConsoleErrorKind.FORM_STALE, "the form carries no token of this session's")
        if is_way_in:
            return await self._sign_in(request, form)
        if route.page is ConsolePageName.SIGN_OUT:
            request[_USER_NAME] = session.user
            return ResponseWithCookies(ConsoleResponse(location="/sign-in"), self._sessions.expire())
        console_request = await self._console_request(request, words, session)
        return ResponseWithCookies(await self._views.act(console_request, form))

    # -- Who it is ------------------------------------------------------------------------------------------

    def _session(self, request: web.BaseRequest) -> ConsoleSession | None:
        """Return who is signed in in this browser; behind a proxy with the token that the proxy passes
        now."""
        if not self._is_proxied:
            return self._sessions.read(request.cookies)
        token = bearer_token(request.headers.get("Authorization"))
        if not is_bearer_token(token, limit=self._limits.token):
            raise PageError(ConsoleErrorKind.PROXY_SILENT, "the proxy passed no Authorization: Bearer")
        # The cookie holds no token then: it only binds forms to the browser.
        known = self._sessions.guest(request.cookies) or self._sessions.begin("", "")
        return replace(known, token=token)

    def _binding_cookies(self, request: web.BaseRequest, session: ConsoleSession) -> tuple[str, ...]:
        """Return the cookie that binds forms to a browser behind a proxy, if it has none yet; without the
        token."""
        if not self._is_proxied or self._sessions.guest(request.cookies) is not None:
            return ()
        return self._sessions.cookies(replace(session, token=""))

    def _without_session(self, request: web.BaseRequest, words: Catalogue, back: str) -> ResponseWithCookies:
        if "HX-Request" in request.headers:
            raise PageError(ConsoleErrorKind.SIGN_IN_NEEDED, "the session has ended")
        if routes.is_cross_site_navigation(request.headers):
            # A link in a mail: the browser kept the cookie back, and sends it with the next request from this
            # page.
            html = self._renderer.page(
                "onward.html", words, self._clock.now(), onward=routes.local_location(request.raw_path)
            )
            return ResponseWithCookies(ConsoleResponse(html=html))
        return self._sign_in_page(request, words, back)

    async def _console_request(
        self, request: web.BaseRequest, words: Catalogue, session: ConsoleSession
    ) -> ConsoleRequest:
        auth_user = await self._authenticator.authenticate(session.token, self._sessions.form_token(session))
        raw = request.raw_path
        query = routes.parse_query(raw.partition("?")[2], self._limits) if request.method == "GET" else {}
        request[_USER_NAME], request[_USER] = auth_user.name, auth_user
        return ConsoleRequest(
            auth_user, words, query, routes.local_location(raw), is_refresh="HX-Request" in request.headers
        )

    def _sign_in_page(
        self,
        request: web.BaseRequest,
        words: Catalogue,
        back: str,
        console_error: ErrorKind | None = None,
    ) -> ResponseWithCookies:
        # The form in another tab stays good.
        guest = self._sessions.guest(request.cookies) or self._sessions.begin("", "")
        html = self._renderer.page(
            "sign_in.html",
            words,
            self._clock.now(),
            form_token=self._sessions.form_token(guest),
            back=back,
            console_error=console_error,
        )
        status = HTTPStatus.OK if console_error is None else console_error.status
        return ResponseWithCookies(
            ConsoleResponse(html=html, status=status), cookies=self._sessions.cookies(guest)
        )

    async def _sign_in(self, request: web.BaseRequest, form: dict[str, str]) -> ResponseWithCookies:
        own, of_all = self._refusals.for_name(self._client_ip(request)), self._refusals_of_all
        self._check_rate(own, "refused tokens of one address")
        self._check_rate(of_all, "refused tokens of all")
        token = "".join(form.get("token", "").split())
        if not is_bearer_token(token, limit=self._limits.token):
            raise PageError(ConsoleErrorKind.TOKEN_REFUSED, "what was entered is no bearer token")
        name = request[_USER_NAME] = await self._authenticator.user_name(token)
        # Taken before the API server was asked, so that many tries at once are not more than many one by one.
        own.return_token()
        of_all.return_token()
        session = self._sessions.begin(name, token)
        back = routes.local_location(form.get("back", "/"))
        return ResponseWithCookies(ConsoleResponse(location=back), self._sessions.cookies(session))

    # -- Answers --------------------------------------------------------------------------------------------

    def _success_response(self, request: web.BaseRequest, console_response: ConsoleResponse) -> web.Response:
        headers = self._renderer.headers(is_https=_is_https(request))
        if console_response.location:
            return redirect_response(console_response.location, headers)
        return html_response(console_response.html, console_response.status, headers)

    def _error_response(
        self, request: web.BaseRequest, words: Catalogue, console_error: PageError
    ) -> web.Response:
        headers = self._renderer.headers(is_https=_is_https(request))
        if "HX-Request" in request.headers and console_error.kind in _SIGN_IN_AGAIN:
            # An open page that looked for news: reload the whole page, which shows the error.
            return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={**headers, "HX-Refresh": "true"})
        if console_error.kind in _SIGN_IN_AGAIN and not self._is_proxied:
            back = routes.local_location(request.raw_path) if request.method == "GET" else "/"
            answer = self._sign_in_page(request, words, back, console_error.kind)
            return with_cookies(
                html_response(answer.console_response.html, answer.console_response.status, headers),
                answer.cookies,
            )
        html = self._renderer.page(
            "message.html",
            words,
            self._clock.now(),
            auth_user=request.get(_USER),
            section=str(console_error.kind),
            code=console_error.code,
        )
        status = console_error.kind.status
        return html_response(html, status, headers | error_headers(status))

    def _log_result(
        self,
        route: ConsoleRoute,
        result: ConsoleResult,
        status: int,
        seconds: float,
        user_name: str | None = None,
    ) -> None:
        self._metrics.console.labels(str(route.page), result.outcome).inc()
        self._metrics.console_seconds.labels(str(route.page)).observe(seconds)
        _log.log(
            logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO,
            "console %s: %s",
            route.page,
            f"{result.outcome}: {result.detail}" if result.detail else result.outcome,
            extra={
                "outcome": result.outcome,
                "who": user_name,
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


def _as_console_error(raised: Exception) -> PageError:
    if isinstance(raised, PageError):
        return raised
    if isinstance(raised, ApiError):
        return from_api_server(raised)
    _log.error("a page could not be made", exc_info=raised)
    return PageError(ConsoleErrorKind.UNEXPECTED)


def _attention_location(query: str) -> str:
    return f"/attention?{query}" if query else "/attention"


def _is_https(request: web.BaseRequest) -> bool:
    return request.headers.get("X-Forwarded-Proto", "").lower() == "https"
