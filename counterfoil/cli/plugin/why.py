"""``why``: one page about one event: its phase, its history, the next step, and who must act."""

import argparse
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import TextIO, TypeVar

import msgspec

from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import ExitStatus, counted, format_result, printable
from counterfoil.cli.plugin.missing_right import unread_text
from counterfoil.durations import Duration
from counterfoil.i18n.commands import (
    commands_in,
    controller_commands,
    copy_commands,
    end_commands,
    notice_commands,
    resume_commands,
    sender_commands,
)
from counterfoil.i18n.key_advice import key_advice
from counterfoil.i18n.problems import given_up_reasons, is_about_archive, newer_condition
from counterfoil.i18n.reasons import (
    Correction,
    ReasonContext,
    Responsible,
    corrections_of,
    find_reason,
    responsible_of,
    text_of,
)
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.shard_leases import served_shard_leases, unprocessed_change
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    REQUEST_LABEL,
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventCopy,
    NoticeState,
    Organization,
    Phase,
    Resource,
    Sender,
    find_condition,
)
from counterfoil.resources.audit_annotation import last_suspension
from counterfoil.resources.envelopeevent import SENDER_GRACE, SENDER_PENDING
from counterfoil.resources.lease import Absence, NamespaceNotServed
from counterfoil.resources.reopening import (
    copies_to_retry,
    explained_copies,
    is_open_to_callbacks,
    is_started_by_change,
    retries_copies,
    unplanned_copies,
)
from counterfoil.resources.request import attribution
from counterfoil.resources.routes import (
    awaited_archive,
    copy_names,
    last_choice,
    next_copy_time,
    way_elsewhere,
)
from counterfoil.retention import deletion_time, forbids_delete, removal_time

T = TypeVar("T")
R = TypeVar("R", bound=Resource)

SUMMARY = "say what happened to an event or envelope, what is next, and who must act"
DETAILS = "What you may not read is named, with the command that gives the right."

CONDITION_ORDER = (
    "Authorized",
    "Validated",
    "Collected",
    "EvidenceComplete",
    "KnownFilesListed",
    "FilesLeftBehind",
    "Archived",
    "ParametersArchived",
    "SignaturesChecked",
    "RestartChecked",
    "Copied",
    "DeleteRequested",
    "Cleaned",
)
"""Conditions in the order in which they come true."""

STATUS_TEXTS = {"True": "done", "False": "not yet", "Unknown": "unknown"}
FINDINGS = frozenset(
    {"DeleteRequested", "EvidenceComplete", "FilesLeftBehind", "ParametersArchived", "SignaturesChecked"}
)
"""Conditions that say what was found. The others are steps, and come true later."""

FINDING_TEXTS = {"True": "yes", "False": "no", "Unknown": "unknown"}
RESPONSIBLE_TEXTS = {
    Responsible.NOBODY: "nobody has to act",
    Responsible.SENDER: "the sender",
    Responsible.ADMINISTRATOR: "an administrator",
}
CORRECTION_TEXTS = {
    Correction.ARCHIVE: "an Archive that it needs is changed, or Ready after it was not",
    Correction.ORGANIZATION: "its Organization is changed, or Reachable after it was not",
    Correction.ORGANIZATION_SPEC: "the spec of its Organization is changed",
    Correction.ENVELOPE_ACCESS: "spec.baseURL or spec.defaultSenderRef of its Organization is changed",
    Correction.SENDER: "its Sender is created again or gets another key, or its Secret can be read again",
}
"""
Changes of objects that start a failed event again.

No condition shows some corrections. ESAW may have told its version while it refused calls, and no probe
writes into a folder below the root of an Archive. These start an event once at most, if another one succeeds.
"""
NOT_PROCESSED = "NotProcessed"
NEXT_WITHOUT_CONTROLLER = "nothing until a controller runs"
NEXT_IF_NOT_SERVED = "nothing until a release lists the namespace"
CONTROLLER_UNKNOWN = "not known, since the Leases that tell whether a controller works could not be read"
MAX_KUBERNETES_EVENTS = 8
"""Kubernetes Events that are shown."""


