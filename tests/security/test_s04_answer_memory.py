"""S4: fill the memory of the controller with many answers, each of which has an allowed size."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web

from tests.support.scenes.answer_memory import (
    EMOJI,
    FILLING,
    LIMIT,
    MANIFEST,
    MIB,
    RUNS,
    filled,
    measured,
    serving,
)
from tests.support.scenes.esaw_check import hostile_esaw

CHECKS = 8
"""Requests of people that are worked on at once."""


def body(kind: str) -> tuple[bytes, int]:
    """Return the beginning of an answer, and its size just below the limit of its kind."""
    match kind:
        case "esaw":
            return b'{"Other":"', 8 * MIB - 1024
        case "manifest":
            return b'{"other":"', 16 * MIB - 1024
        case _:
            return b"<ListBucketResult><a>", 8 * MIB - 1024


def wide_files() -> bytes:
    """Return a list of files of which each text is four times as large in memory."""
    item = b'{"FileId":"%d","FileName":"' + EMOJI + b"x" * 1000 + b'"}'
    return filled(b'{"Documents":[', item, b"]}", 8 * MIB)


def wide_tags() -> bytes:
    """Return a manifest with many short tags."""
    return MANIFEST + filled(b'"files":[],"tags":{', b'"%d":"\xc3\xa4"', b"}}", 15 * MIB)


class Together:
    """A server whose answers, except the first, have their last bytes a while after the others."""

    def __init__(self, kind: str) -> None:
        self.start, self.size = body(kind)
        self.is_first = True

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "ETag": '"e"'})
        response.content_length = self.size
        await response.prepare(request)
        await response.write(self.start)
        left = self.size - len(self.start)
        while left > len(FILLING):
            await response.write(FILLING)
            left -= len(FILLING)
        if self.is_first:
            self.is_first = False
        else:
            await asyncio.sleep(0.2)
        await response.write(FILLING[:left])
        return response


@pytest.mark.parametrize("kind", ["esaw", "manifest", "list"])
async def test_many_large_answers_at_once_take_a_bounded_memory(kind: str) -> None:
    async with serving(Together(kind).answer) as url:
        grown, refused, _ = await measured(kind, url)
    assert refused == RUNS
    assert grown <= LIMIT


@pytest.mark.parametrize(("answer", "kind"), [(wide_files, "files"), (wide_tags, "manifest")])
async def test_answers_whose_decoded_form_is_larger_take_a_bounded_memory(
    answer: Callable[[], bytes], kind: str
) -> None:
    content = answer()

    async def give(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type="application/json", headers={"ETag": '"e"'})

    async with serving(give) as url:
        grown, refused, _ = await measured(kind, url)
    assert refused == RUNS
    assert grown <= LIMIT


async def test_many_checks_at_once_take_a_bounded_memory() -> None:
    async with hostile_esaw(dense=False) as hostile:
        grown, refused, accepted = await measured("check", hostile, CHECKS)
    assert (refused, accepted) == (0, CHECKS)
    assert grown <= LIMIT
