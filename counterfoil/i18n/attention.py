"""
Attention: what waits for a person, one entry per cause and not per event. Pure: objects in, entries out.

A sender without a key is one cause however many envelopes wait; so is a reason for which events of an
organization failed, an archive that can't be used, an organization that lacks something. An event that is
retried automatically is one if its reason needs a person.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final

from counterfoil.i18n.key_advice import KeyAdvice, key_advice, key_cause
from counterfoil.i18n.problems import (
    ARCHIVE_SUSPENDED,
    ProblemKind,
    archive_message,
    archive_of,
    is_about_archive,
    is_key_needed,
    key_failure,
    open_problems,
    task_anchor,
    text_of_problem,
)
from counterfoil.i18n.reasons import (
    ReasonText,
    Responsible,
    Server,
    find_reason,
    responsible_of_failure,
    server_of,
)
from counterfoil.resources import (
    FINAL_PHASES,
    SENDER_LABEL,
    Archive,
    AttemptOutcome,
    Condition,
    EnvelopeEvent,
    Import,
    Language,
    Organization,
    Phase,
    ReportedProblem,
    Sender,
    find_condition,
)
from counterfoil.resources.imports import is_processed
from counterfoil.resources.lease import Absence, NamespaceNotServed
from counterfoil.resources.routes import (
    Choice,
    archive_names,
    awaited_archive,
    last_choice,
    needed_choice,
)

MAX_EXAMPLES: Final = 3
_REPORTED_ELSEWHERE: Final = frozenset(
    {"ArchiveNotReady", "ArchiveSuspended", "EsawCallsFailing", "EsawUnreachable", "OrganizationSuspended"}
)
"""Reasons of an Organization's Ready that another entry or the page of Organizations reports."""


_SUSPENDED: Final = frozenset({ARCHIVE_SUSPENDED, "ImportSuspended", "OrganizationSuspended"})
"""Reasons of an Import that a person caused, who knows it."""

UNPROCESSED: Final = timedelta(minutes=1)
"""Age of an Import that no controller has processed after which a person has to act. A controller reads all
Imports every 10 seconds."""

NOT_PROCESSED: Final = "ImportNotProcessed"


class AttentionKind(StrEnum):
    """Subject of an entry; also the name of its words."""

    CONSENT = "consent"
    KEY = "key"
    RETENTION = "retention"
    UNREADABLE = "unreadable"
    FAILED = "failed"
    RETRYING = "retrying"
    ARCHIVE = "archive"
    ORGANIZATION = "organization"
    CONTROLLER = "controller"
    WEBHOOK = "webhook"
    IMPORT = "import"
    COPY = "copy"


_WIDE: Final = frozenset({AttentionKind.ARCHIVE, AttentionKind.ORGANIZATION, AttentionKind.RETENTION})


@dataclass(frozen=True, kw_only=True)
class AttentionItem:
    """One cause."""

    kind: AttentionKind
    name: str
    """Of the Sender, Archive (also that of copies) or Organization; for failures and Imports the reason."""
    organization: str
    reason: str
    title: str = ""
    """Display name, if it differs from the name."""
    message: str = ""
    count: int = 0
    is_more: bool = False
    """Whether there are more than were counted."""
    since: datetime | None = None
    since_condition: str = ""
    """Type of the condition that is False since then, perhaps for other reasons before; empty: it is the time
    of the reason."""
    examples: tuple[str, ...] = ()
    """Names of events; for Imports their names."""
    events: tuple[EnvelopeEvent, ...] = ()
    """The failed events that were read."""
    advice: KeyAdvice | None = None
    """Advice about the key of one sender."""
    senders: tuple[str, ...] = ()
    """Names of some of the senders whose keys are concerned."""
    asked: datetime | None = None
    """When the sender was written to last."""
    suspended: bool = False
    address: str = ""
    """Of the eSAW, for an entry that all Organizations with this address share."""
    others: tuple[str, ...] = ()
    """Further Organizations of a shared entry."""
    absence: Absence | None = None
    """For an entry about the controllers: the shard that none of them works on, or the namespace that they do
    not serve."""

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return task_anchor(self.kind, self.organization, self.name)

    @property
    def organizations(self) -> tuple[str, ...]:
        """Names of the Organizations that it is about; empty for what belongs to none."""
        return (self.organization, *self.others) if self.organization else ()

    @property
    def anchors(self) -> tuple[str, ...]:
        """Its places on the page: the mail of each Organization leads to its own."""
        return (self.anchor, *(task_anchor(self.kind, each, _reachable(each)) for each in self.others))

    @property
    def responsible(self) -> Responsible:
        """The person who must act."""
        if self.kind is AttentionKind.FAILED:
            return responsible_of_failure(self.reason)
        return self.advice.responsible if self.advice is not None else find_reason(self.reason).responsible

    def text(self, language: Language = Language.ENGLISH) -> ReasonText:
        """Return the text of its reason."""
        return text_of_problem(self.kind, self.reason, self.message, language)


