"""
The outcomes after which an envelope is archived or copied again, and the bound of that. Pure.

An envelope whose files differ from what the event's status says is not deleted. It is archived again, as
often as ``MAX_MISMATCHES``; then a person decides. A manifest that lacks only a seal of the present signing
key is no difference: it is sealed again, up to the deadline.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from controller.reconcile.outcomes import Fail, Outcome, PhaseFacts, SideCondition, Wait
from controller.reconcile.phases.replaced_copies import archived_time
from counterfoil.archives.errors import MANIFEST_UNSEALED
from counterfoil.archives.manifest import UNKNOWN_KINDS
from counterfoil.archives.proof import contradiction
from counterfoil.resources import MAX_MESSAGE_LENGTH, PHASE_CONDITIONS, Attempt, EnvelopeEvent, Phase
from counterfoil.resources.envelopeevent import COPIES_PENDING, AttemptOutcome
from counterfoil.resources.routes import stored_copy, with_copy

MAX_MISMATCHES = 5
"""Maximum number of times that an envelope is archived again because eSAW lists other files or has others
under the same ids, the archive or a copy lost one, or the archive returns none and a restart forgot their
checksums."""

MAX_COPY_SEALINGS = 2 * MAX_MISMATCHES
"""Maximum of the same number if a copy is sealed again: mismatches of before fail no event with four copies
and a new signing key."""

DOCUMENT_IN_DOUBT = "DocumentInDoubt"

_IN_DOUBT = "The envelope was archived and stays in eSignAnyWhere, since a file of it is in doubt: "


def archive_again(reason: str, change: str) -> Wait:
    """Return the outcome that lets the files be collected and archived again."""
    message = f"{change} The envelope is archived again."
    return Wait(reason, message, restart_from=Phase.COLLECTING)


def mismatch(event: EnvelopeEvent, reason: str, change: str) -> Outcome:
    """Archive the envelope again; after ``MAX_MISMATCHES`` keep it and tell a person."""
    return _bounded(event, archive_again(reason, change), keeps_changing(change, PhaseFacts()))


def copy_again(event: EnvelopeEvent, archive: str, change: str) -> Outcome:
    """Let the copy in an Archive be made again; after ``MAX_MISMATCHES`` keep the envelope and tell a
    person. In both cases, the copy is not proved any more."""
    facts = _unproved_copy(event, archive, change)
    again = f"{change} The envelope is copied again."
    failed = (
        f"{change} A change was found before, and the envelope was archived or copied again because of it. "
        "This copy is missing now. The first archive stays as it is, and the envelope stays in eSignAnyWhere."
    )
    return _bounded(
        event,
        Wait("CopyChanged", again, restart_from=Phase.COPYING, facts=facts),
        Fail("FilesKeepChanging", failed, facts=facts),
    )


def seal_again(event: EnvelopeEvent, found: str) -> Wait:
    """Archive the envelope again, since its manifest has no seal of the present signing key. No file differs,
    so that is bounded by the deadline."""
    # As after a mismatch, the delay of the delete is not repeated.
    facts = PhaseFacts(mismatches=max(event.status.mismatches, 1))
    message = f"{found} The envelope is archived again, to seal it."
    return Wait(
        MANIFEST_UNSEALED,
        message,
        restart_from=Phase.COLLECTING,
        facts=facts,
        given_up=_unsealed(found),
    )


def seal_copy_again(event: EnvelopeEvent, archive: str, found: str) -> Outcome:
    """Let the copy in an Archive be made again, since its manifest has no seal of the present signing key. It
    is not proved before. After ``MAX_COPY_SEALINGS`` a person is informed: another program may write it."""
    facts = _unproved_copy(event, archive, found)
    again = Wait(
        MANIFEST_UNSEALED,
        f"{found} The envelope is copied again, to seal the copy.",
        restart_from=Phase.COPYING,
        facts=facts,
        given_up=_unsealed(found),
    )
    failed = _unsealed(
        f"{found} That is so after several copies: somebody replaces the manifest, or it lists further "
        "files. Move its folder to another place, then retry the event."
    )
    return _bounded(event, again, dataclasses.replace(failed, facts=facts), most=MAX_COPY_SEALINGS)


def unsealed_copy(archive: str, why: str) -> Wait:
    """Let an event wait for the copy in an Archive whose manifest can't be sealed again."""
    message = f"The copy in Archive/{archive} has no seal: {why}"[:MAX_MESSAGE_LENGTH]
    return Wait(MANIFEST_UNSEALED, message, given_up=Fail(MANIFEST_UNSEALED, message))


