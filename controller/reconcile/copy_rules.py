"""
The decisions about copies: can one be made at all, and what does one change for which nothing waits? Pure.

What is wrong in the specs of the Organization and its Archives can't be solved by a retry, so a new event
waits before its first document moves. An Archive that is down, suspended or not created yet is no fault of
this kind: it delays no archiving.

Nothing waits for a copy that is not required, and for none of an event that had ended. Such a copy holds
no phase and changes no end (docs/decisions/0074). It is tried as often as fits into ``spec.retry.deadline``.
Tries count, because the Archive may be suspended meanwhile. Then the condition ``Copied`` says that a person
has to act.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from controller.file_list_ceiling import FILE_LIST_CEILING
from controller.reconcile.outcomes import Done, Hold, Outcome, Pause, PhaseFacts, SideCondition
from controller.scheduling.due import WAITING_FOR_ARCHIVE
from counterfoil.archives.layout import is_tag_in_path
from counterfoil.archives.proof import documents_digest, missing_copies
from counterfoil.archives.tags import reads_metadata
from counterfoil.resources import (
    MAX_MESSAGE_LENGTH,
    Condition,
    EnvelopeEventStatus,
    EventCopy,
    Organization,
    Phase,
    RetrySpec,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.archive import Archive, VerifyMode, has_same_folders
from counterfoil.resources.conditions import with_changes
from counterfoil.resources.envelopeevent import (
    COPY_GIVEN_UP,
    COPY_MISSING,
    MAX_COPY_MESSAGE,
    MISSING_COPY_REASONS,
    OPTIONAL_COPY_MISSING,
)
from counterfoil.resources.reopening import (
    ARCHIVED_AS_EXPIRED,
    reason_without_copies,
    takes_copies,
)
from counterfoil.resources.routes import (
    CopySpec,
    copy_names,
    failed_copy,
    former_copies,
    stored_copy,
    unverified_copies,
)

TRIED_AGAIN: Final = "While spec.copies names it, it is tried again, and nothing else waits for it."
"""Sentence about a missing copy for which nothing waits, also after a person removes it from the spec."""

AFTER_ARCHIVING: Final = "It is made after the envelope is archived again."
"""Sentence about a missing copy of an event whose archive is void."""

_RETRIED: Final = "It is made after a retry of the event."


class CopyFault(NamedTuple):
    """Why the copy in an Archive can't be made."""

    archive: str
    message: str


def copy_faults(
    copies: Sequence[CopySpec], originals: Sequence[str], archive_of: Callable[[str], Archive | None]
) -> tuple[CopyFault, ...]:
    """Return what is wrong with copies of envelopes in these first Archives; empty: nothing is known."""
    return tuple(
        CopyFault(each.archive_ref.name, fault)
        for position, each in enumerate(copies)
        if (fault := _fault(each.archive_ref.name, copies[:position], originals, archive_of)) is not None
    )


def _fault(
    name: str,
    earlier: Sequence[CopySpec],
    originals: Sequence[str],
    archive_of: Callable[[str], Archive | None],
) -> str | None:
    if name in originals:
        return f"The copy in Archive/{name} would be its own original. Let spec.copies name another Archive."
    archive = archive_of(name)
    if archive is None:
        return None
    for other in (archive_of(each.archive_ref.name) for each in earlier):
        if other is not None and has_same_folders(archive, other):
            return (
                f"The copies in Archive/{other.name} and Archive/{name} have the same place. Remove one of "
                "them from spec.copies, or give one Archive another place."
            )
    found = (archive_of(each) for each in originals)
    faults = (_against(archive, original) for original in found if original is not None)
    return next(filter(None, faults), None)


