"""
What a phase may say in the end. Seven answers, no more; the driver turns each into status, nobody else does.

Reasons are CamelCase and stable; messages are for people and stable too, so that an equal retry leaves the
object as it was and does not wake its own watch.
"""

from dataclasses import dataclass, field
from datetime import datetime

from counterfoil.resources import ArchivedIn, EnvelopeSeen, FiledDocument, Phase
from counterfoil.resources.conditions import Truth


@dataclass(frozen=True)
class Noticed:
    """A condition that says something on the side; it does not decide how the event goes on."""

    type: str
    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a phase learned; None: nothing new about that."""

    envelope: EnvelopeSeen | None = None
    documents: tuple[FiledDocument, ...] | None = None
    archive: ArchivedIn | None = None
    noticed: Noticed | None = None


@dataclass(frozen=True)
class Told:
    """What every answer has: a reason for machines, a message for people, and what was learned on the way."""

    reason: str
    message: str
    facts: Facts = field(default_factory=Facts, kw_only=True)


@dataclass(frozen=True)
class Done(Told):
    """The phase did what it is for; the next one may start."""


@dataclass(frozen=True)
class Wait(Told):
    """It did not work this time. Counts as an attempt: backoff, and the phase's deadline in the end."""

    not_before: datetime | None = None
    """When the other side said not to come back earlier (Retry-After)."""
    undoes: Phase | None = None
    """An earlier phase whose result no longer holds, so that the next attempt begins there."""


@dataclass(frozen=True)
class Pause(Told):
    """All is well, but it is too early: go on at ``until``. Not an attempt, and no deadline runs."""

    until: datetime


@dataclass(frozen=True)
class Hold(Told):
    """Hands off until an object changes that a person keeps (a suspended one). Not an attempt."""


@dataclass(frozen=True)
class NeedConsent(Told):
    """The sender's key does not work; the event waits in AwaitingConsent until it does."""


@dataclass(frozen=True)
class Skip(Told):
    """There is nothing to archive, and that is all right. A new delivery re-opens the event."""


@dataclass(frozen=True)
class Fail(Told):
    """It will not work by itself; a person has to act. A retry request or a new delivery re-opens the event."""


Outcome = Done | Wait | Pause | Hold | NeedConsent | Skip | Fail


def label(kind: type[Outcome]) -> str:
    """Return how a kind of outcome is called in metrics, as in ``done``."""
    return kind.__name__.lower()
