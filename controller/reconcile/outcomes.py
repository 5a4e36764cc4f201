"""
The seven outcomes of a phase. The reconciler turns each into a status.

Reasons are CamelCase and stable. Messages are for people and stable too, so that an equal retry does not
change the object and does not trigger its own watch.
"""

from dataclasses import dataclass, field
from datetime import datetime

from msgspec import UNSET, UnsetType

from counterfoil.resources import ArchiveLocation, EnvelopeSummary, EventCopy, FiledDocument, Phase
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import AwaitedArchive, TriedKey


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as messages say it: "1 file", "2 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class SideCondition:
    """A condition that is set in addition; it does not decide how the event continues."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class PhaseFacts:
    """Facts that a phase determined; None: the stored value stays."""

    envelope: EnvelopeSummary | None = None
    documents: tuple[FiledDocument, ...] | None = None
    archive: ArchiveLocation | None = None
    awaited_archive: AwaitedArchive | UnsetType | None = UNSET
    """Unset: the stored value stays. None: the event waits for no other Archive than the stored one."""
    copies: tuple[EventCopy, ...] | None = None
    """Each entry of the status. One that failed now has a ``last_attempt_time``, and no time of its next
    attempt."""
    mismatches: int | None = None
    considered_deliveries: int | None = None
    not_shown_to: tuple[TriedKey, ...] | None = None
    listing_due: datetime | None = None
    """When the files of an envelope that stays in eSAW are listed again; None: never."""
    side_conditions: tuple[SideCondition, ...] = ()
    is_question_open: bool | None = None
    """Whether eSAW did not answer if the archived envelope was restarted, and still may: copies fail no event
    before. None: it was not to be asked."""


@dataclass(frozen=True)
class BaseOutcome:
    """A reason for machines, a message for people, and the facts that the phase determined."""

    reason: str
    message: str
    facts: PhaseFacts = field(default_factory=PhaseFacts, kw_only=True)


@dataclass(frozen=True)
class Done(BaseOutcome):
    """The phase succeeded; the next phase may start."""


@dataclass(frozen=True)
class Wait(BaseOutcome):
    """The attempt failed and is counted: backoff, and failure after the phase's deadline."""

    not_before: datetime | None = None
    """Earliest time of the next attempt (Retry-After)."""
    restart_from: Phase | None = None
    """An earlier phase whose result is no longer valid, so that the next attempt begins with it."""
    given_up: "Fail | None" = None
    """The failure after the deadline; None: ``DeadlineExceeded``, which names the outcome as its cause."""


@dataclass(frozen=True)
class Pause(BaseOutcome):
    """It is too early: continue at ``until``. Not an attempt, and no deadline runs."""

    until: datetime
    is_shown: bool = field(default=False, kw_only=True)
    """Whether eSAW showed the envelope in this run."""


@dataclass(frozen=True)
class Hold(BaseOutcome):
    """Do nothing until a person changes an object (a suspended one). Not an attempt."""

    of_copies: bool = field(default=False, kw_only=True)
    """Whether only copies are held: eSAW is asked meanwhile for an envelope that may be restarted."""


@dataclass(frozen=True)
class NeedConsent(BaseOutcome):
    """The sender's key does not work; the event waits in AwaitingConsent until it does."""


@dataclass(frozen=True)
class Skip(BaseOutcome):
    """There is nothing to archive, which is no error. A new delivery re-opens the event."""


@dataclass(frozen=True)
class Fail(BaseOutcome):
    """A retry cannot succeed until a person acts. A retry request or a new delivery re-opens the event."""


Outcome = Done | Wait | Pause | Hold | NeedConsent | Skip | Fail


def outcome_label(kind: type[Outcome]) -> str:
    """Return the label of a kind of outcome in metrics, as in ``done``."""
    return kind.__name__.lower()
