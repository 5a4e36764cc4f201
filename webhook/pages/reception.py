"""
The reception: takes a browser's request, leads it to its page, and has an answer whatever happens.

From top to bottom: rate, path, method, room, organization, query, then the page. Every answer is a page in the browser's
language or a way on, with the headers that keep it safe. The log line tells the operator which page and what came of it,
but no query, no cookie and nothing that was filled in: those hold codes, states and what people write.
"""

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from counterfoil.cluster import ApiProblem
from counterfoil.metrics import Metrics
from webhook.pages.desk import Desk, Reply, Site, Visit
from webhook.pages.languages import choose, words_of
from webhook.pages.limits import PageLimits
from webhook.pages.problems import ADMINISTRATORS, AGAIN, STATUS, Kind, Trouble, of_cluster
from webhook.pages.rendering import Link, Renderer, page, redirect
from webhook.pages.requests import METHODS, Address, Page, address, form, query
from webhook.throttle import Bucket

log = logging.getLogger(__name__)

OUTCOME_SHOWN = "shown"
OUTCOME_LED_ON = "led_on"


class Told(NamedTuple):
    """What became of a request, for log and metrics."""

    outcome: str
    words: str = ""


class Reception:
    """Answers requests. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(
        self,
        desk: Desk,
        renderer: Renderer,
        metrics: Metrics,
        *,
        bucket: Bucket,
        limits: PageLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._renderer = renderer
        self._metrics = metrics
        self._bucket = bucket
        self._limits = limits
        self._monotonic = monotonic
        self._in_flight = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever happens, it is counted, logged and has an answer."""
        started = self._monotonic()
        path, _, raw_query = request.raw_path.partition("?")
        where = address(path)
        visit = Visit(
            words=words_of(choose(request.headers.get("Accept-Language"))),
            query={},
            cookies=dict(request.cookies),
            headers=request.headers,
        )
        try:
            reply = await self._in_turn(request, where, visit, raw_query)
            response = self._reply(visit, reply)
            told = Told(OUTCOME_LED_ON if reply.location else OUTCOME_SHOWN)
        except Trouble as trouble:
            response, told = self._trouble(visit, trouble), Told(str(trouble.kind), trouble.words)
        except ApiProblem as problem:
            response = self._trouble(visit, of_cluster(problem))
            told = Told(str(Kind.CLUSTER_DOWN), str(problem))
        except Exception:
            log.exception("a page could not be made")
            response, told = self._trouble(visit, Trouble(Kind.UNEXPECTED)), Told(str(Kind.UNEXPECTED))
        if request.can_read_body and not request.content.at_eof():
            response.force_close()
        self._tell(where, visit, told, response.status, self._monotonic() - started)
        return response

    def not_http(self) -> web.StreamResponse:
        """Answer what was no HTTP request, or one beyond the bounds of its line or headers."""
        visit = Visit(words=words_of(choose(None)), query={}, cookies={})
        trouble = Trouble(Kind.LINK_BROKEN, "not HTTP, or longer than the limits allow")
        response = self._trouble(visit, trouble)
        response.force_close()
        self._tell(Address(Page.NONE), visit, Told(str(trouble.kind), trouble.words), response.status, 0.0)
        return response

    async def _in_turn(self, request: web.BaseRequest, where: Address, visit: Visit, raw_query: str) -> Reply:
        wait = self._bucket.take(self._monotonic())
        if wait:
            raise Trouble(Kind.BUSY, f"more than the rate; next in {math.ceil(wait)} s")
        if where.page is Page.NONE:
            raise Trouble(Kind.NOT_FOUND, "not the path of a page")
        if request.method not in METHODS.get(where.page, ("GET",)):
            raise Trouble(Kind.WRONG_METHOD)
        if self._in_flight >= self._limits.in_flight:
            raise Trouble(Kind.BUSY, f"{self._in_flight} requests are under way already")
        self._in_flight += 1
        try:
            site = visit.site = await self._desk.site(where.organization)
            visit.query = query(raw_query, self._limits)
            if request.method == "POST":
                visit.form = await form(request, self._limits)
                return await self._desk.take_form(site, visit)
            return await self._show(where, site, visit)
        finally:
            self._in_flight -= 1

    async def _show(self, where: Address, site: Site, visit: Visit) -> Reply:
        match where.page:
            case Page.BEFORE_SEND:
                return await self._desk.before_send(site, visit)
            case Page.FORM:
                return await self._desk.show_form(site, visit)
            case Page.CONSENT:
                return await self._desk.consent(site, visit, where.sender)
            case Page.THANKS:
                return await self._desk.thanks(site, visit, where.sender)
            case Page.RETURN:
                return await self._desk.come_back(site, visit)
        raise Trouble(Kind.NOT_FOUND)

    def _reply(self, visit: Visit, reply: Reply) -> web.Response:
        target = visit.site.places.origin if visit.site is not None and reply.has_form else "'none'"
        headers = self._renderer.headers(form_target=target, is_https=_is_https(visit))
        if reply.location:
            response = redirect(reply.location, headers)
        else:
            response = page(reply.html, reply.status, headers)
        return _with_cookies(response, (*visit.drops, *reply.cookies))

    def _trouble(self, visit: Visit, trouble: Trouble) -> web.Response:
        links = []
        if visit.again and trouble.kind in AGAIN:
            links.append(Link("again", visit.again))
        if visit.site is not None:
            links.append(Link("to_inbox", visit.site.places.inbox))
        html = self._renderer.message(
            visit.words,
            str(trouble.kind),
            links=links,
            values={"code": trouble.code, "user": trouble.user},
        )
        status = STATUS[trouble.kind]
        headers = self._renderer.headers(is_https=_is_https(visit))
        if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            headers["Retry-After"] = "30"
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, POST"
        return _with_cookies(page(html, status, headers), visit.drops)

    def _tell(self, where: Address, visit: Visit, told: Told, status: int, seconds: float) -> None:
        self._metrics.pages.labels(str(where.page), told.outcome).inc()
        self._metrics.page_seconds.labels(str(where.page)).observe(seconds)
        needs_somebody = told.outcome in ADMINISTRATORS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        log.log(
            logging.WARNING if needs_somebody else logging.INFO,
            "page %s: %s",
            where.page,
            f"{told.outcome}: {told.words}" if told.words else told.outcome,
            extra={
                "organization": visit.site.organization.name if visit.site is not None else None,
                "outcome": told.outcome,
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


def _is_https(visit: Visit) -> bool:
    return visit.site is not None and visit.site.places.is_https


def _with_cookies(response: web.Response, cookies: tuple[str, ...]) -> web.Response:
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response
