"""Clicks: who came from eSAW's own pages, and who may have been sent by somebody else."""

import pytest

from webhook.http_server.request_headers import is_from

ESAW = "https://esaw.example.com/base"


@pytest.mark.parametrize(
    "referrer",
    [
        "https://esaw.example.com/",
        "https://esaw.example.com/Drafts/1",
        "https://ESAW.example.com:443/",
    ],
)
def test_a_button_on_esaws_pages_is_the_persons_own_click(referrer: str) -> None:
    assert is_from(ESAW, {"Referer": referrer, "Sec-Fetch-Site": "cross-site"})
    assert is_from(ESAW, {"Referer": referrer})


@pytest.mark.parametrize(
    "headers",
    [
        {"Referer": "https://evil.example/", "Sec-Fetch-Site": "cross-site"},
        {"Referer": "https://evil.example/"},
        {"Referer": "http://esaw.example.com/"},
        {"Referer": "https://esaw.example.com.evil.example/"},
        {"Referer": "https://evil.example/https://esaw.example.com/"},
        {"Referer": "https://esaw.example.com@evil.example/"},
        {"Referer": "https://esaw.example.com:8443/"},
        {"Referer": "https://esaw.example.com\\@evil.example/"},
        {"Referer": "https://[esaw.example.com/"},
        {"Referer": "about:blank"},
        {"Referer": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_a_link_from_elsewhere_is_none(headers: dict[str, str]) -> None:
    assert not is_from(ESAW, headers)


def test_what_is_no_browser_has_no_session_that_another_page_could_use() -> None:
    assert is_from(ESAW, {})
