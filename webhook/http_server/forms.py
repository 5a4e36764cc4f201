"""Read a form or a query within limits. The pages and the console turn these errors into error pages."""

import asyncio
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from webhook.http_server.limits import HttpLimits

FORM_TYPE: Final = "application/x-www-form-urlencoded"


class FormTooLarge(Exception):
    """The form has more bytes than the limit."""


class FormUnreadable(Exception):
    """The body is no form, is incomplete, or arrived too late."""


async def read(request: web.BaseRequest, limits: HttpLimits) -> dict[str, str]:
    """Read the form that a browser sent. Raises ``FormTooLarge``, ``FormUnreadable``."""
    if request.content_type != FORM_TYPE:
        raise FormUnreadable("the body is no form")
    body = await _read_body(request, limits)
    try:
        return parse_unique_pairs(body.decode("ascii"), max_fields=limits.parameters)
    except ValueError:
        raise FormUnreadable("the form can't be read") from None


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


async def _read_body(request: web.BaseRequest, limits: HttpLimits) -> bytes:
    if (request.content_length or 0) > limits.body:
        raise FormTooLarge("the form is too large")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limits.body:
                    raise FormTooLarge("the form is too large")
    except TimeoutError:
        raise FormUnreadable("the form did not come in time") from None
    except web.RequestPayloadError:
        raise FormUnreadable("the form was cut off") from None
    return bytes(body)
