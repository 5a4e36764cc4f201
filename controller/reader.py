"""
The reader of an event: the Sender whose key reads its envelope next. Pure.

Four claims name a Sender, the best first (``Claims``). A claim is left out if its Sender does not exist, if
its key is refused, or if eSAW did not show the envelope to this key of this Sender. So each candidate is
tried once, and another Sender of the same name, or another key, is tried again. If each was tried, a start
of the event asks the first of them again, and no search starts it.

An Envelope is the word of a person or of the before-send page. The default Sender, which nothing but the
Organization's spec names, does not read in place of the Sender that it names, except after eSAW did not show
the envelope to that one.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import takewhile
from typing import Final, NamedTuple

from counterfoil.resources.base import LISTED_BY_LABEL
from counterfoil.resources.conditions import find_condition
from counterfoil.resources.envelopeevent import (
    ENVELOPE_NOT_FOUND,
    MAX_NOT_SHOWN_TO,
    EnvelopeEvent,
    EnvelopeEventStatus,
    TriedKey,
)
from counterfoil.resources.organization import Organization
from counterfoil.resources.sender import Sender

UNKNOWN_ENVELOPE_ATTEMPTS: Final = 3
"""Number of answers in a row that eSAW does not show an envelope, after which its key counts as tried: a
callback can be faster than eSAW's own index."""


class KeyState(Enum):
    """The known state of the key of a Sender that a claim names."""

    WORKS = auto()
    UNVERIFIED = auto()
    """Nothing is known against it; it is verified before its first use."""
    REFUSED = auto()
    """It needs another consent, or another Secret."""
    NOT_SHOWN = auto()
    """eSAW did not show the envelope to this key of this Sender."""
    FOREIGN = auto()
    """The Sender belongs to another Organization: its key is never used."""
    MISSING = auto()
    """There is no such Sender."""


USABLE: Final = frozenset({KeyState.WORKS, KeyState.UNVERIFIED})


class Claims(NamedTuple):
    """The names of Senders that may read the envelope of an event, the best claim first; None: no claim."""

    proved: str | None
    """eSAW showed the envelope to this Sender's key."""
    recorded: str | None
    """The Envelope of the same Organization names it."""
    finder: str | None
    """A list of eSAW had the envelope for this Sender's key."""
    default: str | None
    """The default Sender of the Organization."""


class Reader(NamedTuple):
    """The Sender that reads next, and the known state of its key."""

    name: str
    state: KeyState

    @property
    def is_usable(self) -> bool:
        """Whether its key may be used, and was not tried for this envelope."""
        return self.state in USABLE


def next_reader(claims: Claims, state_of: Callable[[str], KeyState]) -> Reader | None:
    """
    Return who reads the envelope next; None: no claim names a Sender that can.

    The first usable one. Without any, the first that may be usable later: its key is refused, or the Sender
    that an Envelope, or else the Organization, names does not exist. Then the first that was tried.
    """
    readers = {name: Reader(name, state_of(name)) for name in claims if name is not None}
    candidates = [each for each in readers.values() if _may_read(each, claims, readers)]
    waiting = [each for each in readers.values() if _is_waited_for(each, claims)]
    tried = [each for each in readers.values() if each.state is KeyState.NOT_SHOWN]
    return next(iter((*candidates, *waiting, *tried)), None)


def _may_read(reader: Reader, claims: Claims, readers: dict[str, Reader]) -> bool:
    recorded = readers.get(claims.recorded or "")
    is_only_default = reader.name == claims.default and reader.name not in claims[:-1]
    is_ruled_out = is_only_default and recorded is not None and recorded.state is not KeyState.NOT_SHOWN
    return reader.is_usable and not is_ruled_out


def _is_waited_for(reader: Reader, claims: Claims) -> bool:
    if reader.state is KeyState.REFUSED:
        return True
    named = claims.recorded or claims.default
    is_named = reader.name == named or (named is None and reader.state is KeyState.MISSING)
    return is_named and reader.state in (KeyState.FOREIGN, KeyState.MISSING)


def claims_of(
    event: EnvelopeEvent, organization: Organization | None, *, recorded: str | None, finder: str | None
) -> Claims:
    """Return the claims about an event. ``finder`` lists its envelope now; None: the last one that did."""
    envelope = event.status.envelope
    proved = envelope.sender_ref if envelope is not None else None
    default = organization.spec.default_sender_ref if organization is not None else None
    return Claims(
        proved=proved.name if proved is not None else None,
        recorded=recorded,
        finder=finder or event.metadata.labels.get(LISTED_BY_LABEL),
        default=default.name if default is not None else None,
    )


def key_state(event: EnvelopeEvent, sender: Sender | None) -> KeyState:
    """Return the known state of a Sender's key for an event."""
    if sender is None:
        return KeyState.MISSING
    if sender.spec.organization_ref.name != event.organization:
        return KeyState.FOREIGN
    if key_of(sender) in _tried(event.status):
        return KeyState.NOT_SHOWN
    authorized = find_condition(sender.status.conditions, "Authorized")
    states = {"True": KeyState.WORKS, "False": KeyState.REFUSED}
    return states.get(authorized.status if authorized is not None else "", KeyState.UNVERIFIED)


def key_of(sender: Sender) -> TriedKey:
    """Return what tells the key of a Sender from an earlier one, and from that of a Sender of this name."""
    known = sender.status.key
    return TriedKey(name=sender.name, uid=sender.uid, key=known.fingerprint if known is not None else None)


def with_tried(tried: Sequence[TriedKey], sender: Sender) -> tuple[TriedKey, ...]:
    """Return the keys to which eSAW did not show the envelope, this one included. One for each name."""
    return (*without(tried, sender)[-MAX_NOT_SHOWN_TO + 1 :], key_of(sender))


def without(tried: Sequence[TriedKey], sender: Sender) -> tuple[TriedKey, ...]:
    """Return the keys to which eSAW did not show the envelope, without those of a Sender."""
    return tuple(each for each in tried if each.name != sender.name)


def answers_in_row(status: EnvelopeEventStatus) -> int:
    """Return the number of attempts in a row, up to the last one, in which eSAW did not show the envelope."""
    newest = (each.reason for each in reversed(status.attempt_history))
    in_row = sum(1 for _ in takewhile(ENVELOPE_NOT_FOUND.__eq__, newest))
    # The history is older than the last start, and the number of attempts is not.
    return min(in_row, status.attempts)


def _tried(status: EnvelopeEventStatus) -> tuple[TriedKey, ...]:
    """Return the keys that need not be tried. The last one is asked until its row of answers is full."""
    is_row_open = 0 < answers_in_row(status) < UNKNOWN_ENVELOPE_ATTEMPTS and not status.phase.is_final
    return status.not_shown_to[:-1] if is_row_open else status.not_shown_to