class ConditionSummary(msgspec.Struct, frozen=True, rename="camel"):
    """One condition."""

    name: str
    status: str
    reason: str
    message: str


class RequestSummary(msgspec.Struct, frozen=True, rename="camel"):
    """The last request of a person, and its result."""

    request: str
    outcome: str
    by: str | None
    reason: str | None
    message: str | None
    when: datetime


class AttemptSummary(msgspec.Struct, frozen=True, rename="camel"):
    """One attempt of one phase."""

    phase: str
    outcome: str
    reason: str
    start: datetime
    seconds: int


class EventExplanation(msgspec.Struct, frozen=True, rename="camel"):
    """Explanation of an event: its state, the next step, and who must act."""

    event: str
    envelope: str
    envelope_name: str
    organization: str
    action: str
    origin: str
    deliveries: int
    received: datetime | None
    """When the first callback arrived, or a person or the sweep created the event."""
    ended: datetime | None
    """When the event reached its final phase."""
    sender: str | None
    phase: str
    reason: str | None
    message: str | None
    means: str
    next: str
    turn: str
    do: str
    commands: tuple[str, ...]
    """Commands to type; a line that begins with ``#`` says when."""
    consent_url: str | None
    last_error: str | None
    route: str | None
    """The Archive that the event has chosen, and why; None: it has not chosen."""
    archive: str | None
    copies: tuple[str, ...]
    """Location of each copy, or why it is missing."""
    esaw_deletion: str | None
    """When eSAW deletes the envelope that is not archived; null if that is unknown or loses nothing."""
    notice: str | None
    """State of the notice to the webhook; null without one."""
    suspension: str | None
    """Age, person and reason of a suspension, and what that of the event itself does; null without one."""
    controller: str | None
    """Why no controller works on the event; null if one does, or if the Leases can't be read."""
    steps: tuple[ConditionSummary, ...]
    attempts: tuple[AttemptSummary, ...]
    """The last attempts, oldest first."""
    last_request: RequestSummary | None
    happened: tuple[str, ...]
    unread: tuple[str, ...]
    """Objects that could not be read, each with the reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "event",
        type=selection.object_name(EnvelopeEvent),
        metavar="NAME|GUID",
        help="the event, by its name or its envelope's id",
    )
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="look in all namespaces")


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Print it. Raises ``CommandError``, ``ApiError``."""
    if args.all_namespaces:
        kube = kube.in_namespace(await selection.namespace_of(kube, args.event))
    event = await selection.select_event(kube, args.event)
    unread, unprocessed = list[str](), list[str]()

    async def optional(subject: str, reading: Awaitable[T]) -> T | None:
        """Return what is read; None if it can't be: the page is worth reading without it, too."""
        try:
            return await reading
        except NotFound:
            return None
        except ApiError as problem:
            unread.append(unread_text(subject, problem))
            return None

    async def get(kind: type[R], name: str) -> R | None:
        raw = await optional(kind.PLURAL, kube.get(kind, name))
        if raw is not None and kind in (Organization, Archive):
            unprocessed.append(unprocessed_change(kind.KIND, raw, datetime.now(UTC)))
        return kind.parse(raw) if raw is not None else None

    organization = await get(Organization, event.organization)
    sender = await get(Sender, name) if (name := _sender_of(event)) else None
    archive: Archive | None = None
    awaited = awaited_archive(event, organization.spec) if organization is not None else None
    if awaited is not None and is_about_archive(event.status.reason or ""):
        archive = await get(Archive, awaited)
    happened = await optional("Kubernetes Events", kube.events_regarding(event.uid, limit=100))
    now = datetime.now(UTC)
    leases = await optional("leases", served_shard_leases(kube, now, known=organization))
    why = explain(
        event,
        organization,
        sender,
        happened or (),
        now,
        archive=archive,
        absence=leases.unheld_shard(event.shard_number, now) if leases is not None else None,
        is_controller_unknown=leases is None,
        unread=tuple(unread),
    )
    if (stale := next(filter(None, unprocessed), "")) and not (why.controller or event.status.phase.is_final):
        why = _not_processed(why, stale, kube.namespace)
    out.write(format_result(args.output, why, page(why)))
    return ExitStatus.DONE


