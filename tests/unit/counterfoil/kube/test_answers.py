"""Answers of the API server, or of a proxy: any bytes are an object, a change or an ``ApiError``."""

from datetime import UTC, datetime

import pytest

from counterfoil.kube.answers import decode_as, http_date, watch_event
from counterfoil.kube.errors import ApiError, Expired, Unavailable, api_error

DEEP = b"[" * 5000
GARBAGE = (b"", b"<html>", b"\xff", b'"\xff"', b'{"a": "\xff"}', DEEP, b'{"a": ' + DEEP)
CHANGE = b'{"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "7"}}}'


@pytest.mark.parametrize("answer", [*GARBAGE, b"[]"])
def test_what_is_no_json_of_the_api_server_is_another_servers(answer: bytes) -> None:
    with pytest.raises(Unavailable):
        decode_as(dict, answer)


@pytest.mark.parametrize(
    "answer", [*GARBAGE, b"[]", b'{"kind": "Status"}', b'{"kind": "Status", "metadata": []}']
)
@pytest.mark.parametrize("status", [404, 410, 429, 500])
def test_any_body_of_an_error_is_an_api_error(status: int, answer: bytes) -> None:
    assert api_error(status, answer, None, creating=False).status == status


@pytest.mark.parametrize("metadata", [b"null", b"[1]", b'"a"', b'{"continue": null}', b'{"continue": 1}'])
def test_an_expired_list_without_a_usable_token_begins_again(metadata: bytes) -> None:
    problem = api_error(410, b'{"kind": "Status", "metadata": ' + metadata + b"}", None, creating=False)
    assert isinstance(problem, Expired)
    assert problem.token in ("", "1")


@pytest.mark.parametrize("header", ["", "soon", "-1", "1.5", "\u00b2", "\u0661"])
def test_a_pause_that_is_no_number_of_seconds_is_none(header: str) -> None:
    assert api_error(429, b"", header, creating=False).retry_after is None


def test_a_line_of_a_watch_is_a_change() -> None:
    change = watch_event(CHANGE)
    assert (change.type, change.raw["metadata"]["resourceVersion"]) == ("ADDED", "7")


@pytest.mark.parametrize(
    "line",
    [
        *GARBAGE,
        CHANGE.replace(b"ADDED", b"MOVED"),
        CHANGE.replace(b'"7"', b"7"),
        CHANGE.replace(b'{"name": "a", "resourceVersion": "7"}', b"[]"),
        b'{"type": "ADDED", "object": {}}',
        b'{"type": "ERROR", "object": {"code": "x"}}',
        b'{"type": "ERROR", "object": {"code": null}}',
        b'{"type": "ERROR", "object": {"code": [1]}}',
    ],
)
def test_any_other_line_of_a_watch_is_an_api_error(line: bytes) -> None:
    with pytest.raises(ApiError):
        watch_event(line)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Sat, 28 Nov 2026 18:33:41 GMT", datetime(2026, 11, 28, 18, 33, 41, tzinfo=UTC)),
        ("Sat, 28 Nov 2026 18:33:41 -0000", datetime(2026, 11, 28, 18, 33, 41, tzinfo=UTC)),
        ("Sat, 28 Nov 2026 19:33:41 +0100", datetime(2026, 11, 28, 18, 33, 41, tzinfo=UTC)),
        ("", None),
        (None, None),
        ("soon", None),
        ("Sat, 99 Nov 2026 18:33:41 GMT", None),
    ],
)
def test_a_date_is_a_time_in_utc_and_any_other_header_is_none(
    header: str | None, expected: datetime | None
) -> None:
    assert http_date(header) == expected
