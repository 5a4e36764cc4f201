"""
Which change can solve which trouble, by the stable reason of the trouble: the one table of it.

So a person who mends an Archive, an Organization or a Sender has done all there is to do: what waited for it goes on,
and what had failed because of it is tried again (rule 6). A change that solves nothing costs one more attempt.
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
"""Besides all that begin with ``Archive``."""

_ORGANIZATION_FIXES = frozenset(
    {"OrganizationMissing", "SenderMissing", "SenderOfOtherOrganization", "SenderUnknown"}
)
"""Besides all that begin with ``Esaw`` (another baseURL, or it can be reached again) and all that the Archive may solve."""

_SENDER_FIXES = frozenset({"NotPermitted", "SenderMissing", "SenderOfOtherOrganization"})


def archive_may_fix(reason: str) -> bool:
    """Whether another spec of the Archive, or that it works again, may solve it."""
    return reason in _ARCHIVE_FIXES or reason.startswith("Archive")


def organization_may_fix(reason: str) -> bool:
    """Whether another spec of the Organization, or that its eSAW can be reached again, may solve it."""
    return reason in _ORGANIZATION_FIXES or reason.startswith("Esaw") or archive_may_fix(reason)


def sender_may_fix(reason: str) -> bool:
    """Whether another spec or another key of the Sender may solve it."""
    return reason in _SENDER_FIXES
