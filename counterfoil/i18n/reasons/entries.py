"""The list of all reasons: who must act on each, and where each is seen. The manual has the same order."""

from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Responsible(StrEnum):
    """The person who must act."""

    NOBODY = "nobody"
    SENDER = "sender"
    ADMINISTRATOR = "administrator"


class ReasonContext(StrEnum):
    """A place in which a reason is seen."""

    WAITING = "waiting"
    """An unfinished event that is retried automatically."""
    HELD = "held"
    """An event that waits until a person resumes it."""
    CONSENT = "AwaitingConsent"
    SUCCEEDED = "Succeeded"
    SKIPPED = "Skipped"
    FAILED = "Failed"
    CONDITION = "condition"
    """In a condition of an unfinished event."""
    REQUEST = "request"
    """In a Kubernetes Event, or in an event that restarts."""
    SENDER = "Sender"
    ARCHIVE = "Archive"
    ORGANIZATION = "Organization"


class ReasonEntry(NamedTuple):
    """The properties of a reason, without its texts."""

    responsible: Responsible
    contexts: tuple[ReasonContext, ...]


def _nobody(*contexts: ReasonContext) -> ReasonEntry:
    return ReasonEntry(Responsible.NOBODY, contexts)


def _sender(*contexts: ReasonContext) -> ReasonEntry:
    return ReasonEntry(Responsible.SENDER, contexts)


def _admin(*contexts: ReasonContext) -> ReasonEntry:
    return ReasonEntry(Responsible.ADMINISTRATOR, contexts)