def controller_log(namespace: str) -> str:
    """Return the command that shows the end of the log of the controller."""
    return f"kubectl -n {namespace} logs -l app.kubernetes.io/component=controller --tail=20"


def _not_processed(why: EventExplanation, message: str, namespace: str) -> EventExplanation:
    """Return the explanation of an event that waits for an object whose status is older than its spec."""
    reason = find_reason(NOT_PROCESSED)
    return msgspec.structs.replace(
        why,
        reason=NOT_PROCESSED,
        message=message,
        means=reason.localized_text().what,
        next="nothing until a controller processes the change",
        turn=RESPONSIBLE_TEXTS[reason.responsible],
        do=reason.localized_text().do,
        commands=(controller_log(namespace),),
    )


def explain(
    event: EnvelopeEvent,
    organization: Organization | None,
    sender: Sender | None,
    kubernetes_events: Sequence[Raw],
    now: datetime,
    *,
    archive: Archive | None = None,
    absence: Absence | None = None,
    is_controller_unknown: bool = False,
    unread: tuple[str, ...] = (),
) -> EventExplanation:
    """
    Explain an event from the objects that were read; pure.

    ``archive`` is the Archive of the event, needed only for one that waits for it.
    ``absence`` says that no controller works on the event; None if one does, or if that is unknown
    (``is_controller_unknown``). ``unread`` names what could not be read.
    """
    status = event.status
    is_unknown = is_controller_unknown and not status.phase.is_final
    absence = absence if not status.phase.is_final else None
    is_abandoned, is_unserved = absence is not None, isinstance(absence, NamespaceNotServed)
    newer = newer_condition(event, sender=sender, archive=archive, organization=organization)
    # A failed deadline hides the original error; a person has to correct the cause of that error.
    cause = status.cause
    if newer is not None:
        cause = newer.reason
    if absence is not None:
        cause = absence.reason
    words = text_of(status, cause) if cause else None
    responsible = responsible_of(status, cause)
    without = NEXT_IF_NOT_SERVED if is_unserved else NEXT_WITHOUT_CONTROLLER
    following = without if is_abandoned else _next(event, organization, now)
    do, consent_url = words.do if words is not None else "", None
    said = newer.message if newer is not None else status.cause_message
    commands = _commands(event, organization, cause, said)
    if is_abandoned:
        found = controller_commands(absence, event.metadata.namespace or "default")
        commands = tuple(line for each in found for line in each.lines())
    is_key_needed = newer is None or newer.status != "True"
    if status.phase is Phase.AWAITING_CONSENT and sender is not None and is_key_needed and not is_abandoned:
        advice = key_advice(sender, organization, cause)
        responsible, do = advice.responsible, advice.text() or do
        if typed := advice.command_line(event.metadata.namespace or "default"):
            commands = (typed,)
        consent_url = advice.link or None
    if organization is not None and Correction.ARCHIVE in corrections_of(cause) and not is_abandoned:
        do = " ".join(filter(None, (do, way_elsewhere(event, organization.spec))))
    for each in given_up_reasons(status, organization) if not is_abandoned else ():
        given_up = find_reason(each)
        do = " ".join(filter(None, (do, given_up.localized_text().do)))
        if responsible is Responsible.NOBODY:
            responsible = given_up.responsible
    suspended = _suspended_object(cause, event, organization, sender, archive)
    if suspended is not None:
        resumed = resume_commands(suspended, event.metadata.namespace or "default")
        commands += tuple(each.line for each in resumed)
    turn = RESPONSIBLE_TEXTS[responsible]
    if is_unknown and responsible is Responsible.NOBODY:
        turn = CONTROLLER_UNKNOWN
    filed = status.archive
    deleted = deletion_time(event, organization.spec.retention) if organization is not None else None
    return EventExplanation(
        event=event.name,
        envelope=event.spec.envelope_id,
        envelope_name=status.envelope.name if status.envelope is not None else "",
        organization=event.organization,
        action=event.spec.action,
        origin=event.spec.origin,
        deliveries=event.deliveries,
        received=status.first_delivery_time or event.metadata.creation_timestamp,
        ended=status.completion_time if status.phase.is_final else None,
        sender=_sender_of(event),
        phase=status.phase,
        reason=newer.reason if newer is not None else status.reason,
        message=newer.message if newer is not None else status.message,
        means=words.what if words is not None else _phase_text(status.phase),
        next=f"{following}, if a controller works" if is_unknown else following,
        turn=turn,
        do=do,
        commands=commands,
        consent_url=consent_url,
        last_error=_last_error(event, now),
        route=_route_text(event, organization),
        # Until the manifest is written, the archive is only the one that was chosen.
        archive=filed.manifest if filed is not None else None,
        copies=tuple(_copy_text(each, status, organization, now) for each in _copies(event, organization)),
        esaw_deletion=_format_time(deleted, now) if deleted is not None else None,
        notice=_notice(event, now),
        suspension=_suspension(suspended, now) if suspended is not None else None,
        controller=str(absence) if absence is not None else None,
        steps=_condition_summaries(event),
        attempts=tuple(
            AttemptSummary(each.phase, each.outcome, each.reason, each.start_time, each.duration_seconds)
            for each in status.attempt_history
        ),
        last_request=_request_summary(event),
        happened=_event_lines(kubernetes_events, now),
        unread=unread,
    )


