"""
Wait for known files that eSAW no longer lists; then keep the envelope, and tell a person.

eSAW removes no single file of a finished envelope, so a list that lacks a file of an earlier one is short,
whether the file was archived or not. The file stays in the status and in the manifest, and nothing else of
the event changes meanwhile.

Also here: the condition once eSAW could be asked again for files of a kept envelope (``retry/late_files``).
"""

from collections.abc import Collection

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Fail, Pause, PhaseFacts, SideCondition
from counterfoil.clock import believed_time
from counterfoil.esaw.evidence import LOOKS_SHORT, looks_short
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, find_condition
from counterfoil.resources.envelopeevent import EVIDENCE_CONDITION, LATE_FILES_UNKNOWN

_PENDING = "DocumentsPending"
_MISSING = "DocumentsMissing"


def wait_for_known_files(event: EnvelopeEvent, context: ReconcileContext) -> Pause | Fail:
    """Return the pause until eSAW lists the files again; the failure once ``evidence.wait`` has passed since
    the first list without them."""
    now, spec = context.clock.now(), context.organization.spec
    known = find_condition(event.status.conditions, EVIDENCE_CONDITION)
    is_false = known is not None and known.status == "False"
    since, is_over = now, is_false and known is not None and known.reason != _PENDING
    if known is not None and is_false and not is_over:
        created = event.metadata.creation_timestamp
        since = believed_time(known.last_transition_time, now, earliest=created) or now
    end = since + spec.evidence.wait
    if now < end and not is_over:
        message = "eSignAnyWhere no longer lists every file that it listed for this envelope before."
        # A condition that becomes False has the time of that, also if it was Unknown before.
        facts = PhaseFacts(side_conditions=(SideCondition(EVIDENCE_CONDITION, "False", _PENDING, message),))
        until = min(end, now + max(spec.retry.initial, now - since))
        return Pause(_PENDING, message, until, facts=facts)
    message = (
        "eSignAnyWhere no longer lists every file that it listed for this envelope before. Counterfoil "
        f"removes no file from Archive/{context.archive.name}, and the envelope stays in eSignAnyWhere."
    )
    missing = SideCondition(EVIDENCE_CONDITION, "False", _MISSING, message)
    return Fail(_MISSING, message, facts=PhaseFacts(side_conditions=(missing,)))


def listed_again(status: EnvelopeEventStatus) -> SideCondition | None:
    """Return the condition of an envelope whose known files are listed again; None: it stays as it is."""
    known = find_condition(status.conditions, EVIDENCE_CONDITION)
    if known is None or (known.status, known.reason) != ("False", _PENDING):
        return None
    message = "eSignAnyWhere lists again every file that it listed for this envelope before."
    return SideCondition(EVIDENCE_CONDITION, "True", "DocumentsListed", message)


def settled_evidence(
    status: EnvelopeEventStatus, listed: Collection[EnvelopeFile] | None
) -> SideCondition | None:
    """
    Return the condition of a kept envelope whose list has every archived file and no further one; None: it
    stays as it is, because eSAW could be asked before.

    ``listed`` is None for an envelope that was deleted.
    """
    known = find_condition(status.conditions, EVIDENCE_CONDITION)
    if listed is not None and (again := listed_again(status)) is not None:
        return again
    if known is None or known.reason != LATE_FILES_UNKNOWN:
        return None
    if listed is None:
        message = "It is not known whether eSignAnyWhere listed files late: the envelope was deleted there."
        return SideCondition(EVIDENCE_CONDITION, "Unknown", LATE_FILES_UNKNOWN, message)
    if looks_short(listed):
        return SideCondition(EVIDENCE_CONDITION, "Unknown", _PENDING, LOOKS_SHORT)
    message = "eSignAnyWhere was asked again, and lists no further file."
    return SideCondition(EVIDENCE_CONDITION, "True", "NoFilesListedLate", message)
