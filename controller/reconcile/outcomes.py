"""
What a phase may say in the end. Seven answers, no more; the driver turns each into status, nobody else does.

Reasons are CamelCase and stable; messages are for people and stable too, so that an equal retry leaves the
object as it was and does not wake its own watch.
"""

from dataclasses import dataclass, field
from datetime import datetime

from counterfoil.resources import ArchiveLocation, EnvelopeSummary, FiledDocument, Phase
from counterfoil.resources.conditions import ConditionStatus


@dataclass(frozen=True)
class SideCondition:
    """A condition that says something on the side; it does not decide how the event goes on."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class PhaseFacts:
    """What a phase learned; None: nothing new about that."""

    envelope: EnvelopeSummary | None = None
    documents: tuple[FiledDocument, ...] | None = None
    archive: ArchiveLocation | None = None
    side_condition: SideCondition | None = None


@dataclass(frozen=True)
class BaseOutcome:
    """What every answer has: a reason for machines, a message for people, and what was learned on the way."""

    reason: str
    message: str
    facts: PhaseFacts = field(default_factory=PhaseFacts, kw_only=True)


@dataclass(frozen=True)
class Done(BaseOutcome):
    """The phase did what it is for; the next one may start."""


@dataclass(frozen=True)
class Wait(BaseOutcome):
    """It did not work this time. Counts as an attempt: backoff, and the phase's deadline in the end."""

    not_before: datetime | None = None
    """When the other side said not to come back earlier (Retry-After)."""
    restart_from: Phase | None = None
    """An earlier phase whose result no longer holds, so that the next attempt begins there."""


@dataclass(frozen=True)
class Pause(BaseOutcome):
    """All is well, but it is too early: go on at ``until``. Not an attempt, and no deadline runs."""

    until: datetime


@dataclass(frozen=True)
class Hold(BaseOutcome):
    """Hands off until an object changes that a person keeps (a suspended one). Not an attempt."""


@dataclass(frozen=True)
class NeedConsent(BaseOutcome):
    """The sender's key does not work; the event waits in AwaitingConsent until it does."""


@dataclass(frozen=True)
class Skip(BaseOutcome):
    """There is nothing to archive, and that is all right. A new delivery re-opens the event."""


@dataclass(frozen=True)
class Fail(BaseOutcome):
    """It will not work by itself; a person has to act. A retry request or a new delivery re-opens the event."""


Outcome = Done | Wait | Pause | Hold | NeedConsent | Skip | Fail


def outcome_label(kind: type[Outcome]) -> str:
    """Return how a kind of outcome is called in metrics, as in ``done``."""
    return kind.__name__.lower()