def page(why: EventExplanation) -> str:
    """Return it as a page of text."""
    name = f" {why.envelope_name!r}" if why.envelope_name else ""
    calls = f", called {why.deliveries} times" if why.deliveries > 1 else ""
    because = f" ({why.reason})" if why.reason else ""
    lines = [
        _line("Event", why.event),
        _line("Envelope", f"{why.envelope}{name}"),
        _line("Belongs to", f"Organization/{why.organization}, sender {why.sender or 'not known yet'}"),
        _line("Recorded by", f"{why.origin}, action {why.action}{calls}"),
        *([_line("Received", _clock(why.received))] if why.received else []),
        *([_line("Ended", _clock(why.ended))] if why.ended else []),
        "",
        _line("Phase", f"{why.phase}{because}"),
        _line("What", why.means),
    ]
    lines += [_line("", why.message)] if why.message and why.message != why.means else []
    lines += [_line("Suspended", why.suspension)] if why.suspension else []
    lines += [_line("Controller", why.controller)] if why.controller else []
    # Each sentence once: the last problem and a step often repeat the message.
    last_error = why.last_error.removesuffix(f": {why.message}") if why.last_error else None
    lines += [_line("Last problem", last_error)] if last_error else []
    lines += [_line("Next", why.next), _line("Who must act", why.turn)]
    lines += [_line("To do", why.do)] if why.do else []
    lines += [_line("" if number else "To type", each) for number, each in enumerate(why.commands)]
    lines += [_line("Deleted there", f"{why.esaw_deletion}, by eSAW itself")] if why.esaw_deletion else []
    lines += [_line("Consent link", why.consent_url)] if why.consent_url else []
    lines += [_line("Route", why.route)] if why.route else []
    lines += [_line("Filed", why.archive)] if why.archive else []
    lines += [_line("Copy", each) for each in why.copies]
    lines += [_line("Last request", _request_text(why.last_request))] if why.last_request else []
    lines += [_line("Notice", why.notice)] if why.notice else []
    if why.steps:
        lines += ["", "Steps"]
    for each in why.steps:
        message = "as above" if each.message and each.message in (why.message, why.means) else each.message
        texts = FINDING_TEXTS if each.name in FINDINGS else STATUS_TEXTS
        word = "kept" if each.reason == "ArchivedAndKept" else texts.get(each.status, each.status)
        lines.append(f"  {each.name:<18}{word:<9}{message}")
    if why.attempts:
        lines += ["", "Last attempts"]
    for attempt in why.attempts:
        lines.append(
            f"  {_clock(attempt.start)}  {attempt.phase:<12}{Duration(seconds=attempt.seconds)!s:<8}"
            f"{attempt.outcome}: {attempt.reason}"
        )
    if why.happened:
        lines += ["", "Kubernetes Events (kept for an hour)", *(f"  {each}" for each in why.happened)]
    if why.unread:
        lines += ["", "Not read", *(f"  {each}" for each in why.unread)]
    return "".join(f"{printable(line)}\n" for line in lines)


