"""
kopf: it gets a usable list or watch, "too old", or a broken connection, and nothing else.

Upstream: https://github.com/nolar/kopf/issues/1276. Versions: kopf up to 1.45.2.

kopf handles "too old" only as a message within a watch. Most other answers end its operator: HTTP 410 to a
list or a watch, the 404 or the login page of a proxy, JSON that is cut or is no list, a line that is no watch
event, an error within a watch that is not 410, a date in ``Retry-After``. A 401 closes the session of all
requests, and kopf ends if it gets the same credentials again. An operator that ends in this way can wait for
its own watchers without end.

So kopf gets no answer that it would have to interpret:

- an answer that can pass (``TEMPORARY``) is a broken connection: kopf repeats the request after a pause,
  with the credentials of that time;
- a useless list breaks off, and a useless watch is "too old": kopf begins again with a list, after a pause
  here that grows with each failure;
- for all requests other than lists and watches of the watched kinds (discovery), each answer that is not 200
  is a broken connection, and so is a discovery that lacks a watched kind. kopf reads it once and then never
  watches what is missing, but an API server that has just started lists custom resources late.

kopf reads a page of a list whole, and who fills statuses and metadata chooses its size. So each page is
requested with as many objects as have room in ``MAX_PAGE_BYTES``, not with the number of kopf's settings.

No redirect is followed. No code of kopf or aiohttp is replaced.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sized
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, cast

import aiohttp
from yarl import URL

from counterfoil.clock import Clock
from counterfoil.kube.answers import object_list, watch_event
from counterfoil.kube.errors import ApiError, retry_after_seconds
from counterfoil.kube.page_limits import (
    LARGE_PAGE,
    MAX_PAGE_BYTES,
    SMALL_PAGE,
    PageTooLarge,
    fewer_objects,
    next_limit,
    read_page,
)
from counterfoil.kube.watch import MAX_BACKOFF_SECONDS, Raw, exponential_backoff

_log = logging.getLogger(__name__)

TOO_OLD: Final = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"list again","reason":"Expired","code":410}}'
)

TEMPORARY: Final = frozenset({401, 403, 408, 429})
"""Statuses below 500 that the same request may not get again. 401: the token of a ServiceAccount changes, and
an API server that starts refuses valid tokens."""


class WatchRequest(NamedTuple):
    """A list or a watch that kopf requested."""

    namespace: str
    plural: str
    is_watch: bool


class WatchObserver(Protocol):
    """Learns what the responses have, each with the namespace and the kind."""

    def data_received(self, namespace: str, plural: str) -> None:
        """A change or a bookmark arrived."""

    def list_started(self, namespace: str, plural: str) -> None:
        """A list begins."""

    def page_listed(self, namespace: str, plural: str, page: Raw) -> None:
        """A page of a list is usable."""


class ResponseAdapter:
    """Adapts the responses to kopf about some kinds."""

    def __init__(
        self,
        plurals: Iterable[str],
        clock: Clock,
        observer: WatchObserver,
        *,
        api_version: str,
    ) -> None:
        """``api_version`` is the group and version of the kinds. The session of the responses must have
        ``request_page``."""
        self._plurals = frozenset(plurals)
        self._api_version = api_version
        self._clock = clock
        self._observer = observer
        self._failures: Counter[WatchRequest] = Counter()
        self._limits = dict[tuple[str, str], int]()

    def response_class(self) -> type[aiohttp.ClientResponse]:
        """Return the response class for kopf's HTTP session."""
        adapter = self

        class AdaptedResponse(aiohttp.ClientResponse):
            """A response that kopf can handle."""

            async def start(self, connection: Any) -> aiohttp.ClientResponse:
                await super().start(connection)
                await adapter.adapt(self)
                return self

            async def json(self, **options: Any) -> Any:
                try:
                    body = await super().json(**options)
                except (ValueError, RecursionError) as damage:
                    await adapter.check_list(self, damage)
                    raise
                await adapter.check_list(self, body)
                return body

        return AdaptedResponse

    async def request_page(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """
        Request a page of a list again, with fewer objects, until it has at most ``MAX_PAGE_BYTES``; a
        middleware. One object alone may have more.

        The repeated request is made here, since kopf would repeat only the whole list.
        """
        plural, query = request.url.name, request.url.query
        if request.method != "GET" or plural not in self._plurals or query.get("watch") == "true":
            return await handler(request)
        is_begin = "continue" not in query
        namespace = _namespace(request.url)
        limit = self._limits.get((namespace, plural), SMALL_PAGE)
        limit = min(limit, SMALL_PAGE) if is_begin else limit
        while True:
            request.url = request.url.update_query(limit=str(limit))
            answer = await handler(request)
            if is_begin:
                self._observer.list_started(namespace, plural)
                is_begin = False
            if limit > 1:
                read = partial(read_page, answer.content, MAX_PAGE_BYTES)
                answer.content = cast("aiohttp.StreamReader", _ReplacedBody(answer.content, read=read))
            try:
                size = len(await answer.read())
            except PageTooLarge:
                limit = self._limits[namespace, plural] = fewer_objects(limit)
                continue
            self._limits[namespace, plural] = min(next_limit(limit, size), LARGE_PAGE)
            return answer

    async def adapt(self, answer: aiohttp.ClientResponse) -> None:
        """Adapt a response whose headers have arrived. Raises ``aiohttp.ClientError``."""
        watch_request = _watch_request(answer)
        is_watched = answer.method == "GET" and watch_request.plural in self._plurals
        if answer.status >= 500 or answer.status in TEMPORARY or (answer.status != 200 and not is_watched):
            seconds = retry_after_seconds(answer.headers.get("Retry-After")) or 0.0
            await self._clock.sleep(min(seconds, MAX_BACKOFF_SECONDS))
            raise aiohttp.ClientConnectionError(f"the answer is {answer.status}")
        if not is_watched:
            await self._check_discovery(answer)
            return
        reason = _fatal_for_kopf(answer)
        if reason is not None:
            await self._wait_before_relist(watch_request, reason)
            if not watch_request.is_watch:
                raise aiohttp.ClientPayloadError(f"the list is no use: {reason}")
            answer.status = 200
        if watch_request.is_watch:
            pieces = (
                _only_too_old if reason is not None else self._filtered_chunks(watch_request, answer.content)
            )
            answer.content = cast("aiohttp.StreamReader", _ReplacedBody(answer.content, iter_chunked=pieces))

    async def check_list(self, answer: aiohttp.ClientResponse, body: object) -> None:
        """
        Check the body of a response: a list of a watched kind must be one.

        ``body`` is the error for JSON that cannot be read. Raises ``aiohttp.ClientPayloadError``.
        """
        watch_request = _watch_request(answer)
        if answer.method != "GET" or watch_request.is_watch or watch_request.plural not in self._plurals:
            return
        try:
            page = object_list(body)
        except ApiError as problem:
            await self._wait_before_relist(watch_request, str(problem))
            raise aiohttp.ClientPayloadError(f"the list is no use: {problem}") from problem
        self._failures.pop(watch_request, None)
        self._observer.page_listed(watch_request.namespace, watch_request.plural, page)

    async def _check_discovery(self, answer: aiohttp.ClientResponse) -> None:
        """Raise ``aiohttp.ClientConnectionError`` for a discovery that lacks a watched kind."""
        required = _required_names(answer.url.path, self._api_version, self._plurals)
        if not required:
            return
        try:
            body = await answer.json()
            names = {each["name"] for key in ("groups", "resources") for each in body.get(key, ())}
        except (
            ValueError,
            RecursionError,
            TypeError,
            LookupError,
            AttributeError,
            aiohttp.ClientError,
        ) as damage:
            raise aiohttp.ClientConnectionError("the answer is no discovery") from damage
        if missing := required - names:
            message = f"{', '.join(sorted(missing))}: not served yet, or the CRDs are missing"
            raise aiohttp.ClientConnectionError(message)

    def _filtered_chunks(
        self, watch_request: WatchRequest, content: aiohttp.StreamReader
    ) -> Callable[[int], AsyncIterator[bytes]]:
        async def pieces(size: int) -> AsyncIterator[bytes]:
            rest = b""
            async for piece in content.iter_chunked(size):
                # An incomplete line is dropped: kopf would end when parsing it.
                whole, ended, rest = (rest + piece).rpartition(b"\n")
                # The next piece may come much later, and each watch would keep these until then.
                del piece
                if ended:
                    lines = await self._replace_errors(watch_request, whole)
                    is_last = lines.endswith(TOO_OLD)
                    yield lines + ended
                    if is_last:
                        return
                    del lines
                del whole

        return pieces

    async def _replace_errors(self, watch_request: WatchRequest, lines: bytes) -> bytes:
        """Return the lines up to the first that is no change and no bookmark, and "too old" in its place."""
        good_lines = list[bytes]()
        for line in filter(None, lines.split(b"\n")):
            try:
                watch_event(line)
            except ApiError as problem:
                self._record_data(watch_request, good_lines)
                await self._wait_before_relist(watch_request, str(problem))
                return b"\n".join([*good_lines, TOO_OLD])
            good_lines.append(line)
        self._record_data(watch_request, good_lines)
        return lines

    def _record_data(self, watch_request: WatchRequest, good_lines: Sized) -> None:
        if good_lines:
            self._failures.pop(watch_request, None)
            self._observer.data_received(watch_request.namespace, watch_request.plural)

    async def _wait_before_relist(self, watch_request: WatchRequest, reason: str) -> None:
        what = "watch" if watch_request.is_watch else "list"
        message = "a %s of %s is begun again: %s"
        extra = {"namespace": watch_request.namespace}
        _log.warning(message, what, watch_request.plural, reason[:300], extra=extra)
        await self._clock.sleep(exponential_backoff(self._failures[watch_request]))
        self._failures[watch_request] += 1


class _ReplacedBody:
    """A body with other methods; all other attributes are the body's own."""

    def __init__(self, content: aiohttp.StreamReader, **methods: Callable[..., object]) -> None:
        self._content = content
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


def _required_names(path: str, api_version: str, plurals: frozenset[str]) -> frozenset[str]:
    """Return the names that the discovery at a path must list."""
    if path.endswith(f"/apis/{api_version}"):
        return plurals
    return frozenset({api_version.partition("/")[0]} if path.endswith("/apis") else ())


def _watch_request(answer: aiohttp.ClientResponse) -> WatchRequest:
    is_watch = answer.url.query.get("watch") == "true"
    return WatchRequest(_namespace(answer.url), answer.url.name, is_watch)


def _namespace(url: URL) -> str:
    """Return the namespace in the address of a list or a watch; empty if it has none."""
    parts = url.parts
    return parts[-2] if len(parts) > 2 and parts[-3] == "namespaces" else ""


def _fatal_for_kopf(answer: aiohttp.ClientResponse) -> str | None:
    """Return the reason why kopf would end, or None."""
    if answer.status != 200:
        return f"the answer is {answer.status} {answer.reason}"
    if answer.status == 200 and answer.content_type != "application/json":
        return f"the answer is {answer.content_type}, so it is not the API server's"
    return None


async def _only_too_old(size: int) -> AsyncIterator[bytes]:
    yield TOO_OLD + b"\n"