RETRYING_SELECTOR: Final = ",".join(
    f"status.phase!={phase}" for phase in sorted({*FINAL_PHASES, Phase.AWAITING_CONSENT})
)
"""Field selector of ``ClusterSnapshot.retrying``."""


@dataclass(frozen=True, kw_only=True)
class ClusterSnapshot:
    """Objects that were read for the page; ``failed``, ``waiting`` and ``retrying`` may be only the first
    part of all there are."""

    organizations: tuple[Organization, ...] = ()
    senders: tuple[Sender, ...] = ()
    archives: tuple[Archive, ...] = ()
    failed: tuple[EnvelopeEvent, ...] = ()
    waiting: tuple[EnvelopeEvent, ...] = ()
    """Events that wait for consent."""
    retrying: tuple[EnvelopeEvent, ...] = ()
    """All other unfinished events."""
    suspended_events: tuple[EnvelopeEvent, ...] = ()
    """Events that a person suspended, in any phase."""
    imports: tuple[Import, ...] = ()
    read_time: datetime | None = None
    """When the objects were read; None: an Import may have been created just before."""
    unheld_shards: tuple[Absence, ...] = ()
    """Shards that no controller works on; or that the namespace is not served."""
    is_more_failed: bool = False
    is_more_waiting: bool = False
    is_more_retrying: bool = False
    is_more_suspended: bool = False
    of: str = ""
    """The one Organization that is asked about; empty: all."""

    @property
    def absences(self) -> tuple[Absence, ...]:
        """Why no controller works. A release need not serve its own namespace, so an empty one need not be
        served."""
        if self._has_objects:
            return self.unheld_shards
        return tuple(each for each in self.unheld_shards if not isinstance(each, NamespaceNotServed))

    @property
    def is_served(self) -> bool:
        """Whether the statuses of the objects may be new, as far as is known."""
        return not any(isinstance(each, NamespaceNotServed) for each in self.absences)

    @property
    def _has_objects(self) -> bool:
        objects = (self.organizations, self.senders, self.archives, self.imports)
        events = (self.failed, self.waiting, self.retrying, self.suspended_events)
        return any(objects) or any(events)

    def archive_name(self, event: EnvelopeEvent) -> str:
        """Return the name of the Archive that an event needs; empty if its routes have not decided."""
        choice = self.needed_choice(event)
        return choice.archive if choice is not None else ""

    def needed_choice(self, event: EnvelopeEvent) -> Choice | None:
        """Return the Archive that an event needs; None if its routes have not decided."""
        owner = self._organizations.get(event.organization)
        return last_choice(event.status) if owner is None else needed_choice(event, owner.spec)

    def awaited_archive(self, event: EnvelopeEvent) -> str:
        """Return the name of the Archive that an event waits for, also that of a copy; empty as above."""
        owner = self._organizations.get(event.organization)
        if owner is None:
            return self.archive_name(event)
        return awaited_archive(event, owner.spec) or ""

    def unfinished_of(self, organization: str, archive: str) -> tuple[EnvelopeEvent, ...]:
        """Return the unfinished events of an Organization whose Archive this is, of those that were read."""
        return tuple(self._unfinished.get((organization, archive), ()))

    @cached_property
    def _organizations(self) -> dict[str, Organization]:
        return {each.name: each for each in self.organizations}

    @cached_property
    def _unfinished(self) -> dict[tuple[str, str], list[EnvelopeEvent]]:
        found: dict[tuple[str, str], list[EnvelopeEvent]] = {}
        for each in (*self.waiting, *self.retrying):
            found.setdefault((each.organization, self.archive_name(each)), []).append(each)
        return found


