"""
The kinds of problems, and how each one ends. Pure.

A problem ends by its own solution only, which is a fact that was observed: an Archive that works, a key that
eSAW accepts, a pass over all events that finds no failed one. What is unknown ends nothing. If something else
ends a problem, the mail says what that was (``Ending``): only after ``SOLVED`` has nobody to do anything.

Mails, the page of tasks and the status of an Organization all use this module. It does not find problems and
counts no events.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Final

from counterfoil.i18n.key_advice import key_cause
from counterfoil.i18n.reasons import (
    CATALOGUE,
    UNKNOWN,
    ReasonContext,
    ReasonProperty,
    ReasonText,
    Responsible,
    Server,
    find_reason,
    has_property,
    server_of,
    text_of_failure,
)
from counterfoil.resources import (
    Archive,
    Condition,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventCopy,
    Import,
    Language,
    Organization,
    Phase,
    ReportedProblem,
    Sender,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.base import is_object_name, is_reason
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS
from counterfoil.resources.envelopeevent import COPY_GIVEN_UP
from counterfoil.resources.organization import ARCHIVE_SHARED, MAX_REASON_LENGTH
from counterfoil.resources.reopening import given_up_copies, has_given_up_copy


class ProblemKind(StrEnum):
    """Subject of a problem: the first part of its ``cause``. The docstrings name the solutions."""

    FAILED = "failed"
    """Events failed for one reason. A pass over all events finds no such event, failed or in retry."""
    ARCHIVE = "archive"
    """Events wait for an Archive. It is Ready."""
    ESAW = "esaw"
    """Events wait for eSAW. The Organization is Reachable. If eSAW refused what events need, and perhaps
    answered otherwise, a pass over all events finds none that it refused."""
    CALLBACK = "callback"
    """Callbacks are refused because of their token or login. The controller has published both."""
    KEY = "key"
    """Keys can't be used, and their senders can't change that. eSAW accepts them."""
    CONSENT = "consent"
    """Senders do not react to the mail about their key. eSAW accepts their keys."""
    RETENTION = "retention"
    """eSAW deletes envelopes soon that are not archived. A pass over all events finds none."""
    UNREADABLE = "unreadable"
    """Events can't be read; no problem of events is solved meanwhile. A pass over all events reads each."""
    WEBHOOK = "webhook"
    """Notices were given up. A pass over all events finds none, given up or in retry."""
    IMPORT = "import"
    """Imports can't continue for one reason. They do, or they are complete."""
    COPY = "copy"
    """Copies in one Archive are not tried any more, and nothing waits for them. A pass over all events finds
    none that is missing there after it failed."""
    DIGEST = "digest"
    """The daily mail about open problems: no problem, but tracked like one."""


ENDS_WITHOUT_MAIL: Final = frozenset({ProblemKind.DIGEST, ProblemKind.RETENTION})
"""Kinds whose end no mail announces. An envelope that eSAW deleted is not solved either."""

RETENTION_CAUSE: Final = f"{ProblemKind.RETENTION}/RetentionEnding"

UNREADABLE_CAUSE: Final = f"{ProblemKind.UNREADABLE}/EventUnreadable"

ARCHIVE_MISSING: Final = "ArchiveMissing"
"""Reason of a problem with an Archive that the Organization names and that does not exist."""

ARCHIVE_SUSPENDED: Final = "ArchiveSuspended"
"""Reason of a problem with an Archive that the Organization does not name, and for which events wait."""


CALLBACK_REASONS: Final = frozenset(
    {
        "BasicAuthMissing",
        "BasicAuthRefused",
        "CallbackTokenMissing",
        "CallbackTokenRefused",
        "SecretNotLabelled",
    }
)
"""Reasons of an Organization's Ready for which callbacks are refused."""

