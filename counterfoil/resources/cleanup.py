"""
Whether the cleanup policy of an Organization fits its Archive. A decision without I/O.
"""

from counterfoil.resources.archive import Archive
from counterfoil.resources.organization import CleanupPolicy, Organization


def conflict(organization: Organization, archive: Archive) -> str | None:
    """Return why this Organization can't use the Archive: it would delete envelopes that no archive keeps."""
    if organization.spec.cleanup.policy is CleanupPolicy.KEEP or archive.spec.keeps_files:
        return None
    return (
        f"Archive/{archive.name} keeps no files, and Organization/{organization.name} deletes envelopes after archiving. "
        "Set spec.cleanup.policy of the Organization to Keep, or let spec.archiveRef name another Archive."
    )
