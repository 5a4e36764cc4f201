"""
Answers to the questions of a check, read without any expectation. Pure.

The client of the product raises an error for each answer that it can't use. A check wants to know what came
instead, so these functions read what is there and leave the judgement to ``assumptions``.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from counterfoil.esaw.models import parse_error
from counterfoil.esaw.transport import RawResponse
from counterfoil.untrusted.json_bounds import JSON_ERRORS, has_too_many_values


@dataclass(frozen=True)
class NoAnswer:
    """A question without an answer: it was not sent, or nothing came."""

    why: str
    """A sentence for people."""
    is_unreachable: bool = False
    """Whether it was sent, and no HTTP answer came."""


Answer = RawResponse | NoAnswer

MAX_CONTAINERS: Final = 50_000
"""Maximum number of lists and objects in an answer that is judged."""

MAX_SEARCH_CONTAINERS: Final = 20_000
"""Those in a search result: four for each of 5,000 envelopes."""

SMALL_BYTES: Final = 32 * 1024
"""Bytes of a search result or of one of many envelopes that is kept as it came."""

BEGINNING_BYTES: Final = 1024
"""Bytes that are kept of an answer that is too large to be judged."""

MAX_ID_LENGTH: Final = 64
"""Characters; a GUID has 36."""


class _Hit(msgspec.Struct, rename="pascal"):
    """Members of an envelope in a search result that are judged."""

    id: str | None = None
    status: str | None = None


class _Judged(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Members of a search result, and of one of many envelopes, that are judged."""

    envelope_status: str | None = None
    error_id: str | None = None
    error: str | None = msgspec.field(name="error", default=None)
    envelopes: list[_Hit] | msgspec.UnsetType | None = msgspec.UNSET


_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9]{0,63}")


def reduced(answer: RawResponse) -> RawResponse:
    """
    Return a search result or one of many envelopes with what is judged of it: all of them are kept at once.

    One of another form is reduced to its beginning, as one that is longer than what a check reads.
    """
    if not answer.is_cut and len(answer.body) <= SMALL_BYTES:
        return answer
    if not answer.is_cut and not has_too_many_values(answer.body, MAX_SEARCH_CONTAINERS):
        with contextlib.suppress(*JSON_ERRORS):
            judged = msgspec.json.decode(answer.body, type=_Judged)
            return replace(answer, body=msgspec.json.encode(_with_short_texts(judged)))
    return replace(answer, body=answer.body[:BEGINNING_BYTES], is_cut=True)


def _with_short_texts(judged: _Judged) -> _Judged:
    for each in judged.envelopes or ():
        each.id, each.status = (text and text[:MAX_ID_LENGTH] for text in (each.id, each.status))
    for name in ("envelope_status", "error_id", "error"):
        text = getattr(judged, name)
        setattr(judged, name, text and text[:MAX_ID_LENGTH])
    return judged


def is_success(answer: Answer) -> bool:
    """Whether the status is one of success."""
    return isinstance(answer, RawResponse) and 200 <= answer.status < 300


def is_redirect(answer: Answer) -> bool:
    """Whether the answer leads elsewhere."""
    return isinstance(answer, RawResponse) and 300 <= answer.status < 400


def is_web_page(answer: Answer) -> bool:
    """Whether the body is HTML."""
    return isinstance(answer, RawResponse) and (
        answer.content_type.lower().startswith("text/html") or answer.body.lstrip()[:1] == b"<"
    )


def is_missing_envelope(answer: Answer) -> bool:
    """Whether eSAW itself says that this user has no such envelope."""
    return isinstance(answer, RawResponse) and answer.status == 404 and error_id(answer) == "ERR0007"


def error_id(answer: Answer) -> str | None:
    """Return the error id of eSAW or OAuth, for any status; None: there is none."""
    return parse_error(answer.body)[0] if isinstance(answer, RawResponse) else None


def content(answer: Answer) -> Mapping[str, Any] | None:
    """Return the JSON object of a successful answer; None: there is none."""
    if not isinstance(answer, RawResponse) or not is_success(answer) or answer.is_cut:
        return None
    if has_too_many_values(answer.body, MAX_CONTAINERS):
        return None
    try:
        parsed = msgspec.json.decode(answer.body)
    except JSON_ERRORS:
        return None
    return parsed if isinstance(parsed, dict) and parsed.get("ErrorId") is None else None


def members(container: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list; none where no list is."""
    found = container.get(name) if container is not None else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def text(container: Mapping[str, Any] | None, name: str) -> str | None:
    """Return a text; None where none is."""
    found = container.get(name) if container is not None else None
    return found if isinstance(found, str) else None


def part(container: Mapping[str, Any] | None, name: str) -> Mapping[str, Any] | None:
    """Return an object; None where none is."""
    found = container.get(name) if container is not None else None
    return found if isinstance(found, dict) else None


def plain_name(name: str | None) -> str:
    """Return a name of the protocol; ``null`` for none, ``other`` for what can't be one."""
    if name is None:
        return "null"
    return name if _NAME.fullmatch(name) else "other"


def describe(answer: Answer) -> str:
    """Return what came, as a sentence for people, without anything of the body."""
    if isinstance(answer, NoAnswer):
        return answer.why
    known = " ".join(filter(None, (str(answer.status), error_id(answer))))
    if is_redirect(answer):
        return f"The answer was {known}, a redirect to {answer.redirect_origin or 'another place'}."
    if answer.is_cut:
        return f"The answer was {known}, longer than what a check reads."
    kind = (
        ", with a web page" if is_web_page(answer) else ", with a body of another form" * is_success(answer)
    )
    return f"The answer was {known}{kind}."
