"""
Logging: one line per record on stderr, as JSON for log collectors or as text for a terminal, with context
fields.

``log_context(event=..., envelope=...)`` adds fields to every line inside the context, in this task and its
child tasks; ``extra={...}`` adds them to one line. ``FIELDS`` lists the fields.

No text adds a line, a command of the terminal or an invisible character: each character that is not printable
is escaped.

The code logs no secrets. As a second protection ``redact`` removes each text that looks like an API token,
also from messages of exceptions and of libraries. A SHA-256 looks like a token, so it belongs in the field
``sha256``, which accepts only a SHA-256. Of a long text, both ends are logged.
"""

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import pairwise
from types import MappingProxyType, TracebackType
from typing import Any, TextIO

import msgspec

from counterfoil.settings import LogFormat, LogLevel

FIELDS = (
    "organization",
    "event",
    "envelope",
    "sender",
    "archive",
    "who",
    "namespace",
    "phase",
    "reason",
    "attempt",
    "outcome",
    "status",
    "seconds",
    "sha256",
    "trace_id",
)
"""Context fields of a line, in their order."""

_log = logging.getLogger(__name__)

_REDACTED = "[redacted]"

_SECRETS = (
    # The receiver's path: all after its first segment, since a namespace may stand before the Organization.
    (re.compile(r"(/callbacks/[^/\s?#]*/)[^\s?#\"'&]+", re.IGNORECASE), rf"\1{_REDACTED}"),
    # Authorization headers. Base64 has a capital or a digit in it; "basic authentication" has none.
    (re.compile(r"\b(bearer)\s+[A-Za-z0-9+/=._~-]{16,}", re.IGNORECASE), rf"\1 {_REDACTED}"),
    (re.compile(r"\b((?i:basic))\s+(?=[a-z+/]*[A-Z0-9])[A-Za-z0-9+/]{4,}=*"), rf"\1 {_REDACTED}"),
    # JSON Web Tokens: the API server's own.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"), _REDACTED),
)

_SUSPICIOUS = re.compile(r"/callbacks/|\b(?:bearer|basic)\s|\beyJ|[A-Za-z0-9._~+/-]{32,}", re.IGNORECASE)
"""The beginning of each secret, or a long run. A text without one has no secret, and needs one search."""

_NAME = re.compile(r"(?![a-z0-9._-]*?[a-z0-9]{40})[a-z0-9._-]*")
"""Names of objects, GUIDs and trace ids: without a space, a slash, a capital and a long run, no secret."""

_PLAIN_RUN = re.compile(r"[A-Za-z0-9]{40,}")
"""eSAW's API tokens are long runs of letters and digits. GUIDs and names of events have a hyphen in time."""

_MARKED_RUN = re.compile(r"[A-Za-z0-9._~+/-]{32,}={0,2}")
"""A run of the characters of a bearer token (RFC 6750, 2.1), or a name or a path."""

_NO_TOKEN = re.compile(
    r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9]{1,2}[A-Z][a-z]{2}[0-9]{4}"
)
"""GUIDs, and dates such as 1Jul2026."""

_MIN_RANDOM_CHARACTERS = 24
_MIN_RANDOM_CHANGES = 0.35
"""Least share of neighbours, marks left out, that are not both capitals, small letters or digits. Random
characters have 0.62, words in camel case less than 0.3."""

_LONG_WORD = re.compile(r"[A-Za-z0-9]{9,}")
_MIN_WORD_CHANGES = 0.3
"""A token has a long word between two marks, and this word looks random. The words of a file name with a date
and a version are short."""

_MIN_SURE_CHANGES = 0.55
"""The share from which a run is a token, also with short words."""

_SHA256 = re.compile(r"[0-9a-f]{64}")

_MAX_LOGGED = 16_384
"""Number of characters of a text in a line. Each one costs CPU, and a server may have chosen the text."""

_context: ContextVar[Mapping[str, object]] = ContextVar("about", default=MappingProxyType({}))

_LIBRARY_LEVELS = MappingProxyType(
    {
        # httpx logs whole URLs, query included.
        "httpx": logging.WARNING,
        # It logs the path of a callback, which contains the token; the receiver logs its own line.
        "aiohttp.access": logging.CRITICAL + 1,
        # One line per change of each object, and its whole body at debug.
        "kopf": logging.WARNING,
        "kubernetes": logging.WARNING,
        "asyncio": logging.WARNING,
        "urllib3": logging.WARNING,
    }
)
"""Minimum level of the loggers of libraries."""


_REPEATED_SECONDS = 60.0


class OncePerMinute(logging.Filter):
    """Passes each message of a logger once a minute, with any arguments. In an outage of the API server,
    each shard's election logs an error every two seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        now, text = self._monotonic(), str(record.msg)
        is_new = now - self._passed.get(text, float("-inf")) >= _REPEATED_SECONDS
        if is_new:
            self._passed[text] = now
        return is_new


_REPEATING_LOGGERS = (
    "kubernetes.aio.leaderelection.leaderelection",
    "kubernetes.aio.leaderelection.resourcelock.leaselock",
)
_once_per_minute = OncePerMinute(time.monotonic)


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Add ``fields`` (names of ``FIELDS``) to every line inside the context."""
    before = _context.set(MappingProxyType({**_context.get(), **fields}))
    try:
        yield
    finally:
        _context.reset(before)