def attention_items(snapshot: ClusterSnapshot) -> tuple[AttentionItem, ...]:
    """Return what waits for a person: what stops most first."""
    found = [
        *_controllers(snapshot),
        *_archives(snapshot),
        *_organizations(snapshot),
        *_failing_calls(snapshot),
        *_senders(snapshot),
        *_reported(snapshot, ProblemKind.RETENTION),
        *_failures(snapshot),
        *_reported(snapshot, ProblemKind.UNREADABLE),
        *_retries(snapshot),
        *_reported(snapshot, ProblemKind.WEBHOOK),
        *_reported(snapshot, ProblemKind.IMPORT),
        *_reported(snapshot, ProblemKind.COPY),
    ]
    found += _imports(snapshot, found)
    mine = [each for each in found if not snapshot.of or each.organization in ("", snapshot.of)]
    return tuple(sorted(_shared_by_address(mine), key=_rank))


def _shared_by_address(items: Iterable[AttentionItem]) -> Iterable[AttentionItem]:
    """Merge the entries about one eSAW that several Organizations use."""
    found: dict[tuple[str, ...], AttentionItem] = {}
    for each in items:
        key = (each.address, each.reason) if each.address else (each.anchor,)
        known = found.get(key)
        found[key] = each if known is None or not each.address else _merged_by_address(known, each)
    return found.values()


def _merged_by_address(known: AttentionItem, item: AttentionItem) -> AttentionItem:
    return replace(
        known,
        others=(*known.others, item.organization),
        count=known.count + item.count,
        since=min((each for each in (known.since, item.since) if each is not None), default=None),
        since_condition=known.since_condition or item.since_condition,
        examples=(*known.examples, *item.examples)[:MAX_EXAMPLES],
    )


def _reachable(organization: str) -> str:
    """Return the name of the entry about the eSAW of an Organization."""
    return f"{organization}-Reachable"


def _rank(item: AttentionItem) -> tuple[bool, bool, int, int, str]:
    """Rank an entry that stops everything, or loses something, before one that stops one sender or event."""
    is_work_possible = item.kind is not AttentionKind.CONTROLLER
    is_narrow = item.kind not in _WIDE
    return (is_work_possible, is_narrow, -item.count, list(AttentionKind).index(item.kind), item.anchor)


def _controllers(snapshot: ClusterSnapshot) -> Iterable[AttentionItem]:
    for each in snapshot.absences:
        yield AttentionItem(
            kind=AttentionKind.CONTROLLER,
            name=each.lease or "none",
            organization="",
            reason=each.reason,
            message=str(each),
            since=each.renewed_at,
            absence=each,
        )


def _archives(snapshot: ClusterSnapshot) -> Iterable[AttentionItem]:
    problems = _open_problems(snapshot, ProblemKind.ARCHIVE)
    for each in _broken(snapshot.archives):
        ready = find_condition(each.status.conditions, "Ready")
        if ready is None:
            continue
        users = [one for one in snapshot.organizations if _needs(snapshot, one, each)]
        if not users or (snapshot.of and all(one.name != snapshot.of for one in users)):
            continue
        told = sum(problem.count for _, problem in problems if archive_of(problem) == each.name)
        # Of an Archive that is named, the controller counts the events.
        unnamed = [one for one in users if each.name not in archive_names(one.spec)]
        read = sum(len(snapshot.unfinished_of(one.name, each.name)) for one in unnamed)
        yield AttentionItem(
            kind=AttentionKind.ARCHIVE,
            name=each.name,
            organization="",
            reason=ready.reason,
            message=archive_message(ready, each, unnamed),
            count=max(told, read),
            since=ready.last_transition_time,
            since_condition=ready.type,
        )


