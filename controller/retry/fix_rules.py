"""
The one table from causes (stable reasons) to the objects that can solve them.

After a person fixes an Archive, an Organization or a Sender, no other action is needed: waiting events
continue, and events that failed because of it are retried (rule 6). A change that solves nothing costs one
more attempt.
"""

_ARCHIVE_FIXES = frozenset(
    {
        "ClockWrong",
        "FileTooBig",
        "MetadataUnreadable",
        "NameOccupied",
        "PathTooLong",
        "SettingsInvalid",
        "SignatureBroken",
        "SignaturesUnchecked",
        "SignerUntrusted",
        "StoredWrong",
        "SymbolicLink",
        "TagMissing",
    }
)
"""In addition to all reasons that begin with ``Archive``."""

_ORGANIZATION_FIXES = frozenset(
    {"OrganizationMissing", "SenderMissing", "SenderOfOtherOrganization", "SenderUnknown"}
)
"""
In addition to all that begin with ``Esaw`` (another baseURL, or reachable again) and all that the Archive may
solve.
"""

_SENDER_FIXES = frozenset({"NotPermitted", "SenderMissing", "SenderOfOtherOrganization"})


def archive_may_fix(reason: str) -> bool:
    """Whether a new spec or the recovery of the Archive may solve the cause."""
    return reason in _ARCHIVE_FIXES or reason.startswith("Archive")


def organization_may_fix(reason: str) -> bool:
    """Whether a new spec of the Organization or the recovery of its eSAW may solve the cause."""
    return reason in _ORGANIZATION_FIXES or reason.startswith("Esaw") or archive_may_fix(reason)


def sender_may_fix(reason: str) -> bool:
    """Whether a new spec or a new key of the Sender may solve the cause."""
    return reason in _SENDER_FIXES