def _line(title: str, text: str) -> str:
    return f"{title:<14}{text}"


def _copies(event: EnvelopeEvent, organization: Organization | None) -> tuple[EventCopy, ...]:
    """Return the entry of each copy; of an archived event also of those that its status does not name."""
    return explained_copies(event.status, organization.spec if organization is not None else None)


def _copy_text(
    copy: EventCopy, status: EnvelopeEventStatus, organization: Organization | None, now: datetime
) -> str:
    """Return where a copy is, or why it is missing and when it is tried again."""
    name = f"Archive/{copy.ref.name}"
    if copy.verified_time is not None:
        return f"{name}, verified {_clock(copy.verified_time)}: {copy.manifest}"
    following = _next_copy(copy, status, organization, now)
    untold = "not made yet" if copy.attempts else "not tried yet"
    return f"{name}, missing: {copy.reason or untold}, {following}. {copy.message or ''}".rstrip()


def _next_copy(
    copy: EventCopy, status: EnvelopeEventStatus, organization: Organization | None, now: datetime
) -> str:
    name, phase, planned = copy.ref.name, status.phase, copy.next_attempt_time
    if organization is not None and name not in copy_names(organization.spec):
        return "no attempt is planned, since spec.copies does not name it"
    is_retried = retries_copies(status)
    if organization is not None:
        is_retried = name in copies_to_retry(status, organization.spec)
    if planned is not None and is_retried:
        return f"next attempt {_pass_time(planned, now)}"
    if planned is not None and not phase.is_final:
        return f"next attempt {_format_time(planned, now)}"
    if not phase.is_final and phase is not Phase.CLEANING:
        return "tried in the next attempt of the event"
    if organization is None:
        return "not known whether it is tried again, since the Organization could not be read"
    if name in unplanned_copies(status, organization.spec):
        return "no attempt is planned"
    return (
        "tried again as soon as nothing prevents it" if is_retried else "made before the envelope is deleted"
    )


def _route_text(event: EnvelopeEvent, organization: Organization | None) -> str | None:
    """
    Return which Archive the event came to and why; None: to none, or there is only one.

    The routes can be younger than the choice. So their conditions are those of now, and where none led there,
    it is not said that they were judged.
    """
    choice, routes = last_choice(event.status), organization.spec.routes if organization is not None else ()
    if choice is not None and choice.import_ is not None:
        return f"to Archive/{choice.archive}, which Import/{choice.import_} named"
    if choice is None or (choice.route is None and not routes):
        return None
    if choice.route is None:
        ref = organization.spec.archive_ref if organization is not None else None
        is_same = ref is None or ref.name == choice.archive
        changed = "" if is_same or ref is None else f", which names Archive/{ref.name} now"
        return f"to Archive/{choice.archive} by spec.archiveRef{changed}, not by a route"
    taken = f"to Archive/{choice.archive} by the route {choice.route}"
    if organization is None:
        return taken
    route = next((each for each in routes if each.name == choice.route), None)
    if route is None:
        why = "which spec.routes of the Organization does not have any more"
    elif route.archive_ref.name != choice.archive:
        why = f"which leads to Archive/{route.archive_ref.name} now"
    else:
        why = f"which now holds if {route.when}"
    return f"{taken}, {why}"


def _sender_of(event: EnvelopeEvent) -> str | None:
    summary = event.status.envelope
    if summary is not None and summary.sender_ref is not None:
        return summary.sender_ref.name
    return event.metadata.labels.get(SENDER_LABEL)


def _suspended_object(
    cause: str, event: EnvelopeEvent, *objects: Organization | Sender | Archive | None
) -> Resource | None:
    """Return what a person suspended: the event, or else what an event with this reason waits for."""
    if event.spec.suspend:
        return event
    suspended = (each for each in objects if each is not None and each.spec.suspend)
    return next((each for each in suspended if cause == f"{each.KIND}Suspended"), None)


