"""
Logging: one line per record on stderr, as JSON for collectors or as text for people, with what it is about.

``about(event=..., envelope=...)`` puts fields on every line written inside of it, in this task and those it starts;
``extra={...}`` puts them on one line. The fields are ``FIELDS``.

Secrets are kept out where lines are written. As a second line of defence every text passes ``redact`` on its way
out, also messages of exceptions and of other people's libraries: what looks like an API token is struck out.
A SHA-256 looks like one too, so it has to go into the field ``sha256``, which only takes exactly that.
"""

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import msgspec

from counterfoil.settings import LogFormat, LogLevel

FIELDS = (
    "organization",
    "event",
    "envelope",
    "sender",
    "archive",
    "who",
    "phase",
    "reason",
    "attempt",
    "outcome",
    "status",
    "seconds",
    "sha256",
    "trace_id",
)
"""What a line can be about, in the order in which it is written."""

_REDACTED = "[redacted]"

_SECRETS = (
    # The receiver's path: whatever stands where the token stands.
    (re.compile(r"(/callbacks/[^/\s?#]*/)[^/\s?#\"'&]+", re.IGNORECASE), rf"\1{_REDACTED}"),
    # Authorization headers. Base64 has a capital or a digit in it; "basic authentication" has none.
    (re.compile(r"\b(bearer)\s+[A-Za-z0-9+/=._~-]{16,}", re.IGNORECASE), rf"\1 {_REDACTED}"),
    (re.compile(r"\b((?i:basic))\s+(?=[a-z+/]*[A-Z0-9])[A-Za-z0-9+/]{4,}=*"), rf"\1 {_REDACTED}"),
    # JSON Web Tokens: the API server's own.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"), _REDACTED),
    # eSAW's API tokens are long runs of letters and digits. GUIDs and names of events have a hyphen in time.
    (re.compile(r"[A-Za-z0-9]{40,}"), _REDACTED),
)

_SHA256 = re.compile(r"[0-9a-f]{64}")

_context: ContextVar[Mapping[str, object]] = ContextVar("about", default=MappingProxyType({}))

_LIBRARY_LEVELS = MappingProxyType(
    {
        # httpx and httpcore log whole URLs, query included.
        "httpx": logging.WARNING,
        "httpcore": logging.WARNING,
        # It logs the path of a callback, which has the token in it; the receiver writes its own line.
        "aiohttp.access": logging.CRITICAL + 1,
        # One line per change of each object, and its whole body at debug.
        "kopf": logging.WARNING,
        "kubernetes": logging.WARNING,
        "asyncio": logging.WARNING,
        "urllib3": logging.WARNING,
    }
)
"""From which level on other people's loggers are heard, at least."""


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Put ``fields`` (names of ``FIELDS``) on every line that is logged inside."""
    before = _context.set(MappingProxyType({**_context.get(), **fields}))
    try:
        yield
    finally:
        _context.reset(before)


def configure(level: LogLevel, format: LogFormat) -> None:  # noqa: A002 - the setting's own name
    """Send everything that is logged in this process to stderr, from ``level`` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name, least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(least, logging.getLogger().level))


def redact(text: str) -> str:
    """Return the text with everything struck out that looks like a token."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_context_fields(record),
        }
        if trace := _trace(self, record):
            line["trace"] = trace
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """Time, level, message, then the fields as ``name=value``; a stack trace on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line (and its stack trace, if any)."""
        fields = "".join(f" {name}={value}" for name, value in _context_fields(record).items())
        # A message with a line break in it must not look like two records.
        message = redact(record.getMessage()).replace("\n", "\\n")
        trace = _trace(self, record)
        return f"{_time(record)} {record.levelname:7} {message}{fields}" + (f"\n{trace}" if trace else "")


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _context_fields(record: logging.LogRecord) -> dict[str, Any]:
    found = {**_context.get(), **record.__dict__}
    return {name: _value(name, found[name]) for name in FIELDS if found.get(name) is not None}


def _value(name: str, value: object) -> int | float | str:
    if isinstance(value, int | float):
        return value
    text = str(value)
    if name == "sha256" and _SHA256.fullmatch(text):
        return text
    return redact(text).replace("\n", "\\n")


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return redact("\n".join(parts))
