"""
Which reasons there are, whose turn each one is, and where it is seen; the order is that of the manual.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Turn(StrEnum):
    """Who has to act."""

    NOBODY = "nobody"
    SENDER = "sender"
    ADMINISTRATOR = "administrator"


class Seen(StrEnum):
    """Where a reason is seen."""

    WAITING = "waiting"
    """An unfinished event that is tried again by itself."""
    HELD = "held"
    """An event that waits until a person lets go of it."""
    CONSENT = "AwaitingConsent"
    SUCCEEDED = "Succeeded"
    SKIPPED = "Skipped"
    FAILED = "Failed"
    CONDITION = "condition"
    """In a condition of an event on its way."""
    REQUEST = "request"
    """In a Kubernetes Event, or in an event that begins again."""
    SENDER = "Sender"
    ARCHIVE = "Archive"
    ORGANIZATION = "Organization"


class Row(NamedTuple):
    """What is known about a reason besides its words."""

    turn: Turn
    seen: tuple[Seen, ...]


def _nobody(*seen: Seen) -> Row:
    return Row(Turn.NOBODY, seen)


def _sender(*seen: Seen) -> Row:
    return Row(Turn.SENDER, seen)


def _admin(*seen: Seen) -> Row:
    return Row(Turn.ADMINISTRATOR, seen)


ROWS: MappingProxyType[str, Row] = MappingProxyType(
    {
        # What became of an event
        "ArchivedAndDeleted": _nobody(Seen.SUCCEEDED),
        "ArchivedAndKept": _nobody(Seen.SUCCEEDED),
        "Recorded": _nobody(Seen.SUCCEEDED),
        "UnexpectedStatus": _nobody(Seen.SKIPPED),
        "EnvelopeRestarted": _nobody(Seen.SKIPPED),
        "ActionNotConfigured": _nobody(Seen.SKIPPED),
        "SkippedByRequest": _nobody(Seen.SKIPPED),
        "ArchivedAlready": _nobody(Seen.SKIPPED),
        "EnvelopeDeleted": _admin(Seen.SKIPPED, Seen.FAILED),
        "DeadlineExceeded": _admin(Seen.FAILED),
        # On its way
        "StatusAccepted": _nobody(Seen.CONDITION),
        "FilesListed": _nobody(Seen.CONDITION),
        "FilesVerified": _nobody(Seen.CONDITION),
        "SignaturesIntact": _nobody(Seen.CONDITION),
        "NoSignatures": _nobody(Seen.CONDITION),
        "SignatureBroken": _admin(Seen.CONDITION, Seen.FAILED),
        "SignerUntrusted": _admin(Seen.CONDITION, Seen.FAILED),
        "SignaturesUnchecked": _admin(Seen.CONDITION, Seen.FAILED),
        "InProgress": _nobody(Seen.CONDITION),
        "CleanupDelayed": _nobody(Seen.WAITING),
        "StillActive": _nobody(Seen.WAITING),
        "NoFiles": _nobody(Seen.WAITING),
        "FilesChanged": _nobody(Seen.WAITING),
        "Suspended": _admin(Seen.HELD),
        "OrganizationSuspended": _admin(Seen.HELD),
        "SenderSuspended": _admin(Seen.HELD),
        "RetryRequested": _nobody(Seen.REQUEST),
        "RequestRefused": _nobody(Seen.REQUEST),
        "Redelivered": _nobody(Seen.REQUEST),
        "CauseSolved": _nobody(Seen.REQUEST),
        # The sender and the key
        "ConsentRequired": _sender(Seen.CONSENT, Seen.SENDER),
        "TokenRejected": _sender(Seen.CONSENT, Seen.SENDER),
        "SealBroken": _sender(Seen.CONSENT, Seen.SENDER),
        "KeyMissing": _sender(Seen.CONSENT, Seen.SENDER),
        "KeyUnreadable": _admin(Seen.CONSENT, Seen.SENDER),
        "WrongUser": _admin(Seen.CONSENT, Seen.SENDER),
        "SealingKeysMissing": _admin(Seen.CONSENT, Seen.SENDER),
        "SealKeyUnknown": _admin(Seen.CONSENT, Seen.SENDER),
        "KeyAccepted": _nobody(Seen.CONDITION, Seen.SENDER),
        "SenderUnknown": _admin(Seen.FAILED),
        "SenderMissing": _admin(Seen.WAITING, Seen.ORGANIZATION),
        "SenderOfOtherOrganization": _admin(Seen.FAILED, Seen.ORGANIZATION),
        "EnvelopeNotFound": _admin(Seen.WAITING, Seen.FAILED),
        "NotPermitted": _admin(Seen.FAILED),
        # eSAW
        "EsawUnreachable": _nobody(Seen.WAITING, Seen.SENDER, Seen.ORGANIZATION),
        "EsawFailing": _nobody(Seen.WAITING),
        "EsawThrottling": _nobody(Seen.WAITING),
        "EsawAnswerUnreadable": _admin(Seen.WAITING),
        "EsawRedirects": _admin(Seen.WAITING),
        "EsawNotFound": _admin(Seen.WAITING),
        "EsawRefused": _admin(Seen.FAILED),
        "EsawAnswers": _nobody(Seen.ORGANIZATION),
        "TransferBroken": _nobody(Seen.WAITING),
        "UnsupportedApiVersion": _admin(Seen.FAILED),
        "EnvelopeTooLarge": _admin(Seen.FAILED),
        # The archive
        "ArchiveMissing": _admin(Seen.WAITING, Seen.ORGANIZATION),
        "ArchiveNotReady": _admin(Seen.WAITING, Seen.ORGANIZATION),
        "ArchiveUnreachable": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveFailing": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveOverloaded": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveFull": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveReadOnly": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveLocked": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveChanged": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveRootMissing": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveBucketMissing": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveRegionWrong": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveNoIdentity": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveCredentialsRejected": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchivePermissionDenied": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveRefused": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveRedirects": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveTlsFailed": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveHostKeyUnknown": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveAnswerUnreadable": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveNotWebDav": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveNotCmis": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ArchiveLacksFeature": _admin(Seen.WAITING, Seen.ARCHIVE),
        "SettingsInvalid": _admin(Seen.WAITING, Seen.ARCHIVE),
        "ClockWrong": _admin(Seen.WAITING, Seen.ARCHIVE),
        "StoredWrong": _admin(Seen.WAITING, Seen.ARCHIVE),
        "NameOccupied": _admin(Seen.FAILED),
        "SymbolicLink": _admin(Seen.WAITING),
        "PathTooLong": _admin(Seen.WAITING),
        "FileTooBig": _admin(Seen.WAITING),
        "TagMissing": _admin(Seen.WAITING),
        "MetadataUnreadable": _admin(Seen.WAITING),
        "Probed": _nobody(Seen.ARCHIVE),
        # The Organization
        "OrganizationMissing": _admin(Seen.WAITING),
        "CallbackTokenMissing": _admin(Seen.ORGANIZATION),
        "CallbackTokenRefused": _admin(Seen.ORGANIZATION),
        "BasicAuthMissing": _admin(Seen.ORGANIZATION),
        "BasicAuthRefused": _admin(Seen.ORGANIZATION),
        "FieldPatternInvalid": _admin(Seen.ORGANIZATION),
        "Ready": _nobody(Seen.ORGANIZATION),
        # Mails
        "MailServerAnswers": _nobody(Seen.ORGANIZATION),
        "MailServerUnreachable": _admin(Seen.ORGANIZATION),
        "MailServerNotTrusted": _admin(Seen.ORGANIZATION),
        "MailServerLacksTls": _admin(Seen.ORGANIZATION),
        "MailLoginRefused": _admin(Seen.ORGANIZATION),
        "MailRefused": _admin(Seen.ORGANIZATION),
        "MailSettingsInvalid": _admin(Seen.ORGANIZATION),
        # Our own
        "NotProven": _admin(Seen.FAILED),
        "StatusRefused": _admin(Seen.FAILED),
        "ApiServerTrouble": _nobody(Seen.WAITING, Seen.SENDER),
        "InternalError": _admin(Seen.WAITING),
    }
)
