"""
Handle one request for a page of the console: authenticate the person, call the view of the page, and answer.

``webhook.http_server.handler`` is the frame around it. Each request passes: static files, rate of the client,
the frame, session, and then the view. The log line also has the person's name.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from counterfoil.clock import Clock
from counterfoil.i18n.catalogue import CatalogueName
from counterfoil.kube.errors import ApiError, Forbidden, NotFound
from counterfoil.metrics import Metrics
from counterfoil.settings import SignIn
from webhook.console import routes
from webhook.console.access import AuthenticatedUser, Authenticator
from webhook.console.errors import ConsoleErrorKind, from_api_server
from webhook.console.events.export import ExportFormat
from webhook.console.events.views import EventViews
from webhook.console.identity.oidc import OidcClient, OidcRefused, OidcUnavailable
from webhook.console.identity.sign_outs import SignOuts, SignOutsFull
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.routes import ConsolePageName, ConsoleRoute, match_route
from webhook.console.sessions import (
    ConsoleSession,
    ConsoleSessions,
    bearer_token,
    is_bearer_token,
    read_theme,
    theme_cookie,
)
from webhook.console.view_base import ConsoleRequest
from webhook.console.views import ConsoleViews
from webhook.http_server.errors import ErrorKind, HttpErrorKind, PageError
from webhook.http_server.forms import parse_query, read_form
from webhook.http_server.handler import BrowserHandler, BrowserRequest, check_rate
from webhook.http_server.rate_limit import ClientBuckets, TokenBucket, TokenBuckets
from webhook.http_server.responses import PageResponse

_log = logging.getLogger(__name__)

_SIGN_IN_AGAIN: Final = frozenset(
    {
        ConsoleErrorKind.SIGN_IN_NEEDED,
        ConsoleErrorKind.TOKEN_REFUSED,
        ConsoleErrorKind.OIDC_STALE,
        ConsoleErrorKind.OIDC_REFUSED,
        ConsoleErrorKind.OIDC_NOT_TRUSTED,
        ConsoleErrorKind.OIDC_UNAVAILABLE,
    }
)

_OIDC_PAGES: Final = frozenset({ConsolePageName.OIDC_START, ConsolePageName.OIDC_RETURN})

_HANDLED_BY_PROXY: Final = frozenset({ConsolePageName.SIGN_IN, ConsolePageName.SIGN_OUT})
"""Pages that do not exist behind a proxy that signs people in."""


@dataclass(kw_only=True)
class PersonRequest(BrowserRequest):
    """One request, and the person once the request is authenticated."""

    route: ConsoleRoute
    user_name: str | None = None
    user: AuthenticatedUser | None = None
    namespace: str | None = None
    """The namespace of the page, once it is clear that this console serves it."""

    @property
    def location(self) -> str:
        """The place of this console that is asked for."""
        return routes.local_location(self.target)

    @property
    def is_refresh(self) -> bool:
        """Whether an open page looks for news."""
        return "HX-Request" in self.headers


class ConsoleHandler(BrowserHandler[PersonRequest]):
    """Answers requests. ``monotonic`` is a clock in seconds that never goes back."""

    catalogue = CatalogueName.CONSOLE
    log_name = "console"

    def __init__(
        self,
        *,
        views: ConsoleViews,
        event_views: EventViews,
        renderer: ConsoleRenderer,
        sessions: ConsoleSessions,
        sign_outs: SignOuts,
        oidc: OidcClient | None = None,
        authenticator: Authenticator,
        metrics: Metrics,
        clock: Clock,
        sign_in: SignIn,
        rates: ClientBuckets,
        proxies: int,
        limits: ConsoleLimits,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(
            PersonRequest,
            match_route,
            requests=metrics.console_requests,
            seconds=metrics.console_seconds,
            rates=rates,
            proxies=proxies,
            limits=limits,
            monotonic=monotonic,
        )
        self._views = views
        self._event_views = event_views
        self._renderer = renderer
        self._sessions = sessions
        self._sign_outs = sign_outs
        self._oidc = oidc
        self._authenticator = authenticator
        self._clock = clock
        self._is_proxied = sign_in is SignIn.PROXY
        self._refusals = ClientBuckets(
            TokenBuckets(
                lambda: TokenBucket(rate=limits.refused_rate, burst=limits.refused_burst),
                max_buckets=limits.client_addresses,
            ),
            TokenBucket(rate=limits.refused_rate_of_all, burst=limits.refused_burst_of_all),
        )
        self._limits = limits

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a static file without a log line."""
        route = match_route(request.raw_path.partition("?")[0])
        if route.page is ConsolePageName.STATIC and (file := self._renderer.static(route.name)) is not None:
            return file
        return await super().answer(request)

    def from_api_server(self, problem: ApiError) -> PageError:
        """Return the page error for an error of the API server."""
        return from_api_server(problem)

    def log_fields(self, asked: PersonRequest) -> dict[str, str | None]:
        """Return the name of the person, and the namespace once it is known to be one of this console's."""
        return {"who": asked.user_name, "namespace": asked.namespace}

    def headers(self, asked: PersonRequest, response: PageResponse) -> dict[str, str]:
        """Return the headers of every answer."""
        is_https = asked.headers.get("X-Forwarded-Proto", "").lower() == "https"
        return self._renderer.headers(is_https=is_https)

    async def respond(self, request: web.BaseRequest, asked: PersonRequest) -> PageResponse:
        """Authenticate the person and call the view of the page."""
        if request.method == "POST":
            return await self._respond_to_post(request, asked)
        query = parse_query(asked.query_text, self._limits)
        if asked.route.page is ConsolePageName.OIDC_START:
            return await self._begin_oidc(asked, query)
        if asked.route.page is ConsolePageName.OIDC_RETURN:
            return await self._end_oidc(asked, query)
        is_way_in = asked.route.page is ConsolePageName.SIGN_IN
        back = routes.local_location(query.get("back", "/")) if is_way_in else asked.location
        session = await self._session(asked)
        if session is None:
            return self._without_session(asked, back)
        if is_way_in:
            return PageResponse(location=back)
        console_request = await self._authenticate(asked, session, query)
        response = await self._view(asked, console_request)
        return response._replace(cookies=self._session_cookies(asked, session))

    async def _view(self, asked: PersonRequest, request: ConsoleRequest) -> PageResponse:
        match asked.route.page:
            case ConsolePageName.HOME:
                query = f"?{asked.query_text}" if asked.query_text else ""
                return PageResponse(location=f"{_first_readable(request.user)}/attention{query}")
            case ConsolePageName.EVENT:
                return await self._event_views.event(request, asked.route.name)
            case ConsolePageName.EXPORT_CSV:
                return await self._event_views.export(request, ExportFormat.CSV)
            case ConsolePageName.EXPORT_JSON:
                return await self._event_views.export(request, ExportFormat.JSON)
            case ConsolePageName.YAML:
                return await self._event_views.yaml(request, asked.route.name)
            case ConsolePageName.CHECK:
                return await self._views.check(request, asked.route.name)
            case ConsolePageName.IMPORT:
                return await self._views.one_import(request, asked.route.name)
        views = {
            ConsolePageName.ATTENTION: self._views.attention,
            ConsolePageName.EVENTS: self._event_views.events,
            ConsolePageName.SENDERS: self._views.senders,
            ConsolePageName.ARCHIVES: self._views.archives,
            ConsolePageName.ORGANIZATIONS: self._views.organizations,
            ConsolePageName.IMPORTS: self._views.imports,
        }
        return await views[asked.route.page](request)

    async def _respond_to_post(self, request: web.BaseRequest, asked: PersonRequest) -> PageResponse:
        page = asked.route.page
        if self._is_proxied and page in _HANDLED_BY_PROXY:
            raise PageError(HttpErrorKind.NOT_FOUND, "the proxy signs people in and out")
        if not routes.is_same_origin(asked.headers):
            raise PageError(ConsoleErrorKind.FORM_STALE, "the form came from somebody else's page")
        is_way_in = page is ConsolePageName.SIGN_IN
        session = self._sessions.guest(asked.cookies) if is_way_in else await self._session(asked)
        form = await read_form(request, self._limits, unreadable=ConsoleErrorKind.FORM_STALE)
        if session is None:
            raise PageError(ConsoleErrorKind.FORM_STALE, "no session in this browser, or too old")
        scope = "" if is_way_in else self._served_namespace(asked)
        if not self._sessions.is_valid_form_token(session, form.get("form", ""), scope):
            raise PageError(ConsoleErrorKind.FORM_STALE, "the form carries no token of this session's")
        if is_way_in:
            return await self._sign_in(asked, form)
        if page is ConsolePageName.SIGN_OUT:
            return await self._sign_out(asked, session)
        if page is ConsolePageName.THEME:
            location = routes.local_location(form.get("back", "/"))
            return PageResponse(location=location, cookies=(theme_cookie(form.get("theme", "")),))
        console_request = await self._authenticate(asked, session, {})
        is_bulk = page is ConsolePageName.BULK
        act = self._event_views.bulk if is_bulk else self._views.act
        response = await act(console_request, form)
        return response._replace(cookies=self._session_cookies(asked, session))

    # -- Who it is ------------------------------------------------------------------------------------------

    async def _session(self, asked: PersonRequest) -> ConsoleSession | None:
        """Return who is signed in in this browser; behind a proxy with the token that the proxy passes
        now."""
        if not self._is_proxied:
            session = self._sessions.read(asked.cookies)
            if session is None:
                return None
            with _as_unavailable():
                sign_out = await self._sign_outs.cached(session.user)
            return None if session.is_ended_by(sign_out) else session
        token = bearer_token(asked.headers.get("Authorization"))
        if not is_bearer_token(token, limit=self._limits.token):
            raise PageError(ConsoleErrorKind.PROXY_SILENT, "the proxy passed no Authorization: Bearer")
        # The cookie holds no token then: it only binds forms to the browser.
        return msgspec.structs.replace(self._guest(asked), token=token)

    def _guest(self, asked: PersonRequest) -> ConsoleSession:
        """Return the guest's session of this browser, or a new one."""
        return self._sessions.guest(asked.cookies) or self._sessions.begin_guest()

    def _session_cookies(self, asked: PersonRequest, session: ConsoleSession) -> tuple[str, ...]:
        """
        Return the cookies of a session that a click extends: a page that only looks for news does not.

        Behind a proxy: the cookie that binds forms to the browser, without the token, if it has none yet.
        """
        if self._is_proxied:
            is_bound = self._sessions.guest(asked.cookies) is not None
            return () if is_bound else self._sessions.cookies(msgspec.structs.replace(session, token=""))
        extended = None if asked.is_refresh else self._sessions.extended(session)
        return () if extended is None else self._sessions.cookies(extended)

    def _without_session(self, asked: PersonRequest, back: str) -> PageResponse:
        if asked.is_refresh:
            raise PageError(ConsoleErrorKind.SIGN_IN_NEEDED, "the session has ended")
        if routes.is_cross_site_navigation(asked.headers):
            # A link in a mail: the browser kept the cookie back, and sends it with the next request from this
            # page.
            return PageResponse(html=self._page(asked, "onward.html", onward=asked.location))
        return self._sign_in_page(asked, back)

    async def _authenticate(
        self, asked: PersonRequest, session: ConsoleSession, query: dict[str, str]
    ) -> ConsoleRequest:
        namespace = self._served_namespace(asked)
        # A form of one namespace's page does nothing in another one.
        form_token = self._sessions.form_token(session, namespace)
        user = await self._authenticator.authenticate(session.token, form_token, namespace)
        asked.user_name, asked.user = user.name, user
        theme = read_theme(asked.cookies)
        return ConsoleRequest(user, asked.words, query, asked.location, asked.is_refresh, theme)

    def _served_namespace(self, asked: PersonRequest) -> str:
        """Return the namespace of a page. Raises ``PageError`` for one that this console does not serve."""
        namespace = asked.route.namespace or self._authenticator.namespace
        self._authenticator.check_namespace(namespace)
        asked.namespace = namespace
        return namespace

    async def _sign_out(self, asked: PersonRequest, session: ConsoleSession) -> PageResponse:
        """End all sessions of the person in every console; in any case the one of this browser."""
        asked.user_name = session.user
        try:
            await self._sign_outs.record(session.user, self._sessions.sign_out_time(session))
        except (ApiError, SignOutsFull) as problem:
            _log.error("a sign-out could not be stored: copies of the session live on", exc_info=problem)
            page = self._sign_in_page(asked, "/", ConsoleErrorKind.SIGN_OUT_INCOMPLETE)
            return page._replace(cookies=(*self._sessions.expire(), *page.cookies))
        return PageResponse(location="/sign-in", cookies=self._sessions.expire())

    def _sign_in_page(
        self, asked: PersonRequest, back: str, console_error: ErrorKind | None = None
    ) -> PageResponse:
        # The form in another tab stays good.
        guest = self._guest(asked)
        form_token = self._sessions.form_token(guest)
        html = self._page(
            asked,
            "sign_in.html",
            form_token=form_token,
            back=back,
            console_error=console_error,
            namespace=match_route(back.partition("?")[0]).namespace or self._authenticator.namespace,
        )
        status = HTTPStatus.OK if console_error is None else console_error.status
        return PageResponse(html=html, status=status, cookies=self._sessions.cookies(guest))

    async def _sign_in(self, asked: PersonRequest, form: dict[str, str]) -> PageResponse:
        check_rate(self._refusals.take(asked.client, self._monotonic()), "refused tokens")
        token = "".join(form.get("token", "").split())
        if not is_bearer_token(token, limit=self._limits.token):
            raise PageError(ConsoleErrorKind.TOKEN_REFUSED, "what was entered is no bearer token")
        cookies = await self._begin_session(asked, token)
        # Taken before the API server was asked, so that many tries at once are not more than many one by one.
        self._refusals.return_token(asked.client)
        return PageResponse(location=routes.local_location(form.get("back", "/")), cookies=cookies)

    async def _begin_session(self, asked: PersonRequest, token: str) -> tuple[str, ...]:
        """Return the cookies of a new session, if the API server knows whose token it is."""
        asked.user_name = name = await self._authenticator.user_name(token)
        with _as_unavailable():
            sign_out = await self._sign_outs.current(name)
        return self._sessions.cookies(self._sessions.begin(name, token, sign_out=sign_out))

    # -- Sign-in with an OpenID provider ---------------------------------------------------------------------

    def _provider(self) -> OidcClient:
        if self._oidc is None:
            raise PageError(HttpErrorKind.NOT_FOUND, "there is no OpenID provider")
        return self._oidc

    async def _begin_oidc(self, asked: PersonRequest, query: dict[str, str]) -> PageResponse:
        provider = self._provider()
        flow = self._sessions.begin_oidc(routes.local_location(query.get("back", "/")))
        with _as_oidc_page_error():
            url = await provider.authorization_url(state=flow.state, nonce=flow.nonce, verifier=flow.verifier)
        return PageResponse(location=url, cookies=self._sessions.oidc_cookies(flow, asked.cookies))

    async def _end_oidc(self, asked: PersonRequest, query: dict[str, str]) -> PageResponse:
        provider = self._provider()
        flow = self._sessions.read_oidc(asked.cookies, query.get("state", ""))
        if flow is None:
            raise PageError(ConsoleErrorKind.OIDC_STALE, "no such state in this browser, or too old")
        code = query.get("code", "")
        if not code or query.get("iss", provider.config.issuer) != provider.config.issuer:
            # RFC 9207: with ``iss`` a provider names itself.
            detail = f"the provider answered {query.get('error', 'without a code of its issuer')[:100]}"
            raise PageError(ConsoleErrorKind.OIDC_REFUSED, detail)
        check_rate(self._refusals.take(asked.client, self._monotonic()), "refused codes")
        with _as_oidc_page_error():
            token = await provider.id_token(code, nonce=flow.nonce, verifier=flow.verifier)
        if not is_bearer_token(token, limit=self._limits.token):
            raise PageError(ConsoleErrorKind.OIDC_REFUSED, "the ID token is longer than a session can hold")
        try:
            cookies = await self._begin_session(asked, token)
        except PageError as refused:
            if refused.kind is not ConsoleErrorKind.TOKEN_REFUSED:
                raise
            raise PageError(ConsoleErrorKind.OIDC_NOT_TRUSTED, refused.detail) from refused
        self._refusals.return_token(asked.client)
        return PageResponse(location=flow.back, cookies=(*cookies, self._sessions.expire_oidc(flow)))

    def error_page(self, asked: PersonRequest, error: PageError) -> PageResponse:
        """Return the page of an error: the sign-in page where a new session solves it."""
        if error.kind in _SIGN_IN_AGAIN and asked.is_refresh:
            # An open page that looked for news: reload the whole page, which shows the error.
            return PageResponse(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Refresh": "true"})
        if error.kind in _SIGN_IN_AGAIN and not self._is_proxied:
            is_page = asked.method == "GET" and asked.route.page not in _OIDC_PAGES
            back = asked.location if is_page else "/"
            return self._sign_in_page(asked, back, error.kind)
        section = str(error.kind)
        html = self._page(asked, "message.html", auth_user=asked.user, section=section, code=error.code)
        return PageResponse(html=html, status=error.kind.status)

    def _page(self, asked: PersonRequest, template: str, **values: Any) -> str:
        theme = read_theme(asked.cookies)
        return self._renderer.page(template, asked.words, self._clock.now(), theme=theme, **values)


def _first_readable(user: AuthenticatedUser) -> str:
    """Return the beginning of the paths at which a person begins: of the first namespace that the person may
    read, if not of this one."""
    others = [root for _, root in user.choices if root != user.root]
    return user.root if user.rights.can_list_any or not others else others[0]


@contextmanager
def _as_oidc_page_error() -> Iterator[None]:
    """Raise ``PageError`` for what the provider did."""
    try:
        yield
    except OidcUnavailable as problem:
        raise PageError(ConsoleErrorKind.OIDC_UNAVAILABLE, str(problem)) from problem
    except OidcRefused as problem:
        raise PageError(ConsoleErrorKind.OIDC_REFUSED, str(problem)) from problem


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """Raise ``PageError`` for an error about the console's own account, which is not the person's."""
    try:
        yield
    except ApiError as problem:
        is_missing = isinstance(problem, NotFound | Forbidden)
        kind = ConsoleErrorKind.SIGN_OUTS_MISSING if is_missing else HttpErrorKind.CLUSTER_DOWN
        raise PageError(kind, f"sign-outs are unknown: {problem}") from problem