NO_ESAW_REASONS: Final = frozenset(
    {"EsawAddressForbidden", "EsawAnswerUnreadable", "EsawNotFound", "EsawRedirects"}
)
"""Reasons of Reachable for which nothing at the address shows that it is eSAW. They have ended as soon as a
server answers 401 or 403 there, as eSAW may."""


class Ending(StrEnum):
    """End of a problem; also the name of its text in the mail."""

    SOLVED = "Solved"
    ARCHIVE_UNUSED = "ArchiveUnused"
    """The Organization does not name the Archive any more, and no event waits for it."""
    WEBHOOK_REMOVED = "WebhookRemoved"
    """The Organization has no webhook any more; the notices stay undelivered."""
    ESAW_UNCONFIRMED = "EsawUnconfirmed"
    """Another address, or another answer. It is unknown whether this is eSAW until a key works there."""
    SENDER_SUSPENDED = "SenderSuspended"
    """The key does not work, and a person suspended the Sender."""
    SENDER_DELETED = "SenderDeleted"
    """A Sender is gone, or belongs to another Organization; nobody knows whether its key works."""
    KEY_OTHER_REASON = "KeyOtherReason"
    """A key does not work for another reason, which is another problem."""
    KEY_UNUSED = "KeyUnused"
    """A key that never worked does not work, and nothing waits for it any more."""
    IMPORT_DELETED = "ImportDeleted"
    IMPORT_SUSPENDED = "ImportSuspended"
    """A person suspended the Import."""
    IMPORT_OTHER_REASON = "ImportOtherReason"
    """An Import can't continue for another reason, which is another problem."""


def kind_of(problem: ReportedProblem) -> str:
    """Return the kind of a problem; a newer version may have stored one that is not in ``ProblemKind``."""
    return problem.cause.partition("/")[0]


def archive_of(problem: ReportedProblem) -> str:
    """Return the name of the Archive that a problem concerns; empty if it concerns none, or for a text that
    is no name."""
    parts = problem.cause.split("/")
    place = 1 if parts[0] in (ProblemKind.ARCHIVE, ProblemKind.COPY) else 2
    return parts[place] if len(parts) > place and is_object_name(parts[place]) else ""


def problem_reason(reason: str) -> str:
    """Return the reason with which a problem is stored: a status may have any text in its place, and the
    schema of problems refuses all that is no reason or too long."""
    return reason if is_reason(reason) and len(reason) <= MAX_REASON_LENGTH else UNKNOWN


def reason_cause(kind: ProblemKind, reason: str) -> str:
    """Return the cause of a problem that has its own one for each reason."""
    return f"{kind}/{problem_reason(reason)}"


def copy_cause(archive: str) -> str:
    """Return the cause of the problem with the copies in an Archive that are not tried any more."""
    return f"{ProblemKind.COPY}/{archive}"


def import_of(problem: ReportedProblem) -> str:
    """Return the name of the one Import that a problem concerns; empty if it concerns several, or none."""
    is_one = kind_of(problem) == ProblemKind.IMPORT and problem.count == 1
    return next(iter(problem.examples), "") if is_one else ""


def is_same_action(first: str, second: str) -> bool:
    """Whether the same person must do the same about both reasons of one problem."""
    is_outage = all(has_property(each, ReasonProperty.SERVER_DOWN) for each in (first, second))
    return first == second or is_outage


def told_reason(problem: ReportedProblem) -> str:
    """Return the reason that the last mail about a problem named."""
    return problem.notified_reasons[-1] if problem.notified_reasons else problem.reason


def is_solved(problem: ReportedProblem) -> bool:
    """Whether an ended problem ended by its solution. A version that knew no endings stored none."""
    return problem.ending in (None, Ending.SOLVED)


def open_problems(organization: Organization, kind: ProblemKind) -> list[ReportedProblem]:
    """Return the problems of a kind that have not ended."""
    problems = organization.status.problems
    return [each for each in problems if kind_of(each) == kind and each.solved_time is None]