def _organizations(snapshot: ClusterSnapshot) -> Iterable[AttentionItem]:
    for each in snapshot.organizations:
        for type_ in ("Ready", "Reachable", "Notified"):
            found = find_condition(each.status.conditions, type_)
            if found is None or found.status != "False":
                continue
            if type_ == "Ready" and (found.reason in _REPORTED_ELSEWHERE or _repeats_reachable(each, found)):
                continue
            item = AttentionItem(
                kind=AttentionKind.ORGANIZATION,
                name=each.name if type_ == "Ready" else f"{each.name}-{type_}",
                title=each.name,
                organization=each.name,
                reason=found.reason,
                message=found.message,
                since=found.last_transition_time,
                since_condition=type_,
                suspended=each.spec.suspend,
            )
            yield item if type_ != "Reachable" else _esaw_item(each, item)


def _repeats_reachable(organization: Organization, summary: Condition) -> bool:
    """Whether the summary says only what the condition Reachable says."""
    reachable = find_condition(organization.status.conditions, "Reachable")
    return reachable is not None and (reachable.reason, reachable.message) == (
        summary.reason,
        summary.message,
    )


def _esaw_item(organization: Organization, item: AttentionItem) -> AttentionItem:
    """Add to the entry about an eSAW its address, and the events that wait for it."""
    problems = open_problems(organization, ProblemKind.ESAW)
    return replace(
        item,
        name=_reachable(organization.name),
        address=organization.spec.base_url,
        count=sum(each.count for each in problems),
        examples=tuple(name for each in problems for name in each.examples)[:MAX_EXAMPLES],
    )


def _failing_calls(snapshot: ClusterSnapshot) -> Iterable[AttentionItem]:
    """Yield the eSAWs that answer, as far as is known, but refuse what events need."""
    for each in snapshot.organizations:
        reachable = find_condition(each.status.conditions, "Reachable")
        if reachable is None or reachable.status == "False":
            continue
        for problem in open_problems(each, ProblemKind.ESAW):
            refused = [
                one
                for one in snapshot.retrying
                if (one.organization, one.status.cause) == (each.name, problem.reason)
            ]
            yield AttentionItem(
                kind=AttentionKind.ORGANIZATION,
                name=_reachable(each.name),
                title=each.name,
                organization=each.name,
                reason=problem.reason,
                message=problem.message or "",
                count=problem.count,
                since=_since(refused, [problem]),
                examples=problem.examples[:MAX_EXAMPLES],
                suspended=each.spec.suspend,
            )


def _senders(snapshot: ClusterSnapshot) -> Iterable[AttentionItem]:
    parked: dict[str, list[EnvelopeEvent]] = {}
    for event in snapshot.waiting:
        parked.setdefault(sender_of(event), []).append(event)
    keys: dict[tuple[str, str], AttentionItem] = {}
    refs = (each.spec.default_sender_ref for each in snapshot.organizations)
    # Nearly each envelope of an Organization may need the key of its default Sender.
    defaults = {ref.name for ref in refs if ref is not None}
    for sender in snapshot.senders:
        refused = key_failure(sender)
        events = parked.pop(sender.name, [])
        is_needed = is_key_needed(sender) or sender.name in defaults
        if sender.spec.suspend or not (events or (refused is not None and is_needed)):
            continue
        reason = refused.reason if refused is not None else _reason(events)
        if not reason:
            continue
        entry = _sender_item(snapshot, sender, reason, events)
        entry = replace(
            entry, reason=key_cause(sender, organization_of(sender, snapshot.organizations), reason)
        )
        if find_reason(entry.reason).responsible is Responsible.ADMINISTRATOR:
            # A missing sealing key is one cause, for the keys of all its Senders.
            group = (sender.spec.organization_ref.name, entry.reason)
            keys[group] = _merged_key_item(keys.get(group), entry)
        else:
            yield entry
    yield from keys.values()
    for name, events in parked.items():
        yield AttentionItem(
            kind=AttentionKind.CONSENT,
            name=name or "?",
            organization=events[0].organization,
            reason=_reason(events),
            message=events[0].status.message or "",
            count=len(events),
            is_more=snapshot.is_more_waiting,
            examples=_names(events),
        )


