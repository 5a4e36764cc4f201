"""
kopf: a response that ends the operator becomes "too old", so that kopf lists again.

Upstream: https://github.com/nolar/kopf/issues/1276. Versions: kopf up to 1.45.2.

kopf handles "too old" only as a message within a watch. Each other response that kopf does not handle ends
its operator and with it this process: HTTP 410 to a list or a watch, the 404 or the login page of a proxy,
JSON that is cut or is no list, an error within a watch that is not 410. Responses that kopf handles pass
unchanged, as do all requests other than lists and watches of the watched kinds; no code of kopf or aiohttp is
replaced. No redirect is followed.

A useless list becomes a broken connection for kopf; a useless watch becomes "too old". In both cases kopf
begins again with a list, after a pause that grows with each failure.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, NamedTuple, cast

import aiohttp
import msgspec

from counterfoil.clock import Clock
from counterfoil.kube.watch import exponential_backoff
from counterfoil.untrusted.json_bounds import JSON_ERRORS

_log = logging.getLogger(__name__)

TOO_OLD: Final = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"list again","reason":"Expired","code":410}}'
)

HANDLED_BY_KOPF: Final = frozenset({401, 403, 429})
"""Statuses after which kopf logs in or repeats the request, as it does after each status from 500 on."""


class WatchRequest(NamedTuple):
    """A list or a watch that kopf requested."""

    plural: str
    is_watch: bool


class WatchLine(msgspec.Struct):
    """One line of a watch; other fields are ignored."""

    type: str


class ResponseAdapter:
    """Adapts the responses to kopf about some kinds."""

    def __init__(
        self,
        plurals: Iterable[str],
        clock: Clock,
        *,
        data_received: Callable[[str], None],
        list_started: Callable[[str], None],
    ) -> None:
        """The callables receive the kind: of each piece of a watch, and of each list that begins."""
        self._plurals = frozenset(plurals)
        self._clock = clock
        self._data_received = data_received
        self._list_started = list_started
        self._failures: Counter[WatchRequest] = Counter()

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

    async def adapt(self, answer: aiohttp.ClientResponse) -> None:
        """Adapt a response whose headers have arrived. Raises ``aiohttp.ClientError``."""
        watch_request = _watch_request(answer)
        if 300 <= answer.status < 400 and watch_request.plural not in self._plurals:
            raise aiohttp.ClientConnectionError(f"the answer is a redirect ({answer.status})")
        if answer.method != "GET" or watch_request.plural not in self._plurals:
            return
        reason = _fatal_for_kopf(answer)
        if reason is not None:
            await self._wait_before_relist(watch_request, reason)
            if not watch_request.is_watch:
                raise aiohttp.ClientPayloadError(f"the list is no use: {reason}")
            answer.status = 200
        elif not watch_request.is_watch and answer.status == 200 and "continue" not in answer.url.query:
            self._list_started(watch_request.plural)
        if watch_request.is_watch:
            pieces = (
                _only_too_old if reason is not None else self._filtered_chunks(watch_request, answer.content)
            )
            answer.content = cast("aiohttp.StreamReader", _FilteredBody(answer.content, pieces))

    async def check_list(self, answer: aiohttp.ClientResponse, body: object) -> None:
        """
        Check the body of a response: a list of a watched kind must be one.

        ``body`` is the error for JSON that cannot be read. Raises ``aiohttp.ClientPayloadError``.
        """
        watch_request = _watch_request(answer)
        if answer.method != "GET" or watch_request.is_watch or watch_request.plural not in self._plurals:
            return
        if _is_list(body):
            self._failures.pop(watch_request, None)
            return
        reason = "the answer is JSON, but no list of the API server"
        await self._wait_before_relist(watch_request, reason)
        raise aiohttp.ClientPayloadError(f"the list is no use: {reason}")

    def _filtered_chunks(
        self, watch_request: WatchRequest, content: aiohttp.StreamReader
    ) -> Callable[[int], AsyncIterator[bytes]]:
        async def pieces(size: int) -> AsyncIterator[bytes]:
            rest = b""
            async for piece in content.iter_chunked(size):
                self._data_received(watch_request.plural)
                # An incomplete line is dropped: kopf would end when parsing it.
                whole, ended, rest = (rest + piece).rpartition(b"\n")
                if ended:
                    yield await self._replace_errors(watch_request, whole) + ended

        return pieces

    async def _replace_errors(self, watch_request: WatchRequest, lines: bytes) -> bytes:
        good_lines = lines.split(b"\n")
        error_line = next((each for each in good_lines if b'"ERROR"' in each and is_error_line(each)), None)
        if error_line is not None:
            good_lines = good_lines[: good_lines.index(error_line)]
        if good_lines:
            self._failures.pop(watch_request, None)
        if error_line is None:
            return lines
        await self._wait_before_relist(watch_request, error_line.decode(errors="replace"))
        return b"\n".join([*good_lines, TOO_OLD])

    async def _wait_before_relist(self, watch_request: WatchRequest, reason: str) -> None:
        what = "watch" if watch_request.is_watch else "list"
        _log.warning("a %s of %s is begun again: %s", what, watch_request.plural, reason[:300])
        await self._clock.sleep(exponential_backoff(self._failures[watch_request]))
        self._failures[watch_request] += 1


class _FilteredBody:
    """The body of a watch with other pieces; all other attributes are the body's own."""

    def __init__(self, content: aiohttp.StreamReader, pieces: Callable[[int], AsyncIterator[bytes]]) -> None:
        self._content = content
        self.iter_chunked = pieces

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


def _watch_request(answer: aiohttp.ClientResponse) -> WatchRequest:
    return WatchRequest(answer.url.name, answer.url.query.get("watch") == "true")


def _is_list(body: object) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        return False
    items = body.get("items")
    return (
        isinstance(body["metadata"].get("resourceVersion"), str)
        and isinstance(items, list)
        and all(isinstance(each, dict) for each in items)
    )


def _fatal_for_kopf(answer: aiohttp.ClientResponse) -> str | None:
    """Return the reason why kopf would end, or None."""
    if answer.status != 200 and answer.status < 500 and answer.status not in HANDLED_BY_KOPF:
        return f"the answer is {answer.status} {answer.reason}"
    if answer.status == 200 and answer.content_type != "application/json":
        return f"the answer is {answer.content_type}, so it is not the API server's"
    return None


def is_error_line(line: bytes) -> bool:
    """Whether a line of a watch reports an error."""
    try:
        return msgspec.json.decode(line, type=WatchLine).type == "ERROR"
    except JSON_ERRORS:
        # kopf handles it.
        return False


async def _only_too_old(size: int) -> AsyncIterator[bytes]:
    yield TOO_OLD + b"\n"
