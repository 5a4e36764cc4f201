"""
Delivery: an answer goes out, as it should or as a fault bends it.

Large bodies flow chunk by chunk; a body that a fault bends is cut, slowed down or sent under a wrong length, and its
connection is closed afterwards, so that nothing of it spoils the next answer.
"""

import asyncio
from collections.abc import Iterator

from aiohttp import web

from sandbox.esaw.answer import Answer
from sandbox.esaw.content import CHUNK
from sandbox.esaw.faults import Fault
from sandbox.esaw.recorder import RecordedRequest

TRICKLE_PAUSE = 0.02
"""Seconds between two drops of a body that trickles."""


async def deliver(
    request: web.Request, answer: Answer, fault: Fault, entry: RecordedRequest
) -> web.StreamResponse:
    """Send the answer and note down how much of it went out."""
    entry.status = answer.status
    if fault.bends_body:
        response = await _bent(request, answer, fault, entry)
    elif answer.body.size <= CHUNK and not answer.chunked:
        response = await _at_once(request, answer, entry)
    else:
        response = await _streamed(request, answer, entry)
    entry.whole = entry.whole and fault.garbage is None
    return response


def cut(request: web.Request, entry: RecordedRequest) -> web.StreamResponse:
    """Close the connection with no answer at all."""
    entry.status = 0
    _close(request)
    return web.Response()  # aiohttp wants one; it has nowhere to go


async def _at_once(request: web.Request, answer: Answer, entry: RecordedRequest) -> web.StreamResponse:
    body = b"".join(answer.body.chunks())
    response = web.Response(status=answer.status, body=body or None, headers=_headers(answer))
    await response.prepare(request)
    await response.write_eof()
    entry.bytes_sent = len(body)
    entry.whole = True
    return response


async def _streamed(request: web.Request, answer: Answer, entry: RecordedRequest) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    if not answer.chunked:
        response.content_length = answer.body.size
    await response.prepare(request)
    for chunk in answer.body.chunks():
        await response.write(chunk)
        entry.bytes_sent += len(chunk)
    await response.write_eof()
    entry.whole = True
    return response


async def _bent(
    request: web.Request, answer: Answer, fault: Fault, entry: RecordedRequest
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    response.force_close()
    truth = answer.body.size
    if not answer.chunked or fault.declared_length is not None:
        response.content_length = truth if fault.declared_length is None else fault.declared_length
    writer = await response.prepare(request)
    if writer is not None and fault.declared_length is not None:
        writer.length = None  # or aiohttp would not send more than it declared
    allowed = truth if fault.cut_after is None else min(fault.cut_after, truth)
    for drop in _drops(answer, allowed, fault):
        await response.write(drop)
        entry.bytes_sent += len(drop)
        if fault.trickle is not None:
            await asyncio.sleep(len(drop) / fault.trickle)
    if fault.cut_after is not None or fault.declared_length is not None:
        _close(request)
        return response
    await response.write_eof()
    entry.whole = True
    return response


def _drops(answer: Answer, allowed: int, fault: Fault) -> Iterator[bytes | memoryview]:
    """The first `allowed` bytes of the body, in pieces as small as the fault wants."""
    most = CHUNK if fault.trickle is None else max(1, int(fault.trickle * TRICKLE_PAUSE))
    for chunk in answer.body.chunks():
        for start in range(0, min(len(chunk), allowed), most):
            yield chunk[start : min(start + most, allowed)]
        allowed -= min(len(chunk), allowed)


def _headers(answer: Answer) -> dict[str, str]:
    headers = dict(answer.headers)
    if answer.content_type:
        headers["Content-Type"] = answer.content_type
    return headers


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()  # what was written still leaves; then the connection ends
