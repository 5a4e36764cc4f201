"""
Attention: what waits for a person, one entry per cause and not per event. Pure: objects in, entries out.

A sender without a key is one cause however many envelopes wait; so is a reason for which events of an organization failed, an
archive that can't be used, an organization that lacks something. What is tried again by itself is none.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from counterfoil.reasons import Turn, reason_of
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    Condition,
    EnvelopeEvent,
    Organization,
    Problem,
    Sender,
    condition,
)
from counterfoil.resources.envelopeevent import GIVEN_UP

EXAMPLES: Final = 3
_COVERED: Final = frozenset({"ArchiveNotReady"})
"""Reasons of an Organization that another entry tells better."""


class Kind(StrEnum):
    """What an entry is about; also the name of its words."""

    CONSENT = "consent"
    KEY = "key"
    FAILED = "failed"
    ARCHIVE = "archive"
    ORGANIZATION = "organization"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cause."""

    kind: Kind
    name: str
    """Of the Sender, Archive or Organization; for failures the reason."""
    organization: str
    reason: str
    title: str = ""
    """How a person calls it, where that differs from the name."""
    message: str = ""
    count: int = 0
    is_more: bool = False
    """Whether there are more than were counted."""
    since: datetime | None = None
    examples: tuple[str, ...] = ()
    """Names of events."""
    link: str = ""
    """Where the sender gives consent."""
    email: str = ""
    asked: datetime | None = None
    """When the sender was written to last."""
    suspended: bool = False

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"{self.kind}-{self.organization}-{self.name}"


@dataclass(frozen=True, kw_only=True)
class Estate:
    """What was read for the page; ``failed`` and ``waiting`` may be only the first part of all there are."""

    organizations: tuple[Organization, ...] = ()
    senders: tuple[Sender, ...] = ()
    archives: tuple[Archive, ...] = ()
    failed: tuple[EnvelopeEvent, ...] = ()
    waiting: tuple[EnvelopeEvent, ...] = ()
    is_more_failed: bool = False
    is_more_waiting: bool = False
    of: str = ""
    """The one Organization that is asked about; empty: all."""


def entries(estate: Estate) -> tuple[Entry, ...]:
    """Return what waits for a person: what stops most first."""
    found = [
        *_archives(estate),
        *_organizations(estate),
        *_senders(estate),
        *_failures(estate),
    ]
    mine = [each for each in found if not estate.of or each.organization in ("", estate.of)]
    order = list(Kind)
    return tuple(
        sorted(mine, key=lambda each: (_urgency(each), -each.count, order.index(each.kind), each.anchor))
    )


def _urgency(entry: Entry) -> int:
    """What stops everything goes before what stops one sender or one event."""
    return 0 if entry.kind in (Kind.ARCHIVE, Kind.ORGANIZATION) else 1


def _archives(estate: Estate) -> Iterable[Entry]:
    for each in estate.archives:
        ready = condition(each.status.conditions, "Ready")
        if ready is None or ready.status != "False":
            continue
        users = [one.name for one in estate.organizations if _archive_of(one) == each.name]
        if estate.of and estate.of not in users:
            continue
        problems = [
            problem
            for one in estate.organizations
            for problem in one.status.problems
            if problem.cause == f"archive/{each.name}" and problem.solved_at is None
        ]
        yield Entry(
            kind=Kind.ARCHIVE,
            name=each.name,
            organization="",
            reason=ready.reason,
            message=ready.message,
            count=sum(problem.count for problem in problems),
            since=ready.last_transition_time,
        )


def _archive_of(organization: Organization) -> str:
    ref = organization.spec.archive_ref
    return ref.name if ref is not None else ""


def _organizations(estate: Estate) -> Iterable[Entry]:
    for each in estate.organizations:
        for type_ in ("Ready", "Reachable", "Notified"):
            found = condition(each.status.conditions, type_)
            if found is None or found.status != "False" or found.reason in _COVERED:
                continue
            yield Entry(
                kind=Kind.ORGANIZATION,
                name=each.name if type_ == "Ready" else f"{each.name}-{type_}",
                title=each.name,
                organization=each.name,
                reason=found.reason,
                message=found.message,
                since=found.last_transition_time,
                suspended=each.spec.suspend,
            )


def _senders(estate: Estate) -> Iterable[Entry]:
    parked: dict[str, list[EnvelopeEvent]] = {}
    for event in estate.waiting:
        parked.setdefault(sender_of(event), []).append(event)
    keys: dict[tuple[str, str], Entry] = {}
    for sender in estate.senders:
        refused = condition(sender.status.conditions, "Authorized")
        events = parked.pop(sender.name, [])
        if sender.spec.suspend or not (events or _is_missed(sender, refused)):
            continue
        reason = refused.reason if refused is not None and refused.status == "False" else _reason(events)
        if not reason:
            continue
        entry = _of_sender(estate, sender, refused, reason, events)
        if reason_of(reason).turn is Turn.ADMINISTRATOR:
            # A missing sealing key is one cause, whoever's keys it concerns.
            group = (sender.spec.organization_ref.name, reason)
            keys[group] = _added(keys.get(group), entry)
        else:
            yield entry
    yield from keys.values()
    for name, events in parked.items():
        yield Entry(
            kind=Kind.CONSENT,
            name=name or "?",
            organization=events[0].organization,
            reason=_reason(events),
            message=events[0].status.message or "",
            count=len(events),
            is_more=estate.is_more_waiting,
            examples=tuple(each.name for each in events[:EXAMPLES]),
        )


