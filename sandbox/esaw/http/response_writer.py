"""
Delivery: an answer goes out, as it should or as a fault bends it.

Large bodies flow chunk by chunk; a body that a fault bends is cut, slowed down or sent under a wrong length,
and its connection is closed afterwards, so that nothing of it reaches the next response.
"""

import asyncio
import itertools
from collections.abc import Iterator

from aiohttp import web

from sandbox.esaw.core.content import CHUNK
from sandbox.esaw.core.faults import InjectedFault
from sandbox.esaw.core.recorder import RecordedRequest
from sandbox.esaw.http.responses import JSON, RouteResponse

TRICKLE_PAUSE = 0.02
"""Seconds between two drops of a body that trickles."""


async def write_response(
    request: web.Request, route_response: RouteResponse, fault: InjectedFault, entry: RecordedRequest
) -> web.StreamResponse:
    """Send the response and record the number of bytes that were sent."""
    entry.status = route_response.status
    if fault.affects_body:
        response = await _write_with_fault(request, route_response, fault, entry)
    elif route_response.body.size <= CHUNK and not route_response.chunked:
        response = await _write_whole(request, route_response, entry)
    else:
        response = await _write_in_chunks(request, route_response, entry)
    entry.whole = entry.whole and fault.garbage is None
    return response


def drop_connection(request: web.Request, entry: RecordedRequest) -> web.StreamResponse:
    """Close the connection with no answer at all."""
    entry.status = 0
    _close(request)
    return web.Response()  # aiohttp wants one; it has nowhere to go


async def _write_whole(
    request: web.Request, route_response: RouteResponse, entry: RecordedRequest
) -> web.StreamResponse:
    body = b"".join(route_response.body.chunks())
    response = web.Response(status=route_response.status, body=body or None, headers=_headers(route_response))
    await response.prepare(request)
    await response.write_eof()
    entry.bytes_sent = len(body)
    entry.whole = True
    return response


async def _write_in_chunks(
    request: web.Request, route_response: RouteResponse, entry: RecordedRequest
) -> web.StreamResponse:
    response = web.StreamResponse(status=route_response.status, headers=_headers(route_response))
    if not route_response.chunked:
        response.content_length = route_response.body.size
    await response.prepare(request)
    for chunk in route_response.body.chunks():
        await response.write(chunk)
        entry.bytes_sent += len(chunk)
    await response.write_eof()
    entry.whole = True
    return response


async def _write_with_fault(
    request: web.Request, route_response: RouteResponse, fault: InjectedFault, entry: RecordedRequest
) -> web.StreamResponse:
    response = web.StreamResponse(status=route_response.status, headers=_headers(route_response))
    response.force_close()
    truth = route_response.body.size
    is_chunked = route_response.chunked or fault.endless
    if not is_chunked or fault.declared_length is not None:
        response.content_length = truth if fault.declared_length is None else fault.declared_length
    writer = await response.prepare(request)
    if writer is not None and fault.declared_length is not None:
        writer.length = None  # or aiohttp would not send more than it declared
    for drop in _pieces(route_response, fault):
        await response.write(drop)
        entry.bytes_sent += len(drop)
        if fault.trickle is not None:
            await asyncio.sleep(len(drop) / fault.trickle)
    if fault.hangs:
        # Ends with the connection or the server, which cancel the request.
        await asyncio.Event().wait()
    if fault.cut_after is not None or fault.declared_length is not None:
        _close(request)
        return response
    await response.write_eof()
    entry.whole = True
    return response


def _pieces(route_response: RouteResponse, fault: InjectedFault) -> Iterator[bytes | memoryview]:
    """The body as far as the fault lets it, in pieces as small as the fault wants; then its endless rest."""
    truth = route_response.body.size
    allowed = truth if fault.cut_after is None else min(fault.cut_after, truth)
    most = CHUNK if fault.trickle is None else max(1, int(fault.trickle * TRICKLE_PAUSE))
    for chunk in route_response.body.chunks():
        for start in range(0, min(len(chunk), allowed), most):
            yield chunk[start : min(start + most, allowed)]
        allowed -= min(len(chunk), allowed)
    if fault.endless:
        yield from itertools.repeat((b" " if route_response.content_type == JSON else b"\0") * most)


def _headers(route_response: RouteResponse) -> dict[str, str]:
    headers = dict(route_response.headers)
    if route_response.content_type:
        headers["Content-Type"] = route_response.content_type
    return headers


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()  # what was written still leaves; then the connection ends
