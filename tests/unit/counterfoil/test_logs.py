"""Logging: what a line tells, and that no token gets out by it."""

import json
import logging
import string
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.logs import JsonFormatter, OncePerMinute, TextFormatter, configure, log_context, redact
from counterfoil.settings import LogFormat, LogLevel

TOKEN = "q8Zk3vXW1nT5rB7yH2sD9fG4jL6mP0aQcEuIoRtYwVbN1xKd"
SMALL_LETTERS = TOKEN.lower()[:40]
GUID = "0f9c1c2e-1111-2222-3333-444455556666"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A separate logging set-up; the fixture restores the previous one."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield logging.getLogger("test")
    root.handlers[:], level = before
    root.setLevel(level)


def a_record(message: str, *args: object, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("test", logging.INFO, __file__, 1, message, args, None)
    record.__dict__.update(fields)
    return record


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def test_a_json_line_has_time_level_logger_message_and_fields() -> None:
    line = as_json(a_record("event %s", "recorded", organization="acme", attempt=3))

    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "test",
        "message": "event recorded",
        "organization": "acme",
        "attempt": 3,
    }


def test_a_text_line_has_its_fields_at_the_end() -> None:
    line = TextFormatter().format(a_record("event recorded", organization="acme", event=f"{GUID}-0123456789"))

    assert line.endswith(f"INFO    event recorded organization=acme event={GUID}-0123456789")


def test_fields_put_around_are_on_every_line_inside_and_on_none_after() -> None:
    with log_context(organization="acme", event="e1"), log_context(event="e2"):
        inside = as_json(a_record("x"))
    after = as_json(a_record("x"))

    assert (inside["organization"], inside["event"]) == ("acme", "e2")
    assert "organization" not in after


def test_a_message_cannot_pretend_to_be_two_lines() -> None:
    assert "\n" not in TextFormatter().format(a_record("one\ntwo", reason="a\nb"))
    assert JsonFormatter().format(a_record("one\ntwo")).count("\n") == 0


@pytest.mark.parametrize(
    "text",
    [
        f"key {TOKEN} refused",
        f"GET /callbacks/acme/{TOKEN[:16]}?envelopeId={GUID}",
        f"https://host/Callbacks/acme/{TOKEN[:16]}",
        f"GET /callbacks/unit-a/acme/{TOKEN[:16]}?envelopeId={GUID}",
        f"GET /callbacks/unit-a/acme/{TOKEN[:16]}/more",
        f"Authorization: Bearer {TOKEN[:20]}",
        "Authorization: Basic dXNlcjpTZWNyZXQx",
        "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln is old",
        "eyJzdWIiOiJ4In0",
        f"bearer {SMALL_LETTERS[:16]}",
        f"/callbacks/acme/{SMALL_LETTERS[:16]}",
        f"acme-{SMALL_LETTERS}.a",
    ],
)
@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_what_looks_like_a_secret_is_struck_out(text: str, formatter: logging.Formatter) -> None:
    secret_parts = [TOKEN[:16], SMALL_LETTERS[:16], "dXNlcjpTZWNyZXQx", "eyJzdWIiOiJ4In0"]
    told = formatter.format(a_record(text))
    assert "[redacted]" in told
    assert not any(part in told for part in secret_parts)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_secret_in_a_stack_trace_an_argument_or_a_field_is_struck_out(formatter: logging.Formatter) -> None:
    trouble = ValueError(f"bad key {TOKEN}")
    told = formatter.format(
        a_record("argument %s", [TOKEN], reason=TOKEN, exc_info=(ValueError, trouble, None))
    )
    assert TOKEN not in told
    assert "ValueError: bad key [redacted]" in told


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_of_a_text_of_a_million_characters_a_line_has_both_ends(formatter: logging.Formatter) -> None:
    text = f"begins here {'a b ' * 250_000} ends here"
    told = formatter.format(
        a_record("it says %s", text, reason=text, exc_info=(None, ValueError(text), None))
    )
    assert len(told) < 50_000
    assert told.count("it says begins here a b") == 1
    assert told.count(" characters left out] ") == 3
    assert told.count("a b  ends here") == 3


@pytest.mark.parametrize(
    "secret", [f"/callbacks/acme/{TOKEN}", f"Bearer {TOKEN[:20]}", f"Basic   {TOKEN[:20]}", TOKEN]
)
def test_no_part_of_a_secret_is_left_where_a_long_text_was_cut(secret: str) -> None:
    parts = [TOKEN[start : start + 8] for start in range(len(TOKEN) - 8)]
    for words in range(4070, 4100):
        filler = "a " * words
        for text in (f"{filler}{secret} {'b ' * 9000}", f"{'b ' * 9000}{secret} {filler}"):
            told = JsonFormatter().format(a_record("%s", text))
            assert [part for part in parts if part in told] == []


def test_a_long_text_without_a_space_is_left_out() -> None:
    assert as_json(a_record("%s", "x" * 20_000))["message"] == " [20000 characters left out] "


@pytest.mark.parametrize("blank", [" ", "\n", "\t", "\u2028"])
def test_a_long_text_that_begins_or_ends_blank_is_a_line_as_each_other(blank: str) -> None:
    text = f"{blank * 9000}Bearer {TOKEN} word{blank * 9000}"
    assert as_json(a_record("%s", text))["message"] == f" [{len(text)} characters left out] "