def _of_sender(
    estate: Estate, sender: Sender, refused: Condition | None, reason: str, events: list[EnvelopeEvent]
) -> Entry:
    # The controller counts them, too; where the list was cut off, its number is the better one.
    counted = sender.status.waiting_events
    brought = sender.spec.token_secret_ref is not None
    return Entry(
        kind=Kind.CONSENT,
        name=sender.name,
        title=title_of(sender),
        organization=sender.spec.organization_ref.name,
        reason=reason,
        message=refused.message if refused is not None else "",
        count=max(len(events), counted) if estate.is_more_waiting else len(events) or counted,
        since=refused.last_transition_time if refused is not None else None,
        examples=tuple(each.name for each in events[:EXAMPLES]),
        link="" if brought else consent_link(sender, estate.organizations),
        email=sender.spec.email or "",
        asked=sender.status.notified_at,
    )


def _added(known: Entry | None, entry: Entry) -> Entry:
    if known is None:
        return replace(entry, kind=Kind.KEY, name=entry.reason)
    return replace(
        known,
        title=f"{known.title}, {entry.title}"[:300],
        count=known.count + entry.count,
        examples=(*known.examples, *entry.examples)[:EXAMPLES],
    )


def _is_missed(sender: Sender, refused: Condition | None) -> bool:
    """Whether anything is lost without a key: it worked before, or events wait for it."""
    if refused is None or refused.status != "False":
        return False
    key = sender.status.key
    return sender.status.waiting_events > 0 or (key is not None and key.verified_at is not None)


def _reason(events: list[EnvelopeEvent]) -> str:
    return (events[0].status.reason or "") if events else ""


def _failures(estate: Estate) -> Iterable[Entry]:
    groups: dict[tuple[str, str], list[EnvelopeEvent]] = {}
    for event in estate.failed:
        groups.setdefault((event.organization, event.status.cause), []).append(event)
    for (organization, reason), events in groups.items():
        counted = _told(estate, organization, reason) if estate.is_more_failed else 0
        times = [each.status.completed_at for each in events if each.status.completed_at is not None]
        status = events[0].status
        given_up = status.reason == GIVEN_UP and status.last_error is not None
        yield Entry(
            kind=Kind.FAILED,
            name=reason or "?",
            organization=organization,
            reason=reason,
            message=(status.last_error.message if given_up and status.last_error else status.message) or "",
            count=max(len(events), counted),
            is_more=estate.is_more_failed and counted <= len(events),
            since=min(times, default=None),
            examples=tuple(each.name for each in events[:EXAMPLES]),
        )

    if estate.is_more_failed:
        yield from _unread(estate, groups.keys())


def _unread(estate: Estate, read: Collection[tuple[str, str]]) -> Iterable[Entry]:
    """Go through failures of which no event was among those that were read, but that the controller has counted."""
    for each in estate.organizations:
        problems = _failed(each)
        for reason in dict.fromkeys(problem.reason for problem in problems):
            if (each.name, reason) in read:
                continue
            mine = [problem for problem in problems if problem.reason == reason]
            yield Entry(
                kind=Kind.FAILED,
                name=reason,
                organization=each.name,
                reason=reason,
                message=mine[0].message or "",
                count=sum(problem.count for problem in mine),
                since=min(problem.since for problem in mine),
                examples=mine[0].examples[:EXAMPLES],
            )


def _told(estate: Estate, organization: str, reason: str) -> int:
    """How many the controller has counted."""
    return sum(
        problem.count
        for each in estate.organizations
        if each.name == organization
        for problem in _failed(each)
        if problem.reason == reason
    )


def _failed(organization: Organization) -> list[Problem]:
    return [
        each
        for each in organization.status.problems
        if each.cause.startswith("failed/") and each.solved_at is None
    ]


def sender_of(event: EnvelopeEvent) -> str:
    """Return the name of the event's Sender as far as it is known; empty for unknown."""
    seen = event.status.envelope
    if seen is not None and seen.sender_ref is not None:
        return seen.sender_ref.name
    return event.metadata.labels.get(SENDER_LABEL, "")


def title_of(sender: Sender) -> str:
    """Return what people call a sender."""
    name = " ".join(part for part in (sender.spec.given_name, sender.spec.surname) if part)
    return name or sender.spec.email or sender.name


def consent_link(sender: Sender, organizations: Iterable[Organization]) -> str:
    """Return where the sender gives consent; empty when there is no such page."""
    mine = (each for each in organizations if each.name == sender.spec.organization_ref.name)
    made = next((each.consent_url(sender.name) for each in mine), None)
    return made or sender.status.consent_url or ""