def _suspension(suspended: Resource, now: datetime) -> str:
    """Return who suspended an object, and what that does to an event."""
    act = last_suspension(suspended.metadata.annotations)
    said = "It is not recorded since when and by whom."
    if act is not None:
        because = f": {act.why}" if act.why else ""
        said = f"since {_age(act.when, now)}, by {act.who}{because}"
    if not isinstance(suspended, EnvelopeEvent):
        return said
    if not suspended.status.phase.is_final:
        effect = "The event waits until it is resumed."
    elif forbids_delete(suspended):
        effect = "The envelope is not deleted in eSignAnyWhere, and this event stays beyond spec.ttl."
    else:
        effect = "The event has ended, so this changes nothing."
    return f"{said.rstrip('.')}. {effect}"


def _commands(
    event: EnvelopeEvent, organization: Organization | None, cause: str, message: str
) -> tuple[str, ...]:
    """Return what to type about an event: what its message says, and for a failed one what ends that. Missing
    copies that are not tried again add what asks for them."""
    namespace = event.metadata.namespace or "default"
    found = sender_commands(event, cause, namespace) + commands_in(message, cause, namespace)
    found += copy_commands(event, organization, namespace)
    found += notice_commands(event, namespace)
    if event.status.phase is Phase.FAILED:
        found += end_commands(event, cause, namespace)
    return tuple(line for each in found for line in each.lines())


def _phase_text(phase: Phase) -> str:
    if phase is Phase.PENDING:
        return "The event is recorded; no attempt is recorded yet."
    return "The event is in progress; there is no error."


def _next(event: EnvelopeEvent, organization: Organization | None, now: datetime) -> str:
    status = event.status
    if asked := event.metadata.labels.get(REQUEST_LABEL):
        return (
            f"a person asked for {asked}; the controller carries it out as soon as nobody works on the "
            "envelope"
        )
    if status.phase is Phase.AWAITING_CONSENT:
        return "continues automatically as soon as the sender's key works"
    if status.phase.is_final and status.next_attempt_time is not None:
        return f"the files of the envelope are listed again {_format_time(status.next_attempt_time, now)}"
    is_tried_again = organization is not None and bool(copies_to_retry(status, organization.spec))
    if status.phase is Phase.SUCCEEDED or (status.phase.is_final and is_tried_again):
        return _after_end(event, organization, now)
    changes = corrections_of(status.cause)
    starts = [text for each, text in CORRECTION_TEXTS.items() if each in changes]
    if is_started_by_change(event):
        starts.append("a sweep or an Import lists the envelope with another status")
    if status.phase is Phase.FAILED and starts:
        fixed = ", or ".join(starts)
        at_once = "a new callback or `kubectl counterfoil retry` starts it at once"
        others = (
            "Any other correction may need that: `retry --all-failed --reason REASON` starts all of one cause"
        )
        return f"starts again automatically as soon as {fixed}; {at_once}. {others}"
    if status.phase.is_final:
        who = "a new callback or" if is_open_to_callbacks(status) else "only"
        return f"nothing automatically; {who} `kubectl counterfoil retry` starts it again"
    if status.reason == "ActionNotConfigured":
        handling = " with handling Archive" if status.is_archiving_begun else ""
        return f"continues when spec.actions of the Organization lists the action{handling}"
    if status.reason and ReasonContext.HELD in find_reason(status.reason).contexts:
        return "continues when the suspension ends"
    if status.next_attempt_time is None:
        return "worked on as soon as there is room, oldest first"
    return (
        f"attempt {status.attempts + 1} "
        f"{_format_time(status.next_attempt_time, now)}{_deadline(event, organization, now)}"
    )


def _after_end(event: EnvelopeEvent, organization: Organization | None, now: datetime) -> str:
    status = event.status
    if organization is not None and copies_to_retry(status, organization.spec):
        copied = next_copy_time(status, organization.spec)
        when = _pass_time(copied, now) if copied is not None else "as soon as nothing prevents it"
        return (
            f"a missing copy is tried again {when}; until it is made or given up, this EnvelopeEvent is not "
            "removed. A suspended Organization or Archive prevents each try"
        )
    first = "a new callback starts it again" if is_open_to_callbacks(status) else "nothing"
    removed = removal_time(event, organization.spec) if organization is not None else None
    if removed is None:
        return first
    days = max(1, round((removed - now).total_seconds() / 86400))
    kept = "the archived files stay" if status.archive is not None else "no archived file is affected"
    return f"{first}; this EnvelopeEvent is removed in {counted(days, 'day')} ({_clock(removed)}), {kept}"


