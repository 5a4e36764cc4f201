"""
What a person did to an object, as it stays recorded on it: the annotation ``counterfoil.dev/acts``. Pure.

The annotations of a request (``request-by``, ``request-reason``) go with its label once it is carried out, and Kubernetes
Events go after an hour; this stays with the object: the newest ``MOST_ACTS``, oldest first.

The chart has a policy by which a record only grows, by one act at its end, of whoever writes it (docs/decisions/0019). It
compares texts, so what stands there already is kept to the letter, and ``RECORD`` is the form that both know.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from counterfoil.resources.base import GROUP, Part

ACTS_ANNOTATION: Final = f"{GROUP}/acts"
PROBE_ANNOTATION: Final = f"{GROUP}/probe"
"""On an Archive: another value there asks for a probe now."""
ASK_ANNOTATION: Final = f"{GROUP}/ask"
"""On a Sender: when a person wanted the consent mail to be sent again (RFC 3339)."""

MOST_ACTS: Final = 10
LONGEST_WORD: Final = 300

# What JSON's own escapes are not needed for is written as it is, so that each act has one text.
_WORD = r'(?:[^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00(?:0[0-7bef]|1[0-9a-f])){0,300}'
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_ACT = rf'\{{"who":"{_WORD}","what":"{_WORD}","when":"{_TIME}"(?:,"why":"{_WORD}")?\}}'
RECORD: Final = rf"^\[{_ACT}(?:,{_ACT})*\]$"
"""A record as ``recorded`` writes it; also understood by RE2, in which the chart's policy has it."""


class Act(Part, frozen=True):
    """One thing that a person did."""

    who: str
    what: str
    when: datetime
    why: str = ""


def acts_of(annotations: Mapping[str, str]) -> tuple[Act, ...]:
    """
    Return what is recorded, oldest first, within the bounds of ``recorded`` and with times in UTC.

    Where no policy holds, anybody who may edit the object may write there: a record that can't be read is none, and an act that
    can't be read, or at a time that nothing can be reckoned with, is left out.
    """
    try:
        found = msgspec.json.decode(annotations.get(ACTS_ANNOTATION, "[]"), type=tuple[msgspec.Raw, ...])
    except (msgspec.MsgspecError, RecursionError):
        return ()
    return tuple(act for each in found[-MOST_ACTS:] if (act := _read(each)) is not None)


def recorded(annotations: Mapping[str, str], act: Act) -> dict[str, str]:
    """Return the annotation with one act more; what is no record in our form does not stay."""
    written = _written(annotations.get(ACTS_ANNOTATION, ""))[-(MOST_ACTS - 1) :]
    bounded = _bounded(act)
    added = [] if bounded is None else [msgspec.json.encode(bounded).decode()]
    return {ACTS_ANNOTATION: f"[{','.join([*written, *added])}]"}


def _written(text: str) -> Sequence[str]:
    """Return the acts of a record as they are written, oldest first."""
    return re.findall(_ACT, text) if re.fullmatch(RECORD, text) else ()


def _read(text: msgspec.Raw) -> Act | None:
    try:
        return _bounded(msgspec.json.decode(text, type=Act))
    except msgspec.MsgspecError:
        return None


def asked_at(annotations: Mapping[str, str], name: str) -> datetime | None:
    """Return the time in an annotation by which a person asks for something; None for none, or for what is no time."""
    try:
        when = datetime.fromisoformat(annotations.get(name, ""))
    except ValueError:
        return None
    return when if when.tzinfo is not None else None


def _bounded(act: Act) -> Act | None:
    if act.when.tzinfo is None:
        return None
    try:
        when = act.when.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        # The first and the last hours of all years, in a zone in which they are none.
        return None
    return Act(
        who=act.who[:LONGEST_WORD], what=act.what[:LONGEST_WORD], when=when, why=act.why[:LONGEST_WORD]
    )
