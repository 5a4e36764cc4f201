"""Read a form or a query within limits. What can't be read ends the request with an error page."""

import asyncio
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from webhook.http_server.errors import ErrorKind, HttpErrorKind, PageError
from webhook.http_server.limits import HttpLimits

FORM_TYPE: Final = "application/x-www-form-urlencoded"


def parse_query(text: str, limits: HttpLimits) -> dict[str, str]:
    """Read a query. Raises ``PageError`` for one that can't be read, and for a name that is given twice."""
    try:
        return parse_unique_pairs(text, max_fields=limits.parameters)
    except ValueError:
        raise PageError(HttpErrorKind.LINK_BROKEN, "the query can't be read") from None


async def read_form(request: web.BaseRequest, limits: HttpLimits, *, unreadable: ErrorKind) -> dict[str, str]:
    """Read a form. Raises ``PageError``; of the kind ``unreadable`` if it is incomplete, late or no form."""
    if request.content_type != FORM_TYPE:
        raise PageError(unreadable, "the body is no form")
    body = await _read_body(request, limits, unreadable)
    try:
        return parse_unique_pairs(body.decode("ascii"), max_fields=limits.parameters)
    except ValueError:
        raise PageError(unreadable, "the form can't be read") from None


def parse_unique_pairs(text: str, *, max_fields: int) -> dict[str, str]:
    """
    Read the pairs of a form or a query. Raises ``ValueError`` for invalid text and for a name that occurs
    twice.

    With two values of one name, the check and the action could use different ones.
    """
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=max_fields, errors="strict")
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ValueError("a name is given twice")
    return given


async def _read_body(request: web.BaseRequest, limits: HttpLimits, unreadable: ErrorKind) -> bytes:
    if (request.content_length or 0) > limits.body:
        raise PageError(HttpErrorKind.TOO_LARGE, "the form is too large")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limits.body:
                    raise PageError(HttpErrorKind.TOO_LARGE, "the form is too large")
    except TimeoutError:
        raise PageError(unreadable, "the form did not come in time") from None
    except (web.RequestPayloadError, ConnectionError):
        raise PageError(unreadable, "the form was cut off") from None
    return bytes(body)
