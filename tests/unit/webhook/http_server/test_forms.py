"""Forms as pairs of name and value: each name once, because a second value would be ambiguous."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from webhook.console.limits import ConsoleLimits
from webhook.http_server import forms
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.limits import HttpLimits
from webhook.pages.limits import PageLimits

TWICE = "phase=Failed&age=1h&phase=Succeeded"


def test_each_name_has_its_value() -> None:
    assert forms.parse_unique_pairs("a=1&b=&c=%C3%A4+x", max_fields=3) == {"a": "1", "b": "", "c": "ä x"}


@pytest.mark.parametrize(
    ("text", "fault"), [(TWICE, "given twice"), ("a=%ff", "decode"), ("a=1&b=2&c=3&d=4", "number of fields")]
)
def test_what_can_be_taken_in_more_than_one_way_or_in_none_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        forms.parse_unique_pairs(text, max_fields=3)


@pytest.mark.parametrize("limits", [ConsoleLimits(), PageLimits()])
def test_console_and_pages_take_no_query_with_a_name_given_twice(limits: HttpLimits) -> None:
    with pytest.raises(PageError) as trouble:
        forms.parse_query(TWICE, limits)
    assert trouble.value.kind is HttpErrorKind.LINK_BROKEN


@pytest.mark.parametrize("error", [ConnectionResetError("lost"), web.RequestPayloadError("incomplete")])
async def test_a_form_whose_client_leaves_is_unreadable(error: Exception) -> None:
    loop = asyncio.get_running_loop()
    body = StreamReader(BaseProtocol(loop), 1024, loop=loop)
    body.feed_data(b"a=")
    body.set_exception(error)
    request = make_mocked_request("POST", "/", headers={"Content-Type": forms.FORM_TYPE}, payload=body)
    with pytest.raises(PageError) as trouble:
        await forms.read_form(request, PageLimits(), unreadable=HttpErrorKind.LINK_BROKEN)
    assert trouble.value.kind is HttpErrorKind.LINK_BROKEN
