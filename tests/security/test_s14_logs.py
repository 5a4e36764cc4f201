"""S14: forge lines and terminal commands in logs, and read tokens there."""

import base64
import json
import logging
from random import Random

import pytest

from counterfoil.logs import JsonFormatter, TextFormatter, redact

CONTROLS = {
    "a carriage return": "\r",
    "a line feed": "\n",
    "a colour of ANSI": "\x1b[2K\x1b[1A\x1b[31m",
    "an eight-bit control sequence": "\x9b31m",
    "a bell and a delete": "\x07\x7f",
    "line separators of Unicode": "\u2028\u2029\x85",
    "marks that change the direction": "\u202e\u2066",
    "invisible characters": "\u200b\ufeff\U000e0041",
}
FORGED = "2026-07-01T12:00:00.000Z INFO    everything is archived"


def a_record(text: str) -> logging.LogRecord:
    record = logging.LogRecord("test", logging.INFO, __file__, 1, f"before{text}{FORGED}", (), None)
    record.__dict__.update(who=f"jane{text}{FORGED}")
    return record


@pytest.mark.parametrize("control", CONTROLS.values(), ids=list(CONTROLS))
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_text_adds_a_line_or_a_command_to_a_log(formatter: logging.Formatter, control: str) -> None:
    line = formatter.format(a_record(control))

    assert line.isprintable()


@pytest.mark.parametrize("control", CONTROLS.values(), ids=list(CONTROLS))
def test_a_line_of_json_still_has_every_character(control: str) -> None:
    line = json.loads(JsonFormatter().format(a_record(control)))

    assert line["message"] == f"before{control}{FORGED}"


def test_a_stack_trace_has_its_own_lines_and_no_command() -> None:
    record = logging.LogRecord("test", logging.INFO, __file__, 1, "x", (), None)
    problem = ValueError("a\r\x1b[31mb")
    record.exc_info = (ValueError, problem, None)
    text = TextFormatter().format(record)

    assert all(line.isprintable() for line in text.split("\n"))
    assert text.splitlines()[-1] == "ValueError: a\\r\\x1b[31mb"


@pytest.mark.parametrize("size", [24, 32, 48])
@pytest.mark.parametrize("marks", [b"-_", b".~", b"+/"])
@pytest.mark.parametrize("padding", ["", "="])
def test_a_token_with_marks_of_every_base64_is_not_in_a_log(size: int, marks: bytes, padding: str) -> None:
    random = Random(size)
    coded = [base64.b64encode(random.randbytes(size), marks).decode() for _ in range(1000)]
    tokens = [each.rstrip("=") + padding for each in coded]

    shown = [token for token in tokens if token in redact(f"the key {token} was refused")]

    # Random characters can look like words, one token in two hundred at most.
    assert len(shown) <= len(tokens) / 200


@pytest.mark.parametrize(
    "token", ["NXo3vzPZd0AGOh+Rfy88wXu4OiaRy/EH1DCpODO920E=", "v+R261g/aB3dE5fG7hI9jK1/lM3nO5p+Q7"]
)
def test_nothing_of_a_token_between_marks_is_left(token: str) -> None:
    assert redact(f"the key {token} was refused") == "the key [redacted] was refused"