@pytest.mark.parametrize(
    "text",
    [
        f"{GUID}-0123456789 was recorded",
        "basic authentication is missing",
        "GET /callbacks/acme without a token",
        "counterfoil.webhook.organizations: 12 organizations known",
        f"{GUID}-0123456789abcdef.pdf and {GUID}_AuditTrail.pdf were filed",
        "tests.unit.counterfoil.archives.TestBackendThatLosesItsConnection failed",
        "counterfoil-controller-7d9c5b8f6d-x2x4z.contracts.svc.cluster.local",
        "Vertrag_ACME-GmbH_2026-07-01_unterschrieben-final_V2.pdf",
        "HR_01Jul2026_DE_EN_v2_P1of3_A4_2Seiten.pdf",
        "NDA_1Jul2026_v3a_B2B-Q3_H1_2026-07-01_A4.pdf",
        "Audit_01Jan2026-31Mar2026_Q1_V2a.pdf is from 2026-07-01T12-30-45Z_Scan-A4.pdf",
        "https://dms.acme.example/dav/Vertragsdokumente/2026-07-01/acme-3f2a9c1b7d4e5f60/Counterfoil.json",
        f"GET //127.0.0.1:8443/v6.0/Envelope/{GUID.upper()}/files/Doc1Final2.pdf",
        "https://acme-contracts-2026.s3.eu-central-1.amazonaws.com is unreachable",
    ],
)
def test_ids_and_words_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_a_sha256_survives_in_its_own_field_only() -> None:
    line = as_json(a_record(f"hash {SHA256}", sha256=SHA256, reason=SHA256))

    assert line["sha256"] == SHA256
    assert line["reason"] == "[redacted]"
    assert SHA256 not in line["message"]


def test_the_field_for_hashes_takes_nothing_else() -> None:
    assert as_json(a_record("x", sha256=TOKEN))["sha256"] == "[redacted]"


@given(
    st.text(alphabet=string.ascii_letters + string.digits, min_size=40, max_size=300),
    st.text(alphabet=" :/=&\"'.", max_size=3),
)
def test_no_long_run_of_letters_and_digits_gets_through(token: str, around: str) -> None:
    assert token not in redact(f"x {around}{token}{around} y")


@pytest.mark.parametrize("form", LogFormat)
def test_configured_logging_writes_to_stderr_from_its_level_on(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], form: LogFormat
) -> None:
    configure(LogLevel.INFO, form)

    log.debug("too fine")
    log.info("just right")

    out, err = capsys.readouterr()
    assert out == ""
    assert "just right" in err
    assert "too fine" not in err


@pytest.mark.parametrize("form", LogFormat)
def test_a_line_that_cannot_be_written_names_its_error_without_its_arguments(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], form: LogFormat
) -> None:
    configure(LogLevel.INFO, form)

    log.info("%d envelopes", TOKEN)

    err = capsys.readouterr().err
    assert "a line could not be written: TypeError" in err
    assert len(err.splitlines()) == 1
    assert TOKEN not in err


def test_libraries_that_log_urls_are_silent_even_at_debug(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LogLevel.DEBUG, LogFormat.TEXT)

    logging.getLogger("httpx").info("HTTP Request: GET https://esaw/?key=1")
    logging.getLogger("aiohttp.access").info("GET /callbacks/acme/token")
    logging.getLogger("kopf.objects").info("handler succeeded")

    assert capsys.readouterr().err == ""


CRASH = """
import sys, threading
from counterfoil import logs
from counterfoil.settings import LogFormat, LogLevel

logs.configure(LogLevel.INFO, LogFormat(sys.argv[1]))


def fails() -> None:
    raise RuntimeError("the token a1b2c3d4" + "e5f6" * 10)


if sys.argv[2] == "thread":
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
else:
    fails()
"""


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("where", ["main", "thread"])
def test_an_exception_that_nothing_handles_is_one_record_without_the_secret(
    log_format: LogFormat, where: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASH, log_format, where], capture_output=True, text=True, check=False
    )
    assert ended.returncode == (1 if where == "main" else 0)
    assert "an exception was not handled" in ended.stderr
    assert "RuntimeError: the token [redacted]" in ended.stderr
    assert "e5f6e5f6" not in ended.stderr + ended.stdout


def test_a_field_of_a_line_replaces_that_of_its_context_also_if_it_is_none() -> None:
    with log_context(event="e1", sender="s1"):
        line = as_json(a_record("x", event=None))

    assert "event" not in line
    assert line["sender"] == "s1"


def test_an_election_that_fails_for_each_shard_every_two_seconds_is_one_line_a_minute() -> None:
    seconds, name = [0.0], "test.election"
    lines = list[str]()
    logger, handler = logging.getLogger(name), logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.addFilter(OncePerMinute(lambda: seconds[0]))
    for _ in range(60):
        for shard in range(64):
            logger.error("Error retrieving resource lock %s", shard)
            logger.error("%s failed to create lock", shard)
        seconds[0] += 2
    assert lines == ["Error retrieving resource lock 0", "0 failed to create lock"] * 2
