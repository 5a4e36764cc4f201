"""
Answers to the questions of a check, read without any expectation. Pure.

The client of the product raises an error for each answer that it can't use. A check wants to know what came
instead, so these functions read what is there and leave the judgement to ``assumptions``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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

_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9]{0,63}")


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
    if has_too_many_values(answer.body):
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