def task_anchor(kind: str, organization: str, name: str) -> str:
    """Return the place of a task on the console's page. A task about an Archive is of no Organization."""
    return f"{kind}-{organization}-{name}"


# -- Events ----------------------------------------------------------------------------------------------


def is_about_archive(reason: str) -> bool:
    """Whether an event with this reason waits for the Archive itself, whose condition Ready says more."""
    is_general = reason in ("ArchiveNotReady", "ArchiveNotProbed", "ArchiveProbeOverdue")
    return is_general or ReasonContext.ARCHIVE in find_reason(reason).contexts


def archive_message(ready: Condition, archive: Archive, unnamed: Iterable[Organization]) -> str:
    """Return the message of an Archive that does not work. Events of the ``unnamed`` Organizations wait for
    it, whose spec does not name it."""
    because = (
        f"Organization/{each.name} does not name it any more, and its events wait for it." for each in unnamed
    )
    suspended = f"spec.suspend of Archive/{archive.name} is true." if archive.spec.suspend else ready.message
    return " ".join(filter(None, (suspended, *because)))


def newer_condition(
    event: EnvelopeEvent,
    *,
    sender: Sender | None = None,
    archive: Archive | None = None,
    organization: Organization | None = None,
) -> Condition | None:
    """
    Return what the object that an unfinished event waits for says now; None: what the event says counts.

    A waiting event keeps the reason of its last attempt, and the object may have another one since. A key
    that works lets the event continue, so it counts too. If an archive or an eSAW works, the next attempt of
    the event decides.
    """
    status, reason = event.status, event.status.reason or ""
    found = None
    if status.phase is Phase.AWAITING_CONSENT and sender is not None:
        # Its message may change for the same reason.
        return find_condition(sender.status.conditions, "Authorized")
    if status.phase.is_final or not reason:
        return None
    if server_of(reason) is Server.ESAW and organization is not None:
        found = find_condition(organization.status.conditions, "Reachable")
    elif archive is not None and is_about_archive(reason):
        found = find_condition(archive.status.conditions, "Ready")
    if found is None or found.reason == reason or found.status != "False":
        return None
    return found


# -- Keys ------------------------------------------------------------------------------------------------


def key_failure(sender: Sender) -> Condition | None:
    """Return the condition of a key that is known not to work; None for any other key."""
    found = find_condition(sender.status.conditions, "Authorized")
    return found if found is not None and found.status == "False" else None


def is_key_needed(sender: Sender) -> bool:
    """Whether events wait for the key, or it worked before."""
    key = sender.status.key
    return sender.status.waiting_events > 0 or (key is not None and key.verified_time is not None)


def _is_key_unknown(sender: Sender) -> bool:
    found = find_condition(sender.status.conditions, "Authorized")
    return found is None or found.status == "Unknown"


# -- Endings ---------------------------------------------------------------------------------------------


def archive_ending(problem: ReportedProblem, used: Collection[str], archive: Archive | None) -> Ending | None:
    """Return how a problem with an Archive ended; None: it is open. ``used`` are the names of the Archives of
    the Organization and of its events; ``archive`` is None if it does not exist."""
    if archive_of(problem) not in used:
        return Ending.ARCHIVE_UNUSED
    is_ready = archive is not None and is_condition_true(archive.status.conditions, "Ready")
    return Ending.SOLVED if is_ready else None


def esaw_ending(problem: ReportedProblem, organization: Organization) -> Ending | None:
    """
    Return how a problem with eSAW ended; None: it is open.

    One with examples was found by a pass over all events, so only a pass ends it. While it is unknown who
    answers, an outage has ended only if it was that of another address, or if this answer disproves its
    reason.
    """
    reachable = find_condition(organization.status.conditions, "Reachable")
    if reachable is None or reachable.status == "False" or problem.examples:
        return None
    if reachable.status == "True":
        return Ending.SOLVED
    access, seen = organization.status.envelope_access, problem.last_seen_time or problem.start_time
    is_moved = access is not None and access.observed_time is not None and access.observed_time > seen
    is_over = is_moved or problem.reason in NO_ESAW_REASONS
    return Ending.ESAW_UNCONFIRMED if is_over else None


