"""
What a phase may say in the end. Seven answers, no more; the driver turns each into status, nobody else does.

Reasons are CamelCase and stable; messages are for people and stable too, so that an equal retry leaves the
object as it was and does not wake its own watch.
"""

from dataclasses import dataclass, field
from datetime import datetime

from counterfoil.resources import ArchivedIn, EnvelopeSeen, FiledDocument, Phase


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a phase learned; None: nothing new about that."""

    envelope: EnvelopeSeen | None = None
    documents: tuple[FiledDocument, ...] | None = None
    archive: ArchivedIn | None = None


@dataclass(frozen=True)
class Done:
    """The phase did what it is for; the next one may start."""

    reason: str
    message: str
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Wait:
    """It did not work this time. Counts as an attempt: backoff, and the phase's deadline in the end."""

    reason: str
    message: str
    not_before: datetime | None = None
    """When the other side said not to come back earlier (Retry-After)."""
    undoes: Phase | None = None
    """An earlier phase whose result no longer holds, so that the next attempt begins there."""
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Pause:
    """All is well, but it is too early: go on at ``until``. Not an attempt, and no deadline runs."""

    reason: str
    message: str
    until: datetime
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Hold:
    """Hands off until an object changes that a person keeps (a suspended one). Not an attempt."""

    reason: str
    message: str
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class NeedConsent:
    """The sender's key does not work; the event waits in AwaitingConsent until it does."""

    reason: str
    message: str
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Skip:
    """There is nothing to archive, and that is all right. A new delivery re-opens the event."""

    reason: str
    message: str
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Fail:
    """It will not work by itself; a person has to act. A retry request or a new delivery re-opens the event."""

    reason: str
    message: str
    facts: Facts = field(default_factory=Facts)


Outcome = Done | Wait | Pause | Hold | NeedConsent | Skip | Fail
