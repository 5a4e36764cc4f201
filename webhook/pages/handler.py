"""
Handle one browser request: check it, call the view of its page, and answer.

Each request passes: rate, path, method, limit of concurrent requests, organization, query, and then the view.
Every answer is a page in the browser's language or a redirect, with security headers. The log line has the
page and the outcome, but no query, no cookie and no form value: those hold codes, states and personal text.
"""

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.kube.errors import ApiError
from counterfoil.metrics import Metrics
from webhook.http_server.errors import PageError
from webhook.http_server.rate_limit import TokenBucket
from webhook.http_server.responses import error_headers, html_response, redirect_response, with_cookies
from webhook.pages.errors import ADMINISTRATOR_KINDS, RETRYABLE_KINDS, PageErrorKind, from_api_server
from webhook.pages.languages import negotiate_language
from webhook.pages.limits import PageLimits
from webhook.pages.rendering import PageLink, PageRenderer
from webhook.pages.routes import METHODS, PageName, PageRoute, match_route, parse_query, read_form
from webhook.pages.views import OrganizationSite, PageResponse, PageViews, RequestContext

_log = logging.getLogger(__name__)

OUTCOME_SHOWN = "shown"
OUTCOME_REDIRECTED = "led_on"


class RequestResult(NamedTuple):
    """The outcome of a request, for log and metrics."""

    outcome: str
    detail: str = ""


class PageHandler:
    """Answers requests. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(
        self,
        views: PageViews,
        renderer: PageRenderer,
        metrics: Metrics,
        *,
        bucket: TokenBucket,
        limits: PageLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._views = views
        self._renderer = renderer
        self._metrics = metrics
        self._bucket = bucket
        self._limits = limits
        self._monotonic = monotonic
        self._in_flight = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Every request is counted and logged, and has an answer also after an unexpected
        error."""
        started = self._monotonic()
        path, _, raw_query = request.raw_path.partition("?")
        route = match_route(path)
        context = RequestContext(
            words=load_catalogue(
                CatalogueName.PAGES, negotiate_language(request.headers.get("Accept-Language"))
            ),
            query={},
            cookies=dict(request.cookies),
            headers=request.headers,
        )
        try:
            page_response = await self._dispatch(request, route, context, raw_query)
            response = self._success_response(context, page_response)
            result = RequestResult(OUTCOME_REDIRECTED if page_response.location else OUTCOME_SHOWN)
        except PageError as page_error:
            response, result = (
                self._error_response(context, page_error),
                RequestResult(str(page_error.kind), page_error.detail),
            )
        except ApiError as problem:
            response = self._error_response(context, from_api_server(problem))
            result = RequestResult(str(PageErrorKind.CLUSTER_DOWN), str(problem))
        except Exception:
            _log.exception("a page could not be made")
            response, result = (
                self._error_response(context, PageError(PageErrorKind.UNEXPECTED)),
                RequestResult(str(PageErrorKind.UNEXPECTED)),
            )
        if request.can_read_body and not request.content.at_eof():
            response.force_close()
        self._log_result(route, context, result, response.status, self._monotonic() - started)
        return response

    def answer_unreadable(self) -> web.StreamResponse:
        """Answer a request that is not HTTP, or whose line or headers exceed the limits."""
        context = RequestContext(
            words=load_catalogue(CatalogueName.PAGES, negotiate_language(None)), query={}, cookies={}
        )
        page_error = PageError(PageErrorKind.LINK_BROKEN, "not HTTP, or longer than the limits allow")
        response = self._error_response(context, page_error)
        response.force_close()
        self._log_result(
            PageRoute(PageName.NONE),
            context,
            RequestResult(str(page_error.kind), page_error.detail),
            response.status,
            0.0,
        )
        return response

    async def _dispatch(
        self, request: web.BaseRequest, route: PageRoute, context: RequestContext, raw_query: str
    ) -> PageResponse:
        wait = self._bucket.take(self._monotonic())
        if wait:
            raise PageError(PageErrorKind.BUSY, f"more than the rate; next in {math.ceil(wait)} s")
        if route.page is PageName.NONE:
            raise PageError(PageErrorKind.NOT_FOUND, "not the path of a page")
        if request.method not in METHODS.get(route.page, ("GET",)):
            raise PageError(PageErrorKind.WRONG_METHOD)
        if self._in_flight >= self._limits.in_flight:
            raise PageError(PageErrorKind.BUSY, f"{self._in_flight} requests are in progress")
        self._in_flight += 1
        try:
            site = context.site = await self._views.site(route.organization)
            context.query = parse_query(raw_query, self._limits)
            if request.method == "POST":
                context.form = await read_form(request, self._limits)
                return await self._views.submit_form(site, context)
            return await self._dispatch_get(route, site, context)
        finally:
            self._in_flight -= 1

    async def _dispatch_get(
        self, route: PageRoute, site: OrganizationSite, context: RequestContext
    ) -> PageResponse:
        match route.page:
            case PageName.BEFORE_SEND:
                return await self._views.before_send(site, context)
            case PageName.FORM:
                return await self._views.show_form(site, context)
            case PageName.CONSENT:
                return await self._views.consent(site, context, route.sender)
            case PageName.THANKS:
                return await self._views.thanks(site, context, route.sender)
            case PageName.RETURN:
                return await self._views.oauth_return(site, context)
        raise PageError(PageErrorKind.NOT_FOUND)

    def _success_response(self, context: RequestContext, page_response: PageResponse) -> web.Response:
        target = context.site.urls.origin if context.site is not None and page_response.has_form else "'none'"
        headers = self._renderer.headers(form_target=target, is_https=_is_https(context))
        if page_response.location:
            response = redirect_response(page_response.location, headers)
        else:
            response = html_response(page_response.html, page_response.status, headers)
        return with_cookies(response, (*context.expired_cookies, *page_response.cookies))

    def _error_response(self, context: RequestContext, page_error: PageError) -> web.Response:
        links = []
        if context.restart_url and page_error.kind in RETRYABLE_KINDS:
            links.append(PageLink("again", context.restart_url))
        if context.site is not None:
            links.append(PageLink("to_inbox", context.site.urls.inbox))
        html = self._renderer.message(
            context.words,
            str(page_error.kind),
            links=links,
            values={"code": page_error.code, "user": page_error.user},
        )
        status = page_error.kind.status
        headers = self._renderer.headers(is_https=_is_https(context))
        return with_cookies(
            html_response(html, status, headers | error_headers(status)), context.expired_cookies
        )

    def _log_result(
        self, route: PageRoute, context: RequestContext, result: RequestResult, status: int, seconds: float
    ) -> None:
        self._metrics.pages.labels(str(route.page), result.outcome).inc()
        self._metrics.page_seconds.labels(str(route.page)).observe(seconds)
        needs_somebody = result.outcome in ADMINISTRATOR_KINDS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        _log.log(
            logging.WARNING if needs_somebody else logging.INFO,
            "page %s: %s",
            route.page,
            f"{result.outcome}: {result.detail}" if result.detail else result.outcome,
            extra={
                "organization": context.site.organization.name if context.site is not None else None,
                "outcome": result.outcome,
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


def _is_https(context: RequestContext) -> bool:
    return context.site is not None and context.site.urls.is_https
