"""
What a person did to an object, as it stays recorded on it: the annotation ``counterfoil.dev/acts``. Pure.

The annotations of a request (``request-by``, ``request-reason``) go with its label once it is carried out, and Kubernetes
Events go after an hour; this stays with the object: the newest ``MOST_ACTS``, oldest first.
"""

from collections.abc import Mapping
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


class Act(Part, frozen=True):
    """One thing that a person did."""

    who: str
    what: str
    when: datetime
    why: str = ""


def acts_of(annotations: Mapping[str, str]) -> tuple[Act, ...]:
    """
    Return what is recorded, oldest first, within the bounds of ``recorded`` and with times in UTC.

    Anybody who may edit the object may write there: a record that can't be read is none, and an act at a time that nothing
    can be reckoned with is left out.
    """
    try:
        found = msgspec.json.decode(annotations.get(ACTS_ANNOTATION, "[]"), type=tuple[Act, ...])
    except msgspec.MsgspecError:
        return ()
    return tuple(act for each in found[-MOST_ACTS:] if (act := _bounded(each)) is not None)


def recorded(annotations: Mapping[str, str], act: Act) -> dict[str, str]:
    """Return the annotation with one act more."""
    acts = (*acts_of(annotations), *filter(None, [_bounded(act)]))[-MOST_ACTS:]
    return {ACTS_ANNOTATION: msgspec.json.encode(acts).decode()}


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
        when = act.when.astimezone(UTC)
    except OverflowError:
        # The first and the last hours of all years, in a zone in which they are none.
        return None
    return Act(
        who=act.who[:LONGEST_WORD], what=act.what[:LONGEST_WORD], when=when, why=act.why[:LONGEST_WORD]
    )
