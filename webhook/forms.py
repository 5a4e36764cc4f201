"""
Forms: what a browser sent in the body of a request, read within bounds. Nothing here knows which page it is for.
"""

import asyncio
from typing import Final, Protocol
from urllib.parse import parse_qsl

from aiohttp import web

FORM_TYPE: Final = "application/x-www-form-urlencoded"


class FormTooLarge(Exception):
    """More bytes than a form may have; the text says so."""


class FormUnreadable(Exception):
    """It is no form, was cut off or did not come in time; the text says which."""


class FormLimits(Protocol):
    """The bounds of a form."""

    @property
    def body(self) -> int:
        """Bytes."""
        ...

    @property
    def body_seconds(self) -> float:
        """Time for it to come."""
        ...

    @property
    def parameters(self) -> int:
        """Fields at most."""
        ...


async def read(request: web.BaseRequest, limits: FormLimits) -> dict[str, str]:
    """Read the form that a browser sent. Raises ``FormTooLarge``, ``FormUnreadable``."""
    if request.content_type != FORM_TYPE:
        raise FormUnreadable("the body is no form")
    body = await _body(request, limits)
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=limits.parameters, errors="strict"
        )
    except ValueError:
        raise FormUnreadable("the form can't be read") from None
    return dict(pairs)


async def _body(request: web.BaseRequest, limits: FormLimits) -> bytes:
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
