"""
The reception: takes a browser's request, learns who it is, leads it to its page, and has an answer whatever happens.

From top to bottom: static files, rate (of the caller, then of all), path, method, room, who, then the page. Every answer is a page in the browser's
language or a way on, with the headers that keep it safe. The log line tells who saw or did what and what came of it, but no
token, no cookie and no query.
"""

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from msgspec.structs import replace

from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem
from counterfoil.metrics import Metrics
from counterfoil.settings import SignIn
from webhook.callers import caller
from webhook.console import requests
from webhook.console.desk import Desk, Reply, Visit
from webhook.console.languages import words_of
from webhook.console.limits import ConsoleLimits
from webhook.console.problems import STATUS, Kind, Trouble, of_cluster
from webhook.console.rendering import Renderer, page, redirect, with_cookies
from webhook.console.requests import METHODS, Address, Page, address
from webhook.console.sessions import Session, Sessions, bearer_of, is_token
from webhook.console.visitors import Visitor, Visitors
from webhook.pages.languages import Words, choose
from webhook.throttle import Bucket, Buckets

log = logging.getLogger(__name__)

OUTCOME_SHOWN: Final = "shown"
OUTCOME_LED_ON: Final = "led_on"

_SIGN_IN_AGAIN: Final = frozenset({Kind.SIGN_IN_NEEDED, Kind.TOKEN_REFUSED})

_OF_PROXIES: Final = frozenset({Page.SIGN_IN, Page.SIGN_OUT})
"""What is none of our business where a proxy signs people in."""

_WHO: Final = web.RequestKey("who", str)
"""Whose request it is, from when on that is known."""
_VISITOR: Final = web.RequestKey("visitor", Visitor)
"""The same with all that a page's head shows."""


class Told(NamedTuple):
    """What became of a request, for log and metrics."""

    outcome: str
    words: str = ""


class Answer(NamedTuple):
    """A reply, and the cookies that come with it."""

    reply: Reply
    cookies: tuple[str, ...] = ()