def are_callbacks_refused(organization: Organization) -> bool:
    """Whether the receiver refuses callbacks with one of the tokens: it has no hash of it or of its login."""
    callback, status = organization.spec.callback, organization.status
    needs_login = callback.basic_auth_secret_ref is not None
    if not status.callback_tokens:
        # None is published, or an earlier version does not tell which hash is whose.
        lacks_token = len(status.callback_token_hashes) < len(callback.token_secret_refs)
        return lacks_token or (
            needs_login and len(status.basic_auth_hashes) < len(status.callback_token_hashes)
        )
    known = {
        (each.name, each.key) for each in status.callback_tokens if each.basic_auth_hash or not needs_login
    }
    return any((each.name, each.key) not in known for each in callback.token_secret_refs)


def callback_failure(organization: Organization) -> Condition | None:
    """Return the condition for which callbacks are refused; None: they are not, or for another reason."""
    ready = find_condition(organization.status.conditions, "Ready")
    # A Secret that can't be read refuses none whose hash was published before.
    reasons = CALLBACK_REASONS | UNREAD_SECRET_REASONS
    if ready is None or ready.status != "False" or ready.reason not in reasons:
        return None
    return ready if are_callbacks_refused(organization) else None


def callback_ending(organization: Organization) -> Ending | None:
    """Return how a problem with callbacks ended; None: it is open. Without a summary nothing is known."""
    is_known = find_condition(organization.status.conditions, "Ready") is not None
    return Ending.SOLVED if is_known and not are_callbacks_refused(organization) else None


def key_ending(
    problem: ReportedProblem, senders: Iterable[Sender], organization: Organization
) -> Ending | None:
    """
    Return how a problem with keys ended that no sender of the Organization has now; None: it is open.

    A problem that names only some of its senders may be one of all. Of senders that are not named, only a
    suspended one with the same reason is known to belong to it.
    """
    senders = list(senders)
    named = [each for each in senders if each.name in problem.examples]
    possible = named if problem.count <= len(problem.examples) else senders
    unknown = [each for each in possible if _is_key_unknown(each)]
    if any(is_key_needed(each) and not each.spec.suspend for each in unknown):
        return None
    same = [
        each
        for each in possible
        if (found := key_failure(each))
        and problem.reason in (found.reason, key_cause(each, organization, found.reason))
    ]
    unproven = [each for each in named if each in unknown]
    if any(each.spec.suspend for each in (*same, *unproven)):
        return Ending.SENDER_SUSPENDED
    if len(named) < len(problem.examples):
        return Ending.SENDER_DELETED
    failing = [each for each in named if key_failure(each) is not None]
    if any(each not in same for each in failing):
        return Ending.KEY_OTHER_REASON
    return Ending.KEY_UNUSED if failing or unproven else Ending.SOLVED


# -- Imports ---------------------------------------------------------------------------------------------


_CONTINUES: Final = frozenset({"ImportComplete", "ImportRunning"})
"""Reasons of an Import that nothing holds."""


def import_failure(imported: Import) -> Condition | None:
    """
    Return the condition of an Import for which a person has to act.

    None: nobody has to, a person suspended it, or the problem is that of its Archive or its eSAW.
    """
    stalled = find_condition(imported.status.conditions, "Stalled")
    if stalled is None or stalled.status != "True" or imported.spec.suspend:
        return None
    reason = stalled.reason
    # An Archive with shared folders is ready, so it has no problem.
    is_of_archive = server_of(reason) is Server.ARCHIVE and reason != ARCHIVE_SHARED
    is_of_server = is_of_archive or server_of(reason) is Server.ESAW or reason == "EsawAddressForbidden"
    return (
        None
        if is_of_server or is_about_archive(reason) or reason in ("ImportSuspended", "OrganizationSuspended")
        else stalled
    )