def _deadline(event: EnvelopeEvent, organization: Organization | None, now: datetime) -> str:
    received = event.metadata.creation_timestamp
    if event.status.reason == SENDER_PENDING and received is not None:
        return _end_of_grace(received + SENDER_GRACE, organization, now)
    started = event.status.phase_start_time
    if started is None or organization is None:
        return ""
    return f"; given up {_format_time(started + organization.spec.retry.deadline, now)} if it still fails"


def _end_of_grace(end: datetime, organization: Organization | None, now: datetime) -> str:
    has_default = organization is not None and organization.spec.default_sender_ref is not None
    if has_default:
        return f"; continues with the default Sender {_format_time(end, now)}"
    if end <= now:
        return "; fails as soon as no draft of the Organization is open"
    return (
        f"; fails {_format_time(end, now)} if no page records the sender by then, or later while a draft of "
        "the Organization is open"
    )


def _format_time(moment: datetime, now: datetime) -> str:
    seconds = round((moment - now).total_seconds())
    clock = _clock(moment)
    if seconds <= 0:
        return f"now (due since {clock})"
    return f"in {Duration(seconds=seconds)} ({clock})"


def _pass_time(moment: datetime, now: datetime) -> str:
    """As ``_format_time``, for what a pass over all events starts."""
    is_due = moment <= now
    return (
        f"in the next pass over the events (due since {_clock(moment)})"
        if is_due
        else _format_time(moment, now)
    )


def _age(moment: datetime, now: datetime) -> Duration:
    return Duration(seconds=max(0, round((now - moment).total_seconds())))


def _last_error(event: EnvelopeEvent, now: datetime) -> str | None:
    last = event.status.last_error
    if last is None or event.status.phase is Phase.SUCCEEDED:
        return None
    return f"{last.reason}, {_age(last.time, now)} ago: {last.message}"


def _request_summary(event: EnvelopeEvent) -> RequestSummary | None:
    last = event.status.last_request
    if last is None:
        return None
    return RequestSummary(
        last.request, last.outcome, last.by, last.reason, last.message, when=last.handled_time
    )


def _request_text(last: RequestSummary) -> str:
    asked = attribution(last.by, last.reason)
    return f"{last.request} at {_clock(last.when)}{asked}. {last.outcome}: {last.message or ''}".rstrip()


def _clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _notice(event: EnvelopeEvent, now: datetime) -> str | None:
    notice = event.status.notice
    if notice is None:
        return None
    if notice.delivered_time is not None:
        return f"the webhook confirmed it {_age(notice.delivered_time, now)} ago (id {notice.id})"
    problem, failed = notice.last_error, notice.state is NoticeState.FAILED
    because = f"; {problem.reason}: {problem.message}" if problem is not None else ""
    if failed:
        return f"given up after {counted(notice.attempts, 'attempt')}; `retry` sends it again{because}"
    if notice.next_attempt_time is None:
        return "to be delivered to the webhook"
    return f"attempt {notice.attempts + 1} {_format_time(notice.next_attempt_time, now)}{because}"


def _condition_summaries(event: EnvelopeEvent) -> tuple[ConditionSummary, ...]:
    found = (find_condition(event.status.conditions, name) for name in CONDITION_ORDER)
    return tuple(
        ConditionSummary(each.type, each.status, each.reason, each.message) for each in found if each
    )


def _event_lines(kubernetes_events: Sequence[Raw], now: datetime) -> tuple[str, ...]:
    timed = sorted(
        ((moment, each) for each in kubernetes_events if (moment := _time_of(each)) is not None),
        key=lambda pair: pair[0],
    )
    return tuple(
        f"{_age(moment, now)} ago  {each.get('type')}  {each.get('reason')}: {each.get('note', '')}"
        for moment, each in timed[-MAX_KUBERNETES_EVENTS:]
    )


def _time_of(kubernetes_event: Raw) -> datetime | None:
    metadata = kubernetes_event.get("metadata") or {}
    text = kubernetes_event.get("eventTime") or metadata.get("creationTimestamp")
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