def _sender_item(
    snapshot: ClusterSnapshot, sender: Sender, reason: str, events: list[EnvelopeEvent]
) -> AttentionItem:
    refused = find_condition(sender.status.conditions, "Authorized")
    # The controller counts them, too; where the list was cut off, its number is the better one.
    counted = sender.status.waiting_events
    return AttentionItem(
        kind=AttentionKind.CONSENT,
        name=sender.name,
        title=title_of(sender),
        organization=sender.spec.organization_ref.name,
        reason=reason,
        message=refused.message if refused is not None else "",
        count=max(len(events), counted) if snapshot.is_more_waiting else len(events) or counted,
        since=refused.last_transition_time if refused is not None else None,
        since_condition=refused.type if refused is not None else "",
        examples=_names(events),
        advice=key_advice(sender, organization_of(sender, snapshot.organizations), reason),
        asked=sender.status.notified_time,
        senders=(sender.name,),
    )


def _merged_key_item(known: AttentionItem | None, entry: AttentionItem) -> AttentionItem:
    if known is None:
        return replace(entry, kind=AttentionKind.KEY, name=entry.reason, advice=None)
    return replace(
        known,
        title=f"{known.title}, {entry.title}"[:300],
        count=known.count + entry.count,
        examples=(*known.examples, *entry.examples)[:MAX_EXAMPLES],
        senders=(*known.senders, *entry.senders)[:MAX_EXAMPLES],
    )


def _reason(events: list[EnvelopeEvent]) -> str:
    return (events[0].status.reason or "") if events else ""


def _failures(snapshot: ClusterSnapshot) -> Iterable[AttentionItem]:
    counted: dict[tuple[str, str], list[ReportedProblem]] = {}
    for organization, problem in _open_problems(snapshot, ProblemKind.FAILED):
        counted.setdefault((organization, problem.reason), []).append(problem)
    for (organization, reason), events in _by_cause(snapshot.failed).items():
        problems = counted.pop((organization, reason), [])
        # Where the list was cut off, the controller's count is the better one.
        count = sum(problem.count for problem in problems) if snapshot.is_more_failed else 0
        status = events[0].status
        yield AttentionItem(
            kind=AttentionKind.FAILED,
            name=reason or "?",
            organization=organization,
            reason=reason,
            message=status.cause_message,
            count=max(len(events), count),
            is_more=snapshot.is_more_failed and count <= len(events),
            since=_since(events, problems),
            examples=_names(events),
            events=tuple(events),
        )
    if not snapshot.is_more_failed:
        return
    # Failures of which no event was among those that were read.
    for (organization, reason), problems in counted.items():
        yield AttentionItem(
            kind=AttentionKind.FAILED,
            name=reason,
            organization=organization,
            reason=reason,
            message=problems[0].message or "",
            count=sum(problem.count for problem in problems),
            since=min(problem.start_time for problem in problems),
            examples=problems[0].examples[:MAX_EXAMPLES],
        )


