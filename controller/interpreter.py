"""
The interpreter between the API server and kopf: whatever kopf would end by is told to it as "too old", so that it lists anew.

kopf knows "too old" as a message within a watch only. By every other answer that it has no word for its operator ends,
and with that this process: HTTP 410 to a list or a watch, the 404 or the login page of a proxy, an error within a
watch that is not 410. What kopf copes with by itself passes unchanged, and so does everything but lists and watches of
the kinds that are followed; no code of kopf or aiohttp is replaced.

A list that is no use breaks off, as far as kopf can tell; a watch that is none says "too old". Either way kopf begins
again with a list, after a pause that grows while it goes on like that.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, NamedTuple, cast

import aiohttp
import msgspec

from counterfoil.clock import Clock
from counterfoil.cluster import longer_each_time

_log = logging.getLogger(__name__)

TOO_OLD: Final = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"list again","reason":"Expired","code":410}}'
)

COPED_WITH: Final = frozenset({401, 403, 429})
"""Refusals after which kopf logs in anew or asks again by itself, as it does after everything from 500 on."""


class Asked(NamedTuple):
    """What kopf asked for."""

    plural: str
    is_watch: bool


class Line(msgspec.Struct):
    """One line of a watch, as far as it concerns us."""

    type: str


class Interpreter:
    """Listens to what kopf is answered about some kinds."""

    def __init__(
        self,
        plurals: Iterable[str],
        clock: Clock,
        *,
        heard: Callable[[str], None],
        listed: Callable[[str], None],
    ) -> None:
        """``heard`` is told of the kind of every piece of a watch, ``listed`` of every list that is begun."""
        self._plurals = frozenset(plurals)
        self._clock = clock
        self._heard = heard
        self._listed = listed
        self._failures: Counter[Asked] = Counter()

    def answers(self) -> type[aiohttp.ClientResponse]:
        """Return the class of answers for an HTTP session of kopf's."""
        interpreter = self

        class Interpreted(aiohttp.ClientResponse):
            """An answer in words that kopf knows."""

            async def start(self, connection: Any) -> aiohttp.ClientResponse:
                await super().start(connection)
                await interpreter.interpret(self)
                return self

        return Interpreted

    async def interpret(self, answer: aiohttp.ClientResponse) -> None:
        """Put an answer that has just begun into words that kopf knows. Raises ``aiohttp.ClientPayloadError``."""
        asked = Asked(answer.url.name, answer.url.query.get("watch") == "true")
        if answer.method != "GET" or asked.plural not in self._plurals:
            return
        trouble = _trouble(answer)
        if trouble is not None:
            await self._begin_again(asked, trouble)
            if not asked.is_watch:
                raise aiohttp.ClientPayloadError(f"the list is no use: {trouble}")
            answer.status = 200
        elif not asked.is_watch and answer.status == 200:
            self._failures.pop(asked, None)
            if "continue" not in answer.url.query:
                self._listed(asked.plural)
        if asked.is_watch:
            pieces = _nothing_but_too_old if trouble is not None else self._pieces_of(asked, answer.content)
            answer.content = cast("aiohttp.StreamReader", _Body(answer.content, pieces))

    def _pieces_of(
        self, asked: Asked, content: aiohttp.StreamReader
    ) -> Callable[[int], AsyncIterator[bytes]]:
        async def pieces(size: int) -> AsyncIterator[bytes]:
            rest = b""
            async for piece in content.iter_chunked(size):
                self._heard(asked.plural)
                # A line that is cut off is no line: kopf would end by the attempt to read it.
                whole, ended, rest = (rest + piece).rpartition(b"\n")
                if ended:
                    yield await self._in_kopfs_words(asked, whole) + ended

        return pieces

    async def _in_kopfs_words(self, asked: Asked, lines: bytes) -> bytes:
        good = lines.split(b"\n")
        wrong = next((each for each in good if b'"ERROR"' in each and _is_error(each)), None)
        if wrong is not None:
            good = good[: good.index(wrong)]
        if good:
            self._failures.pop(asked, None)
        if wrong is None:
            return lines
        await self._begin_again(asked, wrong.decode(errors="replace"))
        return b"\n".join([*good, TOO_OLD])

    async def _begin_again(self, asked: Asked, trouble: str) -> None:
        what = "watch" if asked.is_watch else "list"
        _log.warning("a %s of %s is begun again: %s", what, asked.plural, trouble[:300])
        await self._clock.sleep(longer_each_time(self._failures[asked]))
        self._failures[asked] += 1


class _Body:
    """The body of a watch, in other pieces; all else is the body's own."""

    def __init__(self, content: aiohttp.StreamReader, pieces: Callable[[int], AsyncIterator[bytes]]) -> None:
        self._content = content
        self.iter_chunked = pieces

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


def _trouble(answer: aiohttp.ClientResponse) -> str | None:
    """Say by what kopf would end, None for nothing."""
    if 400 <= answer.status < 500 and answer.status not in COPED_WITH:
        return f"the answer is {answer.status} {answer.reason}"
    if answer.status == 200 and answer.content_type != "application/json":
        return f"the answer is {answer.content_type}, so it is not the API server's"
    return None


def _is_error(line: bytes) -> bool:
    try:
        return msgspec.json.decode(line, type=Line).type == "ERROR"
    except msgspec.DecodeError:
        # Not ours to judge.
        return False


async def _nothing_but_too_old(size: int) -> AsyncIterator[bytes]:
    yield TOO_OLD + b"\n"