class Reception:
    """
    Answers requests. ``monotonic`` is a clock in seconds that never goes back.

    ``buckets`` has the rate of each address, ``bucket`` that of all, and ``proxies`` is how many of them tell whose address it is.
    """

    def __init__(
        self,
        *,
        desk: Desk,
        renderer: Renderer,
        sessions: Sessions,
        visitors: Visitors,
        metrics: Metrics,
        clock: Clock,
        sign_in: SignIn,
        buckets: Buckets,
        bucket: Bucket,
        proxies: int,
        limits: ConsoleLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._renderer = renderer
        self._sessions = sessions
        self._visitors = visitors
        self._metrics = metrics
        self._clock = clock
        self._is_proxied = sign_in is SignIn.PROXY
        self._buckets = buckets
        self._bucket = bucket
        self._proxies = proxies
        self._refusals = Buckets(
            lambda: Bucket(rate=limits.refused_rate, burst=limits.refused_burst), most=limits.addresses
        )
        self._refusals_of_all = Bucket(rate=limits.refused_rate_of_all, burst=limits.refused_burst_of_all)
        self._limits = limits
        self._monotonic = monotonic
        self._in_flight = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever happens, it is counted, logged and has an answer."""
        started = self._monotonic()
        where = address(request.raw_path.partition("?")[0])
        if where.page is Page.STATIC and (file := self._renderer.static(where.name)) is not None:
            return file
        words = words_of(choose(request.headers.get("Accept-Language")))
        try:
            answer = await self._in_turn(request, where, words)
            response = with_cookies(self._reply(request, answer.reply), answer.cookies)
            told = Told(OUTCOME_LED_ON if answer.reply.location else OUTCOME_SHOWN)
        except Exception as raised:
            trouble = _understood(raised)
            response, told = self._trouble(request, words, trouble), Told(str(trouble.kind), trouble.words)
        if request.can_read_body and not request.content.at_eof():
            response.force_close()
        self._tell(where, told, response.status, self._monotonic() - started, request.get(_WHO))
        return response

    def not_http(self) -> web.StreamResponse:
        """Answer what was no HTTP request, or one beyond the bounds of its line or headers."""
        words = words_of(choose(None))
        html = self._renderer.page(
            "message.html", words, self._clock.now(), section=str(Kind.LINK_BROKEN), code=""
        )
        response = page(html, HTTPStatus.BAD_REQUEST, self._renderer.headers())
        response.force_close()
        self._tell(Address(Page.NONE), Told(str(Kind.LINK_BROKEN), "not HTTP"), response.status, 0.0)
        return response

    # -- In turn --------------------------------------------------------------------------------------------

    async def _in_turn(self, request: web.BaseRequest, where: Address, words: Words) -> Answer:
        self._pass(self._buckets.of(self._caller(request)), "pages for one address")
        self._pass(self._bucket, "pages for all")
        if where.page in (Page.NONE, Page.STATIC):
            raise Trouble(Kind.NOT_FOUND, "not the path of a page")
        if request.method not in METHODS.get(where.page, ("GET",)):
            raise Trouble(Kind.WRONG_METHOD)
        if self._in_flight >= self._limits.in_flight:
            raise Trouble(Kind.BUSY, f"{self._in_flight} requests are under way already")
        self._in_flight += 1
        try:
            if request.method == "POST":
                return await self._take(request, where, words)
            return await self._show(request, where, words)
        finally:
            self._in_flight -= 1

    def _pass(self, bucket: Bucket, what: str) -> None:
        wait = bucket.take(self._monotonic())
        if wait:
            raise Trouble(Kind.BUSY, f"more {what} than the rate; next in {math.ceil(wait)} s")

    def _caller(self, request: web.BaseRequest) -> str:
        return caller(request.remote, request.headers.getall("X-Forwarded-For", ()), proxies=self._proxies)

    async def _show(self, request: web.BaseRequest, where: Address, words: Words) -> Answer:
        query = requests.query(request.raw_path.partition("?")[2], self._limits)
        is_way_in = where.page is Page.SIGN_IN
        back = requests.here(query.get("back", "/") if is_way_in else request.raw_path)
        session = self._session(request)
        if session is None:
            return self._without_session(request, words, back)
        if is_way_in:
            return Answer(Reply(location=back))
        visit = await self._visit(request, words, session)
        if where.page is Page.HOME:
            reply = Reply(location=_home(request.raw_path.partition("?")[2]))
        else:
            reply = await self._leaf(where, visit)
        return Answer(reply, self._bound(request, session))

    async def _leaf(self, where: Address, visit: Visit) -> Reply:
        if where.page is Page.EVENT:
            return await self._desk.event(visit, where.name)
        if where.page is Page.YAML:
            return await self._desk.yaml(visit, where.name)
        leaves = {
            Page.ATTENTION: self._desk.attention,
            Page.EVENTS: self._desk.events,
            Page.SENDERS: self._desk.senders,
            Page.ARCHIVES: self._desk.archives,
            Page.ORGANIZATIONS: self._desk.organizations,
        }
        return await leaves[where.page](visit)

    async def _take(self, request: web.BaseRequest, where: Address, words: Words) -> Answer:
        if self._is_proxied and where.page in _OF_PROXIES:
            raise Trouble(Kind.NOT_FOUND, "the proxy signs people in and out")
        if not requests.is_from_here(request.headers):
            raise Trouble(Kind.FORM_STALE, "the form came from somebody else's page")
        is_way_in = where.page is Page.SIGN_IN
        session = self._sessions.guest(request.cookies) if is_way_in else self._session(request)
        form = await requests.form(request, self._limits)
        if session is None:
            raise Trouble(Kind.FORM_STALE, "no session in this browser, or too old")
        if not self._sessions.is_form_of(session, form.get("form", "")):
            raise Trouble(Kind.FORM_STALE, "the form carries no token of this session's")
        if is_way_in:
            return await self._sign_in(request, form)
        if where.page is Page.SIGN_OUT:
            request[_WHO] = session.user
            return Answer(Reply(location="/sign-in"), self._sessions.drop())
        visit = await self._visit(request, words, session)
        return Answer(await self._desk.act(visit, form))

    # -- Who it is ------------------------------------------------------------------------------------------

    def _session(self, request: web.BaseRequest) -> Session | None:
        """Return who is signed in in this browser; behind a proxy with the token that the proxy passes now."""
        if not self._is_proxied:
            return self._sessions.of(request.cookies)
        token = bearer_of(request.headers.get("Authorization"))
        if not is_token(token, limit=self._limits.token):
            raise Trouble(Kind.PROXY_SILENT, "the proxy passed no Authorization: Bearer")
        # The cookie holds no token then: it only binds forms to the browser.
        known = self._sessions.guest(request.cookies) or self._sessions.begin("", "")
        return replace(known, token=token)

    def _bound(self, request: web.BaseRequest, session: Session) -> tuple[str, ...]:
        """Return the cookie that binds forms to a browser behind a proxy, if it has none yet; without the token."""
        if not self._is_proxied or self._sessions.guest(request.cookies) is not None:
            return ()
        return self._sessions.cookies(replace(session, token=""))

    def _without_session(self, request: web.BaseRequest, words: Words, back: str) -> Answer:
        if "HX-Request" in request.headers:
            raise Trouble(Kind.SIGN_IN_NEEDED, "the session is over")
        if requests.is_led_here(request.headers):
            # A link in a mail: the browser kept the cookie back, and sends it when the way goes on from here.
            html = self._renderer.page(
                "onward.html", words, self._clock.now(), onward=requests.here(request.raw_path)
            )
            return Answer(Reply(html=html))
        return self._sign_in_page(request, words, back)

    async def _visit(self, request: web.BaseRequest, words: Words, session: Session) -> Visit:
        visitor = await self._visitors.visitor(session.token, self._sessions.form_token(session))
        raw = request.raw_path
        query = requests.query(raw.partition("?")[2], self._limits) if request.method == "GET" else {}
        request[_WHO], request[_VISITOR] = visitor.name, visitor
        return Visit(visitor, words, query, requests.here(raw), is_news="HX-Request" in request.headers)

    def _sign_in_page(
        self, request: web.BaseRequest, words: Words, back: str, trouble: Kind | None = None
    ) -> Answer:
        # The form in another tab stays good.
        guest = self._sessions.guest(request.cookies) or self._sessions.begin("", "")
        html = self._renderer.page(
            "sign_in.html",
            words,
            self._clock.now(),
            form_token=self._sessions.form_token(guest),
            back=back,
            trouble=trouble,
        )
        status = HTTPStatus.OK if trouble is None else STATUS[trouble]
        return Answer(Reply(html=html, status=status), cookies=self._sessions.cookies(guest))

    async def _sign_in(self, request: web.BaseRequest, form: dict[str, str]) -> Answer:
        own, of_all = self._refusals.of(self._caller(request)), self._refusals_of_all
        self._pass(own, "refused tokens of one address")
        self._pass(of_all, "refused tokens of all")
        token = "".join(form.get("token", "").split())
        if not is_token(token, limit=self._limits.token):
            raise Trouble(Kind.TOKEN_REFUSED, "what was entered is no bearer token")
        name = request[_WHO] = await self._visitors.who(token)
        # Taken before the API server was asked, so that many tries at once are not more than many one by one.
        own.give_back()
        of_all.give_back()
        session = self._sessions.begin(name, token)
        back = requests.here(form.get("back", "/"))
        return Answer(Reply(location=back), self._sessions.cookies(session))

    # -- Answers --------------------------------------------------------------------------------------------

    def _reply(self, request: web.BaseRequest, reply: Reply) -> web.Response:
        headers = self._renderer.headers(is_https=_is_https(request))
        if reply.location:
            return redirect(reply.location, headers)
        return page(reply.html, reply.status, headers)

    def _trouble(self, request: web.BaseRequest, words: Words, trouble: Trouble) -> web.Response:
        headers = self._renderer.headers(is_https=_is_https(request))
        if "HX-Request" in request.headers and trouble.kind in _SIGN_IN_AGAIN:
            # An open page that looked for news: let the whole page load, which says what is the matter.
            return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={**headers, "HX-Refresh": "true"})
        if trouble.kind in _SIGN_IN_AGAIN and not self._is_proxied:
            back = requests.here(request.raw_path) if request.method == "GET" else "/"
            answer = self._sign_in_page(request, words, back, trouble.kind)
            return with_cookies(page(answer.reply.html, answer.reply.status, headers), answer.cookies)
        html = self._renderer.page(
            "message.html",
            words,
            self._clock.now(),
            visitor=request.get(_VISITOR),
            section=str(trouble.kind),
            code=trouble.code,
        )
        status = STATUS[trouble.kind]
        if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            headers["Retry-After"] = "30"
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, POST"
        return page(html, status, headers)

    def _tell(self, where: Address, told: Told, status: int, seconds: float, who: str | None = None) -> None:
        self._metrics.console.labels(str(where.page), told.outcome).inc()
        self._metrics.console_seconds.labels(str(where.page)).observe(seconds)
        log.log(
            logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO,
            "console %s: %s",
            where.page,
            f"{told.outcome}: {told.words}" if told.words else told.outcome,
            extra={
                "outcome": told.outcome,
                "who": who,
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


def _understood(raised: Exception) -> Trouble:
    if isinstance(raised, Trouble):
        return raised
    if isinstance(raised, ApiProblem):
        return of_cluster(raised)
    log.error("a page could not be made", exc_info=raised)
    return Trouble(Kind.UNEXPECTED)


def _home(query: str) -> str:
    return f"/attention?{query}" if query else "/attention"


def _is_https(request: web.BaseRequest) -> bool:
    return request.headers.get("X-Forwarded-Proto", "").lower() == "https"