def configure(level: LogLevel, format: LogFormat) -> None:  # noqa: A002 - the setting's own name
    """Write all log records of this process from ``level`` on to stderr."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else TextFormatter())
    # No line has them, and each record would look them up (Python's Logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if sys.version_info >= (3, 12):
        logging.logAsyncioTasks = False
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name, least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(least, logging.getLogger().level))
    for name in _REPEATING_LOGGERS:
        logging.getLogger(name).addFilter(_once_per_minute)
    # Python's own hooks write the message of an exception to stderr as it is.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_unhandled
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_unhandled_in_thread


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name of the base class
        """Write which error lost a line. Python's own would write the arguments of the line as they are."""
        with suppress(Exception):
            message = "a line could not be written: %s"
            lost = {"name": record.name, "levelno": logging.ERROR, "levelname": "ERROR", "msg": message}
            lost["args"] = (type(sys.exception()).__name__,)
            self.stream.write(self.format(logging.makeLogRecord(lost)) + self.terminator)


def _log_unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("an exception was not handled, so the process ends", exc_info=(kind, error, trace))


def _log_unhandled_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value
    if error is not None and not isinstance(error, SystemExit):
        _log.critical("an exception was not handled, so a thread ends", exc_info=error)


def redact(text: str) -> str:
    """Return the text with each possible token replaced."""
    if _NAME.fullmatch(text) is not None or _SUSPICIOUS.search(text) is None:
        return text
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    text = _MARKED_RUN.sub(lambda run: _REDACTED if _looks_random(run[0]) else run[0], text)
    return _PLAIN_RUN.sub(_REDACTED, text)


def _both_ends(text: str) -> str:
    """Return the ends of a text that is longer than ``_MAX_LOGGED``, redacted. The callers compare, since a
    call for each line would cost the receiver more."""
    half = _MAX_LOGGED // 2
    # The part of a token that is left by the cut does not look like one, nor does one without its "Bearer".
    first, last = redact(text[:half]).rsplit(None, 1), redact(text[-half:]).split(None, 2)
    head, tail = first[0] if len(first) > 1 else "", last[2] if len(last) > 2 else ""
    return f"{head} [{len(text) - len(head) - len(tail)} characters left out] {tail}"


def _looks_random(run: str) -> bool:
    """Whether a run of letters, digits and marks is more likely a token than a name or a path."""
    rest = _NO_TOKEN.sub("-", run)
    share = _changes(rest)
    if len(rest) < _MIN_RANDOM_CHARACTERS or share < _MIN_RANDOM_CHANGES:
        return False
    return share >= _MIN_SURE_CHANGES or any(
        _changes(word) >= _MIN_WORD_CHANGES for word in _LONG_WORD.findall(rest)
    )


def _changes(text: str) -> float:
    """Return the share of neighbours of different classes; 0 for a text without capitals or small letters:
    it is no token, but perhaps a hash."""
    if text.lower() == text or text.upper() == text:
        return 0.0
    pairs = [(one, other) for one, other in pairwise(text) if one.isalnum() and other.isalnum()]
    changes = sum(_character_class(one) != _character_class(other) for one, other in pairs)
    return changes / max(1, len(pairs))


def _character_class(character: str) -> str:
    return "0" if character.isdigit() else "A" if character.isupper() else "a"


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        message = record.getMessage()
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(message) if len(message) <= _MAX_LOGGED else _both_ends(message),
            **_context_fields(record),
        }
        if trace := _trace(self, record):
            line["trace"] = trace
        # msgspec escapes the controls of ASCII only.
        return _json_escape(msgspec.json.encode(line).decode())


class TextFormatter(logging.Formatter):
    """Time, level, message, then the fields as ``name=value``; a stack trace on separate lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line (and its stack trace, if any)."""
        fields = "".join(f" {name}={value}" for name, value in _context_fields(record).items())
        message = record.getMessage()
        message = redact(message) if len(message) <= _MAX_LOGGED else _both_ends(message)
        line = f"{_time(record)} {record.levelname:7} {message}{fields}"
        trace = _trace(self, record)
        return "\n".join(map(_escaped, (line, *(trace.split("\n") if trace else ()))))


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _context_fields(record: logging.LogRecord) -> dict[str, Any]:
    context, own, fields = _context.get(), record.__dict__, dict[str, Any]()
    for name in FIELDS:
        # A field of the line replaces that of the context, also if it is None.
        value = own[name] if name in own else context.get(name)
        if value is not None:
            fields[name] = _value(name, value)
    return fields


def _value(name: str, value: object) -> int | float | str:
    if isinstance(value, int | float):
        return value
    text = str(value)
    if name == "sha256" and _SHA256.fullmatch(text):
        return text
    return redact(text) if len(text) <= _MAX_LOGGED else _both_ends(text)


def _escaped(line: str) -> str:
    """Return a line of printable characters: a message with a line break must not look like two records."""
    if line.isprintable():
        return line
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in line
    )


def _json_escape(text: str) -> str:
    """Return a JSON text of printable characters only, with the same value."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info and not record.stack_info:
        return ""
    error = formatter.formatException(record.exc_info) if record.exc_info else None
    text = "\n".join(filter(None, (error, record.stack_info)))
    return redact(text) if len(text) <= _MAX_LOGGED else _both_ends(text)