def import_ending(problem: ReportedProblem, imports: Mapping[str, Import]) -> Ending | None:
    """
    Return how a problem with Imports of the Organization ended that none of them has now; None: it is open.

    A problem that names only some of its Imports may be one of all.
    """
    reason = problem.reason
    endings = [end_of_import(imports.get(each), reason) for each in problem.examples]
    if problem.count > len(problem.examples):
        endings += [None for each in imports.values() if end_of_import(each, reason) is None]
    unsolved = (each for each in _GIVEN_UP if each in endings)
    return None if None in endings else next(unsolved, Ending.SOLVED)


_GIVEN_UP: Final = (Ending.IMPORT_DELETED, Ending.IMPORT_SUSPENDED, Ending.IMPORT_OTHER_REASON)
"""Ends of the problem of an Import that are no solution, in the order in which a mail names one."""


def end_of_import(imported: Import | None, reason: str) -> Ending | None:
    """Return what ended the problem with this ``reason`` that an Import had (None: it was deleted); None:
    nothing did. Its hours and an outage end none."""
    if imported is None:
        return Ending.IMPORT_DELETED
    if imported.spec.suspend:
        return Ending.IMPORT_SUSPENDED
    if (failed := import_failure(imported)) is not None:
        return Ending.IMPORT_OTHER_REASON if failed.reason != reason else None
    ready = find_condition(imported.status.conditions, "Ready")
    return Ending.SOLVED if ready is not None and ready.reason in _CONTINUES else None


def given_up_reasons(status: EnvelopeEventStatus, organization: Organization | None) -> tuple[str, ...]:
    """
    Return why a person has to act about the copies and the notice of an event, in addition to its own reason.

    ``CopyGivenUp`` is followed by the reasons of these copies. ``organization`` is None if it could not be
    read.
    """
    spec = organization.spec if organization is not None else None
    found: list[str | None] = []
    if has_given_up_copy(status, spec):
        named = given_up_copies(status, spec) if spec is not None else None
        copies = [each for each in status.copies if named is None or each.ref.name in named]
        found = [COPY_GIVEN_UP, *(_copy_failure(each.reason) for each in copies)]
    found.append(notice_failure(status))
    return tuple(each for each in dict.fromkeys(found) if each is not None and each != status.cause)


def text_of_problem(
    kind: str, reason: str, message: str, language: Language = Language.ENGLISH
) -> ReasonText:
    """Return the text of the reason of a problem of this kind. For copies that were given up, the advice for
    the one in the ``message`` follows."""
    if kind == ProblemKind.FAILED:
        return text_of_failure(reason, language)
    text = find_reason(reason).localized_text(language)
    failure = _copy_failure(message.partition(":")[0]) if kind == ProblemKind.COPY else None
    if failure is None:
        return text
    return ReasonText(text.what, f"{text.do} {find_reason(failure).localized_text(language).do}".strip())


def copy_message(copy: EventCopy) -> str:
    """Return the message of a problem with this copy, which begins with its reason."""
    return f"{copy.reason}: {copy.message}"


def _copy_failure(reason: str | None) -> str | None:
    """Return the reason of a copy that was given up, if it is known that a person has to act; or None."""
    found = CATALOGUE.get(reason or "")
    return None if found is None or found.responsible is Responsible.NOBODY else found.name


def notice_failure(status: EnvelopeEventStatus) -> str | None:
    """Return the reason for which the notice of an event was given up, if a person has to act; or None."""
    lost = status.notice.given_up_reason if status.notice is not None else None
    is_solved = lost is None or find_reason(lost).responsible is Responsible.NOBODY
    return None if is_solved else lost