def _unsealed(found: str) -> Fail:
    return Fail(MANIFEST_UNSEALED, f"{found} The envelope stays in eSignAnyWhere.")


def in_doubt(event: EnvelopeEvent, found: str) -> Wait | Fail:
    """Download the files again, since a download may have been cut; then keep the envelope and tell a
    person."""
    if was_archived_again(event, DOCUMENT_IN_DOUBT):
        return Fail(DOCUMENT_IN_DOUBT, f"{_IN_DOUBT}{found}")
    return _download_again(found)


def unconfirmed(event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent], *, now: datetime) -> Wait | None:
    """
    Download the files again if another event archived other content of a file that eSAW may render at each
    download (``UNKNOWN_KINDS``). None: no other event did, or downloads told.

    They did if the event archived its files after the other one, and was in doubt twice. The first doubt may
    have been about another file, and that download a cut one. All other doubts fail when they come again
    (``in_doubt``), so the second one was about such a file.
    """
    own = archived_time(event.status, now)
    has_downloads = len(_failed_before(event, DOCUMENT_IN_DOUBT)) > 1

    def is_later(other: EnvelopeEvent) -> bool:
        since = archived_time(other.status, now)
        return since is None or own is None or since < own

    others = (each for each in siblings if not (has_downloads and is_later(each)))
    found = contradiction(event, others, UNKNOWN_KINDS)
    return None if found is None else _download_again(found)


def _download_again(found: str) -> Wait:
    message = f"{_IN_DOUBT}{found} Its files are downloaded again."
    return Wait(DOCUMENT_IN_DOUBT, message, restart_from=Phase.COLLECTING)


def other_content(found: str, facts: PhaseFacts) -> Wait:
    """Download a file again of which eSAW sends another content than was archived, up to the deadline; then
    keep the envelope and tell a person."""
    said = (
        "The envelope is not archived completely and stays in eSignAnyWhere, since its content is in doubt: "
        f"{found}"
    )
    told = (
        f"{said} Do not delete the envelope. Unless a file with this SHA-256 is in its place, put it back "
        "from a backup or a copy. Then retry the event. Without that, a retry archives a longer file instead "
        "of a lost one."
    )
    return Wait(
        DOCUMENT_IN_DOUBT,
        f"{said} It is downloaded again.",
        facts=facts,
        given_up=Fail(DOCUMENT_IN_DOUBT, told),
    )


def was_archived_again(event: EnvelopeEvent, reason: str) -> bool:
    """Whether the envelope was archived again for this reason, since the event was created or re-opened."""
    return bool(_failed_before(event, reason))


def _failed_before(event: EnvelopeEvent, reason: str) -> Sequence[Attempt]:
    """Return the attempts after which the envelope was archived again for this reason."""
    # Each attempt that waits is counted, until a re-opening or a success in the first try of a phase.
    failed = [each for each in event.status.attempt_history if each.outcome != AttemptOutcome.DONE]
    counted = failed[-event.status.attempts :] if event.status.attempts else []
    # A file that was refused while it was archived is no such reason (``other_content``).
    return [each for each in counted if each.phase is not Phase.ARCHIVING and each.reason == reason]


def copies_pending(why: str) -> SideCondition:
    """Return the condition that lets the phase Copying come."""
    return SideCondition(PHASE_CONDITIONS[Phase.COPYING], "Unknown", COPIES_PENDING, why)


def keeps_changing(change: str, facts: PhaseFacts) -> Fail:
    """Return the outcome for an envelope whose files changed too often."""
    return Fail(
        "FilesKeepChanging",
        f"{change} A change was found before, and the envelope was archived again because of it. The files "
        "that were archived last stay in the archive, and the envelope stays in eSignAnyWhere.",
        facts=facts,
    )


def _unproved_copy(event: EnvelopeEvent, archive: str, why: str) -> PhaseFacts:
    """Return the facts after which the phase Copying makes the copy in this Archive again."""
    # Its manifest stays: this copy may replace the files of its folder.
    entry = msgspec.structs.replace(stored_copy(event.status, archive), verified_time=None, documents=None)
    return PhaseFacts(copies=with_copy(event.status.copies, entry), side_conditions=(copies_pending(why),))


def _bounded(event: EnvelopeEvent, again: Wait, failed: Fail, *, most: int = MAX_MISMATCHES) -> Outcome:
    outcome: Wait | Fail = again if event.status.mismatches < most else failed
    facts = dataclasses.replace(outcome.facts, mismatches=event.status.mismatches + 1)
    return dataclasses.replace(outcome, facts=facts)
