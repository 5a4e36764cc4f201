"""
The reader of an event: the Sender whose key reads its envelope next. Pure.

Four claims name a Sender, the best first (``Claims``). A claim is left out if its Sender does not exist, if
its key is refused, or if eSAW did not show the envelope to this key of this Sender. So each candidate is
tried once, and another Sender of the same name, or another key, is tried again. If each was tried, a start
of the event asks the first of them again, and no search and no pass over all events starts it
(``untried_reader``). That is the same in each phase.

An Envelope is the word of a person or of the before-send page. The default Sender, which nothing but the
Organization's spec names, does not read in place of the Sender that it names, except after eSAW did not show
the envelope to that one. In place of the Sender to whose key eSAW showed the envelope, neither the default
Sender reads nor one whose list had it: the event waits for that Sender. If that Sender was deleted, both are
tried, and the event waits only after that. It waits for a consent of the Sender of the Envelope, if that is
enough, and else for the deleted one. A Sender of its name with another user is another Sender.

Once eSAW showed the envelope to a key, only answers to keys of its user say that it is gone. One answer to
another key that does not show it, also a refusal, says that this one can't see it. A refusal says that the
envelope exists, so it stays known when the keys are tried again.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import takewhile
from typing import Final, NamedTuple

from msgspec.structs import replace

from counterfoil.resources.base import LISTED_BY_LABEL
from counterfoil.resources.conditions import find_condition
from counterfoil.resources.envelopeevent import (
    DELETE_REQUESTED_CONDITION,
    ENVELOPE_NOT_FOUND,
    MAX_NOT_SHOWN_TO,
    UNKNOWN_ENVELOPE_ATTEMPTS,
    EnvelopeEvent,
    SenderReference,
    TriedKey,
)
from counterfoil.resources.naming import is_same_user
from counterfoil.resources.organization import Organization
from counterfoil.resources.sender import Sender


class KeyState(Enum):
    """The known state of the key of a Sender that a claim names."""

    WORKS = auto()
    UNVERIFIED = auto()
    """Nothing is known against it; it is verified before its first use."""
    REFUSED = auto()
    """It needs another consent, or another Secret."""
    NOT_SHOWN = auto()
    """eSAW did not show the envelope to this key of this Sender."""
    NOT_PERMITTED = auto()
    """eSAW refused the envelope, or a part of it, to this key of this Sender."""
    FOREIGN = auto()
    """The Sender belongs to another Organization: its key is never used."""
    MISSING = auto()
    """There is no such Sender."""


USABLE: Final = frozenset({KeyState.WORKS, KeyState.UNVERIFIED})
TRIED: Final = frozenset({KeyState.NOT_SHOWN, KeyState.NOT_PERMITTED})
"""States of a key that is not asked again, except at a start of the event if each key was tried."""


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

    @property
    def is_tried(self) -> bool:
        """Whether its key was asked without success."""
        return self.state in TRIED


def next_reader(claims: Claims, state_of: Callable[[str], KeyState]) -> Reader | None:
    """
    Return who reads the envelope next; None: no claim names a Sender that can.

    The first usable one. Without any, the first that may be usable later: its key is refused, or the Sender
    does not exist that eSAW showed the envelope, or that an Envelope, or else the Organization, names. A
    refused key of the Sender of the Envelope comes before a missing Sender. Then the first that was tried.
    """
    if claims.proved is not None and state_of(claims.proved) is KeyState.NOT_PERMITTED:
        # It sees the envelope, and may not do all: nothing shows that a key that no Envelope names may.
        claims = claims._replace(finder=None, default=None)
    readers = {name: Reader(name, state_of(name)) for name in claims if name is not None}
    candidates = [each for each in readers.values() if _may_read(each, claims, readers)]
    waiting = [each for each in readers.values() if _is_waited_for(each, claims)]
    if waiting and waiting[0].state is KeyState.MISSING:
        # A consent is enough, and only that user can give it.
        waiting.sort(key=lambda each: not _awaits_consent(each, claims))
    tried = [each for each in readers.values() if each.is_tried]
    return next(iter((*candidates, *waiting, *tried)), None)


def reader_of(
    event: EnvelopeEvent,
    claims: Claims,
    sender: Callable[[str], Sender | None],
    state_of: Callable[[EnvelopeEvent, Sender | None], KeyState],
) -> Reader | None:
    """
    Return who reads the envelope of an event next (``next_reader``). ``sender`` returns a Sender by its name,
    ``state_of`` the state of its key.

    The Sender with the proof does not exist any more if another user's Sender has its name: this one reads
    by the other claims only.
    """

    def state(name: str) -> KeyState:
        return state_of(event, sender(name))

    named = sender(claims.proved) if claims.proved is not None else None
    if claims.proved is None or named is None or not is_of_other_user(event, named):
        return next_reader(claims, state)
    other = next_reader(claims._replace(proved=None), state)
    # The Envelope that names it may mean the missing one, so a consent to this one may be useless.
    awaits_consent = other is not None and _awaits_consent(other, claims) and other.name != claims.proved
    is_next = other is not None and (other.is_usable or awaits_consent)
    return other if is_next else Reader(claims.proved, KeyState.MISSING)


def untried_reader(
    event: EnvelopeEvent, claims: Claims, sender: Callable[[str], Sender | None]
) -> str | None:
    """
    Return the Sender for which an event starts again that waits for a key, or whose envelope eSAW did not
    show: the next reader, if its key may be used now and was not tried. ``sender`` returns a Sender by its
    name.

    None: it does not start. With as many keys as a status has room for, no more are tried.
    """
    reader = reader_of(event, claims, sender, key_state)
    if reader is None or not reader.is_usable or len(event.status.not_shown_to) >= MAX_NOT_SHOWN_TO:
        return None
    found = sender(reader.name)
    return reader.name if found is not None and not found.spec.suspend else None


def is_next_by_envelope(event: EnvelopeEvent, claims: Claims, sender: Callable[[str], Sender | None]) -> bool:
    """
    Whether the Sender of the Envelope is the next reader of an event that waits for a key, or whose envelope
    eSAW did not show, and its key was not tried. ``sender`` returns a Sender by its name.

    Other than with ``untried_reader``, its key may be refused, or the Sender suspended: the event waits for
    it, and its user has to act.
    """

    def state_of(event: EnvelopeEvent, found: Sender | None) -> KeyState:
        is_suspended = found is not None and found.name == claims.recorded and found.spec.suspend
        state = key_state(event, found)
        return KeyState.REFUSED if is_suspended and state in USABLE else state

    reader = reader_of(event, claims, sender, state_of)
    if reader is None or len(event.status.not_shown_to) >= MAX_NOT_SHOWN_TO:
        return False
    return reader.name == claims.recorded and (reader.is_usable or reader.state is KeyState.REFUSED)


def _may_read(reader: Reader, claims: Claims, readers: dict[str, Reader]) -> bool:
    better = [claims.proved] if reader.name == claims.finder else [claims.proved, claims.recorded]
    is_named = reader.name in (claims.proved, claims.recorded)
    is_ruled_out = any(each is not None and _keeps_others_out(readers[each], claims) for each in better)
    return reader.is_usable and (is_named or not is_ruled_out)


def _keeps_others_out(reader: Reader, claims: Claims) -> bool:
    # Without the proof, a missing Sender may be one that is not created yet, or a wrong name in an Envelope.
    was_deleted = reader.name == claims.proved and reader.state is KeyState.MISSING
    return not (reader.is_tried or was_deleted)


def _is_waited_for(reader: Reader, claims: Claims) -> bool:
    if reader.state is KeyState.REFUSED:
        return True
    named = claims.recorded or claims.default
    is_named = reader.name in (claims.proved, named) or (named is None and reader.state is KeyState.MISSING)
    return is_named and reader.state in (KeyState.FOREIGN, KeyState.MISSING)


def _awaits_consent(reader: Reader, claims: Claims) -> bool:
    """Whether a consent of its user is enough: it is the Sender of the Envelope, and its key is refused."""
    return reader.name == claims.recorded and reader.state is KeyState.REFUSED


def claims_of(
    event: EnvelopeEvent, organization: Organization | None, *, recorded: str | None, finder: str | None
) -> Claims:
    """Return the claims about an event. ``finder`` lists its envelope now; None: the last one that did."""
    proved = proved_by(event)
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
    if _answers_to(event.status.not_shown_to, sender) >= UNKNOWN_ENVELOPE_ATTEMPTS:
        may_not = is_refused(event.status.not_shown_to, sender)
        return KeyState.NOT_PERMITTED if may_not else KeyState.NOT_SHOWN
    authorized = find_condition(sender.status.conditions, "Authorized")
    states = {"True": KeyState.WORKS, "False": KeyState.REFUSED}
    return states.get(authorized.status if authorized is not None else "", KeyState.UNVERIFIED)


def key_of(sender: Sender) -> TriedKey:
    """Return what tells the key of a Sender from an earlier one, and from that of a Sender of this name."""
    known = sender.status.key
    return TriedKey(name=sender.name, uid=sender.uid, key=known.fingerprint if known is not None else None)


def reference_to(sender: Sender) -> SenderReference:
    """Return what tells the user of a Sender from that of another Sender of this name."""
    return SenderReference(name=sender.name, user_id=sender.spec.user_id)


def with_tried(tried: Sequence[TriedKey], sender: Sender, answers: int) -> tuple[TriedKey, ...]:
    """Return the keys to which eSAW did not show the envelope, this one included, after this number of
    answers in a row. One for each Sender; a key that counts as tried stays so, and a refusal stays known."""
    most = min(max(answers, _answers_to(tried, sender)), UNKNOWN_ENVELOPE_ATTEMPTS)
    key = replace(key_of(sender), answers=most, refused=is_refused(tried, sender))
    return (*_of_others(tried, sender), key)


def with_refused(tried: Sequence[TriedKey], sender: Sender) -> tuple[TriedKey, ...]:
    """Return the tried keys with this one, to which eSAW refused the envelope: it is not asked again."""
    key = replace(key_of(sender), answers=UNKNOWN_ENVELOPE_ATTEMPTS, refused=True)
    return (*_of_others(tried, sender), key)


def to_try_again(tried: Sequence[TriedKey]) -> tuple[TriedKey, ...]:
    """Return what stays known of the tried keys if each may be tried again: eSAW refused the envelope to some
    of them, so it exists."""
    return tuple(replace(each, answers=1) for each in tried if each.refused)


def is_refused(tried: Sequence[TriedKey], sender: Sender) -> bool:
    """Whether eSAW refused the envelope to a key of this Sender, and not of another one of its name."""
    return any(each.refused for each in tried if (each.name, each.uid) == (sender.name, sender.uid))


def without(tried: Sequence[TriedKey], sender: Sender) -> tuple[TriedKey, ...]:
    """Return the keys to which eSAW did not show the envelope, without those of a Sender."""
    return tuple(each for each in tried if each.name != sender.name)


def proved_by(event: EnvelopeEvent) -> SenderReference | None:
    """Return the Sender to whose key eSAW showed the envelope first; None: to none."""
    envelope = event.status.envelope
    return envelope.sender_ref if envelope is not None else None


def is_of_other_user(event: EnvelopeEvent, sender: Sender) -> bool:
    """Whether a Sender has the name of the one with the proof, and another user."""
    proved = proved_by(event)
    if proved is None or proved.user_id is None or proved.name != sender.name:
        return False
    return not is_same_user(proved.user_id, sender.spec.user_id)


def lacks_proof(event: EnvelopeEvent, sender: Sender) -> bool:
    """
    Whether eSAW showed the envelope, and it is not known to have shown it to this Sender's user. A user may
    have several Senders.

    Events of earlier versions have no user. A Sender that is older than such an event had its name since.
    """
    proved = proved_by(event)
    if proved is None:
        return False
    if proved.user_id is not None:
        return not is_same_user(proved.user_id, sender.spec.user_id)
    if proved.name != sender.name:
        return True
    created, recorded = sender.metadata.creation_timestamp, event.metadata.creation_timestamp
    return created is None or recorded is None or created >= recorded


def answers_in_row(event: EnvelopeEvent, sender: Sender) -> int:
    """
    Return the number of attempts in a row, up to the last one, in which eSAW did not show the envelope to
    this key. 0 for a key without the proof that an event has.

    An attempt that ended otherwise ends the row: it says nothing about the envelope. An answer from before
    the last record about a request to delete it is of another row: the run that stored the record was shown
    the envelope, and a kill may have kept that run out of the history.
    """
    status = event.status
    if lacks_proof(event, sender):
        return 0
    recorded = find_condition(status.conditions, DELETE_REQUESTED_CONDITION)
    since = recorded.last_transition_time if recorded is not None else None
    newest = reversed(status.attempt_history)
    counted = newest if since is None else takewhile(lambda each: each.start_time >= since, newest)
    in_row = sum(1 for _ in takewhile(lambda each: each.reason == ENVELOPE_NOT_FOUND, counted))
    # The history is older than the last start, and the number of attempts is not.
    in_row = min(in_row, status.attempts)
    # It does not say whose key was asked. After one full row, each further key is asked once.
    unfinished = [
        each for each in status.not_shown_to if each.answers < UNKNOWN_ENVELOPE_ATTEMPTS and not each.refused
    ]
    return min(in_row, _answers_to(status.not_shown_to, sender)) if unfinished else in_row


def _answers_to(tried: Sequence[TriedKey], sender: Sender) -> int:
    """Return the stored number of answers that did not show the envelope to this key of this Sender."""
    key = key_of(sender)
    same = (each for each in tried if (each.name, each.uid, each.key) == (key.name, key.uid, key.key))
    return next((each.answers for each in same), 0)


def _of_others(tried: Sequence[TriedKey], sender: Sender) -> tuple[TriedKey, ...]:
    """Return the keys of other Senders that have room beside one of this Sender. A refusal to an earlier
    Sender of this name stays known: the envelope exists."""
    kept = (each for each in tried if each.name != sender.name or (each.refused and each.uid != sender.uid))
    return tuple(kept)[-MAX_NOT_SHOWN_TO + 1 :]