def _against(archive: Archive, original: Archive) -> str | None:
    """Return why an Archive can't have copies of what another one has; None: it can."""
    if has_same_folders(archive, original):
        return (
            f"Archive/{archive.name} of a copy has the place of its original, Archive/{original.name}. Let "
            "spec.copies name an Archive elsewhere."
        )
    if original.spec.verify is VerifyMode.CHECKSUM:
        return (
            f"Archive/{original.name} returns no files (spec.verify: Checksum), so no copy can be made from "
            "it. Set spec.verify to ReadBack there, or remove spec.copies."
        )
    if missing := sorted(_missing_tags(archive, original)):
        names = ", ".join(f"`{each}`" for each in missing)
        return (
            f"Archive/{archive.name} needs the tags {names} for its copies, and spec.tags of "
            f"Archive/{original.name} does not define them. A copy takes its tags from its original. Define "
            "them there."
        )
    return None


def _missing_tags(archive: Archive, original: Archive) -> Iterator[str]:
    """Yield the tags that a copy must have, of those that only the metadata in eSAW has."""
    for name, rule in archive.spec.tags.items():
        is_needed = rule.required or is_tag_in_path(name, archive.spec)
        if is_needed and reads_metadata(rule) and name not in original.spec.tags:
            yield name


def without_outdated_proofs(status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    """
    Return the status without the proofs of copies that have other files than it.

    Who reads a status without its list of files believes the stored time of a verification.
    """
    digest = documents_digest(status.documents)
    copies = tuple(
        each
        if digest is not None and each.documents == digest
        # Its manifest stays: the next copy may replace the files of its folder.
        else msgspec.structs.replace(each, verified_time=None, documents=None)
        for each in status.copies
    )
    return msgspec.structs.replace(status, copies=copies)


def end_of_copies(
    status: EnvelopeEventStatus, outcome: Outcome, organization: Organization | None, *, now: datetime
) -> Done:
    """Return the outcome of the one run in which an event that had ended makes its copies: it ends as before,
    and the condition ``Copied`` has the problem."""
    if isinstance(outcome, Done):
        return outcome
    facts = outcome.facts
    if facts.copies is None and organization is not None:
        # The run ended before its copies.
        facts = replace(facts, copies=_failed_copies(status, outcome, organization, now=now))
    message = f"{outcome.message} {TRIED_AGAIN}"
    kept = PhaseFacts(copies=facts.copies, side_conditions=facts.side_conditions)
    return Done(OPTIONAL_COPY_MISSING, message[:MAX_MESSAGE_LENGTH], facts=kept)


def _failed_copies(
    status: EnvelopeEventStatus, outcome: Outcome, organization: Organization, *, now: datetime
) -> tuple[EventCopy, ...]:
    missing = missing_copies(status, organization.spec.copies)
    if outcome.reason == FILE_LIST_CEILING:
        # The run did not read the list, without which nothing is known about a proof.
        missing = unverified_copies(status, organization.spec)
    wanted = (
        _failed(entry, outcome, now) if name in missing else entry
        for name in copy_names(organization.spec)
        if (entry := stored_copy(status, name)).verified_time is not None or name in missing
    )
    return (*former_copies(status, organization.spec), *wanted)


def _failed(entry: EventCopy, outcome: Outcome, now: datetime) -> EventCopy:
    reason, message = outcome.reason, outcome.message[:MAX_COPY_MESSAGE]
    if isinstance(outcome, Hold | Pause):
        # No attempt. Without a time it is due once nothing holds it.
        until = outcome.until if isinstance(outcome, Pause) else None
        return msgspec.structs.replace(entry, reason=reason, message=message, next_attempt_time=until)
    return failed_copy(entry, reason, message, now=now)


def copies_of_ended(status: EnvelopeEventStatus, organization: Organization | None) -> SideCondition | None:
    """
    Return what ``Copied`` says of the copies of an event that ended now as failed or skipped, by the copies
    that are wanted now. None: what it says stays.

    What it failed for stays. A copy may be added since (``retries_copies``), not wanted any more, or tried
    again after a retry. A skip by the controller voids the archive. An event that succeeded stored it before.
    """
    copied = find_condition(status.conditions, "Copied")
    if organization is None or status.phase is Phase.SUCCEEDED:
        return None
    if _stays(copied, status):
        return None
    is_skipped = status.phase is Phase.SKIPPED
    missing = _missing_entries(status, organization)
    if not missing:
        is_old = copied is not None and copied.status != "True" and not is_skipped
        message = "No copy that spec.copies names is missing."
        return SideCondition("Copied", "True", "CopiesVerified", message) if is_old else None
    is_asked_for = copied is not None and copied.reason == COPY_MISSING
    reason = COPY_MISSING if is_asked_for else OPTIONAL_COPY_MISSING
    names = ", ".join(f"Archive/{each.ref.name}" for each in missing)
    message = f"The copy in {names} is missing. {TRIED_AGAIN}"
    if status.reason == ARCHIVED_AS_EXPIRED:
        reason, message = (
            COPY_GIVEN_UP,
            f"The copy in {names} is missing, and is not tried any more. {_RETRIED}",
        )
    elif is_skipped:
        reason, message = OPTIONAL_COPY_MISSING, f"The copy in {names} is missing. {AFTER_ARCHIVING}"
    elif not takes_copies(_with_reason(status, reason)):
        message = f"The copy in {names} is missing. {_RETRIED}"
    elif all(is_given_up(each, organization.spec.retry) for each in missing):
        reason, message = COPY_GIVEN_UP, _given_up_message(missing)
    return SideCondition("Copied", "False", reason, message[:MAX_MESSAGE_LENGTH])


def _missing_entries(status: EnvelopeEventStatus, organization: Organization) -> list[EventCopy]:
    return [stored_copy(status, each) for each in missing_copies(status, organization.spec.copies)]


def _stays(copied: Condition | None, status: EnvelopeEventStatus) -> bool:
    """Whether ``Copied`` has the fault of a required copy, or says nothing of an event without an archive. It
    is Unknown of an event that failed while such a copy had to be made again."""
    if copied is None or copied.status == "True":
        return not is_condition_true(status.conditions, "Archived")
    if copied.status == "Unknown":
        return status.phase is Phase.FAILED
    return copied.reason not in MISSING_COPY_REASONS


def _with_reason(status: EnvelopeEventStatus, reason: str) -> EnvelopeEventStatus:
    conditions = with_changes(status.conditions, "Copied", status="False", reason=reason)
    return msgspec.structs.replace(status, conditions=conditions)


def is_given_up(copy: EventCopy, retry: RetrySpec) -> bool:
    """Whether a copy for which nothing waits was tried as often as fits into the deadline."""
    return copy.verified_time is None and retry.are_tries_spent(copy.attempts)


def is_put_off(copy: EventCopy) -> bool:
    """Whether a copy is missing because its Archive had no room: the last attempt did not try it."""
    return copy.reason == WAITING_FOR_ARCHIVE


def without_copies(
    outcome: Done, status: EnvelopeEventStatus, organization: Organization | None, retry: RetrySpec
) -> Done:
    """Return the outcome of the phase Copying. If a copy is missing, it tells whether somebody asked for it,
    and whether each one was given up."""
    if outcome.reason not in MISSING_COPY_REASONS:
        return outcome
    outcome = replace(outcome, reason=reason_without_copies(status))
    if organization is None:
        return outcome
    missing = _missing_entries(status, organization)
    if not missing or not all(is_given_up(each, retry) for each in missing):
        return outcome
    return Done(COPY_GIVEN_UP, _given_up_message(missing)[:MAX_MESSAGE_LENGTH], facts=outcome.facts)


def _given_up_message(missing: Collection[EventCopy]) -> str:
    names = ", ".join(f"Archive/{each.ref.name}" for each in missing)
    causes = " ".join(f"Archive/{each.ref.name}: {each.reason}: {each.message}" for each in missing)
    return (
        f"The copy in {names} is missing, and is not tried any more. Solve the cause, and ask for the copy. "
        f"{causes}"
    )
