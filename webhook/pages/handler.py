"""
Handle one request for a page: find its namespace and organization, call its view.

The base class is the frame. The parts for one namespace are its views, and the recovery of its drafts.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from counterfoil.clock import Clock
from counterfoil.i18n.catalogue import CatalogueName
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.forms import parse_query, read_form
from webhook.http_server.handler import BrowserHandler
from webhook.http_server.namespaces import NamespaceTable, reason_of_all, show_namespace, show_start
from webhook.http_server.rate_limit import ClientBuckets
from webhook.http_server.responses import PageResponse
from webhook.pages.errors import ADMINISTRATOR_KINDS, RETRYABLE_KINDS, PageErrorKind
from webhook.pages.limits import PageLimits
from webhook.pages.rendering import PageLink, PageRenderer
from webhook.pages.routes import PageName, PageRoute, match_route
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.views import OrganizationSite, PageViews, RequestContext

_log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
"""Interval between two checks whether a namespace can be served."""

_NOBODY: Final = "counterfoil-nobody"
"""A name of an Organization that is asked for in place of one in a namespace that is not served."""


@dataclass(frozen=True, kw_only=True)
class PageNamespace:
    """The parts for one namespace."""

    kube: KubeClient
    views: PageViews
    recovery: SendRecovery
    clock: Clock
    process_metrics: Metrics
    _closing: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        show_start(self.process_metrics, self.name)

    @property
    def name(self) -> str:
        """The namespace."""
        return self.kube.namespace

    async def run(self) -> None:
        """Recover the drafts of the namespace until ``close``: another replica continues what is left."""
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(each) for each in (self.recovery.run(), self._report_forever())]
            await self._closing.wait()
            for each in working:
                each.cancel()

    def close(self) -> None:
        """Let ``run`` end."""
        self._closing.set()

    @property
    def is_missing(self) -> bool:
        """Whether the namespace, or the rights there, were missing when it was last asked for."""
        return self.process_metrics.is_missing(self.name)

    async def unavailable_reason(self) -> str | None:
        """Return why no Organization of the namespace can be read, or None."""
        problem = await self._problem()
        return None if problem is None else str(problem)

    async def _problem(self) -> ApiError | None:
        try:
            await self.kube.page(Organization, limit=1)
        except ApiError as problem:
            return problem
        return None

    async def _report_forever(self) -> None:
        """Show whether the Organizations can be read."""
        is_reported = False
        while True:
            problem = await self._problem()
            show_namespace(self.process_metrics, self.name, problem)
            if problem is not None and problem.is_about_namespace:
                if not is_reported:
                    _log.warning("the pages cannot serve a namespace: %s", problem)
                is_reported = True
            elif problem is not None:
                _log.info("it is not known whether a namespace can be served: %s", problem)
            else:
                is_reported = False
            await self.clock.sleep(CHECK_SECONDS)


PageNamespaces = NamespaceTable[PageNamespace]
_Found = tuple[PageNamespace, OrganizationSite]


async def namespace_of(namespaces: PageNamespaces, namespace: str) -> PageNamespace:
    """
    Return the parts of the namespace in an address (empty: the release's own).

    One that is not served is answered as an unknown Organization, also in time and while the API server is
    down: the same request is made, in a namespace that is not known to be missing. Raises ``PageError``,
    ``ApiError``.
    """
    found = namespaces.find(namespace)
    if found is not None:
        return found
    trouble: ApiError | None = None
    for each in sorted(namespaces, key=lambda each: each.is_missing):
        try:
            await each.views.site(_NOBODY)
        except ApiError as problem:
            show_namespace(each.process_metrics, each.name, problem)
            if not problem.is_about_namespace:
                raise
            trouble = problem
    raise trouble or PageError(HttpErrorKind.NOT_FOUND, "no such namespace is served")


async def all_unavailable(namespaces: PageNamespaces) -> str | None:
    """Return why no namespace can be served, or None: the trouble of one is not that of the others."""
    return await reason_of_all(each.unavailable_reason for each in namespaces)


def _is_absent(outcome: _Found | PageError | ApiError) -> bool:
    return isinstance(outcome, PageError) and outcome.kind is HttpErrorKind.NOT_FOUND


def _found(outcome: _Found | PageError | ApiError) -> _Found:
    """Return what was found. Raises the error that was met instead."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class PageHandler(BrowserHandler[RequestContext]):
    """Answers requests for pages. ``monotonic`` is a clock in seconds that never goes back."""

    catalogue = CatalogueName.PAGES
    log_name = "page"
    administrator_kinds = ADMINISTRATOR_KINDS

    def __init__(
        self,
        namespaces: PageNamespaces,
        renderer: PageRenderer,
        metrics: Metrics,
        *,
        rates: ClientBuckets,
        proxies: int,
        limits: PageLimits,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(
            RequestContext,
            match_route,
            requests=metrics.page_requests,
            seconds=metrics.page_seconds,
            rates=rates,
            proxies=proxies,
            limits=limits,
            monotonic=monotonic,
        )
        self._namespaces = namespaces
        self._renderer = renderer
        self._limits = limits
        self._in_flight_of: Counter[tuple[str, str]] = Counter()
        """Number of requests in progress by namespace and Organization; with an empty Organization of all of
        the namespace."""

    async def respond(self, request: web.BaseRequest, asked: RequestContext) -> PageResponse:
        """Call the view of the page."""
        namespace, site = await self._find(asked)
        asked.site, asked.namespace = site, namespace.name
        # Only names that exist are counted.
        with self._places_of(namespace.name, site.organization.name):
            return await self._respond_about(namespace.views, site, request, asked)

    async def _find(self, asked: RequestContext) -> _Found:
        """
        Return the namespace and the Organization of a path, by the reading of its route that counts.

        Of two readings, both are asked at once. The second one counts if there is no Organization by the
        first, or if its namespace can't be read: the trouble of one namespace is not that of the other.
        Raises ``PageError``, ``ApiError``.
        """
        first, second = asked.route, asked.route.otherwise
        if second is None:
            return await self._read(first)
        if self._namespaces.find(first.namespace) is None:
            by_second = await self._outcome(second)
        else:
            by_first, by_second = await asyncio.gather(
                self._outcome(first), self._outcome(self._in_served_namespace(second))
            )
            if not _is_absent(by_first) and not isinstance(by_first, ApiError):
                return _found(by_first)
            is_page = asked.method in second.methods and not isinstance(by_second, ApiError)
            if isinstance(by_first, ApiError) and (_is_absent(by_second) or not is_page):
                raise by_first
        asked.route = second
        found = _found(by_second)
        if asked.method not in second.methods:
            raise PageError(HttpErrorKind.WRONG_METHOD)
        return found

    def _in_served_namespace(self, route: PageRoute) -> PageRoute:
        """Return the route; in place of one in a namespace that is not served, one to nobody in the release's
        own: as many requests are made for it."""
        if self._namespaces.find(route.namespace) is not None:
            return route
        return replace(route, namespace="", organization=_NOBODY)

    async def _read(self, route: PageRoute) -> _Found:
        namespace = await namespace_of(self._namespaces, route.namespace)
        return namespace, await namespace.views.site(route.organization)

    async def _outcome(self, route: PageRoute) -> _Found | PageError | ApiError:
        try:
            return await self._read(route)
        except (PageError, ApiError) as error:
            return error

    @contextmanager
    def _places_of(self, namespace: str, organization: str) -> Iterator[None]:
        """Hold one of the places for requests in progress, of the namespace and of the Organization. Raises
        ``PageError``."""
        places = [(namespace, organization)]
        if len(self._namespaces) > 1:
            places.append((namespace, ""))
        held = max(self._in_flight_of[place] for place in places)
        if held >= self._limits.in_flight_of_organization:
            detail = f"{held} requests of this Organization, or of its namespace, are in progress"
            raise PageError(HttpErrorKind.BUSY, detail)
        self._in_flight_of.update(places)
        try:
            yield
        finally:
            self._in_flight_of.subtract(places)
            for place in places:
                if not self._in_flight_of[place]:
                    del self._in_flight_of[place]

    async def _respond_about(
        self, page_views: PageViews, site: OrganizationSite, request: web.BaseRequest, asked: RequestContext
    ) -> PageResponse:
        asked.query = parse_query(asked.query_text, self._limits)
        if request.method == "POST":
            asked.form = await read_form(request, self._limits, unreadable=PageErrorKind.FORM_EXPIRED)
            return await page_views.submit_form(site, asked)
        views = {
            PageName.BEFORE_SEND: page_views.before_send,
            PageName.FORM: page_views.show_form,
            PageName.CONSENT: page_views.consent,
            PageName.THANKS: page_views.thanks,
            PageName.RETURN: page_views.oauth_return,
        }
        response = await views[asked.route.page](site, asked)
        return response._replace(cookies=(*asked.expired_cookies, *response.cookies))

    def error_page(self, asked: RequestContext, error: PageError) -> PageResponse:
        """Return the page of an error, with links to start again and to the inbox."""
        links = []
        if asked.restart_url and error.kind in RETRYABLE_KINDS:
            links.append(PageLink("again", asked.restart_url))
        if asked.site is not None:
            links.append(PageLink("to_inbox", asked.site.urls.inbox))
        values = {"code": error.code, "user": error.user}
        is_consent = asked.is_consent or asked.route.page is PageName.CONSENT
        html = self._renderer.message(
            asked.words, str(error.kind), links=links, is_trouble=True, values=values, is_consent=is_consent
        )
        return PageResponse(html=html, status=error.kind.status, cookies=asked.expired_cookies)

    def headers(self, asked: RequestContext, response: PageResponse) -> dict[str, str]:
        """Return the headers of every answer."""
        is_https = asked.site is not None and asked.site.urls.is_https
        return self._renderer.headers(form_target=response.form_target, is_https=is_https)

    def log_fields(self, asked: RequestContext) -> dict[str, str | None]:
        """Return the namespace and the organization, once they are known."""
        organization = asked.site.organization.name if asked.site is not None else None
        return {"namespace": asked.namespace, "organization": organization}
