"""
Errors of an archive, sorted by who must act.

Every message names the problem, its place and who must act. It is the same for equal causes: no request ids,
no times, no random texts of servers. So it can be stored in a status. ``reason`` is CamelCase and stable.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

TEMPORARY_REASONS = frozenset(
    {
        "ArchiveChanged",
        "ArchiveFailing",
        "ArchiveFull",
        "ArchiveLocked",
        "ArchiveOverloaded",
        "ArchiveUnreachable",
        "ArchiveUnresponsive",
    }
)
"""Reasons of ``ArchiveUnavailable`` in tables of errors; all others are of ``ArchiveRefused``."""

MANIFEST_UNSEALED = "ManifestUnsealed"
"""Reason of a manifest without a seal of the present signing key, which is sealed again before the delete."""

MOVE_AWAY = "Move it away."
"""Advice about a file of another program in the place of a file that Counterfoil needs."""

SECRET_MISSING = "ArchiveSecretMissing"  # noqa: S105 - a reason
"""Reason of an Archive whose Secret lacks what is needed. Its messages have commands, so they quote nothing
but names of objects and keys."""

_QUOTED_COMMAND = re.compile(r"`(kubectl [^`]*)`?")

K = TypeVar("K")


class ArchiveError(Exception):
    """Storing a file failed. ``reason`` is for machines and printer columns, ``str()`` for the
    administrator."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def name_archive(self, name: str) -> None:
        """Begin the message with the name of the Archive, which its path and its tags do not know."""
        self.message = f"Archive/{name}: {self.message}"
        self.args = (self.message,)


class ArchiveUnavailable(ArchiveError):
    """The archive can't be reached, is overloaded or full. A later attempt can succeed."""


class ArchiveRefused(ArchiveError):
    """The archive refuses (credentials, permission, missing bucket or root). A person must act; then a retry
    succeeds."""


class NameTaken(ArchiveError):
    """A file of another system has the name that a file of Counterfoil needs. It was not changed."""

    def __init__(self, message: str) -> None:
        super().__init__("NameOccupied", message)


class OtherSource(NameTaken):
    """The manifest there names another envelope, eSAW or Organization. Each other ``NameTaken`` leaves open
    whose folder it is."""


class UnsealedNameTaken(NameTaken):
    """Beside such a file, a manifest without our seal names the envelope. The message speaks of it."""


class ManifestUnsealed(ArchiveError):
    """The archive keeps a manifest that lacks nothing but a seal of the present signing key. No retry with
    this key succeeds while it does."""

    def __init__(self, location: str, key_id: str, refusal: ArchiveError) -> None:
        # This advice is about files of other programs.
        why = refusal.message.removesuffix(f" {MOVE_AWAY}")
        super().__init__(
            MANIFEST_UNSEALED,
            f"{location} has no seal of the signing key {key_id}, and the archive does not let it be "
            f"replaced: {why} The files are archived.",
        )


class VerificationFailed(ArchiveError):
    """The archive accepted a file and returned other bytes."""

    def __init__(self, message: str) -> None:
        super().__init__("StoredWrong", message)


class ListingDiffers(ArchiveError):
    """The archive does not list each stored file once, under its name and with its size."""

    def __init__(self, message: str) -> None:
        super().__init__("ListingDiffers", message)


class SettingsInvalid(ArchiveError):
    """The Archive's spec or its Secret can't work as written; a person must correct it. What the message
    quotes is not shown as a command."""

    def __init__(self, message: str) -> None:
        super().__init__("SettingsInvalid", _QUOTED_COMMAND.sub(r"'\1'", message))


class SecretUnusable(SettingsInvalid):
    """The Secret of an Archive is missing or lacks a key, is not labelled, or can't be read. The message may
    have commands."""

    def __init__(self, message: str, *, reason: str = SECRET_MISSING) -> None:
        ArchiveError.__init__(self, reason, message)


def connections_closed(archive: str) -> ArchiveUnavailable:
    """Return the error for a request after the backend was closed; ``archive`` as in ``Archive/dms``."""
    return ArchiveUnavailable("ArchiveUnreachable", f"{archive}: its connections are closed.")


def address_forbidden(archive: str, server: str, field: str) -> ArchiveRefused:
    """Return the error for a server to whose address nothing may connect."""
    return ArchiveRefused(
        "ArchiveAddressForbidden",
        f"{archive}: {server} has an address to which Counterfoil never connects: link-local, loopback, "
        f"the pod, its node, or the metadata service of a cloud. Correct {field}, or the name in DNS. For an "
        "archive on loopback set allowLoopback of the controller, for one on the node allowNode.",
    )


@dataclass(frozen=True)
class ErrorText:
    """Reason and message of an error, the message with placeholders. The backends' tables map codes to it."""

    reason: str
    words: str

    def error(self, archive: str, **values: object) -> ArchiveUnavailable | ArchiveRefused:
        """Return the error; ``archive`` as in ``Archive/dms``."""
        kind = ArchiveUnavailable if self.reason in TEMPORARY_REASONS else ArchiveRefused
        return kind(self.reason, f"{archive}: {self.words.format(**values)}")


def find_text(rules: Mapping[frozenset[K], ErrorText], code: K) -> ErrorText | None:
    """Return the text of the first entry that has the code."""
    return next((text for codes, text in rules.items() if code in codes), None)