def _retries(snapshot: ClusterSnapshot) -> Iterable[AttentionItem]:
    """Yield the causes that only a person can solve, of events that are not finished."""
    untold = (each for each in snapshot.retrying if not _is_told_otherwise(snapshot, each))
    for (organization, reason), events in _by_cause(untold).items():
        if not reason or find_reason(reason).responsible is Responsible.NOBODY:
            continue
        status = events[0].status
        yield AttentionItem(
            kind=AttentionKind.RETRYING,
            name=reason,
            organization=organization,
            reason=reason,
            message=status.message or (status.last_error.message if status.last_error else ""),
            count=len(events),
            is_more=snapshot.is_more_retrying,
            since=_since(events),
            examples=_names(events),
            senders=tuple(dict.fromkeys(map(sender_of, events)))[:MAX_EXAMPLES],
        )


def _is_told_otherwise(snapshot: ClusterSnapshot, event: EnvelopeEvent) -> bool:
    """Whether the entry of an Archive or an Organization tells why this event waits."""
    reason, archive = event.status.cause, snapshot.awaited_archive(event)
    if reason in ("OrganizationSuspended", "ArchiveSuspended"):
        return True
    mine = next((each for each in snapshot.organizations if each.name == event.organization), None)
    if mine is None:
        return False
    # What the Organization says about Archives is about those that it names.
    is_of_another = server_of(reason) is Server.ARCHIVE and archive not in ("", *archive_names(mine.spec))
    for condition in mine.status.conditions:
        if condition.status == "False" and condition.reason == reason != "ArchiveNotReady":
            return not is_of_another
    if any(problem.reason == reason for problem in open_problems(mine, ProblemKind.ESAW)):
        return True
    return is_about_archive(reason) and any(each.name == archive for each in _broken(snapshot.archives))


def _needs(snapshot: ClusterSnapshot, organization: Organization, archive: Archive) -> bool:
    """
    Whether an Organization needs an Archive: its spec names it, its events have chosen it, or a mail told
    that events or Imports of the Organization wait for it.

    A person who suspends what the Organization names knows it. What only its events or a mail name may be
    forgotten.
    """
    told = open_problems(organization, ProblemKind.ARCHIVE)
    is_named = archive.name in archive_names(organization.spec)
    if archive.spec.suspend:
        told = [each for each in told if each.reason == ARCHIVE_SUSPENDED]
        waiting = snapshot.unfinished_of(organization.name, archive.name)
        # That of an Import is named by the Import: only the controller knows whether it does so still.
        chosen = map(snapshot.needed_choice, waiting)
        is_chosen = any(each is None or each.import_ is None for each in chosen)
        return not is_named and (is_chosen or any(archive_of(each) == archive.name for each in told))
    is_chosen = bool(snapshot.unfinished_of(organization.name, archive.name))
    return is_named or is_chosen or any(archive_of(each) == archive.name for each in told)


def _broken(archives: Iterable[Archive]) -> Iterable[Archive]:
    ready = ((each, find_condition(each.status.conditions, "Ready")) for each in archives)
    return (each for each, condition in ready if condition is not None and condition.status == "False")


def _by_cause(events: Iterable[EnvelopeEvent]) -> dict[tuple[str, str], list[EnvelopeEvent]]:
    groups: dict[tuple[str, str], list[EnvelopeEvent]] = {}
    for event in events:
        groups.setdefault((event.organization, event.status.cause), []).append(event)
    return groups


def _since(events: Iterable[EnvelopeEvent], problems: Iterable[ReportedProblem] = ()) -> datetime | None:
    """Return when a cause began. A retry that fails again does not make it younger."""
    times = [problem.start_time for problem in problems]
    for event in events:
        status = event.status
        failed = [
            each.start_time
            for each in status.attempt_history
            if each.reason == status.cause and each.outcome is not AttemptOutcome.DONE
        ]
        times += failed
        # Of many attempts the history has the last ones only.
        is_older = len(failed) == len(status.attempt_history) < status.attempts
        if failed and is_older and status.phase_start_time is not None:
            times.append(status.phase_start_time)
        times += [time for time in (status.completion_time,) if time is not None]
        if status.last_error is not None and status.last_error.reason == status.cause:
            times.append(status.last_error.time)
    return min(times, default=None)