REASON_ENTRIES: MappingProxyType[str, ReasonEntry] = MappingProxyType(
    {
        # Results of an event
        "ArchivedAndDeleted": _nobody(ReasonContext.SUCCEEDED),
        "ArchivedAndKept": _nobody(ReasonContext.SUCCEEDED),
        "Recorded": _nobody(ReasonContext.SUCCEEDED),
        "UnexpectedStatus": _nobody(ReasonContext.SKIPPED),
        "EnvelopeRestarted": _nobody(ReasonContext.SKIPPED),
        "ActionNotConfigured": _nobody(ReasonContext.SKIPPED),
        "SkippedByRequest": _nobody(ReasonContext.SKIPPED),
        "ArchivedAlready": _nobody(ReasonContext.SKIPPED),
        "EnvelopeDeleted": _admin(ReasonContext.SKIPPED, ReasonContext.FAILED),
        "DeadlineExceeded": _admin(ReasonContext.FAILED),
        # Progress and waiting
        "StatusAccepted": _nobody(ReasonContext.CONDITION),
        "FilesListed": _nobody(ReasonContext.CONDITION),
        "FilesVerified": _nobody(ReasonContext.CONDITION),
        "SignaturesIntact": _nobody(ReasonContext.CONDITION),
        "NoSignatures": _nobody(ReasonContext.CONDITION),
        "SignatureBroken": _admin(ReasonContext.CONDITION, ReasonContext.FAILED),
        "SignerUntrusted": _admin(ReasonContext.CONDITION, ReasonContext.FAILED),
        "SignaturesUnchecked": _admin(ReasonContext.CONDITION, ReasonContext.FAILED),
        "InProgress": _nobody(ReasonContext.CONDITION),
        "CleanupDelayed": _nobody(ReasonContext.WAITING),
        "StillActive": _nobody(ReasonContext.WAITING),
        "NoFiles": _nobody(ReasonContext.WAITING),
        "FilesChanged": _nobody(ReasonContext.WAITING),
        "Suspended": _admin(ReasonContext.HELD),
        "OrganizationSuspended": _admin(ReasonContext.HELD),
        "SenderSuspended": _admin(ReasonContext.HELD),
        "RetryRequested": _nobody(ReasonContext.REQUEST),
        "RequestRefused": _nobody(ReasonContext.REQUEST),
        "Redelivered": _nobody(ReasonContext.REQUEST),
        "CauseSolved": _nobody(ReasonContext.REQUEST),
        # The sender and the key
        "ConsentRequired": _sender(ReasonContext.CONSENT, ReasonContext.SENDER),
        "TokenRejected": _sender(ReasonContext.CONSENT, ReasonContext.SENDER),
        "SealBroken": _sender(ReasonContext.CONSENT, ReasonContext.SENDER),
        "KeyMissing": _sender(ReasonContext.CONSENT, ReasonContext.SENDER),
        "KeyUnreadable": _admin(ReasonContext.CONSENT, ReasonContext.SENDER),
        "WrongUser": _admin(ReasonContext.CONSENT, ReasonContext.SENDER),
        "SealingKeysMissing": _admin(ReasonContext.CONSENT, ReasonContext.SENDER),
        "SealKeyUnknown": _admin(ReasonContext.CONSENT, ReasonContext.SENDER),
        "KeyAccepted": _nobody(ReasonContext.CONDITION, ReasonContext.SENDER),
        "SenderUnknown": _admin(ReasonContext.FAILED),
        "SenderMissing": _admin(ReasonContext.WAITING, ReasonContext.ORGANIZATION),
        "SenderOfOtherOrganization": _admin(ReasonContext.FAILED, ReasonContext.ORGANIZATION),
        "EnvelopeNotFound": _admin(ReasonContext.WAITING, ReasonContext.FAILED),
        "NotPermitted": _admin(ReasonContext.FAILED),
        # eSAW
        "EsawUnreachable": _nobody(ReasonContext.WAITING, ReasonContext.SENDER, ReasonContext.ORGANIZATION),
        "EsawFailing": _nobody(ReasonContext.WAITING),
        "EsawThrottling": _nobody(ReasonContext.WAITING),
        "EsawAnswerUnreadable": _admin(ReasonContext.WAITING),
        "EsawRedirects": _admin(ReasonContext.WAITING),
        "EsawNotFound": _admin(ReasonContext.WAITING),
        "EsawRefused": _admin(ReasonContext.FAILED),
        "EsawAnswers": _nobody(ReasonContext.ORGANIZATION),
        "TransferBroken": _nobody(ReasonContext.WAITING),
        "UnsupportedApiVersion": _admin(ReasonContext.FAILED),
        "EnvelopeTooLarge": _admin(ReasonContext.FAILED),
        # The archive
        "ArchiveMissing": _admin(ReasonContext.WAITING, ReasonContext.ORGANIZATION),
        "ArchiveKeepsNothing": _admin(ReasonContext.WAITING, ReasonContext.ORGANIZATION),
        "ArchiveNotReady": _admin(ReasonContext.WAITING, ReasonContext.ORGANIZATION),
        "ArchiveUnreachable": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveFailing": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveOverloaded": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveFull": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveReadOnly": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveLocked": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveChanged": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveRootMissing": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveBucketMissing": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveRegionWrong": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveNoIdentity": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveCredentialsRejected": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchivePermissionDenied": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveRefused": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveRedirects": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveTlsFailed": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveHostKeyUnknown": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveAnswerUnreadable": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveNotWebDav": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveNotCmis": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ArchiveLacksFeature": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "SettingsInvalid": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "ClockWrong": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "StoredWrong": _admin(ReasonContext.WAITING, ReasonContext.ARCHIVE),
        "NameOccupied": _admin(ReasonContext.FAILED),
        "SymbolicLink": _admin(ReasonContext.WAITING),
        "PathTooLong": _admin(ReasonContext.WAITING),
        "FileTooBig": _admin(ReasonContext.WAITING),
        "TagMissing": _admin(ReasonContext.WAITING),
        "MetadataUnreadable": _admin(ReasonContext.WAITING),
        "Probed": _nobody(ReasonContext.ARCHIVE),
        # The Organization
        "OrganizationMissing": _admin(ReasonContext.WAITING),
        "CallbackTokenMissing": _admin(ReasonContext.ORGANIZATION),
        "CallbackTokenRefused": _admin(ReasonContext.ORGANIZATION),
        "BasicAuthMissing": _admin(ReasonContext.ORGANIZATION),
        "BasicAuthRefused": _admin(ReasonContext.ORGANIZATION),
        "FieldPatternInvalid": _admin(ReasonContext.ORGANIZATION),
        "Ready": _nobody(ReasonContext.ORGANIZATION),
        # Mails
        "MailServerAnswers": _nobody(ReasonContext.ORGANIZATION),
        "MailServerUnreachable": _admin(ReasonContext.ORGANIZATION),
        "MailServerNotTrusted": _admin(ReasonContext.ORGANIZATION),
        "MailServerLacksTls": _admin(ReasonContext.ORGANIZATION),
        "MailLoginRefused": _admin(ReasonContext.ORGANIZATION),
        "MailRefused": _admin(ReasonContext.ORGANIZATION),
        "MailSettingsInvalid": _admin(ReasonContext.ORGANIZATION),
        # Counterfoil itself
        "NotProven": _admin(ReasonContext.FAILED),
        "StatusRefused": _admin(ReasonContext.FAILED),
        "ApiServerTrouble": _nobody(ReasonContext.WAITING, ReasonContext.SENDER),
        "InternalError": _admin(ReasonContext.WAITING),
    }
)