def _reported(snapshot: ClusterSnapshot, kind: ProblemKind) -> Iterable[AttentionItem]:
    for organization, problem in _open_problems(snapshot, kind):
        yield AttentionItem(
            kind=AttentionKind(kind),
            name=archive_of(problem) if kind is ProblemKind.COPY else problem.reason,
            organization=organization,
            reason=problem.reason,
            message=problem.message or "",
            count=problem.count,
            since=problem.start_time,
            examples=problem.examples[:MAX_EXAMPLES],
        )


def _open_problems(snapshot: ClusterSnapshot, kind: ProblemKind) -> list[tuple[str, ReportedProblem]]:
    """Return the open problems of a kind, as the controller counted them, each with its organization."""
    return [(each.name, problem) for each in snapshot.organizations for problem in open_problems(each, kind)]


def _imports(snapshot: ClusterSnapshot, known: Iterable[AttentionItem]) -> Iterable[AttentionItem]:
    """Yield the Imports that stand still, one entry for each Organization and reason. The problem that a mail
    reports later is the same; ``known`` are the other entries."""
    others = list(known)
    groups: dict[tuple[str, str], list[tuple[Import, Condition]]] = {}
    for each in sorted(snapshot.imports, key=lambda each: each.name):
        condition = _standstill(snapshot, each)
        if condition is not None and not any(_is_told(item, each, condition) for item in others):
            groups.setdefault((each.organization, condition.reason), []).append((each, condition))
    for (organization, reason), members in groups.items():
        yield AttentionItem(
            kind=AttentionKind.IMPORT,
            name=reason,
            organization=organization,
            reason=reason,
            message=members[0][1].message,
            count=len(members),
            since=min(condition.last_transition_time for _, condition in members),
            examples=tuple(each.name for each, _ in members[:MAX_EXAMPLES]),
        )


def _is_told(item: AttentionItem, imported: Import, condition: Condition) -> bool:
    """Whether an entry tells why an Import stands still."""
    if item.reason != condition.reason:
        return False
    is_of_archive = condition.message.startswith(f"Archive/{item.name}:")
    return (
        is_of_archive if item.kind is AttentionKind.ARCHIVE else imported.organization in item.organizations
    )


def _standstill(snapshot: ClusterSnapshot, imported: Import) -> Condition | None:
    """Return why an Import stands still until a person acts; None if it works, or if a person suspended it or
    what it needs."""
    created = imported.metadata.creation_timestamp
    if (
        created is not None
        and snapshot.read_time is not None
        and is_unprocessed(imported, snapshot.read_time)
    ):
        unwritten = Condition(
            type="Ready", status="False", reason=NOT_PROCESSED, message="", last_transition_time=created
        )
        return unwritten if not snapshot.unheld_shards else None
    stalled = find_condition(imported.status.conditions, "Stalled")
    is_held = imported.spec.suspend or stalled is None or stalled.status != "True"
    return None if is_held or stalled is None or stalled.reason in _SUSPENDED else stalled


def is_unprocessed(imported: Import, now: datetime) -> bool:
    """Whether no controller has processed an Import in time."""
    created = imported.metadata.creation_timestamp
    return not is_processed(imported) and created is not None and now - created >= UNPROCESSED


def _names(events: list[EnvelopeEvent]) -> tuple[str, ...]:
    return tuple(each.name for each in events[:MAX_EXAMPLES])


def sender_of(event: EnvelopeEvent) -> str:
    """Return the name of the event's Sender as far as it is known; empty for unknown."""
    seen = event.status.envelope
    if seen is not None and seen.sender_ref is not None:
        return seen.sender_ref.name
    return event.metadata.labels.get(SENDER_LABEL, "")


def title_of(sender: Sender) -> str:
    """Return what people call a sender."""
    return sender.spec.full_name or sender.spec.email or sender.name


def organization_of(sender: Sender, organizations: Iterable[Organization]) -> Organization | None:
    """Return the Organization of a sender; None if it is not among those that could be read."""
    return next((each for each in organizations if each.name == sender.spec.organization_ref.name), None)
